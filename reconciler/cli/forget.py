"""`reconcile forget`: erase a person from the ledger and its history."""

from __future__ import annotations

import click

from reconciler.cli.enqueue import Refused, enqueue, tell_handed_over
from reconciler.cli.options import Asked, shared
from reconciler.model.errors import StateLockedError, UsageError

__all__ = ["forget"]


@click.command()
@click.argument("hire")
@shared
@click.pass_obj
def forget(asked: Asked, hire: str) -> int:
    """Erase a person who is no longer in git from the ledger and its history; counts remain.

    Refused while git still has the person, or an orphaned account is left.
    """
    from datetime import UTC, datetime

    from reconciler.cli.ledger import ledger_of, settings_of, state_of
    from reconciler.cli.suggestions import suggest_from_ledger
    from reconciler.engine.commands import erase, reason_to_remember
    from reconciler.repository.files import Reader
    from reconciler.repository.git.checkout import Checkout

    with ledger_of(asked) as ledger:
        records = list(ledger.records([hire]))
        if not records and not any(True for _ in ledger.history(hires=[hire])):
            meant = suggest_from_ledger(ledger, hire)
            raise UsageError(f"the ledger knows nobody of the id {hire}: `reconcile status` shows whom it knows{meant}")
    files = Reader().load(Checkout.open(asked.repo).current(settings_of(asked).source))
    if (why := reason_to_remember(hire, records, files)) is not None:
        raise Refused(why)
    now, state = datetime.now(UTC), state_of(asked)
    try:
        with state.locked("reconcile forget", now) as locked:
            count = erase(locked.ledger, hire, now, asked.repo)
    except StateLockedError as error:
        enqueue(asked, "forget", hire=hire)
        tell_handed_over(error, f"forget {hire}")
        return 0
    click.echo(f"forgotten: a person with {count} {'grant' if count == 1 else 'grants'}")
    return 0
