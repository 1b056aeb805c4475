"""Opening the ledger of a `state` setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.ledger.entries import Attempt, Happening, Kept, Part, Sent, Word
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sqlite import SqliteBackend
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Reached, unwatched

__all__ = ["Attempt", "Happening", "Kept", "Ledger", "Part", "Sent", "Word", "state_path"]


def state_path(url: str, root: Path) -> Path:
    """The SQLite file that a `state` setting names, relative to the repository's root.

    Raises LedgerError for another kind of database.
    """
    if not url.startswith("sqlite:///"):
        raise LedgerError(f"state {url.partition(':')[0]}: only sqlite:/// is served by this version")
    return root / url.removeprefix("sqlite:///")


class Ledger(LedgerWriter):
    """The ledger of one state."""

    @classmethod
    def open(cls, url: str, root: Path, reached: Reached = unwatched) -> Ledger:
        """Open the state for writing; make it, private to its owner, where it is not there. The caller holds it."""
        return cls(SqliteBackend.open(state_path(url, root), reached), reached)

    @classmethod
    @contextmanager
    def reading(cls, url: str, root: Path) -> Iterator[LedgerReader]:
        """Read the state without changing a byte of it, whether somebody holds it or not."""
        with SqliteBackend.beside(state_path(url, root)) as backend:
            yield LedgerReader(backend)
