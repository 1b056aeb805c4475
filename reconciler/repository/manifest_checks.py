"""Check combinations of a manifest's keys that could never work."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.model.errors import Severity
from reconciler.model.manifest import Exists, Manifest
from reconciler.model.scope import HIRE_NAMES
from reconciler.model.statement import misfit
from reconciler.model.template import PLACEHOLDER, names, roots
from reconciler.repository.documents.problems import Path

__all__ = ["language_problems"]

_DATABASE = re.compile(r"(?:postgresql|mysql)://", re.IGNORECASE)
_ONE_HOST = re.compile(r"[a-z]+://[^/?#@,]+/[^/?#]+", re.IGNORECASE)

Found = tuple[Path, str, Severity]

_SEVERAL = re.compile(r"[\s\"'{}\[\]:,;<>=]")
"""What stands between two values, or around one: no account is called like that."""


def language_problems(manifest: Manifest) -> Iterator[Found]:
    """Report each with its place, a sentence that says what to do, and its severity."""
    for path, message in (*_updates(manifest), *_invitations(manifest), *_identities(manifest), *_databases(manifest)):
        yield path, message, Severity.ERROR
    for path, message in _generated(manifest):
        yield path, message, Severity.WARNING
    if manifest.exists is not None:
        for path, message in _unread(manifest.exists):
            yield path, message, Severity.ERROR
        for path, message in _several(manifest.exists):
            yield path, message, Severity.WARNING


def _updates(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    if not manifest.update:
        return
    if manifest.update == "execute" and not manifest.execute:
        yield ("update",), "there is nothing to execute; write the requests that update an account"
        return
    exists = manifest.exists
    if exists is not None and (exists.where or exists.inactive):
        return
    given = {*HIRE_NAMES, *(field.id for field in manifest.form), *(info.id for info in manifest.extra_user_info)}
    used = roots([request.model_dump() for request in (*manifest.execute, *manifest.updates)])
    if given.isdisjoint(used):
        message = (
            "nothing tells that an account differs: give exists a `where` or an `inactive`, or use a value of a grant"
        )
        yield ("update",), message


def _databases(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """Whether what a database is asked is one statement with its parameters, at a URL of a database."""
    for place, call in manifest.calls():
        url = (call.url or "").strip()
        if not _DATABASE.match(url):
            continue
        path: Path = tuple(int(step) if step.isdigit() else step for step in place.split("."))
        if (wrong := misfit(call.data)) is not None:
            yield (*path, "data"), wrong
        if not _ONE_HOST.fullmatch(PLACEHOLDER.sub("x", url)):
            yield (*path, "url"), "a database's URL is scheme://host/database: one host, no login, no query"


def _generated(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """Whether requests that never run while a generated value is known use one."""
    parts = {key: getattr(manifest, key) for key in ("revoke", "withdraw", "lock")}
    for key, calls in {"update": manifest.updates, **parts}.items():
        used = roots([call.model_dump() for call in calls])
        for name in sorted(used & set(manifest.generated)):
            yield (key,), f"{{{{{name}}}}} is generated and has no value here: these requests would never be sent"


def _invitations(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    exists = manifest.exists
    if exists is not None and (exists.pending is not None or exists.invited):
        return
    for key in ("invitation", "withdraw"):
        if getattr(manifest, key):
            why = "nothing tells that an invitation is open: give exists a `pending` or an `invited`, or take this out"
            yield (key,), why


def _identities(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    exists = manifest.exists
    if exists is None:
        return
    own = manifest.model_dump(include={"exists"}, exclude={"exists": {"listing", "pending", "ready"}})
    asked = names([own, exists.headers or manifest.headers])
    for index, field in enumerate(manifest.form):
        if field.identity and field.id not in asked:
            message = f"exists does not use {{{{{field.id}}}}}, so one thing could not be told from another"
            yield ("form", index, "identity"), f"{message}; use it there, or take identity out"


def _unread(exists: Exists) -> Iterator[tuple[Path, str]]:
    for key in ("record", "match", "invited", "where", "inactive", "absent"):
        if exists.method == "HEAD" and getattr(exists, key):
            yield ("exists", key), "the answer to a HEAD has nothing in it that could be compared; ask with GET"


def _several(exists: Exists) -> Iterator[tuple[Path, str]]:
    """Whether `expected` is more than one value where a single one is compared with it."""
    compared = [key for key, there in _compared(exists) if there]
    if compared and exists.expected and _SEVERAL.search(PLACEHOLDER.sub("x", exists.expected).strip()):
        what = f"is more than one value, and {' and '.join(compared)} can equal only one"
        yield ("exists", "expected"), f"{what}: write the value alone, such as {{{{email}}}}"


def _compared(exists: Exists) -> tuple[tuple[str, bool], ...]:
    return (
        ("match", exists.match is not None),
        ("list", exists.listing is not None),
        ("pending", exists.pending is not None),
    )
