"""What is rendered in another way because a request does not travel over HTTP.

The scheme of the rendered URL tells the protocol: it may come from a value.
"""

from __future__ import annotations

import json
from typing import Any

from reconciler.model.errors import Blocked
from reconciler.model.scope import Scope
from reconciler.model.statement import misfit
from reconciler.model.template import PLACEHOLDER
from reconciler.requests.template import render_data

__all__ = ["DIRECTORY", "SQL", "scheme_of", "statement"]

SQL = frozenset({"mysql", "postgresql"})
DIRECTORY = frozenset({"ldap", "ldaps"})


def scheme_of(url: str) -> str:
    """Return a URL's scheme, in lower case."""
    return url.partition(":")[0].strip().lower()


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
