"""Read libyaml's events: a file's values and, once a line is asked for, where each part stands.

Both are built without recursion, within the limits of every reader (docs/design/rules.md, "Limits of input"). Lines
are only needed for errors, so they are found by parsing the file again, as a stream of tokens that YAML and JSON share,
into a tree of lines. Duplicate keys and depth of JSON are checked on the way: the `json` module checks neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from yaml import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs forget to export it

from reconciler.model.errors import Problem, ReconcilerError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 50
TOO_DEEP = f"nested more than {MAX_DEPTH} deep: nothing here needs that, flatten it"
MAX_EXPANDED = 10_000
"""How many values all aliases of a file together may stand for."""


class BrokenFile(ReconcilerError):
    """One file cannot be used; its problems say where and what to do, the first of them alone if it cannot be read."""

    def __init__(self, problem: Problem, *others: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.problems = (problem, *others)


def broken(file: str, line: int | None, message: str) -> BrokenFile:
    """Make the error for a file that cannot be used, with one problem."""
    return BrokenFile(Problem(file, line, message))


def too_large(file: str, size: int, limit: int = MAX_BYTES) -> BrokenFile:
    """Make the error for a file over its limit; `size` and `limit` count bytes."""
    most = f"{limit // MAX_BYTES} MiB"
    return broken(file, None, f"{size:,} bytes: a file may have {most} at most; take out what does not belong here")


# --- values -----------------------------------------------------------------------------------------------------------

_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_FIRST = frozenset("~ntf-0123456789")
_WORD = frozenset("~ntf")
_INT = re.compile(r"0|-?[1-9][0-9]{0,4000}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _plain(text: str) -> Any:
    """Return the value of a scalar without quotes. A number that would be written differently (`1.10`) stays text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] in _WORD:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and str(float(text)) == text:
        return float(text)
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            return text
    return text


_NONE = object()


class Builder:
    """Builds values from events; `lists` has the lines of the items of top-level lists."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Any = None
        self.lists: dict[str, list[int]] = {}
        self._into: Any = None
        self._key: Any = _NONE
        self._stack: list[tuple[Any, str | None]] = []
        self._top: Any = None
        self._top_lines: list[int] = []
        self._anchors: dict[str, Any] = {}
        self._expanded = 0
        self._documents = 0

    def document(self, event: DocumentStartEvent) -> None:
        """Begin a document; there may be one."""
        self._documents += 1
        if self._documents > 1:
            self._refuse(event, "a second document begins here: one file holds one; take out the `---`")

    def scalar(self, event: ScalarEvent) -> None:
        """Add a key as written, or a value with its type."""
        if event.tag is not None:
            self._refuse_tag(event)
        text = event.value
        if self._into.__class__ is dict and self._key is _NONE:
            if text in self._into:
                self._refuse(event, f"duplicate key {text!r}: keep one of them")
            if text == "<<" and event.implicit[0]:
                self._refuse(event, "merge keys (<<) are not supported: write the keys out")
            self._key = text
            return
        value = _plain(text) if event.implicit[0] and (not text or text[0] in _FIRST) else text
        self._put(value, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = value

    def mapping(self, event: MappingStartEvent) -> None:
        """Begin a map."""
        self._open({}, event)

    def sequence(self, event: SequenceStartEvent) -> None:
        """Begin a list; of one under a top-level key, the lines of its items are kept."""
        key = self._key
        items: list[Any] = []
        self._open(items, event)
        if len(self._stack) == 2 and key is not _NONE:
            self._top, self._top_lines = items, []
            self.lists[key] = self._top_lines

    def close(self, _event: MappingEndEvent | SequenceEndEvent) -> None:
        """End a map or list; only now can aliases refer to it."""
        done, (self._into, anchor) = self._into, self._stack.pop()
        if done is self._top:
            self._top = None
        if anchor is not None:
            self._anchors[anchor] = done

    def alias(self, event: AliasEvent) -> None:
        """Add what an anchor above stands for, within the limits."""
        if event.anchor not in self._anchors:
            self._refuse(event, "an alias to nothing above it: put text that begins with * in quotes")
        if self._into.__class__ is dict and self._key is _NONE:
            self._refuse(event, "an alias as a key: write the key out")
        value = self._anchors[event.anchor]
        self._expanded += self._measure(value, event)
        self._put(value, event)

    def _open(self, value: Any, event: MappingStartEvent | SequenceStartEvent) -> None:
        if event.tag is not None:
            self._refuse_tag(event)
        if self._into.__class__ is dict and self._key is _NONE:
            self._refuse(event, "a map or list as a key: put text with {{ }} or [ ] at its start in quotes")
        self._put(value, event)
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._stack.append((self._into, event.anchor))
        self._into = value
        if len(self._stack) > MAX_DEPTH:
            self._too_deep(event)

    def _put(self, value: Any, event: Any) -> None:
        into = self._into
        if into.__class__ is dict:
            into[self._key] = value
            self._key = _NONE
        elif into is None:
            self.root = value
        else:
            into.append(value)
            if into is self._top:
                self._top_lines.append(event.start_mark.line + 1)

    def _measure(self, value: Any, event: AliasEvent) -> int:
        """Count the values that an alias stands for, including those through other aliases."""
        count, waiting = 0, [(value, len(self._stack) + 1)]
        while waiting:
            here, depth = waiting.pop()
            count += 1
            if self._expanded + count > MAX_EXPANDED:
                self._refuse(event, f"aliases stand for more than {MAX_EXPANDED:,} values: write out what is needed")
            if isinstance(here, dict | list):
                if depth > MAX_DEPTH:
                    self._too_deep(event)
                waiting += [(item, depth + 1) for item in (here.values() if isinstance(here, dict) else here)]
        return count

    def _too_deep(self, event: Any) -> NoReturn:
        self._refuse(event, TOO_DEEP)

    def _refuse_tag(self, event: Any) -> NoReturn:
        self._refuse(event, "tags (!) are not supported: take it out, or put text that begins with ! in quotes")

    def _refuse(self, event: Any, message: str) -> NoReturn:
        raise broken(self.file, event.start_mark.line + 1, message)


TAKES: dict[type, Callable[[Builder, Any], None]] = {
    ScalarEvent: Builder.scalar,
    MappingStartEvent: Builder.mapping,
    SequenceStartEvent: Builder.sequence,
    MappingEndEvent: Builder.close,
    SequenceEndEvent: Builder.close,
    AliasEvent: Builder.alias,
    DocumentStartEvent: Builder.document,
}


# --- lines ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Mark:
    """Where a value stands: its line, counted from 1, or that of its key, and the marks of its parts.

    Of YAML also where it begins, where its key does, and where its last part ends, in characters.
    """

    line: int
    start: int = 0
    end: int = 0
    key: int = 0
    flow: bool = True
    is_list: bool = False
    keys: dict[str, Mark] = field(default_factory=lambda: _NO_KEYS)
    items: list[Mark] = field(default_factory=lambda: _NO_ITEMS)

    def find(self, path: Iterable[str | int]) -> int:
        """Return the line of what is at a path, or of the nearest thing around it."""
        here = self
        for step in path:
            if isinstance(step, str) and step in here.keys:
                here = here.keys[step]
            elif isinstance(step, int) and 0 <= step < len(here.items):
                here = here.items[step]
            else:
                break
        return here.line


_NO_KEYS: dict[str, Mark] = {}
_NO_ITEMS: list[Mark] = []
"""Of all scalars: a file of the largest size may have half a million."""


class _Kind(Enum):
    MAP = "{"
    LIST = "["
    END = "}"
    SCALAR = "s"


class _Token(NamedTuple):
    kind: _Kind
    text: str
    line: int
    start: int = 0
    end: int = 0
    flow: bool = True


def in_yaml(raw: bytes, file: str) -> Mark | None:
    """Return the marks of a valid YAML file; None if it is empty."""
    return _tree(_yaml_tokens(raw), file)


def in_json(text: str, file: str) -> Mark | None:
    """Return the marks of a JSON file. Raises BrokenFile for a duplicate key and for nesting over the limit."""
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
        kind, begins, ends = _YAML.get(type(event)), event.start_mark, event.end_mark
        if kind is not None and begins is not None and ends is not None:
            flow = bool(getattr(event, "flow_style", True))
            yield _Token(kind, getattr(event, "value", ""), begins.line + 1, begins.index, ends.index, flow=flow)


_JSON = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s{}\[\]:,"]+')
_SIGNS = {"{": _Kind.MAP, "[": _Kind.LIST, "}": _Kind.END, "]": _Kind.END}


def _json_tokens(text: str) -> Iterator[_Token]:
    line, at = 1, 0
    for match in _JSON.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        token = match[0]
        kind = _SIGNS.get(token, _Kind.SCALAR)
        yield _Token(kind, json.loads(token) if token.startswith('"') else token, line)


def _tree(tokens: Iterable[_Token], file: str) -> Mark | None:
    root: Mark | None = None
    stack: list[Mark] = []
    key: _Token | None = None
    for token in tokens:
        inside = stack[-1] if stack else None
        if token.kind is _Kind.END:
            done = stack.pop()
            done.end = token.end if done.flow else done.end
            if stack:
                stack[-1].end = max(stack[-1].end, done.end)
            continue
        if inside is not None and not inside.is_list and key is None:
            if (before := inside.keys.get(token.text)) is not None:
                known = f"duplicate key {token.text!r}, first on line {before.line}: keep one of them"
                raise broken(file, token.line, known)
            key = token
            continue
        parts = token.kind is not _Kind.SCALAR
        mark = Mark(token.line, token.start, token.start if parts else token.end, flow=token.flow)
        mark.is_list = token.kind is _Kind.LIST
        if inside is None:
            root = mark
        else:
            inside.end = max(inside.end, mark.end)
            if key is None:
                inside.items.append(mark)
            else:
                mark.line, mark.key = key.line, key.start
                inside.keys[key.text] = mark
        key = None
        if parts:
            mark.keys, mark.items = {}, []
            stack.append(mark)
            if len(stack) > MAX_DEPTH:
                raise broken(file, token.line, TOO_DEEP)
    return root
