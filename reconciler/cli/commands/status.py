"""`reconcile status`: show the ledger."""

from __future__ import annotations

import json
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.context import context_in_force, context_of, files_in_force, names_in
from reconciler.cli.options import Filter, SharedOptions, filters, of_hires, of_integrations, option, shared
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import batches
from reconciler.cli.suggestions import suggest_from_ledger
from reconciler.model.clock import first_moment, stamp
from reconciler.model.errors import Problem, SecretsError
from reconciler.model.revision_status import Untrusted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from reconciler.engine.context import Context
    from reconciler.engine.run.accepted import InForce
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.grant import Grant
    from reconciler.model.report import Row
    from reconciler.repository.desired import Desired
    from reconciler.repository.files import Files
    from reconciler.repository.git.checkout import Tree

__all__ = ["rows_of", "status"]


@click.command()
@of_hires
@of_integrations
@option("--by", type=click.Choice(["person", "integration"]), default="person", help="Group rows by this.")
@option("--at", "when", metavar="WHEN", help="Who had what then: a date (its begin), or 2026-12-01T18:00.")
@filters
@shared()
def status(
    options: SharedOptions,
    /,
    *,
    when: str | None,
    hires: tuple[str, ...],
    integrations: tuple[str, ...],
    by: str,
    **only: Any,
) -> int:
    """Show the ledger: every grant, its status, attempts, retry time and last error.

    Sends no request and creates no state. Exits with 1 if a grant is failed, unknown, blocked or invalid, if the last
    pass found an error in a file, or if new commits were not applied for `fail_stale`.
    """
    from reconciler.cli.output.show import exit_code, show_report
    from reconciler.daemon.freshness import stale
    from reconciler.daemon.hooked import hooks_of
    from reconciler.engine.run.accepted import refused
    from reconciler.model.report import LAST, Report
    from reconciler.repository.git.checkout import ignored

    if when is not None:
        from reconciler.cli.commands.past import show_past

        return show_past(options, when, hires, integrations, by=by, only=Filter(**only))
    context, force = context_in_force(options)
    with context.state(force.settings, force.tree).reader() as ledger:
        noted = ledger.notes.get(LAST)
        last: dict[str, Any] = json.loads(noted) if noted else {"revision": None}
        report = Report(last["revision"], dry_run=False)
        report.problems = [Problem.from_json(problem) for problem in last.get("problems") or ()]
        report.branch = force.branch
        report.ignored = [] if force.branch is None else ignored(context.checkout, force.branch)
        for sentence in report.ignored:
            note(sentence)
        report.refuse(force.refused or refused(ledger) or _without_folder(force.tree))
        report.outdate(stale(ledger))
        report.seal(_sealing_fault(context, force, ledger))
        report.members = [member.as_json() for member in ledger.members() if member.daemon]
        for each in (hooked := hooks_of(ledger)):
            missed = f"; {each.found} was found without one at {stamp(each.missed_at)}" if each.missed_at else ""
            note(f"the hook {each.hook} last came at {stamp(each.at)}{missed}")
        report.hooks = [each.as_json() for each in hooked]
        rows = rows_of(options, ledger, hires, integrations)
        first = next(rows, None)
        if first is None and (hires or integrations):
            names, meant = ", ".join((*hires, *integrations)), suggest_from_ledger(ledger, *hires, *integrations)
            note(f"the ledger has no grant of {names}; `reconcile validate` reads the files{meant}")
        elif noted is None:
            note("no pass was made yet: `reconcile` makes one, `reconcile --dry-run` shows what it would do")
        there = chain([] if first is None else [first], rows)
        show_report(report, options, rows=there, by=by, only=Filter(**only), paged=True)
    return exit_code(report, detailed=False)


def _sealing_fault(context: Context, force: InForce, ledger: LedgerReader) -> str | None:
    """Return why the key that seals the state's values is no good, where that can be said without decrypting much."""
    if not any(force.tree.files("config/initial_data")):
        return None

    from reconciler.engine.trust import sealing_read, trust_of

    try:
        trust = trust_of(context, force.settings, force.tree)
    except SecretsError as error:
        return str(error)
    if trust.fingerprint is None and not trust.wrapped:
        return None
    return sealing_read(context, force.settings, force.tree, ledger).fault


def _without_folder(tree: Tree) -> Untrusted | None:
    """Return why no pass is made over the revision in force that lacks a folder; None if it has both."""
    from reconciler.repository.git.trees import lacks_folder

    why = lacks_folder(tree)
    return None if why is None else Untrusted(tree.revision, tree.revision, "", why, unreadable=True)


def rows_of(
    options: SharedOptions, ledger: LedgerReader, hires: Collection[str], integrations: Collection[str]
) -> Iterator[Row]:
    """Read the rows, some at a time."""
    from reconciler.model.report import Row
    from reconciler.review.leaving import Leaving

    files = files_in_force(options) if options.output != "table" else None
    wanted = None
    if files is not None:
        from reconciler.repository.desired import Desired  # a table shows rows of the ledger alone

        wanted = Desired(files, date.min)  # what they want on any day
    people = files if options.output == "csv" else None
    leaving = Leaving(context_of(options).checkout, wanted)
    for batch in batches(ledger.grants.records(hires or None)):
        records = [record for record in batch if not integrations or record.integration in integrations]
        of_whom = {record.key.hire for record in records}
        given, grants, names = ledger.given.of(of_whom), leaving.grants(of_whom), names_in(people, of_whom)
        rows = [
            Row.of(
                record,
                form=_form(files, record.integration),
                person=names.get(record.key.hire, ""),
                begins=_begins(wanted, grants.get(record.key)),
            )
            .wanted_by(grants.get(record.key), guarded=record.guarded)
            .given_by(given.get(record.key))
            for record in records
        ]
        yield from leaving.dated(ledger, rows, grants)


def _form(files: Files | None, integration: str) -> list[str]:
    loaded = files.manifests.get(integration) if files is not None else None
    return [field.id for field in loaded.model.form] if loaded is not None else []


def _begins(desired: Desired | None, grant: Grant | None) -> datetime | None:
    """Return when the first day of an entry begins, as the files in force have it."""
    if desired is None or grant is None:
        return None
    return first_moment(grant.begins, desired.files.settings.timezone)
