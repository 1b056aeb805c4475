"""Passes that a command makes itself: `reconcile`, and those over what `lock`, `run` and `revoke` are about."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, redirect_stdout, suppress
from datetime import date, datetime
from functools import partial

import click

from reconciler.cli.context import context_of, until_stopped
from reconciler.cli.options import Filter, SharedOptions
from reconciler.cli.output.logs import ProgressReporter
from reconciler.cli.output.report import show_report
from reconciler.daemon.approving import Approving
from reconciler.daemon.fleet.single_pass import FleetPass, SharedState
from reconciler.daemon.runtime import ProblemLog
from reconciler.engine.apply.commands import end_locks, releases_of
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Context, Revision, SystemClock
from reconciler.engine.observe.checker import Services
from reconciler.engine.run.accepted import InForce, in_force, keep
from reconciler.engine.run.planning import Planning
from reconciler.engine.run.runner import Leases, LockedState, PassRunner
from reconciler.engine.state import OpenState, locking, reading, sharing
from reconciler.ledger.postgres.membership import member_name
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped
from reconciler.model.errors import ReconcilerError
from reconciler.model.grant import Key
from reconciler.model.report import Report, Row
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest
from reconciler.model.status import Status
from reconciler.model.value import replace
from reconciler.notify.delivery import Notifier
from reconciler.repository.desired import Desired
from reconciler.review.past import Leaving
from reconciler.review.reviews import alert_overdue
from reconciler.review.unmanaged import ComparedListing, UnknownAccounts

Ask = Callable[[Report], Awaitable[None]]
"""Shows a plan, and asks whether to apply it. Raises Declined if it is not to be."""

FORGE_SECONDS = 2.0
"""So long a pass that is over asks the forge who approved what."""


class _Declined(ReconcilerError):
    """The person who was shown the plan does not want it applied."""


async def ask(options: SharedOptions, clock: SystemClock, by: str, plan: Report) -> None:
    """Show a plan and ask whether to apply it. Raises Declined if the answer is no, Ctrl-C or the end of input."""
    with redirect_stdout(sys.stderr):  # stdout is for the report of the pass
        show_report(plan, replace(options, output="table"), only=Filter(by=by))
    click.echo(f"Carry out {len(plan.pending)} of these? [y/N]: ", nl=False, err=True)
    try:
        answer = await clock.unless_stopped(_line())
    except Stopped:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise _Declined("nothing was carried out")


async def _line() -> str:
    """Read a line from the terminal without blocking the loop, which handles signals meanwhile."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


async def act(clock: SystemClock, force: InForce, request: PassRequest, ask: Ask | None) -> Report:
    """Plan and apply; with `ask`, only what was agreed to."""
    shared = force.location.file is None
    return await (_fleet_pass if shared else _locked_pass)(clock, force, request, ask)


@asynccontextmanager
async def passes_by_hand(
    options: SharedOptions, redactor: Redactor, kind: str
) -> AsyncIterator[tuple[InForce, OpenState, PassRunner]]:
    """Lock the state for a command, and give what is in force, the state, and what makes passes, until stopped.

    Raises RepositoryError where a fleet acted on a newer revision; but `lock` waits for no commit.
    """
    clock = SystemClock()
    async with aclosing(context_of(options, redactor, clock)) as context:
        force = in_force(context)
        with until_stopped(clock), locking(force, f"reconcile {kind}") as state:
            if state.member is not None and kind != "lock":
                await SharedState(context, clock, state, force.tree.revision).refuse_outdated()
            await keep(state.ledger, force)
            yield force, state, _runner(clock, force, LockedState(state))


async def _locked_pass(clock: SystemClock, force: InForce, request: PassRequest, ask: Ask | None) -> Report:
    """Make a pass over a state that this process has to itself."""
    context = force.context
    with locking(force, "reconcile") as state:
        await keep(state.ledger, force)
        passes = _runner(clock, force, LockedState(state))
        passes.approve = ask and _asking(ask, context.redactor)
        passes.applied, passes.on_planned = partial(_count_unknown, context=context), ProgressReporter()
        commands = await state.ledger.run(lambda ledger: ledger.commands.waiting())
        releases = releases_of(commands, request.selection)
        await passes.apply_commands(command for command in commands if command.kind != "release")
        await state.ledger.run(partial(end_locks, now=clock.now()))
        if request.released:
            await passes.let_through(state, request.selection)
        released = request.released or next((each.by for each in releases), None)
        report = await passes.run(replace(request, released=released))
        if not clock.stopping.is_set():  # until here, it stays for the next pass: this one may be declined, or die
            await passes.apply_commands(releases)
        with suppress(TimeoutError):  # what the forge does not answer in time is asked after the next pass
            async with asyncio.timeout(FORGE_SECONDS):
                await Approving(context, state.ledger, ProblemLog()).ask(force)
        await alert_overdue(force, state.ledger)
        await state.ledger.run(partial(tell, revision=force, report=report))
        return report


def _runner(clock: SystemClock, force: InForce, leases: Leases) -> PassRunner:
    return PassRunner(clock=clock, leases=leases, revision=lambda: force, notifier=Notifier())


async def _count_unknown(state: OpenState, services: Services, plan: Plan, report: Report, context: Context) -> None:
    """Count the accounts that git does not know, in the listings that a pass over everybody read."""
    if plan.selection.hires is not None or plan.selection.grants is not None:
        return
    revoked = {Key(row.hire, row.access) for row in report.rows if row.status is Status.REVOKED}
    listings = services.checker.listings
    unknown = UnknownAccounts(services.integrations, services.desired, listings, context.yielder, revoked)
    await unknown.add(plan)
    async for each in unknown.compared():
        if each.complete:
            await state.ledger.run(partial(_save_seen, listing=each, now=context.clock.now()))
            report.unmanaged[each.integration] = each.unknown


def _save_seen(ledger: LedgerWriter, listing: ComparedListing, now: datetime) -> None:
    ledger.accounts.save(listing.integration, listing.seen, now)


def _asking(ask: Ask, redactor: Redactor) -> Callable[[Plan], Awaitable[bool]]:
    """Return what asks about a plan, and again until a plan is the one that was agreed to."""
    agreed: list[object] = []

    async def approve(plan: Plan) -> bool:
        """Whether to apply the plan; if not, what was agreed to is planned anew. Raises Declined."""
        shown = plan.report(redactor)
        pending = [_agreed(row) for row in shown.pending]
        if pending == agreed:
            return True
        await ask(shown)
        agreed[:] = pending
        return False

    return approve


async def _fleet_pass(clock: SystemClock, force: InForce, request: PassRequest, ask: Ask | None) -> Report:
    """Make a pass beside the members of a fleet; with `ask`, apply only what was agreed to."""
    context = force.context
    agreed: list[object] | None = None
    if ask is not None:
        with reading(force) as there:
            planning = await Planning(force, there, request).begin()
            shown = (await planning.whole()).report(context.redactor)
        await ask(shown)
        agreed = [_agreed(row) for row in shown.pending]

    async def approve(plan: Plan) -> bool:
        if agreed is not None and any(_agreed(row) not in agreed for row in plan.report(context.redactor).pending):
            raise _Declined("what is to be done is no longer what was shown: nothing more was carried out; try again")
        return True

    with sharing(force, member_name("reconcile")) as state:
        if request.released and state.member is not None:
            state.member.refuse_led(str(force.location))  # a command asks the leader to let it through
        leases = SharedState(context, clock, state, force.tree.revision)
        passes = _runner(clock, force, leases)
        passes.approve, passes.applied = approve, partial(_count_unknown, context=context)
        fleet_pass = FleetPass(clock=clock, passes=passes, state=state, leases=leases, desired=force.desired)
        report = await fleet_pass.make(request)
        await state.ledger.run(partial(tell, revision=force, report=report))
        return report


def tell(ledger: LedgerReader, revision: Revision, report: Report) -> None:
    """Say of each row who gave the grant, and of those that leave when they had to be gone, and were."""
    report.give(ledger.given.of(report.hires))
    leaving = Leaving(revision.context.checkout, Desired(revision.files, date.min))
    report.rows = [*leaving.dated(ledger, report.rows)]


def _agreed(row: Row) -> object:
    """Return what a person agrees to who is shown a row."""
    return row.hire, row.access, row.action, row.requests
