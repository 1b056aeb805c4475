"""The settings in force, the state that they name, and its ledger, for commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.context import context_of
from reconciler.cli.options import SharedOptions

if TYPE_CHECKING:
    from reconciler.ledger.opening import StateLocation
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.settings import Settings

__all__ = ["ledger_of", "locations_of", "settings_of", "state_of"]


def settings_of(options: SharedOptions) -> Settings:
    """Read the settings in force: those of the last accepted revision, or of the worktree."""
    from reconciler.engine.run.accepted import in_force

    return in_force(context_of(options)).settings


def state_of(options: SharedOptions) -> StateLocation:
    """Find the state that the settings in force name."""
    from reconciler.engine.run.accepted import in_force

    context = context_of(options)
    force = in_force(context)
    return context.state(force.settings, force.tree)


def locations_of(options: SharedOptions, *urls: str) -> list[StateLocation]:
    """Find states at other URLs, with the password of the settings in force."""
    from reconciler.engine.run.accepted import in_force

    context = context_of(options)
    force = in_force(context)
    return [context.state(force.settings.model_copy(update={"state": url}), force.tree) for url in urls]


@contextmanager
def ledger_of(options: SharedOptions) -> Iterator[LedgerReader]:
    """Open the ledger for reading; an empty one if there is none."""
    with state_of(options).reader() as ledger:
        yield ledger
