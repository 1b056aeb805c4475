"""Change records by revocations and locks: a part of `transitions`, for what takes access away.

A revocation has succeeded once a check finds no account any more (docs/design/rules.md, "Removal"), a lock also once
the account is switched off. What is locked counts as an account that was never as git wants it: once the lock ends,
git is followed, and nothing of it is drift (docs/design/rules.md, "Locking somebody out").
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconciler.engine.apply.transitions import NOT_AS_WANTED, SETTLED, stated
from reconciler.engine.decide.wanted import NOT_IN_GIT, STILL_OPEN, STILL_THERE
from reconciler.ledger.entries import Event
from reconciler.model.ending import gone
from reconciler.model.grant import Decision, Grant, Kind, Phase, Record
from reconciler.model.lock import Lock, LockState
from reconciler.model.status import Action, EventType, Status
from reconciler.model.verdict import Account, Missing, NoCheck, Present, Unknown, Verdict

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import Prepared

__all__ = ["checked_locked", "ended", "lock_failed", "revoked", "sent"]

Ended = tuple[Record, list[Event]]


def ended(
    record: Record, left: Verdict, said: str, *, lock: Lock | None, deletes: bool, now: datetime, retry_delay: timedelta
) -> Ended | str:
    """Return the record after an attempt whose requests all succeeded, by what is `left`; or why it has failed.

    The last request was answered as `said`; `deletes` says whether what was sent takes the account itself away.
    """
    withdraws = record.run.kind.withdraws
    match left:
        case Present(account=Account.INVITED) if withdraws:
            return f"{said}; {STILL_OPEN}"
        case Present(account=Account.ACTIVE):
            return f"{said}; {STILL_THERE}"
        case Unknown() | Present(account=Account.INVITED):
            why = f"exists check failed: {left.reason}" if isinstance(left, Unknown) else "an invitation is open"
            if lock is not None:
                return lock_sent(record, lock, why, now=now, retry_delay=retry_delay), []
            return sent(record, why, now=now, retry_delay=retry_delay), []
        case _ if lock is not None:
            return locked_out(record, lock, left, now, deletes=withdraws or deletes)
        case _:
            return revoked(record, now)


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
        **gone(record),
        **NOT_AS_WANTED,
        **SETTLED,
    )
    events = [Event.of(record, EventType.REVOKED, f"attempt {record.attempts}", now)]
    if record.run.kind is Kind.WITHDRAW:
        events.insert(0, Event.of(record, EventType.WITHDRAWN, "the open invitation", now))
    return new, events


def checked_locked(
    record: Record,
    grant: Grant,
    decision: Decision,
    verdict: Verdict | None,
    prepared: Prepared | None,
    *,
    now: datetime,
    revision: str,
    wanted: bool,
) -> Ended:
    """Return the record of a grant after it was planned under a lock, and the events for the history."""
    new = replace(
        record,
        revision=revision or record.revision,
        **stated(decision.status, decision.action, decision.reason, code=decision.code, cause=decision.cause),
        locked=decision.locked,
        changed=False,
        differs={},
        guarded=False,
    )
    if wanted:
        new = replace(new, source=grant.source, origin=grant.origin, needs=grant.needs, orphaned_at=None)
    if decision.locked is LockState.DONE:
        deletes = grant.manifest is None or not grant.manifest.lock
        settled, lines = _done(new, verdict, now, deletes=deletes)
    else:
        settled, lines = _found(new, verdict, now)
    if prepared is not None and not record.leaves_something and settled.leaves_something:
        settled = replace(settled, email=prepared.grant.email, snapshot=prepared.snapshot)
    return settled, lines


def _found(record: Record, verdict: Verdict | None, now: datetime) -> Ended:
    """Return the record of an account that is not locked yet."""
    match verdict:
        case Unknown(reason):
            return replace(record, last_error=record.last_error if record.phase.unsettled else reason), []
        case Present(account=Account.ACTIVE):
            new, lines = _there(record, now)
            if record.unchecked:
                error = STILL_OPEN if record.run.kind.withdraws else STILL_THERE
                return replace(new, last_error=error), [*lines, Event.of(record, EventType.REVOKE_FAILED, error, now)]
            return new, lines
        case None | NoCheck():
            return record, []
        case _:
            return replace(record, checked_at=now), []


def _there(record: Record, now: datetime) -> Ended:
    """Return the record of an account that the check finds, and what the history has to know of it."""
    fields: dict[str, Any] = {"checked_at": now, "confirmed_at": record.confirmed_at or now}
    if record.phase.unsettled:
        return replace(record, **fields), []
    if record.phase is Phase.CONFIRMED:
        return replace(record, lost=False, **fields), []
    known = record.phase in (Phase.EXECUTED, Phase.DONE)
    event = EventType.CONFIRMED if known else EventType.ADOPTED
    new = replace(record, phase=Phase.CONFIRMED, last_error=None, lost=False, **fields)
    return new, [Event.of(record, event, "exists check: found", now)]


def _done(record: Record, verdict: Verdict | None, now: datetime, *, deletes: bool) -> Ended:
    """Return the record of an account that is locked, or of a grant that has none."""
    match verdict:
        case Present():
            return locked_out(record, None, verdict, now, deletes=False)
        case Missing():
            if record.phase is Phase.REVOKED or not record.leaves_something:
                return replace(record, checked_at=now, last_error=None, **SETTLED), []
            return locked_out(record, None, verdict, now, deletes=True)
        case NoCheck() if record.unchecked and record.run.kind.locks:
            return locked_out(record, None, verdict, now, deletes=deletes)
        case _:
            return record, []


def locked_out(record: Record, lock: Lock | None, left: Verdict, now: datetime, *, deletes: bool) -> Ended:
    """Return the record of an account that is locked: switched off, or gone.

    `lock` is given after an attempt. Where no check can tell, what was sent says so: whether it `deletes`.
    """
    off = isinstance(left, Present) or (isinstance(left, NoCheck) and not deletes)
    new, lines = record, list[Event]()
    if isinstance(left, Present):
        new, lines = _there(replace(record, phase=Phase.CONFIRMED) if record.revoking else record, now)
    elif isinstance(left, Missing):
        new = replace(new, checked_at=now)
    phase = Phase.REVOKED if not off else Phase.CONFIRMED if isinstance(left, Present) else Phase.DONE
    how = "switched off" if off else "gone"
    new = replace(new, phase=phase, off=off, lost=False, last_error=None, **NOT_AS_WANTED, **SETTLED)
    if lock is not None:
        shown = stated(Status.SUSPENDED, Action.NONE, f"{lock}; {how}")
        new = replace(new, **shown, locked=LockState.DONE)
    if not off:
        lines.append(Event.of(record, EventType.REVOKED, "locked out: gone", now))
    if not (off and record.off):
        lines.append(Event.of(record, EventType.LOCKED, how, now))
    return new, lines


def lock_sent(record: Record, lock: Lock, why: str, *, now: datetime, retry_delay: timedelta) -> Record:
    """Return the record after a lock whose requests all succeeded, while a check cannot say what came of it."""
    again = record.attempts <= 1
    return replace(
        record,
        phase=Phase.RETRYING if again else Phase.FAILED,
        **stated(Status.SUSPENDED, Action.NONE, f"{lock}; sent, not checked since: {why}"),
        locked=LockState.PENDING,
        open=replace(record.run, retry_at=now + retry_delay if again else None),
        last_error=None,
    )


def lock_failed(record: Record, lock: Lock) -> Record:
    """Return the record after an attempt to lock that failed."""
    again = record.phase is Phase.RETRYING
    return replace(
        record,
        **stated(Status.SUSPENDED, record.action, f"{lock}; not locked: {record.last_error}"),
        locked=LockState.PENDING if again else LockState.FAILED,
    )
