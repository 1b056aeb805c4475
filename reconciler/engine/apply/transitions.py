"""Change records by checks and by people: with `attempts`, the only place where statuses and phases are written.

Each function takes a record and what happened, and returns the new record with the history's new lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconciler.engine.decide.existing import begins_anew, changed_values, last_seen
from reconciler.engine.decide.orphans import STILL_OPEN, STILL_THERE
from reconciler.ledger.entries import Event
from reconciler.model.grant import Decision, Grant, Phase, Record
from reconciler.model.run import Kind
from reconciler.model.status import Action, EventType, ReasonCode, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Account, Cause, Missing, NoCheck, Present, Unknown, Verdict, is_off

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import PlannedGrant, Prepared

Events = list[tuple[EventType, str]]

Changed = tuple[Record, list[Event]]
"""A record after a change, and the history's lines for it."""

SETTLED: Mapping[str, Any] = {"open": None, "fresh": False, "left_over": False}
"""What a record has of an attempt once none is open."""

NOT_AS_WANTED: Mapping[str, Any] = {
    "as_wanted_at": None,
    "updated_at": None,
    "wants": {},
    "accepted": {},
    "differs": {},
}
"""What a record has of an account that was not yet found as git wants it."""

HELD_BACK = (Status.SUSPENDED, Status.SCHEDULED, Status.BLOCKED)
"""The statuses of an account that was found, and whose update waits for something else."""

IN_GIT_AGAIN, UNLOCKED = "in git again", "locked no longer"
"""What the history says of an orphan whose entry is back, and of a grant that a lock left as it was."""


def stated(
    status: Status, action: Action, reason: str, *, code: ReasonCode | None = None, cause: Cause | None = None
) -> dict[str, Any]:
    """Return what is shown of a record: these are only ever written together."""
    return {"status": status, "action": action, "reason": reason, "code": code, "cause": cause}


def decided(decision: Decision) -> dict[str, Any]:
    """Return what is shown of a record by a decision."""
    shown = stated(decision.status, decision.action, decision.reason, code=decision.code, cause=decision.cause)
    return {**shown, "locked": decision.locked}


def first(grant: Grant, revision: str | None) -> Record:
    """Make the record of a grant that the ledger does not have yet."""
    return Record(**grant.core, revision=revision, form=_form(grant), hire_email=grant.email)


def _form(grant: Grant) -> tuple[str, ...] | None:
    return None if grant.manifest is None else tuple(field.id for field in grant.manifest.form)


def remembered(record: Record, now: datetime, retry_delay: timedelta) -> Record:
    """Return the record as it counts now: a retry further ahead than the delay comes from a clock that jumped.

    So does a healing in the future: its 24 hours count from now. See docs/design/states.md.
    """
    if record.retry_at is not None and record.retry_at > now + retry_delay:
        record = replace(record, open=replace(record.run, retry_at=now + retry_delay))
    if record.healed_at is not None and record.healed_at > now:
        record = replace(record, healed_at=now)
    return record


def checked(record: Record, item: PlannedGrant, now: datetime, revision: str | None = None) -> Changed:
    """Return the record after a check, with what was decided then; the item's own record may be an older one.

    An account that is found has the values of what it was asked with.
    """
    grant, decision, verdict = item.grant, item.decision, item.verdict
    events = _status_events(record, decision, wanted=item.wanted)
    new = _wanted_again(record, verdict, now) if item.wanted else record
    if new.phase is Phase.NEW and begins_anew(record, verdict):
        events.append((EventType.REVOKED, "found gone"))
    if new.phase is Phase.NEW or not new.snapshot:  # a person may vouch for a grant before anything is known of it
        new = replace(new, email=grant.email, snapshot=_asked_with(item) or new.snapshot)
    elif item.wanted and item.prepared is not None:
        new = _removable(new, item.prepared)
    unsaid = grant.manifest is None and grant.integration == record.integration  # a broken manifest says no service
    fields: dict[str, Any] = {
        "integration": grant.integration,
        "service": record.service if unsaid else grant.service,
        "source": grant.source,
        "origin": grant.origin,
        "through": grant.through,
        "needs": record.needs if item.prepared is None and record.may_remain else grant.needs,
        "keep": grant.keep,
        "form": record.form if grant.manifest is None else _form(grant),
        "revision": revision or record.revision,
        **decided(decision),
        "changed": decision.changed,
        "differs": _as_noted(decision),
        "guarded": decision.guarded,
        "takes": decision.takes,
        "orphaned_at": None if item.wanted else record.orphaned_at or now,
        "hire_email": grant.email if item.wanted else record.hire_email,
    }
    if isinstance(verdict, Present | Missing):
        fields["off"] = is_off(verdict)
    if decision.afresh and new.phase.unsettled:
        fields["attempts"] = 0
    if decision.status is Status.REVOKED and record.phase is not Phase.REVOKED:
        fields |= _gone_without_request(new, item, now, events)
    elif not item.wanted:
        fields |= _orphan_checked(new, item, now, events)
    elif isinstance(verdict, Present | Missing) and decision.status is Status.UNCONFIRMED:
        fields |= _invited(new, item, now, events)
    elif (
        isinstance(verdict, Present)
        and verdict.under is None
        and (
            decision.status in (Status.PRESENT, Status.DIFFERS)
            or (decision.status in HELD_BACK and item.prepared is not None and new.phase is Phase.NEW)
        )
    ):
        fields |= _found(new, item, now, events)
    elif isinstance(verdict, NoCheck):
        # There is no account that could still be under the old address.
        fields |= {"phase": Phase.DONE if new.phase is Phase.EXECUTED else new.phase, "email": grant.email}
    else:
        fields |= _check_result(new, item, now, events)
    if not events and (back := _back(record, decision)) is not None:
        events.append((EventType.CONFIRMED if item.wanted else EventType.UNLOCKED, back))
    return with_events(replace(new, **fields), events, now)


def _removable(record: Record, prepared: Prepared) -> Record:
    """Return a record with the values that take the account away: git may not have them any more when it has to go."""
    lacks = (prepared.removed_with & prepared.snapshot.keys()) - record.snapshot.keys()
    known = {name: prepared.snapshot[name] for name in lacks}
    return replace(record, snapshot={**record.snapshot, **known}) if lacks else record


def _asked_with(item: PlannedGrant) -> Mapping[str, Any]:
    return {} if item.prepared is None else item.prepared.snapshot


def _status_events(record: Record, decision: Decision, *, wanted: bool) -> Events:
    """Return the events for a change of status."""
    events: Events = []
    blocked = decision.status is Status.BLOCKED
    if (record.status is Status.BLOCKED) != blocked:
        events.append((EventType.BLOCKED, decision.reason) if blocked else (EventType.UNBLOCKED, f"{decision.status}"))
    if not wanted and record.orphaned_at is None:
        events.append((EventType.ORPHANED, decision.reason))
    if decision.status is Status.DIFFERS and (
        record.status is not Status.DIFFERS
        or record.differs != _as_noted(decision)
        or record.action is not decision.action
    ):
        events.append((EventType.DIFFERED, decision.reason))
    return events


def _as_noted(decision: Decision) -> dict[str, list[Any]]:
    """Return what differs, as the ledger saves it."""
    return {name: list(pair) for name, pair in decision.differs.items()} if decision.differs else {}


def _wanted_again(record: Record, verdict: Verdict | None, now: datetime) -> Record:
    """Reset a record that was revoked, or half revoked, once its entry is wanted again and was checked.

    After a revocation it is a new grant, never drift (docs/design/states.md); what was not revoked is as it was. As
    long as an account stands under the old address, the record keeps that.
    """
    back = record.phase is Phase.REVOKED or record.revoking or begins_anew(record, verdict)
    if not back or isinstance(verdict, Unknown | None):
        return record
    if record.phase is Phase.REVOKED and isinstance(verdict, Present) and verdict.under is not None:
        return record
    settled = replace(record, attempts=0, last_error=None, invitations=0, **NOT_AS_WANTED, **SETTLED)
    half = record.revoking and record.run.may_have_effect
    if record.revoking and isinstance(verdict, Present):
        return replace(settled, phase=Phase.CONFIRMED, confirmed_at=record.confirmed_at or now, left_over=half)
    if record.revoking and isinstance(verdict, NoCheck) and record.executed_at is not None:
        return replace(settled, phase=Phase.DONE, left_over=half)
    half = record.revoking and not record.unchecked and (record.left_over or half)
    return replace(
        settled, phase=Phase.NEW, executed_at=None, confirmed_at=None, healed_at=None, lost=False, left_over=half
    )


def _back(record: Record, decision: Decision) -> str | None:
    """Return what is so of a grant, or what ended for one that is as it was; else the history would not tell of it."""
    if {record.status, decision.status} == {Status.DONE, Status.UNCONFIRMED}:  # only a pass knows whether it is checked
        return decision.reason
    if decision.status is Status.ORPHANED:
        return None if record.locked is None else UNLOCKED
    if not (decision.status.granted or decision.status is Status.UNCONFIRMED):
        return None
    return IN_GIT_AGAIN if record.orphaned_at is not None else UNLOCKED if record.locked is not None else None


def _found(record: Record, item: PlannedGrant, now: datetime, events: Events) -> dict[str, Any]:
    """Return what changes if a wanted account is found.

    It has the values that the check found it by, and, where it is as git wants it, those that `where` compares.
    """
    decision, prepared = item.decision, item.prepared
    assert prepared is not None  # it was asked with
    has, snapshot = record.snapshot, prepared.snapshot
    as_wanted = prepared.as_wanted if decision.status is Status.PRESENT and not decision.accepted else {}
    fields: Mapping[str, Any] = {}
    match record.phase:
        case Phase.CONFIRMED:
            if record.lost:
                events.append((EventType.CONFIRMED, "found again"))
            elif decision.status is Status.PRESENT and (
                record.unseen or record.status is Status.DIFFERS or changed_values(has, as_wanted)
            ):
                events.append((EventType.CONFIRMED, decision.reason if decision.accepted else "found as git wants it"))
        case Phase.EXECUTED | Phase.DONE:
            events.append((EventType.CONFIRMED, "exists check: found"))
            fields = {"confirmed_at": now}
        case Phase.RETRYING | Phase.FAILED if record.run.kind.updates:
            events.append((EventType.CONFIRMED, "found as git wants it"))
            has, fields = snapshot or has, SETTLED
        case Phase.RETRYING | Phase.FAILED if record.provided:  # it has what it had before the attempt
            events.append((EventType.CONFIRMED, "found again" if record.lost else "exists check: found"))
            fields = {"confirmed_at": record.confirmed_at or now, **SETTLED}
        case _:
            asked = prepared.grant.requested
            events.append((EventType.ADOPTED, f"exists check: found{'' if asked is None else f', {asked}'}"))
            has = snapshot or has
            fields = {"confirmed_at": now, **SETTLED}
    found = {
        "phase": Phase.CONFIRMED,
        "checked_at": now,
        "email": prepared.grant.email,
        "last_error": None,
        "lost": False,
        "snapshot": {**has, **prepared.found_by, **as_wanted},
        "invitations": 0,
        **fields,
    }
    if decision.status is not Status.PRESENT:
        return {**found, "left_over": record.left_over}
    found |= {"answered": "", "fresh": False}
    if decision.accepted:
        return found
    return {**found, "wants": dict(prepared.wants), "accepted": {}, "as_wanted_at": record.as_wanted_at or now}


def _invited(record: Record, item: PlannedGrant, now: datetime, events: Events) -> dict[str, Any]:
    """Return what changes with an open invitation: ours, or another's that is seen for the first time."""
    if record.phase is Phase.EXECUTED and record.executed_at is not None:
        return {"checked_at": now, "last_error": None}
    events.append((EventType.ADOPTED, "an invitation is open"))
    return {
        "phase": Phase.EXECUTED,
        "checked_at": now,
        "executed_at": now,
        "confirmed_at": None,
        "email": item.grant.email,
        "last_error": None,
        "lost": False,
        "snapshot": _asked_with(item) or record.snapshot,
        "invitations": max(1, record.invitations),
        **NOT_AS_WANTED,
        **SETTLED,
    }


def _orphan_checked(record: Record, item: PlannedGrant, now: datetime, events: Events) -> dict[str, Any]:
    """Return what a check changes of an orphan. One found is confirmed; an invitation to withdraw was accepted."""
    verdict = item.verdict
    found: dict[str, Any] = {}
    if record.unchecked and item.decision.status in (Status.RETRYING, Status.FAILED):
        error = STILL_OPEN if record.run.kind is Kind.WITHDRAW else STILL_THERE
        events.append((EventType.REVOKE_FAILED, error))
        found = {"last_error": error}
    if not isinstance(verdict, Present):
        return _check_result(record, item, now, events) | found
    fields = {"checked_at": now, "confirmed_at": record.confirmed_at or now, **found}
    accepted = record.run.kind is Kind.WITHDRAW and verdict.account is Account.ACTIVE
    if record.phase is not Phase.EXECUTED and not accepted:
        return fields
    events.append((EventType.CONFIRMED, "exists check: found"))
    return {**fields, "phase": Phase.CONFIRMED, **(SETTLED if accepted else {})}


def _gone_without_request(record: Record, item: PlannedGrant, now: datetime, events: Events) -> dict[str, Any]:
    """Return what changes if an orphan is gone without a request of the program."""
    events.append((EventType.REVOKED, item.decision.detail or item.decision.reason))
    return {
        "phase": Phase.REVOKED,
        "checked_at": now if isinstance(item.verdict, Missing) else record.checked_at,
        "last_error": None,
        **NOT_AS_WANTED,
        **SETTLED,
    }


def _check_result(record: Record, item: PlannedGrant, now: datetime, events: Events) -> dict[str, Any]:
    """Return what a check that found no wanted account changes."""
    match item.verdict:
        case Missing() if not record.phase.unsettled:
            lost = record.phase is Phase.CONFIRMED and not record.lost
            if lost:
                events.append((EventType.LOST, item.decision.reason))
            return {"checked_at": now, "last_error": None, "lost": record.lost or lost}
        case Unknown(reason):
            error = record.last_error if record.phase.unsettled else reason
            return {"checked_at": now, "last_error": error, "seen_at": last_seen(record)}
        case Present() | Missing():
            return {"checked_at": now}
        case _:
            return {}


def left_untouched(record: Record, decision: Decision, now: datetime) -> Changed:
    """Return the record of a grant whose files cannot be read: only what is shown of it changes."""
    new = replace(record, **decided(decision), changed=False, guarded=False)
    return with_events(new, _status_events(record, decision, wanted=True), now)


def waiting(record: Record, reason: str) -> Record:
    """Return the record of a grant that waits for one that it needs."""
    return replace(record, **stated(Status.SCHEDULED, Action.WAIT, reason))


def accepted(record: Record, now: datetime) -> Record:
    """Confirm a grant that a person vouches for; from here on it is checked like any other.

    Values that differ count as sent; what else differs is accepted as it is until either side changes. What no check
    has seen, or not since it waits for its day, counts as executed now: if it is not there, nothing is healed, which
    would give access before that day.
    """
    sent = {name: pair[1] for name, pair in record.differs.items()} if record.changed else {}
    differs = {} if record.changed else record.differs or record.accepted  # said twice, it stands
    checked = record.checked_at is not None and record.status is not Status.SCHEDULED
    fields: dict[str, Any] = {"phase": Phase.CONFIRMED, "confirmed_at": record.confirmed_at or now}
    if not checked:
        fields = {"phase": Phase.EXECUTED, "executed_at": record.executed_at or now}
    return replace(
        record,
        **stated(Status.PRESENT if checked else Status.DONE, Action.NONE, "accepted by hand"),
        snapshot={**record.values, **sent},
        accepted=differs,
        wants={**record.wants, **{path: pair[1] for path, pair in differs.items()}},
        differs={},
        changed=False,
        guarded=False,
        last_error=None,
        lost=False,
        **SETTLED,
        **fields,
    )


def with_events(record: Record, events: Events, now: datetime) -> Changed:
    """Return the record with its events for the history."""
    code = {EventType.DIFFERED: record.code}
    return record, [Event.of(record, event, detail, now, code=code.get(event)) for event, detail in events]
