"""Plan the grants of people who are locked: nothing is provisioned, and each account is locked.

An account is looked for where the ledger has it, and where git wants it: the file may be broken, or have another
address by now (docs/design/rules.md, "Locking somebody out").
"""

from __future__ import annotations

from reconciler.engine.apply import transitions
from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.orphans import decide_lock, kind_of_lock, lock_by_hand, locked, not_locked
from reconciler.engine.decide.planned import PlannedGrant, Prepared
from reconciler.engine.observe.checker import NotOffered
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.run.grants import PlanningInputs
from reconciler.engine.run.orphans import OrphanPlanner
from reconciler.model.errors import Blocked
from reconciler.model.grant import Decision, Grant, Record
from reconciler.model.lock import Lock, LockState
from reconciler.model.value import replace
from reconciler.model.verdict import Missing, Unknown


class LockPlanner:
    """Plans the grants of people who are locked."""

    def __init__(self, inputs: PlanningInputs, orphans: OrphanPlanner) -> None:
        self._inputs = inputs
        self._orphans = orphans

    async def plan(self, lock: Lock, record: Record | None, grant: Grant | None = None) -> PlannedGrant:
        """Look for a grant's account and decide how to lock it; without a `grant`, git does not want it."""
        if grant is None and record is not None:
            record = self._orphans.as_kept(record)
        shown = grant or (record.as_grant() if record is not None else None)
        assert shown is not None
        leaves = None if grant is not None or record is None else self._orphans.why_it_leaves(record)
        nothing = locked(lock, "there is no account")
        unlooked = PlannedGrant(shown, record, nothing, wanted=grant is not None, lock=lock, leaves=leaves)
        if grant is not None and grant.refused:  # what it names need not be theirs; what it gave is in the ledger
            grant = None
        rival = None if grant is None or grant.hold is not None else await self._inputs.rival(grant, record)
        unsure = record is not None and record.run.broke_there and not unlooked.wanted
        places = [record] if record is not None and (record.may_remain or unsure) else []
        if grant is not None:
            try:
                places += await self._as_git_has_it(grant, record, known=bool(places))
            except (Blocked, NotOffered) as error:
                if not places:
                    return replace(unlooked, decision=lock_by_hand(lock, rival or f"{error}; there may be an account"))
        looked = [await self._at(unlooked, lock, place) for place in places]
        there = [each for each in looked if not (_done(each) and isinstance(each.verdict, Missing))]
        if there and rival is not None:
            return replace(unlooked, decision=lock_by_hand(lock, rival))
        first, *others = sorted(there, key=_done) or [[unlooked, *looked][-1]]
        return replace(first, not_locked_yet=next((each.decision.reason for each in others if not _done(each)), None))

    async def _as_git_has_it(self, grant: Grant, record: Record | None, *, known: bool) -> list[Record]:
        """Return a record of the account that git wants, unless the ledger's is `known` to be the same.

        Raises Blocked or NotOffered if it cannot be told which account that is.
        """
        if grant.hold is not None:
            raise Blocked(grant.hold.reason)
        integration = self._inputs.integrations[grant.integration]
        integration.ready(grant)
        resolved = await self._inputs.checker.resolved(integration, grant) if grant.choices else grant
        if isinstance(resolved, Unknown):
            raise Blocked(resolved.reason)
        values = integration.snapshot(resolved)
        if known and record is not None and record.integration == grant.integration:
            asked = [name for name in integration.names.asked_with if name in values]
            if all(values[name] == record.values.get(name) for name in asked):
                return []
        return [replace(transitions.first(grant, None), snapshot=values)]

    async def _at(self, planned: PlannedGrant, lock: Lock, place: Record) -> PlannedGrant:
        """Look for the account of a record, and decide."""
        integration = self._inputs.integrations.get(place.integration)
        if integration is None:
            return replace(planned, decision=lock_by_hand(lock, "its manifest is gone, or has an error"))
        try:
            if (lacking := await self._inputs.checker.token(integration)) is not None:
                raise Blocked(lacking.reason)
            prepared = self._inputs.prepared_orphan(integration, place, None)
            verdict = await self._inputs.checker.check_directly(integration, prepared)
            verdict, invitation = await self._inputs.asked(integration, prepared, verdict)
            required = await self._orphans.required_of(integration, prepared.grant, place)
            same = await self._orphans.same_as(integration, prepared.grant)
            facts = Facts(verdict, integration.manifest, invitation, required=required, same_as=same and str(same))
            kind = kind_of_lock(planned.record or place, facts, self._inputs.policy)
            prepared = self._inputs.checkable_orphan(integration, place, kind)
            facts = replace(facts, digest=integration.digest(prepared), texts=integration.texts[kind])
            decision = decide_lock(lock, planned.record or place, facts, self._inputs.policy)
            if decision.action.acts and prepared.kind is None:
                self._inputs.prepared_orphan(integration, place, kind)  # raises what is missing
        except Blocked as error:
            return replace(planned, decision=not_locked(lock, str(error)))
        if (why := await self._not_this_one(planned, integration, place, prepared, decision)) is not None:
            decision = lock_by_hand(lock, why)
        return replace(
            planned,
            grant=planned.grant if planned.wanted else prepared.grant,
            decision=decision,
            verdict=verdict,
            prepared=prepared,
            kind=kind,
            invitation=invitation,
        )

    async def _not_this_one(
        self, planned: PlannedGrant, integration: Integration, place: Record, prepared: Prepared, decision: Decision
    ) -> str | None:
        """Return why the account must not be locked, or another one has to be; None otherwise."""
        if decision.action.acts:
            if (had := planned.record) is not None and had.may_remain and had.integration != place.integration:
                return f"an account at {place.integration}: the ledger has this name for the one at {had.integration}"
            others = await self._orphans.all_same_as(integration, prepared.grant)
            for other in (each for each in others if self._inputs.locks.of(each.hire, "") is None):
                rows = await self._inputs.rows_of(other.hire)
                shared = any(row.key == other and row.acted_on for row in rows)
                if shared or not (planned.wanted and place.provided):  # else only this one had it ever
                    return f"it is the same account as {other}"
        if not planned.wanted and planned.verdict is None and decision.locked is LockState.DONE:
            return await self._orphans.elsewhere(integration, place, prepared)
        return None


def _done(item: PlannedGrant) -> bool:
    return item.decision.locked is LockState.DONE
