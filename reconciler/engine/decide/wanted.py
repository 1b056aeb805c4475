"""Decide what to do about one grant: a pure function of the desired, the observed, the ledger and the time.

`decide_unasked` is for grants that are not checked, `decide` for those that are, `decide_orphan` for those that git no
longer wants. The order of the rules and all cases are those of docs/design/states.md. Nothing here reads a clock, logs,
or sends.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import assert_never

from reconciler.engine.decide.existing import UNABLE, Capabilities, found, invited, paused, shown, unchecked, webhook
from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import NEITHER, TAKEN, Policy, account_changed, progress
from reconciler.model.grant import Decision, Differences, Grant, Kind, Phase, Record
from reconciler.model.status import Action, Status
from reconciler.model.value import value_class
from reconciler.model.verdict import Account, Invited, Missing, NoCheck, Present, Unknown, Verdict

__all__ = [
    "NOT_IN_GIT",
    "STILL_OPEN",
    "STILL_THERE",
    "Facts",
    "decide",
    "decide_orphan",
    "decide_unasked",
    "gone",
    "taken_by_hand",
]

NOT_IN_GIT = "no longer in git"
"""How the reason of an orphan begins whose entry is not over; else it begins with how that is."""

STILL_THERE = "the exists check still finds the account"
STILL_OPEN = "the invitation is still open"
"""What a revocation, or a withdrawal, failed with whose requests all succeeded."""


def gone(over: str | None = None) -> Decision:
    """Decide on an orphan that a check does not find; `over` says how its entry is over, if git still has it."""
    return _revoked(over, "found gone")


def taken_by_hand(over: str | None = None) -> Decision:
    """Decide on an orphan by a person's word: no check and no request can show that it is gone."""
    return _revoked(over, "taken away by hand: there is no request for it")


def _revoked(over: str | None, how: str) -> Decision:
    return Decision(Status.REVOKED, Action.NONE, f"{over or NOT_IN_GIT}; {how}", detail=how if over is None else "")


@value_class
class Facts:
    """What is known of a grant now beside its record: what was found, and what could be sent.

    `can` says what the manifest can do about an account, `invitation` is the open one of somebody who is not there.
    `changes` are the values that git changed since they were sent, `digest` is the keyed digest of what would be sent
    now, `texts` are the digests of the requests that the open attempt, or a revocation, is made of. `required` is the
    rule of the policy by which an orphan must not be lost.
    """

    verdict: Verdict
    can: Capabilities = UNABLE
    invitation: Invited | None = None
    changes: Differences = field(default_factory=dict)
    digest: str | None = None
    texts: tuple[str, ...] = ()
    required: str | None = None
    over: str | None = None
    """How an orphan's entry is over, if git still has it."""

    @property
    def left(self) -> Decision:
        """Return what is decided on an orphan that is left as it is, with the beginning of its reason."""
        return Decision(Status.ORPHANED, Action.NONE, self.over or NOT_IN_GIT)


@value_class
class _Failed:
    """A failed attempt: whether another one is due, and `left`, the decision as long as none is."""

    waiting: bool
    resent: bool
    """Whether what would be sent has changed."""
    afresh: bool
    due: bool
    left: Decision

    @classmethod
    def of(cls, record: Record, policy: Policy, digest: str | None, error: str = "") -> _Failed:
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
    refusal = None if grant.requested is None else grant.requested.refusal
    if refusal is not None and (record is None or not record.acted_on):
        return Decision(Status.INVALID, Action.NONE, refusal)
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


def decide(record: Record | None, facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant that was checked, or that has no check."""
    verdict = facts.verdict
    if facts.invitation is None and isinstance(verdict, Present) and verdict.account is Account.INVITED:
        facts = replace(facts, invitation=Invited(verdict.stored))  # it counts as found in `pending`
    if record is not None and isinstance(verdict, Present) and verdict.under is not None:
        reason = f"the account is under {verdict.under}: rename it there, or `reconcile run`"
        return Decision(Status.BLOCKED, Action.NONE, reason)
    if record is None or record.phase in (Phase.NEW, Phase.REVOKED):
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
            withdraws = facts.invitation is not None and facts.can.withdraws > 0 and not decision.resume
            return replace(decision, withdraws=withdraws and decision.action in (Action.EXECUTE, Action.RETRY))
        case _:
            assert_never(record.phase)


def _untried(facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant that was never tried, or that is wanted again: no value of it can have changed."""
    match facts.verdict:
        case Present() as there:
            return found(None, there, {}, facts.can, drift=policy.drift, now=policy.local)
        case Missing():
            if (open_one := invited(None, facts.invitation, {}, facts.can, now=policy.local)) is not None:
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
    if isinstance(facts.verdict, NoCheck) and record.executed_at is not None:
        return Decision(Status.DONE, Action.NONE, "it ran")
    decision = _untried(facts, policy)
    if decision.status is Status.PRESENT and any(step.may_have_effect for step in record.run.steps):
        again = f"`reconcile run {' '.join(record.key)}` provisions all of it again"
        return replace(decision, reason=f"exists check: found, though partly revoked; {again}")
    return decision


def _provided(record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on a grant that was executed without error, or confirmed."""
    verdict, changes, can = facts.verdict, facts.changes, facts.can
    match verdict:
        case NoCheck():
            return webhook(record, changes, can)
        case Unknown(why, cause=cause):
            return unchecked(record, why, cause)
        case Missing() | Present(account=Account.INVITED):
            decision = invited(record, facts.invitation, changes, can, now=policy.local)
            return decision if decision is not None else _lost(record, policy, changes)
        case Present():
            return found(record, verdict, changes, can, drift=policy.drift, now=policy.local)
        case _:
            assert_never(verdict)


def _lost(record: Record, policy: Policy, changes: Differences) -> Decision:
    """Decide on drift: the account existed and is gone."""
    reason = "drift: the account was there and is gone"
    if changes:
        reason = f"{reason}; changed since: {shown(changes)}"
    if policy.drift.missing == "report":
        return Decision(Status.MISSING, Action.NONE, reason)
    if (ago := paused(record, policy.now)) is not None:
        return Decision(Status.MISSING, Action.NONE, f"drift, healed {ago} ago: gone again, left to a person")
    return Decision(Status.MISSING, Action.EXECUTE, reason, heals=True, afresh=True)


def _unsettled_update(record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on a failed update. It continues after the account's change, if that was done.

    What comes after it is sent also where the account is as wanted: only the requests say whether that is done.
    """
    verdict, changes, can = facts.verdict, facts.changes, facts.can
    far = progress(record.run.steps, facts.texts, NEITHER)
    error = record.last_error or "the attempt failed"
    failed = _Failed.of(record, policy, facts.digest, error)
    settled = replace(record, phase=Phase.CONFIRMED, as_wanted_at=None, updated_at=None)
    match verdict:
        case Unknown(reason):
            return replace(failed.left, reason=f"{'due; ' if failed.due else ''}exists check failed: {reason}; {error}")
        case Missing():
            return _lost(record, policy, changes)
        case Present():
            now = found(settled, verdict, changes, can, drift=policy.drift, now=policy.local)
        case NoCheck():
            now = webhook(settled, changes, can)
        case _:
            assert_never(verdict)
    if now.status.granted and not far.effect:
        return now
    as_wanted = now.status.granted and can.compares  # else nothing but what was sent says how the account is
    if as_wanted:  # then the request that changes it did, although its answer was lost
        far = progress(record.run.steps, facts.texts)
    if not failed.due:
        return replace(failed.left, reason=f"{far}; {error}", differs=now.differs, changed=now.changed)
    if not can.updates or (as_wanted and far.done == far.total):
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
    verdict, texts, withdraws = facts.verdict, facts.texts, facts.can.withdraws
    taking = [step.text for step in record.run.steps if step.index < withdraws]
    before = withdraws if record.run.kind is Kind.REINVITE and taking == list(texts[: len(taking)]) else 0
    making = [replace(step, index=step.index - before) for step in record.run.steps if step.index >= before]
    far = progress(making, texts[before:])
    if before and not far.effect and isinstance(verdict, Present) and verdict.account is Account.INVITED:
        verdict = Missing()  # what was to be taken back is still open
    failed, error = _Failed.of(record, policy, facts.digest), record.last_error or "the attempt failed"
    due, left = failed.due, failed.left
    why = "what would be sent has changed" if failed.resent else "retry asked for"
    again = f"runs again at {stamp(record.retry_at)}"
    when = again if failed.waiting else "two attempts failed: nothing more runs on its own"
    heals = record.lost and not record.run.by_hand

    match verdict:
        case Present() if not far.effect:
            return Decision(Status.PRESENT, Action.NONE, "exists check: found; the attempt had taken no effect")
        case Present() if due and far.same:
            resume = before + far.done
            return Decision(Status.RETRYING, Action.RETRY, str(far), resume=resume, afresh=failed.afresh, heals=heals)
        case Present() if due:
            ways = " or ".join(f"`reconcile {verb} {' '.join(record.key)}`" for verb in ("accept", "run"))
            reason = f"{far}, and the manifest's requests up to there are no longer the same: {ways}"
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


def decide_orphan(
    record: Record,
    facts: Facts,
    policy: Policy,
    *,
    by_hand: bool = False,
    expired: bool = False,
    same_as: str | None = None,
    error: str | None = None,
) -> Decision:
    """Decide on a grant that the ledger has and git no longer wants.

    `same_as` is a grant still wanted for which this is the same account, `error` one in the hire's files, which may be
    why it is no longer wanted. `by_hand` says that a person asks for it: then an invitation that may be open, and
    what has no check, are revoked too, or taken for revoked where there is nothing to send. What is `expired` is, too,
    whatever the files and `prune` say.
    """
    if record.run.kind.locks:  # nobody asks for that any more
        record = replace(record, phase=Phase.CONFIRMED, open=None)
    verdict, can = facts.verdict, facts.can
    asked = by_hand or (record.revoking and record.run.by_hand)
    error = None if expired else error
    prune = expired or policy.prunes(record.integration)
    protected = _protection(record, policy, error, asked=asked) or (None if asked else facts.required)
    left = facts.left
    if record.phase is Phase.REVOKED:
        return Decision(Status.REVOKED, Action.NONE, record.reason)
    off = isinstance(verdict, Present) and verdict.account is Account.INACTIVE
    if off:  # a switched-off account counts as gone, also if a revocation switched it off
        verdict = Missing()
    open_one = facts.invitation is not None or (isinstance(verdict, Present) and verdict.account is Account.INVITED)
    if same_as is not None:
        return replace(left, reason=f"{left.reason}; it is the same account as {same_as}, which is")
    withdrawing = record.run.kind is Kind.WITHDRAW
    accepted = withdrawing and isinstance(verdict, Present) and not open_one  # there is no invitation to take back
    if record.revoking and record.phase.unsettled and not accepted:
        able = bool(can.withdraws) if withdrawing else can.revokes
        if able:
            tried = replace(record, fresh=True) if by_hand else record
            there = open_one and withdrawing
            decision = _unsettled_revocation(tried, replace(facts, verdict=verdict), policy, there=there)
        else:
            decision = gone(facts.over) if isinstance(verdict, Missing) else _irrevocable(left)
        if decision != gone(facts.over) or not open_one:  # else only an invitation is to be taken back
            return _wait_protected(replace(decision, withdraws=able and withdrawing), protected)
    if open_one and not isinstance(verdict, Unknown):
        return _invited_orphan(left, protected, can, asked=asked, prune=prune)
    unconfirmed = record.confirmed_at is None or record.phase is Phase.EXECUTED
    if isinstance(verdict, Missing) and (off or not unconfirmed):
        return gone(facts.over)
    if protected is not None and not isinstance(verdict, Unknown):
        return replace(left, reason=f"{left.reason}; {protected}")
    asked = asked or (expired and can.revokes and isinstance(verdict, NoCheck))
    pending = prune and can.revokes and not unconfirmed and protected is None
    return replace(_unwanted(facts, verdict, asked=asked, prune=prune), pending=pending)


def _invited_orphan(left: Decision, protected: str | None, can: Capabilities, *, asked: bool, prune: bool) -> Decision:
    """Decide on an orphan that is only invited: withdraw its invitation, if the manifest can."""
    reason = f"{left.reason}; an invitation is open"
    if protected is not None:
        return replace(left, reason=f"{reason}; {protected}")
    if not can.withdraws:
        return replace(left, reason=f"{reason}, and the manifest has no withdraw")
    if not (prune or asked):
        return replace(left, reason=f"{reason}; prune: report")
    return replace(left, action=Action.REVOKE, reason=reason, withdraws=True)


def _unwanted(facts: Facts, verdict: Verdict, *, asked: bool, prune: bool) -> Decision:
    """Decide on an orphan that may be revoked. One that does not exist was never confirmed."""
    left, can = facts.left, facts.can
    match verdict:
        case Unknown(reason):
            return replace(left, reason=f"{left.reason}; exists check failed: {reason}")
        case NoCheck() if not asked:
            return replace(left, reason=f"{left.reason}; without an exists check nothing is revoked")
        case Missing() if not asked:
            return replace(left, reason=f"{left.reason}; never confirmed: an invitation may be open")
        case Present() if not (prune or asked):
            lacks = "" if can.revokes else ", and the manifest has no revoke"
            return replace(left, reason=f"{left.reason}; prune: report{lacks}")
        case Present() | Missing() | NoCheck():
            if can.revokes:
                return replace(left, action=Action.REVOKE)
            there = isinstance(verdict, Present)
            return _irrevocable(left) if there else taken_by_hand(facts.over)
        case _:
            assert_never(verdict)


def _protection(record: Record, policy: Policy, error: str | None, *, asked: bool) -> str | None:
    """Return why an orphan is not revoked whatever `prune` says, or None. A manual revocation overrides it."""
    if not policy.removals:
        return "--no-removals: this pass revokes nothing"
    if asked:
        return None
    if record.keep:
        return "kept"
    return f"nothing of {record.key.hire} is revoked until this is mended: {error}" if error is not None else None


def _wait_protected(decision: Decision, protected: str | None) -> Decision:
    """Let a failed revocation wait for its retry for as long as nothing may be revoked."""
    if protected is None or decision.action is not Action.RETRY:
        return decision
    return replace(decision, action=Action.WAIT, resume=0, afresh=False, reason=f"{protected}; {decision.reason}")


def _irrevocable(left: Decision) -> Decision:
    return replace(left, reason=f"{left.reason}; the manifest has no revoke")


def _unsettled_revocation(record: Record, facts: Facts, policy: Policy, *, there: bool) -> Decision:
    """Decide on a failed revocation. Its first change counts as done if the account is gone since.

    `there` says that the invitation that is to be taken back is still open.
    """
    absent = isinstance(facts.verdict, Missing) and not there
    far = progress(record.run.steps, facts.texts, TAKEN if absent else NEITHER)
    error = f"revoke: {record.last_error or (STILL_OPEN if there else STILL_THERE)}"
    failed = _Failed.of(record, policy, facts.digest, error)
    half = 0 < far.done < far.total
    if absent and not half:
        return gone(facts.over)
    if record.unchecked and isinstance(facts.verdict, Unknown):
        why = f"revoked, not checked since: exists check failed: {facts.verdict.reason}"
        return replace(facts.left, reason=f"{facts.left.reason}; {why}")
    if record.unchecked and isinstance(facts.verdict, NoCheck):
        return Decision(Status.REVOKED, Action.NONE, "revoked")
    if isinstance(facts.verdict, Unknown):
        return replace(failed.left, reason=f"{error}; exists check failed: {facts.verdict.reason}")
    if not failed.due:
        return failed.left
    resume = far.done if half and far.same else 0
    return Decision(Status.RETRYING, Action.RETRY, error, resume=resume, afresh=failed.afresh)
