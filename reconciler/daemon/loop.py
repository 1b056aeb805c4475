"""The daemon: for ever, passes on every commit, on every due retry, every interval, and on what people ask for.

It only decides when, and over which grants. Passes run side by side, each over one service and over grants that no
other has in hand, so that a service that hangs costs its own grants' time and nobody else's. The interval's full resync
is cut into slices of hires, spread over the interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any
from zlib import crc32

import structlog

from reconciler.daemon.lanes import REST, Lane, cut, in_parts
from reconciler.daemon.touched import touched
from reconciler.engine.accepted import in_force, keep
from reconciler.engine.claims import Claims, InHand
from reconciler.engine.messages import messenger
from reconciler.engine.notify import Notifier
from reconciler.engine.observe import Listings
from reconciler.engine.observed import Selection, listed_grants
from reconciler.engine.passes import look, reconcile, recover
from reconciler.engine.plan import Policy
from reconciler.engine.report import Report
from reconciler.engine.session import Held, sealing_of
from reconciler.engine.words import ByHand, hear, waiting
from reconciler.engine.world import SystemClock, World
from reconciler.ledger.store import Word
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, ReconcilerError, RepositoryError, SettingsError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.settings import Settings
from reconciler.model.status import Status
from reconciler.repository.desired import Desired
from reconciler.repository.signatures import VOUCH, Untrusted
from reconciler.repository.source import FOLDERS, WORKTREE, File, Tree
from reconciler.repository.watch import commits
from reconciler.secrets.initial_data import FOLDER

__all__ = ["Daemon", "Pulse"]

log = structlog.get_logger()

TICK = 0.5
"""Seconds between two looks at what is due and at what people ask for."""

SLICES = 60
SHORTEST_SLICE = timedelta(seconds=1)
AT_A_TIME = 250
"""So many hires are in one pass at most, however many there are: what a pass has in memory is bounded."""

ANSWERED = frozenset({Status.PRESENT, Status.MISSING, Status.UNCONFIRMED})
"""What a grant is whose check was answered."""

GRACE = 30.0
"""Seconds that attempts in flight get to finish after SIGTERM (DESIGN section 4)."""

AGAIN = timedelta(minutes=1)
"""After so long a commit that was refused is looked at again: its key may have become known. So is one over which this
program erred: what it erred over may have been something else."""

SOONEST, LATEST = timedelta(seconds=1), timedelta(minutes=1)
"""How soon a pass that the ledger ended is made up for; twice as long each time that it fails again."""

STALE = 3
"""Intervals without a recorded check or request, while work is due, after which the daemon is not healthy."""


@dataclass(slots=True)
class Pulse:
    """What health and readiness are told from; moments are seconds of a clock that nobody sets, `time.monotonic`.

    `looked` is when the loop last looked at what is due. While it does not look, nobody knows that nothing is.
    `overrun` is by how much the slowest part of a resync overran the interval, from its turn until it was done.
    """

    looked: float
    ready: bool = False
    progress: float | None = None
    due_since: float | None = None
    problem: str | None = None
    overrun: timedelta = timedelta()

    def healthy(self, now: float, interval: timedelta) -> bool:
        """Whether work that is due gets done (DESIGN section 5)."""
        since = self.looked if self.due_since is None else max(self.due_since, self.progress or self.due_since)
        return now - since <= STALE * interval.total_seconds()


class Daemon:
    """Runs passes over one repository for as long as it is not told to stop."""

    def __init__(self, world: World, clock: SystemClock, held: Held, settings: Settings, on_pass: Any) -> None:
        self._world = world
        self._clock = clock
        self._held = held
        self._settings = settings
        self._on_pass = on_pass
        self._claims = Claims()
        self._running: set[asyncio.Task[None]] = set()
        self._tree: Tree | None = None
        self._stood: frozenset[File] | None = None
        self._behind = False
        self._owed: dict[Selection, tuple[str, bool]] = {}
        self._in_mind: set[Word] = set()
        """The words on the list that a pass was started for."""
        self._owed_from = clock.now()
        self._patience = SOONEST
        self._lanes: dict[str, Lane] = {}
        self._due_lanes: dict[str, Lane] = {}
        self._in_line: set[Key] = set()
        """What is due and waits in one of these, or has its turn."""
        self._slices: list[list[str]] = []
        self._sliced = 0
        self._listings = Listings()
        self._sliced_at: datetime | None = None
        self._fetched_at: datetime | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._told: dict[str, str] = {}
        self._reading = asyncio.Lock()
        self._looked_at = clock.now()
        self._refused: Untrusted | None = None
        self._fault: str | None = None
        """What came of the newest commit, where this program erred over it."""
        self.pulse = Pulse(monotonic())

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    @property
    def tree(self) -> Tree | None:
        """The revision in force; None before one could be read."""
        return self._tree

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
            await self._finish()

    async def _watch(self) -> None:
        while not self._clock.stopping.is_set():
            source = self._settings.source
            async with aclosing(commits(self._world.checkout, self._clock.stopping, source=source)) as told:
                async for _ in told:
                    await self._commit()
                    if self._settings.source != source:
                        break

    async def _finish(self) -> None:
        if self._running:
            log.info("daemon.stopping", passes=len(self._running))
            _, late = await asyncio.wait(self._running, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # When

    async def _commit(self) -> None:
        """Act on the commit in force, where it is another than before: over what it touched.

        Where the ledger cannot be written just now, it is tried again at the next tick. A commit over which this
        program errs leaves the revision and the settings before it in force, and is looked at again after a while.
        """
        async with self._reading:
            before = self._tree, self._settings
            try:
                await self._take_over()
            except LedgerError as error:
                self._tree, self._behind = before[0], True
                self._stuck("commit", str(error))
            except Exception as error:
                # The boundary for commits, as `_pass` has it for passes.
                self._tree, self._settings = before
                acting = f"acting on {self._tree.revision[:12]}" if self._tree is not None else "acting on none"
                fault = f"a fault of this program over the newest commit: {type(error).__name__}; {acting}"
                if self._fault != fault:
                    log.exception("commit.broken")
                self._behind, self._fault, self._looked_at = False, fault, self._clock.now()
                self._stuck("commit", fault)
            else:
                self._behind, self._fault = False, None
                self._tell("commit", None)

    async def _take_over(self) -> None:
        tree = await self._current()
        if tree is None:
            return
        before, self._tree = self._tree, tree
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
            paths = self._world.checkout.changed(before, tree)
        if any(path.startswith(f"{FOLDER}/") for path in paths):
            # The keys it is encrypted to may be others now, and the old ones soon gone: the state's is wrapped again.
            self._held.sealing = sealing_of(self._world, self._settings, tree, self._held.ledger)
            self._tell("sealed", self._held.sealing.fault)
        for selection in touched(paths, self._desired()):
            self._sweep("commit", selection)
        self._stood = stands

    def _desired(self) -> Desired:
        assert self._tree is not None
        files, today = self._world.reader.load(self._tree), Policy.of(self._settings, self._clock.now()).today
        return self._world.desired(files, today)

    async def _current(self) -> Tree | None:
        """The tree in force, with its settings taken over; None where it cannot be read, which is told once."""
        try:
            if self._settings.git.verify_signatures:
                # Many new commits take gpg a while to look at; nothing else waits for that.
                found = await asyncio.to_thread(in_force, self._world)
            else:
                found = in_force(self._world, self._held.ledger)
            self._world.reader.load(found.tree)
        except (RepositoryError, SettingsError) as error:
            self._tell("repository", str(error))
            return None
        self._tell("repository", None)
        keep(self._world, self._held.ledger, found)
        tree, settings, self._refused = found.tree, found.settings, found.refused
        refused = f"{found.refused}; acting on {tree.revision[:12]}; {VOUCH}" if found.refused is not None else None
        self._tell("signatures", refused)
        self._looked_at = self._clock.now()
        for name in ("state", "listen"):
            changed = getattr(settings, name) != getattr(self._settings, name)
            self._tell(name, f"{name} was changed: restart the daemon to take it over" if changed else None)
        self._settings = settings
        self.pulse.ready = True
        return tree

    async def _tick(self) -> None:
        self.pulse.looked = monotonic()
        now = self._clock.now()
        self._begin_fetch(now)
        again = (self._refused is not None or self._fault is not None) and abs(now - self._looked_at) >= AGAIN
        if self._tree is None or self._behind or again:
            await self._commit()
        if self._tree is None:
            return
        try:
            asked = self._listen(now)
            if asked is not None:
                self._start_asked(asked)
            due = self._due(now) | self._claims.postponed()
            if due:
                self._start(Selection.of(due), "due", lanes=self._due_lanes)
            if not timedelta() < self._owed_from - now <= LATEST:  # its time has come, or the clock was set back
                owed, self._owed = self._owed, {}
                for selection, (why, released) in owed.items():
                    self._run(self._pass(selection, why, released=released))
            self._next_slice(now)
        except LedgerError as error:
            self._stuck("ledger", str(error))
        else:
            self._tell("ledger", None)

    def _stuck(self, about: str, problem: str) -> None:
        """What is due cannot even be begun: that is told, work is due from now on; it is tried again later."""
        self.pulse.problem = problem
        self.pulse.due_since = self.pulse.due_since or monotonic()
        self._tell(about, problem)

    def _begin_fetch(self, now: datetime) -> None:
        """Fetch, where that is due; beside everything else, for a remote may hang."""
        every = self._settings.git.fetch
        if every is None or not self._world.checkout.is_git or self._settings.source != "commit":
            return
        if self._fetching is not None:
            if not self._fetching.done():
                return
            self._fetching.result()
        if self._fetched_at is not None and timedelta() <= now - self._fetched_at < every:
            return
        self._fetched_at = now
        if self._world.checkout.has_remote(self._settings.git.remote):
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        problem = await asyncio.to_thread(self._world.checkout.fetch, self._settings.git, self._clock.stopping.is_set)
        self._tell("fetch", problem and f"{problem}; acting on HEAD as it is")
        await self._commit()

    def _listen(self, now: datetime) -> ByHand | None:
        """What people ask for that was not heard yet; what waits for a pass stays on the list until that acts on it."""
        words = self._held.ledger.words()
        new = [word for word in words if word not in self._in_mind]
        asked = hear(self._held.ledger, new, now) if new else None
        self._in_mind = set(words)  # not their ids alone: the next word may get that of one that was heard
        return asked

    def _start_asked(self, asked: ByHand) -> None:
        if asked.released:
            self._sweep("released", Selection(), released=True)
        elif asked.touched:
            self._start(Selection.of(asked.touched), "asked")

    def _due(self, now: datetime) -> set[Key]:
        """The grants whose retry is due and that no pass has in hand, or will have."""
        return {key for key in self._held.ledger.due(now) if not self._claims.busy(key)} - self._in_line

    def _everybody(self) -> list[str]:
        """Every hire that git or the ledger has."""
        assert self._tree is not None
        files = self._world.reader.load(self._tree)
        return sorted({*files.hires, *files.broken["hires"], *self._held.ledger.hires()})

    def _sweep(self, why: str, selection: Selection, *, released: bool = False) -> None:
        """Walk over everything, some integrations of everybody, or some hires: a bounded number of hires at a time."""
        people = self._everybody() if selection.hires is None else sorted(selection.hires)
        if selection.everything:
            self._held.ledger.begin_resync()
            self._sliced_at = self._clock.now()
            self._slices = []
            for lane in self._lanes.values():
                lane.clear()  # whoever waits there is walked over anew
        if len(people) <= AT_A_TIME:
            self._start(replace(selection, hires=frozenset(people)), why, released=released)
            return
        self._read_listings_anew()
        parts = in_parts(replace(selection, hires=frozenset(people)), AT_A_TIME)
        self._run(self._queue_all(parts, why, released=released))

    async def _queue_all(self, selections: Iterable[Selection], why: str, *, released: bool) -> None:
        """Queue one after the other: to say whose each is takes a while, in which others have their turn."""
        with suppress(Stopped):
            for selection in selections:
                while not self._queued(selection, why, released=released):
                    await self._clock.sleep(SOONEST.total_seconds())
                await self._clock.sleep(0)

    def _queued(self, selection: Selection, why: str, *, released: bool) -> bool:
        try:
            self._queue(selection, why, released=released)
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
            wait = self._settings.interval / (len(self._slices) + self._sliced)
            if now - self._sliced_at < wait:
                return
            self._sliced_at = max(self._sliced_at + wait, now - 2 * wait)
            hires = self._slices.pop()
            self._sliced += 1
            if hires:
                self._queue(Selection(hires=frozenset(hires)), "interval")

    def _begin_cycle(self) -> None:
        """Cut everybody into the slices of the next interval."""
        people = self._everybody()
        most = max(1, int(self._settings.interval / SHORTEST_SLICE))
        count = min(most, max(SLICES, len(people) // AT_A_TIME))
        self._slices = [[] for _ in range(count)]
        for hire in people:
            self._slices[crc32(hire.encode()) % count].append(hire)
        self._sliced = 0
        self._read_listings_anew()
        self._world.reader.keep()
        self._held.ledger.begin_resync()

    def _read_listings_anew(self) -> None:
        """Begin an interval's reading of listings, where they have more than a few grants to serve."""
        self._listings = Listings()
        self._listings.expect(listed_grants(self._desired()))

    # What

    def _start(
        self, selection: Selection, why: str, *, released: bool = False, lanes: dict[str, Lane] | None = None
    ) -> None:
        """Passes over some hires or grants, those of each service it meets, a bounded number of hires at a time.

        They wait for nobody but each other, unless they are given `lanes` to wait in, by service.
        """
        for name, whole in self._cut(selection).items():
            lane = Lane(self._run) if lanes is None else lanes.setdefault(name, Lane(self._run))
            for part in in_parts(whole, AT_A_TIME):
                self._in_line |= part.grants or frozenset()
                lane.put(partial(self._pass, part, why, released=released))

    def _queue(self, selection: Selection, why: str, *, released: bool = False) -> None:
        """Passes over a selection, each when its service's lane comes to it.

        A lane in which more than an interval's slices wait is left out: whom it looks at is not looked at more often.
        """
        for name, part in self._cut(selection).items():
            lane = self._lanes.setdefault(name, Lane(self._run))
            if why != "interval" or len(lane) < len(self._slices) + self._sliced:
                lane.put(partial(self._in_turn, part, why, self._clock.now(), self._listings, released=released))

    async def _in_turn(
        self, selection: Selection, why: str, queued: datetime, listings: Listings, *, released: bool
    ) -> None:
        await self._pass(selection, why, listings, released=released)
        late = self._clock.now() - queued - self._settings.interval
        if why == "interval":
            self.pulse.overrun = max(self.pulse.overrun, late)

    def _cut(self, selection: Selection) -> dict[str, Selection]:
        """A selection, cut by service; each part has its own hires only, and of single grants its own."""
        desired = self._desired()
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

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _pass(
        self, selection: Selection, why: str, listings: Listings | None = None, *, released: bool = False
    ) -> None:
        """One pass; whatever stops it is told, and the daemon goes on."""
        if self._tree is None or self._clock.stopping.is_set():
            return
        began = self._clock.now()
        self.pulse.due_since = self.pulse.due_since or monotonic()
        in_hand = self._claims.begin()
        structlog.contextvars.bind_contextvars(pass_id=f"{int(began.timestamp() * 1000):x}")
        try:
            # An attempt that a full disk cut off has no end in the ledger: it is settled like after a crash.
            recover(self._held.ledger, self._settings, began, busy=self._claims.busy)
            report = await self._walk(selection, in_hand, listings, released=released)
            report.refuse(self._refused)
            self._passed(report, why, began)
        except Stopped:
            pass  # before anything was executed
        except (ReconcilerError, OSError) as error:
            self.pulse.problem = _text(error)
            self._tell("pass", _text(error))
            if isinstance(error, LedgerError):
                self._owed[selection] = (why, released)
                self._owed_from = self._clock.now() + self._patience
                self._patience = min(2 * self._patience, LATEST)
        except Exception as error:
            # The outermost boundary: a fault of this program ends this pass, is told, and shows in the health.
            self.pulse.problem = f"a fault of this program: {type(error).__name__}"
            log.exception("pass.broken", why=why)
        finally:
            in_hand.close()
            self._in_line -= selection.grants or frozenset()
            if not self._running - {asyncio.current_task()}:
                self.pulse.due_since = None if self.pulse.problem is None else self.pulse.due_since

    def _passed(self, report: Report, why: str, began: datetime) -> None:
        """A pass came to its end."""
        now = self._clock.now()
        self.pulse.problem = self._fault
        self._progressed()
        self._patience = SOONEST
        self._tell("pass", None)
        self._on_pass(report, now - began, why)
        if why != "interval" or report.executed or report.revoked or report.failures:
            log.info("pass.finished", why=why, revision=report.revision, **_counts(report))
        self._tell_outages(report)
        if report.executed:
            self._follow_up(report)

    def _tell_outages(self, report: Report) -> None:
        """Say when no check of an integration is answered any more, and when one is again."""
        for name in {row.integration for row in report.rows}:
            rows = [row for row in report.rows if row.integration == name]
            unknown = [row.reason for row in rows if row.status is Status.UNKNOWN]
            if any(row.status in ANSWERED for row in rows):
                if not unknown:
                    self._tell(f"checks of {name}", None)
            elif unknown:
                self._tell(f"checks of {name}", unknown[0])

    def _follow_up(self, report: Report) -> None:
        """Look at what waits for an entry that is there now: it may be another service's."""
        there = {Key(row.hire, row.access) for row in report.rows if row.status in (Status.PRESENT, Status.DONE)}
        desired = self._desired()
        waiting = {
            grant.key
            for hire in {key.hire for key in there}
            for grant in desired.grants(hire)
            if any(Key(hire, need) in there for need in grant.needs)
        }
        tried = {record.key for record in self._records(waiting) if record.phase is not Phase.NEW}
        if waiting - tried:
            self._start(Selection.of(waiting - tried), "needs")

    def _records(self, keys: Iterable[Key]) -> list[Record]:
        wanted = set(keys)
        hires = {key.hire for key in wanted}
        return [record for record in self._held.ledger.records(hires) if record.key in wanted] if wanted else []

    async def _walk(
        self, selection: Selection, in_hand: InHand, listings: Listings | None, *, released: bool
    ) -> Report:
        tree, ledger = self._tree, self._held.ledger
        assert tree is not None
        if self._held.sealing.fault is not None:  # its key may be back, or the agent unlocked
            self._held.sealing = sealing_of(self._world, self._settings, tree, ledger)
            self._tell("sealed", self._held.sealing.fault)
        sealing = self._held.sealing
        looking = look(
            self._world,
            tree,
            ledger,
            sealing,
            selection,
            words=waiting(ledger.words()),
            released=released,
            in_hand=in_hand,
            progressed=self._progressed,
            listings=listings,
        )
        found = await self._clock.unless_stopped(looking)
        notifier = Notifier(messenger(self._world, found.settings, tree), self._clock, self._world.redactor)
        return await reconcile(
            self._world,
            found,
            ledger,
            sealing,
            notifier,
            author=self._world.author(tree),
            in_hand=in_hand,
            progressed=self._progressed,
        )

    def _progressed(self) -> None:
        self.pulse.progress = monotonic()

    def _tell(self, about: str, problem: str | None) -> None:
        """Say what is wrong when it begins, and when it is over; not every time in between."""
        before = self._told.get(about)
        if problem is None:
            if self._told.pop(about, None) is not None:
                log.info("daemon.recovered", about=about)
        elif problem != before:
            self._told[about] = problem
            log.error("daemon.problem", about=about, problem=problem)


def _as_it_stands(tree: Tree) -> frozenset[File] | None:
    """The files of a folder that counts as it stands; None for a commit."""
    if tree.revision != WORKTREE:
        return None
    return frozenset(file for folder in FOLDERS for file in tree.files(folder))


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ReconcilerError) else f"{type(error).__name__}: {error}"


def _counts(report: Report) -> Mapping[str, int]:
    did = {"executed": report.executed, "revoked": report.revoked, "failed": report.failures}
    return {**{name: count for name, count in did.items() if count}, **report.summary}
