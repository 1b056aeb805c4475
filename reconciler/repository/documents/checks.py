"""Check what types cannot express in one file: ids, names that are taken, placeholders and keys that fill nothing.

A manifest that works in ChiefOnboarding is dropped in unchanged (docs/manifest.md), so what still works there is a
warning in it, and an error only where the manifest has additions of our own (section 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from reconciler.model.errors import Problem, Severity
from reconciler.model.hire import EXTRA, Hire
from reconciler.model.imports import ByAddress, Import, target
from reconciler.model.manifest import Manifest, is_address
from reconciler.model.request import FILLED, PAGE_TOKEN
from reconciler.model.scope import HIRE_NAMES, KNOWN_NAMES
from reconciler.model.template import PLACEHOLDER, half_closed, misfit, misuse, names, roots, texts
from reconciler.model.text import hint
from reconciler.repository.documents.problems import Path, path_of, placed
from reconciler.repository.documents.yaml import Document
from reconciler.repository.people import suspicious

_ID = re.compile(r"[A-Za-z0-9_]+")
_DJANGO = re.compile(r"(?!_)\w+")
"""What ChiefOnboarding's template engine takes for a variable."""

_OPENS = re.compile(r"\{[{%#]")
"""Where a variable begins, or what is mistaken for one."""

_NAMED = re.compile(r"[^<>]*<([^<>]+)>")
"""A receiver with a name: `IT <it@example.com>`."""

Found = tuple[Path, str, Severity]

GIT = "git"
"""The name of the hook that git servers call."""

OAUTH = "oauth"
"""The name that a connection gives values to."""

_DATABASE = re.compile(r"(?:postgresql|mysql)://", re.IGNORECASE)
_DIRECTORY = re.compile(r"ldaps?://", re.IGNORECASE)
_SEARCH = re.compile(r"[a-z]+://[^/?]+(?:/[^?]*(?:\?[^?]*(?:\?(?:base|one|sub|x)?(?:\?[^?]*\??)?)?)?)?", re.IGNORECASE)
_FORM = "ldaps://host/dn?attributes?scope?filter; scope: base, one, sub"
_ONE_HOST = re.compile(r"[a-z]+://[^/?#@,]+/[^/?#]+", re.IGNORECASE)

_SEVERAL = re.compile(r"[\s\"'{}\[\]:,;<>=]")
"""What stands between two values, or around one: no account is called like that."""

_RULE = "an id has letters A-Z and a-z, digits and underscores only"


def hire_problems(hire: Hire, document: Document) -> Iterator[Problem]:
    """Report invalid names under `extra`, and addresses that look like another's."""
    for key in ("email", "manager_email", "buddy_email"):
        address = getattr(hire, key)
        if (address and not address.isascii()) or "xn--" in (address or "").lower():
            message = suspicious(address)
            if message is not None:
                yield placed(document, (key,), message, Severity.WARNING)
    for name in hire.extra:
        path = ("extra", name)
        if not _ID.fullmatch(name):
            yield placed(document, path, f"{_RULE}; rename it")
        elif name in KNOWN_NAMES:
            yield placed(document, path, f"{_taken(name)}; rename it")


def manifest_problems(manifest: Manifest, document: Document) -> Iterator[Problem]:
    """Report ids that are invalid, taken or duplicate, syntax that is no placeholder, and receivers without address."""
    if manifest.events is not None and PurePosixPath(document.file).stem == GIT:
        message = f"/hooks/{GIT} is for pushes: call this manifest otherwise"
        yield placed(document, ("events",), message)
    found = (*_ids(manifest), *_misuses(document.data), *_receivers(manifest), *_combinations(manifest))
    for path, message, severity in found:
        yield placed(document, path, message, severity)


def _ids(manifest: Manifest) -> Iterator[Found]:
    def severity(*, works_there: bool) -> Severity:
        return Severity.WARNING if works_there and not manifest.ours else Severity.ERROR

    form = [("form", index, field.id) for index, field in enumerate(manifest.form)]
    initial = [("initial_data_form", index, field.id) for index, field in enumerate(manifest.initial_data_form)]
    seen: dict[str, str] = {}
    for place, index, name in (*form, *initial):
        path: Path = (place, index, "id")
        if not _ID.fullmatch(name):
            works = _DJANGO.fullmatch(name) is not None
            yield path, f"{name!r}: {_RULE}; rename it", severity(works_there=works)
        elif name in KNOWN_NAMES:
            # There, the form's and the initial data's values win over the hire's of the same name.
            yield path, f"{_taken(name)}; rename it", severity(works_there=name in HIRE_NAMES)
        if name in seen:
            message = f"{name!r} stands twice, in {seen[name]} before; rename one"
            yield path, message, severity(works_there=seen[name] != place)
        seen.setdefault(name, place)
    for path in _stores(manifest):
        name = str(path[-1])
        if name in KNOWN_NAMES:
            yield path, f"{_taken(name)}; store it under another name", Severity.ERROR
        elif name in seen:
            yield path, f"{name!r} is an id of {seen[name]} already; store it under another name", Severity.ERROR
    for index, info in enumerate(manifest.extra_user_info):
        if not _ID.fullmatch(info.id):
            path = ("extra_user_info", index, "id")
            yield path, f"{info.id!r}: {_RULE}, so no hire's `extra` can give it; rename it", Severity.ERROR


def _stores(manifest: Manifest) -> Iterator[Path]:
    """Return the places that name what an answer is stored under: no answer may replace what git gives."""
    for place, call in manifest.calls():
        for name in getattr(call, "store_data", ()):
            yield (*path_of(place), "store_data", name)


def _taken(name: str) -> str:
    whose = "the hire's own" if name in HIRE_NAMES else "the program's own"
    return f"{name!r} means {whose} already"


def _misuses(data: Any) -> Iterator[Found]:
    for path, text in _rendered(data):
        for message in misuse(text):
            yield path, message, Severity.ERROR


def _receivers(manifest: Manifest) -> Iterator[Found]:
    """Warn of e-mails whose receivers, written out, are no addresses: they could never be sent."""
    for index, notification in enumerate(manifest.post_execute_notification):
        if notification.type != "email" or "{{" in notification.to:
            continue
        for part in notification.to.split(","):
            named = _NAMED.fullmatch(part.strip())
            if not is_address(named[1] if named else part):
                message = f"{part.strip()!r} is not an address: write one, or a placeholder such as {{{{email}}}}"
                yield ("post_execute_notification", index, "to"), message, Severity.WARNING


def manifest_ids(manifest: Manifest) -> frozenset[str]:
    """Return the names that a manifest gives values to, for itself and others of its service."""
    form = {field.id for field in manifest.form}
    initial = {field.id for field in manifest.initial_data_form}
    oauth = {OAUTH} if manifest.oauth is not None else set()
    return manifest.stored | form | initial | {field.id for field in manifest.extra_user_info} | oauth


def unfilled(document: Document, given: Iterable[str]) -> Iterator[Problem]:
    """Warn of placeholders that only a hire's `extra` could fill, or that lack a brace.

    `given` are the service's names.
    """
    known = {*KNOWN_NAMES - {OAUTH}, "phone", *given}
    for path, text in _rendered(document.data):
        for name in sorted(names(text)):
            root = name.partition(".")[0]
            if path[0] != "events" and known.isdisjoint({name, root}) and name != _here_only(path):
                meant = hint(name, known) or "; add it to form, or a secret to initial_data_form"
                message = f"{{{{{name}}}}}: nothing gives this variable but a hire's `extra`{meant}"
                if root == OAUTH:
                    message = f"{{{{{name}}}}}: no manifest of the service has oauth, so nothing gives this variable"
                yield placed(document, path, message, Severity.WARNING)
        for name in sorted(half_closed(text) & known):
            message = f"{name} has a brace too few, and is sent as it stands: write {{{{{name}}}}} for its value"
            yield placed(document, path, message, Severity.WARNING)


def _here_only(path: Path) -> str | None:
    """Return the name that is known at one place only: the next page's URL, or the token request."""
    if path[-1] == "next_page" or (path[0] in ("form", "exists") and "data" in path):
        return PAGE_TOKEN
    return "code" if path[:2] == ("oauth", "access_token") else None


_TEXT_ONLY = frozenset({"name", "description", "service", "initial_data_form", "extra_user_info"})
_FORM_TEXT_ONLY = frozenset({"id", "name", "description", "items", "type"})
"""What is shown and never sent: braces in it are just braces."""


def _rendered(data: Any) -> Iterator[tuple[Path, str]]:
    """Return every text of a manifest in which placeholders are replaced, with its place."""
    for key, value in data.items():
        if key == "form" and isinstance(value, list):
            for index, field in enumerate(value):
                for part, inner in field.items():
                    if part not in _FORM_TEXT_ONLY:
                        yield from _texts(inner, (key, index, part))
        elif key not in _TEXT_ONLY:
            yield from _texts(value, (key,))


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if _OPENS.search(value):
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if _OPENS.search(key):
                yield (*path, key), key
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


# --- combinations of keys that could never work -----------------------------------------------------------------------


def _combinations(manifest: Manifest) -> Iterator[Found]:
    """Report each with its place, a sentence that says what to do, and its severity."""
    for check in (_updates, _invitations, _identities, _protocols, _unread):
        for path, message in check(manifest):
            yield path, message, Severity.ERROR
    for check in (_nothing, _generated, _several):
        for path, message in check(manifest):
            yield path, message, Severity.WARNING


def _nothing(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    gives = (manifest.form, manifest.initial_data_form, manifest.extra_user_info, manifest.headers)  # to its service
    if not any(manifest.calls()) and not manifest.post_execute_notification and not any(gives):
        yield (), "it does nothing, and its entries would count as done: write execute, exists or both"


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


def _protocols(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """Whether a database is asked one statement with its parameters, and each URL is one of its protocol."""
    for place, call in manifest.calls():
        url = PLACEHOLDER.sub("x", (call.url or "").strip())
        path = path_of(place)
        if _DATABASE.match(url):
            if (wrong := misfit(call.data)) is not None:
                yield (*path, "data"), wrong
            if "authorization" not in {name.lower() for name in call.headers or manifest.headers}:
                yield (*path, "url"), "a database needs a login: Authorization: Basic {{USER}}:{{PASSWORD}} in headers"
            if not _ONE_HOST.fullmatch(url):
                yield (*path, "url"), "a database's URL is scheme://host/database: one host, no login, no query"
        elif _DIRECTORY.match(url):
            if not _SEARCH.fullmatch(url):
                yield (*path, "url"), f"a directory's URL is {_FORM}"
            elif (searched := "".join(url.split("?")[3:])).count("(") != searched.count(")"):
                yield (*path, "url"), "the brackets of the filter do not match"


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


def _unread(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    exists = manifest.exists
    for key in ("record", "match", "invited", "where", "inactive", "absent"):
        if exists is not None and exists.method == "HEAD" and getattr(exists, key):
            yield ("exists", key), "the answer to a HEAD has nothing in it that could be compared; ask with GET"


def _several(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """Whether `expected` is more than one value where a single one is compared with it."""
    exists, events = manifest.exists, manifest.events
    if events is not None and (exists is None or not exists.expected):
        yield ("events",), "nothing is checked: an event is about the account that exists.expected names"
    if exists is None:
        return
    there = {"match": exists.match, "list": exists.listing, "pending": exists.pending, "events": events}
    compared = [key for key, value in there.items() if value is not None]
    if compared and exists.expected and _SEVERAL.search(PLACEHOLDER.sub("x", exists.expected).strip()):
        what = f"is more than one value, and {' and '.join(compared)} can equal only one"
        yield ("exists", "expected"), f"{what}: write the value alone, such as {{{{email}}}}"


# --- imports ----------------------------------------------------------------------------------------------------------

_NAME_RULE = "a name has letters A-Z and a-z, digits and underscores only"
_RUN_TIME = frozenset({"oauth", "redirect_url", "responses"})


def import_problems(imported: Import, document: Document) -> Iterator[Problem]:
    """Report each, with its line and what to do."""
    for check in (_keys, _initial_data_ids, _file_names, _placeholders):
        for path, message, severity in check(imported):
            yield placed(document, path, message, severity)


def _keys(imported: Import) -> Iterator[Found]:
    """Check the keys of `data_structure`: a key of a hire, or a name under `extra`."""
    seen: dict[str, str] = {}
    for key, source in imported.data_structure.items():
        path: Path = ("data_structure", key)
        fills = target(key)
        name = fills.removeprefix(EXTRA)
        if fills in seen:
            yield path, f"{seen[fills]} fills {fills} already; take one of them out", Severity.ERROR
        seen[fills] = key
        if fills.startswith(EXTRA):
            if name in Hire.model_fields:
                what = "an import says who people are, not what they may use; a sequence's `assign` does"
                yield path, f"cannot be filled: {what}", Severity.ERROR
            elif not _ID.fullmatch(name):
                yield path, f"{name!r} goes to `extra`, and {_NAME_RULE}; rename it", Severity.ERROR
            elif name in KNOWN_NAMES:
                yield path, f"{name!r} means something already, and cannot go to `extra`; rename it", Severity.ERROR
            elif key == name and (meant := hint(name, FILLED)):
                yield path, f"no key of a hire, so it goes to extra.{name}{meant}", Severity.WARNING
        if isinstance(source, ByAddress) and key not in ("manager", "buddy"):
            yield path, "another hire's file can stand only at manager and buddy; write the path alone", Severity.ERROR


def _initial_data_ids(imported: Import) -> Iterator[Found]:
    seen: set[str] = set()
    for index, field in enumerate(imported.initial_data_form):
        path: Path = ("initial_data_form", index, "id")
        if not _ID.fullmatch(field.id):
            yield path, f"{field.id!r}: {_NAME_RULE}; rename it", Severity.ERROR
        elif field.id in KNOWN_NAMES:
            yield path, f"{field.id!r} means something already; rename it", Severity.ERROR
        elif field.id in seen:
            yield path, f"{field.id!r} stands twice; rename one", Severity.ERROR
        seen.add(field.id)


def _file_names(imported: Import) -> Iterator[Found]:
    """Check the variables of `id`: `data_structure` has to give them."""
    given = {target(key): key for key in imported.data_structure}
    known = {*given, *(name.removeprefix(EXTRA) for name in given)}
    for message in misuse(imported.id):
        yield ("id",), message, Severity.ERROR
    for name in sorted(names(imported.id) - known):
        message = f"{{{{{name}}}}}: data_structure does not give this; it gives {', '.join(sorted(given))}"
        yield ("id",), f"{message}{hint(name, known)}", Severity.ERROR
    if imported.id is not None and not names(imported.id):
        yield ("id",), "the same name for everybody: use a variable, such as {{first_name}}", Severity.ERROR


def _placeholders(imported: Import) -> Iterator[Found]:
    """Check that what requests use has a value: there is no hire yet that could have one."""
    given = {field.id for field in imported.initial_data_form}
    given |= {name for request in imported.execute for name in request.store_data}
    parts: list[tuple[Path, object, frozenset[str]]] = [(("headers",), imported.headers, frozenset())]
    last = len(imported.execute) - 1
    for index, request in enumerate(imported.execute):
        paged = frozenset({PAGE_TOKEN}) if index == last else frozenset[str]()
        parts.append((("execute", index), request.model_dump(), paged))
    parts.append((("next_page",), imported.next_page, frozenset({PAGE_TOKEN})))
    if imported.oauth is not None:
        parts.append((("oauth",), imported.oauth.model_dump(), frozenset({"code", "code_verifier"})))
    for path, part, here in parts:
        for text in texts(part):
            for message in misuse(text):
                yield path, message, Severity.ERROR
        for name in sorted(names(part)):
            if name.partition(".")[0] not in {*given, *here, *_RUN_TIME}:
                message = f"{{{{{name}}}}}: nothing gives this variable; add it to initial_data_form"
                yield path, f"{message}{hint(name, given)}", Severity.WARNING
