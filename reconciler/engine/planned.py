"""The inputs of planning, its result for one grant, and the attempt that follows from it, until it is settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reconciler.engine.apply import removals
from reconciler.engine.apply import transitions as records
from reconciler.engine.observe.checker import Checker
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.prepared import NOTHING, NOTHING_STORED, Lending, Prepared
from reconciler.engine.observe.same_account import Rivals, SameAccounts
from reconciler.ledger.entries import Attempt, Command, Event
from reconciler.ledger.vault import Memory, Stored, stored_for
from reconciler.model.decision_inputs import Policy
from reconciler.model.ending import acted_on, is_over, left, still_wanted
from reconciler.model.grant import Decision, Grant, Key, Kind, Outcome, Record, Step
from reconciler.model.lock import Lock, Locks
from reconciler.model.manifest import Request
from reconciler.model.status import EventType, Status
from reconciler.model.template import roots
from reconciler.model.value import value_class
from reconciler.model.verdict import Account, Invited, Missing, Present, Unknown, Verdict
from reconciler.repository.desired import Desired
from reconciler.repository.policy import Judge
from reconciler.requests.client import Response
from reconciler.requests.tasks import Pace

__all__ = ["AttemptRequest", "PlannedGrant", "PlanningInputs", "RunningAttempt", "Written"]


@value_class
class PlannedGrant:
    """A grant, what was observed, and the decision. `wanted` is False for what git no longer wants."""

    grant: Grant
    record: Record | None
    decision: Decision
    verdict: Verdict | None = None
    prepared: Prepared | None = field(default=None, repr=False)
    wanted: bool = True
    kind: Kind = Kind.EXECUTE
    by_hand: bool = False
    invitation: Invited | None = None
    as_it_is: bool = False
    """Whether what the ledger remembers is left alone, but for how it is shown."""
    lock: Lock | None = None
    """The lock of its person: then all that is done is to lock the account."""
    in_git: bool = True
    """Whether git still has the entry, wanted or not."""
    expired: bool = False
    """Whether its time is over, so that it is revoked whatever `prune` says."""
    unanswered: bool = False
    """Whether it is over, and nothing is done about it now for a reason that may pass: it is looked at again soon."""
    maker: str | None = None
    """The hire's entry that makes the same account in this pass: this one does not."""

    def written(self, now: datetime, revision: str) -> tuple[Record, list[Event]]:
        """Return the record after this observation and decision, and the events for the history."""
        record = self.record or records.first(self.grant, revision)
        seen = self.grant, self.decision, self.verdict, self.prepared
        if self.lock is not None:
            new, events = removals.checked_locked(record, *seen, now=now, revision=revision, wanted=self.wanted)
        elif self.as_it_is:
            new, events = records.kept_as_it_is(record, self.decision, now)
        else:
            new, events = records.checked(record, *seen, now=now, revision=revision, wanted=self.wanted)
        if record.over is None and not self.wanted and is_over(record, now):
            events.insert(0, Event.of(new, EventType.EXPIRED, self.decision.reason, now))
        ends = self._ends(record, now)
        return replace(new, **ends) if ends else new, events

    def _ends(self, record: Record, now: datetime) -> Mapping[str, Any]:
        """Return what the ledger keeps of the grant's end."""
        if self.as_it_is:
            return {"expire_at": None} if is_over(record, now) else {}
        if self.wanted:
            there = isinstance(self.verdict, Present) or self.decision.status is Status.UNCONFIRMED
            return acted_on(record, self.grant, now, found=there)
        gone = self.decision.status is Status.REVOKED
        return left(record, now, gone=gone, in_git=self.in_git, unanswered=self.unanswered)

    @property
    def exempt(self) -> bool:
        """Whether the guard neither counts nor holds it: a person named it, or its time is over by itself."""
        by_itself = self.expired and self.record is not None and not self.record.ends_moved
        return self.by_hand or by_itself or self.lock is not None

    @property
    def moved(self) -> bool:
        """Whether the row belonged to another service before."""
        return not self.as_it_is and self.record is not None and self.record.service != self.grant.service

    @property
    def seen(self) -> Mapping[str, Any]:
        """Return what the `store_data` of the check and of the open invitations saved."""
        seen = self.verdict.stored if isinstance(self.verdict, Present | Missing) else {}
        return {**seen, **self.invitation.stored} if self.invitation is not None else seen


Written = tuple[PlannedGrant, Record, list[Event]]
"""A planned grant, its record once it is written down, and the history's lines for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningInputs:
    """What is wanted, what is remembered, how to ask, and what the settings say about deciding.

    `records` are those of the pass; `rows_of` reads all of a hire's, `rows_of_others` other hires', `unreadable`
    those of everybody whose file cannot be read; `stored` is what `store_data` saved, by hire and entry; `by_hand` what
    somebody asks for.
    """

    desired: Desired
    integrations: Mapping[str, Integration]
    records: Mapping[Key, Record]
    rows_of: Callable[[str], Iterable[Record]]
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

    def lending(
        self, key: Key, service: str, needs: tuple[str, ...], needed: Mapping[str, PlannedGrant] = {}
    ) -> Lending:
        """Return the entries of the same service that an entry needs, directly or indirectly."""
        if not needs:
            return NOTHING
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
        return Lending(tuple(entries), frozenset(names))

    def stored_of(self, key: Key, service: str, lending: Lending) -> Stored:
        """Return what `store_data` saved for an entry and those it needs, at this service only."""
        if not (saved := self.stored.get(key.hire)):
            return NOTHING_STORED
        of_hire = {
            access: values
            for access, values in saved.items()
            if (record := self.records.get(Key(key.hire, access))) is not None and record.service == service
        }
        return stored_for(of_hire, key.access, lending.entries)

    def own_stored(self, key: Key, service: str) -> Mapping[str, Any]:
        """Return what `store_data` saved for an entry."""
        return self.stored_of(key, service, NOTHING).own


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRequest:
    """An attempt to make."""

    kind: Kind
    integration: Integration
    prepared: Prepared
    record: Record
    decision: Decision
    seen: Mapping[str, Any]
    """What the check's `store_data` saved."""
    wanted: Grant | None
    """The grant as it was planned; None if it is to be taken away."""
    by_hand: bool = False
    """Whether a person asks for it."""
    commands: Sequence[Command] = ()
    """The commands that asked for it."""
    lock: Lock | None = None
    """The lock that it is about."""
    left: Callable[[], Awaitable[Verdict]] | None = None
    """Checks what is left of an account that was to be taken away."""

    def acted_on(self, now: datetime) -> Record:
        """Return the record with when what is wanted was first acted on, which is now if it never was."""
        if self.wanted is None:
            return self.record
        return replace(self.record, **acted_on(self.record, self.wanted, now, found=True))

    @property
    def requests(self) -> tuple[Request, ...]:
        """Return the requests, in order."""
        return self.integration.requests(self.kind)

    @property
    def withdraws(self) -> int:
        """Return how many of the requests, the first ones, withdraw an invitation before the account is made."""
        return self.integration.withdraws(self.kind)

    @property
    def values(self) -> Mapping[str, Any]:
        """Return the values that the account has once it succeeds.

        What is done keeps those that it was sent with, but for those that the check has just found the account by.
        """
        requests = self.requests[: self.decision.resume]
        headers = () if all(request.headers for request in requests) else self.integration.manifest.headers
        done = roots([headers, *(request.model_dump() for request in requests)])
        kept = done - self.integration.asked_with
        sent = {name: value for name, value in self.record.run.values.items() if name in kept}
        return {**self.prepared.snapshot, **sent}

    @property
    def texts(self) -> tuple[str, ...]:
        """Return a digest of each request as the manifest writes it."""
        return self.integration.texts(self.kind)

    @property
    def continues(self) -> bool:
        """Whether it continues an unsettled chain of attempts of the same sort."""
        kind = self.record.run.kind
        same = kind.takes_away == self.kind.takes_away and kind.updates == self.kind.updates
        return self.record.phase.unsettled and same

    @property
    def notifies(self) -> bool:
        """Whether notifications go out after it, and generated values are made for it."""
        return self.kind.makes

    @property
    def unanswered(self) -> str:
        """Describe what a continuation cannot know: the answer of a request that counts as done, but was lost."""
        steps = (step for step in self.record.run.steps if step.index < self.decision.resume)
        lost = next((step for step in steps if step.outcome is not Outcome.DONE), None)
        if lost is None:
            return ""
        ways = " or ".join(f"`reconcile {verb} {' '.join(self.record.key)}`" for verb in ("accept", "run"))
        return f": the answer to request {lost.index + 1} never came; {ways}"


@dataclass(slots=True)
class RunningAttempt:
    """A running attempt, and its memory."""

    job: AttemptRequest
    record: Record
    attempt: Attempt
    memory: Memory
    kept: Mapping[str, bytes]
    """What the ledger has to keep from the beginning on, sealed."""
    detail: str
    noted: Mapping[str, Any]
    """What the ledger has as stored of the account."""
    said: str = ""
    """What the service answered last."""
    place: int = 0
    """Which request is sent, or was sent last."""
    made: bool = False
    """Whether an account was made, as far as the ledger knows: also while an answer is awaited."""
    effect: bool = False
    """Whether a request that may make the account was answered, or its answer lost, and not refused."""

    @property
    def begun(self) -> bool:
        """Whether it is in the ledger."""
        return self.attempt.id != 0

    @property
    def described(self) -> str:
        """Say what begins, and of what was asked for, who asked and why."""
        asked = None if self.job.wanted is None else self.job.wanted.requested
        return self.detail if asked is None else f"{self.detail}, {asked}"

    def leaves(self, step: Step) -> None:
        """Note that a request is about to leave, which may make the account."""
        self.made = self.effect or (step.mutates and step.index >= self.job.withdraws)

    def ended(self, outcome: Outcome) -> None:
        """Note what became of it."""
        if outcome is Outcome.REFUSED:
            self.made = self.effect
        else:
            self.effect = self.made

    @property
    def stored(self) -> Mapping[str, Any]:
        """What is stored of the account: of one that this attempt may have made, only what this attempt stored."""
        if self.job.kind.makes:
            return self.memory.stored if self.made else self.job.prepared.stored.own
        return {**self.job.prepared.stored.own, **self.memory.stored}

    def answered(self, answer: Response) -> str:
        """Describe a service's answer, if its status alone does not say what was wrong."""
        return f"answered {answer.status}{self.job.integration.client.excerpt(answer)}"
