"""A dry run over everybody, part by part: what has been planned is not kept, only the rows that are shown of it.

The guard judges the whole. Until then, a row that it may hold waits together with how it is shown if it is held, or if
it has to wait for one that is.

Once the listings are read, in nearly all parts of an audit nothing is asked and nothing is to be done. Processes are
forked then, and plan what they are given as the one that forked them would; but they ask nothing, for it keeps the
limits of services. Any part that has more to it is left to that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, aclosing
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec.structs import astuple

from reconciler.engine.apply.claims import Claims
from reconciler.engine.apply.plan import Plan
from reconciler.engine.decide import guard
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.decide.revision_count import RevisionCount
from reconciler.engine.run.counting import count_revision
from reconciler.engine.run.planner import OnPlanned, no_progress
from reconciler.engine.run.planning import Planning
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import Problem
from reconciler.model.grant import Grant, Record
from reconciler.model.report import Report, Row
from reconciler.model.selection import Selection
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import is_off
from reconciler.repository.parallel import MANY, forked, processes
from reconciler.requests.tasks import FEW
from reconciler.review.owners import Owners
from reconciler.review.spool import Spool, packed
from reconciler.review.unmanaged import UnknownAccounts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Waiting(Frozen):
    """A row that waits for the guard's judgement, with all that this needs of its grant.

    `held` and `waits` are the row as it is shown if the grant is held, or waits for one that is; the reason is then to
    be filled in.
    """

    row: Row
    grant: PlannedGrant
    held: Row | None = None
    waits: Row | None = None


Spooled = Waiting | tuple[Any, ...]
"""A row that waits; or the values of one, by place, where nothing of its hire can be held."""


class QuietPart(Frozen):
    """What a part comes to: its rows, as a spool has them, the problems of its files, and whose its accounts are."""

    rows: bytes
    problems: tuple[Problem, ...]
    owners: Mapping[str, Owners]


class DryRun:
    """A dry run; its rows are put into a spool, which the caller keeps open until they are shown."""

    def __init__(self, planning: Planning, spool: Spool[list[Spooled]], unknown: UnknownAccounts | None = None) -> None:
        """`unknown` is told of each part."""
        self._planning = planning
        self._spool = spool
        self._unknown = unknown
        self._problems: set[Problem] = set()
        self._tripped: Mapping[str, str] = {}
        self._runner: asyncio.Runner | None = None
        """In a process that was forked, what runs there."""
        self._reading = ExitStack()

    async def parts(self, hires: int, on_planned: OnPlanned = no_progress) -> AsyncGenerator[Plan, None]:
        """Plan part by part, so many hires each, and give each part's plan; that of a quiet one is without grants."""
        planning = self._planning
        await planning.yielder.pause()
        done = 0
        ledger = planning.state.ledger
        changes = await ledger.run(partial(planning.changes, counted=await self._count()))
        counted = {key.hire for key in changes.counted.keys(Selection())}
        parts = await planning.parts(hires)
        total = sum(len(part.hires or ()) for part in parts)
        async with aclosing(self._over(parts, apart=counted)) as found:
            async for selection, known in found:
                if known is None:
                    plan = await self._plan(selection, partial(_further, on_planned, done, total))
                    await ledger.run(partial(_counted, plan=plan, changes=changes))
                    await self._add(plan)
                else:
                    plan = self._add_quiet(known, selection, plan)
                done += len(selection.hires or ())
                if known is not None:  # the others are told of hire by hire
                    on_planned(done, total)
                yield plan
        self._tripped = await ledger.run(changes.tripped)

    async def _plan(self, selection: Selection, on_planned: OnPlanned = no_progress) -> Plan:
        planning = self._planning
        # In a run over everybody, who has which account is asked of all the rows, and not only the services'.
        everybody = planning.selection.hires is None
        rows = await planning.rows(Selection(hires=selection.hires) if everybody else selection)
        return await planning.part(selection, rows, Claims().begin(), on_planned)

    async def _add(self, plan: Plan) -> None:
        if self._unknown is not None:
            await self._unknown.add(plan)
        self._problems.update(plan.problems)
        self._spool.add(self._waiting(plan))

    def _add_quiet(self, part: QuietPart, selection: Selection, plan: Plan) -> Plan:
        """Add a part of which a process made a plan, and return it without grants; `plan` is any other part's."""
        if self._unknown is not None:
            self._unknown.owners.join(part.owners)
        self._problems.update(part.problems)
        self._spool.add_packed(part.rows)
        return replace(plan, selection=selection, rows={}, grants=(), dropped=(), renamed={}, problems=())

    async def _over(
        self, parts: Sequence[Selection], *, apart: AbstractSet[str]
    ) -> AsyncGenerator[tuple[Selection, QuietPart | None], None]:
        """Yield each part, or smaller ones, with what a process made of it; None if it has to be planned here.

        The first one is in any case, which reads the listings; and so is who is set `apart`.
        """
        for part in parts[:1]:
            yield part, None
        left = parts[1:]
        if not self._worth_it(left, sum(len(part.hires or ()) for part in parts[:1])):
            for part in left:
                yield part, None
            return
        smaller = [(some, apart.isdisjoint(some.hires or ())) for part in left for some in part.parts(FEW)]
        with forked(self._apart, [part for part, theirs in smaller if theirs], processes()) as receivers:
            turn = cycle(receivers)
            for part, theirs in smaller:
                yield part, await asyncio.to_thread(_received, next(turn)) if theirs else None

    def _worth_it(self, parts: Iterable[Selection], planned: int) -> bool:
        """Whether there is much left, and of so many hires that were planned hardly any had to be asked for.

        A server answers to threads, beside which no process can be forked.
        """
        left = sum(len(part.hires or ()) for part in parts)
        seldom = 2 * FEW * self._planning.checker.asked <= planned
        return left >= MANY and seldom and not self._planning.state.ledger.remote and processes() > 1

    def _apart(self, part: Selection) -> QuietPart | None:
        """Plan a part in a process that was forked; None if there is more to it."""
        if self._runner is None:
            self._runner = asyncio.Runner()
            planning = self._planning
            planning.context.member_may_send = _ask_nothing
            planning.state.ledger.reopen(self._reading.enter_context(planning.trusted.location.reader()))
        try:
            return self._runner.run(self._quiet(part))
        except Exception:  # noqa: BLE001  whatever it is, who forked this process meets it as well
            return None

    async def _quiet(self, part: Selection) -> QuietPart | None:
        plan, unknown = await self._plan(part), self._unknown
        if plan.renamed or plan.dropped or self._planning.untold or not all(map(_is_quiet, plan.grants)):
            return None
        owners = {} if unknown is None else await unknown.apart(plan)
        return None if owners is None else QuietPart(packed(self._waiting(plan)), plan.problems, owners)

    async def _count(self) -> RevisionCount | None:
        """Count the revision, as the pass does first, where only some of it is planned and no pass has met it yet."""
        planning = self._planning
        if planning.selection.everything or planning.in_force is not None:
            return None
        return await count_revision(planning.trusted, planning.state)

    async def report(self) -> Report:
        """The report without its rows, once all parts are planned."""
        planning = self._planning
        problems = await planning.problems(self._problems)
        return Report(planning.desired.revision, dry_run=True, problems=list(problems))

    def rows(self) -> Iterator[list[Row]]:
        """The rows of each part, once all parts are planned."""
        return (list(_judged(batch, self._tripped)) for batch in self._spool)

    def _waiting(self, plan: Plan) -> list[Spooled]:
        hires = {item.grant.key.hire for item in plan.grants if item.decision.action.acts}
        if not hires:
            return [astuple(self._shown(plan, item)) for item in plan.grants]
        every = dict.fromkeys({item.grant.integration for item in plan.grants}, "")
        held = {item.grant.key: item for item in guard.suspend(plan.grants, every)}
        return [
            self._one(plan, item, held[item.grant.key], may_change=item.grant.key.hire in hires) for item in plan.grants
        ]

    def _one(self, plan: Plan, item: PlannedGrant, held: PlannedGrant, *, may_change: bool) -> Spooled:
        row = self._shown(plan, self._planning.locked(item))
        if not may_change:
            return astuple(row)
        bare = _bare(item)
        if held is item:
            return Waiting(row, bare)
        waits = replace(item, decision=guard.waiting("")) if item.grant.needs else None
        return Waiting(row, bare, self._shown(plan, held), None if waits is None else self._shown(plan, waits))

    def _shown(self, plan: Plan, item: PlannedGrant) -> Row:
        """The row, with its requests made: what they are made from is not kept."""
        row = plan.row(item, plan.record_of(item)[0], self._planning.checker.redactor)
        return row if row.asks is tuple else replace(row, asks=partial(tuple, row.requests))


def _counted(ledger: LedgerReader, plan: Plan, changes: guard.Changes) -> None:
    changes.add(ledger, plan.grants, plan.renamed, plan.dropped)


def _further(on_planned: OnPlanned, before: int, total: int, done: int, _: int) -> None:
    on_planned(before + done, total)


def _bare(item: PlannedGrant) -> PlannedGrant:
    """The grant without what the guard does not look at: most of what is large."""
    grant, record = item.grant, item.record
    if record is not None:
        record = Record(
            **record.core,
            executed_at=record.executed_at,
            confirmed_at=record.confirmed_at,
            ends_at=record.ends_at,
            first_ends_at=record.first_ends_at,
        )
    return replace(
        item,
        grant=Grant(**grant.core),
        record=record,
        verdict=item.verdict if is_off(item.verdict) else None,
        prepared=None,
        invitation=None,
    )


def _judged(batch: Sequence[Spooled], tripped: Mapping[str, str]) -> Iterator[Row]:
    """The rows once the guard has judged."""
    grants = [each.grant for each in batch if isinstance(each, Waiting)] if tripped else []
    after = {item.grant.key: item for item in guard.suspend(grants, tripped)}
    for each in batch:
        if not isinstance(each, Waiting):
            yield Row(*each)
            continue
        item = after.get(each.grant.grant.key)
        if item is None or item is each.grant:
            yield each.row
        elif item.decision.guarded:
            assert each.held is not None
            yield replace(each.held, reason=item.decision.reason)
        else:
            assert each.waits is not None
            yield replace(each.waits, reason=item.decision.reason)


def _received(receiver: Connection) -> Any:
    """Wait for what a process sends next; None if it is no more."""
    try:
        return receiver.recv()[1]
    except (EOFError, OSError):
        return None


def _ask_nothing() -> NoReturn:
    raise RuntimeError("a process that was forked asks nothing")


def _is_quiet(item: PlannedGrant) -> bool:
    """Whether nothing is to be done about a grant, and the guard neither counts nor held it."""
    decision, guarded = item.decision, item.record is not None and item.record.guarded
    return item.wanted and not (decision.action.acts or decision.pending or decision.heals or guarded)
