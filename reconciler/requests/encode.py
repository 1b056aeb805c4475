"""Encode a request's body according to its Content-Type (docs/design/rules.md, "Execute").

The default is JSON. Values are substituted in the structure of data, which is encoded afterwards. A string of the
manifest is treated like that if its structure is known: JSON text is parsed with its placeholders, and in form text
each value is percent-encoded. Other text is sent as it is.
"""

from __future__ import annotations

import json
import mimetypes
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from reconciler.model.errors import Blocked
from reconciler.model.scope import Scope
from reconciler.model.template import PLACEHOLDER
from reconciler.requests.template import plain, render_data, render_text, substitute, written

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# A string that is not closed takes all that follows: a search from each quote in it would take for ever.
_STRING_OR_PLACEHOLDER = re.compile(rf'"(?:[^"\\]|\\.)*+"?|(?P<bare>{PLACEHOLDER.pattern})', re.DOTALL)


def body(
    data: Any, content_type: str | None, scope: Scope, files: Mapping[str, tuple[str, bytes]], *, selects: bool = False
) -> tuple[bytes | None, str | None]:
    """Return the body and its Content-Type; `files` maps a field to a file's name and content.

    Files travel as multipart/form-data whatever the header says. Without data and files there is no body, and the
    header stays as it is. With `selects`, the data says whose account is meant. Raises Blocked where the data does not
    fit the type or means everybody, and MissingVariable.
    """
    if data is None and not files:
        return None, content_type
    kind = (content_type or JSON).partition(";")[0].strip().lower()
    for name in _whole(data, kind) if selects else ():
        if plain(scope.look_up(name).value) == "":
            raise Blocked(f"variable {{{{{name}}}}} is empty, and the data would ask for every account")
    if files or kind == MULTIPART:
        return _multipart(_fields(render_data(data, scope), MULTIPART), files)
    rendered = structure(data, kind, scope)
    if isinstance(rendered, str):
        return rendered.encode(errors="replace"), content_type or JSON
    if kind == FORM:
        return urlencode(list(_fields(rendered, FORM)), errors="replace").encode(), content_type
    try:
        return json.dumps(rendered, allow_nan=False).encode(), content_type or JSON
    except ValueError:
        raise Blocked("data holds a number that JSON does not have") from None


def structure(data: Any, kind: str, scope: Scope) -> Any:
    """Put the values into data, before it is encoded as its type `kind`. Raises MissingVariable."""
    return _render_string(data, kind, scope) if isinstance(data, str) else render_data(data, scope)


def _render_string(data: str, kind: str, scope: Scope) -> Any:
    """Render a string of the manifest as text, or as the structure that it spells."""
    if "{{" not in data:
        return data
    if PLACEHOLDER.fullmatch(data):
        return render_data(data, scope)
    if kind == FORM:
        return substitute(data, scope, lambda value: quote(value, safe=""))
    if kind == JSON or kind.endswith("+json"):
        structure = _structure(data)
        if structure is not None:
            return render_data(structure, scope)
    return render_text(data, scope).text


def _whole(data: Any, kind: str) -> Iterator[str]:
    """Yield the variables that are all that a value of the data has."""
    if isinstance(data, str) and "{{" in data and not PLACEHOLDER.fullmatch(data):
        data = [field.partition("=")[2] for field in data.split("&")] if kind == FORM else _structure(data)
    yield from _alone(data)


def _alone(value: Any) -> Iterator[str]:
    match value:
        case str():
            if (whole := PLACEHOLDER.fullmatch(value)) is not None:
                yield whole[1]
        case Mapping() | list():
            for item in value.values() if isinstance(value, Mapping) else value:
                yield from _alone(item)


def _structure(template: str) -> dict[str, Any] | list[Any] | None:
    """Parse JSON text with placeholders; a placeholder outside quotes becomes a string of its own."""

    def quoted(match: re.Match[str]) -> str:
        return json.dumps(match[0]) if match["bare"] else match[0]

    try:
        parsed = json.loads(_STRING_OR_PLACEHOLDER.sub(quoted, template), strict=False)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict | list) else None


def _fields(data: Any, kind: str) -> Iterator[tuple[str, str]]:
    """Return the pairs of a flat map; a list repeats its key, a null omits it."""
    if not isinstance(data, dict | None):
        raise Blocked(f"data sent as {kind} is a map of fields, and this is none")
    for key, value in (data or {}).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict | list):
                raise Blocked(f"data sent as {kind} is flat: {key} holds a map or a list within a list")
            if item is not None:
                yield key, written(item)


def _multipart(fields: Iterator[tuple[str, str]], files: Mapping[str, tuple[str, bytes]]) -> tuple[bytes, str]:
    boundary = secrets.token_hex(16)
    parts = [(f'name="{_name(key)}"', "", value.encode(errors="replace")) for key, value in fields]
    for key, (name, content) in files.items():
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        parts.append((f'name="{_name(key)}"; filename="{_name(name)}"', f"Content-Type: {kind}\r\n", content))
    lines = [
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n{kind}\r\n".encode() + content + b"\r\n"
        for head, kind, content in parts
    ]
    return b"".join(lines) + f"--{boundary}--\r\n".encode(), f"{MULTIPART}; boundary={boundary}"


def _name(text: str) -> str:
    """Quote a name in a part's header, like HTML forms do."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode(errors="replace").decode()
