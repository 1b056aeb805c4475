"""`reconcile check`: check grants now, and act on what is found as a pass over them would.

If a daemon has locked the state, the command is enqueued for it, and waits for its answer.
"""

from __future__ import annotations

import json
from time import monotonic, sleep
from typing import TYPE_CHECKING

import click

from reconciler.cli import complete
from reconciler.cli.commands.enqueue import Refused, enqueue
from reconciler.cli.commands.status import rows_of
from reconciler.cli.context import context_in_force, ledger_of
from reconciler.cli.options import PassOptions, SharedOptions, option, shared
from reconciler.cli.output.logs import note
from reconciler.cli.suggestions import suggest
from reconciler.model.errors import StateLockedError
from reconciler.model.grant import Key

if TYPE_CHECKING:
    from collections.abc import Collection

    from reconciler.ledger.reader import LedgerReader

__all__ = ["check"]

PATIENCE_SECONDS = 600.0
"""How long to wait for the answer of a daemon."""

LOOK_SECONDS = 0.1
"""How often to look for it."""


@click.command()
@click.argument("hire", required=False, shell_complete=complete.hires)
@click.argument("access", required=False, shell_complete=complete.accesses)
@option("--integration", metavar="NAME", shell_complete=complete.integrations, help="All grants of this integration.")
@shared()
def check(options: SharedOptions, hire: str | None, access: str | None, integration: str | None) -> int:
    """Check grants now, and act as a pass over them would: one, a person's, a service's, or all.

    Beside a daemon too; the command waits for its answer. A retry that is not due, a suspension and a loss that was
    healed within a day stay as they are.
    """
    from reconciler.cli.commands.one_pass import one_pass

    grants = _meant(options, hire, access, integration)
    chosen = PassOptions(
        hires=(hire,) if hire else (),
        integrations=(integration,) if integration else (),
        grants=grants if access else None,
        yes=True,
    )
    try:
        return one_pass(options, chosen)
    except StateLockedError as error:
        return _beside(options, grants, integration if hire is None else None, whole=hire is None, holder=error)


def _meant(options: SharedOptions, hire: str | None, access: str | None, integration: str | None) -> frozenset[Key]:
    """Return the grants that the arguments name, of git and of the ledger. Raises Refused if there are none."""
    from reconciler.model.decision_inputs import Policy
    from reconciler.repository.desired import Desired

    context, force = context_in_force(options)
    desired = Desired(context.reader.load(force.tree), Policy.of(force.settings, context.clock.now()).today)
    with context.state(force.settings, force.tree).reader() as ledger:
        known = {record.key: record.integration for record in ledger.grants.records([hire] if hire else None)}
    for each in (hire,) if hire else desired.hires:
        known |= {grant.key: grant.integration for grant in desired.grants(each, once=True)}
    found = {key for key, name in known.items() if access in (None, key.access) and integration in (None, name)}
    if not found and (hire or integration):
        names = [each for each in (hire, access, integration) if each]
        people = {*desired.hires, *(key.hire for key in known)}
        meant = suggest(names, {*people, *desired.files.manifests, *(key.access for key in known)})
        raise Refused(f"there is no grant {' '.join(names)}: `reconcile status` shows what there is{meant}")
    return frozenset(found)


def _beside(
    options: SharedOptions, grants: Collection[Key], integration: str | None, *, whole: bool, holder: StateLockedError
) -> int:
    """Let the process that locked the state check the grants, and show what it found."""
    from reconciler.cli.output.show import exit_code, show_report
    from reconciler.model.report import LAST, Report

    if whole:
        enqueue(options, "check", integration=integration)
    else:
        for key in grants:
            enqueue(options, "check", hire=key.hire, access=key.access)
    note(f"{holder.who}, which was asked to check: waiting for its answer")
    with ledger_of(options) as ledger:
        _wait(ledger, grants, integration)
        last = ledger.notes.get(LAST)
        report = Report(json.loads(last)["revision"] if last else None, dry_run=False)
        hires = {key.hire for key in grants}
        shown = (row for row in rows_of(options, ledger, hires, ()) if Key(row.hire, row.access) in grants)
        show_report(report, options, rows=shown)
    return exit_code(report, detailed=False)


def _wait(ledger: LedgerReader, grants: Collection[Key], integration: str | None) -> None:
    """Wait until nothing of this is left to check, and no attempt that followed is under way."""
    until = monotonic() + PATIENCE_SECONDS
    while monotonic() < until:
        asked = [command for command in ledger.commands.waiting() if command.kind == "check"]
        waits = any(
            Key(each.hire, each.access) in grants if each.hire and each.access else each.integration == integration
            for each in asked
        )
        if not waits and not any(attempt.key in grants for attempt in ledger.attempts.open()):
            return
        sleep(LOOK_SECONDS)
    raise Refused(f"no answer came within {PATIENCE_SECONDS:g} s: `reconcile status` shows what is found")
