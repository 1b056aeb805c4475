"""Holding the state for as long as something is done with it, and reading it beside whoever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.engine.passes import recover
from reconciler.engine.sealing import Sealing
from reconciler.engine.world import World
from reconciler.ledger.hold import hold
from reconciler.ledger.store import Ledger, state_path
from reconciler.model.settings import Settings
from reconciler.repository.source import Tree

__all__ = ["Held", "holding", "reading"]


@dataclass(slots=True)
class Held:
    """A state that this process holds."""

    ledger: Ledger
    sealing: Sealing


@contextmanager
def holding(world: World, settings: Settings, tree: Tree, command: str) -> Iterator[Held]:
    """Hold the state, with every attempt that a crash cut off settled.

    Raises HeldError where another process holds it, LedgerError and SecretsError where it cannot be opened.
    """
    now = world.clock.now()
    with hold(state_path(settings.state, world.root), command, now):
        ledger = Ledger.open(settings.state, world.root)
        try:
            recover(ledger, settings, now)
            recipients = world.initial_data(settings).recipients(tree)
            yield Held(ledger, Sealing.writing(ledger, world.gnupg(settings), recipients))
        finally:
            ledger.close()


@contextmanager
def reading(world: World, settings: Settings) -> Iterator[Held]:
    """Read the state, changing nothing of it."""
    with Ledger.reading(settings.state, world.root) as ledger:
        yield Held(ledger, Sealing.reading(ledger, world.gnupg(settings)))
