"""The ledger as the event loop has it: whatever reads or writes it is awaited.

No caller knows whether a thread or a server answers, and none can wait for it while the loop stands still: the reader
and the writer, which block, are only given to the work that `run` is called with (docs/design/decisions).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextvars import copy_context
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from reconciler.ledger.lease import Lease
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.reading import Reading
from reconciler.model.attribution import Attribution, Unattributed
from reconciler.model.grant import Key

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from reconciler.ledger.writer import LedgerWriter

R_co = TypeVar("R_co", bound=LedgerReader, covariant=True)
T = TypeVar("T")

THREADS = 16
"""The most reads and writes that wait for a server at the same time."""


class Ledger(Generic[R_co]):
    """The ledger of one state, for the event loop."""

    def __init__(self, ledger: R_co) -> None:
        self._ledger = ledger

    async def run(self, work: Callable[[R_co], T]) -> T:
        """Read or write. `work` uses nothing that other tasks may change meanwhile: it may run in a thread.

        Of a server it does, so that others have their turn; a file on this machine answers sooner than a thread begins.
        """
        if not self.remote:
            return work(self._ledger)
        import asyncio  # a command that reads has no loop

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_threads(), copy_context().run, work, self._ledger)

    async def apart(self, work: Callable[[Reading], T]) -> T:
        """Read at length from a state of its own, in a thread: others read and write meanwhile."""
        import asyncio

        return await asyncio.to_thread(self._apart, work)

    def _apart(self, work: Callable[[Reading], T]) -> T:
        with self._ledger.backend.snapshot() as reading:
            return work(reading)

    async def given(self: Ledger[LedgerReader], hires: Collection[str]) -> Mapping[Key, Attribution]:
        """Return who gave each grant of some hires, as far as it is known."""
        return await self.run(lambda ledger: ledger.given.of(hires))

    async def given_up_to(self: Ledger[LedgerReader]) -> str | None:
        """Return the revision up to which it is known who gave each grant, but for hires that are untraced."""
        return await self.run(lambda ledger: ledger.given.up_to())

    async def untraced(self: Ledger[LedgerReader], hires: Collection[str]) -> Mapping[str, Unattributed]:
        """Return those of some hires of whose grants it has yet to be found out who gave them."""
        return await self.run(lambda ledger: ledger.given.untraced(hires))

    def reopen(self: Ledger[LedgerReader], ledger: LedgerReader) -> None:
        """Read with another one from here on: in a process that was forked, which cannot use what it inherits."""
        self._ledger = ledger

    @property
    def remote(self) -> bool:
        """Whether a server has the state, which threads wait for."""
        return self._ledger.backend.remote


class OpenLedger(Ledger["LedgerWriter"]):
    """The ledger of one state that is open for writing, under a lease or without."""

    @property
    def lease(self) -> Lease | None:
        """The lease under which it is written to."""
        return self._ledger.session.lease

    @property
    def file(self) -> Path | None:
        """The state's file; None if a server has the state."""
        return self._ledger.backend.file

    async def together(self, work: Callable[[LedgerWriter], T]) -> T:
        """Write in one transaction with what others write at the same time; durable when this returns.

        `work` must be repeatable.
        """
        transactions, mine = self._ledger.session.transactions, partial(work, self._ledger)
        return await (self.run(lambda _: transactions.share(mine)) if self.remote else transactions.gather(mine))

    def under(self, lease: Lease) -> OpenLedger:
        """Return the same ledger, to be written to under this lease."""
        return OpenLedger(self._ledger.under(lease))


@cache
def _threads() -> Executor:
    """Return the threads that wait for a server; what they write at the same time shares a transaction."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(THREADS, "ledger")
