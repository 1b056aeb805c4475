"""What is decided on an attempt that failed: of an account to make, to invite or to update."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.wanted import decide
from reconciler.model.grant import Phase
from reconciler.model.run import Kind, Outcome, Step
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Account, Invited, Missing, NoCheck, Present, Unknown
from tests.engine.test_decide import CONFIRMED, DUE, EXECUTED, FAILED, HALF, HOUR, LOST, NOW, POLICY, TEXTS, WAITING
from tests.records import but, manifest

facts = partial(Facts, digest="d", texts=TEXTS)

ROLE, WHERE = {"role": ("member", "admin")}, {"role": "admin"}
INVITED = Present(account=Account.INVITED)
LOOKED_UP = (Step(0, "a", False, Outcome.DONE), Step(1, "b", True, Outcome.REFUSED))

COMPARES = manifest("update", where=WHERE)
BLIND = manifest("update")
"""Without `where`, nothing but what was sent says how the account is."""
DIFFERS = facts(Present(differs=ROLE), COMPARES)
AS_WANTED = facts(Present(), COMPARES)

SAID = "0 of 3 requests done; answered 500"
WANTED = "requests done; role: member, git wants admin"
FOUND = "exists check: found"

UPDATES = {
    "waits": (WAITING, DIFFERS, Status.RETRYING, Action.WAIT, 0, SAID),
    "failed twice": (FAILED, DIFFERS, Status.FAILED, Action.NONE, 0, SAID),
    "due": (DUE, DIFFERS, Status.RETRYING, Action.RETRY, 0, f"0 of 3 {WANTED}"),
    "due, the account was changed": (
        but(DUE, steps=HALF),
        DIFFERS,
        Status.RETRYING,
        Action.RETRY,
        1,
        f"1 of 3 {WANTED}",
    ),
    "due, only a look-up was done": (
        but(DUE, steps=LOOKED_UP),
        DIFFERS,
        Status.RETRYING,
        Action.RETRY,
        0,
        f"1 of 3 {WANTED}",
    ),
    "due, nothing but a look-up was sent": (
        but(DUE, steps=LOOKED_UP[:1]),
        DIFFERS,
        Status.RETRYING,
        Action.RETRY,
        0,
        f"1 of 3 {WANTED}",
    ),
    "due, as wanted once": (
        but(DUE, as_wanted_at=NOW - HOUR, healed_at=NOW - HOUR),
        DIFFERS,
        Status.RETRYING,
        Action.RETRY,
        0,
        f"0 of 3 {WANTED}",
    ),
    "due, updated before and not seen since": (
        but(DUE, updated_at=NOW - HOUR),
        DIFFERS,
        Status.RETRYING,
        Action.RETRY,
        0,
        f"0 of 3 {WANTED}",
    ),
    "due, the manifest has fewer requests now": (
        but(DUE, steps=HALF),
        facts(Present(differs=ROLE), COMPARES, texts=("a",)),
        Status.RETRYING,
        Action.RETRY,
        0,
        f"1 of 1 {WANTED}",
    ),
    "due, the manifest has other requests now": (
        but(DUE, steps=HALF),
        facts(Present(differs=ROLE), COMPARES, texts=("x", "b", "c")),
        Status.RETRYING,
        Action.RETRY,
        0,
        f"1 of 3 {WANTED}",
    ),
    "due, the manifest has no update now": (
        DUE,
        facts(Present(differs=ROLE), manifest(where=WHERE)),
        Status.DIFFERS,
        Action.NONE,
        0,
        "role: member, git wants admin; change it there, or `reconcile accept ada asana` or `reconcile run ada asana`",
    ),
    "waits, as wanted by now, without effect": (WAITING, AS_WANTED, Status.PRESENT, Action.NONE, 0, FOUND),
    "waits, as wanted by now, with effect": (
        but(WAITING, steps=HALF),
        AS_WANTED,
        Status.RETRYING,
        Action.WAIT,
        0,
        "1 of 3 requests done; answered 500",
    ),
    "due, as wanted by now, with effect": (
        but(DUE, steps=HALF),
        AS_WANTED,
        Status.RETRYING,
        Action.RETRY,
        1,
        f"1 of 3 requests done; {FOUND}",
    ),
    "due, as wanted by now, its answer lost": (
        but(DUE, steps=LOST),
        AS_WANTED,
        Status.RETRYING,
        Action.RETRY,
        1,
        f"1 of 3 requests done; {FOUND}",
    ),
    "due, as wanted by now, other requests": (
        but(DUE, steps=LOST),
        replace(AS_WANTED, texts=("x", "b", "c")),
        Status.RETRYING,
        Action.RETRY,
        0,
        f"1 of 3 requests done; {FOUND}",
    ),
    "due, as wanted by now, nothing left": (
        but(DUE, steps=LOST),
        replace(AS_WANTED, texts=("a",)),
        Status.PRESENT,
        Action.NONE,
        0,
        FOUND,
    ),
    "due, blind, with effect": (
        but(DUE, steps=HALF),
        facts(Present(), BLIND),
        Status.RETRYING,
        Action.RETRY,
        1,
        f"1 of 3 requests done; {FOUND}",
    ),
    "due, blind, without effect": (DUE, facts(Present(), BLIND), Status.PRESENT, Action.NONE, 0, FOUND),
    "due, the check fails": (
        DUE,
        facts(Unknown("timeout"), COMPARES),
        Status.RETRYING,
        Action.WAIT,
        0,
        "due; exists check failed: timeout; answered 500",
    ),
    "failed twice, the account is gone": (
        FAILED,
        facts(Missing(), COMPARES),
        Status.MISSING,
        Action.EXECUTE,
        0,
        "drift: the account was there and is gone",
    ),
}


@pytest.mark.parametrize(("known", "found", "status", "action", "resume", "reason"), UPDATES.values(), ids=UPDATES)
def test_failed_update(known, found, status, action, resume, reason):
    decision = decide(but(known, kind=Kind.UPDATE, confirmed_at=NOW - HOUR), found, POLICY)
    assert (decision.status, decision.action, decision.resume, decision.reason) == (status, action, resume, reason)
    assert (dict(decision.differs) == ROLE) is (found.verdict == DIFFERS.verdict)


def test_update_of_changed_values_says_so_until_it_is_done():
    found = facts(Present(), BLIND, changes={"TEAM": ("7", "8")})
    for known, action in ((DUE, Action.RETRY), (WAITING, Action.WAIT)):
        decision = decide(but(known, kind=Kind.UPDATE, confirmed_at=NOW), found, POLICY)
        assert (decision.action, decision.changed, decision.differs) == (action, True, {"TEAM": ("7", "8")})


def test_retry_of_an_update_that_is_asked_for_has_two_attempts():
    assert decide(but(FAILED, kind=Kind.UPDATE, fresh=True, confirmed_at=NOW), DIFFERS, POLICY).afresh


def test_retry_of_a_mended_difference_heals_as_its_first_attempt_did():
    for kind in (Kind.UPDATE, Kind.MEND):
        assert decide(but(DUE, kind=kind, confirmed_at=NOW), DIFFERS, POLICY).heals is (kind is Kind.MEND)


def test_account_that_is_gone_after_a_failed_update_is_made_with_two_attempts():
    decision = decide(but(FAILED, kind=Kind.UPDATE, confirmed_at=NOW), facts(Missing(), COMPARES), POLICY)
    assert (decision.heals, decision.afresh) == (True, True)


@pytest.mark.parametrize(
    ("known", "heals"),
    [(but(DUE, lost=True), True), (DUE, False), (but(DUE, lost=True, by_hand=True), False)],
    ids=["lost", "never there", "asked for"],
)
@pytest.mark.parametrize("fresh", [False, True], ids=["due", "afresh"])
def test_retry_heals_what_was_lost(known, heals, fresh):
    decision = decide(but(known, fresh=fresh), facts(Missing()), POLICY)
    assert (decision.action, decision.heals) == (Action.EXECUTE if fresh else Action.RETRY, heals)


@pytest.mark.parametrize(
    ("known", "found", "status"),
    [
        (but(DUE, by_hand=True), Present(), Status.PRESENT),
        (but(DUE, by_hand=True, confirmed_at=NOW), Present(), Status.PRESENT),
        (but(DUE, by_hand=True, confirmed_at=NOW), Present(account=Account.INACTIVE), Status.DIFFERS),
        (but(DUE, lost=True, confirmed_at=NOW), Present(), Status.PRESENT),
    ],
)
def test_account_that_is_found_after_an_attempt_without_effect_is_judged_as_before_it(known, found, status):
    assert decide(known, facts(found, BLIND), POLICY).status is status
    changed = decide(known, facts(found, BLIND, changes={"TEAM": ("7", "8")}), POLICY)
    assert changed.status is (Status.DIFFERS if known.provided else status)


@pytest.mark.parametrize("verdict", [Missing(), NoCheck()], ids=["missing", "without check"])
def test_due_retry_says_what_went_wrong(verdict):
    assert decide(DUE, facts(verdict), POLICY).reason == "answered 500"
    assert decide(but(DUE, last_error=None), facts(verdict), POLICY).reason == "the attempt failed"


TAKES_BACK = manifest("withdraw")


@pytest.mark.parametrize(
    ("known", "verdict", "invitation", "withdraws"),
    [
        pytest.param(DUE, Missing(), Invited(), True, id="due, an invitation is open"),
        pytest.param(DUE, Missing(), None, False, id="due, none is open"),
        pytest.param(WAITING, Missing(), Invited(), False, id="not due"),
        pytest.param(but(DUE, by_hand=True), Present(), None, False, id="due, the account is there"),
        pytest.param(but(DUE, by_hand=True), INVITED, None, False, id="due, found as invited"),
        pytest.param(but(DUE, by_hand=True, steps=HALF), INVITED, None, False, id="due, and continues"),
    ],
)
def test_retry_takes_back_an_invitation_only_if_one_is_open(known, verdict, invitation, withdraws):
    assert decide(known, facts(verdict, TAKES_BACK, invitation), POLICY).withdraws is withdraws
    assert not decide(known, facts(verdict, manifest(), invitation), POLICY).withdraws


TAKEN = (Step(0, "a", True, Outcome.DONE), Step(1, "b", True, Outcome.REFUSED))
"""The invitation was taken back, and the request for another was refused."""


@pytest.mark.parametrize(
    ("kind", "verdict", "status", "action"),
    [
        pytest.param(Kind.REINVITE, INVITED, Status.RETRYING, Action.RETRY, id="still invited"),
        pytest.param(Kind.REINVITE, Present(), Status.PRESENT, Action.NONE, id="accepted meanwhile"),
        pytest.param(Kind.EXECUTE, INVITED, Status.UNCONFIRMED, Action.NONE, id="invited by somebody else"),
    ],
)
def test_invitation_that_could_not_be_renewed(kind, verdict, status, action):
    steps = TAKEN if kind is Kind.REINVITE else ()
    decision = decide(but(DUE, kind=kind, steps=steps), facts(verdict, TAKES_BACK), POLICY)
    assert (decision.status, decision.action) == (status, action)


@pytest.mark.parametrize(
    ("steps", "verdict", "texts", "status", "resume"),
    [
        pytest.param((*TAKEN[:1], Step(1, "b", True, Outcome.LOST)), INVITED, TEXTS, Status.RETRYING, 2, id="lost"),
        pytest.param(
            (*TAKEN[:1], Step(1, "b", True, Outcome.DONE), Step(2, "c", True, Outcome.REFUSED)),
            Present(),
            TEXTS,
            Status.RETRYING,
            2,
            id="half done",
        ),
        pytest.param(TAKEN, INVITED, ("x", "b", "c"), Status.FAILED, 0, id="another withdraw by now"),
    ],
)
def test_renewed_invitation_continues_after_what_was_done(steps, verdict, texts, status, resume):
    known = but(DUE, kind=Kind.REINVITE, steps=steps)
    decision = decide(known, facts(verdict, TAKES_BACK, texts=texts), POLICY)
    assert (decision.status, decision.resume) == (status, resume)


def test_invitation_is_sent_again_once_it_has_expired():
    weekly = manifest("withdraw", invitation={"expires": "7d", "resend": 1})
    for days, action in ((6, Action.NONE), (8, Action.EXECUTE)):
        known = but(EXECUTED, executed_at=NOW - timedelta(days=days), invitations=1)
        decision = decide(known, facts(INVITED, weekly), POLICY)
        assert (decision.status, decision.action) == (Status.UNCONFIRMED, action)
        assert decision.withdraws is (action is Action.EXECUTE)


def test_run_that_a_person_asked_for_never_executes_for_a_switched_off_account():
    decision = decide(but(DUE, by_hand=True), facts(Present(account=Account.INACTIVE), COMPARES), POLICY)
    assert (decision.status, decision.action) == (Status.DIFFERS, Action.UPDATE)


REVOKING = but(FAILED, kind=Kind.REVOKE, confirmed_at=NOW - HOUR)


@pytest.mark.parametrize(
    ("known", "verdict", "status", "action", "reason"),
    [
        pytest.param(
            but(REVOKING, executed_at=NOW), Present(), Status.PRESENT, Action.NONE, FOUND, id="nothing was taken away"
        ),
        pytest.param(
            but(REVOKING, steps=HALF),
            Present(),
            Status.PRESENT,
            Action.NONE,
            f"{FOUND}, though partly revoked; `reconcile run ada asana` provisions all of it again",
            id="a part was taken away",
        ),
        pytest.param(
            but(REVOKING, steps=HALF), Missing(), Status.MISSING, Action.EXECUTE, "exists check: not found", id="gone"
        ),
        pytest.param(
            but(REVOKING, executed_at=NOW - HOUR),
            NoCheck(),
            Status.DONE,
            Action.NONE,
            "it ran",
            id="a webhook that ran",
        ),
        pytest.param(
            REVOKING,
            NoCheck(),
            Status.MISSING,
            Action.EXECUTE,
            "no exists check: runs once",
            id="a webhook that was never run",
        ),
        pytest.param(REVOKING, Unknown("x"), Status.UNKNOWN, Action.NONE, "x", id="the check fails"),
    ],
)
def test_entry_is_back_before_its_revocation_is_settled(known, verdict, status, action, reason):
    decision = decide(known, facts(verdict), POLICY)
    assert (decision.status, decision.action, decision.reason) == (status, action, reason)


SEEN = "; last seen present on 2026-12-01T08:00:00Z"


@pytest.mark.parametrize(
    ("status", "code", "checked_at", "seen"),
    [
        pytest.param(Status.PRESENT, None, NOW - HOUR, SEEN, id="found before"),
        pytest.param(Status.PRESENT, None, None, "", id="never checked"),
        pytest.param(Status.UNKNOWN, ReasonCode.LAST_SEEN, NOW, SEEN, id="not known for longer"),
        pytest.param(Status.UNKNOWN, None, NOW - HOUR, "", id="not known, and not seen"),
        pytest.param(Status.MISSING, ReasonCode.DRIFT, NOW - HOUR, "", id="missing before"),
    ],
)
def test_unknown_says_until_when_the_account_was_seen(status, code, checked_at, seen):
    said = f"answered 500{SEEN}"  # by the service itself: its words decide nothing
    known = but(CONFIRMED, status=status, reason=said, code=code, checked_at=checked_at, seen_at=NOW - HOUR)
    decision = decide(known, facts(Unknown("answered 500")), POLICY)
    assert (decision.reason, decision.code) == (f"answered 500{seen}", ReasonCode.LAST_SEEN if seen else None)


def test_revoked_grant_is_a_new_one_whatever_was_open():
    decision = decide(but(CONFIRMED, phase=Phase.REVOKED, lost=True), facts(Missing()), POLICY)
    assert (decision.action, decision.heals, decision.reason) == (Action.EXECUTE, False, "exists check: not found")
