"""Commands for the process that holds the state, and who enqueues them."""

from __future__ import annotations

import getpass
import socket

from reconciler.cli.options import Asked
from reconciler.model.errors import ReconcilerError, StateLockedError

__all__ = ["Refused", "enqueue", "requester", "tell_handed_over"]


class Refused(ReconcilerError):
    """What was asked for cannot be done now; the text says why."""


def requester() -> str:
    """The user and the machine, as the history names who asked for something."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def enqueue(
    asked: Asked,
    kind: str,
    *,
    hire: str | None = None,
    access: str | None = None,
    integration: str | None = None,
) -> None:
    """Enqueue a command for the process that holds the state."""
    from datetime import UTC, datetime

    from reconciler.cli.ledger import state_of
    from reconciler.engine.state import refuse_fresh_start
    from reconciler.repository.git.checkout import Checkout

    state = state_of(asked)
    refuse_fresh_start(Checkout.open(asked.repo), state)
    ledger = state.writer()
    try:
        ledger.enqueue(kind, now=datetime.now(UTC), by=requester(), hire=hire, access=access, integration=integration)
    finally:
        ledger.close()


def tell_handed_over(holder: StateLockedError, what: str) -> None:
    """Say who holds the state and was asked to do what is wanted, and where to see that it is done."""
    from reconciler.cli.logs import tell

    tell(f"{holder.who}, which was asked to {what}: `reconcile status` shows when it is done")
