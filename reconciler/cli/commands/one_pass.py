"""`reconcile`, with and without `--dry-run`: make one pass, then exit."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, redirect_stdout, suppress
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import click

from reconciler.cli.commands.dry_run import planned
from reconciler.cli.commands.enqueue import enqueue, show_handed_over
from reconciler.cli.options import Filter, PassOptions, SharedOptions
from reconciler.cli.output.logs import ProgressReporter, begin_redacting, note, set_up
from reconciler.model.clock import Stopped
from reconciler.model.errors import ReconcilerError, StateLockedError, UsageError
from reconciler.model.near import near
from reconciler.model.selection import PassRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from datetime import datetime

    from reconciler.engine.apply.plan import Plan
    from reconciler.engine.context import Context, SystemClock
    from reconciler.engine.observe.wiring import Services
    from reconciler.engine.run.accepted import InForce
    from reconciler.engine.run.planning import Planning
    from reconciler.engine.run.runner import Leases, PassRunner
    from reconciler.engine.state import OpenState
    from reconciler.ledger.ledger import OpenLedger
    from reconciler.ledger.reader import LedgerReader
    from reconciler.ledger.writer import LedgerWriter
    from reconciler.model.report import Report, Row
    from reconciler.model.secret import Redactor
    from reconciler.model.selection import Selection
    from reconciler.repository.git.checkout import Tree
    from reconciler.review.unmanaged import ComparedListing

__all__ = ["one_pass", "until_stopped"]

FORGE_SECONDS = 2.0
"""So long a pass that is over asks the forge who approved what."""


def one_pass(options: SharedOptions, chosen: PassOptions) -> int:
    """Make one pass, show it, and return its exit code."""
    from reconciler.cli.output.show import exit_code, show_report
    from reconciler.engine.context import SystemClock

    chosen.refuse_contradiction()
    clock = SystemClock()
    redactor = begin_redacting() if chosen.dry_run else set_up(options)
    with ExitStack() as spools:
        if chosen.dry_run:
            spools.enter_context(_collecting_seldom())
        try:
            report, rows = asyncio.run(_run(options, chosen, clock, redactor, spools))
        except StateLockedError as error:
            if not chosen.yes_really or chosen.no_removals:  # the other process would let removals through, too
                raise
            return _enqueue_release(options, chosen.selection, error)
        only = Filter(chosen.statuses, chosen.only_changes)
        show_report(report, options, rows=rows, by=chosen.by, only=only, paged=chosen.dry_run)
    if clock.stopping.is_set() and report.tally.pending and not report.wrong:
        raise Stopped
    return exit_code(report, detailed=chosen.detailed_exitcode)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """While the block runs, let the garbage collector run seldom: few of the many objects of a plan are in a cycle.

    A pass that acts has answers that would wait for it.
    """
    before = gc.get_threshold()
    gc.set_threshold(500_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _run(
    options: SharedOptions, chosen: PassOptions, clock: SystemClock, redactor: Redactor, spools: ExitStack
) -> tuple[Report, Iterable[Row] | None]:
    """Make the pass. The rows of a dry run are read from the spools, the others are in the report."""
    from reconciler.engine.context import Context

    removals = not chosen.no_removals
    async with aclosing(
        Context(options.repo, clock, redactor, branch=options.branch, programs=options.programs)
    ) as context:
        with until_stopped(clock):
            if not chosen.dry_run:
                ask = None if chosen.yes or not at_terminal() else partial(_ask, options, clock, chosen.by)
                released = chosen.yes_really
                return await _real(context, clock, chosen.selection, ask, released=released, removals=removals), None
            planning = _plan_dry(context, chosen.selection, chosen.rev, worktree=chosen.worktree, removals=removals)
            async with planning as (there, force, ignored):
                givers = options.output in ("json", "csv")  # the others do not show them
                report, rows = await clock.unless_stopped(planned(context, there, spools, givers=givers))
            report.branch, report.ignored = force.branch, ignored
            report.refuse(force.refused)
            return report, rows


def at_terminal() -> bool:
    """Whether a person can be shown a plan and asked about it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


async def _ask(options: SharedOptions, clock: SystemClock, by: str, plan: Report) -> None:
    """Show a plan and ask whether to apply it. Raises Declined if the answer is no, Ctrl-C or the end of input."""
    from reconciler.cli.output.show import show_report

    with redirect_stdout(sys.stderr):  # stdout is for the report of the pass
        show_report(plan, replace(options, output="table"), by=by)
    click.echo(f"Carry out {len(plan.pending)} of these? [y/N]: ", nl=False, err=True)
    try:
        answer = await clock.unless_stopped(_line())
    except Stopped:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise Declined("nothing was carried out")


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


class Declined(ReconcilerError):
    """The person who was shown the plan does not want it applied."""


@asynccontextmanager
async def _plan_dry(
    context: Context, selection: Selection, rev: str | None, *, worktree: bool, removals: bool
) -> AsyncIterator[tuple[Planning, InForce, list[str]]]:
    """What a dry run plans with while the state is open for reading, what is in force, and what is ignored."""
    from reconciler.engine.run.accepted import in_force
    from reconciler.engine.run.planning import Planning
    from reconciler.engine.state import reading

    force = in_force(context, uncommitted=worktree)
    tree = context.checkout.at(rev) if rev else (context.checkout.worktree() if worktree else force.tree)
    # Where commits have to be signed, uncommitted files are planned like a branch.
    branch = rev or force.settings.git.verify_signatures
    settings = force.settings if branch else context.settings(tree)
    _check(context, force, tree, selection)
    ignored = _note_settings(context, force, tree) if rev else [] if worktree else _note_ignored(context, force)
    with reading(context, settings, force.tree) as opened:
        ours = force.tree if branch and tree.revision != force.tree.revision else None
        planning = Planning(context, opened, PassRequest(selection, removals=removals), tree, in_force=ours)
        yield await planning.begin(), force, ignored


async def _real(
    context: Context,
    clock: SystemClock,
    selection: Selection,
    ask: Callable[[Report], Awaitable[None]] | None,
    *,
    released: bool,
    removals: bool,
) -> Report:
    """Plan and apply; with `ask`, only what was agreed to."""
    from reconciler.engine.run.accepted import ASSUMED, in_force

    force = in_force(context)
    _check(context, force, force.tree, selection)
    ignored = _note_ignored(context, force)
    if force.assumed:
        note(ASSUMED.format(branch=force.branch))
    request = PassRequest(selection, released=released, removals=removals)
    shared = context.state(force.settings, force.tree).file is None
    report = await (_fleet_pass if shared else _locked_pass)(context, clock, force, request, ask)
    report.branch, report.ignored = force.branch, ignored
    report.refuse(force.refused)
    return report


async def _locked_pass(
    context: Context,
    clock: SystemClock,
    force: InForce,
    request: PassRequest,
    ask: Callable[[Report], Awaitable[None]] | None,
) -> Report:
    """Make a pass over a state that this process has to itself."""
    from reconciler.engine.apply.commands import end_locks, releases_of
    from reconciler.engine.run.accepted import keep
    from reconciler.engine.run.runner import LockedState
    from reconciler.engine.state import locking
    from reconciler.review.overdue import alert_overdue

    settings, tree = force.settings, force.tree
    with locking(context, settings, tree, "reconcile", migrate=request.released) as state:
        await keep(context, state.ledger, force)
        passes = _runner(context, clock, force, LockedState(state), ask and _Agreement(ask, context.redactor).approves)
        passes.watched = ProgressReporter()
        commands = await state.ledger.run(lambda ledger: ledger.commands())
        releases = releases_of(commands, request.selection)
        await passes.apply_commands(command for command in commands if command.kind != "release")
        await state.ledger.run(partial(end_locks, now=clock.now()))
        report = await passes.run(replace(request, released=request.released or bool(releases)))
        if not clock.stopping.is_set():  # until here, it stays for the next pass: this one may be declined, or die
            await passes.apply_commands(releases)
        await _ask_forge(context, state.ledger, force)
        await alert_overdue(context, settings, tree, state.ledger)
        await state.ledger.run(partial(_tell, context=context, tree=tree, report=report))
        return report


def _runner(
    context: Context,
    clock: SystemClock,
    force: InForce,
    leases: Leases,
    approve: Callable[[Plan], Awaitable[bool]] | None,
) -> PassRunner:
    """Return what makes the passes of `reconcile`; each also counts the accounts that git does not know."""
    from reconciler.engine.run.runner import PassRunner
    from reconciler.notify.notifications import Notifier
    from reconciler.review.unmanaged import unknown_accounts

    async def count_unknown(state: OpenState, services: Services, plan: Plan, report: Report) -> None:
        async for each in unknown_accounts(services, plan, context.pace, report):
            if each.complete:
                await state.ledger.run(partial(_save_seen, listing=each, now=clock.now()))
                report.unmanaged[each.integration] = each.unknown

    return PassRunner(
        context=context,
        clock=clock,
        leases=leases,
        revision=lambda: (force.settings, force.tree),
        notifier=Notifier(context),
        approve=approve,
        applied=count_unknown,
    )


def _save_seen(ledger: LedgerWriter, listing: ComparedListing, now: datetime) -> None:
    ledger.save_seen(listing.integration, listing.seen, now)


async def _ask_forge(context: Context, ledger: OpenLedger, force: InForce) -> None:
    """Ask the forge for a moment who approved what; what it does not answer is asked after the next pass."""
    from reconciler.daemon.approving import Approving
    from reconciler.daemon.runtime import ProblemLog

    with suppress(TimeoutError):
        async with asyncio.timeout(FORGE_SECONDS):
            await Approving(context, ledger, ProblemLog()).ask(force.settings, force.branch)


class _Agreement:
    """Asks about a plan, and again until a plan is the one that was agreed to."""

    def __init__(self, ask: Callable[[Report], Awaitable[None]], redactor: Redactor) -> None:
        self._ask = ask
        self._redactor = redactor
        self._agreed: list[object] = []

    async def approves(self, plan: Plan) -> bool:
        """Whether to apply the plan; if not, what was agreed to is planned anew. Raises Declined."""
        shown = plan.report(self._redactor)
        pending = [_agreed(row) for row in shown.pending]
        if pending == self._agreed:
            return True
        await self._ask(shown)
        self._agreed = pending
        return False


async def _fleet_pass(
    context: Context,
    clock: SystemClock,
    force: InForce,
    request: PassRequest,
    ask: Callable[[Report], Awaitable[None]] | None,
) -> Report:
    """Make a pass beside the members of a fleet; with `ask`, apply only what was agreed to."""
    from reconciler.daemon.fleet.single_pass import FleetPass, SharedState, member_name
    from reconciler.engine.run.planning import Planning
    from reconciler.engine.state import reading, sharing
    from reconciler.model.decision_inputs import Policy

    settings, tree = force.settings, force.tree
    agreed: list[object] | None = None
    if ask is not None:
        with reading(context, settings, tree) as there:
            planning = await Planning(context, there, request, tree).begin()
            shown = (await planning.whole()).report(context.redactor)
        await ask(shown)
        agreed = [_agreed(row) for row in shown.pending]

    async def approve(plan: Plan) -> bool:
        if agreed is not None and any(_agreed(row) not in agreed for row in plan.report(context.redactor).pending):
            raise Declined("what is to be done is no longer what was shown: nothing more was carried out; try again")
        return True

    with sharing(context, settings, tree, member_name("reconcile"), migrate=request.released) as state:
        if request.released and state.member is not None:
            state.member.refuse_led(str(context.state(settings, tree)))  # a command asks the leader to let it through
        leases = SharedState(context, clock, state, tree.revision)
        passes = _runner(context, clock, force, leases, approve)
        desired = context.desired(context.reader.load(tree), Policy.of(settings, clock.now()).today)
        fleet_pass = FleetPass(clock=clock, passes=passes, state=state, leases=leases, desired=desired)
        report = await fleet_pass.make(request)
        await state.ledger.run(partial(_tell, context=context, tree=tree, report=report))
        return report


def _tell(ledger: LedgerReader, context: Context, tree: Tree, report: Report) -> None:
    """Say of each row who gave the grant, and of those that leave when they had to be gone, and were."""
    from reconciler.repository.desired import Desired
    from reconciler.review.leaving import Leaving

    report.give(ledger.given(report.hires))
    report.rows = [*Leaving(context.checkout, Desired(context.reader.load(tree), date.min)).dated(ledger, report.rows)]


def _agreed(row: Row) -> object:
    """Return what a person agrees to who is shown a row."""
    return row.hire, row.access, row.action, row.requests


def _check(context: Context, force: InForce, tree: Tree, selection: Selection) -> None:
    """Refuse names that do not exist: a misspelt --hire must not look like a clean pass."""
    files = context.reader.load(tree)
    known = files.hires.keys() | files.broken["hires"].keys()
    for hire in selection.hires or ():
        if hire not in known and not _in_ledger(context, force, hire):
            meant = near(hire, known)
            raise UsageError(
                f"--hire {hire}: there is no hires/{hire}.yaml, and the ledger knows nobody of that id{meant}"
            )
    known = files.manifests.keys() | files.broken["manifests"].keys()
    for name in selection.integrations or ():
        if name not in known:
            raise UsageError(f"--integration {name}: there is no manifests/{name}.yaml{near(name, known)}")


def _in_ledger(context: Context, force: InForce, hire: str) -> bool:
    with context.state(force.settings, force.tree).reader() as ledger:
        return any(True for _ in ledger.records([hire]))


def _note_ignored(context: Context, force: InForce) -> list[str]:
    """Say what the checkout has and is not acted on, and return it."""
    ignored = [] if force.branch is None else context.checkout.ignored(force.branch)
    for each in ignored:
        note(each)
    return ignored


def _note_settings(context: Context, force: InForce, tree: Tree) -> list[str]:
    """Say that a branch is planned with the settings in force, and what its own would change; and return it."""
    from reconciler.cli.output.consequences import step
    from reconciler.review.compared_files import compared_settings

    changed = compared_settings(force.settings, context.settings(tree))
    if not changed:
        return []
    told = ", ".join(f"{name} {step(pair, str)}" for name, pair in changed.items())
    said = f"planned with the settings of {force.tree.revision[:12]}; those of the branch would change {told}"
    note(said)
    return [said]


def _enqueue_release(options: SharedOptions, selection: Selection, error: StateLockedError) -> int:
    for hire, integration in product(selection.hires or (None,), selection.integrations or (None,)):
        enqueue(options, "release", hire=hire, integration=integration)
    hires, integrations = sorted(selection.hires or ()), sorted(selection.integrations or ())
    what, whose = ", ".join(integrations) or "the held integrations", f" for {', '.join(hires)}" if hires else ""
    show_handed_over(options, "release", (), f"let {what} through{whose}, once", error)
    return 0


class until_stopped:  # noqa: N801  a context manager, used like a function
    """While the block runs, SIGTERM and SIGINT start nothing new and cut waits short; attempts in flight finish."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._clock.stopping.set)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
