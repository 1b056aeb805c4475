"""Change records by revocations: a part of `transitions`, for what a revocation leaves.

It has succeeded once a check finds no account any more (docs/design/rules.md, "Removal").
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.engine.decide import NOT_IN_GIT
from reconciler.engine.transitions import NOT_AS_WANTED, SETTLED, stated
from reconciler.ledger.entries import Event
from reconciler.model.grant import Kind, Phase, Record
from reconciler.model.status import Action, EventType, Status

__all__ = ["revoked", "sent"]


def sent(record: Record, why: str, *, now: datetime, retry_delay: timedelta) -> Record:
    """Return the record after a revocation whose requests all succeeded, while a check cannot say what came of it.

    It is checked like other orphans; if the account is still there, this attempt has failed.
    """
    again = record.attempts <= 1
    return replace(
        record,
        phase=Phase.RETRYING if again else Phase.FAILED,
        **stated(Status.ORPHANED, Action.NONE, f"{NOT_IN_GIT}; revoked, not checked since: {why}"),
        open=replace(record.run, retry_at=now + retry_delay if again else None),
        last_error=None,
    )


def revoked(record: Record, now: datetime) -> tuple[Record, list[Event]]:
    """Return the record after a revocation."""
    new = replace(
        record,
        phase=Phase.REVOKED,
        **stated(Status.REVOKED, Action.NONE, "revoked"),
        last_error=None,
        **NOT_AS_WANTED,
        **SETTLED,
    )
    events = [Event.of(record, EventType.REVOKED, f"attempt {record.attempts}", now)]
    if record.run.kind is Kind.WITHDRAW:
        events.insert(0, Event.of(record, EventType.WITHDRAWN, "the open invitation", now))
    return new, events
