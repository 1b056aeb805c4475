"""Build a YAML file's values from libyaml's events, without recursion; errors know their line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, NoReturn

from yaml import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from reconciler.repository.documents.broken import MAX_DEPTH, MAX_EXPANDED, TOO_DEEP, broken

__all__ = ["TAKES", "Builder"]

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
