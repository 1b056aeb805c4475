"""`reconcile`, with and without `--dry-run`: make one pass, then exit.

Neither what a dry run plans nor its rows are kept in memory: rows wait in a spool, and so does who gave each grant,
which is found out for many hires at once, since all commits are walked for it, and when what leaves had to be gone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager
from datetime import UTC, date, datetime
from functools import partial

from reconciler.cli.context import Here, context_of, requester, show_handed_over, until_stopped
from reconciler.cli.options import PassOptions, SharedOptions
from reconciler.cli.output.consequences import step
from reconciler.cli.output.logs import ProgressReporter, begin_redacting, note, set_up
from reconciler.cli.output.report import exit_code, show_report
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import SystemClock
from reconciler.engine.run.accepted import ASSUMED, InForce, brought_up_to_date, in_force
from reconciler.engine.run.planning import Planning
from reconciler.engine.state import reading
from reconciler.engine.trust import lost
from reconciler.model.attribution import Attribution
from reconciler.model.clock import Stopped
from reconciler.model.errors import SettingsError, StateLockedError, UsageError
from reconciler.model.grant import Key
from reconciler.model.report import Report, Row
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.text import hint
from reconciler.model.value import replace
from reconciler.repository.attribution.given import Givers
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.repository.git.trees import Tree
from reconciler.requests.tasks import MAX_HIRES
from reconciler.review.causes import compared_settings
from reconciler.review.dry_run import DryRun, Spooled
from reconciler.review.past import Dates, Leaving
from reconciler.review.spool import Spool
from reconciler.review.unmanaged import UnknownAccounts

Evidence = tuple[dict[tuple[str, str], Attribution], Dates]


def one_pass(options: SharedOptions, chosen: PassOptions) -> int:
    """Make one pass, show it, and return its exit code."""
    chosen.refuse_contradiction()
    clock = SystemClock()
    redactor = begin_redacting(options) if chosen.dry_run else set_up(options)
    with ExitStack() as spools:
        try:
            report, rows = asyncio.run(_run(options, chosen, clock, redactor, spools))
        except StateLockedError as error:
            if not chosen.yes_really or chosen.no_removals:  # the other process would let removals through, too
                raise
            return _enqueue_release(options, chosen.selection, error)
        show_report(report, options, rows=rows, only=chosen, paged=chosen.dry_run)
    if clock.stopping.is_set() and report.tally.pending and not report.wrong:
        raise Stopped
    return exit_code(report, detailed=chosen.detailed_exitcode)


async def _run(
    options: SharedOptions, chosen: PassOptions, clock: SystemClock, redactor: Redactor, spools: ExitStack
) -> tuple[Report, Iterable[Row] | None]:
    """Make the pass. The rows of a dry run are read from the spools, the others are in the report."""
    released = requester() if chosen.yes_really else None
    request = PassRequest(chosen.selection, released=released, removals=not chosen.no_removals)
    async with aclosing(context_of(options, redactor, clock)) as context:
        with until_stopped(clock):
            if chosen.yes_really and brought_up_to_date(context):
                request = replace(request, released=None)
                note("the state was brought up to date; what the guard holds is let through by running this again")
            force = in_force(context, uncommitted=chosen.worktree)
            if chosen.dry_run:
                async with _planning(force, request, chosen) as (planning, ignored):
                    givers = options.output in ("json", "csv")  # the others do not show them
                    report, rows = await clock.unless_stopped(_planned(planning, spools, givers=givers))
                report.seal(lost(force))
            else:
                from reconciler.cli.commands.acting import act, ask  # a dry run needs little of what they load

                _check(force, force.files, request.selection)
                ignored, rows = _note_ignored(force), None
                if force.assumed:
                    note(ASSUMED.format(branch=force.branch))
                asks = sys.stdin.isatty() and sys.stdout.isatty() and not chosen.yes
                report = await act(clock, force, request, partial(ask, options, clock, chosen.by) if asks else None)
            report.branch, report.ignored = force.branch, ignored
            report.refuse(force.refused)
            return report, rows


@asynccontextmanager
async def _planning(
    force: InForce, request: PassRequest, chosen: PassOptions
) -> AsyncIterator[tuple[Planning, list[str]]]:
    """What a dry run plans with while the state is open for reading, and what is ignored."""
    context, rev, worktree = force.context, chosen.rev, chosen.worktree
    tree = context.checkout.at(rev) if rev else (context.checkout.worktree() if worktree else force.tree)
    # Where commits have to be signed, uncommitted files are planned like a branch.
    branch = rev or force.settings.git.verify_signatures
    planned = replace(force, tree=tree, settings=force.settings if branch else context.settings(tree))
    ignored = _note_settings(force, tree, rev) if rev else [] if worktree else _note_ignored(force)
    _check(force, planned.files, request.selection)
    with reading(force) as opened:
        ours = force if branch and tree.revision != force.tree.revision else None
        yield await Planning(planned, opened, request, in_force=ours).begin(), ignored


async def _planned(planning: Planning, spools: ExitStack, *, givers: bool) -> tuple[Report, Iterator[Row]]:
    """Plan, and return the report without its rows, and the rows, to be read while the spools are open.

    With `givers`, each row says who gave the grant, and when what leaves had to be gone, and was.
    """
    rows: Spool[list[Spooled]] = spools.enter_context(Spool())
    unknown = None
    if planning.selection.hires is None:
        unknown = UnknownAccounts(planning.integrations, planning.desired, planning.listings, planning.yielder)
    dry_run = DryRun(planning, rows, unknown)
    given = None
    if givers:
        given = _GivenByPart(planning, spools.enter_context(Spool()))
    async with aclosing(dry_run.parts(MAX_HIRES, ProgressReporter())) as parts:
        async for plan in parts:
            if given is not None:
                await given.add(plan)
    report = await dry_run.report()
    if unknown is not None:
        report.unmanaged = {each.integration: each.unknown async for each in unknown.compared() if each.complete}
    return report, _rows(dry_run, None if given is None else await given.ended())


def _rows(dry_run: DryRun, given: Spool[Evidence] | None) -> Iterator[Row]:
    if given is None:
        for part in dry_run.rows():
            yield from part
        return
    for part, (of_part, dates) in zip(dry_run.rows(), given, strict=True):
        yield from (dates.of(row.given_by(of_part.get((row.hire, row.access)))) for row in part)


class _GivenByPart:
    """Who gave the grants of each part, and when what leaves had to be gone, in a spool."""

    def __init__(self, planning: Planning, spool: Spool[Evidence]) -> None:
        checkout = planning.context.checkout
        self._ledger = planning.state.ledger
        self._givers = Givers(checkout, planning.desired, self._ledger)
        self._leaving = Leaving(checkout, Desired(planning.desired.files, date.min))
        self._redactor = planning.context.redactor
        self._spool = spool
        self._parts: list[tuple[Collection[str], Mapping[Key, Key], Dates]] = []

    async def add(self, plan: Plan) -> None:
        """Add a part while its hires' files are still remembered."""
        hires = plan.selection.hires or ()
        planned = ((item, plan.record_of(item)[0]) for item in plan.grants)
        left = [plan.row(item, new, self._redactor) for item, new in planned if new.orphaned_at is not None]
        former = {new: old for old, new in plan.renamed.items()}
        dates = await self._ledger.run(lambda ledger: self._leaving.dates(ledger, hires, left, former=former))
        self._parts.append((hires, plan.renamed, dates))
        await self._givers.add_unknown(hires)
        if self._givers.full:
            await self._write()

    async def ended(self) -> Spool[Evidence]:
        """The spool, once all parts are added."""
        await self._write()
        return self._spool

    async def _write(self) -> None:
        found = await self._givers.found()
        for hires, renamed, dates in self._parts:
            known = await self._ledger.given({*hires, *(key.hire for key in renamed)})
            of_part = {**known, **{new: known[old] for old, new in renamed.items() if old in known}}
            for hire in hires if found else ():
                of_part |= found.get(hire, {})
            pairs = {(key.hire, key.access): given for key, given in of_part.items()}
            self._spool.add((pairs, dates))  # they are written in less time than keys
        self._parts.clear()


def _check(force: InForce, files: Files, selection: Selection) -> None:
    """Refuse names that do not exist: a misspelt --hire must not look like a clean pass."""
    known = files.hires.keys() | files.broken["hires"].keys()
    for hire in selection.hires or ():
        if hire in known:
            continue
        with force.location.reader() as ledger:
            if not any(True for _ in ledger.grants.records([hire])):
                why = f"there is no hires/{hire}.yaml, and the ledger knows nobody of that id{hint(hire, known)}"
                raise UsageError(f"--hire {hire}: {why}")
    known = files.manifests.keys() | files.broken["manifests"].keys()
    for name in selection.integrations or ():
        if name not in known:
            raise UsageError(f"--integration {name}: there is no manifests/{name}.yaml{hint(name, known)}")


def _note_ignored(force: InForce) -> list[str]:
    """Say what the checkout has and is not acted on, and return it."""
    from reconciler.repository.git.checkout import ignored as ignored_of

    ignored = [] if force.branch is None else ignored_of(force.context.checkout, force.branch)
    for each in ignored:
        note(each)
    return ignored


def _note_settings(force: InForce, tree: Tree, rev: str) -> list[str]:
    """Say that a branch is planned with the settings in force, and what its own would change; and return it.

    Raises SettingsError, which names the branch, where its own cannot be read.
    """
    try:
        changed = compared_settings(force.settings, force.context.settings(tree))
    except SettingsError as error:
        raise SettingsError(error.problems, rev) from None
    if not changed:
        return []
    told = ", ".join(f"{name} {step(pair, str)}" for name, pair in changed.items())
    said = f"planned with the settings of {force.tree.revision[:12]}; those of the branch would change {told}"
    note(said)
    return [said]


def _enqueue_release(options: SharedOptions, selection: Selection, error: StateLockedError) -> int:
    from reconciler.engine.apply.commands import enqueue_release

    with Here.of(options).writer() as ledger:
        enqueue_release(ledger, selection, datetime.now(UTC), by=requester())
    hires, integrations = sorted(selection.hires or ()), sorted(selection.integrations or ())
    what, whose = ", ".join(integrations) or "the held integrations", f" for {', '.join(hires)}" if hires else ""
    show_handed_over(options, "release", (), error, f"let {what} through{whose}, once")
    return 0
