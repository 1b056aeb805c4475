"""Plan orphans: grants that the ledger has and git no longer wants."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.orphans import NOT_IN_GIT, decide_orphan, needing, taken_by_hand, why_over
from reconciler.engine.decide.planned import NO_OUTPUTS, PlannedGrant, Prepared
from reconciler.engine.observe.checker import NotOffered
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.same_account import Stored
from reconciler.engine.run.grants import PlanningInputs, wanted_by
from reconciler.model.decision_inputs import is_over, still_wanted
from reconciler.model.errors import Blocked, HostNotAllowed, MissingVariable
from reconciler.model.grant import APART, Decision, Grant, Key, Phase, Record
from reconciler.model.run import Kind
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Cause, Missing, NoCheck, Present, Unknown, Verdict, is_off
from reconciler.repository.joined_problems import first_error
from reconciler.repository.parsing import REQUESTS


class OrphanPlanner:
    """Plans orphans; of a hire, `beside` what is planned of the others."""

    def __init__(self, inputs: PlanningInputs, beside: Iterable[PlannedGrant] = ()) -> None:
        self._inputs = inputs
        self._beside = tuple(beside)
        self._found: dict[Key, Mapping[str, Any]] = {}
        """What is known of these accounts, by attempts and by checks."""

    async def plan(self, record: Record) -> PlannedGrant:
        """Decide on an orphan; check it first if it may have to be revoked."""
        record = self.as_kept(record)
        planned, policy = await self._plan(record), self._inputs.policy
        in_git = self._in_git(record)
        over = is_over(record, policy.now)
        expired = policy.expires and over
        unanswered = expired and (planned.unanswered or isinstance(planned.verdict, Unknown) or not policy.removals)
        ran_out = None if over else self._ran_out(record)
        return replace(planned, in_git=in_git, over=over, ran_out=ran_out, expired=expired, unanswered=unanswered)

    def _ran_out(self, record: Record) -> datetime | None:
        """Return when an entry was over by its `for`, if that is why it counts no longer."""
        mine, now = self._inputs.desired.grant(record.key), self._inputs.policy.now
        if mine is None or not still_wanted(mine, None, now):
            return None
        end = mine.ends_at(record.acted_at)
        return end if end is not None and end <= now else None

    def may_be_dropped(self, record: Record) -> bool:
        """Whether a grant that nothing was ever done for is forgotten.

        One whose file cannot be read is not, nor one that is over while git has its entry: it would begin anew.
        """
        over = is_over(record, self._inputs.policy.now) and self._in_git(record)
        return not over and self._ran_out(record) is None and self.unreadable(record) is None

    def as_kept(self, record: Record) -> Record:
        """Return a record that is kept where git says so now, and of whom git has it."""
        desired, (hire, access) = self._inputs.desired, record.key
        file = desired.hires.file(hire) if desired.has(hire, access) else None
        address = record.hire_email if file is None or file.email is None else file.email
        return replace(record, keep=bool(desired.kept(hire, [record])), hire_email=address)

    def why_it_leaves(self, record: Record) -> str | None:
        """Return why git no longer wants a grant; None while its file cannot be read, unless its time is over."""
        now = self._inputs.policy.now
        if self.unreadable(record) is not None and not is_over(record, now):
            return None
        return why_over(record, self._inputs.desired, now) or NOT_IN_GIT

    def _in_git(self, record: Record) -> bool:
        """Whether git has an entry, or may have it: files that cannot be read say nothing, also of what was revoked.

        A request's file stays one while its hire's is gone, or has another name.
        """
        desired, requested = self._inputs.desired, record.source.startswith(REQUESTS.folder)
        in_git = desired.has(*record.key) or (requested and record.key.access in desired.files.requests)
        return in_git or desired.holds(record) is not None

    async def after_dependents(self, found: list[PlannedGrant], wanted: Collection[Key]) -> list[PlannedGrant]:
        """Let orphans of a hire wait for those that need them and that another pass is to revoke: these come first.

        What a file that cannot be read keeps is not to be revoked. Whoever asks by hand for one of them does not wait.
        `wanted` are the hire's grants that git wants.
        """
        if not any(item.decision.action is Action.REVOKE and not item.by_hand for item in found):
            return found
        here = {item.grant.key for item in found}
        rows = {row.key: row for row in await self._inputs.rows_of(found[0].grant.key.hire)}
        needs = {key.access: row.needs for key, row in rows.items()}
        others = {key.access: row for key, row in rows.items() if key not in here | {*wanted} and _to_be_revoked(row)}
        pending = [access for access, row in others.items() if self.why_it_leaves(row) is not None]
        return [_after(item, sorted(needing(item.grant.key.access, pending, needs))) for item in found]

    async def _plan(self, record: Record) -> PlannedGrant:
        ended = is_over(record, self._inputs.policy.now)
        if not ended and (error := self.unreadable(record)):
            decision = Decision(Status.INVALID, Action.NONE, error)
            if not self._inputs.desired.vanished(record.key.hire):  # what its file is renamed to is like it is now
                record = replace(record, revision=self._inputs.desired.revision)
            return PlannedGrant(record.as_grant(), record, decision, untouched=True)
        if record.phase is Phase.REVOKED:
            return _no_action(record, Status.REVOKED, record.reason if record.status is Status.REVOKED else "revoked")
        over = why_over(record, self._inputs.desired, self._inputs.policy.now)
        never = not record.leaves_something and (ended or self._ran_out(record) is not None)
        nothing = _no_action(record, Status.REVOKED, over or NOT_IN_GIT)
        if never and not record.run.broke_there:
            return nothing
        if reason := self._inputs.policy.suspended(record.key.hire, record.integration):
            return _no_action(record, Status.SUSPENDED, reason)
        integration = self._inputs.integrations.get(record.integration)
        if integration is not None:
            looked = await self._check_and_decide(integration, record, over)
            return replace(nothing, verdict=looked.verdict) if never and looked.finds_nothing else looked
        problems = self._inputs.desired.files.broken["manifests"].get(record.integration)
        if not problems and self._inputs.by_hand.get(record.key) == "revoke":
            return PlannedGrant(record.as_grant(), record, taken_by_hand(over), wanted=False, by_hand=True)
        why = f"the manifest has an error: {problems[0].clause}" if problems else "its manifest is gone"
        return _no_action(record, Status.ORPHANED, f"{over or NOT_IN_GIT}, and {why}")

    async def _check_and_decide(self, integration: Integration, record: Record, over: str | None) -> PlannedGrant:
        """Check the orphan's account, and decide."""
        by_hand = self._inputs.by_hand.get(record.key) == "revoke"
        try:
            if (lacking := await self._inputs.checker.token(integration)) is not None:
                raise Blocked(lacking.reason)
            kind = record.run.kind if record.revoking else Kind.REVOKE
            prepared = self._inputs.checkable_orphan(integration, record, kind if record.revoking else None)
        except Blocked as error:
            if by_hand and isinstance(error, MissingVariable):
                return PlannedGrant(record.as_grant(), record, taken_by_hand(over), wanted=False, by_hand=True)
            unable = _unable(record, over, error, pending=await self._may_go(integration, record))
            return PlannedGrant(record.as_grant(), record, unable, wanted=False, unanswered=True)
        verdict = await self._inputs.checker.check_directly(integration, prepared)
        self._note(record.key, prepared, verdict)
        verdict, invitation = await self._inputs.asked(integration, prepared, verdict)
        # Whether another grant is the same account matters only where something could be revoked.
        at_stake = record.revoking or invitation is not None or not isinstance(verdict, Missing | Unknown)
        same_as = await self.same_as(integration, prepared.grant) if at_stake else None
        required = await (self.required_of(integration, prepared.grant, record) if at_stake else self.required(record))
        taken = record.revoking and any(step.may_have_effect for step in record.run.steps)
        if isinstance(verdict, Missing) and invitation is None and not taken:
            elsewhere = await self.elsewhere(integration, record, prepared)
            if elsewhere is not None:
                return _no_action(record, Status.ORPHANED, f"{over or NOT_IN_GIT}; {elsewhere}")
        decision = decide_orphan(
            record,
            Facts(
                verdict,
                integration.manifest,
                invitation,
                digest=integration.digest(prepared),
                texts=integration.texts[kind],
                required=required,
                over=over,
                same_as=None if same_as is None else str(same_as),
                error=await self._first_error(record.key.hire) if at_stake else None,
            ),
            self._inputs.policy,
            by_hand=by_hand,
            expired=self._inputs.policy.expires and is_over(record, self._inputs.policy.now),
        )
        if decision.pending and not at_stake and await self._stays(integration, record, prepared.grant):
            decision = replace(decision, pending=False)
        wanted_kind, unanswered = Kind.WITHDRAW if decision.withdraws else Kind.REVOKE, False
        if decision.action.acts and wanted_kind is not prepared.kind:
            try:
                prepared = self._inputs.prepared_orphan(integration, record, wanted_kind)
            except Blocked as error:
                decision, unanswered = _unable(record, over, error, pending=True, found=True), True
        return PlannedGrant(
            prepared.grant,
            record,
            decision,
            verdict,
            prepared,
            wanted=False,
            kind=wanted_kind,
            by_hand=by_hand or (record.revoking and record.run.by_hand),
            invitation=invitation,
            unanswered=unanswered,
        )

    async def _may_go(self, integration: Integration, record: Record) -> bool:
        """Whether an account would be revoked if nothing were missing to ask for it, as far as that can be told."""
        known = record.confirmed_at is not None and record.phase is not Phase.EXECUTED and not record.keep
        prunes = self._inputs.policy.removals and self._inputs.policy.settings.prunes(record.integration)
        may = known and prunes and bool(integration.manifest.revoke) and await self.required(record) is None
        return may and not await self._stays(integration, record, integration.orphan(record))

    async def _stays(self, integration: Integration, record: Record, orphan: Grant) -> bool:
        """Whether an account would not be revoked whatever its check found."""
        return (
            await self.same_as(integration, orphan) is not None or await self._first_error(record.key.hire) is not None
        )

    async def elsewhere(self, integration: Integration, record: Record, prepared: Prepared) -> str | None:
        """Return what is known of an account under the address that the hire has now, if git has another; or None.

        It was renamed there since, and is not gone. A grant that is still wanted may be found by it. What is kept apart
        for its address is about no other.
        """
        if record.key.access.endswith(APART + record.email):
            return None
        file = self._inputs.desired.hires.file(record.key.hire)
        address = None if file is None else file.email
        if address is None or address.lower() == record.email.lower():
            return None
        try:
            renamed = integration.under(prepared, address)
        except Blocked as error:
            return f"under {address}: {error}"
        verdict = await self._inputs.checker.check_directly(integration, renamed)
        if isinstance(verdict, Unknown):
            return f"under {address}: {verdict.reason}"
        if isinstance(verdict, Missing | NoCheck) or is_off(verdict):
            return None
        if await self.same_as(integration, integration.orphan(record, email=address)) is not None:
            return None
        return f"the account is under {address} now: remove it there"

    async def _stored(self, integration: Integration) -> Stored:
        """Return what is stored of an entry's account, also by its check: accounts are told apart by it.

        A listing stores nothing: what it saw is checked for it.
        """
        for item in self._beside:
            key, prepared, verdict = item.grant.key, item.prepared, item.verdict
            if item.grant.integration != integration.name or prepared is None or key in self._found:
                continue
            if integration.manifest.check_stores and isinstance(verdict, Present) and not verdict.stored:
                verdict = await self._inputs.checker.check_directly(integration, prepared)
            self._note(key, prepared, verdict)

        def stored(grant: Grant) -> Mapping[str, Any]:
            return {**self._inputs.stored_of(grant, NO_OUTPUTS).own, **self._found.get(grant.key, {})}

        return stored

    def _note(self, key: Key, prepared: Prepared, verdict: Verdict | None) -> None:
        stored = verdict.stored if isinstance(verdict, Present) else {}
        self._found[key] = {**prepared.stored.lent, **prepared.stored.own, **stored}

    async def same_as(self, integration: Integration, orphan: Grant) -> Key | None:
        """Return a grant that keeps the orphan's account, or None."""
        return next(iter(await self.all_same_as(integration, orphan)), None)

    async def all_same_as(self, integration: Integration, orphan: Grant) -> list[Key]:
        """Return the grants that keep the orphan's account.

        As long as an account stands under the address that its hire had before, it is its grant's all the same. What is
        over ends also where another grant is to begin on a later day.
        """
        counts = await self._counting(orphan.key.hire)
        wanted = {grant.key: grant for grant in self._inputs.desired.grants(orphan.key.hire) if grant.key in counts}
        now, known = self._inputs.policy.now, self._inputs.records.get(orphan.key)
        over = self._inputs.policy.expires and known is not None and is_over(known, now)
        as_recorded = [
            record
            for record in await self._inputs.rows_of(orphan.key.hire)
            if not is_over(record, now) and (_as_recorded(wanted.get(record.key), record) or self.unreadable(record))
        ]
        stored, unreadable = await self._stored(integration), self._inputs.unreadable
        keeps = partial(self._counts, over=over)
        return await self._inputs.same_accounts.of(
            integration, orphan, counts=keeps, stored=stored, as_recorded=as_recorded, unreadable=unreadable
        )

    async def _kept_as(self, integration: Integration, orphan: Grant) -> Key | None:
        """Return another grant of the hire that may only be reported, and has the orphan's account; or None."""
        rows = await self._inputs.rows_of(orphan.key.hire)
        others = (row for row in rows if row.may_remain and row.key != orphan.key)
        kept = self._inputs.desired.kept(orphan.key.hire, others)
        if not kept:
            return None
        stored, unreadable = await self._stored(integration), self._inputs.unreadable
        same = await self._inputs.same_accounts.of(
            integration, orphan, counts=_never, stored=stored, as_recorded=kept, unreadable=unreadable
        )
        return next(iter(same), None)

    async def required_of(self, integration: Integration, orphan: Grant, record: Record) -> str | None:
        """Return why the account of a record must not be lost, also where that is another grant's that is kept."""
        required = await self.required(record)
        if required is None and (kept := await self._kept_as(integration, orphan)) is not None:
            required = f"it is the same account as {kept}, which is kept"
        return required

    async def required(self, record: Record) -> str | None:
        """Return the rule by which its hire must have it; None if there is none, or something else that counts.

        A grant that git has and that is over does not count: else two that are would keep each other's account. Nor
        does one that is not there yet, or was lost.
        """
        rows = await self._counting(record.key.hire)
        there = {key for key, row in rows.items() if row is not None and row.acted_on and row.provided and not row.lost}
        return self._inputs.rules.requires(record, lambda grant: grant.key in there)

    async def _counts(self, grant: Grant, *, over: bool) -> bool:
        """Whether a grant that git has keeps its account: it is not over, and no request that is refused.

        Beside what is `over` one counts from its day on and if it fits, unless it was provided before.
        """
        counts, today = await self._counting(grant.key.hire), self._inputs.policy.today
        if grant.key not in counts:
            return False
        record = counts[grant.key]
        if not over or (record is not None and record.provided):
            return True
        fits = grant.hold is None or grant.hold.status is not Status.INVALID
        return fits and (grant.begins is None or grant.begins <= today)

    async def _counting(self, hire: str) -> dict[Key, Record | None]:
        """Return the grants by which a hire has an account, with their rows.

        None is over, or a request that is refused, or lacks a value, and never gave anything.
        """
        grants, known, now = self._inputs.desired.grants(hire), self._inputs.records, self._inputs.policy.now
        rows = dict[Key, Record]()
        if any(grant.key not in known for grant in grants):
            rows = {row.key: row for row in await self._inputs.rows_of(hire)}
        found = {**rows, **{grant.key: known[grant.key] for grant in grants if grant.key in known}}
        return {
            grant.key: record
            for grant in wanted_by(grants, found, now)
            if ((record := found.get(grant.key)) is not None and record.acted_on)
            or not (grant.refused or self._lacks_value(grant))
        }

    def _lacks_value(self, grant: Grant) -> bool:
        """Whether a request cannot be given because it lacks a value of the form."""
        integration = self._inputs.integrations.get(grant.integration)
        if grant.requested is None or integration is None or grant.choices:
            return False
        try:
            integration.prepare(grant, self._inputs.stored_of(grant, NO_OUTPUTS), kind=Kind.EXECUTE)
        except MissingVariable as error:
            return error.name in {field.id for field in integration.manifest.form}
        except Blocked:
            pass
        return False

    def unreadable(self, record: Record) -> str | None:
        """Return why the grant's file cannot be read, so that the grant is kept as it is; None if it can."""
        revoked = record.phase is Phase.REVOKED and record.locked is None  # of that nothing is left to keep
        return self._inputs.desired.holds(replace(record, origin=None) if revoked else record)

    async def _first_error(self, hire: str) -> str | None:
        """Return an error in the hire's files that keeps its grants from being revoked automatically, or None.

        A choice by name is compared with what the service offers, and an account with who else means it, also if this
        pass is for another service.
        """
        if (known := first_error(self._inputs.desired, hire)) is not None:
            return known
        grants = self._inputs.desired.grants(hire)
        elsewhere = {grant.key.access for grant in grants}
        rows = {row.key: row for row in await self._inputs.rows_of(hire)}
        for record in rows.values():
            requested = record.source.startswith(REQUESTS.folder)  # a request's file holds nothing but itself
            if record.phase is Phase.REVOKED or requested or record.key.access in elsewhere:
                continue
            if why := self.unreadable(record):  # what a sequence had given that is assigned, and cannot be read
                return why
        for grant in grants:
            integration = self._inputs.integrations.get(grant.integration)
            if not grant.choices or integration is None or grant.requested is not None:
                continue
            try:
                integration.ready(grant)
                await self._inputs.checker.resolved(integration, grant)
            except NotOffered as error:
                return _unfit_entry(grant, str(error))
            except Blocked:
                continue
        for grant in wanted_by(grants, rows, self._inputs.policy.now):
            fits = grant.hold is None and grant.requested is None
            if fits and (rival := await self._inputs.rival(grant, rows.get(grant.key))) is not None:
                return _unfit_entry(grant, rival)
        return None


def _no_action(record: Record, status: Status, reason: str) -> PlannedGrant:
    """Plan no action, for this reason."""
    decision = Decision(status, Action.NONE, reason)
    return PlannedGrant(record.as_grant(), record, decision, wanted=False)


def _unable(record: Record, over: str | None, why: Blocked, *, pending: bool, found: bool = False) -> Decision:
    """Leave an orphan that cannot be asked for, or that is `found` and cannot be taken away."""
    lacks = isinstance(why, MissingVariable) or why.cause is Cause.INITIAL_DATA
    reason, waits = f"{over or NOT_IN_GIT}; {why}", pending and (found or lacks)
    if waits and why.cause is None and not isinstance(why, HostNotAllowed):  # nobody adds to what the ledger has of it
        then = "" if found else f", and `reconcile revoke {' '.join(record.key)}`"
        reason = f"{reason}: remove the account there{then}"
    code = ReasonCode.UNABLE if waits else None
    return Decision(Status.ORPHANED, Action.NONE, reason, pending=pending, code=code)


async def _never(_grant: Grant) -> bool:
    """Count nothing that git has."""
    return False


def _as_recorded(grant: Grant | None, record: Record) -> bool:
    """Whether the account is the ledger's and not, or not only, what git has of the entry now."""
    if grant is None:
        return False
    refused = grant.refused or (grant.requested is not None and bool(grant.choices))  # it may name what is not offered
    return grant.email.lower() != record.email.lower() or (refused and record.acted_on)


def _to_be_revoked(record: Record) -> bool:
    """Whether no pass has tried yet to revoke what git no longer wants, or has decided that it does not."""
    if record.revoking or not record.may_remain:
        return False
    return record.orphaned_at is None or record.action is Action.REVOKE or record.uncounted


def _after(item: PlannedGrant, dependents: list[str]) -> PlannedGrant:
    """Let an orphan wait for the first of these, if it is to be revoked."""
    if not dependents or item.by_hand or item.decision.action is not Action.REVOKE:
        return item
    decision = replace(item.decision, reason=f"{item.decision.reason}; after {dependents[0]}, which needs it")
    return replace(item, decision=decision, prepared=None)


def _unfit_entry(grant: Grant, reason: str) -> str:
    """Say why an entry does not fit, and where it stands."""
    return f"{grant.source}: access {grant.key.access}: {reason}"
