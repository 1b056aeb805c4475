"""A dry run over everybody, part by part: what has been planned is not kept, only the rows that are shown of it.

The guard judges the whole. Until then, a row that it may hold waits together with how it is shown if it is held, or if
it has to wait for one that is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

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
from reconciler.review.quiet_parts import QuietPart, QuietParts
from reconciler.review.spool import Spool
from reconciler.review.unmanaged import UnknownAccounts


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


class DryRun:
    """A dry run; its rows are put into a spool, which the caller keeps open until they are shown."""

    def __init__(self, planning: Planning, spool: Spool[list[Spooled]], unknown: UnknownAccounts | None = None) -> None:
        """`unknown` is told of each part."""
        self._planning = planning
        self._spool = spool
        self._unknown = unknown
        self._problems: set[Problem] = set()
        self._tripped: Mapping[str, str] = {}

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
        quiet = QuietParts(planning, self._plan, self._waiting, self._unknown)
        async with aclosing(quiet.over(parts, apart=counted)) as found:
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
            record.key,
            record.email,
            record.integration,
            record.service,
            record.source,
            executed_at=record.executed_at,
            confirmed_at=record.confirmed_at,
            ends_at=record.ends_at,
            first_ends_at=record.first_ends_at,
        )
    return replace(
        item,
        grant=Grant(grant.key, grant.email, grant.integration, grant.service, grant.source, needs=grant.needs),
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
