"""Make passes: a daemon's, a fleet member's, a command's and a test's are all made by a `PassRunner`.

They differ in how the state is leased, in what is selected, and in who decides when. A pass leases its services, plans
with a state that others can no longer change there, and applies the plan.
"""

from __future__ import annotations

from asyncio import Lock
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from reconciler.engine.apply.claims import Claims
from reconciler.engine.apply.commands import CommandEffects, Erasing, apply_in_pieces, by_grant
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Revision
from reconciler.engine.decide.revision_count import NOTE, RevisionCount, let_through
from reconciler.engine.observe.checker import Services
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.counting import count_revision
from reconciler.engine.run.planner import OnPlanned, no_progress
from reconciler.engine.run.reconciler import Reconciler
from reconciler.engine.state import OpenState, recover, refuse_strayed
from reconciler.ledger.entries import Command
from reconciler.ledger.lease import MoreNeeded
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import ReadState
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import StoppingClock
from reconciler.model.report import Report
from reconciler.model.selection import PassRequest, Selection
from reconciler.notify.alerts import send_alert
from reconciler.notify.delivery import Notifier

T = TypeVar("T")

Telling = Callable[[], Coroutine[Any, Any, None]]


class Leases(Protocol):
    """The right to write for services."""

    def leased(self, *services: str) -> AbstractAsyncContextManager[OpenState]:
        """Lease services while the block runs, and return the state to write to for them.

        Waits until no other member has one of them. Raises Stopped.
        """

    async def refuse_outdated(self) -> None:
        """Raise an error where others acted on a newer revision than the one in force here."""

    def as_new(self, mine: str, other: str) -> bool:
        """Whether a revision is as new as one that another member may have taken over."""


class LockedState:
    """A state that this process has to itself: it has every service."""

    def __init__(self, state: OpenState) -> None:
        self._state = state

    @asynccontextmanager
    async def leased(self, *services: str) -> AsyncIterator[OpenState]:  # noqa: ARG002
        """Return the state."""
        yield self._state

    async def refuse_outdated(self) -> None:
        """Nobody else acts."""

    def as_new(self, mine: str, other: str) -> bool:  # noqa: ARG002
        """Nobody else takes over a revision: whatever is in force here counts."""
        return True


@dataclass(slots=True, kw_only=True)
class PassRunner:
    """Makes passes, and acts on commands.

    `revision` returns what passes act on; a daemon's changes from pass to pass.

    `approve` is called with each plan before it is applied: it raises if the plan must not be, and returns False to
    have it planned again. `applied` is called with each plan that was applied, while its services are leased.
    """

    clock: StoppingClock
    leases: Leases
    revision: Callable[[], Revision]
    notifier: Notifier
    claims: Claims = field(default_factory=Claims)
    approve: Callable[[Plan], Awaitable[bool]] | None = None
    applied: Callable[[OpenState, Services, Plan, Report], Awaitable[None]] | None = None
    counts: bool = True
    """Whether each pass counts its revision first; else whoever takes it over does, and passes once more is due."""
    on_planned: OnPlanned = no_progress
    spawn: Callable[[Coroutine[Any, Any, None]], None] | None = None
    """Starts the sending of alerts where others wait for the end of a pass; without it, the pass ends with it."""
    _counting: Lock = field(default_factory=Lock, init=False)

    async def run(
        self, request: PassRequest, services: Collection[str] = (), *, listings: Listings | None = None
    ) -> Report:
        """Make a pass with its services leased. Its `listings` may have been read for other passes, too.

        Raises Stopped if shutdown is requested before the plan is made.
        """

        async def work(state: OpenState, leased: Collection[str]) -> tuple[Report, Telling | None]:
            await self.leases.refuse_outdated()  # others may have acted while their services were waited for
            claims = self.claims.begin(leased, overrides=request.released)
            with closing(claims):
                revision = await self._recover(state, leased)
                if self.counts or await state.ledger.run(partial(_is_due, now=self.clock.now())):
                    await self.count(state, revision)
                commands = await state.ledger.run(lambda ledger: ledger.commands.waiting())
                asked = by_grant(each for each in commands if request.removals or each.kind != "revoke")
                reconciler = Reconciler(
                    revision=revision,
                    state=state,
                    notifier=self.notifier,
                    claims=claims,
                    listings=listings,
                    on_planned=self.on_planned,
                )
                while True:
                    plan = await self.clock.unless_stopped(reconciler.plan(request, asked))
                    if self.approve is None or await self.approve(plan):
                        break
                report = await reconciler.apply(plan)
                if self.applied is not None:
                    await self.applied(state, reconciler.services, plan, report)
                alert = reconciler.alert
                return report, partial(send_alert, revision, alert) if alert is not None else None

        report, tell = await self._leasing(services, work)
        if tell is not None:  # with nothing leased any more: a receiver may take its time
            await tell() if self.spawn is None else self.spawn(tell())
        return report

    async def apply_commands(self, commands: Iterable[Command], services: Collection[str] = ()) -> CommandEffects:
        """Act on commands, as far as the ledger alone can, with the services leased whose grants they change.

        One that another member answered while its services were waited for is left out.
        """
        commands = tuple(commands)

        async def work(state: OpenState, _leased: Collection[str]) -> CommandEffects:
            asked, context = CommandEffects(), self.revision().context

            def erasing() -> Erasing:
                return Erasing(context.root, self.revision().files)

            waiting = await state.ledger.run(lambda ledger: ledger.commands.waiting())
            left = [command for command in commands if command in waiting]
            with closing(self.claims.begin()) as claims:
                now, take = self.clock.now(), claims.take
                async for _ in apply_in_pieces(state.ledger, left, now, asked, erasing=erasing, take=take):
                    await context.yielder.pause()
            return asked

        return await self._leasing(services, work) if commands else CommandEffects()

    async def count(self, state: OpenState, revision: Revision, selections: Sequence[Selection] | None = None) -> None:
        """Count a revision before anything of it is acted on, and note it, unless that is done. Raises Stopped.

        `selections` are what differs from the one that was counted before, if that is known. The count of a newer one,
        which another member has taken over, stays: by it that member judges what it does.
        """
        read = ReadState(state.ledger, state.vault)  # under no lease: rows of all services are looked at
        async with self._counting:
            while True:
                before = await state.ledger.run(RevisionCount.read)
                if before is not None and not self.leases.as_new(revision.tree.revision, before.revision):
                    return
                counting = count_revision(revision, read, selections)
                counted = await self.clock.unless_stopped(counting)
                if counted == before or await state.ledger.run(partial(_note, counted, before)):
                    return

    async def let_through(self, state: OpenState, selection: Selection) -> None:
        """Note that somebody overrides the guard for what the revision in force takes away and adds."""
        await self.count(state, self.revision())
        noted = partial(let_through, selection=selection)
        await state.ledger.run(lambda ledger: ledger.notes.put(NOTE, noted))

    async def _leasing(
        self, services: Collection[str], work: Callable[[OpenState, Collection[str]], Awaitable[T]]
    ) -> T:
        """Do work with services leased, and again with others if it changes what those have."""
        needed = set(services)
        while True:
            async with self.leases.leased(*sorted(needed)) as state:
                try:
                    return await work(state, needed)
                except MoreNeeded as error:
                    needed |= error.services

    async def _recover(self, state: OpenState, services: Collection[str]) -> Revision:
        """Settle what a crash, or a full disk, left of these services, and return what is acted on."""
        now, revision = self.clock.now(), self.revision()
        await refuse_strayed(state.ledger, revision.desired, services)
        await recover(state.ledger, revision.settings, now, self.claims.busy)
        return revision


def _is_due(ledger: LedgerReader, now: datetime) -> bool:
    """Whether time alone has made more leave or arrive since the revision was counted."""
    counted = RevisionCount.read(ledger)
    return counted is not None and bool(counted.due_at(now))


def _note(counted: RevisionCount, before: RevisionCount | None, ledger: LedgerWriter) -> bool:
    """Note a count in place of the one before; False if another member noted one of another revision meanwhile."""
    ledger.notes.put(NOTE, partial(counted.after, before))
    noted = RevisionCount.read(ledger)
    return noted is not None and noted.revision == counted.revision
