"""Decide on what is taken away: orphans, which git no longer wants, and the accounts of people who are locked.

As pure as `wanted.decide`, by the same rules. Beside what is done about an orphan: why it is one, and in which order
those of a hire are revoked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, assert_never

from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.wanted import Failed
from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import Policy, is_over, neither, progress, taken
from reconciler.model.grant import Decision, Key, Over, Phase, Record, all_needed
from reconciler.model.lock import Lock, LockState
from reconciler.model.manifest import Manifest
from reconciler.model.run import Kind
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Missing, NoCheck, Present, Unknown, is_invited, is_off

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import PlannedGrant
    from reconciler.repository.desired import Desired

NOT_IN_GIT = "no longer in git"
"""How the reason of an orphan begins whose entry is not over; else it begins with how that is."""

STILL_THERE = "the exists check still finds the account"
STILL_OPEN = "the invitation is still open"
"""What a revocation, or a withdrawal, failed with whose requests all succeeded."""

NO_REVOKE = "the manifest has no revoke"


def gone(over: str | None = None) -> Decision:
    """Decide on an orphan that a check does not find; `over` says how its entry is over, if git still has it."""
    return _revoked(over, "found gone")


def taken_by_hand(over: str | None = None) -> Decision:
    """Decide on an orphan by a person's word: no check and no request can show that it is gone."""
    return _revoked(over, "taken away by hand: there is no request for it")


def _revoked(over: str | None, how: str) -> Decision:
    return Decision(Status.REVOKED, Action.NONE, f"{over or NOT_IN_GIT}; {how}", detail=how if over is None else "")


def decide_orphan(
    record: Record, facts: Facts, policy: Policy, *, by_hand: bool = False, expired: bool = False
) -> Decision:
    """Decide on a grant that the ledger has and git no longer wants.

    `by_hand` says that a person asks for it: then an invitation that may be open, and what has no check, are revoked
    too, or taken for revoked where there is nothing to send. What is `expired` is, too, whatever the files and `prune`
    say.
    """
    if record.run.kind.locks:
        record = _locked_no_longer(record, facts)
    if record.phase is Phase.REVOKED:
        return Decision(Status.REVOKED, Action.NONE, record.reason)
    if facts.same_as is not None:
        return _left(facts, f"it is the same account as {facts.same_as}, which is wanted")
    off = is_off(facts.verdict)
    if off:  # a switched-off account counts as gone, also if a revocation switched it off
        facts = replace(facts, verdict=Missing())
    verdict, manifest = facts.verdict, facts.manifest
    open_one = facts.invitation is not None or is_invited(verdict)
    asked = by_hand or (record.revoking and record.run.by_hand)
    prune = expired or policy.settings.prunes(record.integration)
    protected = _protection(record, facts, policy, asked=asked, expired=expired)
    withdrawing = record.run.kind is Kind.WITHDRAW
    accepted = withdrawing and isinstance(verdict, Present) and not open_one  # there is no invitation to take back
    if record.revoking and record.phase.unsettled and not accepted:
        able = bool(manifest.withdraw if withdrawing else manifest.revoke)
        if able:
            tried = replace(record, fresh=True) if by_hand else record
            decision = _unsettled_revocation(tried, facts, policy, there=open_one and withdrawing)
        else:
            decision = gone(facts.over) if isinstance(verdict, Missing) else _left(facts, NO_REVOKE)
        if decision != gone(facts.over) or not open_one:  # else only an invitation is to be taken back
            return _wait_protected(replace(decision, withdraws=able and withdrawing), protected)
    unconfirmed = record.confirmed_at is None or record.phase is Phase.EXECUTED
    if not isinstance(verdict, Unknown):
        if open_one:
            return _invited(facts, protected, wanted=prune or asked)
        if isinstance(verdict, Missing) and (off or not unconfirmed):
            return gone(facts.over)
        if protected is not None:
            return _left(facts, protected)
    pending = prune and bool(manifest.revoke) and not unconfirmed and protected is None
    return replace(_unwanted(facts, asked=asked, prune=prune, expired=expired), pending=pending)


def _locked_no_longer(record: Record, facts: Facts) -> Record:
    """Return an orphan's record without its lock, which nobody asks for any more.

    What the lock took away by the requests of a removal, and only half, is half revoked.
    """
    kind = Kind.WITHDRAW if record.run.kind.withdraws else Kind.REVOKE
    gone = (isinstance(facts.verdict, Missing) and facts.invitation is None) or is_off(facts.verdict)
    if gone and record.phase.unsettled and (kind.withdraws or not facts.manifest.lock):
        return replace(record, open=replace(record.run, kind=kind))
    return replace(record, phase=Phase.CONFIRMED, open=None)


def _left(facts: Facts, why: str | None = None) -> Decision:
    """Leave an orphan as it is, for this reason."""
    begins = facts.over or NOT_IN_GIT
    return Decision(Status.ORPHANED, Action.NONE, begins if why is None else f"{begins}; {why}")


def _invited(facts: Facts, protected: str | None, *, wanted: bool) -> Decision:
    """Decide on an orphan that is only invited: withdraw its invitation, if that is wanted and the manifest can."""
    why = "an invitation is open"
    if protected is not None:
        return _left(facts, f"{why}; {protected}")
    if not facts.manifest.withdraw:
        return _left(facts, f"{why}, and the manifest has no withdraw")
    if not wanted:
        return _left(facts, f"{why}; prune: report")
    return replace(_left(facts, why), action=Action.REVOKE, withdraws=True)


def _unwanted(facts: Facts, *, asked: bool, prune: bool, expired: bool) -> Decision:
    """Decide on an orphan that may be revoked. One that does not exist was never confirmed."""
    revokes = bool(facts.manifest.revoke)
    match facts.verdict:
        case Unknown(reason):
            return _left(facts, f"exists check failed: {reason}")
        case NoCheck() if not (asked or (expired and revokes)):
            return _left(facts, "without an exists check nothing is revoked")
        case Missing() if not asked:
            return _left(facts, "never confirmed: an invitation may be open")
        case Present() if not (prune or asked):
            return _left(facts, "prune: report" if revokes else "prune: report, and the manifest has no revoke")
        case Present() | Missing() | NoCheck() if revokes:
            return replace(_left(facts), action=Action.REVOKE)
        case Present():
            return _left(facts, NO_REVOKE)
        case Missing() | NoCheck():
            return taken_by_hand(facts.over)
        case _:
            assert_never(facts.verdict)


def _protection(record: Record, facts: Facts, policy: Policy, *, asked: bool, expired: bool) -> str | None:
    """Return why an orphan is not revoked whatever `prune` says, or None. A manual revocation overrides it."""
    if not policy.removals:
        return "--no-removals: this pass revokes nothing"
    if asked:
        return None
    if record.keep:
        return "kept"
    if facts.error is not None and not expired:
        return f"nothing of {record.key.hire} is revoked until this is mended: {facts.error}"
    return facts.required


def _wait_protected(decision: Decision, protected: str | None) -> Decision:
    """Let a failed revocation wait for its retry for as long as nothing may be revoked."""
    if protected is None or decision.action is not Action.RETRY:
        return decision
    return replace(decision, action=Action.WAIT, resume=0, afresh=False, reason=f"{protected}; {decision.reason}")


def _unsettled_revocation(record: Record, facts: Facts, policy: Policy, *, there: bool) -> Decision:
    """Decide on a failed revocation. Its first change counts as done if the account is gone since.

    `there` says that the invitation that is to be taken back is still open.
    """
    verdict = facts.verdict
    absent = isinstance(verdict, Missing) and not there
    far = progress(record.run.steps, facts.texts, taken if absent else neither)
    error = f"revoke: {record.last_error or (STILL_OPEN if there else STILL_THERE)}"
    failed = Failed.of(record, facts, policy, error)
    half = 0 < far.done < far.total
    if absent and not half:
        return gone(facts.over)
    if record.unchecked and isinstance(verdict, Unknown):
        return _left(facts, f"revoked, not checked since: exists check failed: {verdict.reason}")
    if record.unchecked and isinstance(verdict, NoCheck):
        return Decision(Status.REVOKED, Action.NONE, "revoked")
    if isinstance(verdict, Unknown):
        return replace(failed.left, reason=f"{error}; exists check failed: {verdict.reason}")
    if not failed.due:
        return failed.left
    resume = far.done if half and far.same else 0
    return Decision(Status.RETRYING, Action.RETRY, error, resume=resume, afresh=failed.afresh)


def not_locked(lock: Lock, why: str, state: LockState = LockState.PENDING) -> Decision:
    """Decide that an account is not locked, for this reason."""
    return Decision(Status.SUSPENDED, Action.NONE, f"{lock}; {why}", locked=state)


def locked(lock: Lock, how: str) -> Decision:
    """Decide that an account is locked, or that there is none."""
    return not_locked(lock, how, LockState.DONE)


def lock_by_hand(lock: Lock, why: str) -> Decision:
    """Decide that only a person can lock an account."""
    return not_locked(lock, f"lock it there: {why}", LockState.MANUAL)


def decide_lock(lock: Lock, record: Record, facts: Facts, policy: Policy) -> Decision:
    """Decide on the account of somebody who is locked; `facts.texts` are of the kind that `kind_of_lock` says."""
    verdict, kind = facts.verdict, kind_of_lock(record, facts, policy)
    mine = record.run.kind is kind and record.phase.unsettled
    if isinstance(verdict, Unknown):
        return replace(not_locked(lock, f"exists check failed: {verdict.reason}"), cause=verdict.cause)
    gone, off = isinstance(verdict, Missing) and facts.invitation is None, is_off(verdict)
    far = progress(record.run.steps, facts.texts, taken if gone or off else neither)
    half = mine and 0 < far.done < far.total
    if off and not half:
        return locked(lock, "switched off")
    unsure = record.phase is Phase.EXECUTED or (record.phase.unsettled and record.confirmed_at is None)
    if gone and not half and not (unsure and record.leaves_something and not record.run.kind.locks):
        return locked(lock, "there is no account")
    if isinstance(verdict, NoCheck) and (record.off or not record.may_remain or (mine and record.unchecked)):
        return locked(lock, "switched off" if record.off else "nothing is there")
    if (lacks := _lacks(facts.manifest, kind, lock)) is not None:
        return lock_by_hand(lock, lacks)
    if not policy.removals:
        return not_locked(lock, "--no-removals: this pass takes nothing away")
    if not mine:
        return replace(not_locked(lock, "to be locked"), action=Action.REVOKE, afresh=True)
    error = f"not locked: {record.last_error or (STILL_OPEN if kind.withdraws else STILL_THERE)}"
    failed = Failed.of(record, facts, policy, error)
    if not failed.due:
        state = LockState.PENDING if failed.waiting else LockState.FAILED
        return replace(not_locked(lock, error, state), action=failed.left.action)
    resume = far.done if half and far.same else 0
    return replace(not_locked(lock, error), action=Action.RETRY, resume=resume, afresh=failed.afresh)


def kind_of_lock(record: Record, facts: Facts, policy: Policy) -> Kind:
    """Return what locks the account: an open invitation is taken back, and what was half taken away goes on.

    What is over is revoked, as without a lock.
    """
    if facts.invitation is not None or is_invited(facts.verdict):
        return Kind.LOCK_INVITED
    gone = isinstance(facts.verdict, Missing) or is_off(facts.verdict)
    if gone and record.revoking and record.phase.unsettled:
        return record.run.kind
    stays = record.keep or facts.required is not None or facts.same_as is not None
    ended = policy.expires and is_over(record, policy.now) and not stays
    return Kind.REVOKE if ended and facts.manifest.revoke else Kind.LOCK


def _lacks(manifest: Manifest, kind: Kind, lock: Lock) -> str | None:
    """Return what the manifest lacks to lock an account; None if it can."""
    if kind is Kind.REVOKE:
        return None
    if kind.withdraws:
        return None if manifest.withdraw else "an invitation is open, and the manifest has no withdraw"
    if manifest.lock:
        return None
    if not manifest.revoke:
        return "the manifest has no lock and no revoke"
    if manifest.revoke_deletes and not lock.deletes:
        return f"the manifest has no lock, and its revoke deletes; or `reconcile lock {lock.hire} --delete`"
    return None


def why_over(record: Record, desired: Desired, now: datetime) -> str | None:
    """Return why an orphan counts as removed although git has its entry, or before it left git; or None."""
    hire, access = record.key
    known = desired.over(hire, access, now, record.acted_at)
    if known is not None or not is_over(record, now):
        return known
    if record.over is Over.LEFT or not desired.has(hire, access):
        return f"{NOT_IN_GIT}, and its time is over"
    return f"its time was over at {stamp(record.ends_at)}: take the entry out, and add it again"


def needing(access: str, among: Iterable[str], needs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return those that need an entry, directly or through others; none that it needs itself, which is a circle."""
    own = all_needed(access, needs)
    return {each for each in among if access in all_needed(each, needs) and each not in own}


def dependents_first(orphans: list[PlannedGrant], needs: Mapping[str, Iterable[str]]) -> list[Key]:
    """Order a hire's orphans: each after those that need it, also through entries that stay; circles as given."""
    needed_by = {item.grant.key.access: all_needed(item.grant.key.access, needs) for item in orphans}
    queue: list[Key] = []
    left = list(orphans)
    while left:
        needed = {need for item in left for need in needed_by[item.grant.key.access]}
        free = [item for item in left if item.grant.key.access not in needed] or left
        queue += [item.grant.key for item in free]
        left = [item for item in left if item.grant.key not in queue]
    return queue
