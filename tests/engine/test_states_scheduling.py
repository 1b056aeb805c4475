"""docs/design/states.md, "Not able to run": `at`, `until`, `needs`, `suspend`, sequences; what does not fit is
invalid."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Hands, Machine, row

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


def tuple_of(source):
    file, _, line = source.rpartition(":")
    return file, int(line)


def statuses(report, hire="ada"):
    return {item.access: item.status for item in report.rows if item.hire == hire}


# at


BEGINS = {
    "on the hire's start": ({"at": "start"}, "2026-12-03", "2026-12-03"),
    "days before it": ({"at": "start-3d"}, "2026-12-06", "2026-12-03"),
    "days after it": ({"at": "start+2d"}, "2026-12-01", "2026-12-03"),
    "on a date": ({"at": "2026-12-03"}, None, "2026-12-03"),
}


@pytest.mark.parametrize(("entry", "start", "day"), BEGINS.values(), ids=BEGINS)
def test_an_entry_that_begins_later_is_scheduled_and_not_looked_at(machine, accounts, repo, entry, start, day):
    repo.hire("ada", TOOL | entry, **({"start": start} if start else {}))
    repo.commit()
    waiting = row(machine.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.action, waiting.reason) == (Status.SCHEDULED, Action.WAIT, f"begins on {day}")
    assert accounts.calls() == []
    machine.clock.turn(days=1, hours=14, minutes=59)
    assert row(machine.reconcile(), "ada", "tool").status is Status.SCHEDULED
    machine.clock.turn(minutes=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_days_are_those_of_the_settings_time_zone(machine, repo):
    repo.settings(gnupg_home=repo.gnupg.path, timezone="Pacific/Auckland")
    repo.hire("ada", TOOL | {"at": "2026-12-02"})
    repo.commit()
    assert row(machine.plan(), "ada", "tool").status is Status.SCHEDULED
    machine.clock.turn(hours=2)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT, "11:00 UTC is midnight there"


def test_at_moved_ahead_changes_nothing_for_what_was_executed_or_confirmed(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", TOOL | {"at": "2027-06-01"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT, "it is healed like any other"


def test_scheduled_precedes_blocked(machine, accounts, repo):
    """docs/design/states.md, "Precedence": an entry that waits for another, and a broken manifest."""
    repo.write("manifests/other.yaml", "execute: {}\n")
    repo.hire("ada", {**TOOL, "at": "2026-12-03"}, {"integration": "other", "needs": ["tool"]})
    repo.commit()
    for report in (machine.plan(), machine.reconcile()):
        found = row(report, "ada", "other")
        assert (found.status, found.reason) == (
            Status.SCHEDULED,
            "needs tool, which is scheduled: begins on 2026-12-03",
        )
    machine.clock.turn(days=2)
    assert statuses(machine.reconcile()) == {"tool": Status.PRESENT, "other": Status.BLOCKED}


INVALID = {
    "at start without a start": (TOOL | {"at": "start"}, {}, "at: start needs the hire's start date"),
    "a day beyond the calendar": (TOOL | {"at": "start-900d"}, {"start": "0001-02-01"}, "no day that there is"),
    "until before at": (
        TOOL | {"at": "2026-12-05", "until": "2026-12-04"},
        {},
        "until 2026-12-04 is not after at (2026-12-05)",
    ),
    "until the day it begins": (
        TOOL | {"at": "start", "until": "2026-11-01"},
        {"start": "2026-11-01"},
        "until 2026-11-01 is not after at (2026-11-01)",
    ),
    "until before at, both by the start": (
        TOOL | {"at": "start+5d", "until": "start+5d"},
        {"start": "2027-01-01"},
        "until 2027-01-06 is not after at (2027-01-06)",
    ),
    "until the end of a hire without one": (TOOL | {"until": "end-3d"}, {}, "until: end needs the hire's end date"),
    "until the start of a hire without one": (
        TOOL | {"until": "start"},
        {},
        "until: start needs the hire's start date",
    ),
    "needs nobody knows": (TOOL | {"needs": ["tol"]}, {}, "needs tol, which this hire does not have"),
    "needs itself": (TOOL | {"needs": ["tool"]}, {}, "needs itself"),
    "an integration that is not there": ({"integration": "tol"}, {}, "did you mean tool?"),
    "a value of no field": (
        {"integration": "tool", "values": {"TEEM": "7", "TEAM": "7"}},
        {},
        "values.TEEM: the manifest's form has no such field: did you mean TEAM?",
    ),
}


@pytest.mark.parametrize(("entry", "fields", "said"), INVALID.values(), ids=INVALID)
def test_an_entry_that_does_not_fit_is_invalid_and_nothing_else_is(machine, others, repo, entry, fields, said):
    repo.manifest("other", others.manifest())
    repo.hire("ada", entry, "other", **fields)
    repo.commit()
    name = entry["integration"]
    for report in (machine.plan(), machine.reconcile(), machine.reconcile()):
        found = row(report, "ada", name)
        assert (found.status, found.action) == (Status.INVALID, Action.NONE)
        assert said in found.reason
        assert report.wrong
        (problem,) = report.problems
        assert (problem.file, problem.line) == tuple_of(found.source)
        assert said in problem.message
    assert row(report, "ada", "other").status is Status.PRESENT


def test_needs_in_a_circle_are_invalid(machine, accounts, repo):
    for name in ("one", "two", "three", "four"):
        repo.manifest(name, accounts.manifest())
    repo.hire(
        "ada",
        {"integration": "one", "needs": ["two"]},
        {"integration": "two", "needs": ["three"]},
        {"integration": "three", "needs": ["one"]},
        {"integration": "four", "needs": ["three"]},
    )
    repo.commit()
    report = machine.reconcile()
    assert statuses(report) == {
        "one": Status.INVALID,
        "two": Status.INVALID,
        "three": Status.INVALID,
        "four": Status.SCHEDULED,
    }
    assert "circle" in row(report, "ada", "one").reason
    assert "needs three, which is invalid" in row(report, "ada", "four").reason
    assert accounts.calls() == []


def test_an_invalid_entry_that_is_mended_goes_on_where_it_stood(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", TOOL | {"needs": ["nothing"]})
    repo.commit()
    held = row(machine.reconcile(), "ada", "tool")
    assert (held.status, held.action) == (Status.INVALID, Action.NONE)
    repo.hire("ada", TOOL)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}


def test_a_new_invalid_entry_is_kept_and_dropped_when_it_is_taken_out(machine, repo):
    repo.hire("ada", TOOL | {"needs": ["nothing"]})
    repo.commit()
    machine.reconcile()
    assert machine.record("ada", "tool").status is Status.INVALID
    repo.hire("ada")
    repo.commit()
    assert machine.reconcile().rows == []
    assert machine.record("ada", "tool") is None
    assert machine.events("ada") == [EventType.DROPPED]


# until


def test_until_is_the_first_day_on_which_it_counts_as_removed(machine, repo):
    repo.settings(gnupg_home=repo.gnupg.path, timezone="America/New_York")
    repo.hire("ada", TOOL | {"until": "2026-12-02"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=19, minutes=59)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT, "23:59 in New York"
    machine.clock.turn(minutes=1)
    left = row(machine.reconcile(), "ada", "tool")
    assert left.status is Status.REVOKED
    assert EventType.EXPIRED in machine.events("ada")


def test_until_reached_for_what_was_never_executed(machine, accounts, repo):
    repo.hire("ada", TOOL | {"until": "2026-12-03", "at": "2026-12-02"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.SCHEDULED
    machine.clock.turn(days=3)
    assert machine.reconcile().rows == []
    assert machine.events("ada") == [EventType.DROPPED]
    assert machine.reconcile().rows == []
    assert machine.events("ada") == [EventType.DROPPED]
    assert accounts.calls() == []


def test_need_of_an_expired_entry_is_reported(machine, others, repo):
    repo.manifest("more", others.manifest())
    repo.hire("ada", TOOL | {"until": "2026-11-01"}, {"integration": "more", "needs": ["tool"]})
    repo.commit()
    for report in (machine.reconcile(integrations=["more"]), machine.reconcile()):
        waiting = row(report, "ada", "more")
        assert (waiting.status, waiting.reason) == (Status.SCHEDULED, "needs tool, which has reached its until")


# needs


@pytest.fixture
def chain(machine, accounts, repo):
    """`more` needs `tool`, and stands first."""
    manifest = accounts.manifest()
    manifest["exists"]["url"] = f"{accounts.url}/more/{{{{email}}}}"
    manifest["execute"] = [{"url": f"{accounts.url}/more", "data": {"email": "{{email}}"}}]
    more = set()
    accounts.route("GET", "/more/{email}", lambda _received, email: {"email": email} if email in more else 404)

    def join(received):
        more.add(received.json()["email"])
        return 201

    accounts.route("POST", "/more", join)
    repo.manifest("more", manifest)
    repo.hire("ada", {"integration": "more", "needs": ["tool"]}, TOOL)
    repo.commit()
    return machine


def test_needed_entry_runs_first_in_the_same_pass(chain, accounts):
    planned = chain.plan()
    assert [(item.access, item.action) for item in planned.rows] == [
        ("tool", Action.EXECUTE),
        ("more", Action.EXECUTE),
    ]
    assert statuses(chain.reconcile()) == {"tool": Status.PRESENT, "more": Status.PRESENT}
    assert [call.path for call in accounts.calls("POST")] == ["/users", "/teams/7/members", "/more"]


NOT_PROVIDED = {
    "retrying": (1, 500, "POST", "/users", "needs tool, which is retrying: "),
    "unknown": (None, 500, "GET", "/users", "needs tool, which is unknown: "),
}


@pytest.mark.parametrize(("times", "status", "method", "prefix", "said"), NOT_PROVIDED.values(), ids=NOT_PROVIDED)
def test_needs_wait_for_what_did_not_come_to_be(chain, accounts, times, status, method, prefix, said):
    accounts.fail_next(times, status, method=method, prefix=prefix)
    waiting = row(chain.reconcile(), "ada", "more")
    assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
    assert said in waiting.reason
    assert accounts.calls("POST", "/more") == []
    assert waiting.attempts == 0


def test_needs_wait_for_what_failed_and_go_on_when_it_succeeds(chain, accounts):
    accounts.fail_next(2, 500, method="POST", prefix="/users")
    chain.reconcile()
    chain.clock.turn(hours=1)
    chain.reconcile()
    waiting = row(chain.reconcile(), "ada", "more")
    assert "needs tool, which is failed: " in waiting.reason
    chain.enqueue("retry", "ada", "tool")
    assert statuses(chain.reconcile()) == {"tool": Status.PRESENT, "more": Status.PRESENT}


def test_needs_wait_for_what_is_unconfirmed(chain, accounts):
    accounts.route("POST", "/users", lambda _received: 202)
    first = row(chain.reconcile(), "ada", "more")
    second = row(chain.reconcile(), "ada", "more")
    for waiting in (first, second):
        assert waiting.status is Status.SCHEDULED
        assert "needs tool, which is unconfirmed" in waiting.reason
    accounts.add("ada@example.com")
    assert row(chain.reconcile(), "ada", "more").status is Status.PRESENT


def test_needs_wait_for_what_is_blocked(chain, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["data"]["phone"] = "{{PHONE}}"
    repo.manifest("tool", manifest)
    repo.commit()
    waiting = row(chain.reconcile(), "ada", "more")
    assert waiting.status is Status.SCHEDULED
    assert "needs tool, which is blocked: variable {{PHONE}}" in waiting.reason


def test_needs_are_satisfied_by_a_webhook_that_ran(machine, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    repo.hire("ada", TOOL | {"needs": ["hook"]}, "hook")
    repo.commit()
    assert statuses(machine.reconcile()) == {"hook": Status.DONE, "tool": Status.PRESENT}


def test_needs_do_not_count_for_what_was_executed_once(chain, accounts):
    chain.reconcile()
    accounts.fail_next(None, 500, method="GET", prefix="/users")
    assert statuses(chain.reconcile()) == {"tool": Status.UNKNOWN, "more": Status.PRESENT}


def test_outside_the_chosen_integrations_what_is_needed_is_checked_and_not_executed(chain, accounts):
    report = chain.reconcile(integrations=["more"])
    assert [item.access for item in report.rows] == ["more"]
    waiting = row(report, "ada", "more")
    assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
    assert "needs tool, which is missing" in waiting.reason
    assert accounts.lines() == ["GET /users/ada@example.com"]
    accounts.add("ada@example.com")
    assert row(chain.reconcile(integrations=["more"]), "ada", "more").status is Status.PRESENT
    assert accounts.calls("POST", "/users") == []
    assert chain.record("ada", "tool") is None, "nothing is written of what the pass is not about"


# suspend


def test_suspended_until_a_day_and_on_the_next_pass_of_that_day_it_goes_on(machine, accounts, repo):
    held = [{"hire": "ada", "until": "2026-12-02", "reason": "on leave"}]
    repo.settings(gnupg_home=repo.gnupg.path, suspend=held, timezone="Europe/Amsterdam")
    repo.commit()
    for report in (machine.plan(), machine.reconcile()):
        found = row(report, "ada", "tool")
        assert (found.status, found.action) == (Status.SUSPENDED, Action.NONE)
        assert found.reason == "suspended until 2026-12-02: on leave"
        assert not report.wrong
    assert accounts.calls() == []
    machine.clock.turn(hours=13, minutes=59)
    assert row(machine.reconcile(), "ada", "tool").status is Status.SUSPENDED, "23:59 in Amsterdam is 22:59 UTC"
    machine.clock.turn(minutes=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_a_suspended_integration_holds_its_drift_and_its_orphans(machine, accounts, repo):
    repo.hire("bob", TOOL)
    repo.commit()
    machine.reconcile()
    accounts.people.clear()
    repo.remove("hires/bob.yaml")
    repo.settings(gnupg_home=repo.gnupg.path, suspend=[{"integration": "tool"}], prune="revoke")
    repo.commit()
    before = len(accounts.calls())
    report = machine.reconcile()
    assert {item.status for item in report.rows} == {Status.SUSPENDED}
    assert len(accounts.calls()) == before


def test_invalid_comes_before_suspended_and_suspended_before_scheduled(machine, repo):
    repo.settings(gnupg_home=repo.gnupg.path, suspend=[{"integration": "tool"}])
    repo.hire("ada", TOOL | {"at": "2027-01-01"}, TOOL | {"name": "again", "needs": ["nothing"]})
    repo.commit()
    assert statuses(machine.plan()) == {"tool": Status.SUSPENDED, "again": Status.INVALID}


# Sequences


def sequence(repo, name, *access, **more):
    repo.write(f"config/sequences/{name}.yaml", {**more, "access": list(access)})


def test_a_sequence_that_is_named_and_one_that_is_assigned(machine, others, repo):
    repo.manifest("more", others.manifest())
    sequence(repo, "named", TOOL)
    sequence(repo, "given", "more", assign={"department": ["R&D", "Design"], "position": "Engineer"})
    repo.hire("ada", sequences=["named"], department="R&D", position="Engineer")
    repo.hire("bob", sequences=["named"], department="R&D", position="Manager")
    repo.commit()
    report = machine.reconcile()
    assert statuses(report) == {"tool": Status.PRESENT, "more": Status.PRESENT}
    assert statuses(report, "bob") == {"tool": Status.PRESENT}
    assert row(report, "ada", "more").source == "config/sequences/given.yaml:7"
    repo.hire("ada", sequences=["named"], department="Sales", position="Engineer")
    repo.commit()
    assert statuses(machine.reconcile()) == {"tool": Status.PRESENT, "more": Status.ORPHANED}


def test_the_hires_own_entry_wins(machine, accounts, repo):
    sequence(repo, "team", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.hire("ada", TOOL, sequences=["team"])
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").source == "hires/ada.yaml:7"
    assert accounts.teams == {"7": ["ada@example.com"]}


def test_two_sequences_in_conflict_make_that_grant_invalid(machine, accounts, others, repo):
    repo.manifest("more", others.manifest())
    sequence(repo, "a", {"integration": "tool", "values": {"TEAM": "7"}}, "more")
    sequence(repo, "b", {"integration": "tool", "values": {"TEAM": "8"}}, "more")
    repo.hire("ada", sequences=["a", "b"])
    repo.commit()
    report = machine.reconcile()
    assert statuses(report) == {"tool": Status.INVALID, "more": Status.PRESENT}
    assert "the sequences a, b give it different values" in row(report, "ada", "tool").reason
    assert [(problem.file, problem.line) for problem in report.problems] == [("hires/ada.yaml", 4)]
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "9"}}, sequences=["a", "b"])
    repo.commit()
    assert statuses(machine.reconcile()) == {"tool": Status.PRESENT, "more": Status.PRESENT}
    assert accounts.teams == {"9": ["ada@example.com"]}


def test_days_count_from_a_clock_in_utc_too(repo, machine):
    late = Machine(repo, Hands(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)))
    repo.hire("ada", TOOL | {"at": "2027-01-01"})
    repo.commit()
    assert row(late.reconcile(), "ada", "tool").status is Status.SCHEDULED
    late.clock.turn(seconds=1)
    assert row(late.reconcile(), "ada", "tool").status is Status.PRESENT


# The end


def at_the_end_of(machine, day):
    """Turn the clock to a minute before midnight of a day in December, then past it; gives both passes."""
    machine.clock.turn(days=day - 1, hours=14, minutes=59)
    before = machine.reconcile()
    machine.clock.turn(minutes=1)
    return before, machine.reconcile()


ENDS = {
    "the hire's end is the last day": ({}, 3),
    "a later date does not outlast it": ({"until": "2026-12-20"}, 3),
    "an earlier date comes first": ({"until": "2026-12-03"}, 2),
    "days before the end": ({"until": "end-1d"}, 1),
    "days after the end take its place": ({"until": "end+2d"}, 4),
    "days after the start": ({"until": "start+2d"}, 2),
}


@pytest.mark.parametrize(("entry", "day"), ENDS.values(), ids=ENDS)
def test_an_entry_ends_with_the_hire_or_before(machine, accounts, repo, entry, day):
    """`day` is the last one in December 2026 with access."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", TOOL | entry, start="2026-12-01", end="2026-12-03")
    repo.commit()
    assert statuses(machine.reconcile()) == {"tool": Status.PRESENT}
    before, after = at_the_end_of(machine, day)
    assert statuses(before) == {"tool": Status.PRESENT}
    assert statuses(after) == {"tool": Status.REVOKED}
    assert len(accounts.calls("DELETE")) == 1


def test_sequence_grants_end_with_the_hire(machine, accounts, repo):
    repo.write("config/sequences/team.yaml", {"access": [TOOL]})
    repo.hire("ada", sequences=["team"], end="2026-12-01")
    repo.commit()
    before, after = at_the_end_of(machine, 1)
    assert statuses(before) == {"tool": Status.PRESENT}
    assert statuses(after) == {"tool": Status.REVOKED}


def test_entry_beginning_after_end_blocks_no_revocation(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("later", accounts.manifest())
    repo.hire("ada", TOOL, {"integration": "later", "at": "start+90d"}, start="2026-12-01", end="2026-12-01")
    repo.commit()
    before, after = at_the_end_of(machine, 1)
    assert statuses(before) == {"tool": Status.PRESENT, "later": Status.SCHEDULED}
    assert statuses(after) == {"tool": Status.REVOKED}


def test_an_end_before_the_start_counts_and_is_a_warning(machine, repo):
    repo.hire("ada", {"integration": "tool", "at": "start"}, start="2027-12-02", end="2026-01-01")
    repo.commit()
    report = machine.reconcile()
    assert (report.wrong, report.rows) == (False, [])
    assert [problem.message for problem in report.problems] == ["end 2026-01-01 is before start 2027-12-02"]
