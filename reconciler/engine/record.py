"""How a record changes: the only place where statuses and phases are written.

Each function takes what the ledger remembers and what has happened, and gives the new record with the lines that the
history gets. Nothing here decides; `plan` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.ledger.store import Happening
from reconciler.model.grant import Decision, Grant, Outcome, Phase, Record
from reconciler.model.status import Action, Event, Status
from reconciler.model.verdict import Missing, NoCheck, Present, Unknown, Verdict

__all__ = ["begun", "checked", "failed", "first", "held_where_it_is", "remembered", "revoked", "succeeded"]

UNSETTLED = (Phase.RETRYING, Phase.FAILED)


def first(grant: Grant, revision: str | None) -> Record:
    """The record of a grant that the ledger does not know yet."""
    return Record(
        key=grant.key,
        email=grant.email,
        integration=grant.integration,
        service=grant.service,
        source=grant.source,
        origin=grant.origin,
        needs=grant.needs,
        revision=revision,
    )


def remembered(record: Record, now: datetime, retry_delay: timedelta) -> Record:
    """The record as it counts now: a retry further ahead than the delay comes from a clock that jumped (STATES.md)."""
    if record.retry_at is not None and record.retry_at > now + retry_delay:
        return replace(record, retry_at=now + retry_delay)
    return record


def checked(
    record: Record,
    grant: Grant,
    decision: Decision,
    verdict: Verdict | None,
    *,
    now: datetime,
    snapshot: Mapping[str, Any] | None = None,
    revision: str | None = None,
    wanted: bool = True,
) -> tuple[Record, list[Happening]]:
    """The record after a look at the grant. `verdict` is None where no check was made; `wanted` is False for an orphan.

    `snapshot` is the hire's and the form's values as they are now.
    """
    lines: list[tuple[Event, str]] = []
    new = replace(
        record,
        integration=grant.integration,
        service=grant.service,
        source=grant.source,
        origin=grant.origin,
        needs=grant.needs,
        revision=revision or record.revision,
        status=decision.status,
        action=decision.action,
        reason=decision.reason,
        changed=decision.changed,
    )
    if decision.afresh and new.phase in UNSETTLED:
        new = replace(new, attempts=0)
    if isinstance(verdict, Present | Missing | Unknown):
        new = replace(new, checked_at=now)
    if (record.status is Status.BLOCKED) != (decision.status is Status.BLOCKED):
        blocked = decision.status is Status.BLOCKED
        lines.append((Event.BLOCKED, decision.reason) if blocked else (Event.UNBLOCKED, str(decision.status)))
    if wanted and record.phase is Phase.REVOKED and verdict is not None:
        # After a revocation it is a new grant, never drift (STATES.md).
        new = replace(new, phase=Phase.NEW, executed_at=None, confirmed_at=None, healed_at=None, attempts=0, lost=False)
    if wanted and record.revoking:
        settled = Phase.CONFIRMED if record.confirmed_at else Phase.NEW
        new = replace(new, revoking=False, phase=settled, run=None, retry_at=None, attempts=0)
    if wanted != (record.orphaned_at is None):
        new = replace(new, orphaned_at=None if wanted else now)
        if not wanted:
            lines.append((Event.ORPHANED, decision.reason))
    if new.phase is Phase.NEW:
        new = replace(new, email=grant.email, snapshot=snapshot or new.snapshot)

    match verdict:
        case Present(under=None) if decision.status is Status.PRESENT:
            new, event = _found(new, grant, snapshot, now)
            lines += [event] if event else []
        case Present(under=None) if not wanted and new.confirmed_at is None:
            new = replace(new, confirmed_at=now)
        case Missing() if decision.status is Status.REVOKED:
            new = replace(new, phase=Phase.REVOKED, revoking=False, run=None, retry_at=None)
            lines.append((Event.REVOKED, "found gone"))
        case Missing() if new.phase is Phase.CONFIRMED and not new.lost:
            new = replace(new, lost=True)
            lines.append((Event.LOST, decision.reason))
        case Unknown(reason) if new.phase not in UNSETTLED:
            new = replace(new, last_error=reason)
        case NoCheck() if new.phase is Phase.EXECUTED:
            new = replace(new, phase=Phase.DONE)
        case _:
            pass
    return new, [_line(new, event, detail, now) for event, detail in lines]


def _found(
    record: Record, grant: Grant, snapshot: Mapping[str, Any] | None, now: datetime
) -> tuple[Record, tuple[Event, str] | None]:
    event: tuple[Event, str] | None = None
    new = replace(record, email=grant.email, last_error=None, lost=False)
    match record.phase:
        case Phase.CONFIRMED:
            event = (Event.CONFIRMED, "found again") if record.lost else None
        case Phase.EXECUTED | Phase.DONE:
            event = (Event.CONFIRMED, "exists check: found")
            new = replace(new, phase=Phase.CONFIRMED, confirmed_at=now)
        case _:
            event = (Event.ADOPTED, "exists check: found")
            new = replace(
                new,
                phase=Phase.CONFIRMED,
                confirmed_at=now,
                snapshot=snapshot or record.snapshot,
                run=None,
                retry_at=None,
                fresh=False,
            )
    return new, event


def held_where_it_is(record: Record, status: Status, reason: str) -> Record:
    """The record of a grant whose file is broken: shown as held, otherwise left as it is."""
    return replace(record, status=status, action=Action.NONE, reason=reason)


def begun(
    record: Record, *, number: int, digest: str | None, snapshot: Mapping[str, Any], resumed: bool, revoking: bool
) -> Record:
    """The record once an attempt is about to start; a run that is not continued forgets the one before."""
    return replace(
        record,
        attempts=number,
        digest=digest,
        snapshot=snapshot,
        run=record.run if resumed else None,
        fresh=False,
        revoking=revoking,
        retry_at=None,
    )


def succeeded(record: Record, *, webhook: bool, heals: bool, now: datetime) -> tuple[Record, list[Happening]]:
    """The record after an attempt whose requests all succeeded."""
    new = replace(
        record,
        phase=Phase.DONE if webhook else Phase.EXECUTED,
        status=Status.DONE if webhook else Status.UNCONFIRMED,
        action=Action.NONE,
        reason="it ran" if webhook else "executed; the exists check does not see it yet",
        changed=False,
        email=str(record.snapshot.get("email", record.email)),
        executed_at=now,
        healed_at=now if heals else record.healed_at,
        lost=False,
        last_error=None,
        retry_at=None,
        run=None,
    )
    lines = [_line(new, Event.EXECUTED, f"attempt {record.attempts}", now)]
    if heals:
        lines.append(_line(new, Event.HEALED, "drift was provisioned again", now))
    return new, lines


def revoked(record: Record, now: datetime) -> tuple[Record, list[Happening]]:
    """The record after a revocation."""
    new = replace(
        record,
        phase=Phase.REVOKED,
        status=Status.REVOKED,
        action=Action.NONE,
        reason="revoked",
        revoking=False,
        last_error=None,
        retry_at=None,
        run=None,
    )
    return new, [_line(new, Event.REVOKED, f"attempt {record.attempts}", now)]


def failed(
    record: Record, error: str, *, now: datetime, at: datetime, retry_delay: timedelta, interrupted: bool = False
) -> tuple[Record, list[Happening]]:
    """The record after an attempt that failed at `at`: one retry, then nothing more on its own (DESIGN section 3)."""
    again = record.attempts <= 1
    prefix = "revoke: " if record.revoking else ""
    new = replace(
        record,
        phase=Phase.RETRYING if again else Phase.FAILED,
        status=Status.RETRYING if again else Status.FAILED,
        action=Action.WAIT if again else Action.NONE,
        reason=f"{prefix}{error}",
        retry_at=at + retry_delay if again else None,
        last_error=error,
        changed=False,
    )
    event = Event.ATTEMPT_INTERRUPTED if interrupted else Event.ATTEMPT_FAILED
    lines = [_line(new, event, f"{prefix}attempt {record.attempts}: {error}", now)]
    if record.revoking and not again:
        lines.append(_line(new, Event.REVOKE_FAILED, error, now))
    return new, lines


def complete(steps: Any, total: int) -> bool:
    """Whether every request of a run was answered with success."""
    done = [step.index for step in steps if step.outcome is Outcome.DONE]
    return total > 0 and sorted(done) == list(range(total))


def _line(record: Record, event: Event, detail: str, now: datetime) -> Happening:
    return Happening(now, record.key, record.integration, event, detail, record.revision)
