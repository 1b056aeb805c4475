"""Whom a manifest is tried for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.model.base import EMAIL
from reconciler.model.errors import UsageError
from reconciler.model.hire import Hire, HireRef
from reconciler.model.manifest import FormField, Manifest
from reconciler.model.near import some
from reconciler.model.value import Frozen
from reconciler.repository.desired import Desired

__all__ = ["Subject", "subject_of"]


class Subject(Frozen):
    """Whom a manifest is tried for: a person, and the values of the form.

    `named` is false where nobody was, and nobody has the integration yet: a listing can be read without a person.
    """

    hire: str
    person: Hire
    values: Mapping[str, Any] = {}
    named: bool = True

    def lacks(self, manifest: Manifest) -> dict[str, str]:
        """Return what the manifest asks for and nobody gave, with where a hire would have it."""
        form = {each.id: f"the form{_choices(each)}" for each in manifest.form if each.type != "generate"}
        extra = {info.id: "`extra`" for info in manifest.extra_user_info}
        given = {*self.values, *self.person.extra}
        return {key: where for key, where in {**form, **extra}.items() if key not in given}


def _choices(field: FormField) -> str:
    return f" (one of {some([str(item.id) for item in field.items])})" if field.items else ""


def subject_of(
    desired: Desired,
    name: str,
    manifest: Manifest,
    *,
    hire: str | None,
    email: str | None,
    values: Mapping[str, str],
    listing: bool = False,
) -> Subject:
    """Return whom to try it for: this hire, the one of this address or a made-up one; else the first who has it.

    A `hire` has to be one of those whose file can be read. `values` fill the form, and what the manifest asks of a
    hire's `extra`. Raises UsageError if there is nobody, but for a `listing`.
    """
    chosen = hire if hire is not None else desired.owner(email) if email is not None else None
    if hire is None and email is None:
        chosen = next((each for each in sorted(desired.hires) if name in desired.integrations(each)), None)
        if chosen is None and not listing:
            raise UsageError(f"nobody has {name} yet: say for whom with --hire ID or --email ADDRESS")
    asked = {info.id for info in manifest.extra_user_info}
    known = {item.id for item in manifest.form}
    if unknown := sorted(values.keys() - asked - known):
        allowed = ", ".join(sorted(asked | known)) or "none"
        raise UsageError(f"--value {unknown[0]}: the manifest asks for no such value; allowed: {allowed}")
    if email is not None and not EMAIL.fullmatch(email):
        raise UsageError(f"--email {email}: not an address")
    person = _person(desired, chosen, email)
    extra = {**person.extra, **{key: value for key, value in values.items() if key in asked - known}}
    form = _form_values(desired, chosen, name, known) | {key: it for key, it in values.items() if key in known}
    listed = {item.id for item in manifest.form if item.type == "multiple_choice"}
    form = {key: it.split(",") if key in listed and isinstance(it, str) else it for key, it in form.items()}
    named = chosen is not None or email is not None
    return Subject(chosen or "", person.model_copy(update={"extra": extra}), form, named=named)


NOBODY = "ada@example.com"
"""The address of the made-up person for whom a listing is read where nobody was named."""


def _person(desired: Desired, hire: str | None, email: str | None) -> Hire:
    if hire is None:
        return Hire(email=email or NOBODY, first_name="Ada", last_name="Lovelace")
    person = desired.hires[hire].model
    named: dict[str, Any] = {}
    for key in ("manager", "buddy"):
        if isinstance(other := getattr(person, key), HireRef) and other.hire in desired.hires:
            named[key] = desired.hires[other.hire].model.full_name
            named[f"{key}_email"] = desired.hires[other.hire].model.email
    return person.model_copy(update=named)


def _form_values(desired: Desired, hire: str | None, name: str, form: Iterable[str]) -> dict[str, Any]:
    """Return the values of the hire's first entry for the integration."""
    grants = () if hire is None else desired.grants(hire)
    entry = next((grant for grant in grants if grant.integration == name), None)
    if entry is None:
        return {}
    given = {key: value for layer in reversed(entry.layers) for key, value in layer.values.items()}
    chosen = dict(entry.choices)
    return {key: chosen.get(key, given.get(key)) for key in form if given.get(key, chosen.get(key)) is not None}
