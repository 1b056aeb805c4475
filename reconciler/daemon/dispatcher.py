"""What the daemon does: passes, side by side, each over one service and over grants that no other has in hand.

A service that hangs costs its own grants' time and nobody else's. When there is something to do, and over whom, is the
loop's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

import structlog

from reconciler.daemon.health import Health, ProblemLog
from reconciler.daemon.queues import REST, ServiceQueue, cut, in_parts
from reconciler.engine.claims import Claims, ClaimSet
from reconciler.engine.commands import waiting
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.decide import Policy
from reconciler.engine.everybody import Listings
from reconciler.engine.reconciler import Reconciler
from reconciler.engine.state import OpenState, recover, sealing_of
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, ReconcilerError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.not_taken_over import Untrusted
from reconciler.model.report import Report
from reconciler.model.selection import Selection
from reconciler.model.settings import Settings
from reconciler.model.status import Status
from reconciler.notify.notifications import Notifier
from reconciler.notify.rules import Kind, Watch, outages
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Tree

__all__ = ["AT_A_TIME", "SOONEST", "Acting", "Dispatcher", "OnPass"]

log = structlog.get_logger()

OnPass = Callable[[Report, timedelta, str], None]
"""Told of each pass that came to its end: its report, how long it took, and what it was for."""

AT_A_TIME = 250
"""So many hires are in one pass at most, however many there are: what a pass has in memory is bounded."""

GRACE = 30.0
"""Seconds that attempts in flight get to finish after SIGTERM (docs/operations.md)."""

SOONEST, LATEST = timedelta(seconds=1), timedelta(minutes=1)
"""How soon a pass that the ledger ended is made up for; twice as long each time that it fails again."""


@dataclass(slots=True)
class Acting:
    """What the daemon acts on: the revision in force, none before one could be read, and its settings.

    `refused` and `fault` say why the newest commit is not it: nobody vouches for it, or this program errs over it.
    """

    settings: Settings
    tree: Tree | None = None
    refused: Untrusted | None = None
    fault: str | None = None


class Dispatcher:
    """Passes under way, and those that wait for their turn."""

    def __init__(
        self,
        context: Context,
        clock: SystemClock,
        held: OpenState,
        acting: Acting,
        health: Health,
        troubles: ProblemLog,
        on_pass: OnPass,
    ) -> None:
        self._context = context
        self._clock = clock
        self._held = held
        self._acting = acting
        self._health = health
        self._problem_log = troubles
        self._watches: dict[str, Watch] = {}
        self._on_pass = on_pass
        self._notifier = Notifier(context)
        self._claims = Claims()
        self._running: set[asyncio.Task[None]] = set()
        self._lanes: dict[str, ServiceQueue] = {}
        self._due_lanes: dict[str, ServiceQueue] = {}
        self._in_line: set[Key] = set()
        """What is due and waits in one of these, or has its turn."""
        self._owed: dict[Selection, tuple[str, bool]] = {}
        self._owed_from = clock.now()
        self._patience = SOONEST

    def desired(self) -> Desired:
        """What the revision in force wants today."""
        assert self._acting.tree is not None
        files, today = (
            self._context.reader.load(self._acting.tree),
            Policy.of(self._acting.settings, self._clock.now()).today,
        )
        return self._context.desired(files, today)

    def start(
        self, selection: Selection, why: str, *, released: bool = False, lanes: dict[str, ServiceQueue] | None = None
    ) -> None:
        """Passes over some hires or grants, those of each service it meets, a bounded number of hires at a time.

        They wait for nobody but each other, unless they are given `lanes` to wait in, by service.
        """
        for name, whole in self._cut(selection).items():
            lane = ServiceQueue(self.run) if lanes is None else lanes.setdefault(name, ServiceQueue(self.run))
            for part in in_parts(whole, AT_A_TIME):
                self._in_line |= part.grants or frozenset()
                lane.put(partial(self._pass, part, why, released=released))

    def start_due(self, now: datetime) -> None:
        """Passes over the grants whose retry is due and those that a pass had to leave out; in lanes of their own."""
        due = {key for key in self._held.ledger.due(now) if not self._claims.busy(key)} - self._in_line
        due |= self._claims.postponed()
        if due:
            self.start(Selection.of(due), "due", lanes=self._due_lanes)

    def make_up(self, now: datetime) -> None:
        """Begin again the passes that the ledger ended, once their time has come, or where the clock was set back."""
        if timedelta() < self._owed_from - now <= LATEST:
            return
        owed, self._owed = self._owed, {}
        for selection, (why, released) in owed.items():
            self.run(self._pass(selection, why, released=released))

    def queue(
        self,
        selection: Selection,
        why: str,
        listings: Listings,
        *,
        released: bool = False,
        at_most: int | None = None,
    ) -> None:
        """Passes over a selection, each when its service's lane comes to it.

        A lane in which `at_most` wait is left out: whom it looks at is not looked at more often.
        """
        for name, part in self._cut(selection).items():
            lane = self._lanes.setdefault(name, ServiceQueue(self.run))
            if at_most is None or len(lane) < at_most:
                lane.put(partial(self._in_turn, part, why, self._clock.now(), listings, released=released))

    def clear(self) -> None:
        """Forget what waits in the services' lanes."""
        for lane in self._lanes.values():
            lane.clear()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something, and see to its end."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Let what is under way come to its end, for as long as it is given."""
        if self._running:
            log.info("daemon.stopping", passes=len(self._running))
            _, late = await asyncio.wait(self._running, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _in_turn(
        self, selection: Selection, why: str, queued: datetime, listings: Listings, *, released: bool
    ) -> None:
        await self._pass(selection, why, listings, released=released)
        late = self._clock.now() - queued - self._acting.settings.interval
        if why == "interval":
            self._health.overrun = max(self._health.overrun, late)

    def _cut(self, selection: Selection) -> dict[str, Selection]:
        """A selection, cut by service; each part has its own hires only, and of single grants its own."""
        desired = self.desired()
        if selection.hires is None:
            return cut(selection, desired.services)
        if selection.grants is None:
            met = [
                (hire, integration)
                for hire in selection.hires
                for integration in desired.integrations(hire)
                if selection.integrations is None or integration in selection.integrations
            ]
            return cut(selection, desired.services, [*met, *self._held.ledger.integrations(selection.hires)])
        found = [
            (grant.key, grant.integration)
            for hire in selection.hires
            for grant in desired.grants(hire)
            if selection.covers(grant.key, grant.integration)
        ]
        found += [(record.key, record.integration) for record in self._records(selection.grants)]
        home = {integration: name for name, service in desired.services.items() for integration in service.manifests}
        own: dict[str, set[Key]] = {}
        for key, integration in found:
            own.setdefault(home.get(integration, REST), set()).add(key)
        parts = cut(selection, desired.services, [(key.hire, integration) for key, integration in found])
        return {name: replace(part, grants=frozenset(own.get(name, ()))) for name, part in parts.items()}

    async def _pass(
        self, selection: Selection, why: str, listings: Listings | None = None, *, released: bool = False
    ) -> None:
        """One pass; whatever stops it is told, and the daemon goes on."""
        if self._acting.tree is None or self._clock.stopping.is_set():
            return
        began = self._clock.now()
        self._health.due()
        claim_set = self._claims.begin()
        structlog.contextvars.bind_contextvars(pass_id=f"{int(began.timestamp() * 1000):x}")
        try:
            # An attempt that a full disk cut off has no end in the ledger: it is settled like after a crash.
            recover(self._held.ledger, self._acting.settings, began, busy=self._claims.busy)
            report = await self._walk(selection, claim_set, listings, released=released)
            report.refuse(self._acting.refused)
            self._passed(report, why, began)
        except Stopped:
            pass  # before anything was executed
        except (ReconcilerError, OSError) as error:
            self._health.problem = _text(error)
            self._problem_log.tell("pass", _text(error))
            if isinstance(error, LedgerError):
                self._owed[selection] = (why, released)
                self._owed_from = self._clock.now() + self._patience
                self._patience = min(2 * self._patience, LATEST)
        except Exception as error:
            # The outermost boundary: a fault of this program ends this pass, is told, and shows in the health.
            self._health.problem = f"a fault of this program: {type(error).__name__}"
            log.exception("pass.broken", why=why)
        finally:
            claim_set.close()
            self._in_line -= selection.grants or frozenset()
            if not self._running - {asyncio.current_task()}:
                self._health.idle()

    def _passed(self, report: Report, why: str, began: datetime) -> None:
        """A pass came to its end."""
        now = self._clock.now()
        self._health.problem = self._acting.fault
        self._progressed()
        self._patience = SOONEST
        self._problem_log.tell("pass", None)
        self._on_pass(report, now - began, why)
        if why != "interval" or report.executed or report.revoked or report.failures:
            log.info("pass.finished", why=why, revision=report.revision, **_counts(report))
        self._tell_outages(report)
        if report.executed:
            self._follow_up(report)

    def _tell_outages(self, report: Report) -> None:
        """Say when the checks of an integration begin to fail, and when they are answered again."""
        for news in outages(self._watches, report.rows, self._clock.now()):
            self._problem_log.tell(f"checks of {news.integration}", news.reason if news.kind is Kind.OUTAGE else None)

    def _follow_up(self, report: Report) -> None:
        """Look at what waits for an entry that is there now: it may be another service's."""
        there = {Key(row.hire, row.access) for row in report.rows if row.status in (Status.PRESENT, Status.DONE)}
        desired = self.desired()
        waiting = {
            grant.key
            for hire in {key.hire for key in there}
            for grant in desired.grants(hire)
            if any(Key(hire, need) in there for need in grant.needs)
        }
        tried = {record.key for record in self._records(waiting) if record.phase is not Phase.NEW}
        if waiting - tried:
            self.start(Selection.of(waiting - tried), "needs")

    def _records(self, keys: Iterable[Key]) -> list[Record]:
        wanted = set(keys)
        hires = {key.hire for key in wanted}
        return [record for record in self._held.ledger.records(hires) if record.key in wanted] if wanted else []

    async def _walk(
        self, selection: Selection, claim_set: ClaimSet, listings: Listings | None, *, released: bool
    ) -> Report:
        tree, ledger = self._acting.tree, self._held.ledger
        assert tree is not None
        if self._held.sealing.fault is not None:  # its key may be back, or the agent unlocked
            self._held.sealing = sealing_of(self._context, self._acting.settings, tree, ledger)
            self._problem_log.tell("sealed", self._held.sealing.fault)
        reconciler = Reconciler(self._context, self._held, self._notifier, progressed=self._progressed)
        planning = reconciler.plan(
            selection,
            tree,
            commands=waiting(ledger.commands()),
            released=released,
            claims=claim_set,
            listings=listings,
        )
        return await reconciler.apply(await self._clock.unless_stopped(planning))

    def _progressed(self) -> None:
        self._health.progress = monotonic()


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ReconcilerError) else f"{type(error).__name__}: {error}"


def _counts(report: Report) -> Mapping[str, int]:
    did = {"executed": report.executed, "revoked": report.revoked, "attempts_failed": report.failures}
    return {**{name: count for name, count in did.items() if count}, **report.summary}
