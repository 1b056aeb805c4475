"""Walk the desired state: check every grant as far as it may be, and decide on it.

`Planner.plan` changes nothing, neither here nor at a service. It gets a `Checker` and records that were read before,
and returns a `PlannedGrant` for each grant that git wants, and each other that the ledger has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.engine.apply.claims import ClaimSet
from reconciler.engine.decide.existing import changed_values
from reconciler.engine.decide.planned import PlannedGrant, Prepared
from reconciler.engine.decide.wanted import runs_on
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.run.grants import GrantPlanner, PlanningInputs, over_of
from reconciler.engine.run.locking import LockPlanner
from reconciler.engine.run.orphans import OrphanPlanner
from reconciler.model.errors import Problem
from reconciler.model.grant import Decision, Grant, Key, Phase, Record
from reconciler.model.selection import Selection
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.template import roots
from reconciler.model.value import replace
from reconciler.model.verdict import Missing, Present, is_off
from reconciler.repository.joined_problems import problems_of
from reconciler.repository.policy import ByLedger, gives_nothing
from reconciler.requests.render import canonical, question
from reconciler.requests.tasks import run_all

OnPlanned = Callable[[int, int], None]
"""Called after each hire, with how many are planned, and of how many."""

_THERE = (Status.PRESENT, Status.DIFFERS, Status.UNCONFIRMED, Status.DONE)


def no_progress(_done: int, _total: int) -> None:
    """Report no progress."""


@dataclass(slots=True)
class _Entries:
    """A hire's entries while they are planned: those that were started, and the names of all that are to be planned."""

    taken: Mapping[str, Grant]
    chosen: frozenset[str]
    asked: Mapping[str, str]
    """The entries whose account a request has by now, with the request's name."""
    tasks: dict[str, asyncio.Task[PlannedGrant]] = field(default_factory=dict)
    needed: dict[str, PlannedGrant] = field(default_factory=dict)


class Planner:
    """Plans the grants of a selection that it can claim."""

    def __init__(self, inputs: PlanningInputs, selection: Selection, claims: ClaimSet) -> None:
        self._inputs = inputs
        self._selection = selection
        self._claims = claims
        self._of_all = selection == Selection(selection.hires)
        self._grants = GrantPlanner(inputs)
        self._locked = LockPlanner(inputs, OrphanPlanner(inputs))
        self._kept: ByLedger | None = None
        self._looked: set[str] = set()
        self._over: set[Key] = set()
        self.problems: list[Problem] = []
        """What is wrong with the entries that the walk came across; filled by `plan`."""
        self.dropped: list[Record] = []
        """Records of what git no longer wants and nothing was ever done for; filled by `plan`."""

    async def plan(self, on_planned: OnPlanned = no_progress) -> list[PlannedGrant]:
        """Decide on every grant of the selection, and return them in the order of hires and entries."""
        chosen = self._selection.hires
        known = self._inputs.desired.hires
        hires = sorted(known) if chosen is None else sorted(hire for hire in chosen if hire in known)
        of_hire: dict[str, list[Record]] = {}
        for record in self._inputs.records.values():
            if self._selection.covers(record.key, record.integration):
                of_hire.setdefault(record.key.hire, []).append(record)
        places = sorted({*hires, *of_hire})
        results: dict[str, list[PlannedGrant]] = {}
        queue = iter(places)

        async def work() -> None:
            for hire in queue:
                await self._inputs.yielder.pause()
                grants = self._inputs.wanted(hire)
                if chosen is None or hire in chosen:
                    running = {each.key for each in grants if self._runs(each)}
                    self.problems += problems_of(self._inputs.desired, hire, grants, running)
                planned = await self._plan_hire(hire, grants)
                left = await self._leftovers({grant.key for grant in grants}, of_hire.get(hire, ()), planned)
                results[hire] = [*planned, *left]
                on_planned(len(results), len(places))

        at_once = self._at_once()
        await run_all(work() for _ in range(min(2 * at_once, len(places))))
        return [planned for hire in places for planned in results[hire]]

    def _at_once(self) -> int:
        """Return how many requests the limits allow: so many hires are planned concurrently, and as many wait."""
        limits, chosen = self._inputs.desired.files.settings.limits, self._selection.integrations
        hosts = len(self._inputs.integrations if chosen is None else chosen)
        return min(limits.concurrency, limits.per_host * max(1, hosts))

    async def _plan_hire(self, hire: str, grants: Iterable[Grant]) -> list[PlannedGrant]:
        if self._selection.hires is not None and hire not in self._selection.hires:
            return []
        chosen = self._chosen(grants)
        taken = {grant.key.access: grant for grant in chosen if not self._covers(grant) or self._take(grant, grants)}
        requests = ((grant.key.access, grant.requested) for grant in grants if self._runs(grant))
        asked = {name: request for request, said in requests if said is not None for name in said.taken_by}
        entries = _Entries(taken, frozenset(grant.key.access for grant in chosen), asked)
        if len(taken) == 1:  # a task costs more than what it does for a grant that a listing shows
            found = [await self._plan_entry(name, entries) for name in taken]
        else:
            for name in taken:
                entries.tasks[name] = asyncio.create_task(self._plan_entry(name, entries))
            found = await asyncio.gather(*entries.tasks.values())
        return [item for item in self._once_each(found) if self._covers(item.grant)]

    def _runs(self, grant: Grant) -> bool:
        """Whether a grant is a request that was allowed and acted on, and is not over."""
        return grant.requested is not None and runs_on(grant, self._inputs.records.get(grant.key))

    def _once_each(self, found: list[PlannedGrant]) -> list[PlannedGrant]:
        """Let one entry of a hire make an account, where others ask for it too.

        Only those whose check and whose requests render the same: with other requests, each entry asks for something
        of its own. The others come after it, or wait until it is there.
        """
        if len(found) < 2 or not any(_makes(item) for item in found):
            return found
        first: dict[str, PlannedGrant] = {}
        others: dict[Key, PlannedGrant] = {}
        for item in sorted(found, key=self._precedence):
            if item.prepared is None or item.prepared.check is None:
                continue
            maker = first.setdefault(_made_by(self._inputs.integrations[item.grant.integration], item.prepared), item)
            if maker is not item and _makes(item):
                others[item.grant.key] = maker
        return [self._after(others[item.grant.key], item) if item.grant.key in others else item for item in found]

    def _precedence(self, item: PlannedGrant) -> tuple[bool, bool, bool]:
        """Return a sort key: what a person asks for first, then what may be there already, then what it covers."""
        there = item.record is not None and item.record.leaves_something
        return not item.by_hand, not there, not self._covers(item.grant)

    def _after(self, maker: PlannedGrant, item: PlannedGrant) -> PlannedGrant:
        """Let an entry come after the one that makes its account, or wait for it where that is not about to."""
        name, decision = maker.grant.key.access, maker.decision
        if decision.action.provides and self._covers(maker.grant):
            return replace(item, maker=name)
        reason = f"{name} makes the same account, and is {decision.status}: {decision.reason}"
        return PlannedGrant(item.grant, item.record, Decision(Status.SCHEDULED, Action.WAIT, reason), item.verdict)

    def _covers(self, grant: Grant) -> bool:
        return self._of_all or self._selection.covers(grant.key, grant.integration)

    def _take(self, grant: Grant, of_hire: Iterable[Grant]) -> bool:
        """Claim a grant; False if it has to be left to another pass."""
        record = self._inputs.records.get(grant.key)
        if record is not None and record.provided:
            return self._claims.take(grant.key, grant.email)
        others = (each.key for each in of_hire if each.key == grant.key or not each.means_as(grant))
        return self._claims.take_new(grant.key, grant.email, others)

    async def _plan_entry(self, name: str, entries: _Entries) -> PlannedGrant:
        """Plan an entry, after those that it needs."""
        grant, needed = entries.taken[name], entries.needed
        if (lock := self._inputs.locks.of(grant.key.hire, grant.email)) is not None:
            return await self._locked.plan(lock, self._inputs.records.get(grant.key), grant)
        invalid = grant.hold is not None and grant.hold.status is Status.INVALID  # its needs may go in a circle
        for need in () if invalid else grant.needs:
            if need not in entries.taken:
                busy = need in entries.chosen
                why = "is being worked on" if busy else "has reached its until"
                planned = await self._grants.plan(grant, f"needs {need}, which {why}")
                if busy and planned.decision.status is Status.SCHEDULED:
                    self._claims.follow(grant.key, Key(grant.key.hire, need))
                return planned
            needed[need] = await entries.tasks[need]
            if (reason := self._waits(need, needed[need])) is not None:
                return await self._grants.plan(grant, reason)
        item = await self._allowed(await self._grants.plan(grant, None, needed))
        changes = isinstance(item.verdict, Present) and item.decision.action.provides and not item.by_hand
        if not changes or (request := entries.asked.get(name)) is None:
            return item
        reason = f"{request}, which was asked for, has that account until it is over"
        waits = Decision(Status.SCHEDULED, Action.WAIT, reason)
        return PlannedGrant(grant, item.record, waits, item.verdict, item.prepared)

    async def _allowed(self, item: PlannedGrant) -> PlannedGrant:
        """Block what the policy does not allow to be given; what is there already is a problem, and is left alone."""
        decision = item.decision
        gives = decision.action.provides and not decision.resume
        gained = _gained(item) if gives else ()
        if gives and (breach := await self._breach(item.grant, gained)) is not None:
            found = item.prepared if isinstance(item.verdict, Present) else None
            blocked = Decision(Status.BLOCKED, Action.NONE, breach, code=ReasonCode.POLICY)
            return PlannedGrant(item.grant, item.record, blocked, item.verdict, found)
        if decision.status in _THERE and gained is not None:
            self.problems += await self._problems_of(item.grant)
        return item

    async def _problems_of(self, grant: Grant) -> list[Problem]:
        """Return the rules of the policy that a grant breaks that is there."""
        rules = self._inputs.rules
        found = [*rules.problems_of(grant)]
        if not found or not rules.compares(grant):
            return found
        return [*rules.problems_of(grant, ByLedger(over=await self._over_of({grant.key.hire})))]

    async def _breach(self, grant: Grant, gained: Collection[str] | None) -> str | None:
        """Return which rule of the policy a grant would break, or None; what is there without a file counts."""
        rules = self._inputs.rules
        if not rules.compares(grant):
            return rules.of(grant, gained)
        if self._kept is None:
            self._kept = rules.kept([*await self._inputs.unreadable(), *await self._refused_since()])
        if rules.of(grant, gained, self._kept) is None:
            return None
        over = await self._over_of({grant.key.hire, *rules.crowd(grant, self._kept)})
        return rules.of(grant, gained, replace(self._kept, over=over))

    async def _over_of(self, hires: set[str]) -> Collection[Key]:
        """Return what of these hires' grants is over, and of others that were asked for."""
        inputs, some = self._inputs, hires - self._looked
        self._over |= await over_of(inputs.desired, some, inputs.rows_of_others, inputs.policy.now)
        self._looked |= some
        return self._over

    async def _refused_since(self) -> list[Record]:
        """Return the records of requests that were acted on, and are not allowed any more: that runs to its end."""
        desired = self._inputs.desired
        hires = {each.model.hire for each in desired.files.requests.values()}
        refused = {grant.key for hire in hires for grant in desired.grants(hire) if gives_nothing(grant)}
        if not refused:
            return []
        rows = await self._inputs.rows_of_others(frozenset(key.hire for key in refused))
        return [record for record in rows if record.key in refused and record.acted_on]

    def _chosen(self, grants: Iterable[Grant]) -> list[Grant]:
        """Return the grants of the selection, those that they need, and those that mean the account of one of these."""
        if self._of_all:
            return list(grants)
        by_name = {grant.key.access: grant for grant in grants}
        names: set[str] = set()
        queue = [grant.key.access for grant in grants if self._covers(grant)]
        while queue:
            name = queue.pop()
            if name in by_name and name not in names:
                names.add(name)
                queue.extend(by_name[name].needs)
                queue.extend(each.key.access for each in grants if each.means_as(by_name[name]))
        return [grant for grant in grants if grant.key.access in names]

    def _waits(self, need: str, found: PlannedGrant) -> str | None:
        """Return why an entry has to wait for one that it needs, or None."""
        decision = found.decision
        off = is_off(found.verdict)
        if decision.status.granted or (decision.status is Status.DIFFERS and not off):
            return None  # what differs is there
        if self._inputs.checker.blind and decision.status is Status.UNKNOWN:
            return None  # it may be there, or be made before
        if decision.action.provides and self._covers(found.grant):
            return None
        return f"needs {need}, which is {decision.status}: {decision.reason}"

    async def _leftovers(
        self, wanted: set[Key], records: Iterable[Record], planned: Iterable[PlannedGrant]
    ) -> list[PlannedGrant]:
        found, orphans = list[PlannedGrant](), OrphanPlanner(self._inputs, planned)
        for record in records:
            if record.key in wanted or not self._claims.take(record.key, record.email):
                continue
            unsure = record.run.broke_there and not record.leaves_something
            droppable = not record.leaves_something and orphans.may_be_dropped(record)
            if droppable and not unsure:
                self.dropped.append(record)
                continue
            # It is dropped, or over, once its account was looked for, by what was sent.
            left = replace(record, snapshot={**record.snapshot, **record.run.values}) if unsure else record
            lock = self._inputs.locks.of(record.key.hire, record.email)
            ended = record.phase is Phase.REVOKED and orphans.why_it_leaves(record) is not None
            item = await (orphans.plan(left) if lock is None or ended else self._locked.plan(lock, left))
            if droppable and item.finds_nothing:
                self.dropped.append(record)
            else:
                found.append(item)
        hire = self._inputs.desired.hires.get(found[0].grant.key.hire) if found else None
        if hire is not None:
            found = [replace(item, person=hire.model.full_name) for item in found]
        return await orphans.after_dependents(found, wanted)


def _gained(item: PlannedGrant) -> Collection[str] | None:
    """Return the names of the values that an update gives an account; None if there is none, or it is switched off."""
    off = is_off(item.verdict)
    if off or not item.kind.updates or item.prepared is None:
        return None
    where = item.prepared.manifest.where
    then = item.record.snapshot if item.record is not None else {}
    compared = roots({path: where[path] for path in item.decision.differs if path in where})
    return compared | changed_values(then, item.prepared.snapshot).keys()


def _makes(item: PlannedGrant) -> bool:
    """Whether a grant's account is missing, and its requests are about to make it without a person's word."""
    return item.decision.action.provides and isinstance(item.verdict, Missing) and not item.by_hand


def _made_by(integration: Integration, prepared: Prepared) -> str:
    """Write what a grant's check asks, and what its requests would send."""
    manifest, scope = integration.manifest, prepared.scope
    assert manifest.exists is not None
    calls = [canonical(call, scope, manifest) for call in manifest.execute]
    return json.dumps([integration.service, question(manifest.exists, scope, manifest), calls], default=str)
