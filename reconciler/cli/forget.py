"""`reconcile forget`: erase a person from the ledger and its history."""

from __future__ import annotations

import click

from reconciler.cli.enqueue import Refused
from reconciler.cli.options import Asked, shared
from reconciler.model.errors import UsageError

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
    from reconciler.engine.context import KEPT
    from reconciler.model.grant import Phase
    from reconciler.notify import alerts, outages
    from reconciler.repository.files import Reader
    from reconciler.repository.git.checkout import Checkout

    with ledger_of(asked) as ledger:
        records = list(ledger.records([hire]))
        if not records and not any(True for _ in ledger.history(hires=[hire])):
            raise UsageError(f"the ledger knows nobody of the id {hire}: `reconcile status` shows whom it knows")
    settings = settings_of(asked)
    files = Reader().load(Checkout.open(asked.repo).current(settings.source))
    if hire in files.hires or hire in files.broken["hires"]:
        raise Refused(f"{hire} is still in git: remove the hire's file first")
    left = [str(record.key) for record in records if record.leaves_something and record.phase is not Phase.REVOKED]
    if left:
        raise Refused(f"still orphaned: {', '.join(left)}: revoke them first (`reconcile revoke`)")
    now, state = datetime.now(UTC), state_of(asked)
    with state.held("reconcile forget", now) as held:
        alerts.forget(held.ledger, hire)
        outages.forget(held.ledger)
        count = held.ledger.forget(hire, now)
        (asked.repo / KEPT).unlink(missing_ok=True)  # of what git has, it is made anew
    click.echo(f"forgotten: a person with {count} {'grant' if count == 1 else 'grants'}")
    return 0
