"""A report in a terminal or a pipe: the summary, what is to be done or needs a person, and the rest as a count."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import click

from reconciler.cli.text import as_json, count, fit, printable, wrapped
from reconciler.model.clock import stamp
from reconciler.model.report import Report, Row
from reconciler.model.status import FAULTS, Action, Status

__all__ = ["columns", "grouped", "headline", "name_in", "page", "table_of"]

MANY = 12
"""Up to so many rows, all are shown, with what would be sent; beyond, those that something is to be done about."""

NARROW = 30
"""Columns that a reason needs beside what stands before it; else it has a line of its own."""


def headline(report: Report, refused: str | None = None) -> str:
    """The whole story in one line. `refused` says what is not acted on, as the medium quotes it."""
    counts = ", ".join(f"{number} {status}" for status, number in report.summary.items())
    if report.dry_run:
        pending = len(report.pending)
        todo = f"; {pending} to do" if pending else "; nothing to do"
    else:
        did = [(report.executed, "executed"), (report.revoked, "revoked")]
        told = [f"{number} {word}" for number, word in did if number]
        told += [f"{count(report.failures, 'attempt')} failed"] if report.failures else []
        todo = f"; {', '.join(told)} in this pass" if told else ""
    broken = len(report.problems) - (report.refused is not None)
    wrong = f"; {count(broken, 'problem')} in files" if broken else ""
    at = f" at {report.revision[:12]}" if report.revision else ""
    grants = count(len(report.rows), "grant") if report.rows else "no grants"
    kind, counts = ("dry run", counts or grants) if report.dry_run else (grants, counts)
    behind = f"; {refused or report.refused}" if report.refused is not None else ""
    return f"{kind}{at}{counts and ': '}{counts}{todo}{wrong}{behind}"


def summary(report: Report) -> Iterator[str]:
    """What needs a person, what the guard holds, and how each integration stands."""
    if needs := Counter(what for row in report.rows if (what := _needs(row)) is not None):
        yield f"needs a person: {', '.join(f'{number} {what}' for what, number in needs.most_common())}"
    if held := Counter(row.integration for row in report.rows if row.guarded):
        yield f"held by the guard: {', '.join(f'{number} of {printable(name)}' for name, number in held.items())}"
    if strangers := {name: number for name, number in report.unmanaged.items() if number}:
        where = ", ".join(f"{number} of {printable(name)}" for name, number in strangers.items())
        yield f"{count(sum(strangers.values()), 'account')} that git does not know: {where}"
    names = sorted({row.integration for row in report.rows})
    for name in names if len(names) > 1 else ():
        counts = Counter(row.status for row in report.rows if row.integration == name)
        told = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        yield f"{printable(name)}: {told}"


def _needs(row: Row) -> str | None:
    """What a person is needed for, in words; None where nobody is. What the guard holds is told on its own."""
    if row.guarded or row.action is not Action.NONE:
        return None
    if row.status in FAULTS:
        return str(row.status)
    match row.status:
        case Status.MISSING:
            return "gone at the service (left as it is)"
        case Status.ORPHANED:
            return "orphaned (no longer in git, still there)"
        case Status.DIFFERS:
            return "not as git wants it"
        case _:
            return None


def grouped(rows: Iterable[Row], by: str) -> list[tuple[str, list[Row]]]:
    """Rows by person or by integration, each group with its title."""

    def key(row: Row) -> tuple[str, str]:
        return (row.integration, "") if by == "integration" else (row.hire, row.email)

    groups = groupby(sorted(rows, key=lambda row: (*key(row), row.hire, row.access)), key=key)
    return [(f"{name} <{email}>" if email else name, list(group)) for (name, email), group in groups]


def name_in(row: Row, by: str) -> str:
    """What tells a row from the others of its group."""
    if by == "person":
        return row.access
    return row.hire if row.access == row.integration else f"{row.hire}/{row.access}"


def table_of(report: Report, shown: list[Row], *, by: str, verbose: bool, folds: bool) -> Iterator[str]:
    """The lines. Of many rows, with `folds`, those that nothing is to be done about are counted."""
    yield from wrapped(printable(headline(report)))
    for line in summary(report):
        yield from wrapped(line)
    loud = [row for row in shown if not folds or len(shown) <= MANY or _loud(row)]
    in_full = len(loud) <= MANY or verbose
    if in_full or by == "integration":
        for title, rows in grouped(loud, by):
            yield from ("", printable(title))
            yield from _rows([(f"  {printable(name_in(row, by))}", row) for row in rows], in_full, verbose)
    elif loud:
        yield ""
        ordered = [row for _, rows in grouped(loud, by) for row in rows]
        yield from _rows([(printable(f"{row.hire}/{row.access}"), row) for row in ordered], in_full, verbose)
    if quiet := Counter(row.status for row in shown) - Counter(row.status for row in loud):
        told = ", ".join(f"{quiet[status]} {status}" for status in Status if quiet[status])
        yield ""
        yield from wrapped(f"nothing to do or to decide about {count(quiet.total(), 'grant')}: {told}")
    if report.problems:
        yield ""
        for problem in report.problems:
            yield from wrapped(printable(str(problem)))


def _loud(row: Row) -> bool:
    return row.guarded or _needs(row) is not None or row.action not in (Action.NONE, Action.WAIT)


def _rows(named: Sequence[tuple[str, Row]], in_full: bool, verbose: bool) -> Iterator[str]:  # noqa: FBT001
    width = max((len(name) for name, _ in named), default=0)
    middle = max((len(_detail(row)) for _, row in named), default=0)
    for name, row in named:
        detail = _detail(row)
        lines = list(_wrapped(f"{name:<{width}}  {detail:<{middle}}  ", row.reason, f"{'':<{width}}    "))
        if lines and (colour := _colour(row)):  # the name and the status stand on the first line, whatever follows
            start = width + 2
            lines[0] = lines[0][:start] + click.style(detail, fg=colour) + lines[0][start + len(detail) :]
        yield from lines
        for request in row.requests if in_full else ():
            yield f"{'':<{width}}    {request['method']} {printable(request['url'])}"
            if verbose and request["body"] is not None:
                below = " " * (width + 6)
                yield from wrapped(as_json(request["body"]), below, below)


def _detail(row: Row) -> str:
    when = f" at {stamp(row.retry_at)}" if row.retry_at and row.action is Action.WAIT else ""
    action = f" → {row.action}{when}" if row.action is not Action.NONE else ""
    since = f" since {row.since:%Y-%m-%d}" if row.since and row.status.granted else ""
    return f"{row.status}{since}{action}"


def _wrapped(before: str, text: str, below: str) -> list[str]:
    """A row whose last column is wrapped below itself; where that is too narrow a column, it has lines of its own."""
    narrow = shutil.get_terminal_size().columns - len(before) < NARROW
    if not narrow or not sys.stdout.isatty():
        return wrapped(printable(text), before, " " * len(before))
    return [before.rstrip(), *wrapped(printable(text), below, below)]


def _colour(row: Row) -> str | None:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return None
    colours = {Status.PRESENT: "green", Status.DONE: "green", Status.MISSING: "yellow"}
    bad = row.status in FAULTS or row.status is Status.RETRYING
    return "red" if bad else colours.get(row.status)


def page(lines: Iterable[str], *, paged: bool = True) -> None:
    """Write lines; at a terminal that they do not fit in, through the pager where they are `paged`."""
    written = [part for line in lines for part in (wrapped(line) if "\x1b" not in line else [line])]
    text = "\n".join(written) + "\n"
    if paged and sys.stdout.isatty() and sys.stdin.isatty() and len(written) >= shutil.get_terminal_size().lines:
        os.environ.setdefault("LESS", "FRX")  # as git has it
        click.echo_via_pager(text)
    else:
        click.echo(text if sys.stdout.isatty() else fit(text), nl=False)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns, two blanks apart."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
