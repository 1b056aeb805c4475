"""Dispatching: passes side by side, each over one service and over grants that no other pass has claimed.

A service that hangs delays its own grants and no others. The loop decides when a pass is due, and over what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

import structlog

from reconciler.daemon.runtime import GRACE_SECONDS, Runtime
from reconciler.daemon.slices import Lane, Make, Outdated, Queues, Slice, by_service
from reconciler.engine.apply.claims import Claims
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.runner import PassRunner
from reconciler.model.clock import Stopped, stamp
from reconciler.model.errors import LedgerError, ReconcilerError, RepositoryError
from reconciler.model.grant import Key, Phase, Record, all_needed
from reconciler.model.report import Report
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.notify.alerts import note_outages, watches
from reconciler.notify.delivery import Notifier
from reconciler.notify.rules import CheckStreak, NewsKind, outages
from reconciler.requests.tasks import MAX_HIRES

if TYPE_CHECKING:  # what it needs for a server's state is loaded where there is one
    from reconciler.daemon.fleet.member import Fleet

log = structlog.get_logger()

OnPass = Callable[[Report, timedelta, str], None]
"""Called after each pass that completed: its report, how long it took, and what it was for."""

SliceRunner: TypeAlias = "Queues | Fleet"
"""What queues slices, and has each one made when its service is free."""

MakeRunner = Callable[[Runtime, Make], SliceRunner]
"""Returns the runner that makes slices by calling the second argument."""


class Dispatcher:
    """Cuts what is due into slices, and makes them. `runner` is where they wait."""

    def __init__(self, runtime: Runtime, on_pass: OnPass, make_runner: MakeRunner = Queues) -> None:
        self._runtime = runtime
        self._ledger = runtime.ledger
        self._health = runtime.health
        self._on_pass = on_pass
        self._watches = dict[str, CheckStreak]()
        self._claims = Claims()
        self._making = 0
        self.runner = make_runner(runtime, self.make)
        self.passes = PassRunner(
            clock=runtime.clock,
            leases=self.runner,
            revision=lambda: runtime.active,
            notifier=Notifier(),
            claims=self._claims,
            counts=False,
            spawn=runtime.tell,
        )

    async def open(self) -> None:
        """Read which outages lasted when the daemon before this one ended. Raises LedgerError."""
        self._watches = await self._ledger.run(watches)

    @property
    def at_risk(self) -> bool:
        """Whether passes that override the guard would be lost with this process."""
        return self._claims.overriding or self.runner.at_risk

    async def start(
        self,
        request: PassRequest,
        lane: Lane = Lane.NOW,
        *,
        listings: Listings | None = None,
        at_most: int | None = None,
    ) -> bool:
        """Make passes over the selection, in parts of `MAX_HIRES` hires of a service; return whether there are any.

        A service with `at_most` passes waiting is left out: its hires are checked less often.
        """
        now, yielder = self._runtime.clock.now(), self._runtime.context.yielder
        services = await by_service(request.selection, self._runtime.active.desired, self._ledger, yielder)
        for name, whole in services.items():
            requests = (replace(request, selection=part) for part in whole.parts(MAX_HIRES))
            slices = [Slice(name, each, lane, now, listings) for each in requests]
            self.runner.put(slices, at_most=at_most)
        return bool(services)

    async def start_grants(self, keys: Iterable[Key], why: str, lane: Lane = Lane.NOW) -> None:
        """Make passes over single grants."""
        await self.start(PassRequest(Selection.of(keys), why, partial=True), lane)

    async def start_due(self, now: datetime) -> None:
        """Make passes over the grants whose retry is due, and those whose time is over."""
        await self._start_free(await self._ledger.run(lambda reader: reader.grants.due(now)), "due", Lane.DUE)
        await self._start_free(await self._ledger.run(lambda reader: reader.grants.expiring(now)), "over", Lane.NOW)

    async def _start_free(self, keys: Iterable[Key], why: str, lane: Lane) -> None:
        """Make passes over the grants that are in none yet."""
        if free := {key for key in keys if not self._claims.busy(key)} - self.runner.waiting:
            await self.start_grants(free, why, lane)

    async def start_postponed(self) -> None:
        """Make passes over the grants that were postponed because another pass had claimed them."""
        postponed = self._claims.postponed()
        if due := {key for key, overrides in postponed.items() if overrides is None}:
            await self.start_grants(due, "due", Lane.DUE)
        for by in sorted({by for by in postponed.values() if by is not None}):
            hires = frozenset(key.hire for key, overrides in postponed.items() if overrides == by)
            # not of the grants alone: for single ones, no guard is overridden
            await self.start(PassRequest(Selection(hires), "released", released=by))

    async def finish(self) -> None:
        """Await the passes and tasks under way for a limited time, then cancel them."""
        began = monotonic()
        await asyncio.gather(self._runtime.finish(), self.runner.finish())
        await self._runtime.have_told(max(1.0, GRACE_SECONDS - (monotonic() - began)))

    async def make(self, item: Slice) -> bool:
        """Make one pass; False if the ledger or this clone failed. Any error is logged, and the daemon continues."""
        runtime = self._runtime
        if not runtime.active.taken_over or runtime.clock.stopping.is_set():
            return True
        began, request, active = runtime.clock.now(), item.request, runtime.active
        self._health.due()
        self._making += 1
        structlog.contextvars.bind_contextvars(pass_id=f"{int(began.timestamp() * 1000):x}")
        try:
            report = await self._pass(item)
            report.refuse(runtime.active.refused)
            await self._completed(report, request.why, began)
            if runtime.active is not active:
                await self._start_removed(report)
            if request.why == "interval":
                late = runtime.clock.now() - item.queued_at - runtime.active.settings.interval
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
            if not self._making and runtime.only_this_task:
                self._health.idle()
        return True

    async def _pass(self, item: Slice) -> Report:
        await self._runtime.reopen()
        return await self.passes.run(item.request, {item.service}, listings=item.listings)

    async def _completed(self, report: Report, why: str, began: datetime) -> None:
        """Log a pass that completed, and start passes over what depends on it."""
        now = self._runtime.clock.now()
        self._health.problem = self._runtime.active.fault
        if report.rows or self._claims.none_taken:  # else what is due may be in a pass that hangs
            self._health.progressed()
        self._health.problems.update("pass", None)
        self._on_pass(report, now - began, why)
        if why != "interval" or report.executed or report.revoked or report.failures:
            log.info("pass.finished", why=why, revision=report.revision, **_counts(report))
        if not self.runner.exclusive:  # another member may have seen an outage begin or end
            up = {name: watch for name, watch in self._watches.items() if watch.down_since is None}
            self._watches = {**up, **await self._ledger.run(watches)}
        news = outages(self._watches, report.rows, now)
        for item in news:
            reason = item.reason if item.kind is NewsKind.OUTAGE else None
            self._health.problems.update(f"checks of {item.integration}", reason)
        if news:
            await self._ledger.run(partial(note_outages, news=news, now=stamp(now) or ""))
        # What a pass finds present may have been retrying, or a member that died may have executed it. A sweep over all
        # comes by the dependents as well.
        if report.executed or why not in ("start", "interval"):
            await self._start_dependents(report)
        if report.revoked or report.failures or why not in ("start", "interval"):
            await self._start_needed(report)

    async def _start_dependents(self, report: Report) -> None:
        """Make passes over new grants that need an entry that is present now; they may be of another service."""
        present = {Key(row.hire, row.access) for row in report.rows if row.status.granted}
        desired = self._runtime.active.desired
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
            await self.start_grants(dependents - tried, "needs")

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
            await self.start_grants(due, "needs")

    async def _start_removed(self, report: Report) -> None:
        """Make passes over what a commit removed during a pass that found it: the commit's own saw no row of it."""
        desired = self._runtime.active.desired
        wanted = {grant.key for hire in {row.hire for row in report.rows} for grant in desired.grants(hire)}
        if removed := {Key(row.hire, row.access) for row in report.rows if not row.leaves} - wanted:
            await self.start_grants(removed, "commit")

    async def _records(self, hires: Collection[str]) -> list[Record]:
        return await self._ledger.run(lambda reader: list(reader.grants.records(hires))) if hires else []


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ReconcilerError) else f"{type(error).__name__}: {error}"


def _counts(report: Report) -> dict[str, int]:
    did = {"executed": report.executed, "revoked": report.revoked, "attempts_failed": report.failures}
    return {**{name: count for name, count in did.items() if count}, **report.summary}
