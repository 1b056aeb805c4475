"""Text that came out of files, made fit for the medium it leaves to: a terminal, JSON, CSV, Markdown, a CI log.

Whoever opens a pull request chooses names and values. None of them may move a cursor, turn the direction of a line,
close a list, call somebody with `@`, be a formula, or pass for a command of the CI system. Everything that a command
writes leaves through `say`, `emit_json`, `as_csv` or `logs.tell`; Markdown is made of `code` and `cell`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import click

from reconciler.cli.options import Asked
from reconciler.model.errors import Problem, UsageError
from reconciler.model.printable import printable

__all__ = [
    "annotation",
    "as_csv",
    "as_json",
    "cell",
    "clipped",
    "code",
    "count",
    "emit_csv",
    "emit_json",
    "emit_json_list",
    "fit",
    "fold",
    "no_csv",
    "printable",
    "problem_line",
    "say",
    "wrapped",
]

T = TypeVar("T")

_TICKS = re.compile(r"`+")
_COMMAND = re.compile(r"^(\s*)::")
_UNSHOWN = re.compile(r"[^ -~]")
"""What may be unfit to be printed; all else is plain ASCII."""
_FORMULA = frozenset("=+-@\t\r\n")


def fit(text: str) -> str:
    """Lines that a terminal or a CI log takes for nothing but text."""
    lines = map(printable, text.split("\n"))
    return "\n".join(map(_no_command, lines) if os.environ.get("GITHUB_ACTIONS") == "true" else lines)


def _no_command(line: str) -> str:
    """GitHub's runners take a line that begins with `::`, and `##[` anywhere, for a command to them."""
    return _COMMAND.sub(r"\1: :", line).replace("##[", "# #[")


def say(text: str) -> None:
    """Write results that people read to standard output."""
    click.echo("\n".join(part for line in fit(text).split("\n") for part in wrapped(line)))


def wrapped(line: str, before: str = "", below: str | None = None) -> list[str]:
    """A line as wide as the terminal, broken between words only; into a pipe as it is.

    `before` stands on the first line, and what follows stands `below`, by default a little further in.
    """
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(before) + len(line) <= width:
        return [f"{before}{line}".rstrip()]
    if below is None:
        below = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(
        line,
        max(width, len(before) + 1, len(below) + 1),
        initial_indent=before,
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [before.rstrip()]


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON in which everything that cannot be printed is escaped, as a terminal may show it."""
    return _UNSHOWN.sub(_escape, json.dumps(value, indent=indent, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" or match[0].isprintable() else json.dumps(match[0])[1:-1]


def emit_json(value: Any) -> None:
    """Write one JSON document."""
    click.echo(as_json(value, indent=2))


def emit_json_list(document: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON document whose property `name`, an empty list in `document`, has these items.

    They are encoded as they come, the same way: there may be millions.
    """
    head, here, tail = as_json(document, indent=2).partition(f'\n  "{name}": [')
    click.echo(head + here, nl=False)
    before, after = "\n", ""
    for part in _parts(map(_item, items)):
        click.echo(before + _UNSHOWN.sub(_escape, ",\n".join(part)), nl=False)
        before, after = ",\n", "\n  "
    click.echo(after + tail)


def _item(item: Mapping[str, Any]) -> str:
    """An item of a list in a document, as `json.dumps` would indent it; its own encoder is used where that is fast."""
    fields = ",\n".join(f'      "{key}": {_encoded(value)}' for key, value in item.items())
    return f"    {{\n{fields}\n    }}"


def _encoded(value: Any) -> str:
    if isinstance(value, dict | list) and value:
        return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n      ")
    return _encode(value)


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    """So many items at a time as are worth a writing."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, 500)), [])


def emit_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write CSV, as `as_csv` makes it, as the rows come."""
    click.echo(as_csv(columns, ()), nl=False)
    for part in _parts(rows):
        click.echo(as_csv(part[0], part[1:]), nl=False)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """CSV that a spreadsheet opens without running anything: what looks like a formula is quoted as text.

    Line breaks stay, for a cell may have them; what else cannot be printed does not.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([_cell(text) for text in row] for row in (columns, *rows))
    return out.getvalue()


def _cell(text: str) -> str:
    clean = _UNSHOWN.sub(lambda match: match[0] if match[0] in "\t\r\n" or match[0].isprintable() else "�", text)
    return f"'{clean}" if clean[:1] in _FORMULA or clean.lstrip()[:1] in _FORMULA else clean


def clipped(text: str, width: int) -> str:
    """Printable text of at most `width` characters; what is cut is shown to be."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def code(text: str) -> str:
    """Text as inline code, which Markdown neither formats nor links; its own backticks cannot end it."""
    text = printable(text)
    if not text:
        return "(empty)"
    ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def cell(text: str) -> str:
    """Inline code within a table, which no `|` in it can end; nothing where there is nothing."""
    return code(text).replace("|", "\\|") if text else ""


def fold(title: str, lines: Iterable[str]) -> list[str]:
    """Lines of Markdown behind a title that opens them. The title is ours, never a file's."""
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def problem_line(problem: Problem) -> str:
    """A problem as an item of a Markdown list."""
    where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return f"- {problem.severity} in {code(where)}: {code(problem.message)}"


def annotation(problem: Problem) -> str:
    """A problem as GitHub shows it beside the line in a pull request."""
    place = {"file": problem.file, "line": problem.line}
    given = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in place.items() if value is not None)
    return f"::{problem.severity} {given}::{_escaped(problem.message)}"


def _escaped(text: str, signs: str = "") -> str:
    text = printable(text)
    for sign in f"%{signs}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def no_csv(asked: Asked) -> None:
    """Refuse an output that the command does not have."""
    if asked.output == "csv":
        raise UsageError(
            "--output csv is for status, history, unmanaged, review check and a pass: choose table, json or markdown"
        )
