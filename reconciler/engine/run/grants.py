"""Plan one grant: check its account, as far as it may be asked for, and decide on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.planned import (
    NO_OUTPUTS,
    NOTHING_STORED,
    DependencyOutputs,
    PlannedGrant,
    Prepared,
    requests_of,
)
from reconciler.engine.decide.wanted import decide, decide_unasked
from reconciler.engine.observe.checker import Checker, NotOffered
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.same_account import Rivals, SameAccounts
from reconciler.ledger.entries import GrantFilter
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import Stored, lends, stored_for
from reconciler.model.decision_inputs import Policy, still_wanted
from reconciler.model.errors import Blocked, MissingVariable, Problem
from reconciler.model.grant import Decision, Grant, GrantCore, Key, Phase, Record
from reconciler.model.lock import Locks
from reconciler.model.run import Kind
from reconciler.model.status import Action, Status
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Invited, Missing, NoCheck, Present, Unknown, Verdict, is_invited, is_off
from reconciler.repository.desired import Desired
from reconciler.repository.policy import PolicyRules
from reconciler.requests.tasks import NAMES_AT_A_TIME, Yielder

RowsOf = Callable[[frozenset[str]], Awaitable[Iterable[Record]]]
"""Reads the rows of some hires."""


class PlanningInputs(Frozen, kw_only=True):
    """What is wanted, what is remembered, how to ask, and what the settings say about deciding.

    `records` are those of the pass; `rows_of` reads all of a hire's, `rows_of_others` some hires', `unreadable`
    those of everybody whose file cannot be read; `stored` is what `store_data` saved, by hire and entry; `by_hand` what
    somebody asks for.
    """

    desired: Desired
    integrations: Mapping[str, Integration]
    records: Mapping[Key, Record]
    rows_of: Callable[[str], Awaitable[Collection[Record]]]
    rows_of_others: RowsOf
    checker: Checker
    policy: Policy
    stored: Mapping[str, Mapping[str, Any]]
    by_hand: Mapping[Key, str]
    rules: PolicyRules
    yielder: Yielder
    same_accounts: SameAccounts
    rivals: Rivals
    unreadable: Callable[[], Awaitable[Iterable[Record]]]
    locks: Locks

    def wanted(self, hire: str) -> tuple[Grant, ...]:
        """Return a hire's grants as of now, without those that are over."""
        return wanted_by(self.desired.grants(hire), self.records, self.policy.now)

    async def rival(self, grant: Grant, record: Record | None) -> str | None:
        """Return why a grant's account is another hire's, or may be; or None."""
        return await self.rivals.of(
            grant, record, rows_of=self.rows_of_others, kept=self._kept_for_theirs, now=self.policy.now
        )

    async def _kept_for_theirs(self) -> list[tuple[Record, str]]:
        """Return the rows of accounts that no other hire gets, each with why."""
        locked = await self.rows_of_others(self.locks.hires) if self.locks.hires else ()
        off = [(row, "who is locked") for row in locked if row.off]
        return [*off, *((row, "whose file cannot be read") for row in await self.unreadable())]

    async def asked(
        self, integration: Integration, prepared: Prepared, verdict: Verdict
    ) -> tuple[Verdict, Invited | None]:
        """Return the verdict together with the open invitation of a person who is absent or only invited."""
        if not (is_invited(verdict) or isinstance(verdict, Missing)):
            return verdict, None
        invitation = await self.checker.invitation(integration, prepared)
        return (invitation, None) if isinstance(invitation, Unknown) else (verdict, invitation)

    def outputs_of(self, one: GrantCore, needed: Mapping[str, PlannedGrant] = {}) -> DependencyOutputs:
        """Return the entries of the same service that an entry needs, directly or indirectly."""
        if not one.needs:
            return NO_OUTPUTS
        entries: dict[str, None] = {}
        names: set[str] = set()
        queue = list(dict.fromkeys(one.needs))
        for entry in queue:
            planned, record = needed.get(entry), self.records.get(Key(one.key.hire, entry))
            other = planned.grant if planned is not None else record
            if other is None or entry == one.key.access:
                continue
            queue += [need for need in other.needs if need not in queue]
            if other.service != one.service:
                continue
            entries[entry] = None
            if planned is not None and planned.decision.action.provides:
                manifest = planned.grant.manifest
                calls = requests_of(manifest, planned.kind)[planned.decision.resume :] if manifest else ()
                names |= {name for call in calls for name in call.store_data}
        return DependencyOutputs(tuple(entries), frozenset(names))

    def stored_of(self, one: GrantCore, outputs: DependencyOutputs) -> Stored:
        """Return what `store_data` saved for an entry and those it needs, at this service only."""
        if not (saved := self.stored.get(one.key.hire)):
            return NOTHING_STORED
        of_hire = {
            access: values
            for access, values in saved.items()
            if (record := self.records.get(Key(one.key.hire, access))) is not None and record.service == one.service
        }
        return stored_for(of_hire, one.key.access, outputs.entries)

    def prepared_orphan(self, integration: Integration, record: Record, kind: Kind | None) -> Prepared:
        """Prepare what is asked and, with a `kind`, sent for a row's account. Raises Blocked."""
        outputs = self.outputs_of(record)
        if "email" in integration.names.asked_with:
            hire, records = record.key.hire, self.records
            lenders = (entry for entry in outputs.entries if lends(records[Key(hire, entry)], record))
            outputs = replace(outputs, entries=tuple(lenders))
        return integration.prepare_orphan(record, self.stored_of(record, outputs), kind=kind)

    def checkable_orphan(self, integration: Integration, record: Record, kind: Kind | None) -> Prepared:
        """Prepare what is asked for a row's account, and what is sent where nothing is missing. Raises Blocked."""
        try:
            return self.prepared_orphan(integration, record, kind)
        except Blocked:
            return self.prepared_orphan(integration, record, None)


def wanted_by(grants: tuple[Grant, ...], known: Mapping[Key, Record], now: datetime) -> tuple[Grant, ...]:
    """Return a hire's grants as of now, without those that are over by their rows."""
    count = [grant for grant in grants if still_wanted(grant, known.get(grant.key), now)]
    if len(count) == len(grants) and all(grant.requested is None for grant in grants):
        return grants
    theirs = {grant.key.access: known.get(grant.key) for grant in count}
    return tuple(grant.as_of(now, theirs) for grant in count)


async def over_of(desired: Desired, hires: Collection[str], rows_of: RowsOf, now: datetime) -> set[Key]:
    """Return which of the grants that git has of some hires are over, by their rows."""
    names, over = iter(hires), set[Key]()
    while some := frozenset(islice(names, NAMES_AT_A_TIME)):
        known = {row.key: row for row in await rows_of(some)}
        grants = (grant for hire in some for grant in desired.grants(hire))
        over |= {grant.key for grant in grants if not still_wanted(grant, known.get(grant.key), now)}
    return over


async def broken_counts(
    rules: PolicyRules, desired: Desired, ledger: Ledger[LedgerReader], now: datetime, yielder: Yielder
) -> list[Problem]:
    """Return the rules of the policy whose count is too low or too high; what is over does not count."""
    counted, only = dict[Key, tuple[int, ...]](), GrantFilter(rules.counts, frozenset())
    for hire in [*desired.hires] if rules.counts else ():
        await yielder.pause()
        counted |= {grant.key: by for grant in desired.grants(hire) if (by := rules.counting(grant))}

    def rows_of(hires: frozenset[str]) -> Awaitable[Iterable[Record]]:
        return ledger.run(lambda reader: list(reader.grants.records(hires, (), only)))

    over = await over_of(desired, {key.hire for key in counted}, rows_of, now)
    return [*rules.counted(Counter(index for key, by in counted.items() if key not in over for index in by), over)]


NOTHING_TO_EXECUTE = "the manifest has nothing to execute"


class GrantPlanner:
    """Plans grants that git wants, each on its own."""

    def __init__(self, inputs: PlanningInputs) -> None:
        self._inputs = inputs

    async def plan(self, grant: Grant, waits: str | None, needed: Mapping[str, PlannedGrant] = {}) -> PlannedGrant:
        """Decide on a grant; `waits` says why it has to wait, `needed` are the entries that it needs, as planned."""
        record = self._inputs.records.get(grant.key)
        if grant.hold is None and (rival := await self._inputs.rival(grant, record)) is not None:
            invalid = Decision(Status.INVALID, Action.NONE, rival)
            return PlannedGrant(grant, record, invalid, untouched=record is not None)
        early, other = decide_unasked(grant, record, self._inputs.policy, waits=waits), self._of_another(grant, record)
        if early is None and other is not None and not self._gone(other):
            early = _taken(grant, other)
        if early is not None:
            kept = other is not None or (early.status is Status.INVALID and record is not None)
            return PlannedGrant(grant, record, early, untouched=kept)
        planned = await self._asked(grant, record, needed)
        if other is None or await self._renamed(grant, other, planned.verdict):
            return planned
        answered = isinstance(planned.verdict, Present | Missing | NoCheck)
        decision = _taken(grant, other) if answered else planned.decision
        return PlannedGrant(grant, record, decision, planned.verdict, untouched=True)

    async def _asked(self, grant: Grant, record: Record | None, needed: Mapping[str, PlannedGrant]) -> PlannedGrant:
        """Decide on a grant that may be asked for."""
        integration = self._inputs.integrations[grant.integration]
        outputs = self._inputs.outputs_of(grant, needed)
        stored = self._inputs.stored_of(grant, outputs)
        try:
            resolved: Grant | Unknown = grant
            if integration.connection is not None or grant.choices:
                integration.ready(grant)
                resolved = await self._inputs.checker.token(integration) or await self._inputs.checker.resolved(
                    integration, grant
                )
            if isinstance(resolved, Unknown):
                return PlannedGrant(grant, record, self._unanswered(integration, record, resolved), resolved)
            resolved, kind = integration.as_sent(resolved, record), _prepared_for(record)
            prepared = integration.prepare(resolved, stored, kind=kind, outputs=outputs)
        except NotOffered as error:
            invalid = Decision(Status.INVALID, Action.NONE, str(error))
            return PlannedGrant(grant, record, invalid, untouched=record is not None)
        except MissingVariable as error:
            return PlannedGrant(grant, record, _without(error, outputs))
        except Blocked as error:
            return _blocked(grant, record, error)
        planned = await self._checked(integration, grant, prepared, record)
        if not planned.decision.action.provides or planned.kind is prepared.kind:
            return planned
        try:
            whole = integration.prepare(resolved, stored, kind=planned.kind, outputs=outputs)
            return replace(planned, prepared=whole)
        except Blocked as error:
            return _blocked(grant, record, error)

    async def _checked(
        self, integration: Integration, grant: Grant, prepared: Prepared, record: Record | None
    ) -> PlannedGrant:
        found = await self._inputs.checker.check(integration, prepared, record)
        verdict, invitation = await self._inputs.asked(integration, prepared, found)
        changes = {} if record is None else integration.changes(prepared, record, verdict)
        texts, manifest = _texts(integration, record), integration.manifest
        digest = None if record is None or record.run.digest is None else integration.digest(prepared)
        facts = Facts(verdict, manifest, invitation, changes, digest, texts=texts)
        decision = decide(record, facts, self._inputs.policy)
        if decision.action.provides and manifest.check_stores and isinstance(verdict, Present) and not verdict.stored:
            # A listing saw it, and a listing saves nothing: what the requests to come may use, the check itself gives.
            verdict = await self._inputs.checker.check_directly(integration, prepared)
            decision = decide(record, replace(facts, verdict=verdict), self._inputs.policy)
        by_hand = self._inputs.by_hand.get(grant.key) == "run"
        off = is_off(verdict)
        if by_hand and off and manifest.updates:  # a switched-off account is never executed again
            decision = replace(decision, action=Action.UPDATE, resume=0, afresh=True, heals=False)
        elif by_hand and not off:
            decision = Decision(Status.MISSING, Action.EXECUTE, "run by hand", afresh=True)
        if decision.action is Action.EXECUTE and manifest.exists is not None and not manifest.execute:
            decision = replace(decision, action=Action.NONE, reason=f"{decision.reason}; {NOTHING_TO_EXECUTE}")
        kind = Kind.RUN if by_hand and not off else _kind(decision, record)
        return PlannedGrant(
            grant, record, decision, verdict, prepared, kind=kind, by_hand=by_hand, invitation=invitation
        )

    def _unanswered(self, integration: Integration, record: Record | None, unknown: Unknown) -> Decision:
        """Decide on a grant whose service could not be asked."""
        facts = Facts(unknown, integration.manifest, texts=_texts(integration, record))
        return decide(record, facts, self._inputs.policy)

    def _of_another(self, grant: Grant, record: Record | None) -> Record | None:
        """Return the record of a grant's name if it is of another integration's account, which must not be lost."""
        if record is None or record.integration == grant.integration:
            return None
        return record if record.may_remain else None

    async def _renamed(self, grant: Grant, record: Record, verdict: Verdict | None) -> bool:
        """Whether the manifest may be that of the record by another name.

        It finds an account that no other row has, or has no check, and none found the record's.
        """
        if not isinstance(verdict, Present):
            return isinstance(verdict, NoCheck) and record.phase is not Phase.CONFIRMED
        rows = await self._inputs.rows_of(grant.key.hire)
        others = (row for row in rows if row.integration == grant.integration and row.key != grant.key)
        return not any(row.may_remain for row in others)

    def _gone(self, record: Record) -> bool:
        """Whether there is no manifest of a record's integration any more, not even one that cannot be read."""
        broken = self._inputs.desired.files.broken["manifests"]
        return record.integration not in self._inputs.integrations and record.integration not in broken


def _taken(grant: Grant, other: Record) -> Decision:
    """Block an entry whose name is that of another integration's account."""
    reason = (
        f"{grant.key.access} is what this hire's access to {other.integration} is called: give the entry for "
        f"{grant.integration} another name, and the other is orphaned"
    )
    return Decision(Status.BLOCKED, Action.NONE, reason)


def _blocked(grant: Grant, record: Record | None, why: Blocked) -> PlannedGrant:
    return PlannedGrant(grant, record, Decision(Status.BLOCKED, Action.NONE, str(why), cause=why.cause))


def _prepared_for(record: Record | None) -> Kind | None:
    """Return for which kind of attempt to prepare a grant before its check; None if only the check may be sent."""
    if record is not None and not record.may_run:
        return None
    return Kind.UPDATE if record is not None and record.run.kind.updates else Kind.EXECUTE


def _texts(integration: Integration, record: Record | None) -> tuple[str, ...]:
    """Return the digests of the open attempt's requests; none where all is settled."""
    if record is None or not record.phase.unsettled:
        return ()
    return integration.texts[Kind.EXECUTE if record.revoking else record.run.kind]


def _kind(decision: Decision, record: Record | None) -> Kind:
    """Return the kind of attempt that a decision leads to."""
    if decision.action is Action.UPDATE:
        return Kind.MEND if decision.heals else Kind.UPDATE
    if decision.action is Action.RETRY and record is not None and (record.run.kind.updates or decision.resume):
        return record.run.kind if record.run.kind is not Kind.RUN else Kind.EXECUTE
    if decision.withdraws:
        return Kind.REINVITE
    return Kind.HEAL if decision.heals else Kind.EXECUTE


def _without(error: MissingVariable, outputs: DependencyOutputs) -> Decision:
    """Decide on a check that cannot be sent yet: it waits for what an entry before it is about to store."""
    if error.name.partition(".")[0] in outputs.names:
        reason = f"its check asks with {{{{{error.name}}}}}, which {outputs.entries[0]} is about to store"
        return Decision(Status.SCHEDULED, Action.WAIT, reason)
    return Decision(Status.BLOCKED, Action.NONE, str(error))
