"""Parts of a dry run in which nothing is asked and nothing is to be done, planned by processes of their own.

Once the listings are read, nearly all of an audit is like that. The processes are forked then, and plan what they are
given as the one that forked them would; but they ask nothing, for it keeps the limits of services. Any part that has
more to it is left to that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING, Any, NoReturn

from reconciler.engine.apply.plan import Plan
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.run.planning import Planning
from reconciler.model.errors import Problem
from reconciler.model.selection import Selection
from reconciler.model.value import Frozen
from reconciler.repository.parallel import MANY, forked, processes
from reconciler.requests.tasks import FEW
from reconciler.review.owners import Owners
from reconciler.review.spool import packed
from reconciler.review.unmanaged import UnknownAccounts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class QuietPart(Frozen):
    """What a part comes to: its rows, as a spool has them, the problems of its files, and whose its accounts are."""

    rows: bytes
    problems: tuple[Problem, ...]
    owners: Mapping[str, Owners]


class QuietParts:
    """Plans parts in processes of their own, by a `plan` that is made into `rows`."""

    def __init__(
        self,
        planning: Planning,
        plan: Callable[[Selection], Awaitable[Plan]],
        rows: Callable[[Plan], object],
        unknown: UnknownAccounts | None,
    ) -> None:
        self._planning = planning
        self._make_plan = plan
        self._rows = rows
        self._unknown = unknown
        self._state = ExitStack()
        self._runner: asyncio.Runner | None = None

    async def over(
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
        with forked(self._planned, [part for part, theirs in smaller if theirs], processes()) as receivers:
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

    def _planned(self, part: Selection) -> QuietPart | None:
        """Plan a part in a process that was forked; None if there is more to it."""
        if self._runner is None:
            self._runner = asyncio.Runner()
            planning = self._planning
            planning.context.member_may_send = _ask_nothing
            planning.state.ledger.reopen(self._state.enter_context(planning.trusted.location.reader()))
        try:
            return self._runner.run(self._quiet(part))
        except Exception:  # noqa: BLE001  whatever it is, who forked this process meets it as well
            return None

    async def _quiet(self, part: Selection) -> QuietPart | None:
        plan, unknown = await self._make_plan(part), self._unknown
        if plan.renamed or plan.dropped or self._planning.untold or not all(map(_is_quiet, plan.grants)):
            return None
        owners = {} if unknown is None else await unknown.apart(plan)
        return None if owners is None else QuietPart(packed(self._rows(plan)), plan.problems, owners)


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
