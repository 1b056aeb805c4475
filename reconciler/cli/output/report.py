"""Show a report as a table, JSON, Markdown or CSV. The first line of a table or of Markdown sums it up.

A table has the rows that need something, and a count of the rest.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

import click

from reconciler.cli.options import PENDING, Filter, SharedOptions
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import (
    as_json,
    cell,
    code,
    columns,
    count,
    echo,
    emit_csv,
    emit_json_list,
    fit,
    in_colour,
    in_words,
    problem_line,
    table_head,
    wrapped,
)
from reconciler.model.clock import stamp
from reconciler.model.report import Report, Row
from reconciler.model.status import FAULTS, Action, Status
from reconciler.model.text import described, printable
from reconciler.model.value import replace

MAX_FULL_ROWS = 12
"""The most rows to show in full, with their requests; of more, only those that need something are shown."""

MIN_REASON_WIDTH = 30
"""The fewest characters for a reason beside its row; if there are fewer, it is written below."""


def _headline(report: Report, refused: str | None = None) -> str:
    """Sum up a report in one line. `refused` is the refused commit, quoted for the medium."""
    tally = report.tally
    counts = ", ".join(f"{number} {status}" for status, number in tally.by_status.items())
    if report.dry_run:
        todo = f"; {tally.pending} to do" if tally.pending else "; nothing to do"
    else:
        did = [(report.executed, "executed"), (report.revoked, "revoked")]
        parts = [f"{number} {word}" for number, word in did if number]
        parts += [f"{count(report.failures, 'attempt')} failed"] if report.failures else []
        todo = f"; {', '.join(parts)} in this pass" if parts else ""
    broken = len(report.problems) - (report.refused is not None)
    wrong = f"; {count(broken, 'problem')} in files" if broken else ""
    at = f" at {report.revision[:12]}" if report.revision else ""
    grants = count(tally.grants, "grant") if tally.grants else "no grants"
    when = f"{stamp(report.at)}: " if report.at is not None else ""
    kind, counts = ("dry run", counts or grants) if report.dry_run else (grants, counts)
    behind = f"; {refused or report.refused}" if report.refused is not None else ""
    return f"{when}{kind}{at}{counts and ': '}{counts}{todo}{wrong}{behind}"


def summary(report: Report, named: Callable[[str], str] = printable) -> Iterator[str]:
    """Sum up what needs a person, what the guard holds, and each integration, whose name `named` quotes."""
    tally = report.tally
    if report.branch and not report.dry_run:
        yield f"branch: {named(report.branch)}"
    if needs := Counter({what: number for status, number in tally.left.items() if (what := _need(status)) is not None}):
        yield f"needs a person: {', '.join(f'{number} {what}' for what, number in needs.most_common())}"
    if held := tally.guarded:
        yield f"held by the guard: {', '.join(f'{number} of {named(name)}' for name, number in held.items())}"
    if strangers := {name: number for name, number in report.unmanaged.items() if number}:
        where = ", ".join(f"{number} of {named(name)}" for name, number in strangers.items())
        yield f"{count(sum(strangers.values()), 'account')} that git does not know: {where}"
    names = sorted({name for name, _ in tally.statuses})
    for name in names if len(names) > 1 else ():
        parts = (f"{number} {status}" for status in Status if (number := tally.statuses[name, status]))
        yield f"{named(name)}: {', '.join(parts)}"


def _need(status: Status) -> str | None:
    """Why a person is needed for a status about which nothing is done; None if no person is needed."""
    if status in FAULTS:
        return str(status)
    match status:
        case Status.MISSING:
            return "gone at the service (left as it is)"
        case Status.ORPHANED:
            return "orphaned (no longer wanted, still there)"
        case Status.DIFFERS:
            return "not as git wants it"
        case _:
            return None


def _grouped(rows: Iterable[Row], by: str) -> list[tuple[str, list[Row]]]:
    """Group rows by person or by integration, each group with its title."""

    def key(row: Row) -> tuple[str, str]:
        return (row.integration, "") if by == "integration" else (row.hire, row.email)

    groups = groupby(sorted(rows, key=lambda row: (*key(row), row.hire, row.access)), key=key)
    return [(f"{name} <{email}>" if email else name, list(group)) for (name, email), group in groups]


def _name_in(row: Row, by: str) -> str:
    if by == "person":
        return row.access
    return row.hire if row.access == row.integration else f"{row.hire}/{row.access}"


def _table_of(report: Report, shown: Iterable[Row], *, by: str, verbose: bool, folds: bool) -> Iterator[str]:
    """Write the table. With `folds`, many rows are shown only as far as they need something; the rest is counted."""
    loud, quiet = _sorted_out(shown, folds=folds, verbose=verbose)
    yield from wrapped(printable(_headline(report)))
    for line in summary(report) if report.at is None else ():
        yield from wrapped(line)
    in_full = len(loud) <= MAX_FULL_ROWS or verbose
    if in_full or by == "integration":
        for title, rows in _grouped(loud, by):
            yield from ("", printable(title))
            values = [printable(in_words(row.values)) if by == "integration" else "" for row in rows]
            names = columns([[f"  {printable(_name_in(row, by))}", has] for row, has in zip(rows, values, strict=True)])
            yield from _rows(list(zip(names, rows, strict=True)), in_full, verbose)
    elif loud:
        yield ""
        ordered = [row for _, rows in _grouped(loud, by) for row in rows]
        yield from _rows([(printable(f"{row.hire}/{row.access}"), row) for row in ordered], in_full, verbose)
    if quiet:
        parts = ", ".join(f"{quiet[status]} {status}" for status in Status if quiet[status])
        yield ""
        yield from wrapped(f"nothing to do or to decide about {count(quiet.total(), 'grant')}: {parts}")
    if report.problems:
        yield ""
        for problem in report.problems:
            yield from wrapped(printable(str(problem)))


def _sorted_out(rows: Iterable[Row], *, folds: bool, verbose: bool) -> tuple[list[Row], Counter[Status]]:
    """Split rows into those that are shown and a count of the others, which are not kept.

    Nor are the requests of more rows than are shown in full.
    """
    first: list[Row] = []
    loud: list[Row] = []
    quiet: Counter[Status] = Counter()
    for number, row in enumerate(rows, 1):
        if number <= MAX_FULL_ROWS:
            first.append(row)
        if not folds or _is_open(row):
            in_full = len(loud) < MAX_FULL_ROWS or verbose
            loud.append(row if in_full else replace(row, asks=tuple))
        else:
            quiet[row.status] += 1
    few = len(loud) + quiet.total() <= MAX_FULL_ROWS
    return (first, Counter()) if few else (loud, quiet)


def _is_open(row: Row) -> bool:
    """Whether a row needs something, from a pass or a person."""
    if row.guarded or row.action not in (Action.NONE, Action.WAIT):
        return True
    return row.action is Action.NONE and _need(row.status) is not None


def _rows(named: Sequence[tuple[str, Row]], in_full: bool, verbose: bool) -> Iterator[str]:  # noqa: FBT001
    width = max((len(name) for name, _ in named), default=0)
    middle = max((len(_detail(row)) for _, row in named), default=0)
    for name, row in named:
        detail = _detail(row)
        reason = "" if row.reason == row.status else row.reason
        lines = list(beside(f"{name:<{width}}  {detail:<{middle}}  ", reason, f"{'':<{width}}    "))
        if lines and (colour := _colour(row)):  # the name and the status are on the first line
            start = width + 2
            lines[0] = lines[0][:start] + click.style(detail, fg=colour) + lines[0][start + len(detail) :]
        yield from lines
        for request in row.requests if in_full else ():
            yield f"{'':<{width}}    {printable(described(request['method'], request['url']))}"
            if verbose and request["body"] is not None:
                below = " " * (width + 6)
                yield from wrapped(as_json(request["body"]), below, below)


def _detail(row: Row) -> str:
    when = f" at {stamp(row.retry_at)}" if row.retry_at and row.action is Action.WAIT else ""
    action = f" → {row.action}{when}" if row.action is not Action.NONE else ""
    since = f" since {row.since:%Y-%m-%d}" if row.since and row.status.granted else ""
    if row.status is Status.REVOKED and row.done_at is not None:
        since = f" on {row.done_at:%Y-%m-%d}"
    ends = f", ends {stamp(row.until)}" if row.until and not row.leaves else ""
    return f"{row.status}{since}{action}{ends}"


def beside(before: str, text: str, below: str) -> list[str]:
    """Wrap the last column of a row within the column, or below the row if the column is too narrow."""
    narrow = shutil.get_terminal_size().columns - len(before) < MIN_REASON_WIDTH
    if not narrow or not sys.stdout.isatty():
        return wrapped(printable(text), before, " " * len(before))
    return [before.rstrip(), *wrapped(printable(text), below, below)]


def _colour(row: Row) -> str | None:
    if not in_colour(sys.stdout):
        return None
    colours = {Status.PRESENT: "green", Status.DONE: "green", Status.MISSING: "yellow"}
    bad = row.status in FAULTS or row.status is Status.RETRYING
    return "red" if bad else colours.get(row.status)


def page(lines: Iterable[str], *, paged: bool = True) -> None:
    """Write lines; with `paged`, through the pager if they do not fit the terminal."""
    written = [part for line in lines for part in (wrapped(line) if "\x1b" not in line else [line])]
    text = "\n".join(written) + "\n"
    if paged and sys.stdout.isatty() and sys.stdin.isatty() and len(written) >= shutil.get_terminal_size().lines:
        os.environ.setdefault("LESS", "FRX")  # like git
        click.echo_via_pager(text)
    else:
        click.echo(text if sys.stdout.isatty() else fit(text), nl=False)


COLUMNS = (
    *("hire", "name", "email", "access", "integration", "values", "status", "action", "since"),
    *("granted_in", "author", "approved_by", "checked_at", "reason", "source"),
    *("due_at", "done_at", "end"),
)
"""The columns of a CSV; scripts and spreadsheets depend on them."""

MARKDOWN_COLUMNS = ("values", "status", "action", "since", "reason")
"""The columns of a Markdown table after the one that names the row."""

ALL_ROWS = Filter()


def exit_code(report: Report, *, detailed: bool) -> int:
    """Return the exit code of a pass (docs/commands.md, "Exit codes")."""
    if report.wrong:
        return 1
    return PENDING if detailed and report.tally.unfinished else 0


def show_report(
    report: Report,
    options: SharedOptions,
    *,
    rows: Iterable[Row] | None = None,
    only: Filter = ALL_ROWS,
    paged: bool = False,
) -> None:
    """Write a report in the chosen format. `only` chooses the rows, by status and action; counts are of all rows.

    `rows` are read one after another, hire by hire, in place of the report's own, and none is kept that is not needed
    again: a table keeps those that are not folded, for its columns' widths.
    With `paged`, a long table goes through the pager at a terminal.
    """
    counted = report.counted(report.rows if rows is None else rows)
    shown = (row for row in counted if only.shows(row.status, row.action))
    match options.output:
        case "json":
            emit_json_list(lambda: report.as_json(()), "grants", (row.as_json() for row in shown))
        case "markdown":
            _show_markdown(report, shown, only.by)
        case "csv":
            emit_csv(COLUMNS, map(_cells, shown))
            for problem in report.problems:  # a hire whose file is set aside may have no row
                note(str(problem), str(problem.severity))
        case _:
            folds = not only.statuses and report.at is None
            page(_table_of(report, shown, by=only.by, verbose=options.verbose, folds=folds), paged=paged)


def _cells(row: Row) -> dict[str, Any]:
    values = {
        **row.as_json(),
        "name": row.name,
        "approved_by": ", ".join(row.given.approved_by if row.given is not None else ()),
    }
    values["values"] = as_json(values["values"]) if values["values"] else ""
    return values


def _show_markdown(report: Report, rows: Iterable[Row], by: str) -> None:
    """Write Markdown. Its tables wait in temporary files for what stands before them, and for those before them."""
    from reconciler.review.spool import Spool

    with ExitStack() as stack:
        spools: dict[str, Spool[list[str]]] = {}
        names = ("access" if by == "person" else "hire", *MARKDOWN_COLUMNS)
        of_hires = (of_hire for _, of_hire in groupby(rows, key=attrgetter("hire")))
        for title, group in chain.from_iterable(_grouped(of_hire, by) for of_hire in of_hires):
            table = "" if by == "person" else title  # the tables of people come one after another
            begins = by == "person" or table not in spools
            if table not in spools:
                spools[table] = stack.enter_context(Spool())
            head = ["", f"### {code(title)}", "", *table_head(names)] if begins else []
            spools[table].add([*head, *(_line(row, by) for row in group)])
        echo(f"**{_headline(report, code(str(report.refused)))}**")
        if report.at is None and (summed_up := list(summary(report, code))):
            echo("\n".join(("", *(f"- {line}" for line in summed_up))))
        for table in sorted(spools):
            for found in spools[table]:
                echo("\n".join(found))
    if report.problems:
        echo("\n".join(("", "### problems", "", *map(problem_line, report.problems))))


def _line(row: Row, by: str) -> str:
    said = [row.status, row.action, stamp(row.since) or ""]
    return "| " + " | ".join([cell(_name_in(row, by)), cell(in_words(row.values)), *said, cell(row.reason)]) + " |"
