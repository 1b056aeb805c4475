"""`reconcile status --at`: who had what at a time that is over."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reconciler.cli.context import context_in_force, files_in_force, names_in
from reconciler.cli.options import Filter, SharedOptions
from reconciler.cli.output.logs import note
from reconciler.cli.output.show import show_report
from reconciler.cli.output.text import count, in_words
from reconciler.cli.suggestions import suggest_from_ledger
from reconciler.model.attribution import Source
from reconciler.model.clock import stamp
from reconciler.model.errors import Problem, Severity, UsageError
from reconciler.model.hire import moment
from reconciler.model.report import Report, Row
from reconciler.model.value import replace
from reconciler.review.past import replayed

if TYPE_CHECKING:
    from reconciler.ledger.reader import LedgerReader

__all__ = ["show_past"]

VOUCHED = {
    Source.FORGE: ", as the forge says",
    Source.SIGNATURE: ", who signed it",
    Source.CLAIMED: ", not proven: only the commit's text says so",
}
"""What vouches for an approval."""

A_SECOND = timedelta(seconds=1)
"""Times are shown in whole seconds: what happened in that second has happened by then."""


def show_past(
    options: SharedOptions,
    when: str,
    hires: Collection[str],
    integrations: Collection[str],
    *,
    by: str,
    only: Filter,
) -> int:
    """Show who had what at a time, from the history alone; return 1 where the history does not reach back so far."""
    if only.only_changes:
        raise UsageError("--only-changes is about what is to be done, --at about what is over: leave one out")
    context, force = context_in_force(options)
    at = _moment(when, force.settings.timezone)
    with context.state(force.settings, force.tree).reader() as ledger:
        began, erased = ledger.history.begin()
        report = Report(None, dry_run=False, at=at, branch=force.branch)
        if began is None or at + A_SECOND <= began:
            since = "is empty" if began is None else f"begins at {stamp(began)}"
            report.problems.append(Problem("history", None, f"it {since}: nothing is known of {stamp(at)}"))
        else:
            report.rows, report.revision = _rows(ledger, at, hires, integrations)
            if options.output == "csv":
                names = names_in(files_in_force(options), {row.hire for row in report.rows})
                report.rows = [replace(row, name=names.get(row.hire, row.name)) for row in report.rows]
            report.problems += _unknown(report.rows, erased)
        if not report.rows and (hires or integrations):
            meant = suggest_from_ledger(ledger, *hires, *integrations)
            note(f"the history tells of no access of {', '.join((*hires, *integrations))} then{meant}")
    if options.output in ("table", "markdown"):
        report.rows = [replace(row, reason=_sentence(row, values=options.output == "table")) for row in report.rows]
    show_report(report, options, by=by, only=only, paged=True)
    return 1 if began is None or at + A_SECOND <= began else 0


def _moment(when: str, timezone: str) -> datetime:
    try:
        at = moment(when, timezone)
    except ValueError:
        how = "write a date (2026-12-01), or a time (2026-12-01T18:00 in `timezone`, or with Z or an offset)"
        raise UsageError(f"--at {when}: {how}") from None
    if at > datetime.now(UTC):
        raise UsageError(f"--at {when}: that lies ahead; `reconcile --dry-run` says what will be done")
    return at


def _rows(
    ledger: LedgerReader, at: datetime, hires: Collection[str], integrations: Collection[str]
) -> tuple[list[Row], str | None]:
    """Return what there was, and the revision that was acted on then."""
    found, revision = replayed(ledger.history.lines(until=at + A_SECOND))
    shown = {
        key: past
        for key, past in found.items()
        if past.shown and (not hires or key.hire in hires) and (not integrations or past.integration in integrations)
    }
    people = {record.key: record for record in ledger.grants.records({key.hire for key in shown})} if shown else {}
    rows = []
    for key in sorted(shown):
        record = people.get(key)
        now = None if record is None else Row.of(record)
        rows.append(shown[key].row(key, email=now.email if now else "", name=now.name if now else ""))
    return rows, revision


def _unknown(rows: list[Row], erased: int) -> Iterator[Problem]:
    """Say what the history does not have."""
    without = sum(row.values is None for row in rows)
    if without:
        what = f"of {count(without, 'grant')} the values are not known: an older release, which wrote none, made it"
        yield Problem("history", None, what, Severity.WARNING)
    if ungiven := sum(row.given is None for row in rows):
        what = f"of {count(ungiven, 'grant')} it is not known who gave it: no line up to then says so"
        yield Problem("history", None, what, Severity.WARNING)
    if erased:
        what = f"{count(erased, 'line')} of people who were forgotten are erased: what they had is not shown"
        yield Problem("history", None, what, Severity.WARNING)


def _sentence(row: Row, *, values: bool) -> str:
    """Say with which values it was, who gave it, and what happened last."""
    had = ["values not known" if row.values is None else in_words(row.values)] if values and row.values != {} else []
    given = row.given
    by = "not known who gave it" if given is None else f"given in commit {given.granted_in[:12]} by {given.author}"
    approved = (
        [f"approved by {approval.name}{VOUCHED[approval.source]}" for approval in given.approvals] if given else []
    )
    return "; ".join([*had, ", ".join([by, *approved]), f"last: {row.reason}"])
