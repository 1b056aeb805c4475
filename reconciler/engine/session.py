"""Holding the state for as long as something is done with it, and reading it beside whoever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.engine.recovery import recover
from reconciler.engine.sealing import Sealing, WritableSealing
from reconciler.engine.trace import leave_trace, refuse_fresh_start
from reconciler.engine.world import World
from reconciler.ledger.lock import StateLock
from reconciler.ledger.opening import open_reader, open_writer, state_path
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import SecretsError
from reconciler.model.settings import Settings
from reconciler.repository.source import Tree

__all__ = ["Beside", "Held", "holding", "reading", "sealing_of"]


@dataclass(slots=True)
class Held:
    """A state that this process holds."""

    ledger: LedgerWriter
    sealing: WritableSealing


@dataclass(frozen=True, slots=True)
class Beside:
    """A state that is read, whether a process holds it or not."""

    ledger: LedgerReader
    sealing: Sealing


@contextmanager
def holding(world: World, settings: Settings, tree: Tree, command: str) -> Iterator[Held]:
    """Hold the state, with every attempt that a crash cut off settled.

    Raises StateLockedError where another process holds it, LedgerError where it cannot be opened or was lost.
    """
    now = world.clock.now()
    refuse_fresh_start(world.checkout, settings)
    with StateLock(state_path(settings.state, world.root)).hold(command, now, world.reached):
        ledger = open_writer(settings.state, world.root, world.reached)
        try:
            leave_trace(world.checkout)
            recover(ledger, settings, now)
            yield Held(ledger, sealing_of(world, settings, tree, ledger))
        finally:
            ledger.close()
            world.reader.keep()


def sealing_of(world: World, settings: Settings, tree: Tree, ledger: LedgerWriter) -> WritableSealing:
    """The sealed part of a state that is held, wrapped to the keys that this revision's initial data is encrypted to.

    Where it does not open it says why, and the pass goes on without it.
    """
    try:
        return WritableSealing.writing(ledger, world.gnupg(settings), _recipients(world, settings, tree))
    except SecretsError as error:
        return WritableSealing(ledger, error)


def _recipients(world: World, settings: Settings, tree: Tree) -> list[str]:
    """Whom the initial data is encrypted to; nobody where none of it can be read.

    A damaged file blocks its own integration's grants and nothing else (docs/design/rules.md, "Faults and load"): a key
    that is there stays wrapped as it is, and one that is made now is wrapped as soon as the file is mended.
    """
    try:
        return world.initial_data(settings).recipients(tree)
    except SecretsError:
        return []


@contextmanager
def reading(world: World, settings: Settings) -> Iterator[Beside]:
    """Read the state, changing nothing of it."""
    with open_reader(settings.state, world.root) as ledger:
        yield Beside(ledger, Sealing.reading(ledger, world.gnupg(settings)))
