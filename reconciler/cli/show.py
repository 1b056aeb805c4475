"""Show a report as a table, JSON, Markdown or CSV. The first line of a table or of Markdown sums it up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.cli.exit_codes import PENDING
from reconciler.cli.logs import note
from reconciler.cli.options import Filter, SharedOptions
from reconciler.cli.table import grouped, headline, name_in, page, summary, table_of
from reconciler.cli.text import as_json, cell, code, echo, emit_csv, emit_json_list, problem_line
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

    `rows` are read one after another in place of the report's own, and none is kept that is not needed again: Markdown
    keeps all, whose groups come in another order, and a table those that are not folded, for its columns' widths.
    With `paged`, a long table goes through the pager at a terminal.
    """
    counted = report.counted(report.rows if rows is None else rows)
    shown = (row for row in counted if only.shows(row.status, row.action))
    match options.output:
        case "json":
            emit_json_list(lambda: report.as_json(()), "grants", (row.as_json() for row in shown))
        case "markdown":
            echo("\n".join(_markdown(report, list(shown), by)))
        case "csv":
            emit_csv(COLUMNS, map(_cells, shown))
            for problem in report.problems:  # a hire whose file is set aside may have no row
                note(str(problem), str(problem.severity))
        case _:
            page(table_of(report, shown, by=by, verbose=options.verbose, folds=not only.statuses), paged=paged)


def _cells(row: Row) -> list[str]:
    values = {
        **row.as_json(),
        "name": row.name,
        "approved_by": ", ".join(row.given.approved_by if row.given is not None else ()),
    }
    values["values"] = as_json(values["values"]) if values["values"] else ""
    return ["" if values[name] is None else str(values[name]) for name in COLUMNS]


def _markdown(report: Report, rows: list[Row], by: str) -> Iterator[str]:
    yield f"**{headline(report, code(str(report.refused)))}**"
    if summed_up := list(summary(report, code)):
        yield from ("", *(f"- {line}" for line in summed_up))
    names = ("access" if by == "person" else "hire", *MARKDOWN_COLUMNS)
    for title, group in grouped(rows, by):
        yield from ("", f"### {code(title)}", "")
        yield "| " + " | ".join(names) + " |"
        yield "| " + " | ".join("---" for _ in names) + " |"
        for row in group:
            values = dict(zip(COLUMNS, _cells(row), strict=True))
            ours = [cell(values["values"]), values["status"], values["action"], values["since"], cell(values["reason"])]
            yield "| " + " | ".join([cell(name_in(row, by)), *ours]) + " |"
    if report.problems:
        yield from ("", "### problems", "", *map(problem_line, report.problems))
