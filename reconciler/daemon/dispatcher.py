"""Dispatching: passes side by side, each over one service and over grants that no other pass has claimed.

A service that hangs delays its own grants and no others. The loop decides when a pass is due, and over what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from reconciler.daemon.acting import Acting
from reconciler.daemon.cutting import by_service, in_parts, joined
from reconciler.daemon.health import Health
from reconciler.daemon.queues import Queues
from reconciler.daemon.slices import Lane, Make, Outdated, Slice, SliceRunner, Spawn
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.decide.orphans import all_needed
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.claims import Claims
from reconciler.engine.run.runner import PassRunner
from reconciler.engine.state import OpenState
from reconciler.engine.trust import reopened
from reconciler.model.clock import Stopped, stamp
from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import LedgerError, ReconcilerError, RepositoryError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.report import Report
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.settings import Settings
from reconciler.model.status import Action, Status
from reconciler.notify import outages as remembered
from reconciler.notify.notifications import Notifier
from reconciler.notify.rules import CheckStreak, NewsKind, outages
from reconciler.repository.desired import Desired
from reconciler.repository.git.trees import Tree

__all__ = ["MAX_HIRES", "Dispatcher", "OnPass"]

log = structlog.get_logger()

OnPass = Callable[[Report, timedelta, str], None]
"""Called after each pass that completed: its report, how long it took, and what it was for."""

MAX_HIRES = 250
"""The most hires of one pass: it bounds the memory that a pass needs."""

HIRES_AT_A_TIME = 20
"""The most hires of single grants that are looked through before other tasks run."""

GRACE_SECONDS = 30.0
"""How long attempts in flight may take to finish after SIGTERM (docs/operations.md)."""

MakeRunner = Callable[[Make, Spawn], SliceRunner]
"""Returns the runner that makes slices by calling the first argument, in tasks started by the second."""


class Dispatcher:
    """Cuts what is due into slices, and makes them.

    `acting` is the revision that they act on; it is replaced when a commit was taken over. `runner` is where they wait.
    """

    def __init__(
        self,
        context: Context,
        clock: SystemClock,
        state: OpenState,
        acting: Acting,
        *,
        health: Health,
        on_pass: OnPass,
        make_runner: MakeRunner | None,
    ) -> None:
        self.acting = acting
        self._context = context
        self._clock = clock
        self._state = state
        self._health = health
        self._on_pass = on_pass
        self._watches = dict[str, CheckStreak]()
        self._claims = Claims()
        self._running: set[asyncio.Task[None]] = set()
        self._making = 0
        self.runner = make_runner(self.make, self.run) if make_runner else Queues(clock, state, self.make, self.run)
        self.passes = PassRunner(
            context=context,
            clock=clock,
            leases=self.runner,
            revision=self._revision,
            notifier=Notifier(context),
            claims=self._claims,
            counts=False,
            progressed=health.progressed,
        )

    async def open(self) -> None:
        """Read which outages lasted when the daemon before this one ended. Raises LedgerError."""
        self._watches = await self._state.ledger.run(remembered.watches)

    def desired(self, acting: Acting | None = None) -> Desired:
        """The desired state of today, at the revision in force or the one given."""
        acting = acting or self.acting
        assert acting.tree is not None
        today = Policy.of(acting.settings, self._clock.now()).today
        return self._context.desired(self._context.reader.load(acting.tree), today)

    @property
    def at_risk(self) -> bool:
        """Whether passes that override the guard would be lost with this process."""
        return self._claims.overriding or self.runner.at_risk

    async def start(self, request: PassRequest, *, lane: Lane = Lane.NOW) -> None:
        """Make passes over the selection, in parts of `MAX_HIRES` hires of a service."""
        now = self._clock.now()
        for name, whole in (await self._by_service(request.selection)).items():
            parts = in_parts(whole, MAX_HIRES)
            self.runner.put([Slice(name, replace(request, selection=part), lane, now) for part in parts])

    async def start_due(self, now: datetime) -> None:
        """Make passes over the grants whose retry is due, and those whose time is over."""
        ledger = self._state.ledger
        found = await ledger.run(lambda reader: reader.due(now))
        due = {key for key in found if not self._claims.busy(key)} - self.runner.waiting
        if due:
            await self.start_grants(due, "due", lane=Lane.DUE)
        found = await ledger.run(lambda reader: reader.expiring(now))
        over = {key for key in found if not self._claims.busy(key)} - self.runner.waiting
        if over:
            await self.start_grants(over, "over")

    async def start_grants(
        self,
        keys: Iterable[Key],
        why: str,
        *,
        lane: Lane = Lane.NOW,
        listings: Listings | None = None,
        partial: bool = True,
    ) -> None:
        """Make passes over single grants: all of a service that was down may be due at once.

        They are `partial`, unless all that the guard counts was checked.
        """
        desired, found = self.desired(), dict[str, list[Selection]]()
        for some in in_parts(Selection.of(keys), HIRES_AT_A_TIME):
            await self._context.pace.keep()
            for name, cut in (await by_service(some, desired, self._state.ledger)).items():
                found.setdefault(name, []).append(cut)
        now = self._clock.now()
        for name, parts in found.items():
            whole = in_parts(joined(parts), MAX_HIRES)
            requests = (PassRequest(each, why, partial=partial) for each in whole)
            self.runner.put([Slice(name, request, lane, now, listings) for request in requests])

    async def start_postponed(self) -> None:
        """Make passes over the grants that were postponed because another pass had claimed them."""
        postponed = self._claims.postponed()
        if due := {key for key, overrides in postponed.items() if not overrides}:
            await self.start(PassRequest(Selection.of(due), "due", partial=True), lane=Lane.DUE)
        if hires := frozenset(key.hire for key in postponed.keys() - due):  # for single grants, no guard is overridden
            await self.start(PassRequest(Selection(hires), "released", released=True))

    async def queue(self, request: PassRequest, listings: Listings, *, at_most: int | None = None) -> None:
        """Queue a pass for each service of the selection.

        A service with `at_most` passes waiting is left out: its hires are checked less often.
        """
        now, parts = self._clock.now(), await self._by_service(request.selection)
        for name, part in parts.items():
            item = Slice(name, replace(request, selection=part), Lane.INTERVAL, now, listings)
            self.runner.put([item], at_most=at_most)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task, which `finish` awaits."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Await the passes and tasks under way for up to `GRACE_SECONDS`, then cancel them."""
        await asyncio.gather(self._finish_tasks(), self.runner.finish())

    async def _finish_tasks(self) -> None:
        if self._running:
            log.info("daemon.stopping", passes=len(self._running))
            _, late = await asyncio.wait(self._running, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _by_service(self, selection: Selection) -> dict[str, Selection]:
        return await by_service(selection, self.desired(), self._state.ledger)

    async def make(self, item: Slice) -> bool:
        """Make one pass; False if the ledger or this clone failed. Any error is logged, and the daemon continues."""
        if self.acting.tree is None or self._clock.stopping.is_set():
            return True
        began, request = self._clock.now(), item.request
        self._health.due()
        self._making += 1
        structlog.contextvars.bind_contextvars(pass_id=f"{int(began.timestamp() * 1000):x}")
        try:
            report = await self._pass(item)
            report.refuse(self.acting.refused)
            await self._completed(report, request.why, began)
            if request.why == "interval":
                late = self._clock.now() - item.queued_at - self.acting.settings.interval
                self._health.overrun = max(self._health.overrun, late)
        except Stopped:
            pass  # nothing was executed yet
        except Outdated:
            return False
        except (ReconcilerError, OSError) as error:
            self._health.problem = _text(error)
            self._health.problems.update("pass", _text(error))
            return not isinstance(error, LedgerError | RepositoryError | OSError)
        except Exception as error:
            # The outermost boundary: a fault of this program ends this pass, is logged, and shows in the health.
            self._health.problem = f"a fault of this program: {type(error).__name__}"
            log.exception("pass.broken", why=request.why)
        finally:
            self._making -= 1
            if not self._making and not self._running - {asyncio.current_task()}:
                self._health.idle()
        return True

    async def _pass(self, item: Slice) -> Report:
        if self._state.sealing.fault is not None:  # its key may be back, or the agent unlocked
            settings, tree = self._revision()
            self._state.sealing = await reopened(self._context, settings, tree, self._state.ledger)
            self._health.problems.update("sealed", self._state.sealing.fault)
        return await self.passes.run(item.request, {item.service}, listings=item.listings)

    def _revision(self) -> tuple[Settings, Tree]:
        assert self.acting.tree is not None
        return self.acting.settings, self.acting.tree

    async def _completed(self, report: Report, why: str, began: datetime) -> None:
        """Log a pass that completed, and start passes over what depends on it."""
        now = self._clock.now()
        self._health.problem = self.acting.fault
        self._health.progressed()
        self._health.problems.update("pass", None)
        self._on_pass(report, now - began, why)
        if why != "interval" or report.executed or report.revoked or report.failures:
            log.info("pass.finished", why=why, revision=report.revision, **_counts(report))
        if not self.runner.alone:  # another member may have seen an outage begin or end
            up = {name: watch for name, watch in self._watches.items() if watch.down_since is None}
            self._watches = {**up, **await self._state.ledger.run(remembered.watches)}
        news = outages(self._watches, report.rows, now)
        for item in news:
            reason = item.reason if item.kind is NewsKind.OUTAGE else None
            self._health.problems.update(f"checks of {item.integration}", reason)
        if news:
            await self._state.ledger.run(partial(remembered.note, news=news, now=stamp(now) or ""))
        # What a pass finds present may have been retrying, or a member that died may have executed it. A sweep over all
        # comes by the dependents as well.
        if report.executed or why not in ("start", "interval"):
            await self._start_dependents(report)
        if report.revoked or report.failures or why not in ("start", "interval"):
            await self._start_needed(report)

    async def _start_dependents(self, report: Report) -> None:
        """Make passes over new grants that need an entry that is present now; they may be of another service."""
        present = {Key(row.hire, row.access) for row in report.rows if row.status.granted}
        desired = self.desired()
        dependents = {
            grant.key
            for hire in {key.hire for key in present}
            for grant in desired.grants(hire)
            if any(Key(hire, need) in present for need in grant.needs)
        }
        untried = (Phase.NEW, Phase.REVOKED)
        rows = await self._records({key.hire for key in dependents})
        tried = {row.key for row in rows if row.phase not in untried}
        if dependents - tried:
            await self.start(PassRequest(Selection.of(dependents - tried), "needs", partial=True))

    async def _start_needed(self, report: Report) -> None:
        """Make passes over orphans that waited for those which need them; they may be of another service."""
        seen = {Key(row.hire, row.access) for row in report.rows if row.action is not Action.REVOKE}
        hires = {row.hire for row in report.rows if row.leaves or report.failures}
        rows = await self._records(hires)
        waiting = [row.key for row in rows if row.action is Action.REVOKE and row.status is Status.ORPHANED]
        due = set[Key]()
        for key in waiting:
            needs = {row.key.access: row.needs for row in rows if row.key.hire == key.hire}
            needing = {Key(key.hire, access) for access in needs if key.access in all_needed(access, needs)}
            due |= {key} if needing & seen else set()
        if due:
            await self.start(PassRequest(Selection.of(due), "needs", partial=True))

    async def _records(self, hires: Collection[str]) -> list[Record]:
        return await self._state.ledger.run(lambda reader: list(reader.records(hires))) if hires else []


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ReconcilerError) else f"{type(error).__name__}: {error}"


def _counts(report: Report) -> dict[str, int]:
    did = {"executed": report.executed, "revoked": report.revoked, "attempts_failed": report.failures}
    return {**{name: count for name, count in did.items() if count}, **report.summary}
