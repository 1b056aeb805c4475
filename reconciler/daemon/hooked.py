"""When each hook last came, noted for `status` and the pages, and whether one that used to come does not.

A hook is missed where something was found that it should have told of, and it came neither in the time in which that
must have happened nor within a minute after. The notes are the state's, for in a fleet hooks come to any member.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from reconciler.ledger.ledger import OpenLedger
from reconciler.model.clock import Clock, stamp
from reconciler.model.errors import LedgerError
from reconciler.model.status import EventType
from reconciler.model.value import Frozen

if TYPE_CHECKING:  # `status` reads the notes, and writes nothing
    from reconciler.daemon.runtime import ProblemLog
    from reconciler.ledger.reader import LedgerReader

GIT = "git"
"""The hook that git servers call; no integration of that name can have events."""

PREFIX = "hook:"
"""What the names of the notes begin with."""

SELDOM = timedelta(seconds=10)
"""How often a hook's note is written at most, and how often it is read while something may be missed."""

LATE = timedelta(minutes=1)
"""How much later than what it tells of a hook may come."""


class Hooked(Frozen):
    """When a hook last came, and since when something was found that it should have told of."""

    hook: str
    at: datetime
    missed_at: datetime | None = None

    @property
    def found(self) -> str:
        """Return what was found without it."""
        return "a commit" if self.hook == GIT else "an account that is gone"

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {"hook": self.hook, "at": stamp(self.at), "missed_at": stamp(self.missed_at)}


def hooks_of(ledger: LedgerReader) -> list[Hooked]:
    """Return when each hook last came, by name."""
    notes = sorted(ledger.notes.beginning(PREFIX).items())
    return [Hooked(hook, *msgspec.json.decode(note, type=tuple[datetime, datetime | None])) for hook, note in notes]


class HookLog:
    """Notes when hooks come, and when one does not. Use it in the daemon's loop."""

    def __init__(self, ledger: OpenLedger, clock: Clock, problems: ProblemLog) -> None:
        self._ledger = ledger
        self._clock = clock
        self._problems = problems
        self._noted: dict[str, datetime] = {}
        """When this process last noted each hook."""
        self._suspected: dict[str, tuple[datetime, datetime]] = {}
        """When something was found without a hook, and since when one would have told of it."""
        self._missed: set[str] = set()
        self._judged_at = clock.now()

    async def came(self, hook: str) -> None:
        """Note that a hook came."""
        now = self._clock.now()
        if hook not in self._noted or abs(now - self._noted[hook]) >= SELDOM:
            self._noted[hook] = now
            await self._note(Hooked(hook, now))

    def found_without(self, hook: str, since: datetime) -> None:
        """Note that something was found that a hook should have told of, from `since` on."""
        self._suspected.setdefault(hook, (self._clock.now(), since))

    async def look_for_lost(self, tell: Collection[str], began: datetime, interval: timedelta) -> None:
        """Suspect the integrations that `tell` of changes, and of which a pass of the interval found accounts gone.

        These went since the check before, about an interval before the pass began.
        """
        if not tell:
            return

        def lost_since(ledger: LedgerReader) -> set[str]:
            lines = ledger.history.lines(integrations=tell, events=[EventType.LOST], since=began)
            return {line.integration for line in lines}

        try:
            lost = await self._ledger.run(lost_since)
        except LedgerError as error:
            self._problems.update("hooks", str(error))
        else:
            for integration in lost:
                self.found_without(integration, began - interval)

    async def judge(self) -> None:
        """Note which hooks are missed, once they had the time to come; and which ones come again."""
        now = self._clock.now()
        if not (self._suspected or self._missed) or abs(now - self._judged_at) < SELDOM:
            return
        self._judged_at = now
        for each in await self._ledger.run(hooks_of):
            found_at, since = self._suspected.get(each.hook, (now, now))
            if abs(now - found_at) >= LATE and each.missed_at is None and each.at < since:
                each = Hooked(each.hook, each.at, found_at)  # noqa: PLW2901  from here on that is what is known
                await self._note(each)
            self._tell(each)
        self._suspected = {hook: seen for hook, seen in self._suspected.items() if timedelta() <= now - seen[0] < LATE}

    def _tell(self, hooked: Hooked) -> None:
        """Log a hook that is missed, or comes again."""
        if hooked.missed_at is None:
            self._missed.discard(hooked.hook)
            self._problems.update(f"hook {hooked.hook}", None)
        else:
            self._missed.add(hooked.hook)
            since = f"the last one came at {stamp(hooked.at)}, and {hooked.found} was found without one"
            self._problems.update(f"hook {hooked.hook}", f"{since}: look at the webhook's deliveries")

    async def _note(self, hooked: Hooked) -> None:
        name, note = f"{PREFIX}{hooked.hook}", msgspec.json.encode((hooked.at, hooked.missed_at))
        try:
            await self._ledger.run(lambda ledger: ledger.notes.put(name, note))
        except LedgerError as error:
            self._problems.update("hooks", str(error))
        else:
            self._problems.update("hooks", None)
