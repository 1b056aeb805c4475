"""docs/design/rules.md, "The ledger and the retry": what a failed attempt leaves behind, and what is sent after it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from threading import Barrier, Lock

import pytest

from reconciler.model.clock import Stopped
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Hands, Machine, row
from tests.servers import PATIENCE, Reply

HOUR = timedelta(hours=1)


def posts(accounts):
    return [call.path for call in accounts.calls("POST")]


def three(accounts, first=None):
    """A manifest of three requests: a look-up, the account, a place in a team."""
    manifest = accounts.manifest(team=True, revoke=True)
    look_up = first or {"url": f"{accounts.url}/plan", "method": "GET"}
    manifest["execute"].insert(0, look_up)
    return manifest


@pytest.fixture
def planned_first(machine, accounts, repo):
    """Like the machine's tool, with a look-up before the account is made."""
    accounts.route("GET", "/plan", {"plan": {"id": "p1"}, "seats": 3})
    repo.manifest("tool", three(accounts))
    repo.commit()
    return machine


# Present at the retry


@pytest.mark.parametrize("failures", [1, 2], ids=["retrying", "failed"])
def test_account_found_after_attempt_without_effect_is_adopted(machine, accounts, failures):
    accounts.fail_next(failures, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    if failures == 2:
        assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED
    accounts.add("ada@example.com")
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.action, found.retry_at) == (Status.PRESENT, Action.NONE, None)
    assert machine.events("ada")[-1] is EventType.ADOPTED
    assert len(accounts.calls("POST")) == failures
    assert not [name for name in machine.sealed() if name.startswith("run/")]


def test_a_look_up_that_succeeded_is_no_effect(planned_first, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    planned_first.reconcile()
    accounts.add("ada@example.com")
    assert row(planned_first.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST")) == 1


def test_a_refused_connection_is_no_effect(machine, accounts, repo):
    """The request never left, so the account that is there is somebody else's."""
    manifest = accounts.manifest()
    manifest["execute"] = [{"url": "http://127.0.0.1:9/users", "data": {"email": "{{email}}"}}]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


METHODS = {"POST": True, "PUT": True, "PATCH": True, "DELETE": True, "GET": False, "HEAD": False, "OPTIONS": False}


@pytest.mark.parametrize(("method", "changes"), METHODS.items())
def test_all_methods_but_get_head_options_mutate(machine, accounts, repo, method, changes):
    manifest = accounts.manifest()
    manifest["execute"] = [{"url": f"{accounts.url}/ensure/{{{{email}}}}", "method": method}]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    accounts.drop(method=method, prefix="/ensure")
    machine.reconcile()
    accounts.add("ada@example.com")
    found = row(machine.reconcile(), "ada", "tool")
    assert found.status is (Status.RETRYING if changes else Status.PRESENT)
    assert ("1 of 1 requests done" in found.reason) is changes


def test_many_that_are_due_at_once_are_spread_within_the_limits(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, limits={"per_host": 3})
    for number in range(30):
        repo.hire(f"h{number:02}", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(31, 500, method="POST", prefix="/users")
    assert machine.reconcile().failures == 31
    machine.clock.turn(days=1)
    accounts.delay, side_by_side = 0.002, Barrier(3)

    def together(connection, received):
        side_by_side.wait(PATIENCE)
        connection.answer(accounts.handle(received))

    accounts.on(together, times=3)
    assert {item.status for item in machine.reconcile().rows} == {Status.PRESENT}
    assert accounts.busiest == 3


def test_single_request_with_lost_answer(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["post_execute_notification"] = [
        {"type": "email", "to": "{{email}}", "subject": "Hi", "message": "Welcome"}
    ]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    accounts.drop_after_commit(method="POST", prefix="/users")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    waiting = row(machine.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.action) == (Status.RETRYING, Action.WAIT)
    assert "1 of 1 requests done" in waiting.reason
    assert machine.outbox.sent == []
    machine.clock.turn(hours=1)
    before = len(accounts.calls())
    done = row(machine.reconcile(), "ada", "tool")
    assert done.status is Status.PRESENT
    assert [call.method for call in accounts.calls()[before:]] == ["GET", "GET"]
    assert machine.outbox.sent == [("ada@example.com", "Hi", "Welcome")]
    begun = [line.detail for line in machine.history("ada") if line.event is EventType.ATTEMPT_STARTED]
    assert begun == ["attempt 1", "attempt 2, with nothing left to send"]


def test_after_a_look_up_the_lost_creation_counts_as_done(planned_first, accounts):
    accounts.drop_after_commit(method="POST", prefix="/users")
    planned_first.reconcile()
    assert "2 of 3 requests done" in row(planned_first.reconcile(), "ada", "tool").reason
    planned_first.clock.turn(hours=1)
    assert row(planned_first.reconcile(), "ada", "tool").status is Status.PRESENT
    assert posts(accounts) == ["/users", "/teams/7/members"]
    assert len(accounts.calls("GET", "/plan")) == 1


def test_the_answer_of_an_attempt_that_made_nothing_is_shown(machine, accounts):
    """A success that says no is not seen by the check, and no further attempt is made."""
    accounts.route("POST", "/teams/{team}/members", lambda _received, team: {"ok": False, "error": f"{team} is full"})
    accounts.route("POST", "/users", {"ok": True})
    for _ in range(2):
        left = row(machine.reconcile(), "ada", "tool")
        assert left.status is Status.UNCONFIRMED
        said = 'answered 200: {"ok": false, "error": "7 is full"}'
        assert left.reason == f"executed; the exists check does not see it yet; {said}"
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").reason == "exists check: found"
    found = machine.record("ada", "tool")
    assert found is not None
    assert found.answered == ""


def test_a_later_answer_that_was_lost_is_sent_again(machine, accounts):
    accounts.drop_after_commit(method="POST", prefix="/teams")
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert posts(accounts) == ["/users", "/teams/7/members", "/teams/7/members"]


# Missing at the retry


def test_missing_at_the_retry_runs_from_the_first_request(planned_first, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    planned_first.reconcile()
    accounts.people.clear()
    planned_first.clock.turn(hours=1)
    assert row(planned_first.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("GET", "/plan")) == 2
    assert accounts.created == {"ada@example.com": 2}


def test_a_webhook_that_failed_runs_again_from_its_first_request(machine, accounts, repo):
    accounts.route("POST", "/one", {"ok": True})
    accounts.route("POST", "/two", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/one"}, {"url": f"{accounts.url}/two"}]})
    repo.hire("bob", "hook")
    repo.commit()
    accounts.fail_next(1, 500, prefix="/two")
    first = row(machine.reconcile(), "bob", "hook")
    assert (first.status, first.retry_at) == (Status.RETRYING, machine.clock.now() + HOUR)
    assert row(machine.reconcile(), "bob", "hook").action is Action.WAIT
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "bob", "hook").status is Status.DONE
    hooks = [path for path in posts(accounts) if path in ("/one", "/two")]
    assert hooks == ["/one", "/two", "/one", "/two"]


# Unknown at the retry


def test_a_check_that_fails_when_the_retry_is_due_does_not_use_it_up(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    accounts.fail_next(2, 503, method="GET", prefix="/users")
    for _ in range(2):
        waiting = row(machine.reconcile(), "ada", "tool")
        assert (waiting.status, waiting.attempts) == (Status.RETRYING, 1)
        assert "exists check failed: answered 503" in waiting.reason
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 2)


# Starting afresh


def fail_for_good(machine, accounts, prefix="/users"):
    accounts.fail_next(2, 500, method="POST", prefix=prefix)
    machine.reconcile()
    machine.clock.turn(hours=1)
    failed = row(machine.reconcile(), "ada", "tool")
    assert (failed.status, failed.attempts) == (Status.FAILED, 2)


def test_starting_afresh_has_two_attempts_before_it(machine, accounts):
    fail_for_good(machine, accounts)
    machine.enqueue("retry", "ada", "tool")
    accounts.fail_next(2, 500, method="POST", prefix="/users")
    again = row(machine.reconcile(), "ada", "tool")
    assert (again.status, again.attempts) == (Status.RETRYING, 1)
    machine.clock.turn(hours=1)
    last = row(machine.reconcile(), "ada", "tool")
    assert (last.status, last.attempts) == (Status.FAILED, 2)
    machine.clock.turn(hours=9)
    assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED


def test_retrying_starts_afresh_at_once_where_a_value_changes(machine, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 1)
    assert accounts.teams == {"8": ["ada@example.com"]}


def test_half_done_and_afresh_continues_with_the_new_values(machine, accounts, repo):
    fail_for_good(machine, accounts, "/teams")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 1)
    assert posts(accounts) == ["/users", "/teams/7/members", "/teams/7/members", "/teams/8/members"]


def test_what_is_done_differs_where_it_was_sent_with_other_values(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["data"] |= {"role": "{{position}}", "floor": "{{FLOORS.0}}"}
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, position="admin", extra={"FLOORS": ["1"]})
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}}, position="member", extra={"FLOORS": ["2"]})
    repo.commit()
    for _ in range(2):  # already in the pass that finishes it
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, found.action) == (Status.DIFFERS, Action.NONE)
        assert found.as_json()["differs"] == {"position": ["admin", "member"], "FLOORS": [["1"], ["2"]]}
    assert posts(accounts) == ["/users", "/teams/7/members", "/teams/8/members"]


def test_account_that_is_found_under_a_new_address_half_done_is_removed_under_that(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    accounts.people.clear()
    accounts.add("lovelace@example.com")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()

    def done_but_not_seen(connection, received):
        accounts.fail_next(1, 500, method="GET")
        connection.answer(accounts.handle(received))

    accounts.on(done_but_not_seen, times=1, method="POST", prefix="/teams")
    machine.clock.turn(hours=1)
    machine.reconcile()
    assert posts(accounts) == ["/users", "/teams/7/members", "/teams/7/members"]
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}


def test_half_done_and_afresh_goes_on_where_only_what_follows_changed(machine, accounts, repo):
    fail_for_good(machine, accounts, "/teams")
    manifest = accounts.manifest(team=True)
    manifest["execute"][1]["data"]["role"] = "member"
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.calls("POST", "/teams")[-1].json() == {"email": "ada@example.com", "role": "member"}


@pytest.mark.parametrize("times", [1, 2], ids=["retrying", "failed"])
def test_half_done_with_another_beginning_stays_failed_and_names_the_ways_on(machine, accounts, repo, times):
    accounts.fail_next(times, 500, method="POST", prefix="/teams")
    machine.reconcile()
    if times == 2:
        machine.clock.turn(hours=1)
        machine.reconcile()
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["data"]["locale"] = "en"
    repo.manifest("tool", manifest)
    repo.commit()
    for _ in range(2):
        stuck = row(machine.reconcile(), "ada", "tool")
        assert (stuck.status, stuck.action) == (Status.FAILED, Action.NONE)
        assert "`reconcile accept ada tool` or `reconcile run ada tool`" in stuck.reason
        machine.clock.turn(hours=2)
    assert accounts.created == {"ada@example.com": 1}
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


WITH_TOKEN = {
    "initial_data_form": [{"id": "KEY", "name": "Key"}, {"id": "OTHER", "name": "Other"}],
    "headers": {"Content-Type": "application/json", "X-Key": "{{KEY}}"},
}


@pytest.fixture
def members(machine, accounts, repo):
    """Of an account that was made the check sees nothing until it is a member, and once it is none."""
    found = set()
    manifest = accounts.manifest()
    one = f"{accounts.url}/members/{{{{email}}}}"
    manifest["exists"]["url"] = one
    manifest["execute"].append({"url": f"{accounts.url}/members", "data": {"email": "{{email}}"}})
    manifest["revoke"] = [{"url": url, "method": "DELETE"} for url in (one, f"{accounts.url}/users/{{{{email}}}}")]

    def join(received):
        found.add(received.json()["email"])
        return 201

    def leave(_received, email):
        found.discard(email)
        return 204

    accounts.route("GET", "/members/{email}", lambda _received, email: {"email": email} if email in found else 404)
    accounts.route("POST", "/members", join)
    accounts.route("DELETE", "/members/{email}", leave)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    return manifest


@pytest.mark.parametrize("anew", ["by hand", "another beginning", "half revoked"])
def test_what_begins_anew_and_is_refused_does_not_forget_what_was_made(machine, accounts, repo, members, anew):
    if anew == "half revoked":
        machine.reconcile()
        accounts.fail_next(1, 403, method="DELETE", prefix="/users")
        repo.hire("ada")
        repo.commit()
        machine.reconcile()
        repo.hire("ada", "tool")
        repo.commit()
    else:
        accounts.fail_next(1, 403, method="POST", prefix="/members")
        machine.reconcile()
    if anew == "another beginning":
        members["execute"][0]["data"]["team"] = "7"
        repo.manifest("tool", members)
        repo.commit()
    machine.reconcile(by_hand={("ada", "tool"): "run"} if anew == "by hand" else {})
    assert "answered 409" in machine.record("ada", "tool").last_error
    repo.hire("ada")
    repo.commit()
    left = row(machine.reconcile(), "ada", "tool")
    assert (left.status, left.reason) == (
        Status.ORPHANED,
        "no longer in git; never confirmed: an invitation may be open",
    )
    assert accounts.people


def test_rotated_initial_data_starts_what_failed_afresh_and_leaves_the_rest(machine, accounts, repo):
    repo.manifest("tool", accounts.manifest(team=True) | WITH_TOKEN)
    repo.initial_data("tool", {"KEY": "first-key-0", "OTHER": "other-0000"})
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.add("bob@example.com")
    fail_for_good(machine, accounts)
    repo.initial_data("tool", {"KEY": "first-key-0", "OTHER": "other-1111"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED, "a key that is not used changes nothing"
    repo.initial_data("tool", {"KEY": "second-key-0", "OTHER": "other-1111"})
    repo.commit()
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert row(report, "bob", "tool").status is Status.PRESENT
    assert row(report, "bob", "tool").attempts == 0
    assert accounts.calls("POST")[-1].headers["X-Key"] == "second-key-0"


def test_initial_data_that_appears_ends_blocked(machine, accounts, repo):
    repo.manifest("tool", accounts.manifest(team=True) | WITH_TOKEN)
    repo.commit()
    blocked = row(machine.reconcile(), "ada", "tool")
    assert (blocked.status, blocked.action) == (Status.BLOCKED, Action.NONE)
    assert "KEY" in blocked.reason
    assert accounts.calls() == []
    repo.initial_data("tool", {"KEY": "first-key-0"})
    repo.commit()
    half = row(machine.reconcile(), "ada", "tool")
    assert "OTHER" in half.reason
    assert "KEY" not in half.reason
    repo.write("config/initial_data/tool.yaml.gpg", b"not encrypted to anybody")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.BLOCKED
    repo.initial_data("tool", {"KEY": "first-key-0", "OTHER": "other-0000"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.events("ada")[:2] == [EventType.BLOCKED, EventType.UNBLOCKED]
    assert machine.events("ada").count(EventType.BLOCKED) == 1


def test_the_text_of_a_notification_counts_as_what_would_be_sent(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    notice = {"type": "email", "to": "{{email}}", "subject": "Hi", "message": "Welcome"}
    repo.manifest("tool", manifest | {"post_execute_notification": [notice]})
    repo.commit()
    fail_for_good(machine, accounts)
    repo.manifest("tool", manifest | {"post_execute_notification": [notice | {"message": "Welcome, {{first_name}}"}]})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.outbox.sent == [("ada@example.com", "Hi", "Welcome, Ada")]


def test_values_that_vary_by_run_start_nothing_afresh(machine, accounts, repo):
    """Generated values, responses, `redirect_url` and `access_overview` are not counted."""
    manifest = accounts.manifest(team=True)
    manifest["initial_data_form"] = [{"id": "PASSWORD", "name": "generate"}]
    manifest["execute"][0]["data"] |= {
        "password": "{{PASSWORD}}",
        "back": "{{redirect_url}}",
        "others": "{{access_overview}}",
    }
    manifest["execute"][1]["data"] |= {"member": "{{responses.0.id}}"}
    repo.manifest("tool", manifest)
    repo.commit()
    fail_for_good(machine, accounts)
    repo.settings(gnupg_home=repo.gnupg.path, public_url="https://access.example.com")
    repo.manifest("more", accounts.manifest())
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, {"integration": "more", "at": "2027-01-01"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED


def test_retry_by_hand_of_a_person_and_of_a_service(machine, accounts, repo):
    repo.manifest("more", accounts.manifest())
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(4, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    machine.reconcile()
    assert {item.status for item in machine.reconcile().rows} == {Status.FAILED}
    machine.enqueue("retry", integration="more")
    assert {item.status for item in machine.reconcile().rows} == {Status.FAILED}
    machine.enqueue("retry", "ada")
    report = machine.reconcile()
    assert [item.status for item in report.rows] == [Status.PRESENT, Status.FAILED]
    machine.enqueue("retry", integration="tool")
    assert [item.status for item in machine.reconcile().rows] == [Status.PRESENT, Status.PRESENT]
    asked = [line for line in machine.history() if line.event is EventType.RETRY_REQUESTED]
    assert [(line.key.hire, line.detail) for line in asked] == [("ada", "by tester@here"), ("bob", "by tester@here")]


# When a retry is due


def test_a_retry_that_comes_due_while_it_is_suspended_is_due_when_that_ends(machine, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    repo.settings(
        gnupg_home=repo.gnupg.path, suspend=[{"integration": "tool", "until": "2026-12-03", "reason": "an audit"}]
    )
    repo.commit()
    machine.clock.turn(hours=2)
    held = row(machine.reconcile(), "ada", "tool")
    assert (held.status, held.action) == (Status.SUSPENDED, Action.NONE)
    assert "until 2026-12-03: an audit" in held.reason
    machine.clock.turn(days=2)
    assert row(machine.plan(), "ada", "tool").action is Action.RETRY
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 2)


def test_a_retry_that_comes_due_while_it_is_blocked_is_due_when_that_ends(machine, accounts, repo):
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, manager="Grace Hopper")
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["data"]["manager"] = "{{manager}}"
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    machine.clock.turn(hours=2)
    assert row(machine.reconcile(), "ada", "tool").status is Status.BLOCKED
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, manager="Grace Hopper")
    repo.commit()
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 2)


def test_retry_delay_is_the_settings(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, retry_delay="5m")
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.retry_at == machine.clock.now() + timedelta(minutes=5)


# Waits


def test_a_short_retry_after_is_no_failure(machine, accounts):
    accounts.fail_next(3, 429, method="POST", prefix="/users", headers={"Retry-After": "20"})
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST", "/users")) == 4
    assert sum(machine.clock.waits) >= 60


@pytest.mark.parametrize("told", [True, False])
def test_no_create_is_refused_at_a_limit_that_is_told_or_set(machine, accounts, repo, told):
    """Thirty a minute: as the answers say, or by a rate of one in two seconds, of which the checks take their part."""
    began, taken, refused, counting = machine.clock.now(), Counter[float](), [], Lock()

    def create(received):
        with counting:
            minute, second = divmod((machine.clock.now() - began).total_seconds(), 60)
            taken[minute] += 1
            left = 30 - taken[minute]
        said = {"X-RateLimit-Remaining": str(max(left, 0)), "X-RateLimit-Reset": str(int(60 - second))}
        if left < 0:
            refused.append(received)
            return Reply(429, {"error": "ratelimited"}, said)
        status, body = accounts._create(received)
        return Reply(status, body, said if told else {})

    accounts.route("POST", "/users", create)
    repo.manifest("tool", accounts.manifest())
    # By the rate one at a time: a wait turns the hands for all, also while another request is on its way.
    limits = {"per_host": 5} if told else {"rate": 0.5, "per_host": 1}
    repo.settings(gnupg_home=repo.gnupg.path, limits=limits, max_new=None)
    repo.remove("hires/ada.yaml")
    for number in range(70):
        repo.hire(f"h{number}", "tool")
    repo.commit()
    machine.reconcile()
    assert refused == []
    emails = [call.json()["email"] for call in accounts.calls("POST")]
    assert len(emails) == len(set(emails)) == 70


@pytest.mark.parametrize(("times", "pause"), [(4, "20"), (1, "61"), (1, None)], ids=["a fourth", "too long", "none"])
def test_long_pause_fails_the_attempt(machine, accounts, times, pause):
    headers = {} if pause is None else {"Retry-After": pause}
    accounts.fail_next(times, 429, method="POST", prefix="/users", headers=headers)
    failed = row(machine.reconcile(), "ada", "tool")
    assert (failed.status, failed.attempts) == (Status.RETRYING, 1)
    assert "answered 429" in failed.reason
    assert len(accounts.calls("POST")) == times


class Ending(Hands):
    """The program is told to stop as soon as it waits."""

    async def sleep(self, seconds):
        if seconds:
            raise Stopped
        await super().sleep(seconds)


def test_sigterm_during_retry_after_ends_the_wait_and_fails_the_attempt(machine, accounts, repo):
    accounts.fail_next(1, 429, method="POST", prefix="/users", headers={"Retry-After": "20"})
    stopped = Machine(repo, Ending())
    failed = row(stopped.reconcile(), "ada", "tool")
    assert (failed.status, failed.retry_at) == (Status.RETRYING, stopped.clock.now() + HOUR)
    assert "stopped" in failed.reason
    assert len(accounts.calls("POST")) == 1
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT, "a 429 has taken no effect"


def test_sigterm_while_it_polls_ends_the_wait_and_fails_the_attempt(machine, accounts, repo):
    accounts.route("GET", "/job", {"state": "queued"})
    job = {"url": f"{accounts.url}/job", "method": "GET", "polling": {"interval": 5, "amount": 3}}
    manifest = accounts.manifest(team=True)
    manifest["execute"].insert(1, job | {"continue_if": {"response_notation": "state", "value": "done"}})
    repo.manifest("tool", manifest)
    repo.commit()
    failed = row(Machine(repo, Ending()).reconcile(), "ada", "tool")
    assert failed.status is Status.RETRYING
    assert "request 2 of 3 (GET): stopped while polling" in failed.reason
    accounts.route("GET", "/job", {"state": "done"})
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.teams == {"7": ["ada@example.com"]}


class Leaving(Hands):
    """The program was told to stop before the attempts' turn came."""

    async def sleep(self, seconds):
        raise Stopped


def test_nothing_new_starts_once_shutdown_is_requested(repo, machine, accounts):
    report = Machine(repo, Leaving()).reconcile()
    assert row(report, "ada", "tool").action is Action.EXECUTE
    assert accounts.calls("POST") == []
    assert machine.record("ada", "tool").attempts == 0


# Responses


def test_continuation_reports_a_missing_response(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][1]["data"] = {"email": "{{email}}", "member": "{{responses.0.id}}"}
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.drop_after_commit(method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    failed = row(machine.reconcile(), "ada", "tool")
    assert (failed.status, failed.attempts) == (Status.FAILED, 2)
    assert "responses.0.id" in failed.reason
    assert accounts.calls("POST", "/teams") == []
    with machine.ledger() as ledger:
        assert ledger.attempts.open() == []
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_continuing_has_the_responses_that_came(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][1]["data"] = {"email": "{{email}}", "member": "{{responses.0.id}}"}
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("POST", "/teams")[-1].json()["member"] == "1"


def test_half_done_attempt_reports_lost_memory(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    with machine.ledger() as ledger:
        ledger.sealed.put("run/ada/tool", None)
    machine.clock.turn(hours=1)
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.status is Status.FAILED
    assert "`reconcile accept` or `reconcile run`" in failed.reason
    assert accounts.created == {"ada@example.com": 1}


# Conditions


def test_a_creation_that_is_not_ready_in_time_is_not_made_twice(machine, accounts, repo):
    """The account is there: the request that it came from is done, whatever its answer still said."""
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["continue_if"] = {"response_notation": "state", "value": "active"}
    repo.manifest("tool", manifest)
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.status is Status.RETRYING
    assert "continue_if does not hold" in failed.reason
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert posts(accounts) == ["/users", "/teams/7/members"]


def test_a_creation_that_polls_and_is_refused_the_second_time_has_taken_effect(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    condition = {"response_notation": "state", "value": "active"}
    manifest["execute"][0] |= {"continue_if": condition, "polling": {"interval": 1, "amount": 3}}
    repo.manifest("tool", manifest)
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    assert "answered 409" in failed.reason
    waiting = row(machine.reconcile(), "ada", "tool")
    assert waiting.status is Status.RETRYING, "it is this run's account, and half done"
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.teams == {"7": ["ada@example.com"]}


def test_polling_sends_again_until_it_holds(machine, accounts, repo):
    states = iter(["queued", "running", "done"])
    accounts.route("GET", "/job/{job}", lambda _received, job: {"state": next(states), "job": job})
    manifest = accounts.manifest(team=True)
    job = {
        "url": f"{accounts.url}/job/{{{{responses.0.id}}}}",
        "method": "GET",
        "polling": {"interval": 7, "amount": 3},
    }
    manifest["execute"].insert(1, job | {"continue_if": {"response_notation": "state", "value": "done"}})
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [call.path for call in accounts.calls("GET", "/job")] == ["/job/1"] * 3
    assert machine.clock.waits == [7, 7]


def test_polling_that_comes_to_nothing_fails_the_attempt_and_is_taken_up_again(machine, accounts, repo):
    accounts.route("GET", "/job", {"state": "queued"})
    manifest = accounts.manifest(team=True)
    job = {"url": f"{accounts.url}/job", "method": "GET", "polling": {"interval": 7, "amount": 2}}
    manifest["execute"].insert(1, job | {"continue_if": {"response_notation": "state", "value": "done"}})
    repo.manifest("tool", manifest)
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    what = 'continue_if does not hold: state is another: answered 200: {"state": "queued"}'
    assert failed.reason == f"request 2 of 3 (GET): {what}"
    assert "1 of 3 requests done" in row(machine.reconcile(), "ada", "tool").reason
    accounts.route("GET", "/job", {"state": "done"})
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.teams == {"7": ["ada@example.com"]}


# One attempt fails


FAILURES = {
    "a 4xx": ({"status": 422}, "answered 422"),
    "a 5xx": ({"status": 500}, "answered 500"),
    "a redirect": ({"status": 302, "headers": {"Location": "/elsewhere"}}, "answered 302"),
}


@pytest.mark.parametrize(("answer", "said"), FAILURES.values(), ids=FAILURES)
def test_a_failed_request_stops_the_attempt(machine, accounts, answer, said):
    accounts.fail_next(1, answer["status"], method="POST", prefix="/users", headers=answer.get("headers"))
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.status is Status.RETRYING
    assert "request 1 of 2 (POST): " in failed.reason
    assert said in failed.reason
    assert accounts.calls("POST", "/teams") == []


def test_status_code_defines_success(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["status_code"] = [200]
    manifest["execute"][1]["status_code"] = ["200"]
    repo.manifest("tool", manifest)
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    assert "answered 201, expected 200" in failed.reason
    assert accounts.calls("POST", "/teams") == []
    assert "1 of 2 requests done" in row(machine.reconcile(), "ada", "tool").reason, "it made the account all the same"
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.teams == {"7": ["ada@example.com"]}


def test_every_attempt_and_request_is_in_the_ledger(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    machine.clock.turn(hours=1)
    machine.reconcile()
    with machine.ledger() as ledger:
        attempts = ledger.attempts.of(machine.record("ada", "tool").key)
    told = [
        (attempt.number, [(sent.place, sent.method, sent.status_code, str(sent.outcome)) for sent in requests])
        for attempt, requests in attempts
    ]
    assert told == [
        (1, [(0, "POST", 201, "done"), (1, "POST", 500, "refused")]),
        (2, [(1, "POST", 200, "done")]),
    ]
    started = [line.detail for line in machine.history("ada") if line.event is EventType.ATTEMPT_STARTED]
    assert started == ["attempt 1", "attempt 2, from request 2 of 2"]
    assert all(line.author == "Ida Admin <ida@example.com>" for line in machine.history("ada"))
