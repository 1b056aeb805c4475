"""Change records by attempts: a part of `transitions`, from when one begins until its requests have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.engine.apply.transitions import SETTLED, Events, stated, with_events
from reconciler.engine.decide.existing import not_seen
from reconciler.ledger.entries import Event
from reconciler.model.grant import Kind, OpenRun, Phase, Record
from reconciler.model.status import Action, EventType, Status

__all__ = ["begun", "failed", "succeeded", "updated", "written"]


def begun(
    record: Record,
    *,
    number: int,
    digest: str | None,
    snapshot: Mapping[str, Any],
    wants: Mapping[str, Any],
    resumed: bool,
    kind: Kind,
    by_hand: bool,
) -> Record:
    """Return the record when an attempt is about to start; a run that is not continued forgets the one before.

    `snapshot` is what the attempt is made with: once it succeeds, the account has these values.
    """
    return replace(
        record,
        attempts=number,
        snapshot=snapshot if kind.takes_away else record.snapshot,
        wants=record.wants if kind.takes_away else dict(wants),
        fresh=False,
        open=OpenRun(
            kind=kind,
            id=record.run.id if resumed else None,
            digest=digest,
            values={} if kind.takes_away else snapshot,
            by_hand=by_hand,
            steps=record.run.steps if resumed else (),
        ),
    )


def written(record: Record, run: int) -> Record:
    """Return the record once its attempt is in the ledger, as part of this run."""
    return replace(record, open=replace(record.run, id=run))


def succeeded(
    record: Record, *, webhook: bool, heals: bool, now: datetime, answered: str = ""
) -> tuple[Record, list[Event]]:
    """Return the record after an attempt whose requests all succeeded; the last one was `answered` so."""
    new = replace(
        record,
        phase=Phase.DONE if webhook else Phase.EXECUTED,
        **stated(
            Status.DONE if webhook else Status.UNCONFIRMED,
            Action.NONE,
            "it ran" if webhook else not_seen("executed; the exists check does not see it yet", answered),
        ),
        answered=answered,
        changed=False,
        differs={},
        email=str(record.run.values.get("email", record.email)),
        snapshot=record.run.values or record.snapshot,
        off=record.off and not webhook,
        executed_at=now,
        healed_at=now if heals else record.healed_at,
        lost=False,
        last_error=None,
        as_wanted_at=None,
        updated_at=None,
        accepted={},
        invitations=record.invitations + 1,
        **SETTLED,
    )
    events: Events = [(EventType.WITHDRAWN, "before another invitation")] if record.run.kind is Kind.REINVITE else []
    events.append((EventType.EXECUTED, f"attempt {record.attempts}"))
    if heals:
        events.append((EventType.HEALED, "drift was provisioned again"))
    return with_events(new, events, now)


def updated(record: Record, *, webhook: bool, now: datetime, answered: str = "") -> tuple[Record, list[Event]]:
    """Return the record after an update whose requests all succeeded; the check has not seen it yet."""
    heals = record.run.kind is Kind.MEND
    new = replace(
        record,
        phase=Phase.DONE if webhook else Phase.CONFIRMED,
        **stated(
            Status.DONE if webhook else Status.DIFFERS,
            Action.NONE,
            "it ran" if webhook else not_seen("updated; the check does not see it yet", answered),
        ),
        answered=answered,
        changed=False,
        differs={} if webhook else record.differs,
        snapshot={**record.snapshot, **record.run.values},
        off=record.off and not webhook,
        updated_at=None if webhook else now,
        as_wanted_at=None,
        healed_at=now if heals else record.healed_at,
        lost=False,
        last_error=None,
        accepted={},
        **SETTLED,
    )
    events: Events = [(EventType.UPDATED, f"attempt {record.attempts}")]
    if heals:
        events.append((EventType.HEALED, "drift was updated"))
    return with_events(new, events, now)


def failed(
    record: Record, error: str, *, now: datetime, at: datetime, retry_delay: timedelta, interrupted: bool = False
) -> tuple[Record, list[Event]]:
    """Return the record after an attempt that failed at `at`: one retry, then nothing more automatically.

    See docs/design/rules.md, "The ledger and the retry".
    """
    again = record.attempts <= 1
    prefix = "revoke: " if record.revoking else ""
    new = replace(
        record,
        phase=Phase.RETRYING if again else Phase.FAILED,
        **stated(
            Status.RETRYING if again else Status.FAILED, Action.WAIT if again else Action.NONE, f"{prefix}{error}"
        ),
        open=replace(record.run, retry_at=at + retry_delay if again else None),
        last_error=error,
        changed=record.changed and record.run.kind.updates,
    )
    event = EventType.ATTEMPT_INTERRUPTED if interrupted else EventType.ATTEMPT_FAILED
    events: Events = [(event, f"{prefix}attempt {record.attempts}: {error}")]
    if record.revoking:
        events.append((EventType.REVOKE_FAILED, error))
    return with_events(new, events, now)
