"""Holding the state for as long as something is done with it, and reading it beside whoever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.engine.context import Context
from reconciler.engine.recovery import recover
from reconciler.engine.trace import leave_trace, refuse_fresh_start
from reconciler.ledger.lock import StateLock
from reconciler.ledger.opening import open_reader, open_writer, state_path
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import Sealing, WritableSealing
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import SecretsError
from reconciler.model.settings import Settings
from reconciler.repository.git.checkout import Tree

__all__ = ["OpenState", "ReadState", "holding", "reading", "sealing_of"]


@dataclass(slots=True)
class OpenState:
    """A state that this process holds."""

    ledger: LedgerWriter
    sealing: WritableSealing


@dataclass(frozen=True, slots=True)
class ReadState:
    """A state that is read, whether a process holds it or not."""

    ledger: LedgerReader
    sealing: Sealing


@contextmanager
def holding(context: Context, settings: Settings, tree: Tree, command: str) -> Iterator[OpenState]:
    """Hold the state, with every attempt that a crash cut off settled.

    Raises StateLockedError where another process holds it, LedgerError where it cannot be opened or was lost.
    """
    now = context.clock.now()
    refuse_fresh_start(context.checkout, settings)
    with StateLock(state_path(settings.state, context.root)).hold(command, now, context.reached):
        ledger = open_writer(settings.state, context.root, context.reached)
        try:
            leave_trace(context.checkout)
            recover(ledger, settings, now)
            yield OpenState(ledger, sealing_of(context, settings, tree, ledger))
        finally:
            ledger.close()
            context.reader.keep()


def sealing_of(context: Context, settings: Settings, tree: Tree, ledger: LedgerWriter) -> WritableSealing:
    """The sealed part of a state that is held, wrapped to the keys that this revision's initial data is encrypted to.

    Where it does not open it says why, and the pass goes on without it.
    """
    try:
        return WritableSealing.writing(ledger, context.gnupg(settings), _recipients(context, settings, tree))
    except SecretsError as error:
        return WritableSealing(ledger, error)


def _recipients(context: Context, settings: Settings, tree: Tree) -> list[str]:
    """Whom the initial data is encrypted to; nobody where none of it can be read.

    A damaged file blocks its own integration's grants and nothing else (docs/design/rules.md, "Faults and load"): a key
    that is there stays wrapped as it is, and one that is made now is wrapped as soon as the file is mended.
    """
    try:
        return context.initial_data(settings).recipients(tree)
    except SecretsError:
        return []


@contextmanager
def reading(context: Context, settings: Settings) -> Iterator[ReadState]:
    """Read the state, changing nothing of it."""
    with open_reader(settings.state, context.root) as ledger:
        yield ReadState(ledger, Sealing.reading(ledger, context.gnupg(settings)))
