"""The plan, rule by rule: the order and the cases of docs/design/states.md."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from reconciler.engine.apply.transitions import remembered
from reconciler.engine.decide.existing import Facts, changed_values
from reconciler.engine.decide.wanted import decide, decide_unasked
from reconciler.model.decision_inputs import Policy, progress
from reconciler.model.grant import Grant, Hold, Key, Phase, Record
from reconciler.model.run import Outcome, Step
from reconciler.model.settings import Drift, Settings, Suspension
from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Missing, NoCheck, Present, Unknown
from tests.records import but

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = Policy(Settings(retry_delay=HOUR), NOW)
KEY = Key("ada", "asana")
GRANT = Grant(KEY, "ada@example.com", "asana", "asana", "hires/ada.yaml:9")
TEXTS = ("a", "b", "c")


def record(**values: object) -> Record:
    return but(Record(KEY, "ada@example.com", "asana", "asana", "hires/ada.yaml:9"), **values)


def steps(*outcomes: Outcome, mutates: bool = True) -> tuple[Step, ...]:
    return tuple(Step(place, TEXTS[place], mutates, outcome) for place, outcome in enumerate(outcomes))


CONFIRMED = record(phase=Phase.CONFIRMED, confirmed_at=NOW - HOUR)
EXECUTED = record(phase=Phase.EXECUTED, executed_at=NOW - HOUR)
DONE = record(phase=Phase.DONE, executed_at=NOW - HOUR)
WAITING = record(phase=Phase.RETRYING, attempts=1, retry_at=NOW + HOUR, last_error="answered 500", digest="d")
DUE = but(WAITING, retry_at=NOW)
FAILED = record(phase=Phase.FAILED, attempts=2, last_error="answered 500", digest="d")
HALF = steps(Outcome.DONE, Outcome.REFUSED)
LOST = steps(Outcome.LOST)

CASES = {
    "never tried, found": (None, Present(), Status.PRESENT, Action.NONE),
    "never tried, not found": (None, Missing(), Status.MISSING, Action.EXECUTE),
    "never tried, no check": (None, NoCheck(), Status.MISSING, Action.EXECUTE),
    "never tried, check failed": (None, Unknown("answered 500"), Status.UNKNOWN, Action.NONE),
    "confirmed, found": (CONFIRMED, Present(), Status.PRESENT, Action.NONE),
    "confirmed, lost": (CONFIRMED, Missing(), Status.MISSING, Action.EXECUTE),
    "confirmed, lost again within a day": (
        but(CONFIRMED, healed_at=NOW - timedelta(hours=23)),
        Missing(),
        Status.MISSING,
        Action.NONE,
    ),
    "confirmed, lost again after a day": (
        but(CONFIRMED, healed_at=NOW - timedelta(hours=25)),
        Missing(),
        Status.MISSING,
        Action.EXECUTE,
    ),
    "confirmed, check failed": (CONFIRMED, Unknown("timeout"), Status.UNKNOWN, Action.NONE),
    "confirmed, under the old address": (CONFIRMED, Present(under="old@example.com"), Status.BLOCKED, Action.NONE),
    "executed, found": (EXECUTED, Present(), Status.PRESENT, Action.NONE),
    "executed, not found": (EXECUTED, Missing(), Status.UNCONFIRMED, Action.NONE),
    "executed, check failed": (EXECUTED, Unknown("timeout"), Status.UNKNOWN, Action.NONE),
    "webhook, ran": (DONE, NoCheck(), Status.DONE, Action.NONE),
    "retrying, waits": (WAITING, Missing(), Status.RETRYING, Action.WAIT),
    "retrying, waits, check failed": (WAITING, Unknown("timeout"), Status.RETRYING, Action.WAIT),
    "retrying, waits, somebody else made it": (WAITING, Present(), Status.PRESENT, Action.NONE),
    "retrying, waits, half done": (but(WAITING, steps=HALF), Present(), Status.RETRYING, Action.WAIT),
    "retrying, due, not found": (DUE, Missing(), Status.RETRYING, Action.RETRY),
    "retrying, due, no check": (DUE, NoCheck(), Status.RETRYING, Action.RETRY),
    "retrying, due, half done": (but(DUE, steps=HALF), Present(), Status.RETRYING, Action.RETRY),
    "retrying, due, check failed": (DUE, Unknown("timeout"), Status.RETRYING, Action.WAIT),
    "failed, not found": (FAILED, Missing(), Status.FAILED, Action.NONE),
    "failed, check failed": (FAILED, Unknown("timeout"), Status.FAILED, Action.NONE),
    "failed, somebody else made it": (FAILED, Present(), Status.PRESENT, Action.NONE),
    "failed, half done": (but(FAILED, steps=HALF), Present(), Status.FAILED, Action.NONE),
    "failed, retry asked for, not found": (but(FAILED, fresh=True), Missing(), Status.MISSING, Action.EXECUTE),
    "failed, retry asked for, half done": (
        but(FAILED, fresh=True, steps=HALF),
        Present(),
        Status.RETRYING,
        Action.RETRY,
    ),
    "failed, retry asked for, check failed": (but(FAILED, fresh=True), Unknown("x"), Status.FAILED, Action.NONE),
    "revoked and wanted again, not found": (
        record(phase=Phase.REVOKED, confirmed_at=NOW),
        Missing(),
        Status.MISSING,
        Action.EXECUTE,
    ),
}


@pytest.mark.parametrize(("known", "verdict", "status", "action"), CASES.values(), ids=CASES)
def test_status_and_action(known, verdict, status, action):
    decision = decide(known, Facts(verdict, digest="d", texts=TEXTS), POLICY)
    assert (decision.status, decision.action) == (status, action)


@pytest.mark.parametrize("verdict", [Missing(), NoCheck()], ids=["missing", "without check"])
def test_changed_request_starts_afresh(verdict):
    decision = decide(FAILED, Facts(verdict, digest="another", texts=TEXTS), POLICY)
    assert (decision.status, decision.action, decision.afresh) == (Status.MISSING, Action.EXECUTE, True)
    assert decision.reason == "what would be sent has changed: starts afresh"
    asked = decide(but(FAILED, fresh=True), Facts(verdict, digest="d", texts=TEXTS), POLICY)
    assert (asked.status, asked.action, asked.afresh) == (Status.MISSING, Action.EXECUTE, True)
    assert asked.reason == "retry asked for: starts afresh"


@pytest.mark.parametrize(("then", "now"), [(None, "d"), ("d", None)], ids=["none then", "none now"])
def test_digest_that_is_not_known_is_no_change(then, now):
    """Without the sealed store's key there is none; a failed grant must not start over in every pass."""
    decision = decide(but(FAILED, digest=then), Facts(Missing(), digest=now, texts=TEXTS), POLICY)
    assert (decision.status, decision.action) == (Status.FAILED, Action.NONE)


WHEN = {
    "waits, missing": (WAITING, Missing(), "runs again at 2026-12-01T10:00:00Z; answered 500"),
    "waits, without check": (WAITING, NoCheck(), "runs again at 2026-12-01T10:00:00Z; answered 500"),
    "waits, unknown": (WAITING, Unknown("x"), "exists check failed: x; answered 500"),
    "due, unknown": (DUE, Unknown("x"), "due; exists check failed: x; answered 500"),
    "failed, missing": (FAILED, Missing(), "two attempts failed: nothing more runs on its own; answered 500"),
    "failed, half done": (
        but(FAILED, steps=HALF),
        Present(),
        "1 of 3 requests done; two attempts failed: nothing more runs on its own; answered 500",
    ),
}


@pytest.mark.parametrize(("known", "verdict", "reason"), WHEN.values(), ids=WHEN)
def test_reason_says_when_the_next_attempt_runs(known, verdict, reason):
    assert decide(known, Facts(verdict, digest="d", texts=TEXTS), POLICY).reason == reason


@pytest.mark.parametrize("fresh", [False, True], ids=["due", "retry asked for"])
def test_retry_continues_past_what_is_done(fresh):
    known = but(FAILED if fresh else DUE, fresh=fresh, steps=HALF, lost=True)
    decision = decide(known, Facts(Present(), digest="d", texts=TEXTS), POLICY)
    assert (decision.action, decision.resume, decision.reason) == (Action.RETRY, 1, "1 of 3 requests done")
    assert (decision.afresh, decision.heals) == (fresh, True)


@pytest.mark.parametrize("known", [DUE, but(FAILED, fresh=True)], ids=["due", "retry asked for"])
def test_half_done_with_another_manifest_stays_failed_and_names_the_ways_on(known):
    decision = decide(but(known, steps=HALF), Facts(Present(), digest="d", texts=("x", "b", "c")), POLICY)
    assert (decision.status, decision.action) == (Status.FAILED, Action.NONE)
    assert "reconcile accept ada asana" in decision.reason
    assert "reconcile run ada asana" in decision.reason


def test_drift_that_is_reported_is_not_healed():
    decision = decide(CONFIRMED, Facts(Missing()), replace(POLICY, settings=Settings(drift=Drift(missing="report"))))
    assert (decision.status, decision.action) == (Status.MISSING, Action.NONE)
    assert "drift" in decision.reason


def test_changed_values_of_a_present_account_are_reported():
    changes = changed_values({"TEAM_ID": "1", "email": "a"}, {"TEAM_ID": "2", "email": "b"})
    decision = decide(CONFIRMED, Facts(Present(), changes=changes), POLICY)
    assert (decision.status, decision.action, decision.changed) == (Status.DIFFERS, Action.NONE, True)
    assert "TEAM_ID 1 → 2" in decision.reason
    assert "reconcile run ada asana" in decision.reason


def test_address_in_other_case_is_no_changed_value():
    assert not changed_values({"email": "FUẞBALL@x.com"}, {"email": "fußball@x.com"})
    assert changed_values({"email": "fussball@x.com"}, {"email": "fußball@x.com"})


def test_changed_values_of_an_unconfirmed_account_start_it_afresh():
    decision = decide(EXECUTED, Facts(Missing(), changes={"TEAM_ID": ("1", "2")}), POLICY)
    assert (decision.status, decision.action, decision.afresh) == (Status.MISSING, Action.EXECUTE, True)


PROGRESS = {
    "nothing sent": ((), 0, False),
    "first refused": (steps(Outcome.REFUSED), 0, False),
    "first lost, it made the account": (LOST, 1, True),
    "first cut off by a crash": (steps(Outcome.SENT), 1, True),
    "second lost, sent again": (steps(Outcome.DONE, Outcome.LOST), 1, True),
    "a look-up lost is sent again": (steps(Outcome.LOST, mutates=False), 0, False),
    "look-up done, creation lost": (
        (Step(0, "a", False, Outcome.DONE), Step(1, "b", True, Outcome.LOST)),
        2,
        True,
    ),
    "it made the account, which is not ready yet": (steps(Outcome.UNMET), 1, True),
    "a later condition not met is not done": (steps(Outcome.DONE, Outcome.UNMET), 1, True),
    "all done": (steps(Outcome.DONE, Outcome.DONE, Outcome.DONE), 3, True),
    "one passed over": ((Step(0, "a", False, Outcome.DONE), Step(2, "c", True, Outcome.DONE)), 3, True),
    "one passed over, the next lost": ((Step(0, "a", False, Outcome.DONE), Step(2, "c", True, Outcome.LOST)), 1, True),
}


@pytest.mark.parametrize(("run", "done", "effect"), PROGRESS.values(), ids=PROGRESS)
def test_progress(run, done, effect):
    far = progress(run, TEXTS)
    assert (far.done, far.effect, far.total, far.same) == (done, effect, 3, True)


TWO = [Suspension(integration="asana", until=date(2026, 12, 2), reason="audit")]
STANDING = {
    "invalid before all": (replace(GRANT, hold=Hold(Status.INVALID, "x")), TWO, Status.INVALID),
    "suspended before scheduled": (replace(GRANT, begins=date(2027, 1, 1)), TWO, Status.SUSPENDED),
    "a suspension that is over": (
        GRANT,
        [Suspension(integration="asana", until=date(2026, 12, 1))],
        None,
    ),
    "a suspension of another": (GRANT, [Suspension(hire="bob")], None),
    "scheduled": (replace(GRANT, begins=date(2026, 12, 2)), [], Status.SCHEDULED),
    "begins today": (replace(GRANT, begins=date(2026, 12, 1)), [], None),
    "blocked by its manifest": (replace(GRANT, hold=Hold(Status.BLOCKED, "x")), [], Status.BLOCKED),
}


@pytest.mark.parametrize(("grant", "suspend", "status"), STANDING.values(), ids=STANDING)
def test_standing(grant, suspend, status):
    decision = decide_unasked(grant, None, replace(POLICY, settings=Settings(suspend=suspend)))
    assert (decision and decision.status) == status


def test_at_moved_ahead_has_no_effect_on_what_was_confirmed():
    assert decide_unasked(replace(GRANT, begins=date(2027, 1, 1)), CONFIRMED, POLICY) is None


@pytest.mark.parametrize(
    "known", [record(), record(phase=Phase.REVOKED, confirmed_at=NOW, executed_at=NOW)], ids=["new", "revoked"]
)
def test_day_and_needs_count_for_what_is_new_or_new_again(known):
    later = decide_unasked(replace(GRANT, begins=date(2027, 1, 1)), known, POLICY)
    needs = decide_unasked(GRANT, known, POLICY, waits="needs slack, which is blocked: x")
    assert later is not None
    assert needs is not None
    assert later.status is needs.status is Status.SCHEDULED


def test_needs_wait():
    decision = decide_unasked(GRANT, None, POLICY, waits="needs slack, which is blocked: x", blocked="y")
    assert decision is not None
    assert (decision.status, decision.action) == (Status.SCHEDULED, Action.WAIT)
    assert "slack" in decision.reason


def test_a_retry_further_ahead_than_the_delay_counts_from_now():
    assert remembered(but(WAITING, retry_at=NOW + 24 * HOUR), NOW, HOUR).retry_at == NOW + HOUR
    assert remembered(WAITING, NOW, HOUR).retry_at == NOW + HOUR
    assert remembered(but(WAITING, retry_at=NOW + HOUR / 2), NOW, HOUR).retry_at == NOW + HOUR / 2
