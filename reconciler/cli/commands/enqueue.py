"""Enqueue commands for the process that locked the state."""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.cli.context import context_in_force, state_of
from reconciler.cli.options import SharedOptions
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import emit
from reconciler.model.errors import ReconcilerError, SecretsError, StateLockedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from reconciler.ledger.writer import LedgerWriter
    from reconciler.model.grant import Key

__all__ = ["Refused", "enqueue", "requester", "show_handed_over", "show_outcome", "use_key"]


class Refused(ReconcilerError):
    """The command cannot be done now; the text says why."""


def requester() -> str:
    """Name the user and the machine, as the history shows who gave a command."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def enqueue(
    options: SharedOptions,
    kind: str,
    *,
    hire: str | None = None,
    access: str | None = None,
    integration: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Enqueue a command for the process that locked the state."""
    from reconciler.engine.state import refuse_fresh_start
    from reconciler.repository.git.checkout import Checkout

    state = state_of(options)
    refuse_fresh_start(Checkout.open(options.repo), state)
    ledger = state.writer()
    try:
        use_key(options, ledger)
        about = {"hire": hire, "access": access, "integration": integration}
        ledger.commands.enqueue(kind, now=datetime.now(UTC), by=requester(), data=data, **about)
    finally:
        ledger.close()


def use_key(options: SharedOptions, ledger: LedgerWriter) -> None:
    """Open the state's key, by which commands count. Raises SecretsError if that cannot be done here."""
    from reconciler.engine.trust import sealing_of

    context, force = context_in_force(options)
    if (fault := sealing_of(context, force.settings, force.tree, ledger).fault) is not None:
        raise SecretsError(f"a command counts only from somebody who has the state's key: {fault}")


def show_outcome(
    options: SharedOptions, kind: str, grants: Iterable[Key], said: str, *, handed_over: bool = False
) -> None:
    """Show what came of a command on grants: what it said, or the object of docs/commands.md, "JSON"."""
    named = [{"hire": key.hire, "access": key.access} for key in grants]
    emit(options, {"command": kind, "grants": named, "handed_over": handed_over}, [said])


def show_handed_over(
    options: SharedOptions, kind: str, grants: Collection[Key], what: str, holder: StateLockedError
) -> None:
    """Show that a command was handed to the process that locked the state, and where to see that it is done."""
    show_outcome(options, kind, grants, f"handed over: {what}", handed_over=True)
    note(f"{holder.who}, which was asked to {what}: `reconcile status` shows when it is done")
