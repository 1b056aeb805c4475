"""Reading the ledger for commands that only show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.context import context_of
from reconciler.cli.options import Asked

if TYPE_CHECKING:
    from reconciler.ledger.opening import StateLocation
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.settings import Settings

__all__ = ["ledger_of", "locations_of", "settings_of", "state_of"]


def settings_of(asked: Asked) -> Settings:
    """The settings in force: those of the last accepted revision, or of the folder as it stands."""
    from reconciler.engine.accepted import in_force

    return in_force(context_of(asked)).settings


def state_of(asked: Asked) -> StateLocation:
    """Where the state is by the settings in force."""
    from reconciler.engine.accepted import in_force

    context = context_of(asked)
    force = in_force(context)
    return context.state(force.settings, force.tree)


def locations_of(asked: Asked, *urls: str) -> list[StateLocation]:
    """States elsewhere, reached with the password of the settings in force."""
    from reconciler.engine.accepted import in_force

    context = context_of(asked)
    force = in_force(context)
    return [context.state(force.settings.model_copy(update={"state": url}), force.tree) for url in urls]


@contextmanager
def ledger_of(asked: Asked) -> Iterator[LedgerReader]:
    """The ledger, to be read; an empty one where there is none."""
    with state_of(asked).reader() as ledger:
        yield ledger
