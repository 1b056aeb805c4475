"""`reconcile status`: show the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Asked, Filter, filters, of_hires, of_integrations, option, shared

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.model.grant import Record
    from reconciler.repository.desired import Desired
    from reconciler.repository.files import Files

__all__ = ["status"]


@click.command()
@of_hires
@of_integrations
@option("--by", type=click.Choice(["person", "integration"]), default="person", help="How rows are grouped.")
@filters
@shared
@click.pass_obj
def status(
    asked: Asked,
    *,
    hires: tuple[str, ...],
    integrations: tuple[str, ...],
    by: str,
    statuses: tuple[str, ...],
    only_changes: bool,
) -> int:
    """Show the ledger: every grant, its status, attempts, retry time and last error.

    Asks no service and never makes a state. Exits with 1 where a grant failed, is unknown, blocked or invalid,
    where the last pass found an error in a file, and where git's commits are not taken over for `fail_stale`.
    """
    import json
    from datetime import date

    from reconciler.cli.ledger import ledger_of
    from reconciler.cli.logs import tell
    from reconciler.cli.show import exit_code, show_report
    from reconciler.cli.suggestions import suggest_from_ledger
    from reconciler.daemon.freshness import stale
    from reconciler.engine.accepted import refused
    from reconciler.model.errors import Problem
    from reconciler.model.report import LAST, Report, Row
    from reconciler.repository.desired import Desired

    with ledger_of(asked) as ledger:
        noted = ledger.note(LAST)
        last: dict[str, Any] = json.loads(noted) if noted else {"revision": None}
        report = Report(last["revision"], dry_run=False)
        report.problems = [Problem.from_json(problem) for problem in last.get("problems") or ()]
        files = _files(asked) if asked.output != "table" else None
        wanted = Desired(files, date.min) if files is not None else None
        people = files if asked.output == "csv" else None
        report.rows = [
            Row.of(
                record,
                guarded=record.guarded,
                form=_form(files, record.integration),
                person=_person(people, record),
                begins=_begins(wanted, record),
            )
            for record in ledger.records(hires or None)
            if not integrations or record.integration in integrations
        ]
        report.give(ledger.given(hires or None))
        report.refuse(refused(ledger))
        report.outdate(stale(ledger))
        report.members = [member.as_json() for member in ledger.members() if member.daemon]
        meant = "" if report.rows else suggest_from_ledger(ledger, *hires, *integrations)
    if not report.rows and (hires or integrations):
        names = ", ".join((*hires, *integrations))
        tell(f"the ledger has no grant of {names}; `reconcile validate` reads the files{meant}")
    show_report(report, asked, by=by, only=Filter(frozenset(statuses), only_changes), paged=True)
    return exit_code(report, detailed=False)


def _files(asked: Asked) -> Files | None:
    """Read the files in force, for what the ledger does not have: form fields and names. None if there are none."""
    from reconciler.cli.context import context_of
    from reconciler.engine.accepted import in_force
    from reconciler.model.errors import RepositoryError, SettingsError

    context = context_of(asked)
    try:
        return context.reader.load(in_force(context).tree)
    except (RepositoryError, SettingsError):
        return None


def _form(files: Files | None, integration: str) -> list[str]:
    loaded = files.manifests.get(integration) if files is not None else None
    return [field.id for field in loaded.model.form] if loaded is not None else []


def _begins(desired: Desired | None, record: Record) -> datetime | None:
    """Find when an entry's first day begins by the files in force."""
    from reconciler.model.clock import first_moment

    if desired is None:
        return None
    begins = (grant.begins for grant in desired.grants(record.key.hire) if grant.key == record.key)
    return first_moment(next(begins, None), desired.files.settings.timezone)


def _person(files: Files | None, record: Record) -> str:
    loaded = files.hires.get(record.key.hire) if files is not None else None
    return loaded.model.full_name if loaded is not None else ""
