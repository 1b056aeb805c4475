"""Passes in this process, on a real repository and real loopback services, with a clock whose hands the test turns."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.engine.apply.claims import Claims
from reconciler.engine.apply.commands import end_locks, enqueue_release
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Context, Revision
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.planning import Planning
from reconciler.engine.run.reconciler import Reconciler
from reconciler.engine.run.runner import LockedState, PassRunner
from reconciler.engine.state import OpenState, locking, reading
from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.transaction import WritablePart
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Record
from reconciler.model.report import Report, Row
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import EventType
from reconciler.model.value import replace
from reconciler.notify.delivery import Notifier, NotSent
from reconciler.review.dry_run import DryRun, Spooled
from reconciler.review.spool import Spool
from tests.ledgers import inside
from tests.repo import Repo, use_key

T = TypeVar("T")


class Hands:
    """A clock that stands still until it is turned; a wait turns it by as much as it waits."""

    def __init__(self, now: datetime = datetime(2026, 12, 1, 9, tzinfo=UTC)) -> None:
        self._now = now
        self.waits: list[float] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds:
            self.waits.append(seconds)
            self._now += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    def turn(self, **span: float) -> None:
        """Turn the hands: `turn(hours=1)`; backwards too."""
        self._now += timedelta(**span)

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        return await work


@dataclass
class Outbox:
    """Takes messages; refuses them while `broken`."""

    sent: list[tuple[str, str, str]] = field(default_factory=list)
    broken: bool = False

    async def email(self, to: str, subject: str, text: str) -> None:
        self._take(to, subject, text)

    async def text(self, to: str, text: str) -> None:
        self._take(to, "", text)

    def _take(self, to: str, subject: str, text: str) -> None:
        if self.broken:
            raise NotSent("the mail server refused it")
        self.sent.append((to, subject, text))


class Crash(BaseException):
    """The program ends here, as if it had been killed: nothing in it may catch this."""


@contextmanager
def dying(owner: Any, name: str, *, nth: int = 1, after: bool = False) -> Iterator[None]:
    """While the block runs, the nth call of `owner.name` is the program's end: before it is made, or once it is.

    The block is expected to end in that crash.
    """
    real, calls = getattr(owner, name), 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == nth

    def call(*args: Any, **given: Any) -> Any:
        now = due()
        if now and not after:
            raise Crash(name)
        result = real(*args, **given)
        if asyncio.iscoroutine(result):
            return finish(result, now=now)
        if now and isinstance(args[0], LedgerWriter | WritablePart):
            session = args[0].session if isinstance(args[0], LedgerWriter) else args[0]._session
            session.transactions.after(end)
        elif now:
            end()
        return result

    def end() -> None:
        raise Crash(name)

    async def finish(result: Any, *, now: bool) -> Any:
        found = await result
        if now:
            raise Crash(name)
        return found

    setattr(owner, name, call)
    try:
        with pytest.raises(Crash):
            yield
    finally:
        setattr(owner, name, real)


@cache
def new_state() -> bytes:
    """A state with nothing in it, as the program makes it: to make its tables takes longer than a pass."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "state.db")
        StateLocation(f"sqlite:///{file}", Path(folder)).writer().close()
        return file.read_bytes()


class Machine:
    """The program on one repository, pass by pass. Each pass starts anew, as after a restart."""

    def __init__(self, repo: Repo, clock: Hands | None = None, programs: Mapping[str, Path] | None = None) -> None:
        self.repo = repo
        self.programs = programs
        self.clock = clock or Hands()
        self.outbox = Outbox()
        self.redactor = Redactor()
        if not repo.state.exists():
            repo.state.parent.mkdir(mode=0o700, exist_ok=True)
            repo.state.write_bytes(new_state())

    def reconcile(
        self,
        *,
        hires: Iterable[str] | None = None,
        integrations: Iterable[str] | None = None,
        grants: Iterable[tuple[str, str]] | None = None,
        released: bool = False,
        removals: bool = True,
        partial: bool = False,
        by_hand: Mapping[tuple[str, str], str] | None = None,
        listings: Listings | None = None,
    ) -> Report:
        """One pass, or a `partial` one, as a daemon makes them.
        `by_hand` has `run` or `revoke` for single grants, `listings` are those of an interval."""
        asked = {Key(*key): kind for key, kind in (by_hand or {}).items()}
        chosen = _selection(hires, integrations) if grants is None else Selection.of(Key(*key) for key in grants)
        let = {"released": released, "removals": removals, "partial": partial}
        return asyncio.run(self._reconcile(chosen, by_hand=asked, listings=listings, **let))

    async def _reconcile(
        self,
        selection: Selection,
        *,
        released: bool,
        removals: bool,
        partial: bool,
        by_hand: dict[Key, str],
        listings: Listings | None,
    ) -> Report:
        context = self._context()
        try:
            settings = context.settings(context.checkout.head())
            tree = context.checkout.worktree() if settings.source == "worktree" else context.checkout.head()
            revision = Revision(context, tree, settings)
            with locking(revision, "test") as opened:
                passes = self.runner(opened, revision)
                commands = inside(opened.ledger).commands.waiting()
                await passes.apply_commands(commands)
                end_locks(inside(opened.ledger), self.clock.now())
                if released:
                    await passes.let_through(opened, selection)
                released = released or any(command.kind == "release" for command in commands)
                by = "ida@here" if released else None
                request = PassRequest(selection, released=by, partial=partial, removals=removals, by_hand=by_hand)
                return await passes.run(request, listings=listings)
        finally:
            await context.aclose()

    def plan(
        self,
        *,
        hires: Iterable[str] | None = None,
        integrations: Iterable[str] | None = None,
        rev: str | None = None,
        at_a_time: int = 1,
    ) -> Report:
        """A dry run, so many hires at a time; of another revision with `rev`, as `--rev` plans a branch."""
        return asyncio.run(self._plan(_selection(hires, integrations), rev, at_a_time))

    async def _plan(self, selection: Selection, rev: str | None, at_a_time: int) -> Report:
        with Spool[list[Spooled]]() as spool:
            async with self.planning(selection, rev) as planning:
                found = DryRun(planning, spool)
                async for _ in found.parts(at_a_time):
                    pass
                report = await found.report()
            report.rows = [row for part in found.rows() for row in part]
            return report

    @asynccontextmanager
    async def planning(self, selection: Selection, rev: str | None = None) -> AsyncIterator[Planning]:
        """What a dry run plans with, while its services can be asked."""
        context = self._context()
        try:
            settings = context.settings(context.checkout.head())
            head = context.checkout.worktree() if settings.source == "worktree" else context.checkout.head()
            force = Revision(context, head, settings)
            planned = force if rev is None else replace(force, tree=context.checkout.at(rev))
            in_force = None if rev is None else force
            with reading(force) as opened:
                yield await Planning(planned, opened, PassRequest(selection), in_force=in_force).begin()
        finally:
            await context.aclose()

    def plan_whole(self) -> Report:
        """What a pass that is made now would be planned to do, in one piece."""
        return asyncio.run(self._plan_whole())

    async def _plan_whole(self) -> Report:
        context = self._context()
        try:
            head = Revision.at(context, context.checkout.head())
            with reading(head) as opened:
                planning = await Planning(head, opened, PassRequest()).begin()
                return (await planning.whole()).report(self.redactor)
        finally:
            await context.aclose()

    def plan_side_by_side(self, *hires: Iterable[str], claims: Claims | None = None) -> list[Plan]:
        """What passes of one process that run at the same time, each over some hires, are planned to do."""
        return asyncio.run(self._plan_side_by_side([_selection(some, None) for some in hires], claims or Claims()))

    async def _plan_side_by_side(self, selections: list[Selection], claims: Claims) -> list[Plan]:
        context = self._context()
        try:
            head = Revision.at(context, context.checkout.head())
            with locking(head, "test") as opened:
                notifier = Notifier(lambda _: self.outbox)
                passes = [
                    Reconciler(revision=head, state=opened, notifier=notifier, claims=claims.begin())
                    for _ in selections
                ]
                return [await each.plan(PassRequest(some), {}) for each, some in zip(passes, selections, strict=True)]
        finally:
            await context.aclose()

    def runner(self, state: OpenState, revision: Revision) -> PassRunner:
        """What makes the passes."""
        return PassRunner(
            clock=self.clock,
            leases=LockedState(state),
            revision=lambda: revision,
            notifier=Notifier(lambda _: self.outbox),
        )

    def lock(self, hire: str, **said: Any) -> None:
        """Enqueue a lock for the next pass, as `reconcile lock` does."""
        self.enqueue("lock", hire, data={"reason": "left in anger", **said})

    def enqueue(
        self,
        kind: str,
        hire: str | None = None,
        access: str | None = None,
        integration: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Enqueue a command for the next pass, as `reconcile retry` does."""
        with self.ledger() as ledger:
            use_key(ledger, self.repo)
            about = {"hire": hire, "access": access, "integration": integration}
            ledger.commands.enqueue(kind, now=self.clock.now(), by="tester@here", data=data, **about)

    def release(self) -> None:
        """Enqueue that the next pass overrides the guard, as `reconcile --yes-really` does."""
        with self.ledger() as ledger:
            use_key(ledger, self.repo)
            enqueue_release(ledger, Selection(), self.clock.now(), by="tester@here")

    def commands_left(self) -> int:
        """How many commands no pass has acted on yet."""
        with self.ledger() as ledger:
            return len(ledger.commands.waiting())

    def record(self, hire: str, access: str) -> Record | None:
        """What the ledger remembers of a grant."""
        with self.ledger() as ledger:
            return ledger.grants.record(Key(hire, access))

    def events(self, hire: str | None = None) -> list[EventType]:
        """The history's events, oldest first."""
        return [line.event for line in self.history(hire)]

    def history(self, hire: str | None = None) -> list[Event]:
        """The history, oldest first."""
        with self.ledger() as ledger:
            return list(ledger.history.lines(hires=[hire] if hire else []))

    def sealed(self) -> list[str]:
        """The names of what is kept sealed."""
        with self.ledger() as ledger:
            return ledger.sealed.names()

    @contextmanager
    def ledger(self) -> Iterator[LedgerWriter]:
        """The ledger, opened for writing beside nobody."""
        ledger = StateLocation(self.repo.state_url, self.repo.root).writer()
        try:
            yield ledger
        finally:
            ledger.close()

    def _context(self) -> Context:
        return Context(self.repo.root, self.clock, self.redactor, programs=self.programs)


def _selection(hires: Iterable[str] | None, integrations: Iterable[str] | None) -> Selection:
    return Selection(
        None if hires is None else frozenset(hires), None if integrations is None else frozenset(integrations)
    )


def row(report: Report, hire: str, access: str) -> Row:
    """One grant of a report."""
    (found,) = [item for item in report.rows if (item.hire, item.access) == (hire, access)]
    return found
