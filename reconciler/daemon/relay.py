"""Pushes in a fleet: the member that a git server called tells the leader, by a note in the state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from reconciler.daemon.health import ProblemLog
from reconciler.daemon.slices import SliceRunner, Spawn
from reconciler.engine.context import SystemClock
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError

__all__ = ["PushRelay"]

PUSHED = "pushed"
"""The note; what it says is when the git server called."""

UNSEEN = b""
"""The note was not read yet: what it says now was told to the leader before."""

SECONDS = 1.0
"""How often a member writes the note at most."""


class PushRelay:
    """Tells the leader of pushes, or is told as the leader. `fetch` is called for each that was not seen yet."""

    def __init__(
        self,
        ledger: OpenLedger,
        clock: SystemClock,
        runner: SliceRunner,
        problems: ProblemLog,
        *,
        spawn: Spawn,
        fetch: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._runner = runner
        self._problems = problems
        self._spawn = spawn
        self._fetch = fetch
        self._seen: bytes | None = UNSEEN
        self._telling = self._waiting = False

    def tell(self) -> None:
        """Tell the leader at once, and once more where this is called again meanwhile."""
        if self._runner.alone or self._runner.leads:
            return
        self._waiting = True
        if not self._telling:
            self._telling = True
            self._spawn(self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                self._waiting = False
                await self._ledger.run(partial(_say, at=self._clock.now()))
                await self._clock.sleep(SECONDS)
        except Stopped:
            pass
        except LedgerError as error:
            self._problems.update("hooks", str(error))
        finally:
            self._telling = False

    async def look(self) -> None:
        """Fetch if a push was told to another member since the last look. Raises LedgerError."""
        if self._runner.alone:
            return
        note = await self._ledger.run(lambda ledger: ledger.note(PUSHED))
        before, self._seen = self._seen, note
        if before is not UNSEEN and note != before:
            self._fetch()


def _say(ledger: LedgerWriter, at: datetime) -> None:
    """Tell the leader that a git server called."""
    ledger.put_note(PUSHED, at.isoformat().encode())
