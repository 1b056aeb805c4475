"""The daemon: for ever, passes on every commit, on every due retry, every interval, and on what people ask for.

It only decides when, and over which grants. Passes run side by side, each over grants that no other has in hand, so
that a service that hangs costs its own grants' time and nobody else's. The interval's full resync is cut into slices of
hires, spread over the interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import structlog

from reconciler.daemon.touched import touched
from reconciler.engine.accepted import in_force, keep
from reconciler.engine.claims import Claims, InHand
from reconciler.engine.messages import messenger
from reconciler.engine.notify import Notifier
from reconciler.engine.observe import Listings
from reconciler.engine.observed import Selection, listed_grants
from reconciler.engine.passes import begin_resync, look, reconcile, recover
from reconciler.engine.plan import Policy
from reconciler.engine.report import Report
from reconciler.engine.session import Held, sealing_of
from reconciler.engine.together import together
from reconciler.engine.words import ByHand, hear
from reconciler.engine.world import SystemClock, World
from reconciler.model.errors import LedgerError, ReconcilerError, RepositoryError, SettingsError
from reconciler.model.grant import Key
from reconciler.model.settings import Settings
from reconciler.repository.desired import Desired
from reconciler.repository.signatures import VOUCH, Untrusted
from reconciler.repository.source import Tree
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
SWEEPS = 4
"""So many of the passes over everything run side by side: a service that hangs keeps one of them."""
SIDE_BY_SIDE = 16
"""So many passes at once; a slice beyond that waits for its turn."""

GRACE = 30.0
"""Seconds that attempts in flight get to finish after SIGTERM (DESIGN section 4)."""

AGAIN = timedelta(minutes=1)
"""After so long a commit that was refused is looked at again: its key may have become known."""

STALE = 3
"""Intervals without a recorded check or request, while work is due, after which the daemon is not healthy."""


@dataclass(slots=True)
class Pulse:
    """What health and readiness are told from."""

    ready: bool = False
    progress: datetime | None = None
    due_since: datetime | None = None
    problem: str | None = None

    def healthy(self, now: datetime, interval: timedelta) -> bool:
        """Whether work that is due gets done (DESIGN section 5)."""
        if self.due_since is None:
            return True
        latest = max(self.due_since, self.progress) if self.progress else self.due_since
        return now - latest <= STALE * interval


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
        self._slices: list[list[str]] = []
        self._sliced = 0
        self._listings = Listings()
        self._sliced_at: datetime | None = None
        self._fetched_at: datetime | None = None
        self._told: dict[str, str] = {}
        self._reading = asyncio.Lock()
        self._looked_at = clock.now()
        self._refused: Untrusted | None = None
        self.pulse = Pulse()

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
            while not self._clock.stopping.is_set():
                await self._tick()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._clock.stopping.wait(), TICK)
        finally:
            watching.cancel()
            await self._finish()

    async def _watch(self) -> None:
        async for _ in commits(self._world.checkout, self._clock.stopping, source=self._settings.source):
            await self._commit()

    async def _finish(self) -> None:
        if self._running:
            log.info("daemon.stopping", passes=len(self._running))
            _, late = await asyncio.wait(self._running, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # When

    async def _commit(self) -> None:
        """Act on the commit in force, where it is another than before: over what it touched."""
        async with self._reading:
            await self._take_over()

    async def _take_over(self) -> None:
        tree = await self._current()
        if tree is None:
            return
        before, self._tree = self._tree, tree
        if before is None:
            self._sweep("start")
            return
        if before.revision == tree.revision and before.revision != "worktree":
            return
        paths = self._world.checkout.changed(before, tree)
        if any(path.startswith(f"{FOLDER}/") for path in paths):
            # The keys it is encrypted to may be others now, and the old ones soon gone: the state's is wrapped again.
            self._held.sealing = sealing_of(self._world, self._settings, tree, self._held.ledger)
            self._tell("sealed", self._held.sealing.fault)
        if paths:
            files = self._world.reader.load(tree)
            today = Policy.of(self._settings, self._clock.now()).today
            selection = touched(paths, Desired(files, today))
            if selection.hires is None:
                self._sweep("commit", selection)
            else:
                self._start(selection, "commit")

    async def _current(self) -> Tree | None:
        """The tree in force, with its settings taken over; None where it cannot be read, which is told once."""
        try:
            if self._settings.git.verify_signatures:
                # Many new commits take gpg a while to look at; nothing else waits for that.
                found = await asyncio.to_thread(in_force, self._world)
            else:
                found = in_force(self._world, self._held.ledger)
            self._world.reader.load(found.tree)
        except (RepositoryError, SettingsError, LedgerError) as error:
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
        now = self._clock.now()
        await self._fetch(now)
        if self._tree is None:
            await self._commit()
            return
        if self._refused is not None and now - self._looked_at >= AGAIN:
            await self._commit()
        asked = self._listen(now)
        if asked is not None:
            self._start_asked(asked)
        due = self._due(now) | self._claims.postponed()
        if due:
            self._start(Selection.of(due), "due")
        self._next_slice(now)

    async def _fetch(self, now: datetime) -> None:
        every = self._settings.git.fetch
        if every is None or not self._world.checkout.is_git or self._settings.source != "commit":
            return
        if self._fetched_at is not None and now - self._fetched_at < every:
            return
        self._fetched_at = now
        if self._world.checkout.has_remote(self._settings.git.remote):
            problem = await asyncio.to_thread(self._world.checkout.fetch, self._settings.git)
            self._tell("fetch", problem and f"{problem}; acting on HEAD as it is")
            await self._commit()

    def _listen(self, now: datetime) -> ByHand | None:
        """What people ask for, taken off the list."""
        words = self._held.ledger.words()
        if not words:
            return None
        asked = hear(self._held.ledger, words, now)
        for word in words:
            self._held.ledger.heard(word)
        return asked

    def _start_asked(self, asked: ByHand) -> None:
        if asked.released:
            self._sweep("released", asked=asked)
        elif asked.touched:
            self._start(Selection.of(asked.touched), "asked", asked)

    def _due(self, now: datetime) -> set[Key]:
        """The grants whose retry is due and that no pass has in hand."""
        return {key for key in self._held.ledger.due(now) if not self._claims.busy(key)}

    def _everybody(self) -> list[str]:
        """Every hire that git or the ledger has."""
        assert self._tree is not None
        files = self._world.reader.load(self._tree)
        return sorted({*files.hires, *files.broken["hires"], *self._held.ledger.hires()})

    def _sweep(self, why: str, selection: Selection | None = None, asked: ByHand | None = None) -> None:
        """Walk over everything, or over some integrations of everybody, a bounded number of hires at a time."""
        selection = selection or Selection()
        if selection.everything:
            begin_resync(self._held.ledger, self._clock.now())
        self._sliced_at = self._clock.now()
        self._slices = []
        people = self._everybody()
        if len(people) <= AT_A_TIME:
            self._start(selection, why, asked)
            return
        self._read_listings_anew()
        parts = iter([people[place : place + AT_A_TIME] for place in range(0, len(people), AT_A_TIME)])

        async def work() -> None:
            for hires in parts:
                await self._pass(replace(selection, hires=frozenset(hires)), why, asked or ByHand(), self._listings)

        self._run(together(work() for _ in range(SWEEPS)))

    def _next_slice(self, now: datetime) -> None:
        """Start the slices whose time has come; together they are everybody, once an interval."""
        assert self._sliced_at is not None
        while len(self._running) < SIDE_BY_SIDE:
            if not self._slices and not self._begin_cycle(now):
                return
            wait = self._settings.interval / max(1, len(self._slices) + self._sliced)
            if now - self._sliced_at < wait:
                return
            self._sliced_at = max(self._sliced_at + wait, now - 2 * wait)
            hires = self._slices.pop()
            self._sliced += 1
            if hires:
                whole = not self._slices and self._sliced == 1
                self._start(
                    Selection() if whole else Selection(hires=frozenset(hires)), "interval", None, self._listings
                )

    def _begin_cycle(self, now: datetime) -> bool:
        """Cut everybody into the slices of the next interval; False where there is nobody."""
        people = self._everybody()
        most = max(1, int(self._settings.interval / SHORTEST_SLICE))
        count = min(most, max(SLICES, len(people) // AT_A_TIME))
        self._slices = [[] for _ in range(count)]
        for hire in people:
            self._slices[crc32(hire.encode()) % count].append(hire)
        self._sliced = 0
        self._read_listings_anew()
        begin_resync(self._held.ledger, now)
        return bool(people)

    def _read_listings_anew(self) -> None:
        """Begin an interval's reading of listings, where they have more than a few grants to serve."""
        assert self._tree is not None
        self._listings = Listings()
        desired = Desired(self._world.reader.load(self._tree), Policy.of(self._settings, self._clock.now()).today)
        self._listings.expect(listed_grants(desired))

    # What

    def _start(
        self, selection: Selection, why: str, asked: ByHand | None = None, listings: Listings | None = None
    ) -> None:
        self._run(self._pass(selection, why, asked or ByHand(), listings))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _pass(self, selection: Selection, why: str, asked: ByHand, listings: Listings | None = None) -> None:
        """One pass; whatever stops it is told, and the daemon goes on."""
        if self._tree is None or self._clock.stopping.is_set():
            return
        began = self._clock.now()
        self.pulse.due_since = self.pulse.due_since or began
        in_hand = self._claims.begin()
        structlog.contextvars.bind_contextvars(pass_id=f"{int(began.timestamp() * 1000):x}")
        try:
            # An attempt that a full disk cut off has no end in the ledger: it is settled like after a crash.
            recover(self._held.ledger, self._settings, began, busy=self._claims.busy)
            report = await self._walk(selection, asked, in_hand, listings)
            report.refuse(self._refused)
        except (ReconcilerError, OSError) as error:
            self.pulse.problem = _text(error)
            self._tell("pass", _text(error))
        else:
            self.pulse.problem = None
            self._tell("pass", None)
            now = self._clock.now()
            self.pulse.progress = now
            self._on_pass(report, now - began, why)
            if why != "interval" or report.executed or report.revoked or report.failures:
                log.info("pass.finished", why=why, revision=report.revision, **_counts(report))
        finally:
            in_hand.close()
            if not self._running - {asyncio.current_task()}:
                self.pulse.due_since = None if self.pulse.problem is None else self.pulse.due_since

    async def _walk(self, selection: Selection, asked: ByHand, in_hand: InHand, listings: Listings | None) -> Report:
        tree, ledger = self._tree, self._held.ledger
        assert tree is not None
        if self._held.sealing.fault is not None:  # its key may be back, or the agent unlocked
            self._held.sealing = sealing_of(self._world, self._settings, tree, ledger)
            self._tell("sealed", self._held.sealing.fault)
        sealing = self._held.sealing
        found = await look(
            self._world,
            tree,
            ledger,
            sealing,
            selection,
            by_hand=asked.grants,
            released=asked.released,
            in_hand=in_hand,
            progressed=self._progressed,
            listings=listings,
        )
        notifier = Notifier(messenger(self._world, found.settings, tree), self._clock, self._world.redactor)
        return await reconcile(
            self._world, found, ledger, sealing, notifier, author=self._world.author(tree), in_hand=in_hand
        )

    def _progressed(self) -> None:
        self.pulse.progress = self._clock.now()

    def _tell(self, about: str, problem: str | None) -> None:
        """Say what is wrong when it begins, and when it is over; not every time in between."""
        before = self._told.get(about)
        if problem is None:
            if self._told.pop(about, None) is not None:
                log.info("daemon.recovered", about=about)
        elif problem != before:
            self._told[about] = problem
            log.error("daemon.problem", about=about, problem=problem)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ReconcilerError) else f"{type(error).__name__}: {error}"


def _counts(report: Report) -> Mapping[str, int]:
    did = {"executed": report.executed, "revoked": report.revoked, "failed": report.failures}
    return {**{name: count for name, count in did.items() if count}, **report.summary}
