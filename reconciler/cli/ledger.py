"""Reading the ledger for commands that only show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.options import Asked

if TYPE_CHECKING:
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.settings import Settings

__all__ = ["ledger_of", "settings_of"]


def settings_of(asked: Asked) -> Settings:
    """The settings in force: those of the last accepted revision, or of the folder as it stands."""
    from reconciler.engine.accepted import in_force
    from reconciler.engine.context import Context, SystemClock
    from reconciler.model.secret import Redactor

    return in_force(Context(asked.repo, SystemClock(), Redactor())).settings


@contextmanager
def ledger_of(asked: Asked) -> Iterator[LedgerReader]:
    """The ledger, to be read; an empty one where there is none."""
    from reconciler.ledger.opening import open_reader

    with open_reader(settings_of(asked).state, asked.repo) as ledger:
        yield ledger
