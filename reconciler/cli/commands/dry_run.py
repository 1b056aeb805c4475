"""What `reconcile --dry-run` finds: planned part by part, and its rows read back one after another to be shown.

Neither what is planned nor its rows are kept in memory: rows wait in a spool, and so does who gave each grant, which
is found out for many hires at once, since all commits are walked for it, and when what leaves had to be gone.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from reconciler.cli.output.logs import ProgressReporter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import ExitStack

    from reconciler.engine.apply.plan import Plan
    from reconciler.engine.context import Context
    from reconciler.engine.run.planning import Planning
    from reconciler.model.given import Given
    from reconciler.model.report import Report, Row
    from reconciler.repository.attribution.given import Gaps
    from reconciler.review.dry_run import DryRun, Spooled
    from reconciler.review.leaving import Dates
    from reconciler.review.spool import Spool

    Evidence = tuple[dict[tuple[str, str], Given], Dates]

__all__ = ["planned"]


async def planned(
    context: Context, planning: Planning, spools: ExitStack, *, givers: bool
) -> tuple[Report, Iterator[Row]]:
    """Plan, and return the report without its rows, and the rows, to be read while the spools are open.

    With `givers`, each row says who gave the grant, and when what leaves had to be gone, and was.
    """
    from reconciler.engine.run.planning import HIRES
    from reconciler.repository.attribution.given import Gaps
    from reconciler.review.dry_run import DryRun
    from reconciler.review.spool import Spool
    from reconciler.review.unmanaged import UnknownAccounts

    rows: Spool[list[Spooled]] = spools.enter_context(Spool())
    dry_run = DryRun(planning, rows)
    given = None
    if givers:
        gaps = await Gaps.until(context.checkout, planning.desired, planning.state.ledger)
        given = _GivenByPart(context, planning, gaps, spools.enter_context(Spool()))
    unknown = None
    if planning.selection.hires is None:
        unknown = UnknownAccounts(planning.integrations, planning.desired, planning.listings, planning.pace)
    async for plan in dry_run.parts(HIRES, ProgressReporter()):
        if unknown is not None:
            await unknown.add(plan)
        if given is not None:
            await given.add(plan)
    report = dry_run.report()
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

    def __init__(self, context: Context, planning: Planning, gaps: Gaps, spool: Spool[Evidence]) -> None:
        from reconciler.repository.attribution.given import Givers
        from reconciler.repository.desired import Desired
        from reconciler.review.leaving import Leaving

        self._ledger = planning.state.ledger
        self._gaps = gaps
        self._givers = Givers(context.checkout, planning.desired, self._ledger)
        self._leaving = Leaving(context.checkout, Desired(planning.desired.files, date.min))
        self._redactor = context.redactor
        self._spool = spool
        self._parts: list[tuple[Collection[str], Dates]] = []

    async def add(self, plan: Plan) -> None:
        """Add a part while its hires' files are still remembered."""
        hires = plan.selection.hires or ()
        left = [plan.row(item, plan.record_of(item)[0], self._redactor) for item in plan.grants if not item.wanted]
        dates = await self._ledger.run(lambda ledger: self._leaving.dates(ledger, hires, left))
        self._parts.append((hires, dates))
        self._givers.add(await self._gaps.of(hires))
        if self._givers.full:
            await self._write()

    async def ended(self) -> Spool[Evidence]:
        """The spool, once all parts are added."""
        await self._write()
        return self._spool

    async def _write(self) -> None:
        found = await self._givers.found()
        for hires, dates in self._parts:
            of_part = {**await self._ledger.given(hires)}
            for hire in hires if found else ():
                of_part |= found.get(hire, {})
            pairs = {(key.hire, key.access): given for key, given in of_part.items()}
            self._spool.add((pairs, dates))  # they are written in less time than keys
        self._parts.clear()
