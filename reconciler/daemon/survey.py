"""Once an interval, each listing held against git: how many accounts nobody knows, and since when each is there.

It shares the readings of the interval's passes. Nothing is done about what it finds, and a fault in it stops nothing.
"""

from __future__ import annotations

import asyncio

import structlog

from reconciler.daemon.acting import Acting
from reconciler.daemon.health import ProblemLog
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.everybody import Listings
from reconciler.engine.state import OpenState
from reconciler.engine.wiring import integrations_of
from reconciler.model.clock import Stopped
from reconciler.model.errors import ReconcilerError
from reconciler.model.grant import Record
from reconciler.repository.desired import Desired
from reconciler.review.unmanaged import Compared, compare

__all__ = ["Survey"]

log = structlog.get_logger()

AT_A_TIME = 200
"""So many hires' records are read before other tasks have their turn."""


class Survey:
    """What the last reading of each listing showed; a listing that was not read whole is not in it."""

    def __init__(self, context: Context, clock: SystemClock, state: OpenState, problems: ProblemLog) -> None:
        self._context = context
        self._clock = clock
        self._state = state
        self._problems = problems
        self.found: dict[str, Compared] = {}
        self.unread: dict[str, str] = {}
        """Why a listing was not read whole, by integration."""

    @property
    def unknown(self) -> dict[str, int]:
        """How many accounts git does not know, by integration."""
        return {name: each.unknown for name, each in self.found.items()}

    async def take(self, acting: Acting, desired: Desired, listings: Listings) -> None:
        """Read every listing, one after the other, and remember what it shows."""
        try:
            await self._clock.unless_stopped(self._take(acting, desired, listings))
        except Stopped:
            pass
        except (ReconcilerError, OSError) as error:
            self._problems.tell("survey", str(error))
        except Exception as error:
            # The boundary for surveys, as passes have one.
            log.exception("survey.broken")
            self._problems.tell("survey", f"a fault of this program: {type(error).__name__}")
        else:
            self._problems.tell("survey", None)

    async def _take(self, acting: Acting, desired: Desired, listings: Listings) -> None:
        assert acting.tree is not None
        integrations = list(integrations_of(self._context, desired, acting.tree, acting.settings, self._state.sealing))
        listed = [each for each in integrations if (exists := each.manifest.exists) is not None and exists.listing]
        records = await self._records() if listed else []
        there = {item.name for item in listed}
        self.found = {name: each for name, each in self.found.items() if name in there}
        self.unread = {name: why for name, why in self.unread.items() if name in there}
        for integration in listed:
            compared = await compare(integration, desired, records, listings)
            about = f"listing of {integration.name}"
            fault = compared.fault and self._context.redactor.redact(compared.fault)
            self._problems.tell(about, fault)
            self.unread.pop(integration.name, None)
            if not compared.complete:
                self.found.pop(integration.name, None)
                if fault is not None:
                    self.unread[integration.name] = fault
                continue
            self._state.ledger.saw(integration.name, compared.seen, self._clock.now())
            self.found[integration.name] = compared

    async def _records(self) -> list[Record]:
        hires = sorted(self._state.ledger.hires())
        records: list[Record] = []
        for at in range(0, len(hires), AT_A_TIME):
            records += self._state.ledger.records(hires[at : at + AT_A_TIME])
            await asyncio.sleep(0)
        return records
