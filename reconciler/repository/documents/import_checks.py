"""Check what types cannot express in an import: keys that fill nothing, placeholders without a value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.model.errors import Problem, Severity
from reconciler.model.exists import FILLED
from reconciler.model.hire import Hire
from reconciler.model.imports import ByAddress, Import, target
from reconciler.model.request import PAGE_TOKEN
from reconciler.model.scope import KNOWN_NAMES
from reconciler.model.template import misuse, names, texts
from reconciler.model.text import hint
from reconciler.repository.documents.problems import Path, dotted
from reconciler.repository.documents.yaml import Document

__all__ = ["import_problems"]

_ID = re.compile(r"[A-Za-z0-9_]+")
_EXTRA = "extra."
_RULE = "a name has letters A-Z and a-z, digits and underscores only"
_RUN_TIME = frozenset({"oauth", "redirect_url", "responses"})

Found = tuple[Path, str, Severity]


def import_problems(imported: Import, document: Document) -> Iterator[Problem]:
    """Report each, with its line and what to do."""
    for check in (_keys, _ids, _file_names, _placeholders):
        for path, message, severity in check(imported):
            yield Problem(document.file, document.line(path), dotted(path, message), severity)


def _keys(imported: Import) -> Iterator[Found]:
    """Check the keys of `data_structure`: a key of a hire, or a name under `extra`."""
    seen: dict[str, str] = {}
    for key, source in imported.data_structure.items():
        path: Path = ("data_structure", key)
        fills = target(key)
        name = fills.removeprefix(_EXTRA)
        if fills in seen:
            yield path, f"{seen[fills]} fills {fills} already; take one of them out", Severity.ERROR
        seen[fills] = key
        if fills.startswith(_EXTRA):
            if name in Hire.model_fields:
                what = "an import says who people are, not what they may use; a sequence's `assign` does"
                yield path, f"cannot be filled: {what}", Severity.ERROR
            elif not _ID.fullmatch(name):
                yield path, f"{name!r} goes to `extra`, and {_RULE}; rename it", Severity.ERROR
            elif name in KNOWN_NAMES:
                yield path, f"{name!r} means something already, and cannot go to `extra`; rename it", Severity.ERROR
            elif key == name and (meant := hint(name, FILLED)):
                yield path, f"no key of a hire, so it goes to extra.{name}{meant}", Severity.WARNING
        if isinstance(source, ByAddress) and key not in ("manager", "buddy"):
            yield path, "another hire's file can stand only at manager and buddy; write the path alone", Severity.ERROR


def _ids(imported: Import) -> Iterator[Found]:
    seen: set[str] = set()
    for index, field in enumerate(imported.initial_data_form):
        path: Path = ("initial_data_form", index, "id")
        if not _ID.fullmatch(field.id):
            yield path, f"{field.id!r}: {_RULE}; rename it", Severity.ERROR
        elif field.id in KNOWN_NAMES:
            yield path, f"{field.id!r} means something already; rename it", Severity.ERROR
        elif field.id in seen:
            yield path, f"{field.id!r} stands twice; rename one", Severity.ERROR
        seen.add(field.id)


def _file_names(imported: Import) -> Iterator[Found]:
    """Check the variables of `id`: `data_structure` has to give them."""
    given = {target(key): key for key in imported.data_structure}
    known = {*given, *(name.removeprefix(_EXTRA) for name in given)}
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
