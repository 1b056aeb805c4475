"""Write data from outside as YAML text that reads back as the same data.

Text is written without quotes only if every reader takes it for text: `NO`, `012345` and `2026-12-01` are quoted.
Characters that a person cannot see (line ends, control, invisible and direction characters) are written as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from reconciler.model.errors import NotWritable

__all__ = ["block_item", "flow"]

_PLAIN = re.compile(r"[^\W\d_](?:[\w@.&/+' -]*[\w.])?")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that YAML 1.1 takes for something else than text."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def flow(value: Any) -> str:
    """Write a value on one line: text, numbers, dates, `[…]` and `{…}`. Raises NotWritable for a lone surrogate."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float() | date():
            return str(value)
        case Mapping():
            return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(flow, value)) + "]"
        case _:
            return _text(str(value))


def block_item(item: Any, indent: int) -> list[str]:
    """Return an item of a block list as lines: a map with a line for each of its keys."""
    if not isinstance(item, Mapping) or not item:
        return [f"{' ' * indent}- {flow(item)}"]
    lines = [f"{flow(str(key))}: {flow(value)}" for key, value in item.items()]
    return [f"{' ' * indent}{'  ' if number else '- '}{line}" for number, line in enumerate(lines)]


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _WORDS:
        return text
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _escaped(char)) for char in text) + '"'


def _escaped(char: str) -> str:
    if "\ud800" <= char <= "\udfff":
        raise NotWritable("half of a surrogate pair (\\ud800 to \\udfff): the text is not UTF-8")
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
