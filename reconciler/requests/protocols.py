"""What is rendered in another way because a request does not travel over HTTP.

The scheme of the rendered URL tells the protocol: it may come from a value.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from reconciler.model.errors import Blocked
from reconciler.model.request import SAFE_METHODS
from reconciler.model.scope import Scope
from reconciler.model.statement import misfit
from reconciler.model.template import PLACEHOLDER
from reconciler.requests.template import render_data, written
from reconciler.transports.answer import Response
from reconciler.transports.request import RenderedRequest

__all__ = ["DIRECTORY", "SQL", "as_answered", "asks_directory", "scheme_of", "statement"]

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
    scheme, reads = scheme_of(wire.url), wire.method in SAFE_METHODS
    if scheme in DIRECTORY:
        return replace(answer, directory=True, decided=answer.status in (200, 404) if reads else None)
    if scheme in SQL and reads and answer.status != 200:
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
