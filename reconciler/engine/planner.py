"""Walk the desired state: check every grant as far as it may be, and decide on it.

`Planner.plan` changes nothing, neither here nor at a service. It gets a `Checker` and records that were read before,
and returns a `PlannedGrant` for each grant that git wants, and each other that the ledger has.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from reconciler.engine.checker import SHOWN, NotOffered
from reconciler.engine.claims import ClaimSet
from reconciler.engine.decide import judge, standing
from reconciler.engine.integrations import Integration, Lending, Prepared
from reconciler.engine.listings import ENOUGH
from reconciler.engine.orphans import OrphanPlanner, misfit
from reconciler.engine.planned import PlannedGrant, PlanningInputs, Written
from reconciler.engine.wanted import changed_values
from reconciler.model.errors import Blocked, MissingVariable, Problem
from reconciler.model.grant import Decision, Differences, Grant, Key, Kind, Phase, Record
from reconciler.model.selection import Selection
from reconciler.model.status import Action, Status
from reconciler.model.verdict import Account, Missing, Present, Unknown
from reconciler.repository.desired import Desired
from reconciler.requests.render import canonical, question
from reconciler.requests.tasks import run_all

__all__ = ["Planner", "Watched", "listed_grants", "unwatched"]


Watched = Callable[[int, int], None]


_THERE = (Status.PRESENT, Status.DIFFERS, Status.UNCONFIRMED, Status.DONE)


def unwatched(_done: int, _total: int) -> None:
    """Report no progress."""


NOTHING_TO_EXECUTE = "the manifest has nothing to execute"


@dataclass(slots=True)
class _Entries:
    """A hire's entries while they are planned: those that were started, and the names of all that are to be planned.

    Entries that are planned in turn have no task.
    """

    taken: Mapping[str, Grant]
    chosen: frozenset[str]
    tasks: dict[str, asyncio.Task[PlannedGrant]] = field(default_factory=dict)
    planned: dict[str, PlannedGrant] = field(default_factory=dict)
    needed: dict[str, PlannedGrant] = field(default_factory=dict)


class Planner:
    """Plans the grants of a selection that it can claim."""

    def __init__(self, inputs: PlanningInputs, selection: Selection, claims: ClaimSet) -> None:
        self._inputs = inputs
        self._selection = selection
        self._claims = claims
        self._of_all = selection == Selection(selection.hires)
        self._orphans = OrphanPlanner(inputs)
        self._many = False
        self.problems: list[Problem] = []
        """What is wrong with the entries that the walk came across; filled by `plan`."""
        self.dropped: list[Record] = []
        """Records of what git no longer wants and nothing was ever done for; filled by `plan`."""
        self.written: dict[Key, Written] = {}
        """What is to be written down of each grant as it is planned; filled by `plan`."""

    async def plan(self, watched: Watched = unwatched) -> list[PlannedGrant]:
        """Decide on every grant of the selection, and return them in the order of hires and entries.

        `watched` is called with how many hires are planned, and of how many.
        """
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
        now, revision = self._inputs.policy.now, self._inputs.desired.revision

        async def work() -> None:
            for hire in queue:
                await self._inputs.pace.keep()
                grants = self._inputs.desired.grants(hire)
                if chosen is None or hire in chosen:
                    self.problems += self._inputs.desired.problems_of(hire, grants)
                planned = await self._plan_hire(hire, grants)
                for item in planned:
                    if item.decision.status is Status.INVALID:
                        self._orphans.misfits[hire] = misfit(item.grant, item.decision.reason)
                left = await self._leftovers({grant.key for grant in grants}, of_hire.get(hire, ()))
                results[hire] = [*planned, *left]
                for item in results[hire]:  # here, where there are answers to wait for
                    self.written[item.grant.key] = (item, *item.written(now, revision))
                watched(len(results), len(places))

        at_once = self._at_once()
        self._many = len(places) >= at_once
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
        taken = {
            grant.key.access: grant
            for grant in chosen
            if not self._selection.covers(grant.key, grant.integration) or self._take(grant, grants)
        }
        entries = _Entries(taken, frozenset(grant.key.access for grant in chosen))
        if len(taken) == 1 or self._in_turn(taken.values()):
            found = [await self._planned(name, entries) for name in taken]
        else:
            for name in taken:
                entries.tasks[name] = asyncio.create_task(self._plan_entry(name, entries))
            found = await asyncio.gather(*entries.tasks.values())
        return [
            item for item in self._once_each(found) if self._selection.covers(item.grant.key, item.grant.integration)
        ]

    def _once_each(self, found: list[PlannedGrant]) -> list[PlannedGrant]:
        """Let one entry of a hire make an account, where others ask for it too.

        Only those whose check and whose requests render the same: with other requests, each entry asks for something
        of its own. The others come after it, or wait until it is there.
        """
        if len(found) < 2 or not any(_makes(item) for item in found):
            return found
        first: dict[str, PlannedGrant] = {}
        others: dict[Key, PlannedGrant] = {}
        for item in sorted(found, key=_precedence):
            if item.prepared is None or item.prepared.check is None:
                continue
            maker = first.setdefault(_made_by(self._inputs.integrations[item.grant.integration], item.prepared), item)
            if maker is not item and _makes(item):
                others[item.grant.key] = maker
        return [_after(others[item.grant.key], item) if item.grant.key in others else item for item in found]

    def _take(self, grant: Grant, of_hire: Iterable[Grant]) -> bool:
        """Claim a grant; False if it has to be left to another pass."""
        record = self._inputs.records.get(grant.key)
        if record is not None and record.provided:
            return self._claims.take(grant.key, grant.email)
        return self._claims.take_new(grant.key, grant.email, (each.key for each in of_hire))

    async def _planned(self, name: str, entries: _Entries) -> PlannedGrant:
        """Return what an entry is planned to be, once it is."""
        if name in entries.tasks:
            return await entries.tasks[name]
        if name not in entries.planned:
            entries.planned[name] = await self._plan_entry(name, entries)
        return entries.planned[name]

    async def _plan_entry(self, name: str, entries: _Entries) -> PlannedGrant:
        """Plan an entry, after those that it needs."""
        grant, needed = entries.taken[name], entries.needed
        invalid = grant.hold is not None and grant.hold.status is Status.INVALID  # its needs may go in a circle
        for need in () if invalid else grant.needs:
            if need not in entries.taken:
                why = "is being worked on" if need in entries.chosen else "has reached its until"
                return await self._plan_grant(grant, f"needs {need}, which {why}")
            needed[need] = await self._planned(need, entries)
            if (reason := self._waits(need, needed[need])) is not None:
                return await self._plan_grant(grant, reason)
        return self._allowed(await self._plan_grant(grant, None, needed))

    def _in_turn(self, grants: Iterable[Grant]) -> bool:
        """Whether the grants of a hire are planned one after the other.

        A task costs more than what it does for a grant that a listing shows. Those that listings do not show are asked
        for side by side with those of other hires, of whom there are enough.
        """
        known = self._inputs.checker.listings.known
        return self._many and all(grant.integration in known for grant in grants)

    def _allowed(self, item: PlannedGrant) -> PlannedGrant:
        """Block a new grant that the policy does not allow; an existing one is a problem, and is left alone."""
        decision = item.decision
        gives = decision.action.provides and not decision.resume and not item.kind.updates
        if decision.status in _THERE and not gives:
            self.problems += self._inputs.judge.problems_of(item.grant)
            return item
        breach = self._inputs.judge.of(item.grant) if gives else None
        if breach is None:
            return item
        return PlannedGrant(item.grant, item.record, Decision(Status.BLOCKED, Action.NONE, breach), item.verdict)

    def _chosen(self, grants: Iterable[Grant]) -> list[Grant]:
        """Return the grants of the selection, and those that they need."""
        if self._of_all:
            return list(grants)
        by_name = {grant.key.access: grant for grant in grants}
        names: set[str] = set()
        queue = [grant.key.access for grant in grants if self._selection.covers(grant.key, grant.integration)]
        while queue:
            name = queue.pop()
            if name in by_name and name not in names:
                names.add(name)
                queue.extend(by_name[name].needs)
        return [grant for grant in grants if grant.key.access in names]

    async def _plan_grant(
        self, grant: Grant, waits: str | None, needed: Mapping[str, PlannedGrant] = {}
    ) -> PlannedGrant:
        record = self._inputs.records.get(grant.key)
        early = standing(grant, record, self._inputs.policy, waits=waits)
        if early is not None:
            return PlannedGrant(grant, record, early, as_it_is=early.status is Status.INVALID and record is not None)
        if (conflict := self._conflict(grant, record)) is not None:
            return PlannedGrant(grant, record, Decision(Status.BLOCKED, Action.NONE, conflict), as_it_is=True)
        integration = self._inputs.integrations[grant.integration]
        lending = self._inputs.lending(grant.key, grant.service, grant.needs, needed)
        stored = self._inputs.stored_of(grant.key, grant.service, lending)
        try:
            integration.ready(grant)
            resolved: Grant | Unknown = grant
            if integration.connection is not None or grant.choices:
                resolved = await self._inputs.checker.token(integration) or await self._inputs.checker.resolved(
                    integration, grant
                )
            if isinstance(resolved, Unknown):
                return PlannedGrant(grant, record, self._unanswered(integration, record, resolved), resolved)
            kind = _prepared_for(record)
            prepared = integration.prepare(resolved, stored, kind=kind, lending=lending)
        except NotOffered as error:
            invalid = Decision(Status.INVALID, Action.NONE, str(error))
            return PlannedGrant(grant, record, invalid, as_it_is=record is not None)
        except MissingVariable as error:
            return PlannedGrant(grant, record, _without(error, lending))
        except Blocked as error:
            return _blocked(grant, record, str(error))
        planned = await self._plan_prepared(integration, grant, prepared, record)
        if not planned.decision.action.provides or planned.kind is prepared.kind:
            return planned
        try:
            whole = integration.prepare(resolved, stored, kind=planned.kind, lending=lending)
            return replace(planned, prepared=whole)
        except Blocked as error:
            return _blocked(grant, record, str(error))

    async def _plan_prepared(
        self, integration: Integration, grant: Grant, prepared: Prepared, record: Record | None
    ) -> PlannedGrant:
        verdict, invitation = await self._inputs.checker.check(integration, prepared, record), None
        if verdict is not SHOWN:
            verdict, invitation = await self._inputs.asked(integration, prepared, verdict)
        changes: Differences = {}
        if record is not None and record.provided:
            found = prepared.found_by if isinstance(verdict, Present) and verdict.under is None else {}
            now = {name: value for name, value in prepared.snapshot.items() if name in integration.compared}
            changes = changed_values({**record.snapshot, **found}, now)
        decide = partial(
            judge,
            record,
            policy=self._inputs.policy,
            digest=prepared.digest,
            changes=changes,
            texts=_texts(integration, record),
            means=integration.means,
            invitation=invitation,
        )
        decision = decide(verdict=verdict)
        if (
            decision.action.provides
            and integration.checks_store
            and isinstance(verdict, Present)
            and not verdict.stored
        ):
            # A listing saw it, and a listing saves nothing: what the requests to come may use, the check itself gives.
            verdict = await self._inputs.checker.check_alone(integration, prepared)
            decision = decide(verdict=verdict)
        by_hand = self._inputs.by_hand.get(grant.key) == "run"
        off = isinstance(verdict, Present) and verdict.account is Account.INACTIVE
        if by_hand and off and integration.means.updates:  # a switched-off account is never executed again
            decision = replace(decision, action=Action.UPDATE, resume=0, afresh=True, heals=False)
        elif by_hand and not off:
            decision = Decision(Status.MISSING, Action.EXECUTE, "run by hand", afresh=True)
        if decision.action is Action.EXECUTE and integration.only_watches:
            decision = replace(decision, action=Action.NONE, reason=f"{decision.reason}; {NOTHING_TO_EXECUTE}")
        kind = Kind.RUN if by_hand and not off else _kind(decision, record)
        return PlannedGrant(
            grant, record, decision, verdict, prepared, kind=kind, by_hand=by_hand, invitation=invitation
        )

    def _unanswered(self, integration: Integration, record: Record | None, unknown: Unknown) -> Decision:
        """Decide on a grant whose service could not be asked."""
        return judge(record, unknown, self._inputs.policy, texts=_texts(integration, record), means=integration.means)

    def _conflict(self, grant: Grant, record: Record | None) -> str | None:
        """Return why an entry conflicts with its record, or None: another account's record must not be lost."""
        if (
            record is None
            or record.integration == grant.integration
            or record.integration not in self._inputs.integrations
        ):
            return None
        if record.phase is Phase.REVOKED or not record.leaves_something:
            return None
        return (
            f"{grant.key.access} is what this hire's access to {record.integration} is called: give the entry for "
            f"{grant.integration} another name, and the other is orphaned"
        )

    def _waits(self, need: str, found: PlannedGrant) -> str | None:
        """Return why an entry has to wait for one that it needs, or None."""
        decision = found.decision
        off = isinstance(found.verdict, Present) and found.verdict.account is Account.INACTIVE
        if decision.status.granted or (decision.status is Status.DIFFERS and not off):
            return None  # what differs is there
        provides = decision.action.provides
        if provides and self._selection.covers(found.grant.key, found.grant.integration):
            return None
        return f"needs {need}, which is {decision.status}: {decision.reason}"

    async def _leftovers(self, wanted: set[Key], records: Iterable[Record]) -> list[PlannedGrant]:
        found = []
        for record in records:
            if record.key in wanted or not self._claims.take(record.key, record.email):
                continue
            if self._orphans.unreadable(record) is None and not record.leaves_something:
                self.dropped.append(record)
            else:
                found.append(await self._orphans.plan(record))
        return found


def _makes(item: PlannedGrant) -> bool:
    """Whether a grant's account is missing, and its requests are about to make it without a person's word."""
    return item.decision.action.provides and isinstance(item.verdict, Missing) and not item.by_hand


def _precedence(item: PlannedGrant) -> tuple[bool, bool]:
    """Return a sort key: what a person asks for first, then what may be there already."""
    return not item.by_hand, item.record is None or not item.record.leaves_something


def _made_by(integration: Integration, prepared: Prepared) -> str:
    """Write what a grant's check asks, and what its requests would send."""
    manifest, scope = integration.manifest, prepared.scope
    assert manifest.exists is not None
    calls = [canonical(call, scope, manifest) for call in manifest.execute]
    return json.dumps([integration.service, question(manifest.exists, scope, manifest), calls], default=str)


def _after(maker: PlannedGrant, item: PlannedGrant) -> PlannedGrant:
    """Let an entry come after the one that makes its account, or wait for it where that is not about to."""
    name, decision = maker.grant.key.access, maker.decision
    if decision.action.provides:
        return replace(item, maker=name)
    reason = f"{name} makes the same account, and is {decision.status}: {decision.reason}"
    return PlannedGrant(item.grant, item.record, Decision(Status.SCHEDULED, Action.WAIT, reason), item.verdict)


def _blocked(grant: Grant, record: Record | None, reason: str) -> PlannedGrant:
    return PlannedGrant(grant, record, Decision(Status.BLOCKED, Action.NONE, reason))


def _prepared_for(record: Record | None) -> Kind | None:
    """Return for which kind of attempt to prepare a grant before its check; None if only the check may be sent."""
    if record is None or (record.may_run and not record.run.kind.updates):
        return Kind.EXECUTE
    return Kind.UPDATE if record.may_run else None


def _texts(integration: Integration, record: Record | None) -> tuple[str, ...]:
    """Return the digests of the open attempt's requests; none where all is settled."""
    if record is None or not record.phase.unsettled:
        return ()
    return integration.texts(Kind.EXECUTE if record.revoking else record.run.kind)


def _kind(decision: Decision, record: Record | None) -> Kind:
    """Return the kind of attempt that a decision leads to."""
    if decision.action is Action.UPDATE:
        return Kind.MEND if decision.heals else Kind.UPDATE
    if decision.action is Action.RETRY and record is not None and (record.run.kind.updates or decision.resume):
        return record.run.kind if record.run.kind is not Kind.RUN else Kind.EXECUTE
    if decision.withdraws:
        return Kind.REINVITE
    return Kind.HEAL if decision.heals else Kind.EXECUTE


def _without(error: MissingVariable, lending: Lending) -> Decision:
    """Decide on a check that cannot be sent yet: it waits for what an entry before it is about to store."""
    if error.name.partition(".")[0] in lending.names:
        reason = f"its check asks with {{{{{error.name}}}}}, which {lending.entries[0]} is about to store"
        return Decision(Status.SCHEDULED, Action.WAIT, reason)
    return Decision(Status.BLOCKED, Action.NONE, str(error))


def listed_grants(desired: Desired, hires: Iterable[str] | None = None) -> Counter[str]:
    """Count each listed integration's grants among these hires, or all, up to the number that is enough."""
    counts = Counter(
        {
            name: 0
            for name, loaded in desired.files.manifests.items()
            if loaded.model.exists is not None and loaded.model.exists.listing is not None
        }
    )
    wanted = set(counts)
    for hire in desired.hires if hires is None else hires:
        if not wanted:
            break
        if wanted.isdisjoint(desired.integrations(hire)):
            continue  # without a look into the file
        counts.update(grant.integration for grant in desired.grants(hire) if grant.integration in wanted)
        wanted = {name for name in wanted if counts[name] <= ENOUGH}
    return counts
