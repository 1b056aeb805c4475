"""The daemon's loop: watch for commits and commands, decide what is due, dispatch passes.

It decides only when, and over which grants: `dispatcher` makes the passes, `schedule` spreads the interval's full
resync, `revisions` takes over commits, `fetching` brings them from the remote.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from functools import partial
from time import monotonic

from reconciler.daemon.approving import Approving
from reconciler.daemon.dispatcher import Dispatcher, OnPass, SliceRunner
from reconciler.daemon.events import EventChecks
from reconciler.daemon.fetching import Fetching, PushRelay
from reconciler.daemon.hooked import GIT, LATE, HookLog
from reconciler.daemon.publishing import Publishing
from reconciler.daemon.revisions import Revisions
from reconciler.daemon.runtime import Runtime
from reconciler.daemon.schedule import Schedule
from reconciler.daemon.slices import Lane, Make, Queues
from reconciler.daemon.survey import Survey
from reconciler.engine.apply.commands import changes_of, end_locks, scope_of
from reconciler.ledger.entries import Command
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, RepositoryError
from reconciler.model.report import Report
from reconciler.model.selection import PassRequest, Selection
from reconciler.notify.alerts import alert_freshness
from reconciler.repository.git.checkout import edits_ignored
from reconciler.repository.git.watch import commits

TICK_SECONDS = 0.5
"""How often to determine what is due and to read the commands."""

LOCKS_AGAIN = timedelta(minutes=1)
"""How often to ask again for an account that is to be locked."""

Watch = Callable[..., AsyncGenerator[None, None]]


class Daemon:
    """Makes passes over one repository until the clock is stopped. `watch` yields when there is a new commit."""

    def __init__(
        self,
        runtime: Runtime,
        on_pass: OnPass,
        *,
        watch: Watch = commits,
        on_checkpoint: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.runtime = runtime
        self._clock = runtime.clock
        self._ledger = runtime.ledger
        self._health = runtime.health
        self._watch_commits = watch
        self._on_pass = on_pass
        self._dispatcher = Dispatcher(runtime, self._passed, Queues if runtime.state.member is None else self._fleet)
        self.runner = self._dispatcher.runner
        self.survey = Survey(runtime, self.runner.leased)
        self._schedule = Schedule(runtime, self._dispatcher, self.survey)
        self.fetching = Fetching(runtime, self._fetched)
        self._revisions = Revisions(runtime, self._dispatcher, self._schedule)
        self.hooks = HookLog(self._ledger, self._clock, runtime.problems)
        self._events = EventChecks(runtime, self._dispatcher, self._schedule)
        self.publishing = Publishing(self._ledger, runtime.problems, on_checkpoint)
        self.approving = Approving(runtime.context, self._ledger, runtime.problems)
        self._seen: set[Command] = set()
        """The commands in the ledger that were begun already."""
        self._led = self.runner.leads
        self._locks_at = self._clock.now()
        self._relay = PushRelay(runtime, self.runner, self.fetching.nudge)
        self.edits: list[str] = []
        """The paths of uncommitted edits, which are ignored, as of the last look."""

    def _fleet(self, runtime: Runtime, make: Make) -> SliceRunner:
        from reconciler.daemon.fleet.member import Fleet

        return Fleet(runtime, make, self._catch_up)

    @property
    def ignored(self) -> list[str]:
        """What the checkout has and is not acted on, a sentence each."""
        said = self.runtime.active.head_ignored, edits_ignored(self.edits)
        return [each for each in said if each is not None]

    def makes_progress(self) -> tuple[bool, str]:
        """Whether due work gets done, and if not, why."""
        well = self._health.healthy(monotonic(), self.runtime.active.settings.interval)
        return well, self._health.problem or ("ok" if well else "work is due and nothing gets done")

    def healthy(self) -> tuple[bool, str]:
        """Whether due work gets done and commits are taken over, and if not, why. A restart only helps the former."""
        well, why = self.makes_progress()
        stale = self.runtime.freshness.stale
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
            source = self.runtime.active.settings.source
            new_commits = self._watch_commits(
                self.runtime.context.checkout, self._clock.stopping, source=source, on=self._branch_and_remote
            )
            async with aclosing(new_commits):
                async for _ in new_commits:
                    await self._commit()
                    if self.runtime.active.settings.source != source:
                        break

    def _branch_and_remote(self) -> tuple[str | None, str]:
        """Return the branch in force and the remote, where its newest commit is looked for."""
        return self.runtime.active.branch, self.runtime.active.settings.git.remote

    async def _commit(self) -> None:
        await self._revisions.take_over()
        if self.runtime.active.taken_over:
            self._events.read_ahead()

    def pushed(self) -> None:
        """Fetch at once because a git server says that somebody pushed; a fleet's leader does, too."""
        if not self._clock.stopping.is_set():
            self.runtime.spawn(self.hooks.came(GIT))
            self.fetching.nudge()
            self._relay.tell()

    def told(self, integration: str, account: str | None) -> None:
        """Check an account at once because its service says that it changed."""
        if self.runtime.active.taken_over and not self._clock.stopping.is_set():
            self.runtime.spawn(self.hooks.came(integration))
            self._events.tell(integration, account)

    def connected(self, service: str) -> None:
        """Try at once what waited for a service's connection."""
        if (own := self.runtime.active.desired.services.get(service)) is not None:
            self.runtime.spawn(self._try_again(frozenset(own.manifests)))

    async def _try_again(self, integrations: frozenset[str]) -> None:
        try:
            await self._schedule.sweep(PassRequest(Selection(integrations=integrations), "connected"))
        except (LedgerError, RepositoryError) as error:  # the interval comes to them
            self._health.stuck("ledger", str(error))

    def _passed(self, report: Report, took: timedelta, why: str) -> None:
        """Tell of a pass that completed; one of the interval finds what services should have told of."""
        self._on_pass(report, took, why)
        if why == "interval":
            manifests = self.runtime.active.desired.files.manifests
            tell = [name for name, loaded in manifests.items() if loaded.model.events is not None]
            began = self._clock.now() - took
            self.runtime.spawn(self.hooks.look_for_lost(tell, began, self.runtime.active.settings.interval))

    async def _fetched(self) -> None:
        """Act on what was fetched; note if nobody told of it."""
        told_of, before = self.fetching.told_of, self.fetching.began_with
        fetch = self.runtime.active.settings.git.fetch
        await self._commit()
        if not told_of and before not in (None, self.runtime.active.acted_on) and fetch:
            self.hooks.found_without(GIT, self._clock.now() - fetch - LATE)

    async def _catch_up(self) -> None:
        """Fetch at once, and act on the newest commit."""
        await self.fetching.at_once()
        await self._commit()

    async def _tick(self) -> None:
        self._health.ticked_at = monotonic()
        now = self._clock.now()
        self.fetching.begin(now)
        self.runtime.freshness.judge(now, self.runtime.active.settings.fail_stale)
        if self._revisions.is_due(now):
            await self._commit()
        if not self.runtime.active.taken_over:
            return
        if (fault := self.runner.unreachable) is not None:
            self._health.stuck("ledger", fault)
            return
        try:
            self.runner.tick(now)
            await self.hooks.judge()
            await self._dispatcher.start_postponed()
            if self.runner.leads:
                await self._lead(now)
            else:  # another member takes up what waits; so does this one, if it leads again
                self._led = False
                self._seen.clear()
        except LedgerError as error:
            self._health.stuck("ledger", str(error))
        except RepositoryError as error:
            self._health.stuck("files", str(error))
        else:
            self._health.problems.update("ledger", None)
            self._health.problems.update("files", None)

    async def _lead(self, now: datetime) -> None:
        """Decide what is due."""
        if not self._led:  # the leader before this one may have died in the middle of a count or a sweep
            await self._dispatcher.passes.count(self.runtime.state, self.runtime.active)
            await self._schedule.sweep(PassRequest(Selection(), "start"))
            await self.fetching.lead()
            self._led = True
        await self._relay.look()
        await self._begin_commands()
        await self._dispatcher.start_due(now)
        await self._follow_locks(now)
        await self._schedule.judge_counted()
        await self._schedule.queue_due(now)
        await self._tell_of_freshness()
        self.publishing.begin(now, self.runtime.active)
        self.approving.begin(self.runtime.active)

    async def _follow_locks(self, now: datetime) -> None:
        """End the locks whose time is over, and look again at accounts that could not be asked for."""
        if ended := await self._ledger.run(partial(end_locks, now=now)):
            await self._dispatcher.start(PassRequest(Selection(frozenset(ended)), "asked", partial=True))
        if abs(now - self._locks_at) >= LOCKS_AGAIN:
            self._locks_at = now
            if left := await self._ledger.run(lambda ledger: ledger.grants.not_locked_yet()):
                await self._dispatcher.start_grants(left, "due", Lane.DUE)

    async def _begin_commands(self) -> None:
        """Begin new commands, each in a task: another member may have the services that it changes."""
        commands = await self._ledger.run(lambda ledger: ledger.commands.waiting())
        new = [command for command in commands if command not in self._seen]
        self._seen = set(commands)  # not their ids alone: a new command may get the id of one that was answered
        for command in new:
            self.runtime.spawn(self._apply_command(command))

    async def _apply_command(self, command: Command) -> None:
        """Act on a command; one that needs a pass stays in the ledger until a pass acts on it."""
        try:
            changes = await changes_of(self._ledger, command, self.runtime.active.desired.service_of)
            parts = command.kind != "forget" and len(changes) > 1
            if parts and not self.runner.exclusive:  # each part as soon as its service is free
                await self._ledger.run(lambda ledger: ledger.commands.split(command, changes.values()))
                return
            if command.kind == "release":
                await self._schedule.sweep(PassRequest(scope_of(command), "released", released=command.by))
                await self._schedule.released_passes_are_safe()  # if this process dies before, the next one takes it up
            asked = await self._dispatcher.passes.apply_commands([command], {*changes})
            self._seen -= asked.waiting
            if asked.touched:
                await self._dispatcher.start_grants(asked.touched, "asked")
            if asked.hires:
                await self._dispatcher.start(PassRequest(Selection(frozenset(asked.hires)), "asked", partial=True))
        except Stopped:
            pass
        except (LedgerError, RepositoryError) as error:
            self._seen.discard(command)
            self._health.stuck("commands", str(error))
        else:
            self._health.problems.update("commands", None)

    async def _tell_of_freshness(self) -> None:
        """Alert when the revision in force, or another member's clone, becomes stale, and when it no longer is."""
        active = self.runtime.active
        for member, before, stale in await self.fetching.note(self.runner.stale):
            self.runtime.tell(alert_freshness(active, (before, stale), member))
