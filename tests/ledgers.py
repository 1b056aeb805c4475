"""What tests do in a ledger that the event loop has."""

from __future__ import annotations

from typing import TypeVar

from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader

R = TypeVar("R", bound=LedgerReader)


def inside(ledger: Ledger[R]) -> R:
    """The reader or the writer, which block: to look at, while nothing else has to go on."""
    return ledger._ledger
