"""Observe and plan: desired state, ledger and the services' answers become a `Plan`.

Nothing here can execute or write: `Planning` gets a state for reading, and a `Checker`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Self

from reconciler.engine.apply import transitions as records
from reconciler.engine.apply.claims import Claims, ClaimSet
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Revision
from reconciler.engine.decide import guard
from reconciler.engine.decide.orphans import not_locked
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.decide.revision_count import RevisionCount
from reconciler.engine.observe.checker import Checker, Services
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import Listings, listed_grants
from reconciler.engine.observe.same_account import Rivals, SameAccounts
from reconciler.engine.observe.wiring import as_branch_may, integrations_of
from reconciler.engine.run.grants import PlanningInputs, broken_counts
from reconciler.engine.run.planner import OnPlanned, Planner, no_progress
from reconciler.engine.run.renames import Renamer, hires_at, owner_of, readdressed, stored_under
from reconciler.engine.state import as_settled
from reconciler.ledger.entries import GrantFilter
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import ReadState
from reconciler.model.decision_inputs import Policy, is_over, taken_back
from reconciler.model.errors import Blocked, Problem
from reconciler.model.grant import Decision, Key, Record
from reconciler.model.report import STATE
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.repository.desired import Desired
from reconciler.repository.policy import PolicyRules
from reconciler.requests.tasks import FEW

ASSIGNED = "assigned"
"""The name of the note that has the sequences which were assigned by a revision that was acted on."""


class Planning:
    """Plans a pass, as a whole or in parts, with what is the same for all parts.

    `in_force` is HEAD if the revision is a branch: then settings and hosts are HEAD's, and a manifest that differs from
    HEAD's sends nothing (docs/design/rules.md, "Pull requests"). `listings` are those that were read for the slices of
    an interval.
    """

    def __init__(
        self,
        revision: Revision,
        state: ReadState,
        request: PassRequest,
        *,
        in_force: Revision | None = None,
        listings: Listings | None = None,
        blind: bool = False,
    ) -> None:
        """A `blind` one asks no service, and plans what is suspended as if it were not: that ends without a commit."""
        self.state = state
        self._request = request
        self.selection = selection = request.selection
        self.context = context = revision.context
        self.in_force = in_force
        files = revision.files
        self._base = base = files if in_force is None else in_force.files
        self.trusted = in_force or revision
        """What says where requests go, and with which secrets."""
        self.settings = self.trusted.settings
        deciding = self.settings.model_copy(update={"suspend": []}) if blind else self.settings
        self.policy = Policy(deciding, context.clock.now(), removals=request.removals)
        self._blind = blind
        self.desired = context.desired(files, self.policy.today)
        hires = self.desired.hires if selection.hires is None else selection.hires
        self.yielder = context.yielder.among(len(hires))
        self.listings = listings or Listings(self.policy.now)
        self._reads_listings = listings is None
        self.rules = (
            context.policy_rules(self.desired)
            if in_force is None
            else PolicyRules(self.desired, files.policy, base.policy)
        )
        self.integrations: Mapping[str, Integration] = {}
        self._hires_at = cache(partial(hires_at, context.checkout))
        self._unread: asyncio.Task[list[Record]] | None = None
        self.untold: set[Key] = set()
        """Whose rows were left out, for the history does not know them."""

    async def begin(self) -> Self:
        """Read what the state has for every pass, and make ready to ask."""
        vault, base = self.state.vault, self._base
        assigned, locks = await self.state.ledger.run(lambda ledger: (ledger.notes.get(ASSIGNED), ledger.locks.all()))
        self.desired.once_assigned = frozenset(json.loads(assigned or b"[]"))
        if self._reads_listings:
            self.listings.expect(listed_grants(self.desired, self.selection.hires))
        desired = self.desired if self.in_force is None else Desired(base, self.policy.today)
        integrations = await integrations_of(self.trusted, desired, self.state)
        if vault.fault is not None:
            integrations = {name: _without_tokens(item, vault.fault) for name, item in integrations.items()}
        if self.in_force is not None:
            integrations = as_branch_may(integrations, base.manifests, self.desired.files.manifests, self.trusted)
        self.integrations = integrations
        self.locks = self.desired.locks(locks, self.policy.now)
        self.checker = Checker(self.context.redactor, self.listings, self.yielder, blind=self._blind)
        self.services = Services(desired=self.desired, integrations=integrations, checker=self.checker)
        self._same_accounts = SameAccounts(self.services, self.context.wanted_prints)
        self._rivals = Rivals(self.services, self.context.wanted_accounts)
        return self

    async def rows(self, selection: Selection) -> dict[Key, Record]:
        """Read a part's rows, without those that the history does not know: somebody else wrote them."""
        found = await _rows_for(self.state.ledger, selection, self.desired)
        untold = await self.state.ledger.run(lambda reader: reader.history.untold(found.values()))
        self.untold |= untold
        return {key: record for key, record in found.items() if key not in untold} if untold else found

    async def _rows(self) -> dict[Key, Record]:
        """Read the selection's rows, of some hires at a time."""
        if self.selection.hires is None:
            return await self.rows(self.selection)
        found: dict[Key, Record] = {}
        for some in await self.parts(FEW):
            await self.yielder.pause()
            found |= await self.rows(some)
        return found

    async def whole(self, claims: ClaimSet | None = None, on_planned: OnPlanned = no_progress) -> Plan:
        """Observe and plan in one piece, and change nothing.

        Without `claims` nobody acts on the plan as it is: who is shown it and agrees lets all of it through.
        """
        shown, claims = claims is None, claims or Claims().begin()
        plan = await self.part(self.selection, await self._rows(), claims, on_planned)
        planned: Iterable[PlannedGrant] = plan.grants
        if self._request.released and self.selection.grants is None:  # who names one grant lets nothing else through
            judgement = guard.Judgement(released=self._request.released)
            if not shown:
                through = partial(guard.judge_released, planned=plan.grants, by=self._request.released)
                planned, judgement = await self.state.ledger.run(through)
        else:
            async with claims.judging:  # so that none is judged beside it that does not count what it lets through
                judge = self._judging(plan, claims.changed_by_others())
                planned, judgement = await self.state.ledger.run(judge)
                claims.act_on(planned)
        return replace(
            plan,
            grants=tuple(map(self.locked, planned)),
            judgement=judgement,
            problems=await self.problems(plan.problems),
            followed=tuple(self.locks.followed()),
        )

    async def part(
        self, selection: Selection, rows: Mapping[Key, Record], claims: ClaimSet, on_planned: OnPlanned = no_progress
    ) -> Plan:
        """Observe and plan a part of the selection, which the guard has not judged yet.

        A former account is set apart for what somebody asked to run only if that is about to be sent; else the reason
        says why it is not.
        """
        by_hand = self._request.by_hand
        plan = await self._part(selection, rows, claims, on_planned, by_hand)
        sent = {item.grant.key for item in plan.grants if item.decision.action.acts}
        if vain := {key for key in plan.renamed if by_hand.get(key) == "run"} - sent:
            left = {key: kind for key, kind in by_hand.items() if key not in vain}
            why = {item.grant.key: item.decision for item in plan.grants if item.grant.key in vain}
            plan = await self._part(selection, rows, claims, on_planned, left)
            plan = replace(plan, grants=tuple(_not_run(item, why.get(item.grant.key)) for item in plan.grants))
        return plan

    async def _part(
        self,
        selection: Selection,
        rows: Mapping[Key, Record],
        claims: ClaimSet,
        on_planned: OnPlanned,
        by_hand: Mapping[Key, str],
    ) -> Plan:
        vault, policy = self.state.vault, self.policy
        known, renamed = await self._known(rows, selection, by_hand, asks=True)
        _refuse_uncovered(
            self.state, {self.desired.service_of(rows[key].integration) for key in renamed if key in rows}
        )
        renamed = claims.take_moves(renamed)
        if selection.grants is not None:  # what an entry was about before is planned with it
            more = {new for old, new in renamed.items() if old in selection.grants}
            selection = replace(selection, grants=selection.grants | more)
        hires = {key.hire for key in rows}
        stored = await self.state.ledger.run(lambda reader: vault.stored(reader, hires))
        inputs = PlanningInputs(
            desired=self.desired,
            integrations=self.integrations,
            records=known,
            rows_of=partial(self._rows_of, known, renamed, {}),
            rows_of_others=self._rows_of_others,
            checker=self.checker,
            policy=policy,
            stored=stored_under(renamed, stored),
            rules=self.rules,
            yielder=self.yielder,
            by_hand=by_hand,
            same_accounts=self._same_accounts,
            rivals=self._rivals,
            unreadable=self._unreadable,
            locks=self.locks,
        )
        planner = Planner(inputs, selection, claims)
        planned = await planner.plan(on_planned)
        # Who acted on an entry for its former service may still do so.
        _refuse_uncovered(self.state, {item.record.service for item in planned if item.record is not None})
        await self.yielder.pause()
        return Plan(
            revision=self.desired.revision,
            policy=policy,
            manifests={name: each.manifest for name, each in self.integrations.items()},
            selection=selection,
            rows=rows,
            grants=tuple(planned),
            dropped=tuple(planner.dropped),
            renamed=renamed,
            problems=tuple(planner.problems),
        )

    async def _known(
        self, rows: Mapping[Key, Record], selection: Selection, by_hand: Mapping[Key, str] = {}, *, asks: bool = False
    ) -> tuple[dict[Key, Record], dict[Key, Key]]:
        """Return the rows under their current names, and where each moved row was.

        With `asks` it may be asked what is there under an address of before.
        """
        ledger, policy = self.state.ledger, self.policy
        await self.yielder.pause()
        known = {key: records.remembered(row, policy.now, self.settings.retry_delay) for key, row in rows.items()}
        known = as_settled(known, await ledger.run(lambda reader: reader.attempts.interrupted()), policy)
        known |= {
            key: taken_back(row, grant, policy.now)
            for key, row in known.items()
            if row.ends_moved and (grant := self.desired.grant(key)) is not None
        }
        await self.yielder.pause()

        renamer = Renamer(
            desired=self.desired,
            integrations=self.integrations,
            checker=self.checker,
            hires_at=self._hires_at,
            policy=policy,
            locks=self.locks,
            selection=selection,
            by_hand=by_hand,
            asks=asks,
        )
        return await renamer.moved(known)

    async def parts(self, hires: int) -> Sequence[Selection]:
        """Split the selection into parts of so many hires, in their order, including those that only the ledger has."""
        chosen: Collection[str] | None = self.selection.hires
        if chosen is None:
            chosen = {*self.desired.hires, *await self.state.ledger.run(lambda reader: reader.grants.hires())}
        return [*replace(self.selection, hires=frozenset(chosen)).parts(hires)]

    async def _rows_of(
        self, known: Mapping[Key, Record], moves: Mapping[Key, Key], read: dict[str, Collection[Record]], hire: str
    ) -> Collection[Record]:
        """Read all rows of a hire under their names now, once: those of a part as it knows them, and the others."""
        if hire not in read:
            rows = {row.key: row for row in await self._rows_of_others(frozenset({hire})) if row.key not in moves}
            places = rows.keys() | {key for key in moves.values() if key in known}
            read[hire] = [known.get(key) or rows[key] for key in places if key.hire == hire]
        return read[hire]

    async def _rows_of_others(self, hires: frozenset[str]) -> Iterable[Record]:
        """Read the records of some hires, whether the pass is about them or not."""
        some = Selection(hires=hires)
        return (await self._known(await self.rows(some), some))[0].values()

    async def _unreadable(self) -> list[Record]:
        """Return the records of all hires whose files cannot be read; they are read once."""
        if not (self.desired.unreadable_files or self.desired.unreadable_requests):
            return []
        if self._unread is None:
            self._unread = asyncio.create_task(self._read_unreadable())
        return await asyncio.shield(self._unread)

    async def _read_unreadable(self) -> list[Record]:
        requests = self.desired.unreadable_requests
        candidates = await self.state.ledger.run(lambda reader: reader.grants.hires_with(requests))
        last = Key("", "") if self.desired.unreadable_files else None
        while last is not None:
            rows, last = await self.state.ledger.run(partial(_origins_after, key=last))
            await self.yielder.pause()
            candidates.update(hire for hire, email, given in rows if self._may_be_unreadable(hire, email, given))
        hires = sorted(candidates)
        found: dict[Key, Record] = {}
        for place in range(0, len(hires), FEW):
            some = Selection(hires=frozenset(hires[place : place + FEW]))
            known, _ = await self._known(await self.rows(some), some)
            found |= {
                key: record
                for key, record in known.items()
                if self.desired.holds(record) is not None and not is_over(record, self.policy.now)
            }
        return list(found.values())

    def _may_be_unreadable(self, hire: str, email: str, given_by: tuple[str, ...]) -> bool:
        """Whether the file of a row's hire cannot be read, or that of whom the row may move to."""
        owner = self.desired.owner(email) or hire
        if self.desired.broken_hires and self.desired.vanished(hire):
            return True  # its file may be one of those
        return any(self.desired.unreadable(Key(each, ""), email, given_by) is not None for each in {hire, owner})

    def changes(self, ledger: LedgerReader, counted: RevisionCount | None = None) -> guard.Changes:
        """Return the counts that the guard judges, as the ledger has them, or with this count of the revision."""
        everything, revision = self.selection.everything, self.desired.revision
        return guard.Changes(ledger, self.settings, revision, everything=everything, counted=counted)

    def _judging(
        self, plan: Plan, others: Sequence[PlannedGrant]
    ) -> Callable[[LedgerReader], tuple[list[PlannedGrant], guard.Judgement]]:
        """Return how the guard judges a plan, with what passes beside it are about to change."""

        def judge(ledger: LedgerReader) -> tuple[list[PlannedGrant], guard.Judgement]:
            changes = self.changes(ledger)
            changes.add(ledger, plan.grants, plan.renamed, plan.dropped)
            changes.add_others(ledger, others)
            return changes.judged(ledger, plan.grants, partial=self._request.partial)

        return judge

    def locked(self, item: PlannedGrant) -> PlannedGrant:
        """Block a grant with an action pending if the key that seals its memory is missing."""
        fault = self.state.vault.fault
        if fault is None or not item.decision.action.acts:
            return item
        if item.lock is not None:
            return replace(item, decision=not_locked(item.lock, fault))
        return replace(item, decision=Decision(Status.BLOCKED, Action.NONE, fault))

    async def problems(self, found: Iterable[Problem]) -> tuple[Problem, ...]:
        """Sort the problems of the files; `found` are those of all parts."""
        counted = list[Problem]()
        if self.selection.everything:
            ledger, now = self.state.ledger, self.policy.now
            counted = await broken_counts(self.rules, self.desired, ledger, now, self.yielder)
        fault = self.state.vault.fault
        untold = {Problem(STATE, None, f"{key}: {UNTOLD}") for key in self.untold}
        sealed = untold if fault is None else {*untold, Problem(STATE, None, fault)}
        return tuple(
            sorted({*self.desired.files.problems, *found, *counted, *sealed}, key=lambda problem: problem.order)
        )


UNTOLD = (
    "the ledger has an account that the history does not know: somebody else wrote it there, and nothing is done about "
    "it. See `reconcile history --verify`, and restore the state from a backup"
)


async def _rows_for(ledger: Ledger[LedgerReader], selection: Selection, desired: Desired) -> dict[Key, Record]:
    """Read the rows of a selection's hires, or all, and those under other names that may have to move to them.

    A pass over one service reads that service's rows, those of the entries that these need, and any that stand where
    one of its entries does; everything, where a row has to follow or a hire's file cannot be read.
    """

    async def read(hires: Collection[str] | None, *given: Any) -> dict[Key, Record]:
        return await ledger.run(lambda reader: {record.key: record for record in reader.grants.records(hires, *given)})

    if selection.hires is None:
        return await read(None)
    known = set(selection.hires)
    if selection.integrations is not None and not known & desired.broken_hires.keys():
        found = await read(known, _addresses(known, desired), _grant_filter(selection, desired))
        needed = {Key(key.hire, need) for key, row in found.items() for need in row.needs}
        if absent := needed - found.keys():  # what they stored may be used in a revocation
            names = frozenset(key.access for key in absent)
            found |= await read(known, (), GrantFilter(frozenset(), names))
        if not any(_takes_others(record, desired) for record in found.values()):
            return found
    while True:
        found = await read(known, _addresses(known, desired))
        owners = {owner_of(record, desired) for record in found.values()}
        more = ({key.hire for key in found} | {owner for owner in owners if owner is not None}) - known
        if not more:
            return found
        known |= more


def _takes_others(record: Record, desired: Desired) -> bool:
    """Whether a row may move, and so the other rows of its hire."""
    return owner_of(record, desired) not in (None, record.key.hire) or readdressed(record, desired)


def _addresses(hires: Iterable[str], desired: Desired) -> list[str]:
    return [file.email for hire in hires if (file := desired.hires.file(hire)) is not None and file.email is not None]


def _grant_filter(selection: Selection, desired: Desired) -> GrantFilter:
    """Return which rows a selection of integrations covers."""
    assert selection.integrations is not None
    integrations, names = set(selection.integrations), set[str]()
    for hire in selection.hires or ():
        grants = desired.grants(hire)
        own = [grant for grant in grants if grant.integration in selection.integrations]
        names.update(grant.key.access for grant in own)
        if any(grant.needs for grant in own):
            integrations.update(grant.integration for grant in grants)
            names.update(grant.key.access for grant in grants)
    return GrantFilter(frozenset(integrations), frozenset(names))


def _origins_after(ledger: LedgerReader, key: Key) -> tuple[list[tuple[str, str, tuple[str, ...]]], Key | None]:
    return ledger.grants.origins_after(key)


def _refuse_uncovered(state: ReadState, services: set[str]) -> None:
    """Raise MoreNeeded if rows belong to another service, which this pass may not write for."""
    if state.lease is not None:
        state.lease.require(services)


def _not_run(item: PlannedGrant, run: Decision | None) -> PlannedGrant:
    """Say of what somebody asked to run in vain how it would be decided then."""
    again = "" if run is None else f"; run now, it is {run.status}: {run.reason}"
    return replace(item, decision=replace(item.decision, reason=f"{item.decision.reason}{again}"))


def _without_tokens(item: Integration, fault: str) -> Integration:
    """Return an integration whose tokens cannot be read, so that its grants are blocked for that reason."""
    return item if item.connection is None or item.fault is not None else replace(item, fault=Blocked(fault))
