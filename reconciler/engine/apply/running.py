"""An attempt: what is asked for, and what becomes of it while it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.decide.planned import PlannedGrant, Prepared, requests_of, withdraws_of
from reconciler.engine.observe.integrations import Integration
from reconciler.ledger.entries import Attempt, Command
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.vault import Memory
from reconciler.model.decision_inputs import acted_on, is_over, still_wanted
from reconciler.model.grant import Grant, Record
from reconciler.model.request import Request
from reconciler.model.run import Kind, Outcome, Step
from reconciler.model.template import roots
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Missing
from reconciler.repository.desired import Desired
from reconciler.requests.match import GONE
from reconciler.transports.messages import Response


class Overtaken(Exception):
    """A revision that was taken over since the plan no longer agrees with an attempt that has not begun."""


class AttemptRequest(Frozen, kw_only=True):
    """An attempt to make: what was planned, the record that was written down, and the commands that asked for it."""

    planned: PlannedGrant
    record: Record
    commands: Sequence[Command] = ()

    @property
    def kind(self) -> Kind:
        """Return the kind of attempt."""
        return self.planned.kind

    @property
    def prepared(self) -> Prepared:
        """Return what it is made from."""
        assert self.planned.prepared is not None
        return self.planned.prepared

    @property
    def requests(self) -> tuple[Request, ...]:
        """Return the requests, in order."""
        return requests_of(self.prepared.manifest, self.kind)

    @property
    def resume(self) -> int:
        """Return the place of the request at which it begins."""
        return self.planned.decision.resume

    @property
    def withdraws(self) -> int:
        """Return how many of the requests, the first ones, withdraw an invitation before the account is made."""
        return withdraws_of(self.prepared.manifest, self.kind)

    @property
    def may_be_gone(self) -> int:
        """Return of how many of the requests, the first ones, what they take away may be gone: that is no failure.

        An invitation may be, and, where the account is, all that goes with it.
        """
        gone = self.kind.withdraws or (self.kind.takes_away and isinstance(self.planned.verdict, Missing))
        return len(self.requests) if gone else self.withdraws

    @property
    def gone(self) -> set[str]:
        """Return what requests that are done were to store of what is gone."""
        place = min(self.resume, self.may_be_gone)
        steps = [step for step in self.record.run.steps if step.index < place and step.status in GONE]
        return {name for step in steps for name in self.requests[step.index].store_data}

    @property
    def wanted(self) -> Grant | None:
        """Return the grant as it was planned; None if it is to be taken away."""
        return self.planned.grant if self.planned.wanted else None

    def acted_on(self, now: datetime) -> Record:
        """Return the record with when what is wanted was first acted on, which is now if it never was."""
        if self.wanted is None:
            return self.record
        return replace(self.record, **acted_on(self.record, self.wanted, now, found=True))

    def values(self, asked_with: Collection[str]) -> Mapping[str, Any]:
        """Return the values that the account has once it succeeds.

        What is done keeps those that it was sent with, but for those that the check has just found the account by.
        """
        requests = self.requests[: self.resume]
        headers = () if all(request.headers for request in requests) else self.prepared.manifest.headers
        done = roots([headers, *(request.model_dump() for request in requests)])
        kept = done.difference(asked_with)
        sent = {name: value for name, value in self.record.run.values.items() if name in kept}
        return {**self.prepared.snapshot, **sent}

    @property
    def wants(self) -> Mapping[str, Any]:
        """Return what `where` asked for when the first of the requests was sent: what is done was made by that."""
        return self.record.wants if self.resume else self.prepared.wants

    @property
    def continues(self) -> bool:
        """Whether it continues an unsettled chain of attempts of the same sort."""
        one, other = self.record.run.kind, self.kind
        sort = (one.takes_away, one.locks, one.updates)
        return self.record.phase.unsettled and sort == (other.takes_away, other.locks, other.updates)

    @property
    def unanswered(self) -> str:
        """Describe what a continuation cannot know: the answer of a request that counts as done, but was lost."""
        steps = (step for step in self.record.run.steps if step.index < self.resume)
        lost = next((step for step in steps if step.outcome is not Outcome.DONE), None)
        if lost is None:
            return ""
        ways = " or ".join(f"`reconcile {verb} {' '.join(self.record.key)}`" for verb in ("accept", "run"))
        return f": the answer to request {lost.index + 1} never came; {ways}"


@dataclass(slots=True)
class RunningAttempt:
    """A running attempt, and its memory."""

    job: AttemptRequest
    integration: Integration
    record: Record
    attempt: Attempt
    memory: Memory
    kept: Mapping[str, bytes]
    """What the ledger has to keep from the beginning on, sealed."""
    detail: str
    noted: Mapping[str, Any]
    """What the ledger has as stored of the account."""
    gone: set[str]
    """What requests were to store of what is gone: nothing is sent that needs it."""
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

    def began(self, attempt: Attempt) -> None:
        """Note how the ledger has it."""
        if not self.begun:
            self.attempt = attempt
            self.record = replace(self.record, open=replace(self.record.run, id=attempt.run))

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
        return f"answered {answer.status}{self.integration.client.excerpt(answer)}"


async def refuse_overtaken(context: Context, ledger: OpenLedger, job: AttemptRequest, planned: Desired) -> None:
    """Raise Overtaken if by now git wants what would go, does not want so what would be made, or has other rules."""
    desired, record, now = context.last_desired, job.record, context.clock.now()
    assert desired is not None  # the plan's, or a newer one
    locks = desired.locks(await ledger.run(lambda reader: reader.locks.all()), now)
    if (locks.of(record.key.hire, job.prepared.grant.email) is None) != (job.planned.lock is None):
        raise Overtaken
    if job.planned.lock is not None:
        return
    found = desired.grant(record.key)
    wanted = found if found is not None and still_wanted(found, record, now) else None
    as_planned = wanted is None if job.wanted is None else wanted is not None and wanted.asks_as(job.wanted)
    broken = desired.holds(record) is not None and not is_over(record, now)
    if broken or not as_planned or not desired.rules_as(planned, record.integration) or await context.outdated():
        raise Overtaken
