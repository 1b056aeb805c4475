"""What the planners of one pass are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from reconciler.engine.decide.planned import NO_OUTPUTS, NOTHING_STORED, DependencyOutputs, PlannedGrant, Prepared
from reconciler.engine.observe.checker import Checker
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.same_account import Rivals, SameAccounts
from reconciler.ledger.vault import Stored, stored_for
from reconciler.model.decision_inputs import Policy
from reconciler.model.ending import still_wanted
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.lock import Locks
from reconciler.model.value import Frozen
from reconciler.model.verdict import Account, Invited, Missing, Present, Unknown, Verdict
from reconciler.repository.desired import Desired
from reconciler.repository.policy import Judge
from reconciler.requests.tasks import Pace

__all__ = ["PlanningInputs"]


class PlanningInputs(Frozen, kw_only=True):
    """What is wanted, what is remembered, how to ask, and what the settings say about deciding.

    `records` are those of the pass; `rows_of` reads all of a hire's, `rows_of_others` other hires', `unreadable`
    those of everybody whose file cannot be read; `stored` is what `store_data` saved, by hire and entry; `by_hand` what
    somebody asks for.
    """

    desired: Desired
    integrations: Mapping[str, Integration]
    records: Mapping[Key, Record]
    rows_of: Callable[[str], Awaitable[Iterable[Record]]]
    rows_of_others: Callable[[frozenset[str]], Awaitable[Iterable[Record]]]
    checker: Checker
    policy: Policy
    stored: Mapping[str, Mapping[str, Any]]
    by_hand: Mapping[Key, str]
    judge: Judge
    pace: Pace
    same_accounts: SameAccounts
    rivals: Rivals
    unreadable: Callable[[], Awaitable[Iterable[Record]]]
    locks: Locks

    def wanted(self, hire: str) -> tuple[Grant, ...]:
        """Return a hire's grants, without those that are over by now."""
        grants, now, known = self.desired.grants(hire), self.policy.now, self.records
        if all(still_wanted(grant, known.get(grant.key), now) for grant in grants):
            return grants
        return tuple(grant for grant in grants if still_wanted(grant, known.get(grant.key), now))

    async def rival(self, grant: Grant, record: Record | None) -> str | None:
        """Return why a grant's account is another hire's, or may be; or None."""
        rows_of, unreadable = self.rows_of_others, self.unreadable
        return await self.rivals.of(grant, record, rows_of=rows_of, unreadable=unreadable)

    async def asked(
        self, integration: Integration, prepared: Prepared, verdict: Verdict
    ) -> tuple[Verdict, Invited | None]:
        """Return the verdict together with the open invitation of a person who is absent or only invited."""
        only_invited = isinstance(verdict, Present) and verdict.account is Account.INVITED
        if not (only_invited or isinstance(verdict, Missing)):
            return verdict, None
        invitation = await self.checker.invitation(integration, prepared)
        return (invitation, None) if isinstance(invitation, Unknown) else (verdict, invitation)

    def outputs_of(
        self, key: Key, service: str, needs: tuple[str, ...], needed: Mapping[str, PlannedGrant] = {}
    ) -> DependencyOutputs:
        """Return the entries of the same service that an entry needs, directly or indirectly."""
        if not needs:
            return NO_OUTPUTS
        entries: dict[str, None] = {}
        names: set[str] = set()
        queue = list(dict.fromkeys(needs))
        for entry in queue:
            planned, record = needed.get(entry), self.records.get(Key(key.hire, entry))
            other = planned.grant if planned is not None else record
            if other is None or entry == key.access:
                continue
            queue += [need for need in other.needs if need not in queue]
            if other.service != service:
                continue
            entries[entry] = None
            if planned is not None and planned.decision.action.provides:
                manifest = planned.grant.manifest
                names |= {name for call in (manifest.execute if manifest else ()) for name in call.store_data}
        return DependencyOutputs(tuple(entries), frozenset(names))

    def stored_of(self, key: Key, service: str, outputs: DependencyOutputs) -> Stored:
        """Return what `store_data` saved for an entry and those it needs, at this service only."""
        if not (saved := self.stored.get(key.hire)):
            return NOTHING_STORED
        of_hire = {
            access: values
            for access, values in saved.items()
            if (record := self.records.get(Key(key.hire, access))) is not None and record.service == service
        }
        return stored_for(of_hire, key.access, outputs.entries)

    def own_stored(self, key: Key, service: str) -> Mapping[str, Any]:
        """Return what `store_data` saved for an entry."""
        return self.stored_of(key, service, NO_OUTPUTS).own
