"""Make text from files safe for its output: a terminal, JSON, CSV, Markdown, a CI log.

Anybody who opens a pull request chooses names and values. None of them may move a cursor, reverse a line, close a list,
mention somebody with `@`, be a formula, or act as a command of the CI system. Everything that a command writes goes
through `echo`, `emit_json`, `as_csv` or `logs.note`; Markdown is made of `code` and `cell`.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TextIO, TypeVar

import click
import msgspec

from reconciler.cli.options import SharedOptions
from reconciler.model.errors import Problem
from reconciler.model.text import printable

T = TypeVar("T")

BATCH_ITEMS = 500

_TICKS = re.compile(r"`+")
_COMMAND = re.compile(r"^(\s*)::")
_UNSHOWN_IN_JSON = re.compile(r"[^\n -~]")
"""Characters that may have to be escaped in JSON, where no text has a line break as it stands."""
_FORMULA = frozenset("=+-@")


def fit(text: str) -> str:
    """Make lines that a terminal or a CI log takes for plain text.

    `::` at the start of a line and `##[` anywhere, which are commands to GitHub's runners, are broken up.
    """
    lines = (_COMMAND.sub(r"\1: :", printable(line)) for line in text.split("\n"))
    return "\n".join(lines).replace("##[", "# #[")


def in_colour(stream: TextIO) -> bool:
    """Whether to write in colour: to a terminal, unless `NO_COLOR` is set (docs/commands.md, "Environment")."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def echo(text: str) -> None:
    """Write results that people read to standard output."""
    click.echo("\n".join(part for line in fit(text).split("\n") for part in wrapped(line)))


def wrapped(line: str, before: str = "", below: str | None = None) -> list[str]:
    """Wrap a line to the terminal's width, between words; in a pipe it stays one line.

    `before` is the prefix of the first line, `below` that of the others, by default a deeper indent.
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
    """Write JSON in which all unprintable characters are escaped; all but ASCII where the output is not UTF-8."""
    text = json.dumps(value, indent=indent, ensure_ascii=not takes_utf8())
    text = text.replace("##[", "#\\u0023[")  # the same text, and no command to GitHub's runners
    return text if text.isascii() and "\x7f" not in text else _UNSHOWN_IN_JSON.sub(_escape, text)


def takes_utf8() -> bool:
    """Whether standard output is written as UTF-8."""
    return codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


def emit_json(value: Any) -> None:
    """Write one JSON document."""
    click.echo(as_json(value, indent=2))


def emit(options: SharedOptions, value: Any, lines: Iterable[str], markdown: Iterable[str] | None = None) -> None:
    """Write a result: as JSON, in Markdown where that differs, or else as these lines."""
    if options.output == "json":
        emit_json(value)
    else:
        echo("\n".join(markdown if options.output == "markdown" and markdown is not None else lines))


def emit_json_list(document: Callable[[], Mapping[str, Any]], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON document whose property `name`, an empty list in `document`, has these items.

    There may be millions: they are encoded one by one, and wait in a temporary file for what stands before them in the
    document, which is asked for once they have gone by. Raises ReconcilerError if no such file can be made.
    """

    def around() -> tuple[str, str]:
        head, here, tail = as_json(document(), indent=2).partition(f'\n  "{name}": [')
        return head + here, tail

    _emit_spooled(items, 2, around)


def emit_json_items(items: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON list, of which there may be millions of items, once all are encoded."""
    _emit_spooled(items, 1, lambda: ("[", "]"))


def _emit_spooled(items: Iterable[Mapping[str, Any]], depth: int, around: Callable[[], tuple[str, str]]) -> None:
    """Write the items of a list at this depth, between what stands around them."""
    from reconciler.review.spool import Spool  # which `--help` and completion do without

    with Spool[str]() as spool:
        for batch in batches(f"{'  ' * depth}{_indented(item, depth)}" for item in items):
            spool.add(",\n".join(batch))
        before, after = around()
        sign = "\n"
        for text in spool:
            click.echo(before + sign + text, nl=False)
            before, sign = "", ",\n"
    click.echo(before + (f"\n{'  ' * (depth - 1)}" if sign != "\n" else "") + after)


def _indented(item: Mapping[str, Any], depth: int) -> str:
    """Encode an item as `as_json` with an indent would at this depth, but by the fast encoder."""
    text = as_json(item)
    try:
        text = msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:  # half of a surrogate pair, which a service sent, or a number that is none
        text = as_json(item, indent=2)
    return text.replace("\n", "\n" + "  " * depth)  # no text has a line break in JSON


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Split items into batches, each written at once."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, BATCH_ITEMS)), [])


def emit_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write CSV like `as_csv`, in batches; a value that is missing or null is an empty cell."""
    click.echo(as_csv(columns, ()), nl=False)
    for batch in batches([str(row.get(name) or "") for name in columns] for row in rows):
        click.echo(as_csv(batch[0], batch[1:]), nl=False)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make CSV that a spreadsheet opens, and a CI logs, without running anything. A row is one line."""
    import csv

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([_cell(text) for text in row] for row in (columns, *rows))
    return out.getvalue()


def _cell(text: str) -> str:
    clean = fit(printable(text))
    return f"'{clean}" if clean.lstrip()[:1] in _FORMULA else clean


def clipped(text: str, width: int) -> str:
    """Make text printable, of at most `width` characters; `…` marks a cut."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def code(text: str) -> str:
    """Make inline code of a text: Markdown neither formats nor links it, and its own backticks cannot end it."""
    text = printable(text)
    if not text:
        return "(empty)"
    ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def cell(text: str) -> str:
    """Make inline code for a cell of a table, which no `|` in it can end; empty for an empty text."""
    return code(text).replace("|", "\\|") if text else ""


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Make rows printable, and align them in columns, two spaces apart."""
    if not rows:
        return []
    rows = [[*map(printable, row)] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def in_words(values: Any) -> str:
    """Write the form's values for a person: `ROLE: admin, TEAM: Design`; empty where there are none."""
    from reconciler.model.base import as_text  # which `--help` does without

    match values:
        case str():
            return values
        case Mapping():
            named = values.keys() == {"name"}
            return in_words(values["name"]) if named else ", ".join(f"{k}: {in_words(v)}" for k, v in values.items())
        case list() | tuple():
            return ", ".join(map(in_words, values))
        case _:
            return "" if values is None else str(as_text(values))


def table_head(names: Iterable[str]) -> list[str]:
    """Make the head of a table in Markdown."""
    names = [*names]
    return [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]


def table_row(cells: Iterable[str]) -> str:
    """Make a row of a table in Markdown."""
    return f"| {' | '.join(map(cell, cells))} |"


def table(names: Collection[str], rows: Iterable[Mapping[str, str | None]]) -> list[str]:
    """Make a table in Markdown, after a blank line; nothing where there are no rows."""
    lines = [table_row(row[name] or "" for name in names) for row in rows]
    return ["", *table_head(names), *lines] if lines else []


def fold(title: str, lines: Iterable[str]) -> list[str]:
    """Fold lines of Markdown under a title, which must not come from a file."""
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def count(number: int, noun: str) -> str:
    """Write a number with its noun: `1 host`, `2 hosts`."""
    return f"{number} {noun if number == 1 else f'{noun}s'}"


def problem_line(problem: Problem) -> str:
    """Write a problem as an item of a Markdown list."""
    where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return f"- {problem.severity} in {code(where)}: {code(problem.message)}"


def annotation(problem: Problem) -> str:
    """Write a problem as an annotation, which GitHub shows beside its line in a pull request."""
    place = {"file": problem.file, "line": problem.line}
    given = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in place.items() if value is not None)
    return f"::{problem.severity} {given}::{_escaped(problem.message)}"


def _escaped(text: str, signs: str = "") -> str:
    text = printable(text)
    for sign in f"%{signs}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
