"""What the ledger has and git no longer wants: checked, and decided on."""

from __future__ import annotations

from reconciler.engine.checker import NotOffered
from reconciler.engine.decide import TAKEN_BY_HAND, judge_orphan
from reconciler.engine.integrations import Integration
from reconciler.engine.planned import PlannedGrant, PlanningInputs
from reconciler.model.errors import Blocked
from reconciler.model.grant import Decision, Grant, Key, Kind, Phase, Record
from reconciler.model.status import Action, Status
from reconciler.model.verdict import Missing, NoCheck, Unknown

__all__ = ["OrphanPlanner", "misfit"]


class OrphanPlanner:
    """Plans orphans. `misfits` are the hires of whom an entry was found not to fit, and why."""

    def __init__(self, inputs: PlanningInputs) -> None:
        self._inputs = inputs
        self.misfits: dict[str, str] = {}

    async def plan(self, record: Record) -> PlannedGrant:
        """What is to be done about an orphan."""
        integration = self._inputs.integrations.get(record.integration)
        bare = record.as_grant()

        def left(status: Status, reason: str, *, by_hand: bool = False) -> PlannedGrant:
            """Plan nothing, for this reason."""
            decision = Decision(status, Action.NONE, reason)
            return PlannedGrant(bare, record, decision, wanted=False, by_hand=by_hand)

        if error := self.unreadable(record):
            return PlannedGrant(bare, record, Decision(Status.INVALID, Action.NONE, error), as_it_is=True)
        if record.phase is Phase.REVOKED:
            return left(Status.REVOKED, record.reason if record.status is Status.REVOKED else "revoked")
        if reason := self._inputs.policy.suspended(record.key.hire, record.integration):
            return left(Status.SUSPENDED, reason)
        if integration is None:
            problems = self._inputs.desired.files.broken["manifests"].get(record.integration)
            if not problems and self._inputs.by_hand.get(record.key) == "revoke":
                return left(Status.REVOKED, TAKEN_BY_HAND, by_hand=True)
            why = f"the manifest has an error: {problems[0]}" if problems else "its manifest is gone"
            return left(Status.ORPHANED, f"no longer in git, and {why}")
        try:
            if (lacking := await self._inputs.checker.token(integration)) is not None:
                raise Blocked(lacking.reason)
            lending = self._inputs.lending(record.key, record.service, record.needs)
            stored = self._inputs.stored_of(record.key, record.service, lending)
            kind = record.run.kind if record.revoking else Kind.REVOKE
            prepared = integration.prepare_orphan(record, stored, kind=kind, lenders=lending.entries)
        except Blocked as error:
            return left(Status.ORPHANED, f"no longer in git; {error}")
        has_check = integration.manifest.exists is not None
        verdict = await self._inputs.checker.check_alone(integration, prepared) if has_check else NoCheck()
        verdict, invitation = await self._inputs.asked(integration, prepared, verdict)
        # Whether another grant is the same account matters only where something could be revoked.
        at_stake = record.revoking or invitation is not None or not isinstance(verdict, Missing | Unknown)
        same_as = await self._same_as(integration, prepared.grant) if at_stake else None
        by_hand = self._inputs.by_hand.get(record.key) == "revoke"
        decision = judge_orphan(
            record,
            verdict,
            self._inputs.policy,
            can_revoke=bool(integration.manifest.revoke),
            by_hand=by_hand,
            same_as=None if same_as is None else str(same_as),
            slip=await self._slip(record.key.hire) if at_stake else None,
            digest=prepared.digest,
            means=integration.means,
            invitation=invitation,
            texts=integration.texts(kind),
        )
        wanted_kind = Kind.WITHDRAW if decision.withdraws else Kind.REVOKE
        if decision.action in (Action.REVOKE, Action.RETRY) and wanted_kind is not kind:
            try:
                prepared = integration.prepare_orphan(record, stored, kind=wanted_kind, lenders=lending.entries)
            except Blocked as error:
                decision = Decision(Status.ORPHANED, Action.NONE, f"no longer in git; {error}")
        return PlannedGrant(
            prepared.grant,
            record,
            decision,
            verdict,
            prepared,
            wanted=False,
            kind=wanted_kind,
            by_hand=by_hand,
            invitation=invitation,
        )

    async def _same_as(self, integration: Integration, orphan: Grant) -> Key | None:
        """A grant that keeps the orphan's account, or None."""
        records = self._inputs.records.values()
        theirs = [record for record in records if record.key.hire == orphan.key.hire and self.unreadable(record)]
        return await self._inputs.same_accounts.of(
            integration, orphan, stored=self._inputs.own_stored, unreadable=theirs
        )

    def unreadable(self, record: Record) -> str | None:
        """Why the file of a grant cannot be read, so that the grant is left as it is; or None."""
        return self._inputs.desired.unreadable(record.key.hire, record.email, record.origin)

    async def _slip(self, hire: str) -> str | None:
        """An error in a hire's files, because of which nothing of the hire is revoked on its own, or None.

        A choice by name is compared with what the service offers, also where this pass is about another service.
        """
        known = self._inputs.desired.slip(hire) or self.misfits.get(hire)
        if known is not None:
            return known
        grants = self._inputs.desired.grants(hire)
        wanted = {grant.key for grant in grants}
        for record in self._inputs.rows_of(hire):  # what a sequence had given that is assigned, and cannot be read
            if record.phase is not Phase.REVOKED and record.key not in wanted and (why := self.unreadable(record)):
                return why
        for grant in grants:
            integration = self._inputs.integrations.get(grant.integration)
            if not grant.choices or integration is None:
                continue
            try:
                integration.ready(grant)
                await self._inputs.checker.resolved(integration, grant)
            except NotOffered as error:
                return misfit(grant, str(error))
            except Blocked:
                continue
        return None


def misfit(grant: Grant, reason: str) -> str:
    """Why an entry does not fit, with its place."""
    return f"{grant.source}: access {grant.key.access}: {reason}"
