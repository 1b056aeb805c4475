"""The daemon: for ever, passes on every commit, on every due retry, every interval, and on what people ask for.

It only decides when, and over which grants; `reconciler.daemon.dispatcher` does it. The interval's full resync is
cut into slices of hires, spread over the interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from zlib import crc32

import structlog

from reconciler.daemon.dispatcher import AT_A_TIME, SOONEST, Acting, Dispatcher, OnPass
from reconciler.daemon.freshness import NOTE, Freshness
from reconciler.daemon.health import Health, ProblemLog
from reconciler.daemon.queues import in_parts
from reconciler.daemon.touched import touched
from reconciler.engine.accepted import in_force, keep
from reconciler.engine.commands import ByHand, hear
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.everybody import Listings
from reconciler.engine.planner import listed_grants
from reconciler.engine.state import OpenState, sealing_of
from reconciler.ledger.entries import Command
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, RepositoryError, SettingsError
from reconciler.model.not_taken_over import VOUCH
from reconciler.model.selection import Selection
from reconciler.model.settings import Settings
from reconciler.notify.alerts import tell_of_git
from reconciler.repository.git.checkout import FOLDERS, WORKTREE, File, Tree
from reconciler.repository.git.watch import commits
from reconciler.secrets.initial_data import FOLDER

__all__ = ["Daemon"]

log = structlog.get_logger()

TICK = 0.5
"""Seconds between two looks at what is due and at what people ask for."""

SLICES = 60
SHORTEST_SLICE = timedelta(seconds=1)

AGAIN = timedelta(minutes=1)
"""After so long a commit that was refused is looked at again: its key may have become known. So is one over which this
program erred: what it erred over may have been something else."""


class Daemon:
    """Runs passes over one repository for as long as it is not told to stop."""

    def __init__(
        self, context: Context, clock: SystemClock, held: OpenState, settings: Settings, on_pass: OnPass
    ) -> None:
        self._context = context
        self._clock = clock
        self._held = held
        self.health = Health(monotonic())
        self._problem_log = ProblemLog()
        self._acting = Acting(settings)
        self._dispatcher = Dispatcher(context, clock, held, self._acting, self.health, self._problem_log, on_pass)
        self._reading = asyncio.Lock()
        self._looked_at = clock.now()
        self._stood: frozenset[File] | None = None
        self._behind = False
        self._unread = False
        """Whether HEAD, or what it holds, could not be read when it was last looked at."""
        self._in_mind: set[Command] = set()
        """The commands on the list that a pass was started for."""
        self._slices: list[list[str]] = []
        self._sliced = 0
        self._sliced_at: datetime | None = None
        self._listings = Listings()
        self._fetched_at: datetime | None = None
        self._fetching: asyncio.Task[None] | None = None
        self.freshness = Freshness.read(held.ledger.note(NOTE), clock.now())
        self._noted = self.freshness.written()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._acting.settings

    @property
    def tree(self) -> Tree | None:
        """The revision in force; None before one could be read."""
        return self._acting.tree

    def gets_on(self) -> tuple[bool, str]:
        """Whether work that is due gets done, and if not, why."""
        well = self.health.healthy(monotonic(), self.settings.interval)
        return well, self.health.problem or ("ok" if well else "work is due and nothing gets done")

    def healthy(self) -> tuple[bool, str]:
        """Whether it gets on and takes over git's commits, and if not, why. A restart only helps with the former."""
        well, why = self.gets_on()
        stale = self.freshness.stale
        return (False, str(stale)) if well and stale is not None else (well, why)

    async def run(self) -> None:
        """Run until the clock is told to stop; then let the attempts in flight finish."""
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.sleep(0)  # the watch counts from HEAD as it is at its first step: before it is read here
            await self._commit()
            with suppress(Stopped):
                while not watching.done():
                    await self._tick()
                    await self._clock.sleep(TICK)
                watching.result()  # it ends of itself only by a fault: nobody would hear of commits any more
        finally:
            watching.cancel()
            if self._fetching is not None:
                self._fetching.cancel()
            await self._dispatcher.finish()

    async def _watch(self) -> None:
        while not self._clock.stopping.is_set():
            source = self._acting.settings.source
            async with aclosing(commits(self._context.checkout, self._clock.stopping, source=source)) as told:
                async for _ in told:
                    await self._commit()
                    if self._acting.settings.source != source:
                        break

    async def _commit(self) -> None:
        """Act on the commit in force, where it is another than before: over what it touched.

        Where the ledger cannot be written just now, it is tried again at the next tick. A commit over which this
        program errs leaves the revision and the settings before it in force, and is looked at again after a while.
        """
        async with self._reading:
            before = replace(self._acting)
            try:
                await self._take_over()
            except LedgerError as error:
                self._acting.tree, self._behind = before.tree, True
                self._stuck("commit", str(error))
            except Exception as error:
                # The boundary for commits, as passes have one.
                self._acting.tree, self._acting.settings = before.tree, before.settings
                acting = "none" if before.tree is None else before.tree.revision[:12]
                fault = f"a fault of this program over the newest commit: {type(error).__name__}; acting on {acting}"
                if self._acting.fault != fault:
                    log.exception("commit.broken")
                self._behind, self._acting.fault, self._looked_at = False, fault, self._clock.now()
                self._stuck("commit", fault)
            else:
                self._behind, self._acting.fault = False, None
                self._problem_log.tell("commit", None)

    async def _take_over(self) -> None:
        tree = await self._current()
        if tree is None:
            return
        before, self._acting.tree = self._acting.tree, tree
        seen, stands = self._stood, _as_it_stands(tree)
        if before is None:
            self._sweep("start", Selection())
            self._stood = stands
            return
        if before.revision == tree.revision and stands is None:
            return
        # A folder tells only how it is now: how it was has to be remembered.
        if seen is not None and stands is not None:
            paths = frozenset(file.path for file in seen ^ stands)
        else:
            paths = self._context.checkout.changed(before, tree)
        if any(path.startswith(f"{FOLDER}/") for path in paths):
            # The keys it is encrypted to may be others now, and the old ones soon gone: the state's is wrapped again.
            self._held.sealing = sealing_of(self._context, self._acting.settings, tree, self._held.ledger)
            self._problem_log.tell("sealed", self._held.sealing.fault)
        for selection in touched(paths, self._dispatcher.desired()):
            self._sweep("commit", selection)
        self._stood = stands

    async def _current(self) -> Tree | None:
        """The tree in force, with its settings taken over; None where it cannot be read, which is told once."""
        try:
            if self._acting.settings.git.verify_signatures:
                # Many new commits take gpg a while to look at; nothing else waits for that.
                found = await asyncio.to_thread(in_force, self._context)
            else:
                found = in_force(self._context, self._held.ledger)
            self._context.reader.load(found.tree)
        except (RepositoryError, SettingsError) as error:
            self._problem_log.tell("repository", str(error))
            self._unread, self._looked_at = True, self._clock.now()
            return None
        self._unread = False
        self._problem_log.tell("repository", None)
        keep(self._context, self._held.ledger, found)
        tree, settings, self._acting.refused = found.tree, found.settings, found.refused
        refused = f"{found.refused}; acting on {tree.revision[:12]}; {VOUCH}" if found.refused is not None else None
        self._problem_log.tell("signatures", refused)
        self.freshness.refuse(self._clock.now(), None if found.refused is None else str(found.refused))
        self._looked_at = self._clock.now()
        for name in ("state", "listen"):
            changed = getattr(settings, name) != getattr(self._acting.settings, name)
            self._problem_log.tell(name, f"{name} was changed: restart the daemon to take it over" if changed else None)
        self._acting.settings = settings
        self.health.ready = True
        return tree

    async def _tick(self) -> None:
        self.health.looked = monotonic()
        now = self._clock.now()
        self._begin_fetch(now)
        set_aside = self._unread or self._acting.refused is not None or self._acting.fault is not None
        again = set_aside and abs(now - self._looked_at) >= AGAIN
        if self._acting.tree is None or self._behind or again:
            await self._commit()
        if self._acting.tree is None:
            return
        try:
            asked = self._listen(now)
            if asked is not None:
                self._start_asked(asked)
            self._dispatcher.start_due(now)
            self._dispatcher.make_up(now)
            self._next_slice(now)
            self._judge_freshness(now)
        except LedgerError as error:
            self._stuck("ledger", str(error))
        except RepositoryError as error:
            self._stuck("files", str(error))
        else:
            self._problem_log.tell("ledger", None)
            self._problem_log.tell("files", None)

    def _stuck(self, about: str, problem: str) -> None:
        """What is due cannot even be begun: that is told, work is due from now on; it is tried again later."""
        self.health.stuck(problem)
        self._problem_log.tell(about, problem)

    def _judge_freshness(self, now: datetime) -> None:
        """Note how new the revision in force is, and tell where it begins or ceases to be too old."""
        assert self._acting.tree is not None
        settings, before = self._acting.settings, self.freshness.stale
        changed = self.freshness.judge(now, settings.fail_stale)
        if (written := self.freshness.written()) != self._noted:
            self._held.ledger.put_note(NOTE, written)
            self._noted = written
        if changed:
            telling = tell_of_git(self._context, settings, self._acting.tree, before, self.freshness.stale)
            self._dispatcher.run(telling)

    def _begin_fetch(self, now: datetime) -> None:
        """Fetch, where that is due; beside everything else, for a remote may hang."""
        every = self._acting.settings.git.fetch
        if every is None or not self._context.checkout.is_git or self._acting.settings.source != "commit":
            self.freshness.not_fetching()
            return
        if self._fetching is not None:
            if not self._fetching.done():
                return
            self._fetching.result()
        if self._fetched_at is not None and timedelta() <= now - self._fetched_at < every:
            return
        self._fetched_at = now
        if self._context.checkout.has_remote(self._acting.settings.git.remote):
            self._fetching = asyncio.create_task(self._fetch())
        else:
            self.freshness.not_fetching()

    async def _fetch(self) -> None:
        stopped = self._clock.stopping.is_set
        problem = await asyncio.to_thread(self._context.checkout.fetch, self._acting.settings.git, stopped)
        self.freshness.fetched(self._clock.now(), problem)
        self._problem_log.tell("fetch", problem and f"{problem}; acting on HEAD as it is")
        await self._commit()

    def _listen(self, now: datetime) -> ByHand | None:
        """What people ask for that was not heard yet; what waits for a pass stays on the list until that acts on it."""
        commands = self._held.ledger.commands()
        new = [command for command in commands if command not in self._in_mind]
        asked = hear(self._held.ledger, new, now) if new else None
        self._in_mind = set(commands)  # not their ids alone: the next command may get that of one that was heard
        return asked

    def _start_asked(self, asked: ByHand) -> None:
        if asked.released:
            self._sweep("released", Selection(), released=True)
        elif asked.touched:
            self._dispatcher.start(Selection.of(asked.touched), "asked")

    def _everybody(self) -> list[str]:
        """Every hire that git or the ledger has."""
        assert self._acting.tree is not None
        files = self._context.reader.load(self._acting.tree)
        return sorted({*files.hires, *files.broken["hires"], *self._held.ledger.hires()})

    def _sweep(self, why: str, selection: Selection, *, released: bool = False) -> None:
        """Walk over everything, some integrations of everybody, or some hires: a bounded number of hires at a time."""
        people = self._everybody() if selection.hires is None else sorted(selection.hires)
        if selection.everything:
            self._held.ledger.begin_resync()
            self._sliced_at = self._clock.now()
            self._slices = []
            self._dispatcher.clear()  # whoever waits there is walked over anew
        if len(people) <= AT_A_TIME:
            self._dispatcher.start(replace(selection, hires=frozenset(people)), why, released=released)
            return
        self._read_listings_anew()
        parts = in_parts(replace(selection, hires=frozenset(people)), AT_A_TIME)
        self._dispatcher.run(self._queue_all(parts, why, released=released))

    async def _queue_all(self, selections: Iterable[Selection], why: str, *, released: bool) -> None:
        """Queue one after the other: to say whose each is takes a while, in which others have their turn."""
        with suppress(Stopped):
            for selection in selections:
                while not self._queued(selection, why, released=released):
                    await self._clock.sleep(SOONEST.total_seconds())
                await self._clock.sleep(0)

    def _queued(self, selection: Selection, why: str, *, released: bool) -> bool:
        try:
            self._dispatcher.queue(selection, why, self._listings, released=released)
        except LedgerError as error:
            self._stuck("ledger", str(error))
            return False
        return True

    def _next_slice(self, now: datetime) -> None:
        """Queue the slices whose time has come; together they are everybody, once an interval."""
        if self._sliced_at is None or self._sliced_at > now:  # the first of all, or the clock was set back
            self._sliced_at = now
        while True:
            if not self._slices:
                self._begin_cycle()
            wait = self._acting.settings.interval / (len(self._slices) + self._sliced)
            if now - self._sliced_at < wait:
                return
            self._sliced_at = max(self._sliced_at + wait, now - 2 * wait)
            hires = self._slices.pop()
            self._sliced += 1
            if hires:
                selection, most = Selection(hires=frozenset(hires)), len(self._slices) + self._sliced
                self._dispatcher.queue(selection, "interval", self._listings, at_most=most)

    def _begin_cycle(self) -> None:
        """Cut everybody into the slices of the next interval."""
        people = self._everybody()
        most = max(1, int(self._acting.settings.interval / SHORTEST_SLICE))
        count = min(most, max(SLICES, len(people) // AT_A_TIME))
        self._slices = [[] for _ in range(count)]
        for hire in people:
            self._slices[crc32(hire.encode()) % count].append(hire)
        self._sliced = 0
        self._read_listings_anew()
        self._context.reader.keep()
        self._held.ledger.begin_resync()

    def _read_listings_anew(self) -> None:
        """Begin an interval's reading of listings, where they have more than a few grants to serve."""
        self._listings = Listings()
        self._listings.expect(listed_grants(self._dispatcher.desired()))


def _as_it_stands(tree: Tree) -> frozenset[File] | None:
    """The files of a folder that counts as it stands; None for a commit."""
    if tree.revision != WORKTREE:
        return None
    return frozenset(file for folder in FOLDERS for file in tree.files(folder))
