"""Show a report as a table, JSON, Markdown or CSV. The first line of a table or of Markdown sums it up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from operator import attrgetter

from reconciler.cli.options import PENDING, Filter, SharedOptions
from reconciler.cli.output.logs import note
from reconciler.cli.output.table import grouped, headline, name_in, page, summary, table_of
from reconciler.cli.output.text import (
    as_json,
    batches,
    cell,
    code,
    echo,
    emit_csv,
    emit_json_list,
    in_words,
    problem_line,
    table_head,
)
from reconciler.model.report import Report, Row

__all__ = ["exit_code", "show_report"]


COLUMNS = (
    "hire",
    "name",
    "email",
    "access",
    "integration",
    "values",
    "status",
    "action",
    "since",
    "granted_in",
    "author",
    "approved_by",
    "checked_at",
    "reason",
    "source",
    "due_at",
    "done_at",
    "end",
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
    by: str = "person",
    only: Filter = ALL_ROWS,
    paged: bool = False,
) -> None:
    """Write a report in the chosen format. `only` chooses the rows; counts are of all rows.

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
            _show_markdown(report, shown, by)
        case "csv":
            emit_csv(COLUMNS, map(_cells, shown))
            for problem in report.problems:  # a hire whose file is set aside may have no row
                note(str(problem), str(problem.severity))
        case _:
            folds = not only.statuses and report.at is None
            page(table_of(report, shown, by=by, verbose=options.verbose, folds=folds), paged=paged)


def _cells(row: Row) -> list[str]:
    values = {
        **row.as_json(),
        "name": row.name,
        "approved_by": ", ".join(row.given.approved_by if row.given is not None else ()),
    }
    values["values"] = as_json(values["values"]) if values["values"] else ""
    return ["" if values[name] is None else str(values[name]) for name in COLUMNS]


def _show_markdown(report: Report, rows: Iterable[Row], by: str) -> None:
    """Write Markdown. Its tables wait in temporary files for what stands before them, and for those before them."""
    from reconciler.review.spool import Spool

    with ExitStack() as stack:
        spools: dict[str, Spool[list[str]]] = {}
        for batch in batches(_sections(rows, by)):
            waiting: dict[str, list[str]] = {}
            for title, head, lines in batch:
                table = "" if by == "person" else title  # the tables of people come one after another
                first = table not in spools
                if first:
                    spools[table] = stack.enter_context(Spool())
                waiting.setdefault(table, []).extend([*(head if first or by == "person" else ()), *lines])
            for table, found in waiting.items():
                spools[table].add(found)
        echo(f"**{headline(report, code(str(report.refused)))}**")
        if report.at is None and (summed_up := list(summary(report, code))):
            echo("\n".join(("", *(f"- {line}" for line in summed_up))))
        for table in sorted(spools):
            for found in spools[table]:
                echo("\n".join(found))
    if report.problems:
        echo("\n".join(("", "### problems", "", *map(problem_line, report.problems))))


def _sections(rows: Iterable[Row], by: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Make the title, the head and the lines of a table for each person, or for each integration of a person."""
    names = ("access" if by == "person" else "hire", *MARKDOWN_COLUMNS)
    for _, of_hire in groupby(rows, key=attrgetter("hire")):
        for title, group in grouped(of_hire, by):
            yield title, ["", f"### {code(title)}", "", *table_head(names)], [_line(row, by) for row in group]


def _line(row: Row, by: str) -> str:
    values = dict(zip(COLUMNS, _cells(row), strict=True))
    ours = [cell(in_words(row.values)), values["status"], values["action"], values["since"], cell(values["reason"])]
    return "| " + " | ".join([cell(name_in(row, by)), *ours]) + " |"
