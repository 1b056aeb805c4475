"""What is rendered in another way because a request does not travel over HTTP.

The scheme of the rendered URL tells the protocol: it may come from a value. In the data of a request that changes a
directory, an attribute's values have to be names where they are, as of `member`, and values within them are escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reconciler.model.dn import name_valued, parsed
from reconciler.model.errors import Blocked
from reconciler.model.scope import DEFERRED, Scope
from reconciler.model.template import PLACEHOLDER, misfit, split
from reconciler.model.value import replace
from reconciler.requests.template import plain, render_data, written
from reconciler.requests.url import in_name
from reconciler.transports.messages import RenderedRequest, Response

SQL = frozenset({"mysql", "postgresql"})
DIRECTORY = frozenset({"ldap", "ldaps"})


def scheme_of(url: str) -> str:
    """Return a URL's scheme, in lower case."""
    return url.partition(":")[0].strip().lower()


def asks_directory(url: str, scope: Scope) -> bool:
    """Whether a request goes to a directory; its scheme may be in the value that its URL begins with."""
    begins = PLACEHOLDER.match(url.strip())
    return scheme_of(url if begins is None else written(scope.look_up(begins[1]).value)) in DIRECTORY


def as_answered(wire: RenderedRequest, answer: Response) -> Response:
    """Return an answer that did not travel as one of its request's protocol: what it says to a check differs."""
    scheme = scheme_of(wire.url)
    if scheme in DIRECTORY:
        return replace(answer, directory=True, decided=answer.status in (200, 404) if wire.reads else None)
    if scheme in SQL and wire.reads and answer.status != 200:
        return replace(answer, decided=False)
    return answer


def statement(data: Any, scope: Scope, *, selects: bool) -> bytes:
    """Return a statement with its parameters, as JSON; the statement is text of the manifest's own.

    With `selects`, its parameters say whose account is meant. Raises Blocked, and MissingVariable.
    """
    if (wrong := misfit(data)) is not None:
        raise Blocked(wrong)
    parameters = data.get("parameters") or {}
    values = {str(name): render_data(value, scope) for name, value in parameters.items()}
    for name, value in values.items():
        if selects and value == "" and isinstance(parameters[name], str) and PLACEHOLDER.fullmatch(parameters[name]):
            raise Blocked(f"parameter {name} is empty, and the statement would concern every account without a value")
    return json.dumps({"sql": data["sql"], "parameters": values}).encode()


_CHANGES = ("add", "replace", "delete")


def _wrong(method: str, data: Any) -> str | None:
    """Return what is wrong with the data of a request to a directory; None if nothing is."""
    match method, data:
        case "GET" | "HEAD" | "OPTIONS" | "DELETE", None:
            return None
        case "POST", Mapping() if data:
            return _unwritten(data)
        case "PATCH", Mapping() if data and not data.keys() - set(_CHANGES):
            parts = [part for part in data.values() if part]
            if parts and all(isinstance(part, Mapping) for part in parts):
                return next(filter(None, map(_unwritten, parts)), None)
        case "PUT", Mapping() if isinstance(data.get("rdn"), str) and not data.keys() - {"rdn", "superior"}:
            return None
        case _:
            pass
    return (
        "a directory takes no data with GET and DELETE; with POST the attributes, with PATCH "
        "{add: {…}, replace: {…}, delete: {…}}, with PUT {rdn: …, superior: …}"
    )


def _unwritten(attributes: Mapping[str, Any]) -> str | None:
    for name, value in attributes.items():
        if not re.fullmatch(r"[A-Za-z0-9;.-]+", str(name)):
            return f"{name} is no attribute"
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, list | Mapping) and not (isinstance(each, Mapping) and each.keys() == {"base64"}):
                return f"{name}: a value is a text, or bytes as {{base64: …}}"
    return None


def entry(method: str, data: Any, scope: Scope) -> bytes | None:
    """Return the data of a request to a directory, as JSON. Raises Blocked, and MissingVariable."""
    if (wrong := _wrong(method, data)) is not None:
        raise Blocked(wrong)
    if data is None:
        return None
    rendered: dict[str, Any]
    if method == "PATCH":
        rendered = {str(change): _attributes(part, scope) for change, part in data.items() if part}
        for name, template in (data.get("delete") or {}).items():
            if isinstance(template, str) and rendered["delete"][str(name)] == []:
                raise Blocked(f"variable {template} is empty, and all values of {name} would be deleted")
    elif method == "PUT":
        rendered = {key: _name(value, scope) for key, value in data.items() if value is not None}
        if "{{" not in rendered["rdn"] and len(parsed(rendered["rdn"]) or ()) != 1:
            raise Blocked("rdn is one part of a DN, such as uid=ada")
    else:
        rendered = _attributes(data, scope)
    return json.dumps(rendered).encode()


def _attributes(templates: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    return {
        str(name): names_in(value, scope) if name_valued(str(name)) else render_data(value, scope)
        for name, value in templates.items()
    }


def names_in(value: Any, scope: Scope) -> Any:
    """Render the value of an attribute whose values are names: each of them is one."""
    match value:
        case list():
            return [names_in(item, scope) for item in value]
        case Mapping():  # what is said of a value, `not` or `contains`
            return {key: names_in(item, scope) for key, item in value.items()}
        case str() if (whole := PLACEHOLDER.fullmatch(value)) is not None:
            found = scope.look_up(whole[1]).value
            if found is DEFERRED:
                return value
            found = plain(found)
            for name in found if isinstance(found, list) else [found]:
                if not isinstance(name, str) or not parsed(name):
                    raise Blocked(f"variable {value} stands for a whole DN, and its value is none")
            return found
        case str():
            return _name(value, scope)
        case _:
            return value


def _name(template: str, scope: Scope) -> str:
    """Render a name; values within it are escaped."""
    first, *rest = split(template)
    text = shape = first
    deferred = False
    for name, literal in zip(rest[::2], rest[1::2], strict=True):
        value = scope.look_up(name).value
        if value is DEFERRED:
            deferred, put = True, f"{{{{{name}}}}}"
        elif (value := written(value)) == "":
            raise Blocked(f"variable {{{{{name}}}}} is empty, and would leave a part of a DN out")
        else:
            put = in_name(shape, name, value)
        text += put + literal
        shape += f"x{literal}"
    if not deferred and not parsed(text):
        raise Blocked(f"{template} comes out as no DN")
    return text
