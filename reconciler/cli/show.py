"""A report as people and programs read it. The first line of a table is the whole story."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import click

from reconciler.cli.logs import tell
from reconciler.cli.options import Asked
from reconciler.cli.text import count, printable
from reconciler.engine.report import Report, Row
from reconciler.model.clock import stamp
from reconciler.model.status import Action, Status
from reconciler.repository.source import WORKTREE

__all__ = ["as_csv", "emit_json", "show_report", "table"]

QUIET = frozenset({Status.PRESENT, Status.DONE, Status.REVOKED})
MANY = 12
"""From so many unchanged rows on, they are folded into one line a group."""

GRANTED = frozenset({Status.PRESENT, Status.DONE})
"""What a table dates: since when it has been so."""

COLUMNS = (
    "hire",
    "email",
    "access",
    "integration",
    "status",
    "action",
    "since",
    "revision",
    "author",
    "checked_at",
    "reason",
)


def show_report(report: Report, asked: Asked, *, by: str = "person") -> None:
    """Write a report in the format that was asked for."""
    match asked.output:
        case "json":
            emit_json(report.as_json())
        case "markdown":
            click.echo(_markdown(report, by, _authors(report, asked)))
        case "csv":
            authors = _authors(report, asked)
            rows = ([_cell(row, name, authors) for name in COLUMNS] for row in report.rows)
            click.echo(as_csv(COLUMNS, rows), nl=False)
            for problem in report.problems:  # whoever's file is set aside may be in no row
                tell(printable(str(problem)))
        case _:
            _table(report, by)


def _authors(report: Report, asked: Asked) -> dict[str, str]:
    """By whom each row's revision was committed: as git has it, and where it has not (a shallow clone), the ledger."""
    from reconciler.cli.ledger import ledger_of
    from reconciler.model.errors import RepositoryError
    from reconciler.repository.source import Checkout

    checkout, found, unknown = Checkout.open(asked.repo), dict[str, str](), set[str]()
    for revision in {row.revision for row in report.rows if row.revision} - {WORKTREE}:
        try:
            found[revision] = checkout.commit(revision).author
        except RepositoryError:
            unknown.add(revision)
    if unknown:
        with ledger_of(asked) as ledger:
            lines = ((line.revision, line.author) for line in ledger.history())
            found |= {revision: author for revision, author in lines if author and revision in unknown}
    return found


def emit_json(value: Any) -> None:
    """Write one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def headline(report: Report) -> str:
    """The whole story in one line."""
    counts = ", ".join(f"{number} {status}" for status, number in report.summary.items())
    if report.dry_run:
        pending = len(report.pending)
        todo = f"; {pending} to do" if pending else "; nothing to do"
    else:
        did = [(report.executed, "executed"), (report.revoked, "revoked"), (report.failures, "failed")]
        told = ", ".join(f"{number} {word}" for number, word in did if number)
        todo = f"; {told} in this pass" if told else ""
    broken = len(report.problems) - (report.refused is not None) - (report.stale is not None)
    wrong = f"; {count(broken, 'problem')} in files" if broken else ""
    at = f" at {report.revision[:12]}" if report.revision else ""
    grants = count(len(report.rows), "grant") if report.rows else "no grants"
    kind, counts = ("dry run", counts or grants) if report.dry_run else (grants, counts)
    refused = f"; {report.refused}" if report.refused is not None else ""
    stale = f"; {report.stale}" if report.stale is not None else ""
    return f"{kind}{at}{counts and ': '}{counts}{todo}{wrong}{refused}{stale}"


def _quiet(row: Row) -> bool:
    return row.status in QUIET and row.action is Action.NONE and not row.changed


def _groups(rows: Iterable[Row], by: str) -> list[tuple[str, list[Row]]]:
    def key(row: Row) -> tuple[str, str]:
        return (row.integration, "") if by == "integration" else (row.hire, row.email)

    grouped = groupby(sorted(rows, key=lambda row: (*key(row), row.hire, row.access)), key=key)
    return [(f"{name} <{email}>" if email else name, list(group)) for (name, email), group in grouped]


def _detail(row: Row) -> str:
    when = f" at {stamp(row.retry_at)}" if row.retry_at and row.action is Action.WAIT else ""
    action = f" → {row.action}{when}" if row.action is not Action.NONE else ""
    since = f" since {row.since:%Y-%m-%d}" if row.since and row.status in GRANTED else ""
    return f"{row.status}{since}{action}"


def _name(row: Row, by: str) -> str:
    """What tells a row from the others of its group."""
    if by == "person":
        return row.access
    return row.hire if row.access == row.integration else f"{row.hire}/{row.access}"


def _table(report: Report, by: str) -> None:
    click.echo(headline(report))
    fold = sum(map(_quiet, report.rows)) > MANY
    for title, rows in _groups(report.rows, by):
        loud = [row for row in rows if not (fold and _quiet(row))]
        quiet = len(rows) - len(loud)
        if not loud:
            continue
        click.echo(f"\n{printable(title)}")
        shown = [(printable(_name(row, by)), _detail(row), printable(row.reason), row) for row in loud]
        width = max(len(name) for name, *_ in shown)
        middle = max(len(detail) for _, detail, *_ in shown)
        for name, detail, reason, row in shown:
            click.echo(f"  {name:<{width}}  {_styled(detail, row):<{middle + _extra(detail, row)}}  {reason}".rstrip())
            for request in row.requests:
                click.echo(f"  {'':<{width}}    {request['method']} {request['url']}")
        if quiet:
            click.echo(f"  and {quiet} as wanted")
    if fold:
        whole = [len(rows) for _, rows in _groups(report.rows, by) if all(map(_quiet, rows))]
        if whole:
            who = count(len(whole), *(("person", "people") if by == "person" else ("integration",)))
            click.echo(f"\n{who} with nothing to tell: {count(sum(whole), 'grant')}, all as wanted")
    if report.problems:
        click.echo("\n" + "\n".join(printable(str(problem)) for problem in report.problems))


def _styled(detail: str, row: Row) -> str:
    colours = {Status.PRESENT: "green", Status.DONE: "green", Status.MISSING: "yellow", Status.FAILED: "red"}
    bad = {Status.UNKNOWN, Status.BLOCKED, Status.INVALID, Status.RETRYING}
    colour = "red" if row.status in bad else colours.get(row.status)
    return click.style(detail, fg=colour) if colour and _colours() else detail


def _extra(detail: str, row: Row) -> int:
    return len(_styled(detail, row)) - len(detail)


def _colours() -> bool:
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _markdown(report: Report, by: str, authors: Mapping[str, str]) -> str:
    lines = [f"**{headline(report)}**"]
    names = ("access" if by == "person" else "hire", "status", "action", "since", "revision", "author", "reason")
    for title, rows in _groups(report.rows, by):
        lines += ["", f"### {_escaped(title)}", ""]
        lines += ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
        for row in rows:
            rest = [_cell(row, name, authors)[: 12 if name == "revision" else None] for name in names[1:]]
            lines.append("| " + " | ".join(map(_escaped, [_name(row, by), *rest])) + " |")
    if report.problems:
        lines += ["", "### problems", "", *(f"- {_escaped(str(problem))}" for problem in report.problems)]
    return "\n".join(lines)


def _cell(row: Row, name: str, authors: Mapping[str, str]) -> str:
    value = authors.get(row.revision or "") if name == "author" else row.as_json()[name]
    return "" if value is None else str(value)


def _escaped(text: str) -> str:
    for sign in "\\`*_{}[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return printable(text)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """CSV that a spreadsheet opens without running anything: what looks like a formula is quoted as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(
        [f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else cell for cell in row] for row in rows
    )
    return out.getvalue()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns, two blanks apart."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
