"""The daemon's loop: watch for commits and commands, decide what is due, dispatch passes.

It decides only when, and over which grants: `dispatcher` makes the passes, `schedule` spreads the interval's full
resync, `revisions` takes over commits, `fetching` brings them from the remote.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from datetime import datetime, timedelta
from functools import partial
from time import monotonic

import structlog

from reconciler.daemon.acting import Acting
from reconciler.daemon.approving import Approving
from reconciler.daemon.dispatcher import Dispatcher, OnPass
from reconciler.daemon.events import EventChecks
from reconciler.daemon.fetching import Fetching
from reconciler.daemon.freshness import Freshness
from reconciler.daemon.health import Health
from reconciler.daemon.hooked import GIT, LATE, HookLog
from reconciler.daemon.publishing import Publishing
from reconciler.daemon.relay import PushRelay
from reconciler.daemon.revisions import Revisions
from reconciler.daemon.schedule import Schedule
from reconciler.daemon.slices import Lane, Make, SliceRunner, Spawn
from reconciler.daemon.survey import Survey
from reconciler.engine.apply.commands import changes_of, end_locks, scope_of
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.state import OpenState
from reconciler.ledger.entries import Command
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, RepositoryError
from reconciler.model.report import Report
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.settings import Settings
from reconciler.notify.alerts import alert_freshness
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import edits_ignored
from reconciler.repository.git.trees import Tree
from reconciler.repository.git.watch import commits

__all__ = ["Daemon", "Watch"]

log = structlog.get_logger()

TICK_SECONDS = 0.5
"""How often to determine what is due and to read the commands."""

LOCKS_AGAIN = timedelta(minutes=1)
"""How often to ask again for an account that is to be locked."""

Watch = Callable[..., AsyncGenerator[None, None]]


class Daemon:
    """Makes passes over one repository until the clock is stopped. `watch` yields when there is a new commit."""

    def __init__(
        self,
        context: Context,
        clock: SystemClock,
        state: OpenState,
        settings: Settings,
        on_pass: OnPass,
        *,
        branch: str | None = None,
        watch: Watch = commits,
        on_checkpoint: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._context = context
        self._clock = clock
        self._state = state
        self._ledger = state.ledger
        self._watch_commits = watch
        self._on_pass = on_pass
        self.health = Health(monotonic())
        self._dispatcher = Dispatcher(
            context,
            clock,
            state,
            Acting(settings=settings, branch=branch),
            health=self.health,
            on_pass=self._passed,
            make_runner=None if state.member is None else partial(self._fleet, context, clock, state),
        )
        self.survey = Survey(context, clock, self._dispatcher.runner.leased, self.health.problems)
        self._schedule = Schedule(context, clock, self._ledger, self._dispatcher, self.health, survey=self.survey)
        self.fetching = Fetching(context, clock, self._ledger, problems=self.health.problems, fetched=self._fetched)
        self._revisions = Revisions(
            context,
            clock,
            state,
            dispatcher=self._dispatcher,
            schedule=self._schedule,
            freshness=self.freshness,
            health=self.health,
        )
        self.hooks = HookLog(self._ledger, clock, self.health.problems)
        self._events = EventChecks(
            context,
            self.health.problems,
            desired=self._dispatcher.desired,
            check=lambda keys: self._dispatcher.start_grants(keys, "event"),
            listed=lambda name: self._dispatcher.run(self._schedule.read_listing(name)),
        )
        self.publishing = Publishing(context, self._ledger, self.health.problems, on_checkpoint)
        self.approving = Approving(context, self._ledger, self.health.problems)
        self._taken_up: set[Command] = set()
        """The commands in the ledger that were taken up already."""
        self._led = self._dispatcher.runner.leads
        self._locks_at = clock.now()
        self._relay = PushRelay(
            self._ledger,
            clock,
            self._dispatcher.runner,
            self.health.problems,
            spawn=self._dispatcher.run,
            fetch=self._fetch_what_was_pushed,
        )
        self.edits: list[str] = []
        """The paths of uncommitted edits, which are ignored, as of the last look."""

    def _fleet(self, context: Context, clock: SystemClock, state: OpenState, make: Make, spawn: Spawn) -> SliceRunner:
        from reconciler.daemon.fleet.member import Fleet

        return Fleet(
            context,
            clock,
            state,
            make,
            spawn,
            problems=self.health.problems,
            dispatcher=lambda: self._dispatcher,
            catch_up=self._catch_up,
        )

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._dispatcher.acting.settings

    @property
    def acting(self) -> Acting:
        """What passes act on."""
        return self._dispatcher.acting

    @property
    def ignored(self) -> list[str]:
        """What the checkout has and is not acted on, a sentence each."""
        said = self.acting.head_ignored, edits_ignored(self.edits)
        return [each for each in said if each is not None]

    @property
    def tree(self) -> Tree | None:
        """The revision in force; None before the first one was read."""
        return self._dispatcher.acting.tree

    @property
    def desired(self) -> Desired | None:
        """The desired state of the last pass, to be shown; None before the first pass."""
        return self._context.last_desired

    @property
    def away(self) -> str | None:
        """Why the state cannot be reached; None if it can, as far as is known."""
        return self._dispatcher.runner.away

    def leased(self, service: str) -> AbstractAsyncContextManager[OpenState]:
        """Lease a service while the block runs, and return the state to write to."""
        return self._dispatcher.runner.leased(service)

    @property
    def freshness(self) -> Freshness:
        """How new the revision in force is."""
        return self.fetching.freshness

    def makes_progress(self) -> tuple[bool, str]:
        """Whether due work gets done, and if not, why."""
        well = self.health.healthy(monotonic(), self.settings.interval)
        return well, self.health.problem or ("ok" if well else "work is due and nothing gets done")

    def healthy(self) -> tuple[bool, str]:
        """Whether due work gets done and commits are taken over, and if not, why. A restart only helps the former."""
        well, why = self.makes_progress()
        stale = self.freshness.stale
        return (False, str(stale)) if well and stale is not None else (well, why)

    async def run(self) -> None:
        """Run until the clock is stopped; then let the attempts in flight finish."""
        watching = asyncio.create_task(self._watch())
        try:
            await self.fetching.open()
            await self._dispatcher.open()
            await asyncio.sleep(0)  # the watch remembers HEAD at its first step: let that come before HEAD is read here
            await self._commit()
            with suppress(Stopped):
                while not watching.done():
                    await self._tick()
                    await self._clock.sleep(TICK_SECONDS)
                watching.result()  # it ended by a fault: without it, commits would go unnoticed
        finally:
            watching.cancel()
            self.fetching.cancel()
            self._events.cancel()
            await self.approving.cancel()
            await self._dispatcher.finish()
            await self.publishing.finish()

    async def _watch(self) -> None:
        while not self._clock.stopping.is_set():
            source = self.settings.source
            new_commits = self._watch_commits(
                self._context.checkout, self._clock.stopping, source=source, on=self._watched
            )
            async with aclosing(new_commits):
                async for _ in new_commits:
                    await self._commit()
                    if self.settings.source != source:
                        break

    def _watched(self) -> tuple[str | None, str]:
        """Return the branch in force and the remote, where its newest commit is looked for."""
        return self.acting.branch, self.settings.git.remote

    async def _commit(self) -> None:
        await self._revisions.take_over()
        if self.tree is not None:
            self._events.read_ahead()

    def pushed(self) -> None:
        """Fetch at once because a git server says that somebody pushed; a fleet's leader does, too."""
        if not self._clock.stopping.is_set():
            self._dispatcher.run(self.hooks.came(GIT))
            self._fetch_what_was_pushed()
            self._relay.tell()

    def told(self, integration: str, account: str | None) -> None:
        """Check an account at once because its service says that it changed."""
        if self.tree is not None and not self._clock.stopping.is_set():
            self._dispatcher.run(self.hooks.came(integration))
            self._events.tell(integration, account)

    def _passed(self, report: Report, took: timedelta, why: str) -> None:
        """Tell of a pass that completed; one of the interval finds what services should have told of."""
        self._on_pass(report, took, why)
        if why == "interval":
            manifests = self._dispatcher.desired().files.manifests
            tell = [name for name, loaded in manifests.items() if loaded.model.events is not None]
            began = self._clock.now() - took
            self._dispatcher.run(self.hooks.look_for_lost(tell, began, self.settings.interval))

    def _fetch_what_was_pushed(self) -> None:
        self.fetching.nudge(lambda: self.acting)

    async def _fetched(self) -> None:
        """Act on what was fetched; note if nobody told of it."""
        told_of, before, fetch = self.fetching.told_of, self.fetching.began_with, self.settings.git.fetch
        await self._commit()
        if not told_of and before is not None and self.tree is not None and self.tree.revision != before and fetch:
            self.hooks.found_without(GIT, self._clock.now() - fetch - LATE)

    async def _catch_up(self) -> None:
        """Fetch at once, and act on the newest commit."""
        await self.fetching.at_once(self._dispatcher.acting)
        await self._commit()

    async def _tick(self) -> None:
        self.health.ticked_at = monotonic()
        now = self._clock.now()
        self.fetching.begin(now, self._dispatcher.acting)
        if self._revisions.is_due(now):
            await self._commit()
        if self.tree is None:
            return
        if (away := self._dispatcher.runner.away) is not None:
            self.health.stuck("ledger", away)
            return
        try:
            self._dispatcher.runner.tick(now)
            await self.hooks.judge()
            await self._dispatcher.start_postponed()
            if self._dispatcher.runner.leads:
                await self._lead(now, self.tree)
        except LedgerError as error:
            self.health.stuck("ledger", str(error))
        except RepositoryError as error:
            self.health.stuck("files", str(error))
        else:
            self.health.problems.update("ledger", None)
            self.health.problems.update("files", None)

    async def _lead(self, now: datetime, tree: Tree) -> None:
        """Decide what is due."""
        if not self._led:  # the leader before this one may have died in the middle of a count or a sweep
            await self._dispatcher.passes.count(self._state, self.settings, tree)
            await self._schedule.sweep(PassRequest(Selection(), "start"))
            self._led = True
        await self._relay.look()
        await self._take_up_commands()
        await self._dispatcher.start_due(now)
        await self._follow_locks(now)
        await self._schedule.judge_counted()
        await self._schedule.queue_due(now)
        await self._judge_freshness(now, tree)
        self.publishing.begin(now, self.settings, tree, self.acting.branch)
        self.approving.begin(self.settings, self.acting.branch)

    async def _follow_locks(self, now: datetime) -> None:
        """End the locks whose time is over, and look again at accounts that could not be asked for."""
        if ended := await self._ledger.run(partial(end_locks, now=now)):
            await self._dispatcher.start(PassRequest(Selection(frozenset(ended)), "asked", partial=True))
        if abs(now - self._locks_at) >= LOCKS_AGAIN:
            self._locks_at = now
            if left := await self._ledger.run(lambda ledger: ledger.not_locked_yet()):
                await self._dispatcher.start_grants(left, "due", lane=Lane.DUE)

    async def _take_up_commands(self) -> None:
        """Take up new commands, each in a task: another member may have the services that it changes."""
        commands = await self._ledger.run(lambda ledger: ledger.commands())
        new = [command for command in commands if command not in self._taken_up]
        self._taken_up = set(commands)  # not their ids alone: a new command may get the id of one that was answered
        for command in new:
            self._dispatcher.run(self._apply_one(command))

    async def _apply_one(self, command: Command) -> None:
        """Take up a command; one that needs a pass stays in the ledger until a pass acts on it."""
        try:
            changes = await changes_of(self._ledger, command, self._dispatcher.desired().service_of)
            parts = command.kind != "forget" and len(changes) > 1
            if parts and not self._dispatcher.runner.alone:  # each part as soon as its service is free
                await self._ledger.run(lambda ledger: ledger.split(command, changes.values()))
                return
            if command.kind == "release":
                await self._schedule.sweep(PassRequest(scope_of(command), "released", released=True))
                await self._schedule.let_through()  # if this process dies before, the next one takes it up
            asked = await self._dispatcher.passes.apply_commands([command], {*changes})
            self._taken_up -= asked.waiting
            if asked.touched:
                await self._dispatcher.start_grants(asked.touched, "asked")
            if asked.hires:
                await self._dispatcher.start(PassRequest(Selection(frozenset(asked.hires)), "asked", partial=True))
        except Stopped:
            pass
        except (LedgerError, RepositoryError) as error:
            self._taken_up.discard(command)
            self.health.stuck("commands", str(error))
        else:
            self.health.problems.update("commands", None)

    async def _judge_freshness(self, now: datetime, tree: Tree) -> None:
        """Alert when the revision in force becomes stale, and when it no longer is."""
        changed = await self.fetching.judge(now, self.settings.fail_stale)
        if changed is not None:
            before, stale = changed
            self._dispatcher.run(alert_freshness(self._context, self.settings, tree, before, stale))
