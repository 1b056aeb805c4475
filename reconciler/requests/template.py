"""Render a manifest's texts, URLs and data (docs/design/rules.md, "Variables").

A value is data, never template: its text is not substituted again. Data is substituted in its parsed structure, so that
no quote in a name can break out of it. A variable whose value only a running attempt has stays `{{name}}` here;
`reconciler.requests.render` refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple

from reconciler.model.errors import MissingVariable
from reconciler.model.scope import DEFERRED, Scope
from reconciler.model.secret import MASK, Secret
from reconciler.model.template import PLACEHOLDER, split
from reconciler.model.value import Frozen, Unshown
from reconciler.requests.url import UrlBuilder


class Shown(Frozen):
    """A rendered text, and its form to be shown: secrets as `***`."""

    text: Unshown[str]
    shown: str


def plain(value: Any) -> Any:
    """Return a value as JSON has it: a date as YYYY-MM-DD, a secret revealed."""
    match value:
        case Secret():
            return value.reveal()
        case date():
            return value.isoformat()
        case Mapping():
            return {written(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def written(value: Any) -> str:
    """Return a value as text: a list comma-joined, `true`, `false` and `null` as in JSON, a map as JSON."""
    if type(value) is str:
        return value
    match plain(value):
        case str(text):
            return text
        case list(items):
            return ",".join(written(item) for item in items)
        case other:
            return json.dumps(other, ensure_ascii=False)


def render_text(text: str, scope: Scope) -> Shown:
    """Render a text. Raises MissingVariable."""
    parts = split(text)
    if len(parts) == 1:
        return Shown(text, text)
    rendered, shown = [parts[0]], [parts[0]]
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        put = _put(name, scope)
        rendered += [put.text, literal]
        shown += [MASK if put.secret else put.text, literal]
    return Shown("".join(rendered), "".join(shown))


def substitute(text: str, scope: Scope, encode: Callable[[str], str]) -> str:
    """Render a text, encoding each value for its place. Raises MissingVariable."""
    return PLACEHOLDER.sub(lambda match: encode(_put(match[1], scope).text), text)


def render_url(text: str, scope: Scope, quoting: str | None = None, *, selects: bool = False) -> Shown:
    """Render a URL, encoding each value for its place in it.

    White space around the text is none of the URL. `quoting` is the query language whose strings the values stand in.
    With `selects`, its query says whose account is meant. Raises MissingVariable, and Blocked for a value that would
    change the host, climb in the path or mean everybody.
    """
    parts = split(text.strip())
    url = UrlBuilder(selects=selects)
    url.add_text(parts[0])
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        put = _put(name, scope)
        if put.deferred:
            url.add_deferred(put.text)
        else:
            url.add_value(name, _QUOTED[quoting](put.text), secret=put.secret)
        url.add_text(literal)
    return Shown(*url.finish())


_QUOTED: dict[str | None, Callable[[str], str]] = {
    None: lambda value: value,
    "odata": lambda value: value.replace("'", "''"),
    "soql": lambda value: value.replace("\\", "\\\\").replace("'", "\\'"),
}
"""How a value stands within a string of a query, so that it cannot end the string early."""


def render_data(value: Any, scope: Scope) -> Any:
    """Render data, including keys. Raises MissingVariable.

    A string that is exactly one placeholder takes the value with its type; elsewhere a value is written as text.
    """
    match value:
        case str():
            whole = PLACEHOLDER.fullmatch(value)
            if whole is None:
                return render_text(value, scope).text
            found = scope.look_up(whole[1]).value
            return _kept(whole[1]) if found is DEFERRED else plain(found)
        case Mapping():
            return {render_text(written(key), scope).text: render_data(item, scope) for key, item in value.items()}
        case list() | tuple():
            return [render_data(item, scope) for item in value]
        case _:
            return plain(value)


def _kept(name: str) -> str:
    return f"{{{{{name}}}}}"


class _Put(NamedTuple):
    text: str
    secret: bool = False
    deferred: bool = False


def _put(name: str, scope: Scope) -> _Put:
    """Return what replaces a placeholder in text."""
    found = scope.look_up(name)
    if found.value is DEFERRED:
        return _Put(_kept(name), deferred=True)
    text = written(found.value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MissingVariable(name, "holds half a character, which cannot be sent") from None
    return _Put(text, found.secret or isinstance(found.value, Secret))
