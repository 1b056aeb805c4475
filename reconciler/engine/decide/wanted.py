"""Decide what to do about one grant: a pure function of the desired, the observed, the ledger and the time.

`decide_unasked` is for grants that are not checked, `decide` for those that are, `orphans.decide_orphan` for those that
git no longer wants. The order of the rules and all cases are those of docs/design/states.md. Nothing here reads a
clock, logs, or sends.
"""

from __future__ import annotations

from typing import assert_never

from reconciler.engine.decide.existing import (
    Facts,
    begins_anew,
    changed_values,
    found,
    invited,
    left_half_done,
    paused,
    shown,
    unchecked,
    webhook,
)
from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import Policy, account_changed, neither, progress
from reconciler.model.grant import Decision, Differences, Grant, Phase, Record
from reconciler.model.run import Kind
from reconciler.model.status import Action, Status
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Account, Invited, Missing, NoCheck, Present, Unknown, is_invited


class Failed(Frozen):
    """A failed attempt: whether another one is due, and `left`, the decision as long as none is."""

    waiting: bool
    resent: bool
    """Whether what would be sent has changed."""
    afresh: bool
    due: bool
    left: Decision

    @classmethod
    def of(cls, record: Record, facts: Facts, policy: Policy, error: str) -> Failed:
        """Judge the last attempt of a record, which failed with this error."""
        digest = facts.digest
        waiting = record.phase is Phase.RETRYING
        resent = digest is not None and record.run.digest is not None and digest != record.run.digest
        afresh = record.fresh or resent
        left = Decision(Status.RETRYING if waiting else Status.FAILED, Action.WAIT if waiting else Action.NONE, error)
        return cls(waiting, resent, afresh, afresh or (waiting and policy.due(record)), left)


def decide_unasked(
    grant: Grant, record: Record | None, policy: Policy, *, waits: str | None = None, blocked: str | None = None
) -> Decision | None:
    """Decide on a grant that must not be checked: invalid, suspended, scheduled or blocked; None for others.

    `waits` says which needed entry it waits for, `blocked` what is missing. Neither a day nor a need that lies ahead
    counts for what was executed or confirmed once; after a revocation it is a new grant.
    """
    if grant.hold is not None and grant.hold.status is Status.INVALID:
        return Decision(Status.INVALID, Action.NONE, grant.hold.reason)
    if grant.requested is not None and grant.requested.refusal is not None and not runs_on(grant, record):
        return Decision(Status.INVALID, Action.NONE, grant.requested.refusal)
    if reason := policy.suspended(grant.key.hire, grant.integration):
        return Decision(Status.SUSPENDED, Action.NONE, reason)
    if record is None or not record.provided or record.phase is Phase.REVOKED:
        if grant.begins is not None and grant.begins > policy.today:
            return Decision(Status.SCHEDULED, Action.WAIT, f"begins on {grant.begins}")
        if waits is not None:
            return Decision(Status.SCHEDULED, Action.WAIT, waits)
    if grant.hold is not None:
        return Decision(grant.hold.status, Action.NONE, grant.hold.reason)
    if blocked is not None:
        return Decision(Status.BLOCKED, Action.NONE, blocked)
    return None


def runs_on(grant: Grant, record: Record | None) -> bool:
    """Whether a request is as it was allowed: acted on, with the values that were sent, to end no later, and alone.

    A choice by its name is no value that was sent.
    """
    if record is None or not record.acted_on or record.integration != grant.integration:
        return False
    if grant.requested is not None and grant.requested.overruled:
        return False
    ends = grant.ends_at(record.acted_at)
    if record.ends_at is not None and (ends is None or ends > record.ends_at):
        return False
    fields = () if grant.manifest is None else grant.manifest.form
    given = {field.id: grant.value(field.id) for field in fields}
    given = {name: value for name, value in given.items() if value is not None}
    return not changed_values({**record.values, **record.run.values}, given)


def decide(record: Record | None, facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant that was checked, or that has no check."""
    verdict = facts.verdict
    if facts.invitation is None and isinstance(verdict, Present) and is_invited(verdict):
        facts = replace(facts, invitation=Invited(verdict.stored))  # it counts as found in `pending`
    if record is not None and isinstance(verdict, Present) and verdict.under is not None:
        reason = f"the account is under {verdict.under}: rename it there, or `reconcile run`"
        return Decision(Status.BLOCKED, Action.NONE, reason)
    if record is None or record.phase in (Phase.NEW, Phase.REVOKED) or begins_anew(record, verdict):
        return _untried(facts, policy)
    if record.revoking and record.phase.unsettled:
        return _wanted_again(record, facts, policy)
    match record.phase:
        case Phase.CONFIRMED | Phase.EXECUTED | Phase.DONE:
            return _provided(record, facts, policy)
        case Phase.RETRYING | Phase.FAILED if record.run.kind.updates:
            return _unsettled_update(record, facts, policy)
        case Phase.RETRYING | Phase.FAILED:
            decision = _unsettled(record, facts, policy)
            if decision.status is Status.PRESENT:  # the attempt had taken no effect
                before = replace(record, phase=Phase.CONFIRMED)
                other = _provided(before, facts, policy) if record.provided else _untried(facts, policy)
                return decision if other.status is Status.PRESENT else replace(other, afresh=True)
            withdraws = facts.invitation is not None and bool(facts.manifest.withdraw) and not decision.resume
            return replace(decision, withdraws=withdraws and decision.action in (Action.EXECUTE, Action.RETRY))
        case _:
            assert_never(record.phase)


def _untried(facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant that was never tried, or that is wanted again: no value of it can have changed."""
    match facts.verdict:
        case Present() as there:
            return found(None, there, replace(facts, changes={}), policy)
        case Missing():
            if (open_one := invited(None, facts, policy)) is not None:
                return open_one
            return Decision(Status.MISSING, Action.EXECUTE, "exists check: not found", afresh=True)
        case NoCheck():
            return Decision(Status.MISSING, Action.EXECUTE, "no exists check: runs once", afresh=True)
        case Unknown(reason, cause=cause):
            return Decision(Status.UNKNOWN, Action.NONE, reason, pending=True, cause=cause)
        case _:
            assert_never(facts.verdict)


def _wanted_again(record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on an entry that is back before its revocation settled: kept, or a new grant if it is gone."""
    kept = replace(record, phase=Phase.CONFIRMED, as_wanted_at=None, updated_at=None, accepted={}, left_over=False)
    match facts.verdict:
        case Present() as there:
            decision = found(kept, there, facts, policy)
        case NoCheck() if record.executed_at is not None:
            decision = webhook(kept, facts)
        case _:
            decision = _untried(facts, policy)
    if decision.status.granted and record.run.may_have_effect:
        return left_half_done(record, facts.manifest, decision)
    return decision


def _provided(record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant that was executed without error, or confirmed."""
    match facts.verdict:
        case NoCheck():
            return webhook(record, facts)
        case Unknown() as failed:
            return unchecked(record, failed)
        case Missing() | Present(account=Account.INVITED):
            return invited(record, facts, policy) or _lost(record, facts.changes, policy)
        case Present() as there:
            return found(record, there, facts, policy)
        case _:
            assert_never(facts.verdict)


def _lost(record: Record, changes: Differences, policy: Policy) -> Decision:
    """Decide on drift: the account existed and is gone."""
    reason = "drift: the account was there and is gone"
    if changes:
        reason = f"{reason}; changed since: {shown(changes)}"
    if policy.settings.drift.missing == "report":
        return Decision(Status.MISSING, Action.NONE, reason)
    if (ago := paused(record, policy.now)) is not None:
        return Decision(Status.MISSING, Action.NONE, f"drift, healed {ago} ago: gone again, left to a person")
    return Decision(Status.MISSING, Action.EXECUTE, reason, heals=True, afresh=True)


def _unsettled_update(record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on a failed update. It continues after the account's change, if that was done.

    What comes after it is sent also where the account is as wanted: only the requests say whether that is done.
    """
    verdict, manifest = facts.verdict, facts.manifest
    far = progress(record.run.steps, facts.texts, neither)
    error = record.last_error or "the attempt failed"
    failed = Failed.of(record, facts, policy, error)
    settled = replace(record, phase=Phase.CONFIRMED, as_wanted_at=None, updated_at=None, left_over=False)
    match verdict:
        case Unknown(reason):
            return replace(failed.left, reason=f"{'due; ' if failed.due else ''}exists check failed: {reason}; {error}")
        case Missing():
            return _lost(record, facts.changes, policy)
        case Present():
            now = found(settled, verdict, facts, policy)
        case NoCheck():
            now = webhook(settled, facts)
        case _:
            assert_never(verdict)
    if now.status.granted and not (far.effect or record.left_over):
        return now
    as_wanted = now.status.granted and bool(manifest.where)  # else nothing but what was sent says how the account is
    if as_wanted:  # then the request that changes it did, although its answer was lost
        far = progress(record.run.steps, facts.texts)
    if not failed.due:
        return replace(failed.left, reason=f"{far}; {error}", differs=now.differs, changed=now.changed)
    if not manifest.updates or (as_wanted and far.done == far.total):
        return now
    half = 0 < far.done < far.total and far.same and (as_wanted or account_changed(record.run.steps))
    return Decision(
        Status.RETRYING,
        Action.RETRY,
        f"{far}; {now.reason}",
        resume=far.done if half else 0,
        afresh=failed.afresh,
        heals=record.run.kind is Kind.MEND,
        differs=now.differs,
        changed=now.changed,
    )


def _unsettled(record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant whose attempt failed: once (`retrying`) or twice (`failed`).

    What a healing that failed left is still lost: whichever attempt makes it again heals it. The requests that took an
    open invitation back made no account; where the manifest has others now, they count like all.
    """
    verdict, texts, withdraws = facts.verdict, facts.texts, len(facts.manifest.withdraw)
    taking = [step.text for step in record.run.steps if step.index < withdraws]
    before = withdraws if record.run.kind is Kind.REINVITE and taking == list(texts[: len(taking)]) else 0
    making = [replace(step, index=step.index - before) for step in record.run.steps if step.index >= before]
    far = progress(making, texts[before:])
    if before and not far.effect and is_invited(verdict):
        verdict = Missing()  # what was to be taken back is still open
    elif facts.invitation is not None and not withdraws and isinstance(verdict, Missing):
        verdict = Present(account=Account.INVITED)  # nothing takes it back, and another would be a second one
    error = record.last_error or "the attempt failed"
    failed = Failed.of(record, facts, policy, error)
    due, left = failed.due, failed.left
    why = "what would be sent has changed" if failed.resent else "retry asked for"
    again = f"runs again at {stamp(record.retry_at)}"
    when = again if failed.waiting else "two attempts failed: nothing more runs on its own"
    heals = record.lost and not record.run.by_hand
    # What `run` began anew, without effect, was half done before: nobody knows how far any more.
    anew = record.left_over and record.run.kind is Kind.RUN and not far.effect
    unknown = anew and far.total > 1 and (not record.provided or record.lost or not facts.manifest.updates)

    match verdict:
        case Present() if not (far.effect or unknown):
            return Decision(Status.PRESENT, Action.NONE, "exists check: found; the attempt had taken no effect")
        case Present() if due and far.same and not unknown:
            resume = before + far.done
            return Decision(Status.RETRYING, Action.RETRY, str(far), resume=resume, afresh=failed.afresh, heals=heals)
        case Present() if due:
            ways = " or ".join(f"`reconcile {verb} {' '.join(record.key)}`" for verb in ("accept", "run"))
            same = "the manifest's requests up to there are no longer the same"
            reason = f"{far}, and {'what was done before that run is not known' if unknown else same}: {ways}"
            return replace(left, status=Status.FAILED, action=Action.NONE, reason=reason)
        case Present():
            return replace(left, reason=f"{far}; {when}; {error}")
        case Missing() | NoCheck() if failed.afresh:
            return Decision(Status.MISSING, Action.EXECUTE, f"{why}: starts afresh", afresh=True, heals=heals)
        case Missing() | NoCheck() if due:
            return Decision(Status.RETRYING, Action.RETRY, error, heals=heals)
        case Missing() | NoCheck():
            return replace(left, reason=f"{when}; {error}")
        case Unknown(reason):
            return replace(left, reason=f"{'due; ' if due else ''}exists check failed: {reason}; {error}")
        case _:
            assert_never(verdict)
