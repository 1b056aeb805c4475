"""Text that came out of files, made fit for a terminal, for Markdown and for a CI log.

Whoever opens a pull request chooses names and values. None of them may move a cursor, close a list, call somebody with
`@`, or pass for a command of the CI system.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.cli.options import Asked
from reconciler.model.errors import Problem, UsageError

__all__ = ["annotation", "clipped", "code", "count", "fold", "no_csv", "printable"]

_TICKS = re.compile(r"`+")


def printable(text: str) -> str:
    """One line without anything that a terminal would act on: what cannot be printed becomes a blank or `�`."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "�" for char in text)


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


def fold(title: str, lines: Iterable[str]) -> list[str]:
    """Lines of Markdown behind a title that opens them. The title is ours, never a file's."""
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def annotation(problem: Problem) -> str:
    """A problem as GitHub shows it beside the line in a pull request."""
    place = {"file": problem.file, "line": problem.line}
    given = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in place.items() if value is not None)
    return f"::{problem.severity} {given}::{_escaped(problem.message)}"


def _escaped(text: str, signs: str = "") -> str:
    for sign in f"%\r\n{signs}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def no_csv(asked: Asked) -> None:
    """Refuse an output that the command does not have."""
    if asked.output == "csv":
        raise UsageError("--output csv is for status, history and a pass: choose table, json or markdown")
