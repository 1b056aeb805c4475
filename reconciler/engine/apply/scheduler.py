"""Carry a plan out: attempts run concurrently, each after those that it depends on.

A hire's entries come after those that they need; revocations run in the reverse order, one after another
(docs/design/rules.md, "Removal"). After an attempt the account is checked again, and notifications are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from reconciler.engine.apply.claims import ClaimSet
from reconciler.engine.apply.commands import request_events
from reconciler.engine.apply.executor import Executor
from reconciler.engine.apply.plan import written
from reconciler.engine.apply.running import AttemptRequest, Overtaken
from reconciler.engine.apply.transitions import waiting
from reconciler.engine.decide.existing import Facts, found, webhook
from reconciler.engine.decide.orphans import dependents_first, gone, why_over
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.decide.wanted import decide
from reconciler.engine.observe.integrations import Integration
from reconciler.ledger.entries import Command, Event
from reconciler.model.clock import Stopped
from reconciler.model.grant import Decision, Key, Record
from reconciler.model.report import Report
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Missing, NoCheck, Present, Unknown, Verdict, is_off
from reconciler.notify.delivery import Notifications
from reconciler.requests.tasks import run_all

Recorded = dict[Key, tuple[PlannedGrant, Record]]
"""What was planned, each with the record that was written down for it."""


def acts(item: PlannedGrant) -> bool:
    """Whether a plan acts on a grant now."""
    return item.prepared is not None and item.decision.action.acts


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """Runs the attempts of one pass."""

    claims: ClaimSet
    recorded: Recorded
    executor: Executor
    notifications: Notifications
    report: Report
    _after: dict[Key, Record] = field(default_factory=dict)
    _finished: dict[Key, asyncio.Event] = field(default_factory=dict)
    _queues: dict[str, list[Key]] = field(default_factory=dict)
    """Each hire's revocations, in their order."""
    _tells: dict[Key, Record] = field(default_factory=dict)
    """What was executed, and has notifications."""

    async def run(self) -> dict[Key, Record]:
        """Make every attempt that is planned, and return the new records by grant."""
        jobs = {key: (item, record) for key, (item, record) in self.recorded.items() if acts(item)}
        self._finished = {key: asyncio.Event() for key in jobs}
        orphans: dict[str, list[PlannedGrant]] = {}
        for key, (item, _) in jobs.items():
            if not item.wanted and item.lock is None:
                orphans.setdefault(key.hire, []).append(item)
        needs: dict[str, dict[str, tuple[str, ...]]] = {hire: {} for hire in orphans}
        for key, (item, _) in self.recorded.items():
            if key.hire in needs:
                needs[key.hire][key.access] = item.grant.needs
        self._queues = {hire: dependents_first(theirs, needs[hire]) for hire, theirs in orphans.items()}
        await run_all(self._one(item, record) for item, record in jobs.values())
        return self._after

    async def _one(self, item: PlannedGrant, record: Record) -> None:
        """Make one grant's attempt. If shutdown or another revision comes before it, keep the planned record."""
        key = item.grant.key
        try:
            for other in self._before(item):
                await self._finished[other].wait()
            with suppress(Stopped):
                await self.executor.pause()
                self._after[key] = await self._act(item, record)
        except Overtaken:
            self.claims.leave(key)
        finally:
            self._finished[key].set()
            self.claims.release(key)
        # Nobody waits for a mail server: the access may have to go meanwhile.
        if (made := self._tells.get(key)) is not None:
            await self.notifications.deliver(self.executor.ledger, self.executor.vault, made, self.executor.author)

    def _before(self, item: PlannedGrant) -> list[Key]:
        """Return the grants whose attempts have to end first."""
        key = item.grant.key
        if item.lock is not None:
            return []
        if not item.wanted:
            queue = self._queues[key.hire]
            return queue[: queue.index(key)]
        needed = (Key(key.hire, need) for need in (*item.grant.needs, *([item.maker] if item.maker else ())))
        return [other for other in needed if other in self._finished and other != key]

    async def _act(self, item: PlannedGrant, record: Record) -> Record:
        """Make an attempt, unless it is shown that none is needed any more, or has to wait. Returns the new record."""
        provides = item.wanted and item.lock is None
        if provides and not record.provided and (reason := self._unmet(item)) is not None:
            return await self._settle(waiting(record, reason))
        if item.maker is not None:
            return await self._made(item.maker, item, record)
        revokes = not item.wanted and item.lock is None
        # An invitation is open although its check finds no account.
        first = revokes and item.decision.action is Action.REVOKE and not item.decision.withdraws
        if first and self._revoked_another(item) and (gone := await self._gone(item, record)) is not None:
            return gone
        commands = self.executor.plan.commands.get(item.grant.key, ())
        new = await self.executor.attempt(AttemptRequest(planned=item, record=record, commands=commands))
        if new.unchecked:
            return new
        if new.phase.unsettled:
            self.report.failures += 1
        elif revokes:
            self.report.revoked += 1
            if item.expired and record.ends_at is not None:
                self.report.expired.append(self.executor.now() - record.ends_at)
        elif provides:
            self.report.executed += 1
            if self._integration(item).manifest.post_execute_notification:
                self._tells[item.grant.key] = new
            return await self._confirmed(item, new)
        return new

    def _integration(self, item: PlannedGrant) -> Integration:
        return self.executor.services.integrations[item.grant.integration]

    async def _check(self, item: PlannedGrant) -> Verdict:
        """Check a grant's account once more."""
        assert item.prepared is not None
        return await self.executor.services.checker.check_directly(self._integration(item), item.prepared)

    async def _confirmed(self, item: PlannedGrant, record: Record) -> Record:
        """Check again after an attempt. Returns the record: `present` if the account is found as wanted."""
        verdict = await self._check(item)
        if isinstance(verdict, Missing | Unknown):
            record = replace(record, checked_at=self.executor.now())
            await self._save([record], ())
            return record
        integration, did = self._integration(item), "updated" if item.kind.updates else "executed"
        assert item.prepared is not None
        # A request that was done before the last attempt had the values of its time.
        facts = Facts(verdict, integration.manifest, changes=integration.changes(item.prepared, record, verdict))
        policy = replace(self.executor.plan.policy, now=self.executor.now())
        seen = webhook(record, facts) if isinstance(verdict, NoCheck) else found(record, verdict, facts, policy)
        if seen.status is Status.PRESENT:
            seen = replace(seen, reason=f"{did}; {seen.reason}")
        confirmed, lines = self._written(item, record, seen, verdict)
        await self._save([confirmed], self.executor.authored(lines))
        return confirmed

    def _revoked_another(self, item: PlannedGrant) -> bool:
        """Whether this pass already revoked another account of the hire at this service: it may be the same."""
        return any(
            (record.status is Status.REVOKED or record.unchecked) and record.service == item.grant.service
            for other in self._before(item)
            if (record := self._after.get(other)) is not None
        )

    async def _made(self, maker: str, item: PlannedGrant, record: Record) -> Record:
        """Check a grant whose account another entry makes in this pass, and return its record."""
        verdict = await self._check(item)
        decision = decide(item.record, Facts(verdict, self._integration(item).manifest), self.executor.plan.policy)
        if decision.action.provides and not isinstance(verdict, Present):
            other = self._after.get(Key(record.key.hire, maker))
            why = f"{other.status}: {other.reason}" if other is not None else "not made yet"
            decision = Decision(Status.SCHEDULED, Action.WAIT, f"{maker} makes the same account, and is {why}")
        return await self._settle(*self._written(item, record, decision, verdict))

    async def _gone(self, item: PlannedGrant, record: Record) -> Record | None:
        """Check an orphan once more. Returns its record if the account is gone, else None."""
        verdict = await self._check(item)
        if not (isinstance(verdict, Missing) or is_off(verdict)):
            return None
        decision = gone(why_over(record, self.executor.services.desired, self.executor.now()))
        return await self._settle(*self._written(item, record, decision, verdict))

    def _written(
        self, item: PlannedGrant, record: Record, decision: Decision, verdict: Verdict
    ) -> tuple[Record, list[Event]]:
        """Return a grant's record after another check, and the events for the history."""
        seen = replace(item, record=record, decision=decision, verdict=verdict)
        return written(seen, self.executor.now(), self.executor.plan.revision)[1:]

    async def _settle(self, record: Record, lines: Iterable[Event] = ()) -> Record:
        """Save and return the record of a grant that no attempt is made for, and answer its commands."""
        commands = self.executor.plan.commands.get(record.key, ())
        events = [*request_events(commands, self.executor.now(), [record]), *self.executor.authored(lines)]
        await self._save([record], events, answered=commands)
        return record

    async def _save(self, found: list[Record], lines: Iterable[Event], *, answered: Sequence[Command] = ()) -> None:
        ledger = self.executor.ledger
        await ledger.together(lambda writer: writer.save(found, lines, answered=answered))

    def _unmet(self, item: PlannedGrant) -> str | None:
        """Return why an entry that this one needs was not provided by this pass, or None."""
        for need in item.grant.needs:
            other = Key(item.grant.key.hire, need)
            record = self._after.get(other) or (self.recorded[other][1] if other in self.recorded else None)
            if record is None or record.status.granted:
                continue
            seen = self.recorded[other][0].verdict if other in self.recorded else None
            if is_off(seen) or record.status is not Status.DIFFERS:  # what differs is there
                return f"needs {need}, which is {record.status}: {record.reason}"
        return None
