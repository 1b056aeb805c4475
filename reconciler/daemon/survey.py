"""Compare each listing with git once an interval: how many accounts git does not know, and since when each exists.

It shares the listings of the interval's passes. It changes nothing, and a fault in it stops nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any

import structlog

from reconciler.daemon.runtime import Runtime
from reconciler.engine.observe.listings import Listings
from reconciler.engine.observe.wiring import integrations_of
from reconciler.engine.state import OpenState
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.clock import Stopped
from reconciler.model.errors import ReconcilerError
from reconciler.model.value import replace
from reconciler.requests.tasks import LINES_AT_A_TIME
from reconciler.review.owners import owners_of
from reconciler.review.reviews import alert_overdue
from reconciler.review.unmanaged import ComparedListing, compare

log = structlog.get_logger()


Leased = Callable[..., AbstractAsyncContextManager[OpenState]]
"""Leases services while the block runs; none, for a state to be read."""


class Survey:
    """The last comparison of each listing that was read to its end."""

    def __init__(self, runtime: Runtime, leased: Leased) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._clock = runtime.clock
        self._problems = runtime.problems
        self._leased = leased
        self.found: dict[str, ComparedListing] = {}
        self.unread: dict[str, str] = {}
        """Why a listing was not read to its end, by integration."""
        self._turn = asyncio.Lock()
        """Held by the survey that is taken: the next cycle may begin before it is over."""

    @property
    def unknown(self) -> dict[str, int]:
        """How many accounts git does not know, by integration."""
        return {name: each.unknown for name, each in self.found.items()}

    async def take(self, listings: Listings, everybody: Sequence[str], *, only: str | None = None) -> None:
        """Read the listings, one after the other, or `only` that of an integration, and compare each.

        `everybody` is who git or the ledger has.
        """
        try:
            async with self._turn:
                await self._clock.unless_stopped(self._take(listings, everybody, only))
        except Stopped:
            pass
        except (ReconcilerError, OSError) as error:
            self._problems.update("survey", str(error))
        except Exception as error:
            # The outermost boundary for surveys.
            log.exception("survey.broken")
            self._problems.update("survey", f"a fault of this program: {type(error).__name__}")
        else:
            self._problems.update("survey", None)

    async def _take(self, listings: Listings, everybody: Sequence[str], only: str | None) -> None:
        active, desired = self._runtime.active, self._runtime.active.desired
        listed = [
            (service.name, name)
            for service in desired.services.values()
            for name, (_, manifest) in service.manifests.items()
            if manifest.listing
        ]
        there = {name for _, name in listed}
        self.found = {name: each for name, each in self.found.items() if name in there}
        self.unread = {name: why for name, why in self.unread.items() if name in there}
        listed = [(service, name) for service, name in listed if only in (None, name)]
        async with self._leased() as state:
            integrations = await integrations_of(active, desired, state.read_only)
            asked = [integrations[name] for _, name in listed]
            owners = {}
            if asked:
                now, yielder = self._clock.now(), self._context.yielder
                owners = await owners_of(asked, desired, state.ledger, everybody, yielder, now=now)
            if only is None:
                await alert_overdue(active, state.ledger)
        for service, name in listed:
            async with self._leased(service) as state:
                integration = (await integrations_of(active, desired, state.read_only))[name]
                compared = await compare(integration, desired, owners.pop(name), listings)
                await self._note(name, compared, state.ledger)

    async def _note(self, name: str, compared: ComparedListing, ledger: OpenLedger) -> None:
        fault = compared.fault and self._context.redactor.redact(compared.fault)
        self._problems.update(f"listing of {name}", fault)
        self.unread.pop(name, None)
        if not compared.complete:
            self.found.pop(name, None)
            if fault is not None:
                self.unread[name] = fault
            return
        new, last, now = set(compared.seen), "", self._clock.now()

        async def change(**what: Any) -> None:
            await ledger.run(lambda writer: writer.accounts.change(name, now, **what))

        while some := await ledger.run(_after(name, last)):
            last = some[-1]
            new.difference_update(some)
            if gone := [account for account in some if account not in compared.seen]:
                await change(gone=gone)
            await asyncio.sleep(0)
        left = iter(sorted(new))
        while some := list(islice(left, LINES_AT_A_TIME)):
            await change(added=some)
            await asyncio.sleep(0)
        await change(ended=True)
        self.found[name] = replace(compared, seen=frozenset())  # the ledger has them


def _after(integration: str, account: str) -> Callable[[LedgerReader], list[str]]:
    """Read the next accounts of a listing that were seen before."""
    return lambda ledger: ledger.accounts.seen_after(integration, account, LINES_AT_A_TIME)
