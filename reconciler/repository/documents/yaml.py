"""Read users' YAML and JSON, restricted to an unambiguous subset (docs/design/rules.md, "Limits of input").

Only `true`/`false`, plain decimal numbers and dates are anything but text; everything that YAML can do and a person
would not expect (tags, merge keys, second documents, duplicate keys, deep or exploding structures) is refused with the
line and the way out. The values are built straight from libyaml's events: that is as quick as PyYAML's own loader, and
no file can make it recurse. Messages never quote a value, for initial data is read here too.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from yaml import MarkedYAMLError
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs forget to export it
from yaml.reader import ReaderError

from reconciler.model.value import Frozen, Unshown
from reconciler.repository.documents import events
from reconciler.repository.documents.events import (
    MAX_BYTES,
    TAKES,
    TOO_DEEP,
    BrokenFile,
    Builder,
    broken,
    too_large,
)

if TYPE_CHECKING:
    from reconciler.model.base import Model  # which completion does without

M = TypeVar("M", bound="Model")


class Document:
    """A file's content, with lines: its `data` has maps, lists, text, numbers, booleans, dates and None.

    `raw` may also be what reads the content again once a line is asked for.
    """

    __slots__ = ("_lists", "_marks", "_raw", "data", "file")

    def __init__(
        self, raw: bytes | Callable[[], bytes], file: str, data: Any, lists: dict[str, list[int]] | None
    ) -> None:
        self._raw = raw
        self.data = data
        self._lists = lists
        self._marks: events.Mark | None = None
        self.file = file

    def __repr__(self) -> str:
        return f"Document({self.file!r})"

    def called(self, file: str) -> Document:
        """Return the same content under another name, with the lines that are known already."""
        self.line(())
        other = copy.copy(self)
        other.file = file
        return other

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """Return the line, from 1, of what is at a path, or of the nearest thing around it; None for an empty file."""
        if self._marks is None:
            raw = self._raw() if callable(self._raw) else self._raw
            self._marks = (
                events.in_json(_decode(raw, self.file), self.file)
                if self.file.endswith(".json")
                else events.in_yaml(raw, self.file)
            )
        return None if self._marks is None else self._marks.find(path)

    def item_lines(self, key: str) -> list[int]:
        """Return the lines of the items of a top-level list such as `access`; empty if there is none."""
        if self._lists is not None:
            return self._lists.get(key, [])
        self.line(())
        found = None if self._marks is None else self._marks.keys.get(key)
        return [] if found is None else [item.line for item in found.items]


class Loaded(Frozen, Generic[M], kw_only=True):
    """A valid file. `lines` has one line number for each access entry."""

    stem: str
    path: str
    blob: str
    model: M
    lines: tuple[int, ...]
    document: Unshown[Document]

    def __eq__(self, other: object) -> bool:
        """Compare all but the documents, of which one may be read from a file and one from a commit."""
        return isinstance(other, Loaded) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> tuple[object, ...]:
        return self.path, self.blob, self.model, self.lines


def read(raw: bytes, file: str, limit: int = MAX_BYTES) -> Document:
    """Read a file's content of at most `limit` bytes; as JSON if its name ends in `.json`, else YAML.

    Raises BrokenFile with the line and what to do. Keys are text, as they are written.
    """
    if len(raw) > limit:
        raise too_large(file, len(raw), limit)
    text = _decode(raw, file)
    if file.endswith(".json"):
        return Document(raw, file, _read_json(text, file), None)
    builder = Builder(file)
    parser = CParser(raw)
    try:
        while (event := parser.get_event()) is not None:
            take = TAKES.get(type(event))
            if take is not None:
                take(builder, event)
    except ReaderError as error:
        line = raw.count(b"\n", 0, error.position) + 1
        raise broken(file, line, "not YAML: a control character stands here; take it out") from None
    except MarkedYAMLError as error:
        raise _explain(error, file) from None
    return Document(raw, file, builder.root, builder.lists)


def _decode(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise broken(file, line, "not UTF-8: save the file in that encoding") from None


# --- YAML ----------------------------------------------------------------------------------------------------------

_ADVICE = (
    ("mapping values are not allowed", "put text that holds `: ` in quotes, and check how far the line is indented"),
    ("cannot start any token", "indent with blanks, not tabs; put text that begins with @, ` or % in quotes"),
    ("could not find expected ':'", "a key needs a colon and a blank after it; text over several lines needs quotes"),
    ("did not find expected key", "check the indentation and the quotes of this line and the one before"),
    ("unexpected end of stream", "a quote is opened and never closed"),
    ("did not find expected '-' indicator", "lines of one list begin at the same column with `- `"),
    ("did not find expected ',' or", "a [ or { is not closed, or a comma is missing"),
)


def _explain(error: MarkedYAMLError, file: str) -> BrokenFile:
    problem = error.problem or "it cannot be parsed"
    if "exceeded maximum nesting depth" in problem:
        return broken(file, _mark_line(error), TOO_DEEP)
    advice = next((text for part, text in _ADVICE if part in problem), "check the quotes and the indentation here")
    return broken(file, _mark_line(error), f"not YAML: {problem}; {advice}")


def _mark_line(error: MarkedYAMLError) -> int | None:
    mark = error.problem_mark or error.context_mark
    return None if mark is None else mark.line + 1


# --- JSON ----------------------------------------------------------------------------------------------------------


def _read_json(text: str, file: str) -> Any:
    try:
        data = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        advice = "JSON takes double quotes, no comma after the last item and no comments"
        raise broken(file, error.lineno, f"not JSON: {error.msg} (column {error.colno}); {advice}") from None
    except RecursionError:
        events.in_json(text, file)
        raise broken(file, None, TOO_DEEP) from None
    except ValueError:
        raise broken(file, None, "a number that is too large, or NaN or Infinity: put it in quotes") from None
    events.in_json(text, file)
    if "\\u" in text:
        _no_halves(data, file)
    return data


def _no_constant(_text: str) -> NoReturn:
    raise ValueError("no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("too large")
    return value


def _no_halves(data: Any, file: str) -> None:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise broken(file, None, "half of a surrogate pair (\\ud800 to \\udfff): write the character itself") from None
