"""Find the line of each part of a file.

Lines are only needed for errors, so nothing here runs for valid files. The file is parsed again as a stream of tokens
that YAML and JSON share, into a tree of lines. Duplicate keys and depth of JSON are checked on the way, because the
`json` module checks neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from yaml import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs forget to export it

from reconciler.repository.documents.broken import MAX_DEPTH, TOO_DEEP, broken

__all__ = ["Mark", "in_json", "in_yaml"]


@dataclass(slots=True)
class Mark:
    """Where a value begins (in a map, its key), counted from 1, and the marks of its parts."""

    line: int
    children: dict[str, Mark] | list[Mark] | None = None

    def find(self, path: Iterable[str | int]) -> int:
        """Return the line of what is at a path, or of the nearest thing around it."""
        here = self
        for step in path:
            match here.children:
                case dict() if isinstance(step, str) and step in here.children:
                    here = here.children[step]
                case list() if isinstance(step, int) and 0 <= step < len(here.children):
                    here = here.children[step]
                case _:
                    break
        return here.line


class _Kind(Enum):
    MAP = "{"
    LIST = "["
    END = "}"
    SCALAR = "s"


_Token = tuple[_Kind, str, int]


def in_yaml(raw: bytes, file: str) -> Mark | None:
    """Return the lines of a valid YAML file; None if it is empty."""
    return _tree(_yaml_tokens(raw), file)


def in_json(text: str, file: str) -> Mark | None:
    """Return the lines of a JSON file. Raises BrokenFile for a duplicate key and for nesting over the limit."""
    return _tree(_json_tokens(text), file)


_YAML: dict[type, _Kind] = {
    ScalarEvent: _Kind.SCALAR,
    AliasEvent: _Kind.SCALAR,
    MappingStartEvent: _Kind.MAP,
    SequenceStartEvent: _Kind.LIST,
    MappingEndEvent: _Kind.END,
    SequenceEndEvent: _Kind.END,
}


def _yaml_tokens(raw: bytes) -> Iterator[_Token]:
    parser = CParser(raw)
    while (event := parser.get_event()) is not None:
        kind, mark = _YAML.get(type(event)), event.start_mark
        if kind is not None and mark is not None:
            yield kind, getattr(event, "value", ""), mark.line + 1


_JSON = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s{}\[\]:,"]+')
_SIGNS = {"{": _Kind.MAP, "[": _Kind.LIST, "}": _Kind.END, "]": _Kind.END}


def _json_tokens(text: str) -> Iterator[_Token]:
    line, at = 1, 0
    for match in _JSON.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        token = match[0]
        kind = _SIGNS.get(token, _Kind.SCALAR)
        yield kind, json.loads(token) if token.startswith('"') else token, line


def _tree(tokens: Iterable[_Token], file: str) -> Mark | None:
    root: Mark | None = None
    stack: list[Mark] = []
    key: tuple[str, int] | None = None
    for kind, text, line in tokens:
        if kind is _Kind.END:
            stack.pop()
            continue
        inside = stack[-1].children if stack else None
        if isinstance(inside, dict) and key is None:
            if text in inside:
                raise broken(file, line, f"duplicate key {text!r}, first on line {inside[text].line}: keep one of them")
            key = (text, line)
            continue
        mark = Mark(line)
        if isinstance(inside, dict) and key is not None:
            mark.line = key[1]
            inside[key[0]] = mark
            key = None
        elif isinstance(inside, list):
            inside.append(mark)
        else:
            root = mark
        if kind is not _Kind.SCALAR:
            mark.children = {} if kind is _Kind.MAP else []
            stack.append(mark)
            if len(stack) > MAX_DEPTH:
                raise broken(file, line, TOO_DEEP)
    return root
