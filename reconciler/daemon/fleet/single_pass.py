"""A pass of `reconcile` beside the members of a fleet: service by service, each under a lease.

While another member has a service, the pass waits, and then finds settled what that member settled. Entries that need
one of another service follow in a further round.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from reconciler.daemon.cutting import by_service
from reconciler.daemon.fleet.newest import Newest
from reconciler.engine.apply.commands import by_grant, changes_of, releases_of, take_up
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.run.planning import Plan
from reconciler.engine.run.reconciler import Reconciler
from reconciler.engine.state import OpenState, recover, refuse_strayed
from reconciler.ledger.entries import Command
from reconciler.ledger.lease import Lease, MoreNeeded
from reconciler.ledger.postgres.membership import Membership
from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import Problem, RepositoryError
from reconciler.model.grant import Key
from reconciler.model.report import Report, Row
from reconciler.model.selection import Selection
from reconciler.model.settings import Settings
from reconciler.model.status import Status
from reconciler.notify.notifications import Notifier
from reconciler.repository.desired import Desired
from reconciler.repository.git.trees import Tree
from reconciler.review.unmanaged import unknown_accounts

__all__ = ["FleetPass", "leased", "member_name"]

RETRY_SECONDS = 0.2
"""How long to wait between two tries to lease a service that another member has."""

MOST_ROUNDS = 10
"""The most rounds for entries that need others."""

Approve = Callable[[Plan], Awaitable[None]]
"""Called with each plan before it is applied; raises if it must not be."""


def member_name(command: str) -> str:
    """Name this process among the members while it runs a command."""
    return f"`{command}` (process {os.getpid()} on {socket.gethostname()})"


@asynccontextmanager
async def leased(state: OpenState, clock: SystemClock, services: Collection[str]) -> AsyncIterator[OpenState]:
    """Lease services while the block runs; wait until no other member has one of them. Raises Stopped."""
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


@dataclass(slots=True, kw_only=True)
class FleetPass:
    """A pass over a selection, with the state shared with others."""

    context: Context
    clock: SystemClock
    state: OpenState
    settings: Settings
    tree: Tree
    released: bool
    removals: bool
    approve: Approve
    _rows: dict[Key, Row] = field(default_factory=dict)
    _problems: set[Problem] = field(default_factory=set)
    _report: Report = field(default_factory=lambda: Report("", dry_run=False))
    _desired: Desired | None = None
    _left: bool = False

    async def make(self, selection: Selection) -> Report:
        """Make the pass. Raises RepositoryError if the fleet acted on a newer revision than this clone has."""
        ledger, context = self.state.ledger, self.context
        self._report.revision = self.tree.revision
        self._refuse_outdated()
        context.outdated = self._outdated
        files = context.reader.load(self.tree)
        desired = self._desired = context.desired(files, Policy.of(self.settings, context.clock.now()).today)
        releases = list[Command]()
        if self.state.member is not None and self.state.member.leader() is None:
            commands = ledger.commands()
            releases = releases_of(commands, selection)
            self.released |= bool(releases)
            for command in commands:
                if command.kind != "release":
                    await self._take_up(command)
        everything = selection.everything
        if everything:
            ledger.begin_resync()
        for _ in range(MOST_ROUNDS):
            before = self._report.executed
            parts = by_service(selection, desired, ledger)
            passes = [self._reconcile(name, part) for name, part in sorted(parts.items())]
            ended = await asyncio.gather(*passes, return_exceptions=True)
            for error in (each for each in ended if each is not None):
                raise error  # only now: the passes over the other services have ended, too
            waiting = self._waiting(desired)
            if self._report.executed == before or not waiting:
                break
            selection = Selection.of(waiting)
        for command in releases if not self.clock.stopping.is_set() else ():
            await self._take_up(command)  # until here, it stays for the next pass: this one may be declined, or die
        if everything:
            self._problems |= set(context.judge(desired).counted())
        if self._left:
            self._refuse_outdated()
        return self._merged(desired)

    def _outdated(self) -> bool:
        """Whether the fleet acted on a newer revision than this clone has: what it was to make then is left."""
        outdated = not Newest(self.context.checkout, self.state.ledger).act_on(self.tree.revision)
        self._left |= outdated
        return outdated

    def _refuse_outdated(self) -> None:
        """Raise RepositoryError where the fleet acted on a newer revision than this clone has."""
        if self._outdated():
            raise RepositoryError(
                f"the fleet acted on a newer revision than {self.tree.revision[:12]}, which this clone is at: "
                "`git pull`, then try again"
            )

    def _waiting(self, desired: Desired) -> set[Key]:
        """Find the entries that wait for another entry, which may be present by now."""
        found = {key for key, row in self._rows.items() if row.status is Status.SCHEDULED}
        return {grant.key for key in found for grant in desired.grants(key.hire) if grant.key == key and grant.needs}

    async def _take_up(self, command: Command) -> None:
        """Take up a command, as the leader would; for a fleet without one."""
        services = {*changes_of(self.state.ledger, command, self._home)} or {""}
        while True:
            async with leased(self.state, self.clock, sorted(services)) as state:
                try:
                    take_up(state.ledger, [command], self.clock.now())
                except MoreNeeded as error:
                    services |= error.services
                else:
                    return

    def _home(self, integration: str) -> str:
        assert self._desired is not None
        return self._desired.service_of(integration)

    async def _reconcile(self, service: str, selection: Selection) -> None:
        services, desired = {service}, self._desired
        assert desired is not None
        while True:
            async with leased(self.state, self.clock, sorted(services)) as state:
                self._refuse_outdated()  # others may have acted while they were waited for
                try:
                    refuse_strayed(state.ledger, desired, services)
                    await self._plan_and_apply(state, selection)
                except MoreNeeded as error:
                    services |= error.services
                else:
                    return

    async def _plan_and_apply(self, state: OpenState, selection: Selection) -> None:
        now, context = self.clock.now(), self.context
        recover(state.ledger, self.settings, now)
        # Only now: while the service was waited for, others may have acted on commands.
        commands = [each for each in state.ledger.commands() if self.removals or each.kind != "revoke"]
        reconciler = Reconciler(context, state, Notifier(context))
        planning = reconciler.plan(
            selection, self.tree, commands=by_grant(commands), released=self.released, removals=self.removals
        )
        plan = await self.clock.unless_stopped(planning)
        await self.approve(plan)
        done = await reconciler.apply(plan)
        self._rows |= {Key(row.hire, row.access): row for row in done.rows}
        self._problems |= set(done.problems)
        self._report.executed += done.executed
        self._report.revoked += done.revoked
        self._report.failures += done.failures
        async for each in unknown_accounts(plan, context.pace, done):
            if each.complete:
                state.ledger.save_seen(each.integration, each.seen, now)
                self._report.unmanaged[each.integration] = each.unknown

    def _merged(self, desired: Desired) -> Report:
        """Merge into one report, with rows in the order of a pass over everything: by hire, then as in its file."""
        places: dict[Key, int] = {}
        for hire in {key.hire for key in self._rows}:
            places |= {grant.key: number for number, grant in enumerate(desired.grants(hire))}
        order = sorted(self._rows, key=lambda key: (key.hire, places.get(key, len(places)), key.access))
        problems = sorted(self._problems, key=lambda problem: problem.order)
        return replace(self._report, rows=[self._rows[key] for key in order], problems=problems)
