"""`reconcile status`: show the ledger, or who had what at a time that is over."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.context import Here, names_in, suggest_from_ledger
from reconciler.cli.options import Filter, SharedOptions, as_given, filters, of_hires, of_integrations, option, shared
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import batches, count, in_words
from reconciler.model.clock import first_moment, stamp
from reconciler.model.errors import Problem, SecretsError, Severity, UsageError
from reconciler.model.revision_status import Untrusted
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.engine.context import Revision
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.grant import Record
    from reconciler.model.report import Row
    from reconciler.repository.git.trees import Tree


@click.command()
@of_hires
@of_integrations
@option("--by", type=click.Choice(["person", "integration"]), default="person", help="Group rows by this.")
@option("--at", "when", metavar="WHEN", help="Who had what then: a date (its begin), or 2026-12-01T18:00.")
@filters
@shared(tolerant=True)
def status(options: SharedOptions, /, *, when: str | None, **chosen: Any) -> int:
    """Show the ledger: every grant, its status, attempts, retry time and last error.

    Sends no request and creates no state. Exits with 1 if a grant is failed, unknown, blocked or invalid, if the last
    pass found an error in a file, or if new commits were not applied for `fail_stale`.
    """
    from reconciler.cli.output.report import exit_code, show_report
    from reconciler.daemon.freshness import clones, stale
    from reconciler.daemon.hooked import hooks_of
    from reconciler.engine.run.accepted import refused
    from reconciler.engine.trust import lost
    from reconciler.model.last_pass import LAST, LastPass
    from reconciler.model.report import Report
    from reconciler.repository.git.checkout import ignored

    only = Filter(**chosen)
    if when is not None:
        return _show_past(options, when, only)
    here = Here.of(options)
    force = here.force
    with force.location.reader() as ledger:
        noted = ledger.notes.get(LAST)
        last = LastPass.read(noted)
        report = Report(last.revision, dry_run=False, problems=[*last.problems])
        report.branch = force.branch
        report.ignored = [] if force.branch is None else ignored(here.context.checkout, force.branch)
        for sentence in report.ignored:
            note(sentence)
        report.refuse(force.refused or refused(ledger) or _without_folder(force.tree))
        report.outdate(stale(ledger))
        report.seal(_sealing_fault(force, ledger))
        report.seal(loss := lost(force) if noted is None else None)
        told = clones(ledger)
        for member in (each for each in ledger.members() if each.daemon):
            problem = told[member.name].problem if member.name in told else None
            report.members.append({**member.as_json(), "problem": problem})
            if problem is not None:
                note(f"member {member.name} takes over no new commit: {problem}")
        for each in (hooked := hooks_of(ledger)):
            missed = f"; {each.found} was found without one at {stamp(each.missed_at)}" if each.missed_at else ""
            note(f"the hook {each.hook} last came at {stamp(each.at)}{missed}")
        report.hooks = [each.as_json() for each in hooked]
        rows = rows_of(options.output, here, ledger, only.hires, only.integrations)
        first = next(rows, None)
        if first is None and only.names:
            meant = suggest_from_ledger(ledger, *only.names)
            note(f"the ledger has no grant of {', '.join(only.names)}; `reconcile validate` reads the files{meant}")
        elif noted is None and loss is None:
            note("no pass was made yet: `reconcile` makes one, `reconcile --dry-run` shows what it would do")
        there = chain([] if first is None else [first], rows)
        show_report(report, options, rows=there, only=only, paged=True)
    return exit_code(report, detailed=False)


def _sealing_fault(force: Revision, ledger: LedgerReader) -> str | None:
    """Return why the key that seals the state's values is no good, where that can be said without decrypting much."""
    if not any(force.tree.files("config/initial_data")):
        return None

    from reconciler.engine.trust import trust_of, vault_read

    try:
        trust = trust_of(force)
    except SecretsError as error:
        return str(error)
    if trust.fingerprint is None and not trust.wrapped:
        return None
    return vault_read(force, ledger).fault


def _without_folder(tree: Tree) -> Untrusted | None:
    """Return why no pass is made over the revision in force that lacks a folder; None if it has both."""
    from reconciler.repository.git.trees import lacks_folder

    why = lacks_folder(tree)
    return None if why is None else Untrusted(tree.revision, tree.revision, "", why, unreadable=True)


def rows_of(
    output: str, here: Here, ledger: LedgerReader, hires: Collection[str], integrations: Collection[str] = ()
) -> Iterator[Row]:
    """Read the rows, some at a time."""
    from reconciler.model.report import Row
    from reconciler.review.past import Leaving

    files = here.files_if_read if output != "table" else None
    wanted = None
    if files is not None:
        from reconciler.repository.desired import Desired  # a table shows rows of the ledger alone

        wanted = Desired(files, date.min)  # what they want on any day
    people = files if output == "csv" else None
    leaving = Leaving(here.context.checkout, wanted)
    for batch in _records(here, ledger, hires):
        records = [record for record in batch if not integrations or record.integration in integrations]
        of_whom = {record.key.hire for record in records}
        given, grants, names = ledger.given.of(of_whom), leaving.grants(of_whom), names_in(people, of_whom)
        rows = []
        for record in records:
            grant, loaded = grants.get(record.key), files and files.manifests.get(record.integration)
            form = [field.id for field in loaded.model.form] if loaded else ()
            begins = first_moment(grant.begins, files.settings.timezone) if files and grant else None
            row = Row.of(record, form=form, person=names.get(record.key.hire, ""), begins=begins)
            rows.append(row.wanted_by(grant, guarded=record.guarded).given_by(given.get(record.key)))
        yield from leaving.dated(ledger, rows, grants)


def _records(here: Here, ledger: LedgerReader, hires: Collection[str]) -> Iterator[Collection[Record]]:
    """Read the records, some at a time; what a crash interrupted is as the next pass settles it."""
    found = batches(ledger.grants.records(hires or None))
    if not (left := ledger.attempts.interrupted()):
        return found

    from reconciler.engine.state import as_settled
    from reconciler.model.decision_inputs import Policy

    policy = Policy(here.force.settings, datetime.now(UTC))
    return (as_settled({record.key: record for record in batch}, left, policy).values() for batch in found)


A_SECOND = timedelta(seconds=1)
"""Times are shown in whole seconds: what happened in that second has happened by then."""


def _show_past(options: SharedOptions, when: str, only: Filter) -> int:
    """Show who had what at a time, from the history alone; return 1 where the history does not reach back so far."""
    from reconciler.cli.output.report import show_report
    from reconciler.model.hire import moment
    from reconciler.model.report import Report

    if only.only_changes:
        raise UsageError("--only-changes is about what is to be done, --at about what is over: leave one out")
    here = Here.of(options)
    how = "write a date (2026-12-01), or a time (2026-12-01T18:00 in `timezone`, or with Z or an offset)"
    at = as_given("--at", when, partial(moment, timezone=here.settings.timezone), how)
    if at > datetime.now(UTC):
        raise UsageError(f"--at {when}: that lies ahead; `reconcile --dry-run` says what will be done")
    with here.state.reader() as ledger:
        began, erased = ledger.history.begin()
        report = Report(None, dry_run=False, at=at, branch=here.force.branch)
        if began is None or at + A_SECOND <= began:
            since = "is empty" if began is None else f"begins at {stamp(began)}"
            report.problems.append(Problem("history", None, f"it {since}: nothing is known of {stamp(at)}"))
        else:
            report.rows, report.revision = _past_rows(ledger, at, only)
            if options.output == "csv":
                names = names_in(here.files_if_read, {row.hire for row in report.rows})
                report.rows = [replace(row, name=names.get(row.hire, row.name)) for row in report.rows]
            report.problems += _unknown(report.rows, erased)
        if not report.rows and only.names:
            meant = suggest_from_ledger(ledger, *only.names)
            note(f"the history tells of no access of {', '.join(only.names)} then{meant}")
    if options.output in ("table", "markdown"):
        report.rows = [replace(row, reason=_sentence(row, values=options.output == "table")) for row in report.rows]
    show_report(report, options, only=only, paged=True)
    return 1 if began is None or at + A_SECOND <= began else 0


def _past_rows(ledger: LedgerReader, at: datetime, only: Filter) -> tuple[list[Row], str | None]:
    """Return what there was, and the revision that was acted on then."""
    from reconciler.model.report import Row
    from reconciler.review.past import replayed

    found, revision = replayed(ledger.history.lines(until=at + A_SECOND))
    shown = {
        key: past
        for key, past in found.items()
        if past.shown
        and (not only.hires or key.hire in only.hires)
        and (not only.integrations or past.integration in only.integrations)
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
    approved = [f"approved by {approval.name}, {approval.source.text}" for approval in given.approvals] if given else []
    return "; ".join([*had, ", ".join([by, *approved]), f"last: {row.reason}"])
