"""A pass of `reconcile` beside the members of a fleet: service by service, each under a lease.

While another member has a service, the pass waits, and then finds settled what that member settled. Entries that need
one of another service follow in a further round, and what such an entry needed is revoked after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from reconciler.daemon.slices import by_service
from reconciler.engine.apply.commands import changes_of, releases_of
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.run.grants import broken_counts
from reconciler.engine.run.runner import PassRunner
from reconciler.engine.state import OpenState
from reconciler.ledger.entries import Command
from reconciler.ledger.lease import Lease
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.postgres.membership import Membership
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import Problem, RepositoryError
from reconciler.model.grant import Key
from reconciler.model.report import Report, Row
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE

RETRY_SECONDS = 0.2
"""How long to wait between two tries to lease a service that another member has."""

ACTED_ON = "acted_on"
"""The name of the note that has the newest revision that any member acted on."""

MOST_ROUNDS = 10
"""The most rounds for entries that need others."""


@asynccontextmanager
async def leased(state: OpenState, clock: SystemClock, services: Collection[str]) -> AsyncIterator[OpenState]:
    """Lease services while the block runs; wait until no other member has one of them. Raises Stopped."""
    if not services:
        yield state
        return
    member = state.member
    assert member is not None
    while (lease := await _take(member, services)) is None:
        await clock.sleep(RETRY_SECONDS)
    try:
        yield state.under(lease)
    finally:
        await asyncio.shield(asyncio.to_thread(member.release, lease))


async def _take(member: Membership, services: Collection[str]) -> Lease | None:
    """Lease services in a thread; if the caller is cancelled meanwhile, give the lease back."""
    taking = asyncio.create_task(asyncio.to_thread(member.take, services))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(partial(_give_back, member))
        raise


def _give_back(member: Membership, taking: asyncio.Task[Lease | None]) -> None:
    if not taking.cancelled() and taking.exception() is None and (lease := taking.result()) is not None:
        asyncio.get_running_loop().run_in_executor(None, member.release, lease)


class Newest:
    """The newest revision that was acted on, as seen from one clone: no member acts on an older one."""

    leads = False
    """Whether this member leads: if the history was rewritten, its revision counts as later."""

    def __init__(self, checkout: Checkout, ledger: OpenLedger) -> None:
        self._checkout = checkout
        self._ledger = ledger

    def as_new(self, mine: str, other: str) -> bool:
        """Whether revision `mine` is `other` or later."""
        if mine == other or WORKTREE in (mine, other):
            return True
        if not self._checkout.has(other):
            return False
        return self._checkout.descends(mine, other) or (self.leads and not self._checkout.descends(other, mine))

    async def follows(self, mine: str) -> bool:
        """Whether revision `mine` is as new as the newest that was acted on."""
        noted = await self._ledger.run(_acted_on)
        return noted is None or self.as_new(mine, noted)

    async def act_on(self, mine: str) -> bool:
        """Note that revision `mine` is acted on; False, with nothing noted, if a newer one was."""
        while (noted := await self._ledger.run(_acted_on)) != mine:
            if noted is not None and not self.as_new(mine, noted):
                return False
            await self._ledger.run(partial(_note, revision=mine, after=noted))
        return True


def _acted_on(ledger: LedgerReader) -> str | None:
    noted = ledger.notes.get(ACTED_ON)
    return None if noted is None else noted.decode()


def _note(ledger: LedgerWriter, revision: str, after: str | None) -> None:
    """Note a revision, unless another member noted one meanwhile."""
    before = None if after is None else after.encode()
    ledger.notes.put(ACTED_ON, lambda there: revision.encode() if there == before else there)


class SharedState(Newest):
    """A state that is shared with the members of a fleet; this clone is at a revision."""

    def __init__(self, context: Context, clock: SystemClock, state: OpenState, revision: str | None) -> None:
        super().__init__(context.checkout, state.ledger)
        self._clock = clock
        self._state = state
        self._revision = revision
        context.outdated = self._is_outdated
        self._left = False

    def leased(self, *services: str) -> AbstractAsyncContextManager[OpenState]:
        """Lease services, as the members do."""
        return leased(self._state, self._clock, services)

    async def refuse_outdated(self) -> None:
        """Raise RepositoryError where the fleet acted on a newer revision than this clone has."""
        if await self._is_outdated():
            raise RepositoryError(
                f"the fleet acted on a newer revision than {str(self._revision)[:12]}, which this clone is at: "
                "`git pull`, then try again"
            )

    async def refuse_left(self) -> None:
        """Raise RepositoryError where what was to be made then is left."""
        if self._left:
            await self.refuse_outdated()

    def _at(self) -> str | None:
        return self._revision

    async def _is_outdated(self) -> bool:
        mine = self._at()
        outdated = mine is None or not await self.act_on(mine)
        self._left |= outdated
        return outdated


@dataclass(slots=True, kw_only=True)
class FleetPass:
    """A pass over a selection, service by service, with the state shared with others."""

    clock: SystemClock
    passes: PassRunner
    state: OpenState
    leases: SharedState
    desired: Desired
    _rows: dict[Key, Row] = field(default_factory=dict)
    _report: Report = field(default_factory=lambda: Report("", dry_run=False))
    _problems: set[Problem] = field(default_factory=set)

    async def make(self, request: PassRequest) -> Report:
        """Make the pass. Raises RepositoryError if the fleet acted on a newer revision than this clone has."""
        ledger, selection = self.state.ledger, request.selection
        self._report.revision = self.desired.revision
        await self.leases.refuse_outdated()
        if request.released:
            await self.passes.let_through(self.state, selection)
        releases = list[Command]()
        if self.state.member is not None and await asyncio.to_thread(self.state.member.leader) is None:
            commands = await ledger.run(lambda writer: writer.commands.waiting())
            releases = releases_of(commands, selection)
            request = replace(request, released=request.released or next((each.by for each in releases), None))
            for command in commands:
                if command.kind != "release":
                    await self._apply(command)
        if selection.everything:
            await ledger.run(lambda writer: writer.guard.begin_resync())
        for _ in range(MOST_ROUNDS):
            before = self._report.executed + self._report.revoked
            parts = await by_service(selection, self.desired, ledger, self.passes.revision().context.yielder)
            passes = [self._pass(name, replace(request, selection=part)) for name, part in sorted(parts.items())]
            ended = await asyncio.gather(*passes, return_exceptions=True)
            for error in (each for each in ended if each is not None):
                raise error  # only now: the passes over the other services have ended, too
            waiting = self._waiting()
            if self._report.executed + self._report.revoked == before or not waiting:
                break
            selection = Selection.of(waiting)
        for command in releases if not self.clock.stopping.is_set() else ():
            await self._apply(command)  # until here, it stays for the next pass: this one may be declined, or die
        if request.selection.everything:
            context, now = self.passes.revision().context, self.clock.now()
            rules = context.policy_rules(self.desired)
            self._problems |= {*await broken_counts(rules, self.desired, ledger, now, context.yielder)}
        await self.leases.refuse_left()
        return self._merged()

    def _waiting(self) -> set[Key]:
        """Find the entries that wait for another entry, which may be present by now, or gone."""
        found = {key for key, row in self._rows.items() if row.status is Status.SCHEDULED}
        gone = {key for key, row in self._rows.items() if row.action is Action.REVOKE}
        return gone | {key for key in found if (grant := self.desired.grant(key)) is not None and grant.needs}

    async def _apply(self, command: Command) -> None:
        """Act on a command, as the leader would; for a fleet without one."""
        services = await changes_of(self.state.ledger, command, self.desired.service_of)
        await self.passes.apply_commands([command], {*services} or {""})

    async def _pass(self, service: str, request: PassRequest) -> None:
        done = await self.passes.run(request, {service})
        self._rows |= {Key(row.hire, row.access): row for row in done.rows}
        self._problems |= set(done.problems)
        self._report.executed += done.executed
        self._report.revoked += done.revoked
        self._report.failures += done.failures
        self._report.unmanaged |= done.unmanaged

    def _merged(self) -> Report:
        """Merge into one report, with rows in the order of a pass over everything: by hire, then as in its file."""
        places: dict[Key, int] = {}
        for hire in {key.hire for key in self._rows}:
            places |= {grant.key: number for number, grant in enumerate(self.desired.grants(hire))}
        order = sorted(self._rows, key=lambda key: (key.hire, places.get(key, len(places)), key.access))
        problems = sorted(self._problems, key=lambda problem: problem.order)
        return replace(self._report, rows=[self._rows[key] for key in order], problems=problems)
