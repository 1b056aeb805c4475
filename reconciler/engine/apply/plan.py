"""What a pass is to write down, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from reconciler.engine.apply import removals, transitions
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.ledger.entries import Event
from reconciler.model.ending import acted_on, is_over, left
from reconciler.model.grant import Record
from reconciler.model.status import EventType, Status
from reconciler.model.verdict import Present

__all__ = ["Written", "written"]

Written = tuple[PlannedGrant, Record, list[Event]]
"""A planned grant, its record once it is written down, and the history's lines for it."""


def written(item: PlannedGrant, now: datetime, revision: str) -> Written:
    """Return a grant's record after its observation and decision, and the events for the history."""
    record = item.record or transitions.first(item.grant, revision)
    seen = item.grant, item.decision, item.verdict, item.prepared
    if item.lock is not None:
        new, events = removals.checked_locked(record, *seen, now=now, revision=revision, wanted=item.wanted)
    elif item.as_it_is:
        new, events = transitions.kept_as_it_is(record, item.decision, now)
    else:
        new, events = transitions.checked(record, *seen, now=now, revision=revision, wanted=item.wanted)
    if record.over is None and not item.wanted and is_over(record, now):
        events.insert(0, Event.of(new, EventType.EXPIRED, item.decision.reason, now))
    ends = _ends(item, record, now)
    return item, replace(new, **ends) if ends else new, events


def _ends(item: PlannedGrant, record: Record, now: datetime) -> Mapping[str, Any]:
    """Return what the ledger keeps of the grant's end."""
    if item.as_it_is:
        return {"expire_at": None} if is_over(record, now) else {}
    if item.wanted:
        there = isinstance(item.verdict, Present) or item.decision.status is Status.UNCONFIRMED
        return acted_on(record, item.grant, now, found=there)
    gone = item.decision.status is Status.REVOKED
    return left(record, now, gone=gone, in_git=item.in_git, unanswered=item.unanswered)
