"""Opening the ledger that a `state` setting names: to be read, or to be written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sqlite import SqliteBackend
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Reached, unwatched

__all__ = ["open_reader", "open_writer", "state_path"]


def state_path(url: str, root: Path) -> Path:
    """The SQLite file that a `state` setting names, relative to the repository's root.

    Raises LedgerError for another kind of database.
    """
    if not url.startswith("sqlite:///"):
        raise LedgerError(f"state {url.partition(':')[0]}: only sqlite:/// is served by this version")
    return root / url.removeprefix("sqlite:///")


def open_writer(url: str, root: Path, reached: Reached = unwatched) -> LedgerWriter:
    """Open the state for writing; make it, private to its owner, where it is not there."""
    return LedgerWriter(SqliteBackend.open(state_path(url, root), reached), reached)


@contextmanager
def open_reader(url: str, root: Path) -> Iterator[LedgerReader]:
    """Read the state without changing a byte of it, whether a process holds it or not."""
    with SqliteBackend.beside(state_path(url, root)) as backend:
        yield LedgerReader(backend)
