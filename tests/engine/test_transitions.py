"""How records change: which columns, and with which lines of the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.engine.apply import attempts as attempting
from reconciler.engine.apply import transitions
from reconciler.engine.decide.orphans import gone
from reconciler.engine.decide.planned import Check, PlannedGrant, Prepared
from reconciler.ledger.entries import Event
from reconciler.model.decision_inputs import complete
from reconciler.model.grant import Decision, Grant, Key, Phase, Record
from reconciler.model.run import Kind, OpenRun, Outcome, Step
from reconciler.model.scope import Scope
from reconciler.model.status import Action, EventType, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Account, Missing, NoCheck, Present, Unknown, Verdict
from tests.records import but

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)
HOUR = timedelta(hours=1)
GRANT = Grant(
    Key("ada", "tool"), "ada@example.com", "tool", "suite", "hires/ada.yaml:5", needs=("base",), origin="eng", keep=True
)
VALUES = {"email": "ada@example.com", "TEAM": "8"}
RECORD = Record(
    GRANT.key,
    GRANT.email,
    GRANT.integration,
    GRANT.service,
    GRANT.source,
    origin=GRANT.origin,
    needs=GRANT.needs,
    keep=True,
    revision="new",
    snapshot={"email": "ada@example.com", "TEAM": "7"},
    hire_email=GRANT.email,
)
STEPS = (Step(0, "a", True, Outcome.DONE), Step(1, "b", True, Outcome.REFUSED))


def record(**values: Any) -> Record:
    return but(RECORD, **values)


OLD_WANTS: dict[str, Any] = {
    "as_wanted_at": BEFORE,
    "updated_at": BEFORE,
    "wants": {"role": "member"},
    "accepted": {"role": ["guest", "member"]},
    "differs": {"role": ["guest", "member"]},
}
NOT_AS_WANTED: dict[str, Any] = {
    "as_wanted_at": None,
    "updated_at": None,
    "wants": {},
    "accepted": {},
    "differs": {},
}
CONFIRMED = record(phase=Phase.CONFIRMED, status=Status.PRESENT, confirmed_at=BEFORE, checked_at=BEFORE)
EXECUTED = record(phase=Phase.EXECUTED, status=Status.UNCONFIRMED, executed_at=BEFORE)
FAILED = record(
    phase=Phase.FAILED,
    status=Status.FAILED,
    attempts=2,
    last_error="answered 500",
    fresh=True,
    open=OpenRun(id=7, values={"TEAM": "9"}, steps=STEPS),
)
REVOKED = record(
    phase=Phase.REVOKED,
    status=Status.REVOKED,
    executed_at=BEFORE,
    confirmed_at=BEFORE,
    healed_at=BEFORE,
    lost=True,
    attempts=1,
    last_error="x",
    invitations=2,
    **OLD_WANTS,
)
FOUND = Decision(Status.PRESENT, Action.NONE, "exists check: found")


def prepared() -> Prepared:
    check = Check(None, None, wants={"role": "admin"})
    found_by = {"email": "ada@example.com"}
    return Prepared(GRANT, Scope(()), VALUES, found_by=found_by, check=check)


def changes(before: Record, after: Record) -> dict[str, Any]:
    """What is no longer as it was."""
    names = Record.__struct_fields__
    return {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}


def lines(events: list[Event]) -> list[tuple[EventType, str]]:
    assert all((each.key, each.at) == (GRANT.key, NOW) for each in events)
    return [(each.event, each.detail) for each in events]


def check(
    before: Record, decision: Decision, verdict: Verdict | None, *, wanted: bool = True
) -> tuple[dict[str, Any], list[tuple[EventType, str]]]:
    """What a check changes beside what is shown of the decision."""
    asked = None if verdict is None else prepared()
    after, events = transitions.checked(
        before, PlannedGrant(GRANT, before, decision, verdict, asked, wanted=wanted), NOW, "new"
    )
    assert (after.status, after.action, after.reason) == (decision.status, decision.action, decision.reason)
    shown = ("status", "action", "reason")
    return {name: value for name, value in changes(before, after).items() if name not in shown}, lines(events)


CREATES = Decision(Status.MISSING, Action.EXECUTE, "exists check: not found", afresh=True)
ORPHANED = Decision(Status.ORPHANED, Action.NONE, "no longer in git; x")
NOT_KNOWN = Decision(Status.UNKNOWN, Action.NONE, "timeout")
INVITED = Decision(Status.UNCONFIRMED, Action.NONE, "invited on 2026-12-01")
BLOCKED = Decision(Status.BLOCKED, Action.NONE, "the account is under old@example.com")
STILL_FAILED = Decision(Status.FAILED, Action.NONE, "answered 500")
IT_RAN = Decision(Status.DONE, Action.NONE, "it ran")
DIFFERS = Decision(
    Status.DIFFERS, Action.UPDATE, "role", changed=True, differs={"role": ("member", "admin")}, afresh=True
)
UNDER_OLD = Present(under="old@example.com")

SEEN = {"checked_at": NOW}
AS_WANTED = {"as_wanted_at": NOW, "wants": {"role": "admin"}}
SETTLED = {"fresh": False, "open": None}
STARTED_OVER = {"attempts": 0, "last_error": None, **SETTLED}
ALL_NEW = {"snapshot": VALUES}
FOUND_LINE, ADOPTED_LINE = (EventType.CONFIRMED, FOUND.reason), (EventType.ADOPTED, FOUND.reason)

WANTED: dict[str, tuple[Record, Decision, Verdict | None, dict[str, Any], list[tuple[EventType, str]]]] = {
    "new, found": (
        record(snapshot={}),
        replace(FOUND, afresh=True),
        Present(),
        {"phase": Phase.CONFIRMED, "confirmed_at": NOW, **ALL_NEW, **SEEN, **AS_WANTED},
        [ADOPTED_LINE],
    ),
    "confirmed, found": (but(CONFIRMED, as_wanted_at=BEFORE, wants={"role": "admin"}), FOUND, Present(), SEEN, []),
    "lost, found again": (
        but(CONFIRMED, lost=True, last_error="x", invitations=1, as_wanted_at=BEFORE),
        FOUND,
        Present(),
        {"lost": False, "last_error": None, "invitations": 0, "wants": {"role": "admin"}, **SEEN},
        [(EventType.CONFIRMED, "found again")],
    ),
    "updated, found as wanted": (
        but(CONFIRMED, updated_at=BEFORE),
        FOUND,
        Present(),
        {**SEEN, **AS_WANTED},
        [(EventType.CONFIRMED, "found as git wants it")],
    ),
    "executed, found": (
        EXECUTED,
        FOUND,
        Present(),
        {"phase": Phase.CONFIRMED, "confirmed_at": NOW, **SEEN, **AS_WANTED},
        [FOUND_LINE],
    ),
    "a failed update, found as wanted": (
        but(FAILED, kind=Kind.UPDATE, confirmed_at=BEFORE),
        FOUND,
        Present(),
        {"phase": Phase.CONFIRMED, "last_error": None, **ALL_NEW, **SETTLED, **SEEN, **AS_WANTED},
        [(EventType.CONFIRMED, "found as git wants it")],
    ),
    "a failed attempt, found": (
        FAILED,
        FOUND,
        Present(),
        {"phase": Phase.CONFIRMED, "last_error": None, "confirmed_at": NOW, **ALL_NEW, **SETTLED, **SEEN, **AS_WANTED},
        [ADOPTED_LINE],
    ),
    "confirmed, found by a new address": (
        but(CONFIRMED, email="old@example.com", snapshot={"email": "old@example.com", "TEAM": "7"}),
        FOUND,
        Present(),
        {"email": "ada@example.com", "snapshot": {"email": "ada@example.com", "TEAM": "7"}, **SEEN, **AS_WANTED},
        [],
    ),
    "vouched for by a person, found": (
        but(CONFIRMED, snapshot={}),
        FOUND,
        Present(),
        {**ALL_NEW, **SEEN, **AS_WANTED},
        [],
    ),
    "a webhook that has a check now, found": (
        but(EXECUTED, phase=Phase.DONE),
        FOUND,
        Present(),
        {"phase": Phase.CONFIRMED, "confirmed_at": NOW, **SEEN, **AS_WANTED},
        [FOUND_LINE],
    ),
    "accepted before, as wanted now": (
        but(CONFIRMED, fresh=True, **OLD_WANTS),
        FOUND,
        Present(),
        {"fresh": False, "accepted": {}, "differs": {}, "wants": {"role": "admin"}, **SEEN},
        [],
    ),
    "updated, and differs still": (
        but(CONFIRMED, status=Status.DIFFERS, updated_at=BEFORE, differs={"role": ["member", "admin"]}),
        replace(DIFFERS, action=Action.NONE, changed=False),
        Present(),
        SEEN,
        [],
    ),
    "accepted as it is": (
        but(CONFIRMED, fresh=True, **OLD_WANTS),
        replace(FOUND, accepted=True),
        Present(),
        {"fresh": False, "differs": {}, **SEEN},
        [],
    ),
    "differs": (
        but(CONFIRMED, as_wanted_at=BEFORE),
        DIFFERS,
        Present(),
        {"changed": True, "differs": {"role": ["member", "admin"]}, **SEEN},
        [(EventType.DIFFERED, "role")],
    ),
    "differs as before": (
        but(
            CONFIRMED, status=Status.DIFFERS, action=Action.UPDATE, changed=True, differs={"role": ["member", "admin"]}
        ),
        DIFFERS,
        Present(),
        SEEN,
        [],
    ),
    "differs in something else": (
        but(CONFIRMED, status=Status.DIFFERS, action=Action.UPDATE, changed=True, differs={"role": ["guest", "admin"]}),
        DIFFERS,
        Present(),
        {"differs": {"role": ["member", "admin"]}, **SEEN},
        [(EventType.DIFFERED, "role")],
    ),
    "differs as before, and was suspended": (
        but(CONFIRMED, status=Status.SUSPENDED, action=Action.UPDATE, changed=True, differs=DIFFERS.differs),
        DIFFERS,
        Present(),
        {"differs": {"role": ["member", "admin"]}, **SEEN},
        [(EventType.DIFFERED, "role")],
    ),
    "differs as before, to be updated now": (
        but(CONFIRMED, status=Status.DIFFERS, changed=True, differs={"role": ["member", "admin"]}),
        DIFFERS,
        Present(),
        SEEN,
        [(EventType.DIFFERED, "role")],
    ),
    "lost": (
        but(CONFIRMED, last_error="timeout"),
        CREATES,
        Missing(),
        {"lost": True, "last_error": None, **SEEN},
        [(EventType.LOST, CREATES.reason)],
    ),
    "still lost": (but(CONFIRMED, lost=True), CREATES, Missing(), SEEN, []),
    "a failed attempt, not found": (FAILED, STILL_FAILED, Missing(), SEEN, []),
    "a failed attempt starts over": (FAILED, CREATES, Missing(), {"attempts": 0, **SEEN}, []),
    "unknown": (CONFIRMED, NOT_KNOWN, Unknown("timeout"), {"last_error": "timeout", "seen_at": BEFORE, **SEEN}, []),
    "a failed attempt, unknown": (FAILED, STILL_FAILED, Unknown("timeout"), SEEN, []),
    "invited by somebody else": (
        record(last_error="x", attempts=1, **OLD_WANTS),
        INVITED,
        Missing(),
        {
            "phase": Phase.EXECUTED,
            "executed_at": NOW,
            "invitations": 1,
            "last_error": None,
            **ALL_NEW,
            **SEEN,
            **NOT_AS_WANTED,
        },
        [(EventType.ADOPTED, "an invitation is open")],
    ),
    "confirmed, and only invited now": (
        but(CONFIRMED, email="old@example.com", executed_at=BEFORE, lost=True, invitations=2, fresh=True),
        INVITED,
        Present(account=Account.INVITED),
        {
            "phase": Phase.EXECUTED,
            "email": "ada@example.com",
            "executed_at": NOW,
            "confirmed_at": None,
            "lost": False,
            "fresh": False,
            **ALL_NEW,
            **SEEN,
        },
        [(EventType.ADOPTED, "an invitation is open")],
    ),
    "invited by us": (
        but(EXECUTED, last_error="x", invitations=2),
        INVITED,
        Missing(),
        {"last_error": None, **SEEN},
        [],
    ),
    "a webhook that ran": (
        EXECUTED,
        IT_RAN,
        NoCheck(),
        {"phase": Phase.DONE},
        [(EventType.CONFIRMED, IT_RAN.reason)],
    ),
    "under the old address": (CONFIRMED, BLOCKED, UNDER_OLD, SEEN, [(EventType.BLOCKED, BLOCKED.reason)]),
    "no longer blocked": (
        but(CONFIRMED, status=Status.BLOCKED, as_wanted_at=BEFORE, wants={"role": "admin"}),
        FOUND,
        Present(),
        SEEN,
        [(EventType.UNBLOCKED, "present")],
    ),
    "revoked, wanted again, not found": (
        REVOKED,
        CREATES,
        Missing(),
        {
            "phase": Phase.NEW,
            "attempts": 0,
            "last_error": None,
            "executed_at": None,
            "confirmed_at": None,
            "healed_at": None,
            "lost": False,
            "invitations": 0,
            **ALL_NEW,
            **SEEN,
            **NOT_AS_WANTED,
        },
        [],
    ),
    "revoked, wanted again, found": (
        REVOKED,
        FOUND,
        Present(),
        {
            "phase": Phase.CONFIRMED,
            "attempts": 0,
            "last_error": None,
            "executed_at": None,
            "confirmed_at": NOW,
            "healed_at": None,
            "lost": False,
            "invitations": 0,
            **ALL_NEW,
            **SEEN,
            **NOT_AS_WANTED,
            **AS_WANTED,
        },
        [ADOPTED_LINE],
    ),
    "a revoked webhook, wanted again": (
        record(phase=Phase.REVOKED, status=Status.REVOKED, executed_at=BEFORE),
        CREATES,
        NoCheck(),
        {"phase": Phase.NEW, "executed_at": None, **ALL_NEW},
        [],
    ),
    "revoked, wanted again, unknown": (
        but(REVOKED, differs={}),
        NOT_KNOWN,
        Unknown("timeout"),
        {"last_error": "timeout", **SEEN},
        [],
    ),
    "revoked, wanted again, under the old address": (
        but(REVOKED, differs={}),
        BLOCKED,
        UNDER_OLD,
        SEEN,
        [(EventType.BLOCKED, BLOCKED.reason)],
    ),
    "half revoked, wanted again, found": (
        but(FAILED, kind=Kind.REVOKE, confirmed_at=BEFORE, **OLD_WANTS),
        FOUND,
        Present(),
        {"phase": Phase.CONFIRMED, "left_over": True, **STARTED_OVER, **SEEN, **NOT_AS_WANTED, **AS_WANTED},
        [],
    ),
    "half revoked, never confirmed, wanted again, found": (
        but(FAILED, kind=Kind.REVOKE),
        FOUND,
        Present(),
        {"phase": Phase.CONFIRMED, "confirmed_at": NOW, "left_over": True, **STARTED_OVER, **SEEN, **AS_WANTED},
        [],
    ),
    "half revoked, wanted again, gone": (
        but(FAILED, kind=Kind.REVOKE, confirmed_at=BEFORE, executed_at=BEFORE),
        CREATES,
        Missing(),
        {
            "phase": Phase.NEW,
            "left_over": True,
            "confirmed_at": None,
            "executed_at": None,
            **ALL_NEW,
            **STARTED_OVER,
            **SEEN,
        },
        [],
    ),
    "a half revoked webhook that ran, wanted again": (
        but(FAILED, kind=Kind.REVOKE, executed_at=BEFORE),
        IT_RAN,
        NoCheck(),
        {"phase": Phase.DONE, "left_over": True, **STARTED_OVER},
        [],
    ),
    "a half revoked webhook that never ran, wanted again": (
        but(FAILED, kind=Kind.REVOKE),
        CREATES,
        NoCheck(),
        {"phase": Phase.NEW, "left_over": True, **ALL_NEW, **STARTED_OVER},
        [],
    ),
}


@pytest.mark.parametrize(("before", "decision", "verdict", "changed", "told"), WANTED.values(), ids=WANTED)
def test_check_of_a_wanted_grant(before, decision, verdict, changed, told):
    assert check(before, decision, verdict) == (changed, told)


FIRST = {"orphaned_at": NOW}
IS_ORPHANED = (EventType.ORPHANED, ORPHANED.reason)

UNWANTED: dict[str, tuple[Record, Decision, Verdict | None, dict[str, Any], list[tuple[EventType, str]]]] = {
    "found": (CONFIRMED, ORPHANED, Present(), {**FIRST, **SEEN}, [IS_ORPHANED]),
    "found once more": (but(CONFIRMED, orphaned_at=BEFORE), ORPHANED, Present(), SEEN, []),
    "executed, found": (
        but(EXECUTED, orphaned_at=BEFORE),
        ORPHANED,
        Present(),
        {"phase": Phase.CONFIRMED, "confirmed_at": NOW, **SEEN},
        [FOUND_LINE],
    ),
    "a webhook": (but(EXECUTED, orphaned_at=BEFORE), ORPHANED, NoCheck(), {}, []),
    "unknown": (
        but(CONFIRMED, orphaned_at=BEFORE),
        ORPHANED,
        Unknown("timeout"),
        {"last_error": "timeout", "seen_at": BEFORE, **SEEN},
        [],
    ),
    "gone": (
        but(CONFIRMED, last_error="x", fresh=True, orphaned_at=BEFORE, **OLD_WANTS),
        gone(),
        Missing(),
        {"phase": Phase.REVOKED, "last_error": None, "fresh": False, **SEEN, **NOT_AS_WANTED},
        [(EventType.REVOKED, "found gone")],
    ),
    "taken away by hand": (
        but(FAILED, orphaned_at=BEFORE, checked_at=BEFORE),
        replace(gone(), detail="taken away by hand"),
        NoCheck(),
        {"phase": Phase.REVOKED, "last_error": None, **SETTLED},
        [(EventType.REVOKED, "taken away by hand")],
    ),
    "revoked before": (
        but(REVOKED, orphaned_at=BEFORE, differs={}),
        replace(gone(), reason="revoked"),
        None,
        {},
        [],
    ),
    "an invitation that was accepted": (
        but(FAILED, kind=Kind.WITHDRAW, executed_at=BEFORE, orphaned_at=BEFORE),
        ORPHANED,
        Present(),
        {"phase": Phase.CONFIRMED, "confirmed_at": NOW, **SETTLED, **SEEN},
        [FOUND_LINE],
    ),
    "an invitation that is still open": (
        but(FAILED, kind=Kind.WITHDRAW, executed_at=BEFORE, orphaned_at=BEFORE, confirmed_at=BEFORE),
        ORPHANED,
        Present(account=Account.INVITED),
        SEEN,
        [],
    ),
}


@pytest.mark.parametrize(("before", "decision", "verdict", "changed", "told"), UNWANTED.values(), ids=UNWANTED)
def test_check_of_an_orphan(before, decision, verdict, changed, told):
    assert check(before, decision, verdict, wanted=False) == (changed, told)


def test_check_writes_down_what_git_says_of_the_entry():
    grant = replace(
        GRANT,
        integration="other",
        service="others",
        source="hires/ada.yaml:9",
        origin="ops",
        through=("everybody",),
        needs=("mail",),
        keep=False,
    )
    old = but(CONFIRMED, orphaned_at=BEFORE, revision="old", guarded=True)
    after, _ = transitions.checked(old, PlannedGrant(grant, old, FOUND, Present(), prepared()), NOW, "newer")
    names = ("integration", "service", "source", "origin", "through", "needs", "keep")
    assert {name: getattr(after, name) for name in names} == {name: getattr(grant, name) for name in names}
    assert (after.revision, after.orphaned_at, after.guarded) == ("newer", None, False)
    again, _ = transitions.checked(after, PlannedGrant(grant, after, replace(FOUND, guarded=True)), NOW)
    assert (again.revision, again.guarded) == ("newer", True)


def test_address_of_a_webhook_follows_the_hire_and_of_an_account_what_it_was_found_by():
    moved = replace(GRANT, email="countess@example.com")

    def address(before: Record, decision: Decision, verdict: Verdict) -> str:
        asked = replace(prepared(), grant=moved)
        return transitions.checked(before, PlannedGrant(moved, before, decision, verdict, asked), NOW)[0].email

    assert address(record(), NOT_KNOWN, Unknown("timeout")) == "countess@example.com", "nothing was ever made for it"
    assert address(EXECUTED, IT_RAN, NoCheck()) == "countess@example.com"
    assert address(CONFIRMED, BLOCKED, UNDER_OLD) == "ada@example.com"
    assert address(CONFIRMED, FOUND, Present()) == "countess@example.com"


def test_files_that_cannot_be_read_change_what_is_shown_and_nothing_else():
    invalid = Decision(Status.INVALID, Action.NONE, "hires/ada.yaml:3: a typo")
    before = but(FAILED, action=Action.WAIT, changed=True, guarded=True)
    after, events = transitions.left_untouched(before, invalid, NOW)
    shown = {"status": Status.INVALID, "action": Action.NONE, "reason": invalid.reason}
    assert changes(before, after) == {**shown, "changed": False, "guarded": False}
    assert lines(events) == []


@pytest.mark.parametrize("kind", [Kind.EXECUTE, Kind.UPDATE, Kind.REVOKE, Kind.WITHDRAW])
@pytest.mark.parametrize("resumed", [False, True], ids=["whole", "resumed"])
def test_attempt_begins(kind, resumed):
    begins = OpenRun(kind=kind, id=7 if resumed else None, digest="d", by_hand=True, steps=STEPS if resumed else ())
    after = attempting.begun(FAILED, begins, 3, snapshot=VALUES, wants={"role": "admin"})
    run = begins if kind.takes_away else replace(begins, values=VALUES)
    columns = {"snapshot": VALUES} if kind.takes_away else {"wants": {"role": "admin"}}
    left_over = {} if resumed else {"left_over": True}
    assert changes(FAILED, after) == {"attempts": 3, "fresh": False, "open": run, **columns, **left_over}


RUNNING = but(
    CONFIRMED, action=Action.RETRY, attempts=1, last_error="x", lost=True, fresh=True, invitations=1, **OLD_WANTS
)
RUN = OpenRun(id=7, values={"email": "countess@example.com", "TEAM": "9"}, steps=STEPS)


@pytest.mark.parametrize("webhook", [False, True])
@pytest.mark.parametrize("heals", [False, True])
def test_attempt_succeeds(webhook, heals):
    before = replace(RUNNING, open=RUN, changed=True)
    after, events = attempting.succeeded(before, webhook=webhook, heals=heals, now=NOW)
    assert changes(before, after) == {
        "phase": Phase.DONE if webhook else Phase.EXECUTED,
        "status": Status.DONE if webhook else Status.UNCONFIRMED,
        "action": Action.NONE,
        "reason": "it ran" if webhook else "executed; the exists check does not see it yet",
        "changed": False,
        "differs": {},
        "email": "countess@example.com",
        "snapshot": RUN.values,
        "executed_at": NOW,
        "lost": False,
        "last_error": None,
        "as_wanted_at": None,
        "updated_at": None,
        "accepted": {},
        "invitations": 2,
        **SETTLED,
        **({"healed_at": NOW} if heals else {}),
    }
    healed = [(EventType.HEALED, "drift was provisioned again")] if heals else []
    assert lines(events) == [(EventType.EXECUTED, "attempt 1"), *healed]


def test_attempt_without_values_of_its_own_leaves_those_of_the_account():
    before = replace(RUNNING, open=replace(RUN, values={}))
    for after, _ in (
        attempting.succeeded(before, webhook=False, heals=False, now=NOW),
        attempting.succeeded(
            replace(before, open=replace(before.run, kind=Kind.UPDATE)), webhook=False, heals=False, now=NOW
        ),
    ):
        assert (after.email, after.snapshot) == (RECORD.email, RECORD.snapshot)


def test_another_invitation_withdraws_the_one_before():
    _, events = attempting.succeeded(
        replace(RUNNING, open=replace(RUN, kind=Kind.REINVITE)), webhook=False, heals=False, now=NOW
    )
    assert lines(events)[0] == (EventType.WITHDRAWN, "before another invitation")


@pytest.mark.parametrize("webhook", [False, True])
@pytest.mark.parametrize("kind", [Kind.UPDATE, Kind.MEND])
def test_update_succeeds(webhook, kind):
    before = replace(RUNNING, open=replace(RUN, kind=kind), changed=True, updated_at=None)
    after, events = attempting.succeeded(before, webhook=webhook, heals=kind is Kind.MEND, now=NOW)
    assert changes(before, after) == {
        "status": Status.DONE if webhook else Status.DIFFERS,
        "action": Action.NONE,
        "reason": "it ran" if webhook else "updated; the check does not see it yet",
        "changed": False,
        "snapshot": RUN.values,
        "as_wanted_at": None,
        "lost": False,
        "last_error": None,
        "accepted": {},
        **SETTLED,
        **({"phase": Phase.DONE, "differs": {}} if webhook else {"updated_at": NOW}),
        **({"healed_at": NOW} if kind is Kind.MEND else {}),
    }
    healed = [(EventType.HEALED, "drift was updated")] if kind is Kind.MEND else []
    assert lines(events) == [(EventType.UPDATED, "attempt 1"), *healed]


@pytest.mark.parametrize("kind", [Kind.REVOKE, Kind.WITHDRAW])
def test_revocation_succeeds(kind):
    before = replace(RUNNING, open=replace(RUN, kind=kind))
    after, events = attempting.revoked(before, NOW)
    assert changes(before, after) == {
        "phase": Phase.REVOKED,
        "status": Status.REVOKED,
        "action": Action.NONE,
        "reason": "revoked",
        "last_error": None,
        **NOT_AS_WANTED,
        **SETTLED,
    }
    withdrawn = [(EventType.WITHDRAWN, "the open invitation")] if kind is Kind.WITHDRAW else []
    assert lines(events) == [*withdrawn, (EventType.REVOKED, "attempt 1")]


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("kind", [Kind.EXECUTE, Kind.UPDATE, Kind.REVOKE])
@pytest.mark.parametrize("interrupted", [False, True])
def test_attempt_fails(attempts, kind, interrupted):
    before = replace(CONFIRMED, attempts=attempts, open=replace(RUN, kind=kind), changed=True, action=Action.RETRY)
    after, events = attempting.failed(before, "answered 500", now=NOW, retry_at=BEFORE + HOUR, interrupted=interrupted)
    again, prefix = attempts == 1, "revoke: " if kind is Kind.REVOKE else ""
    expected = {
        "phase": Phase.RETRYING if again else Phase.FAILED,
        "status": Status.RETRYING if again else Status.FAILED,
        "action": Action.WAIT if again else Action.NONE,
        "reason": f"{prefix}answered 500",
        "last_error": "answered 500",
        **({} if kind is Kind.UPDATE else {"changed": False}),
    }
    assert {name: value for name, value in changes(before, after).items() if name != "open"} == expected
    assert after.open == replace(RUN, kind=kind, retry_at=BEFORE + HOUR if again else None)
    event = EventType.ATTEMPT_INTERRUPTED if interrupted else EventType.ATTEMPT_FAILED
    revoking = [(EventType.REVOKE_FAILED, "answered 500")] if kind is Kind.REVOKE else []
    assert lines(events) == [(event, f"{prefix}attempt {attempts}: answered 500"), *revoking]


@pytest.mark.parametrize(
    ("outcomes", "total", "whole"),
    [
        ([Outcome.DONE, Outcome.DONE], 2, True),
        ([Outcome.LOST, Outcome.DONE], 2, True),
        ([Outcome.DONE, Outcome.LOST], 2, False),
        ([Outcome.LOST], 1, False),
        ([Outcome.DONE], 1, True),
        ([Outcome.DONE], 2, False),
        ([Outcome.REFUSED, Outcome.DONE], 2, False),
        ([], 0, False),
    ],
)
def test_run_is_complete(outcomes, total, whole):
    steps = [Step(place, "x", True, outcome) for place, outcome in enumerate(outcomes)]
    assert complete(steps, total) is whole


def test_time_that_a_clock_ahead_wrote_counts_from_now():
    far = but(FAILED, retry_at=NOW + 2 * HOUR, healed_at=NOW + HOUR)
    assert changes(far, transitions.remembered(far, NOW, HOUR)) == {
        "healed_at": NOW,
        "open": replace(far.run, retry_at=NOW + HOUR),
    }
    for near in (but(FAILED, retry_at=NOW + HOUR / 2, healed_at=BEFORE), FAILED, CONFIRMED):
        assert transitions.remembered(near, NOW, HOUR) == near


def test_first_record_has_what_git_says():
    assert transitions.first(GRANT, "new") == replace(RECORD, snapshot={})
