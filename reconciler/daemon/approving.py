"""Ask the forge who approved and merged what brought the commits that gave grants, and write it down.

Nothing ever waits for it: it is asked as a task beside the passes, a few commits at a time, the newest first, each
until the forge has answered (docs/design/rules.md, "Who gave it").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from reconciler.daemon.runtime import ProblemLog
from reconciler.engine.context import Context
from reconciler.engine.run.accepted import InForce
from reconciler.ledger.entries import Unanswered
from reconciler.ledger.ledger import OpenLedger
from reconciler.model.errors import LedgerError

if TYPE_CHECKING:
    from reconciler.intake.forge import ApprovalReader

log = structlog.get_logger()

MOST, SECONDS_EACH = 20, 3.0
"""So many commits are asked about at once, then one every few seconds: forges count the requests of an hour."""

PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds after a fault: twice as many after each further one."""

UNKNOWN_AGAIN = 60.0
SETTLES = timedelta(minutes=10)
"""A forge may not know at once of what was merged: so long after the first answer, "no pull request" is the answer."""


class Approving:
    """Asks for the process that decides what is due. `seconds` tells the time that passes."""

    def __init__(
        self, context: Context, ledger: OpenLedger, problems: ProblemLog, seconds: Callable[[], float] = monotonic
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._problems = problems
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._again: dict[str, tuple[float, int]] = {}
        """When to ask again about a commit that was asked about, and how often that failed in a row."""
        self._faults = 0
        """How many there were since the last answer."""
        self._paused_until = seconds()
        self._left, self._counted_at = float(MOST), seconds()

    def begin(self, force: InForce) -> None:
        """Begin to ask, as a task; one at a time."""
        if (self._task is None or self._task.done()) and self._seconds() >= self._paused_until:
            self._task = asyncio.create_task(self.ask(force))

    async def cancel(self) -> None:
        """Ask no more; what was not answered is asked by the next process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def ask(self, force: InForce) -> None:
        """Ask about commits that are due, as many as may be asked about now."""
        forge, branch = force.settings.forge, force.branch
        if forge is None or branch is None:
            return
        from reconciler.intake.forge import ApprovalReader, token_given  # what has no forge does not load its client

        if (token := token_given()) is None:
            return
        try:
            now = self._seconds()
            self._left = min(MOST, self._left + (now - self._counted_at) / SECONDS_EACH)
            self._counted_at = now
            some = await self._ledger.run(lambda ledger: ledger.given.unanswered(MOST + len(self._again)))
            due = [each for each in some if self._again.get(each.revision, (now, 0))[0] <= now][: int(self._left)]
            if not due:
                return

            self._context.redactor.learn([token])
            timeout = force.settings.limits.timeout.total_seconds()
            async with aclosing(ApprovalReader(forge, token, timeout)) as reader:
                for each in due:
                    self._left -= 1
                    if not await self._asked(reader, each, branch):
                        return
        except LedgerError as error:
            self._problems.update("forge", str(error), "warning")

    async def _asked(self, reader: ApprovalReader, commit: Unanswered, branch: str) -> bool:
        """Ask about a commit and write the answer down; return whether others may be asked about."""
        from reconciler.intake.forge import ForgeError, Limited

        try:
            merged = await reader.merged((commit.revision, *commit.merges), branch)
        except ForgeError as error:
            seconds, failed = self._seconds(), self._again.get(commit.revision, (0.0, 0))[1] + 1
            self._faults += 1
            self._paused_until = seconds + (error.seconds if isinstance(error, Limited) else _pause(self._faults))
            self._again[commit.revision] = seconds + _pause(failed), failed
            self._problems.update("forge", f"approvals cannot be read: {error}", "warning")
            return False
        self._faults = 0
        self._problems.update("forge", None)
        now = self._context.clock.now()
        if merged is None:
            settled = commit.asked_at is not None and abs(now - commit.asked_at) >= SETTLES
            await self._ledger.run(lambda ledger: ledger.given.save_unmerged(commit.revision, now, settled=settled))
            if not settled:
                self._again[commit.revision] = self._seconds() + UNKNOWN_AGAIN, 0
                return True
        else:
            while await self._ledger.run(lambda ledger: ledger.given.save_merged(commit.revision, merged, now)):
                await self._context.yielder.pause()
            log.info("forge.answered", revision=commit.revision, pull=merged.number, approvals=len(merged.approvals))
        self._again.pop(commit.revision, None)
        return True


def _pause(faults: int) -> float:
    """Return the seconds to wait after so many faults in a row."""
    return float(min(PAUSE * 2 ** min(faults - 1, 10), LONGEST_PAUSE))
