"""Edit a YAML file by the positions of its values, so that no other byte changes.

The file is not parsed and written again, which would lose comments, order, quotes and line ends. The result of an edit
is parsed and compared as data: if it is not what was wanted (because of an alias or an unusual layout), the file is
left to a person.

Data from outside is written as text that reads back as the same data: without quotes only if every reader takes it for
text, as not `NO`, `012345` and `2026-12-01`. Characters that a person cannot see (line ends, control, invisible and
direction characters) are written as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from datetime import date
from typing import Any

from reconciler.model.errors import NotWritable
from reconciler.repository.documents.events import BrokenFile, Mark, in_yaml
from reconciler.repository.documents.yaml import read

_BOM = b"\xef\xbb\xbf"
_DASH = re.compile(r"(?:&\S+(?:\s|#.*)*)?-")
"""A block list's first dash, after an anchor if there is one."""


def with_item(raw: bytes, file: str, key: str, item: Any) -> bytes:
    """Add an item to the list under a top-level key; the list is added if it is missing.

    Raises NotWritable where that cannot be done by an insertion, BrokenFile for what is no YAML.
    """
    data = read(raw, file).data
    there = data.get(key) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(there, list | None):
        raise NotWritable(f"{file}: {key} is no list: mend the file first")
    if there is None:
        return with_value(raw, file, (key,), [item])
    text, root, eol = _parsed(raw, file)
    node = root.keys[key]
    if node.flow:
        at, comma = (node.items[-1].end, ", ") if node.items else (node.start + text[node.start :].find("[") + 1, "")
        edited = f"{text[:at]}{comma}{flow(item)}{text[at:]}"
    else:
        dash = _DASH.match(text, node.start)
        column = 0 if dash is None else _column(text, dash.end() - 1)
        edited = _after(text, node.end, block_item(item, column), eol)
    return _checked(raw, file, edited, {**data, key: [*there, item]})


def with_value(raw: bytes, file: str, path: tuple[str, ...], value: Any, *, order: tuple[str, ...] = ()) -> bytes:
    """Set the value of a top-level key, or of a key of a map there.

    A key that is not there is inserted after the last of those that stand before it in `order`, else at the end.
    Raises NotWritable where that cannot be done, BrokenFile for what is no YAML.
    """
    data = read(raw, file).data
    if not isinstance(data, dict):
        raise NotWritable(f"{file}: no map of `key: value` lines: mend the file first")
    wanted = deepcopy(data)
    inner = wanted
    for key in path[:-1]:
        inner[key] = {} if inner.get(key) is None else inner[key]
        inner = inner[key]
        if not isinstance(inner, dict):
            raise NotWritable(f"{file}: {key} is no map: mend the file first")
    inner[path[-1]] = value
    text, node, eol = _parsed(raw, file)
    edited, here = text, data
    for depth, key in enumerate(path):
        missing = key not in node.keys
        if missing or here[key] is None:
            for outer in reversed(path[depth + 1 :]):
                value = {outer: value}
        if missing:
            edited = _with_key(text, node, key, value, eol=eol, order=order if depth == 0 else ())
            break
        node, here = node.keys[key], here[key]
        if here is None or depth == len(path) - 1:
            edited = _put(text, node, value, eol)
            break
    return _checked(raw, file, edited, wanted)


def _put(text: str, node: Mark, value: Any, eol: str) -> str:
    """Return the text with a value in the place of another one, or of nothing."""
    after = eol if node.end > node.start and _column(text, node.end) == 0 else ""
    blank = "" if text[node.start - 1 : node.start].isspace() else " "
    return f"{text[: node.start]}{blank}{flow(value)}{after}{text[node.end :]}"


def _with_key(text: str, node: Mark, key: str, value: Any, *, eol: str, order: tuple[str, ...] = ()) -> str:
    """Return the text with one more key in a map."""
    before = [node.keys[name].end for name in order[: order.index(key)] if name in node.keys] if key in order else []
    if node.flow:
        at = max((each.end for each in node.keys.values()), default=node.start + 1)
        return f"{text[:at]}{', ' if node.keys else ''}{flow(key)}: {flow(value)}{text[at:]}"
    indent = _column(text, next(iter(node.keys.values())).key)
    if isinstance(value, list):
        lines = [f"{' ' * indent}{flow(key)}:", *(line for item in value for line in block_item(item, indent + 2))]
    else:
        lines = [f"{' ' * indent}{flow(key)}: {flow(value)}"]
    return _after(text, max(before, default=node.end), lines, eol)


def _after(text: str, at: int, lines: list[str], eol: str) -> str:
    """Insert lines after the line on which something ends."""
    if at and _column(text, at) == 0:  # a text of several lines ends where the next line begins
        return text[:at] + "".join(f"{line}{eol}" for line in lines) + text[at:]
    end = re.compile(r"[^\r\n]*").match(text, at)
    assert end is not None
    return text[: end.end()] + "".join(f"{eol}{line}" for line in lines) + text[end.end() :]


def _column(text: str, at: int) -> int:
    return at - 1 - max(text.rfind("\n", 0, at), text.rfind("\r", 0, at))


def _parsed(raw: bytes, file: str) -> tuple[str, Mark, str]:
    """Return the text of a map without a byte order mark, where its parts stand, and its line ending."""
    text = raw.decode("utf-8-sig")
    root = in_yaml(text.encode(), file)
    assert root is not None
    line_end = re.search(r"\r\n|\r|\n", text)
    return text, root, line_end[0] if line_end else "\n"


def _checked(raw: bytes, file: str, edited: str, wanted: Any) -> bytes:
    """Return the edited text as bytes, after verifying that only the wanted value changed."""
    content = (_BOM if raw.startswith(_BOM) else b"") + edited.encode()
    try:
        came = read(content, file).data
    except BrokenFile:
        came = None
    if came != wanted or _kinds(came) != _kinds(wanted):
        raise NotWritable(f"{file}: it is laid out in a way that cannot be edited by a program: edit it by hand")
    return content


def _kinds(value: Any) -> Any:
    """Return the types within a value: to Python, 1 and true are equal."""
    if isinstance(value, dict):
        return {key: _kinds(item) for key, item in value.items()}
    return [_kinds(item) for item in value] if isinstance(value, list) else type(value)


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
