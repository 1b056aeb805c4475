"""Placeholders in a manifest's text: `{{name}}`, spaces optional, dots allowed.

See docs/design/rules.md, "Variables".

There is no other template language, and no code. `PLACEHOLDER` is what rendering replaces; `misuse` finds what looks
like a placeholder and would be left in the text. `{{` without `}}`, and `{% … %}` alone, are ordinary text; where that
may be a slip is found by `half_closed`.

A statement of SQL has parameters instead, as in `select … where email = :email`. It is text of the manifest's own:
values travel beside it, and never in it. What stands in quotes or in a comment, and `::`, is no parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

PLACEHOLDER = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
"""A variable; group 1 is its name, dots included."""

FILL_IN = "FILL-IN"
"""What `init` writes where a person has to write a value: in a hire or an entry it counts as none."""

_BRACES = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)
_TAG = re.compile(r"\{%(?:(?!\{%|%\}).)*%\}|\{#(?:(?!\{#|#\}).)*#\}", re.DOTALL)
"""What ChiefOnboarding's template engine acts on beside variables."""

_HALF_CLOSED = re.compile(r"\{\{\s*([\w.]+)\s*\}(?!\})")
"""A name after two braces and before one. The other way round it is what GraphQL ends with: `{ users { email }}`."""

_STOOD = "\0"
"""Replaces a placeholder while the rest is searched; it cannot close or open a pair of braces."""


def texts(value: Any) -> list[str]:
    """Return every string in a structure of maps and lists, including keys."""
    found = list[str]()
    _gather(value, found)
    return found


def _gather(value: Any, found: list[str]) -> None:
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _gather(key, found)
            if item is not None:  # as most fields of a manifest are
                _gather(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _gather(item, found)


def names(value: Any) -> frozenset[str]:
    """Return the names of all placeholders in a string or a structure, including keys, with their dots."""
    return frozenset(name for text in texts(value) if "{{" in text for name in split(text)[1::2])


def roots(value: Any) -> frozenset[str]:
    """Return these names without what follows a dot."""
    return frozenset(name.partition(".")[0] for name in names(value))


def split(text: str) -> list[str]:
    """Split a text at its placeholders: literal, name, literal, and so on."""
    return PLACEHOLDER.split(text)


def half_closed(text: str) -> frozenset[str]:
    """Return the names that one more brace would make a placeholder of: they are sent as they are written."""
    return frozenset(_HALF_CLOSED.findall(text))


def misuse(value: Any) -> list[str]:
    """Return template syntax that is no placeholder, one sentence each: tags, comments, filters, invalid names."""
    found: dict[str, None] = {}
    for text in texts(value):
        if "{{" in text:
            for inside in _BRACES.findall(PLACEHOLDER.sub(_STOOD, text)):
                found[_explain(inside.replace(_STOOD, "{{…}}").strip())] = None
        if "{%" in text or "{#" in text:
            for tag in _TAG.findall(_BRACES.sub(_STOOD, text)):
                what = "template blocks" if tag[1] == "%" else "template comments"
                found[f"{_cut(tag)}: {what} are not supported; only variables are, as {{{{ name }}}}"] = None
    return list(found)


def _explain(inside: str) -> str:
    shown = f"{{{{ {_cut(inside)} }}}}"
    first, bar, _ = inside.partition("|")
    if not inside:
        return "{{ }} is empty: write the name of a variable in it"
    if bar and PLACEHOLDER.fullmatch(f"{{{{{first}}}}}"):
        return f"{shown}: filters are not supported; write {{{{ {first.strip()} }}}}"
    if "%" in inside:
        return f"{shown}: template blocks are not supported; only names of variables stand in {{{{ }}}}"
    return f"{shown} is no variable: a name has letters, digits, underscores and dots only"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


# --- statements of SQL ------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`[^`]*+`|--[^\n]*+|/\*.*?\*/|(?P<tag>\$\w*\$).*?(?P=tag)|::"""
    r"""|(?<![\w:]):(?P<name>[A-Za-z_]\w*)""",
    re.DOTALL,
)


def parameters(sql: str) -> list[str]:
    """Return the names of a statement's parameters, in the order in which they first stand in it."""
    return list(dict.fromkeys(match["name"] for match in _TOKEN.finditer(sql) if match["name"]))


def numbered(sql: str, mark: Callable[[str], str]) -> tuple[str, list[str]]:
    """Return the statement with a mark for each parameter's name, and the name for each mark, in their order."""
    found: list[str] = []

    def put(match: re.Match[str]) -> str:
        if not match["name"]:
            return match[0]
        found.append(match["name"])
        return mark(match["name"])

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
