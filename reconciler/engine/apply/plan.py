"""What a pass is to do, as a value: nothing that can ask a service, write or hold a claim hangs on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from reconciler.engine.apply import attempts, transitions
from reconciler.engine.decide.guard import Judgement
from reconciler.engine.decide.planned import PlannedGrant, Prepared
from reconciler.ledger.entries import CommandsByGrant, Event
from reconciler.model.clock import first_moment
from reconciler.model.decision_inputs import Policy, acted_on, is_over, left
from reconciler.model.errors import Problem
from reconciler.model.grant import Key, Record
from reconciler.model.lock import Lock
from reconciler.model.manifest import Manifest
from reconciler.model.report import Report, Row
from reconciler.model.secret import Redactor
from reconciler.model.selection import Selection
from reconciler.model.status import EventType, Status
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Present, is_off

PlannedRecord = tuple[PlannedGrant, Record, list[Event]]
"""A planned grant, its record once it is written down, and the history's lines for it."""


class Plan(Frozen, kw_only=True):
    """What to do about each grant of a selection at a revision.

    `rows` are the ledger's as they were read, `renamed` the moves to other names, `dropped` the grants that were never
    executed, `followed` the locks whose person has another file or address by now. `judgement` is the guard's,
    `commands` are the manual commands for the grants.
    """

    revision: str
    policy: Policy
    manifests: Mapping[str, Manifest]
    selection: Selection
    rows: Mapping[Key, Record]
    grants: tuple[PlannedGrant, ...]
    dropped: tuple[Record, ...]
    renamed: Mapping[Key, Key]
    problems: tuple[Problem, ...]
    commands: CommandsByGrant = {}
    judgement: Judgement = Judgement()
    followed: tuple[Lock, ...] = ()

    def record_of(self, item: PlannedGrant) -> tuple[Record, list[Event]]:
        """Return a grant's record after this plan's observation and decision, and the events for the history."""
        return written(item, self.policy.now, self.revision)[1:]

    def row(self, item: PlannedGrant, record: Record, redactor: Redactor) -> Row:
        """Return how a planned grant is shown, with the requests to be sent, if any."""
        manifest = self.manifests.get(item.grant.integration)
        maker = item.maker if record.action.acts else None
        prepared = item.prepared if record.action.acts and maker is None else None
        row = Row.of(
            record,
            grant=item.grant,
            expired=item.expired,
            form=() if manifest is None else (each.id for each in manifest.form),
            person=item.person,
            begins=first_moment(item.grant.begins, self.policy.settings.timezone),
        )
        reason = row.reason if maker is None else f"{row.reason}; {maker} makes the same account"
        asks = tuple if prepared is None else partial(_asks, item, prepared, redactor)
        return replace(row, guarded=item.decision.guarded, reason=reason, asks=asks)

    def report(self, redactor: Redactor) -> Report:
        """Return what a dry run shows."""
        report = Report(self.revision, dry_run=True, problems=list(self.problems))
        report.rows = [self.row(item, self.record_of(item)[0], redactor) for item in self.grants]
        return report


def _asks(item: PlannedGrant, prepared: Prepared, redactor: Redactor) -> tuple[Mapping[str, Any], ...]:
    """Return the requests that would be sent for a grant, from the one at which it would begin."""
    requests, redact = prepared.shown(item.kind, item.seen)[item.decision.resume :], redactor.redact_all
    return tuple({**each, "url": redact(each["url"]), "body": redact(each["body"])} for each in requests)


def written(item: PlannedGrant, now: datetime, revision: str) -> PlannedRecord:
    """Return a grant's record after its observation and decision, and the events for the history."""
    record = item.record or transitions.first(item.grant, revision)
    if item.lock is not None:
        new, events = attempts.checked_locked(record, item, now, revision)
    elif item.untouched:
        new, events = transitions.left_untouched(record, item.decision, now)
    else:
        new, events = transitions.checked(record, item, now, revision)
    if not (item.wanted or record.ended) and is_over(record, now):
        events.insert(0, Event.of(new, EventType.EXPIRED, item.decision.reason, now))
    ends = _ends(item, record, now)
    return item, replace(new, **ends) if ends else new, events


def _ends(item: PlannedGrant, record: Record, now: datetime) -> Mapping[str, Any]:
    """Return what the ledger keeps of the grant's end."""
    if item.untouched:
        return {"expire_at": None} if is_over(record, now) else {}
    if item.wanted:
        there = isinstance(item.verdict, Present) or item.decision.status is Status.UNCONFIRMED
        there = there and not (item.lock is not None and is_off(item.verdict))  # nobody has it by that
        return acted_on(record, item.grant, now, found=there)
    there = item.decision.status is not Status.REVOKED
    in_git, ran_out = item.in_git, item.ran_out
    return left(record, now, there=there, in_git=in_git, unanswered=item.unanswered, ran_out=ran_out)
