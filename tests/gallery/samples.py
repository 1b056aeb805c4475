"""A person, values and secrets for any manifest: what requests are rendered with, and repositories filled with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.form import FormField
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope
from reconciler.workshop.stage import made_up_token

EMAIL = "ada@example.com"

DIRECTORIES = ("active-directory", "freeipa", "openldap")

NUMBERS = frozenset({"PROFILE"})
"""What services number, where a number has to be sent as one."""


DN = "ou=staff,dc=example,dc=com"
OTHERS = {"TOKEN": "invented-token"}
NAMES = dict.fromkeys(("PEOPLE", "GROUPS", "BASE", "SUFFIX", "AD_DN", "AD_MEMBER"), DN)
UUIDS = dict.fromkeys(("ORG", "ACCOUNT", "DOCUSIGN_USER"), "9a9a9a9a-0000-4000-8000-000000000001")
"""Values that cannot be called `acme`, or be numbers."""


def initial_data(manifest: Manifest) -> dict[str, str]:
    """Something for everything that is asked for."""
    others = {"docusign-admin": UUIDS, **dict.fromkeys(DIRECTORIES, NAMES)}.get(manifest.service or "", OTHERS)
    return {field.id: others.get(field.id, "acme") for field in manifest.asks_for}


def extra(manifest: Manifest, hire: str = "ada") -> dict[str, str]:
    """What the manifest wants of each hire."""
    return {field.id: hire for field in manifest.extra_user_info}


def values(manifest: Manifest) -> dict[str, Any]:
    """A form, filled in with the first of each field's choices."""
    return next(choices(manifest))


def choices(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The form filled in, once with each choice that the manifest itself has."""
    fields = [field for field in manifest.form if field.type != "generate"]
    first = {field.id: _first(field) for field in fields}
    yield first
    for field in fields:
        for item in (field.items or [])[1:]:
            yield first | {field.id: [item.id] if field.type == "multiple_choice" else item.id}


def _first(field: FormField) -> Any:
    value = (
        field.items[0].id if field.items else 17 if field.id in NUMBERS else DN if field.choice_value == "dn" else "17"
    )
    return [value] if field.type == "multiple_choice" else value


def scope(manifest: Manifest, form: Mapping[str, Any], **more: Any) -> Scope:
    """Every variable with a value, what only a running attempt knows too."""
    person = {
        "email": EMAIL,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "position": "Engineer",
        "department": "R&D",
        "phone": "+15550100",
    }
    stored = {name: 17 if name in NUMBERS else {**UUIDS, **NAMES}.get(name, "17") for name in manifest.stored}
    generated = dict.fromkeys(manifest.generated, "invented-Passw0rd-of-some-length")
    made = {"oauth": made_up_token(manifest), "redirect_url": "https://x.example/cb"}
    return Scope(
        (
            Layer("hire", {**person, **extra(manifest)}),
            Layer("form", dict(form)),
            Layer("initial data", initial_data(manifest)),
            Layer("running", {**stored, **generated, **made, "NEXT_PAGE_TOKEN": "next", **more}),
        )
    )
