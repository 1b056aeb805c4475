"""Enqueue commands for the process that locked the state."""

from __future__ import annotations

import getpass
import socket

from reconciler.cli.options import Asked
from reconciler.model.errors import ReconcilerError, StateLockedError

__all__ = ["Refused", "enqueue", "requester", "tell_handed_over"]


class Refused(ReconcilerError):
    """The command cannot be done now; the text says why."""


def requester() -> str:
    """Name the user and the machine, as the history shows who gave a command."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def enqueue(
    asked: Asked,
    kind: str,
    *,
    hire: str | None = None,
    access: str | None = None,
    integration: str | None = None,
) -> None:
    """Enqueue a command for the process that locked the state."""
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
    """Say which process locked the state and got the command, and where to see that it is done."""
    from reconciler.cli.logs import tell

    tell(f"{holder.who}, which was asked to {what}: `reconcile status` shows when it is done")
