"""Change records by attempts and by locks: a part of `transitions`.

A revocation has succeeded once a check finds no account any more (docs/design/rules.md, "Removal"), a lock also once
the account is switched off. What is locked counts as an account that was never as git wants it: once the lock ends,
git is followed, and nothing of it is drift (docs/design/rules.md, "Locking somebody out").
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reconciler.engine.apply.transitions import NOT_AS_WANTED, SETTLED, Changed, Events, decided, stated, with_events
from reconciler.engine.decide.existing import not_seen
from reconciler.engine.decide.orphans import NOT_IN_GIT, STILL_OPEN, STILL_THERE
from reconciler.ledger.entries import Event
from reconciler.model.decision_inputs import gone
from reconciler.model.grant import Phase, Record
from reconciler.model.lock import Lock, LockState
from reconciler.model.run import Kind, OpenRun
from reconciler.model.status import Action, EventType, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Account, Missing, NoCheck, Present, Unknown, Verdict

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import PlannedGrant


def begun(
    record: Record, run: OpenRun, number: int, *, snapshot: Mapping[str, Any], wants: Mapping[str, Any]
) -> Record:
    """Return the record when an attempt is about to start; a run that is not continued forgets the one before.

    `snapshot` is what the attempt is made with: once it succeeds, the account has these values.
    """
    left_over = record.left_over or (run.id is None and record.run.may_have_effect)
    new = replace(record, attempts=number, fresh=False, open=run, left_over=left_over)
    if run.kind.takes_away:
        return replace(new, snapshot=snapshot)
    return replace(new, wants=dict(wants), open=replace(run, values=snapshot))


def succeeded(
    record: Record, *, webhook: bool, heals: bool, now: datetime, continued: bool = False, answered: str = ""
) -> Changed:
    """Return the record after an account was made or updated: all requests succeeded, no check has seen it yet.

    `heals` says that an account that was lost is made again; the last request was `answered` so. What is `continued`
    may have been taken back since it was begun: an update that the check does not see is made once more, as a whole.
    """
    run, number = record.run, f"attempt {record.attempts}"
    fields: dict[str, Any]
    events: Events
    if run.kind.updates:
        heals, status, reason = run.kind is Kind.MEND, Status.DIFFERS, "updated; the check does not see it yet"
        fields = {
            "phase": Phase.CONFIRMED,
            "differs": record.differs,
            "snapshot": {**record.snapshot, **run.values},
            "updated_at": None if continued and not heals else now,
        }
        events = [(EventType.UPDATED, number)]
    else:
        status, reason = Status.UNCONFIRMED, "executed; the exists check does not see it yet"
        fields = {
            "phase": Phase.EXECUTED,
            "differs": {},
            "snapshot": run.values or record.snapshot,
            "updated_at": None,
            "email": str(run.values.get("email", record.email)),
            "executed_at": now,
            "invitations": record.invitations + 1,
        }
        events = [(EventType.EXECUTED, number)]
        if run.kind is Kind.REINVITE:
            events.insert(0, (EventType.WITHDRAWN, "before another invitation"))
    if webhook:
        status, reason = Status.DONE, "it ran"
        fields |= {"phase": Phase.DONE, "differs": {}, "updated_at": None, "off": False}
    else:
        reason = not_seen(reason, answered)
    if heals:
        fields["healed_at"] = now
        events.append((EventType.HEALED, f"drift was {'updated' if run.kind.updates else 'provisioned again'}"))
    new = replace(
        record,
        **stated(status, Action.NONE, reason),
        answered=answered,
        changed=False,
        as_wanted_at=None,
        lost=False,
        last_error=None,
        accepted={},
        **SETTLED,
        **fields,
    )
    return with_events(new, events, now)


def failed(record: Record, error: str, *, now: datetime, retry_at: datetime, interrupted: bool = False) -> Changed:
    """Return the record after an attempt that failed: one retry, then nothing more automatically.

    See docs/design/rules.md, "The ledger and the retry".
    """
    again = record.attempts <= 1
    prefix = "revoke: " if record.revoking else ""
    new = replace(
        record,
        **stated(
            Status.RETRYING if again else Status.FAILED, Action.WAIT if again else Action.NONE, f"{prefix}{error}"
        ),
        **_unsettled(record, retry_at),
        last_error=error,
        changed=record.changed and record.run.kind.updates,
    )
    event = EventType.ATTEMPT_INTERRUPTED if interrupted else EventType.ATTEMPT_FAILED
    events: Events = [(event, f"{prefix}attempt {record.attempts}: {error}")]
    if record.revoking:
        events.append((EventType.REVOKE_FAILED, error))
    return with_events(new, events, now)


def _unsettled(record: Record, retry_at: datetime) -> dict[str, Any]:
    """Return what is left of an attempt that has to be made again, once."""
    again = record.attempts <= 1
    phase = Phase.RETRYING if again else Phase.FAILED
    return {"phase": phase, "open": replace(record.run, retry_at=retry_at if again else None)}


def taken_away(
    record: Record, item: PlannedGrant, left: Verdict, *, deletes: bool, now: datetime, retry_at: datetime
) -> Changed | str:
    """Return the record after requests to take access away succeeded, by what is `left`; or why they have failed.

    `deletes` says whether what locks an account takes the account itself away.
    """
    kind, lock = record.run.kind, item.lock
    match left:
        case Present(account=Account.INVITED) if kind.withdraws:
            return STILL_OPEN
        case Present(account=Account.ACTIVE):
            return STILL_THERE
        case Unknown(reason):
            return sent(record, f"exists check failed: {reason}", retry_at, lock), []
        case Present(account=Account.INVITED):
            return sent(record, "an invitation is open", retry_at, lock), []
        case _ if lock is not None:
            new, lines = _locked_out(record, lock, left, now, deletes=kind is not Kind.LOCK or deletes)
            if item.not_locked_yet is None:
                return new, lines
            waits = stated(Status.SUSPENDED, Action.NONE, item.not_locked_yet)
            return replace(new, **waits, locked=LockState.PENDING), lines
        case _:
            return revoked(record, now, ran_out=item.ran_out)


def sent(record: Record, why: str, retry_at: datetime, lock: Lock | None = None) -> Record:
    """Return the record after such requests succeeded, while a check cannot say what came of it.

    It is checked like other orphans; if the account is still there, this attempt has failed.
    """
    new = replace(record, **_unsettled(record, retry_at), last_error=None)
    if lock is None:
        reason = f"{NOT_IN_GIT}; revoked, not checked since: {why}"
        return replace(new, **stated(Status.ORPHANED, Action.NONE, reason))
    reason = f"{lock}; sent, not checked since: {why}"
    return replace(new, **stated(Status.SUSPENDED, Action.NONE, reason), locked=LockState.PENDING)


def revoked(record: Record, now: datetime, *, ran_out: datetime | None = None) -> Changed:
    """Return the record after a revocation; `ran_out` is when it was over by a `for` that was made shorter."""
    new = replace(
        record,
        phase=Phase.REVOKED,
        **stated(Status.REVOKED, Action.NONE, "revoked"),
        last_error=None,
        **gone(record, ran_out),
        **NOT_AS_WANTED,
        **SETTLED,
    )
    events = [Event.of(record, EventType.REVOKED, f"attempt {record.attempts}", now)]
    if record.run.kind is Kind.WITHDRAW:
        events.insert(0, Event.of(record, EventType.WITHDRAWN, "the open invitation", now))
    return new, events


def checked_locked(record: Record, item: PlannedGrant, now: datetime, revision: str) -> Changed:
    """Return the record of a grant after it was planned under a lock, and the events for the history."""
    grant, decision, prepared = item.grant, item.decision, item.prepared
    new = replace(
        record, revision=revision or record.revision, **decided(decision), changed=False, differs={}, guarded=False
    )
    if item.wanted:
        new = replace(
            new,
            source=grant.source,
            origin=grant.origin,
            through=grant.through,
            needs=grant.needs,
            hire_email=grant.email,
            orphaned_at=None,
        )
    left = list[Event]()
    if item.leaves is not None and record.orphaned_at is None:
        new = replace(new, orphaned_at=now)
        left = [Event.of(new, EventType.ORPHANED, item.leaves, now)]
    if decision.locked is LockState.DONE:
        deletes = grant.manifest is None or not grant.manifest.lock
        settled, lines = _done(new, item.verdict, now, deletes=deletes)
    else:
        settled, lines = _found(new, item.verdict, now)
    if prepared is not None and not record.leaves_something and settled.leaves_something:
        settled = replace(settled, email=prepared.grant.email, snapshot=prepared.snapshot)
    return settled, [*left, *lines]


def _found(record: Record, verdict: Verdict | None, now: datetime) -> Changed:
    """Return the record of an account that is not locked yet."""
    match verdict:
        case Unknown(reason):
            return replace(record, last_error=record.last_error if record.phase.unsettled else reason), []
        case Present(account=Account.ACTIVE):
            new, lines = _there(replace(record, off=False), now)
            if record.unchecked:
                error = STILL_OPEN if record.run.kind.withdraws else STILL_THERE
                return replace(new, last_error=error), [*lines, Event.of(record, EventType.REVOKE_FAILED, error, now)]
            return new, lines
        case None | NoCheck():
            return record, []
        case _:
            return replace(record, checked_at=now), []


def _there(record: Record, now: datetime) -> Changed:
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


def _done(record: Record, verdict: Verdict | None, now: datetime, *, deletes: bool) -> Changed:
    """Return the record of an account that is locked, or of a grant that has none."""
    match verdict:
        case Present() | Missing() if not record.may_remain:
            # Nothing of the program's: an account that is off is as it was, once the lock ends.
            return replace(record, checked_at=now, last_error=None, **SETTLED), []
        case Present() | Missing():
            return _locked_out(record, None, verdict, now, deletes=deletes)
        case NoCheck() if record.unchecked and record.run.kind.locks:
            return _locked_out(record, None, verdict, now, deletes=deletes)
        case _:
            return record, []


def _locked_out(record: Record, lock: Lock | None, left: Verdict, now: datetime, *, deletes: bool) -> Changed:
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
    half = off and record.left_over  # it was never wholly made, and is there all the same
    settled = {**SETTLED, "left_over": half}
    new = replace(new, phase=phase, off=off, lost=False, last_error=None, **NOT_AS_WANTED, **settled)
    if lock is not None:
        shown = stated(Status.SUSPENDED, Action.NONE, f"{lock}; {how}")
        new = replace(new, **shown, locked=LockState.DONE)
    if not off:
        lines.append(Event.of(record, EventType.REVOKED, "locked out: gone", now))
    if not (off and record.off):
        lines.append(Event.of(record, EventType.LOCKED, how, now))
    return new, lines


def lock_failed(record: Record, lock: Lock) -> Record:
    """Return the record after an attempt to lock that failed."""
    again = record.phase is Phase.RETRYING
    return replace(
        record,
        **stated(Status.SUSPENDED, record.action, f"{lock}; not locked: {record.last_error}"),
        locked=LockState.PENDING if again else LockState.FAILED,
    )
