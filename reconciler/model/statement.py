"""A statement of SQL with named parameters: `select … where email = :email`.

It is text of the manifest's own: values travel beside it, and never in it. What stands in quotes or in a comment, and
`::`, is no parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.model.template import names

__all__ = ["misfit", "numbered", "parameters"]

_TOKEN = re.compile(
    r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`[^`]*+`|--[^\n]*+|/\*.*?\*/|(?P<tag>\$\w*\$).*?(?P=tag)|::"""
    r"""|(?<![\w:]):(?P<name>[A-Za-z_]\w*)""",
    re.DOTALL,
)


def parameters(sql: str) -> list[str]:
    """Return the names of a statement's parameters, in the order in which they first stand in it."""
    return list(dict.fromkeys(match["name"] for match in _TOKEN.finditer(sql) if match["name"]))


def numbered(sql: str, mark: Callable[[int], str]) -> tuple[str, list[str]]:
    """Return the statement with a mark for each parameter, and the parameter's name for each mark, from 1 on."""
    found: list[str] = []

    def put(match: re.Match[str]) -> str:
        if not match["name"]:
            return match[0]
        found.append(match["name"])
        return mark(len(found))

    return _TOKEN.sub(put, sql), found


def misfit(data: Any) -> str | None:
    """Return what is wrong with a request's data as a statement; None if nothing is."""
    if not isinstance(data, Mapping) or not isinstance(data.get("sql"), str) or not data["sql"].strip():
        return "a database is asked with data: {sql: …, parameters: {…}}, one statement"
    given = data.get("parameters") or {}
    if not isinstance(given, Mapping) or data.keys() - {"sql", "parameters"}:
        return "data has `sql`, a text, and `parameters`, a map, and nothing else"
    if used := sorted(names(data["sql"])):
        return f"{{{{{used[0]}}}}} cannot stand in sql: write :{used[0]} there, and its value under parameters"
    wanted = parameters(data["sql"])
    if missing := [name for name in wanted if name not in given]:
        return f"parameters has no {missing[0]}, which the statement uses"
    if left := [str(name) for name in given if name not in wanted]:
        return f"the statement does not use :{left[0]}: take it out of parameters"
    return None
