"""`reconcile forget`: erase a person from the ledger and its history."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from reconciler.cli.commands.enqueue import Refused, enqueue, show_handed_over, show_outcome
from reconciler.cli.context import context_in_force, ledger_of, state_of
from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.text import count, no_csv
from reconciler.cli.suggestions import suggest_from_ledger
from reconciler.model.errors import StateLockedError, UsageError

__all__ = ["forget"]


@click.command()
@click.argument("hire")
@shared
@click.pass_obj
def forget(options: SharedOptions, hire: str) -> int:
    """Erase a person who is no longer in git from the ledger and its history; counts remain.

    Refused as long as git still has the person, one of their grants is orphaned, or they are locked.
    """
    from reconciler.engine.apply.commands import erase, reason_to_remember

    no_csv(options)
    with ledger_of(options) as ledger:
        records, locks = list(ledger.grants.records([hire])), ledger.locks.all()
        if not records and not any(True for _ in ledger.history.lines(hires=[hire])):
            meant = suggest_from_ledger(ledger, hire)
            raise UsageError(f"the ledger knows nobody of the id {hire}: `reconcile status` shows whom it knows{meant}")
    context, force = context_in_force(options)
    files = context.reader.load(force.tree)
    if (why := reason_to_remember(hire, records, files, locks)) is not None:
        raise Refused(why)
    now, state, grants = datetime.now(UTC), state_of(options), [record.key for record in records]
    try:
        with state.locked("reconcile forget", now) as locked:
            erased = erase(locked.ledger, hire, now, options.repo)
    except StateLockedError as error:
        enqueue(options, "forget", hire=hire)
        show_handed_over(options, "forget", grants, f"forget {hire}", error)
    else:
        show_outcome(options, "forget", grants, f"forgotten: a person with {count(erased, 'grant')}")
    return 0
