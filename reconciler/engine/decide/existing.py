"""Decide on an account that exists, or is only invited: a part of `decide`, and as pure.

An account is `present` only if nothing of it differs. A difference that comes from a commit, or exists since the
account was found, is updated; a difference that was made at the service is drift, and the setting `drift` applies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.model.base import as_text
from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import Policy
from reconciler.model.grant import Decision, Differences, Phase, Record
from reconciler.model.manifest import Manifest
from reconciler.model.request import operator
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Account, Invited, Missing, Present, Unknown, Verdict

HEAL_PAUSE = timedelta(hours=24)
"""A loss or a change within this time of a healing is an admin's decision, and is not fought."""

FOUND = "exists check: found"

OFF = "switched off"
"""What an account is that `inactive` matches."""

NOTHING = Manifest.model_construct()
"""The manifest by which nothing can be done about an account."""


class Facts(Frozen):
    """What is known of a grant now beside its record: what was found, and what could be sent.

    `manifest` says what can be done about an account, `invitation` is the open one of somebody who is not there.
    `changes` are the values that git changed since they were sent, `digest` is the keyed digest of what would be sent
    now, `texts` are the digests of the requests that the open attempt, or a revocation, is made of.

    Of an orphan, `over` says how its entry is over, if git still has it. `required` is the rule of the policy by which
    it must not be lost, `same_as` a grant still wanted for which it is the same account, `error` one in the hire's
    files, which may be why it is no longer wanted.
    """

    verdict: Verdict
    manifest: Manifest = NOTHING
    invitation: Invited | None = None
    changes: Differences = {}
    digest: str | None = None
    texts: tuple[str, ...] = ()
    required: str | None = None
    over: str | None = None
    same_as: str | None = None
    error: str | None = None


def changed_values(then: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
    """Return which values differ from those last sent or accepted.

    Names known on one side only are not compared, because then the manifest changed.
    """
    differ = [name for name in now if name in then and not _same(as_shown(then[name]), as_shown(now[name]))]
    return {name: (then[name], now[name]) for name in sorted(differ)}


def changed_in_git(
    record: Record, verdict: Verdict, now: Mapping[str, Any], *, found_by: Mapping[str, Any], compared: frozenset[str]
) -> Differences:
    """Return which `compared` values git has others of by `now` than an account has that was provided.

    One that is found has the values that it is `found_by`.
    """
    if not record.provided:
        return {}
    there = found_by if isinstance(verdict, Present) and verdict.under is None else {}
    wanted = {name: value for name, value in now.items() if name in compared}
    return changed_values({**record.snapshot, **there}, wanted)


def _same(one: str, other: str) -> bool:
    """Whether two values are the same; addresses are compared without case."""
    return one == other or ("@" in one and one.lower() == other.lower())


def as_shown(value: Any) -> str:
    """Format a value for a reason."""
    if type(value) is str:
        return value
    if isinstance(value, list):
        return ",".join(as_shown(item) for item in value)
    if (word := operator(value)) is not None:
        return f"{word} {as_shown(value[word])}"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return "nothing" if value is None else str(as_text(value))


def shown(changes: Differences) -> str:
    """Format values that changed in git, as `TEAM_ID 1 → 2`."""
    return ", ".join(f"{name} {as_shown(then)} → {as_shown(now)}" for name, (then, now) in changes.items())


_FOUND_FIRST = Decision(Status.PRESENT, Action.NONE, FOUND, afresh=True)
_FOUND_AGAIN = Decision(Status.PRESENT, Action.NONE, FOUND)

IT_RAN = Decision(Status.DONE, Action.NONE, "it ran")
"""Of a webhook."""


def _compared(differs: Differences) -> str:
    """Format what is not as git wants it, as `role: member, git wants maintainer`."""
    return "; ".join(
        f"{path}: {as_shown(there)}, git wants {as_shown(wanted)}" for path, (there, wanted) in differs.items()
    )


def found(record: Record | None, verdict: Present, facts: Facts, policy: Policy) -> Decision:
    """Decide on an account that the check finds and that has no open attempt.

    `record` is None for a grant that was never confirmed nor executed.
    """
    manifest = facts.manifest
    if verdict.account is Account.INVITED:
        return Decision(Status.UNCONFIRMED, Action.NONE, _invited_on(record, policy), afresh=record is None)
    off = verdict.account is Account.INACTIVE
    changes = {name: pair for name, pair in facts.changes.items() if name not in manifest.compared}
    by_values = not (off or manifest.where) and bool(changes)
    differs = changes if by_values else verdict.differs
    if not off and not differs:
        if record is None:
            return _FOUND_FIRST
        return left_half_done(record, manifest, _FOUND_AGAIN) if record.left_over else _FOUND_AGAIN
    if record is not None and not off and not by_values and _accepted(record, differs):
        reason = f"{FOUND}; accepted as it is: {_compared(differs)}"
        return Decision(Status.PRESENT, Action.NONE, reason, accepted=True)
    what = OFF if off else _compared(differs)
    if by_values:
        what = f"changed since: {shown(changes)}"
    decision = Decision(
        Status.DIFFERS, Action.UPDATE, what, changed=by_values, differs={} if off else differs, afresh=True
    )
    again = by_values or bool(changes) or (record is not None and (record.fresh or by_commit(record.wants, differs)))
    if record is not None and record.unseen and not again:
        unseen = not_seen(f"updated; the check does not see it yet: {what}", record.answered)
        return replace(decision, action=Action.NONE, reason=unseen)
    if not manifest.updates:
        reason = f"{OFF}: switch it on there" if off else f"{what}; {_ways(record)}"
        return replace(decision, action=Action.NONE, reason=reason)
    if record is None or record.as_wanted_at is None or record.locked is not None:
        return decision
    if off:  # whatever a commit changed meanwhile: to send that might switch it on
        return _drift(record, replace(decision, reason=f"{OFF} there"), policy, policy.settings.drift.inactive)
    if by_values or changes or by_commit(record.wants, differs):
        return decision
    return _drift(record, decision, policy, policy.settings.drift.differs)


def left_half_done(record: Record, manifest: Manifest, seen: Decision) -> Decision:
    """Decide on an account that is as wanted as far as is `seen`, and that an attempt left half done before.

    A webhook that ran stays `done`.
    """
    if manifest.updates and seen.status is Status.PRESENT:
        return Decision(Status.DIFFERS, Action.UPDATE, "half done by an attempt before", afresh=True)
    again = f"`reconcile run {' '.join(record.key)}` provisions all of it again"
    return replace(seen, reason=f"{seen.reason}, though partly revoked; {again}")


def by_commit(wants: Mapping[str, Any], differs: Differences) -> bool:
    """Whether git changed what it wants of what differs; `wants` is what it wanted when last found so or accepted."""
    return any(path not in wants or not _still(wants[path], wanted) for path, (_, wanted) in differs.items())


def _accepted(record: Record, differs: Differences) -> bool:
    """Whether a person accepted the account as it is, and neither side has changed since."""
    then = record.accepted
    if not then or then.keys() != differs.keys():
        return False
    return all(_still(*each) for path, pair in differs.items() for each in zip(then[path], pair, strict=True))


def _still(then: Any, now: Any) -> bool:
    """Whether a compared value is what it was. Former releases kept no more of a long one than how it begins."""
    one, other = _meant(then), _meant(now)
    return one == other or (one.endswith("…") and other.startswith(one))


def _meant(value: Any) -> str:
    """Return what a compared value says: lists have no order."""
    if (word := operator(value)) is not None:
        return f"{word} {_meant(value[word])}"
    return as_shown(sorted(map(as_shown, value)) if isinstance(value, list) else value)


def _ways(record: Record | None) -> str:
    """List what a person can do about it if the manifest cannot."""
    key = "" if record is None else f" {' '.join(record.key)}"
    return f"change it there, or `reconcile accept{key}` or `reconcile run{key}`"


def _drift(record: Record, decision: Decision, policy: Policy, setting: str) -> Decision:
    """Decide on a difference that was made at the service."""
    drift = replace(decision, reason=f"drift: {decision.reason}", code=ReasonCode.DRIFT)
    if setting != "heal":
        return replace(drift, action=Action.NONE)
    if (ago := paused(record, policy.now)) is not None:
        reason = f"drift, healed {ago} ago: {decision.reason} again, left to a person"
        return replace(drift, action=Action.NONE, reason=reason)
    return replace(drift, heals=True)


def paused(record: Record, now: datetime) -> str | None:
    """Return how long ago the grant was healed, if that is too recent to heal it again; else None."""
    if record.healed_at is None or now - record.healed_at >= HEAL_PAUSE:
        return None
    minutes = int((now - record.healed_at).total_seconds() // 60)
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


def webhook(record: Record, facts: Facts) -> Decision:
    """Decide on a webhook that ran: without a check, only what changed in git can differ."""
    changes = facts.changes
    if record.off:  # by a lock, which is over
        action = Action.UPDATE if facts.manifest.updates else Action.NONE
        return Decision(Status.DIFFERS, action, OFF, afresh=True)
    if not changes:
        return left_half_done(record, facts.manifest, IT_RAN) if record.left_over else IT_RAN
    reason = f"changed since: {shown(changes)}"
    decision = Decision(Status.DIFFERS, Action.UPDATE, reason, changed=True, differs=changes, afresh=True)
    if facts.manifest.updates:
        return decision
    key = " ".join(record.key)
    ways = f"`reconcile run {key}` sends it again, `reconcile accept {key}` takes it as sent"
    return replace(decision, action=Action.NONE, reason=f"{reason}; {ways}")


def _invited_on(record: Record | None, policy: Policy) -> str:
    """Return when the person was invited; by others, when it was first seen."""
    at = record.executed_at if record is not None else None
    return f"invited on {(at or policy.now).astimezone(ZoneInfo(policy.settings.timezone)).date()}"


def invited(record: Record | None, facts: Facts, policy: Policy) -> Decision | None:
    """Decide on an absent account that was invited, by us or by others; None for all others.

    `record` is None for a grant that was never confirmed nor executed.
    """
    invitation, changes, manifest = facts.invitation, facts.changes, facts.manifest
    if record is None or record.executed_at is None or record.phase is Phase.CONFIRMED:
        if invitation is None:
            return None
        return Decision(Status.UNCONFIRMED, Action.NONE, _invited_on(None, policy), afresh=record is None)
    withdraws = invitation is not None and bool(manifest.withdraw)
    again = Decision(Status.UNCONFIRMED, Action.EXECUTE, "", afresh=True, withdraws=withdraws)
    if changes:
        return replace(again, status=Status.MISSING, reason=f"changed: {shown(changes)}")
    if manifest.invitation is not None and policy.now >= record.executed_at + manifest.invitation.expires:
        sent = max(1, record.invitations)
        if record.fresh:
            return replace(again, reason="retry asked for: invited again")
        if sent > manifest.invitation.resend:
            return Decision(Status.FAILED, Action.NONE, f"invited {sent} times, not accepted")
        return replace(again, reason=f"{_invited_on(record, policy)}, not accepted: invited again")
    if invitation is not None:
        return Decision(Status.UNCONFIRMED, Action.NONE, _invited_on(record, policy))
    unseen = not_seen("executed; the exists check does not see it yet", record.answered)
    return Decision(Status.UNCONFIRMED, Action.NONE, unseen)


def not_seen(reason: str, answered: str) -> str:
    """Return the reason with what the service answered to the last request: a success may say that nothing changed."""
    return f"{reason}; {answered}" if answered else reason


def reason_not_to_accept(record: Record) -> str | None:
    """Return why no person can vouch for a grant; None if one may.

    What git does not want is never complete: of a revocation that failed half-way only its requests say what is left.
    """
    if record.locked is not None and (record.off or record.phase is Phase.REVOKED):
        return f"{record.key} is {record.status}: {record.reason}; `reconcile unlock {record.key.hire}` ends the lock"
    if record.orphaned_at is not None or record.phase is Phase.REVOKED:
        return f"{record.key} is {record.status}: git does not want it; `reconcile revoke` takes it away"
    if record.off:
        again = ", or `reconcile run` it" if record.status is Status.DIFFERS else ""
        return f"{record.key} is {OFF}, so nobody can use it: switch it on there{again}"
    return None


def begins_anew(record: Record, verdict: Verdict | None) -> bool:
    """Whether an account is gone that was locked, by a request or a person, and not unlocked: that is no drift.

    What was updated, or found as git wants it, since it was switched off was unlocked.
    """
    made = record.phase is Phase.CONFIRMED or (record.phase.unsettled and record.run.kind.updates)
    locked = record.locked is not None or (record.off and record.as_wanted_at is None and not record.unseen)
    return made and isinstance(verdict, Missing) and locked


def last_seen(record: Record) -> datetime | None:
    """Return when the last check that was answered found an account as wanted; None if it did not."""
    if record.status is Status.PRESENT:
        return record.checked_at
    return record.seen_at if record.code is ReasonCode.LAST_SEEN else None


def unchecked(record: Record, verdict: Unknown) -> Decision:
    """Decide on an account that cannot be checked now, and say until when it was known to be as wanted."""
    decision = Decision(Status.UNKNOWN, Action.NONE, verdict.reason, cause=verdict.cause)
    seen = last_seen(record)
    if seen is None:
        return decision
    reason = f"{verdict.reason}; last seen present on {stamp(seen)}"
    return replace(decision, reason=reason, code=ReasonCode.LAST_SEEN)
