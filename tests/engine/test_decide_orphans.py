"""What is decided on a grant that the ledger has and git no longer wants."""

from __future__ import annotations

from functools import partial

import pytest

from reconciler.engine.decide.existing import Facts
from reconciler.engine.decide.orphans import decide_orphan, gone, taken_by_hand
from reconciler.model.grant import Phase
from reconciler.model.run import Kind, Outcome
from reconciler.model.settings import Settings
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Account, Invited, Missing, NoCheck, Present, Unknown
from tests.engine.test_decide import (
    CONFIRMED,
    DONE,
    DUE,
    EXECUTED,
    FAILED,
    HALF,
    HOUR,
    LOST,
    NOW,
    POLICY,
    TEXTS,
    WAITING,
    record,
    steps,
)
from tests.records import but, manifest

PRUNE = replace(POLICY, settings=Settings(prune="revoke"))
NO_REMOVALS = replace(PRUNE, removals=False)
BOTH = manifest("revoke", "withdraw")
REVOKES, WITHDRAWS, NEITHER = manifest("revoke"), manifest("withdraw"), manifest()
INVITED, OFF = Present(account=Account.INVITED), Present(account=Account.INACTIVE)
KEPT = but(CONFIRMED, keep=True)

facts = partial(Facts, digest="d", texts=TEXTS)

NONE, REVOKE = (Status.ORPHANED, Action.NONE), (Status.ORPHANED, Action.REVOKE)
REVOKED = (Status.REVOKED, Action.NONE)
WAIT, RETRY, GIVEN_UP = (Status.RETRYING, Action.WAIT), (Status.RETRYING, Action.RETRY), (Status.FAILED, Action.NONE)

ORPHANS = {
    "reported by default": (CONFIRMED, facts(Present(), BOTH), POLICY, NONE, "prune: report"),
    "reported, no revoke": (
        CONFIRMED,
        facts(Present(), WITHDRAWS),
        POLICY,
        NONE,
        "prune: report, and the manifest has no revoke",
    ),
    "revoked where settings say so": (CONFIRMED, facts(Present(), BOTH), PRUNE, REVOKE, None),
    "revoked for this integration": (
        CONFIRMED,
        facts(Present(), BOTH),
        replace(POLICY, settings=Settings(prune={"asana": "revoke"})),
        REVOKE,
        None,
    ),
    "reported for this integration": (
        CONFIRMED,
        facts(Present(), BOTH),
        replace(POLICY, settings=Settings(prune={"default": "revoke", "asana": "report"})),
        NONE,
        "prune: report",
    ),
    "no revoke in the manifest": (
        CONFIRMED,
        facts(Present(), WITHDRAWS),
        PRUNE,
        NONE,
        "the manifest has no revoke",
    ),
    "found gone": (CONFIRMED, facts(Missing(), BOTH), PRUNE, REVOKED, "found gone"),
    "switched off": (CONFIRMED, facts(OFF, BOTH), PRUNE, REVOKED, "found gone"),
    "switched off before it was confirmed": (EXECUTED, facts(OFF, BOTH), PRUNE, REVOKED, "found gone"),
    "check failed": (CONFIRMED, facts(Unknown("x"), BOTH), PRUNE, NONE, "exists check failed: x"),
    "no check": (DONE, facts(NoCheck(), BOTH), PRUNE, NONE, "without an exists check nothing is revoked"),
    "never confirmed": (
        EXECUTED,
        facts(Missing(), BOTH),
        PRUNE,
        NONE,
        "never confirmed: an invitation may be open",
    ),
    "executed again since it was confirmed": (
        but(EXECUTED, confirmed_at=NOW),
        facts(Missing(), BOTH),
        PRUNE,
        NONE,
        "never confirmed: an invitation may be open",
    ),
    "kept": (KEPT, facts(Present(), BOTH), PRUNE, NONE, "kept"),
    "kept and gone": (KEPT, facts(Missing(), BOTH), PRUNE, REVOKED, "found gone"),
    "made half, and the account is there": (but(FAILED, steps=HALF), facts(Present(), BOTH), PRUNE, REVOKE, None),
    "made half, and the account is not there": (
        but(FAILED, steps=HALF),
        facts(Missing(), BOTH),
        PRUNE,
        NONE,
        "never confirmed: an invitation may be open",
    ),
    "run by hand before, reported by default": (
        but(FAILED, kind=Kind.RUN, by_hand=True),
        facts(Present(), BOTH),
        POLICY,
        NONE,
        "prune: report",
    ),
    "run by hand before, kept": (
        but(FAILED, kind=Kind.RUN, by_hand=True, keep=True),
        facts(Present(), BOTH),
        PRUNE,
        NONE,
        "kept",
    ),
    "kept, check failed": (KEPT, facts(Unknown("x"), BOTH), PRUNE, NONE, "exists check failed: x"),
    "no removals in this pass": (
        CONFIRMED,
        facts(Present(), BOTH),
        NO_REMOVALS,
        NONE,
        "--no-removals: this pass revokes nothing",
    ),
}


@pytest.mark.parametrize(("known", "found", "policy", "decided", "why"), ORPHANS.values(), ids=ORPHANS)
def test_orphan(known, found, policy, decided, why):
    decision = decide_orphan(known, found, policy)
    assert (decision.status, decision.action) == decided
    assert decision.reason == ("no longer in git" if why is None else f"no longer in git; {why}")
    assert not decision.withdraws


INVITATIONS = {
    "found as invited": (EXECUTED, facts(INVITED, BOTH), PRUNE, REVOKE, ""),
    "pending": (EXECUTED, facts(Missing(), BOTH, Invited()), PRUNE, REVOKE, ""),
    "pending after it was confirmed": (CONFIRMED, facts(Missing(), BOTH, Invited()), PRUNE, REVOKE, ""),
    "no withdraw": (EXECUTED, facts(INVITED, REVOKES), PRUNE, NONE, ", and the manifest has no withdraw"),
    "reported": (EXECUTED, facts(INVITED, BOTH), POLICY, NONE, "; prune: report"),
    "kept": (but(EXECUTED, keep=True), facts(INVITED, BOTH), PRUNE, NONE, "; kept"),
}


@pytest.mark.parametrize(("known", "found", "policy", "decided", "why"), INVITATIONS.values(), ids=INVITATIONS)
def test_open_invitation(known, found, policy, decided, why):
    decision = decide_orphan(known, found, policy)
    assert (decision.status, decision.action, decision.withdraws) == (*decided, decided == REVOKE)
    assert decision.reason == f"no longer in git; an invitation is open{why}"


def test_invitation_of_an_account_that_cannot_be_checked_is_left():
    decision = decide_orphan(EXECUTED, facts(Unknown("x"), BOTH, Invited()), PRUNE, by_hand=True)
    assert (decision.status, decision.action) == NONE


BY_HAND = {
    "reported by default": (CONFIRMED, facts(Present(), BOTH), POLICY, REVOKE),
    "kept": (KEPT, facts(Present(), BOTH), POLICY, REVOKE),
    "an invitation": (EXECUTED, facts(INVITED, BOTH), POLICY, REVOKE),
    "never confirmed": (EXECUTED, facts(Missing(), BOTH), POLICY, REVOKE),
    "never confirmed, no revoke": (EXECUTED, facts(Missing(), NEITHER), POLICY, REVOKED),
    "no check": (DONE, facts(NoCheck(), BOTH), POLICY, REVOKE),
    "no check, no revoke": (DONE, facts(NoCheck(), NEITHER), POLICY, REVOKED),
    "there, no revoke": (CONFIRMED, facts(Present(), NEITHER), POLICY, NONE),
    "check failed": (CONFIRMED, facts(Unknown("x"), BOTH), POLICY, NONE),
    "no removals in this pass": (CONFIRMED, facts(Present(), BOTH), NO_REMOVALS, NONE),
}


@pytest.mark.parametrize(("known", "found", "policy", "decided"), BY_HAND.values(), ids=BY_HAND)
def test_orphan_that_a_person_revokes(known, found, policy, decided):
    decision = decide_orphan(known, replace(found, error="hires/ada.yaml: a typo"), policy, by_hand=True)
    assert (decision.status, decision.action) == decided
    assert (decision.reason == taken_by_hand().reason) is (decided == REVOKED)


def test_error_in_the_hires_files_revokes_nothing():
    error = "hires/ada.yaml:3: no such integration"
    mended = f"nothing of ada is revoked until this is mended: {error}"
    decision = decide_orphan(CONFIRMED, facts(Present(), BOTH, error=error), PRUNE)
    assert (decision.status, decision.action, decision.reason) == (*NONE, f"no longer in git; {mended}")
    due = decide_orphan(but(DUE, kind=Kind.REVOKE, steps=HALF), facts(Present(), BOTH, error=error), PRUNE)
    assert (due.status, due.action, due.resume, due.reason) == (*WAIT, 0, f"{mended}; revoke: answered 500")
    afresh = decide_orphan(but(FAILED, kind=Kind.REVOKE, fresh=True), facts(Present(), BOTH, error=error), PRUNE)
    assert (afresh.status, afresh.action, afresh.afresh) == (*WAIT, False), "the retry is still to come"
    waits = decide_orphan(but(WAITING, kind=Kind.REVOKE), facts(Present(), BOTH, error=error), PRUNE)
    assert (waits.status, waits.action, waits.reason) == (*WAIT, "revoke: answered 500")
    again = decide_orphan(but(DUE, kind=Kind.REVOKE, by_hand=True), facts(Present(), BOTH, error=error), PRUNE)
    assert (again.status, again.action) == RETRY, "a person asked for it"


@pytest.mark.parametrize("by_hand", [False, True], ids=["pruned", "by hand"])
@pytest.mark.parametrize("known", [CONFIRMED, but(DUE, kind=Kind.REVOKE)], ids=["orphan", "retry"])
def test_same_account_as_a_grant_that_is_wanted_is_never_revoked(known, by_hand):
    decision = decide_orphan(known, facts(Present(), BOTH, same_as="ada/other"), PRUNE, by_hand=by_hand)
    assert (decision.status, decision.action) == NONE
    assert decision.reason == "no longer in git; it is the same account as ada/other, which is wanted"


REVOCATIONS = {
    "waits": (WAITING, facts(Present(), BOTH), WAIT, 0),
    "due": (DUE, facts(Present(), BOTH), RETRY, 0),
    "due, half done": (but(DUE, steps=HALF), facts(Present(), BOTH), RETRY, 1),
    "due, half done, and the account is gone": (but(DUE, steps=HALF), facts(Missing(), BOTH), RETRY, 1),
    "due, half done, and it is switched off": (but(DUE, steps=HALF), facts(OFF, BOTH), RETRY, 1),
    "due, other requests": (
        but(DUE, steps=HALF),
        facts(Present(), BOTH, texts=("x", "b", "c")),
        RETRY,
        0,
    ),
    "due, the answer was lost": (but(DUE, steps=LOST), facts(Present(), BOTH), RETRY, 0),
    "due, the answer was lost, and the account is gone": (but(DUE, steps=LOST), facts(Missing(), BOTH), RETRY, 1),
    "due, no effect, and the account is gone": (DUE, facts(Missing(), BOTH), REVOKED, 0),
    "due, the one request was lost, and the account is gone": (
        but(DUE, steps=LOST),
        facts(Missing(), BOTH, texts=("a",)),
        REVOKED,
        0,
    ),
    "due, no effect, and the account is switched off": (DUE, facts(OFF, BOTH), REVOKED, 0),
    "due, all was done, and the account is there": (
        but(DUE, steps=steps(Outcome.DONE, Outcome.DONE, Outcome.DONE)),
        facts(Present(), BOTH),
        RETRY,
        0,
    ),
    "due, check failed": (DUE, facts(Unknown("x"), BOTH), WAIT, 0),
    "failed twice": (but(FAILED, steps=HALF), facts(Present(), BOTH), GIVEN_UP, 0),
    "failed twice, retry asked for": (but(FAILED, fresh=True, steps=HALF), facts(Present(), BOTH), RETRY, 1),
    "no revoke any more": (DUE, facts(Present(), WITHDRAWS), NONE, 0),
    "no revoke any more, and the account is gone": (DUE, facts(Missing(), WITHDRAWS), REVOKED, 0),
}


@pytest.mark.parametrize(("known", "found", "decided", "resume"), REVOCATIONS.values(), ids=REVOCATIONS)
def test_failed_revocation(known, found, decided, resume):
    decision = decide_orphan(but(known, kind=Kind.REVOKE, confirmed_at=NOW - HOUR), found, PRUNE)
    assert (decision.status, decision.action, decision.resume) == (*decided, resume)
    assert not decision.withdraws
    if decided in (WAIT, RETRY, GIVEN_UP):
        assert decision.reason.startswith("revoke: answered 500")
        assert ("exists check failed: x" in decision.reason) is isinstance(found.verdict, Unknown)


@pytest.mark.parametrize(("can", "decided"), [(BOTH, REVOKE), (WITHDRAWS, REVOKE), (REVOKES, NONE), (NEITHER, NONE)])
def test_account_is_gone_and_an_invitation_open_where_a_revocation_failed(can, decided):
    failed = but(DUE, kind=Kind.REVOKE, confirmed_at=NOW - HOUR)
    decision = decide_orphan(failed, facts(Missing(), can, Invited()), PRUNE)
    assert (decision.status, decision.action, decision.withdraws) == (*decided, decided is REVOKE)
    assert decision.reason.startswith("no longer in git; an invitation is open")


def test_revoke_of_a_failed_revocation_starts_it_afresh():
    failed = but(FAILED, kind=Kind.REVOKE, steps=HALF, confirmed_at=NOW)
    decision = decide_orphan(failed, facts(Present(), BOTH), POLICY, by_hand=True)
    assert (decision.status, decision.action, decision.resume, decision.afresh) == (*RETRY, 1, True)


WITHDRAWALS = {
    "due, still open": (facts(Missing(), BOTH, Invited()), RETRY, True),
    "due, found as invited": (facts(INVITED, BOTH), RETRY, True),
    "gone": (facts(Missing(), BOTH), REVOKED, False),
    "accepted meanwhile": (facts(Present(), BOTH), REVOKE, False),
    "accepted meanwhile, and no revoke": (facts(Present(), WITHDRAWS), NONE, False),
    "no withdraw any more": (facts(INVITED, REVOKES), NONE, False),
}


@pytest.mark.parametrize(("found", "decided", "withdraws"), WITHDRAWALS.values(), ids=WITHDRAWALS)
def test_failed_withdrawal(found, decided, withdraws):
    decision = decide_orphan(but(DUE, kind=Kind.WITHDRAW, executed_at=NOW - HOUR), found, PRUNE)
    assert (decision.status, decision.action) == decided
    assert decision.withdraws is withdraws or decided == REVOKED


def test_revoked_grant_stays_as_it_was():
    revoked = record(phase=Phase.REVOKED, reason=gone().reason)
    decision = decide_orphan(revoked, facts(Present(), BOTH), PRUNE, by_hand=True)
    assert (decision.status, decision.action, decision.reason) == (*REVOKED, gone().reason)
