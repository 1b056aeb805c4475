"""docs/design/states.md, "Removed": an entry's time that lay ahead when it was first acted on, and is over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import ASK_AGAIN
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Hands, Machine, row
from tests.servers import Reply

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


def give(repo, **ends):
    """Commit ada's file; `for_` stands for `for`."""
    repo.hire("ada", TOOL | {name.rstrip("_"): value for name, value in ends.items()})
    repo.commit()


def status(machine):
    return row(machine.reconcile(), "ada", "tool").status


@pytest.fixture
def eight_hours(machine, repo):
    """The machine after the pass that gave ada eight hours, at 09:00."""
    give(repo, for_="8h")
    given = row(machine.reconcile(), "ada", "tool")
    assert (given.status, stamp(given.until)) == (Status.PRESENT, "2026-12-01T17:00:00Z")
    return machine


def test_what_is_over_is_revoked_whatever_prune_says(eight_hours, accounts):
    machine = eight_hours
    machine.clock.turn(hours=7, minutes=59, seconds=59)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(seconds=1)
    over = row(machine.reconcile(), "ada", "tool")
    assert (over.status, len(accounts.calls("DELETE"))) == (Status.REVOKED, 1)
    assert stamp(over.due_at) == "2026-12-01T17:00:00Z"
    (expired,) = [line for line in machine.history("ada") if line.event is EventType.EXPIRED]
    assert expired.detail == "for 8h is over"


def test_a_time_within_the_day_is_over_to_the_second(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, timezone="Europe/Berlin")
    give(repo, until="2026-12-01T18:30")
    assert status(machine) is Status.PRESENT
    machine.clock.turn(hours=8, minutes=29, seconds=59)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(seconds=1)
    assert status(machine) is Status.REVOKED


@pytest.mark.parametrize(
    ("ends", "longer"),
    [({"for_": "8h"}, {"for_": "24h"}), ({"until": "2026-12-01T17:00Z"}, {"until": "2026-12-31"})],
)
def test_what_was_revoked_does_not_come_again_while_its_entry_stays(machine, accounts, repo, ends, longer):
    give(repo, **ends)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(hours=9)
    assert status(machine) is Status.REVOKED
    none: dict[str, str] = {}
    for entry in (ends, longer, none):  # neither made longer nor its end taken out
        give(repo, **entry)
        assert status(machine) is Status.REVOKED
    assert machine.events("ada").count(EventType.EXPIRED) == 1
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    give(repo, for_="1h")
    again = row(machine.reconcile(), "ada", "tool")
    assert (again.status, stamp(again.until)) == (Status.PRESENT, "2026-12-01T19:00:00Z"), "asked for anew"
    machine.clock.turn(hours=1)
    assert status(machine) is Status.REVOKED


def left_unrevoked(machine, accounts, repo):
    """Ada's time is over and her entry leaves git, while the service answers no check."""
    accounts.fail_next(None, 503, method="GET")
    machine.clock.turn(hours=9)
    assert status(machine) is Status.ORPHANED
    repo.hire("ada")
    repo.commit()
    assert status(machine) is Status.ORPHANED


def test_what_was_over_and_comes_again_before_it_could_be_revoked_begins_anew(eight_hours, accounts, repo):
    machine = eight_hours
    left_unrevoked(machine, accounts, repo)
    accounts.clear()
    give(repo, for_="8h")
    again = row(machine.reconcile(), "ada", "tool")
    assert (again.status, stamp(again.until)) == (Status.PRESENT, "2026-12-02T02:00:00Z")
    assert accounts.calls("DELETE") == []


def test_what_comes_again_ends_though_no_check_was_answered_meanwhile(eight_hours, accounts, repo):
    machine = eight_hours
    left_unrevoked(machine, accounts, repo)
    give(repo, until="2026-12-01T20:00Z")
    assert status(machine) is Status.UNKNOWN
    machine.clock.turn(hours=2)
    assert (status(machine), accounts.calls("DELETE")) == (Status.ORPHANED, [])
    accounts.clear()
    assert (status(machine), len(accounts.calls("DELETE"))) == (Status.REVOKED, 1)


@pytest.mark.parametrize(("hours", "until"), [(9, "2026-12-02T02:00:00Z"), (4, "2026-12-01T17:00:00Z")])
def test_what_was_taken_out_and_comes_again_begins_anew_once_its_former_end_is_over(
    eight_hours, accounts, repo, hours, until
):
    machine = eight_hours
    repo.hire("ada")
    repo.commit()
    machine.clock.turn(hours=2)
    assert status(machine) is Status.ORPHANED
    give(repo, for_="8h")
    machine.clock.turn(hours=hours - 2)  # the program does not run meanwhile
    again = row(machine.reconcile(), "ada", "tool")
    assert (again.status, stamp(again.until)) == (Status.PRESENT, until)
    give(repo, for_="20m")
    assert (status(machine), accounts.calls("DELETE")) == (Status.PRESENT if hours == 9 else Status.ORPHANED, [])
    machine.clock.turn(hours=8)
    assert (status(machine), len(accounts.calls("DELETE"))) == (Status.REVOKED, 1)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("content", ["access: {}", None], ids=["broken", "gone"])
def test_what_was_over_does_not_come_again_once_its_sequence_is_mended(machine, accounts, repo, named, content):
    sequence = {"access": [TOOL | {"for": "1h"}], **({} if named else {"assign": {"department": "R&D"}})}
    repo.write("config/sequences/base.yaml", sequence)
    repo.hire("ada", department="R&D", **({"sequences": ["base"]} if named else {}))
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=2)
    assert status(machine) is Status.REVOKED
    if content is None:
        repo.remove("config/sequences/base.yaml")
    else:
        repo.write("config/sequences/base.yaml", content)
    repo.commit()
    machine.reconcile()
    repo.write("config/sequences/base.yaml", sequence)
    repo.commit()
    assert status(machine) is Status.REVOKED
    assert accounts.created["ada@example.com"] == 1


def test_a_time_made_longer_while_it_runs_counts_from_the_same_moment(eight_hours, repo):
    machine = eight_hours
    machine.clock.turn(hours=7)
    give(repo, for_="10h")
    assert stamp(row(machine.reconcile(), "ada", "tool").until) == "2026-12-01T19:00:00Z"
    machine.clock.turn(hours=2)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(hours=1)
    assert status(machine) is Status.REVOKED


def by_login(accounts):
    """The manifest's requests for the account that the hire's `extra` names."""
    one = f"{accounts.url}/users/{{{{LOGIN}}}}"
    return accounts.manifest() | {
        "exists": {"url": one, "expected": "{{LOGIN}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/users", "data": {"email": "{{LOGIN}}"}}],
        "revoke": [{"url": one, "method": "DELETE"}],
    }


@pytest.mark.parametrize("what", ["login", "address"])
@pytest.mark.parametrize("seen", [True, False], ids=["a pass saw it", "no pass saw it"])
@pytest.mark.parametrize("expire", ["revoke", "prune"])
def test_what_is_over_gives_no_other_account_while_its_entry_stays(machine, accounts, repo, what, seen, expire):
    repo.settings(gnupg_home=repo.gnupg.path, expire=expire)
    repo.manifest("tool", by_login(accounts) if what == "login" else accounts.manifest(revoke=True))
    lasting = {"integration": "tool", "for": "8h"}
    repo.hire("ada", lasting, extra={"LOGIN": "ada"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=9)
    if seen:
        accounts.fail_next(None, 503, method="GET")
        machine.reconcile()
        accounts.clear()
    if what == "login":
        repo.hire("ada", lasting, extra={"LOGIN": "lovelace"})
    else:
        accounts.add("lovelace@example.com")
        repo.hire("ada", lasting, email="lovelace@example.com")
    repo.commit()
    for _ in range(2):
        (left,) = machine.reconcile().rows
        assert (left.access, left.status) == ("tool", Status.REVOKED if expire == "revoke" else Status.ORPHANED)
    assert sum(accounts.created.values()) == 1
    assert len(accounts.calls("DELETE")) == (1 if expire == "revoke" else 0)


@pytest.mark.parametrize("revokes", [True, False])
def test_what_is_over_follows_its_hire_to_another_address_and_file(eight_hours, accounts, repo, revokes):
    machine = eight_hours
    repo.manifest("tool", accounts.manifest(team=True, revoke=revokes))
    repo.commit()
    machine.clock.turn(hours=9)
    left = status(machine)
    repo.hire("ada", TOOL | {"for": "8h"}, email="lovelace@example.com")
    repo.commit()
    assert status(machine) is left
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", TOOL | {"for": "8h"})
    repo.commit()
    (found,) = machine.reconcile().rows
    assert (found.hire, found.status) == ("lovelace", left)
    assert sum(accounts.created.values()) == 1


@pytest.mark.parametrize("expire", ["revoke", "prune"])
def test_what_is_over_stays_its_hires_where_somebody_else_gets_the_former_address(eight_hours, accounts, repo, expire):
    machine = eight_hours
    repo.settings(gnupg_home=repo.gnupg.path, expire=expire)
    repo.commit()
    machine.clock.turn(hours=9)
    left = status(machine)
    repo.hire("ada", TOOL | {"for": "8h"}, email="lovelace@example.com")
    repo.commit()
    machine.reconcile()
    repo.hire("bob", email="ada@example.com")
    repo.commit()
    (found,) = machine.reconcile().rows
    assert (found.hire, found.status) == ("ada", left)
    assert sum(accounts.created.values()) == 1


@pytest.mark.parametrize("ends", [{"for_": "1h"}, {"until": "2026-12-01T10:00Z"}])
def test_a_time_made_shorter_is_a_removal_like_another_and_over_at_its_former_end(eight_hours, accounts, repo, ends):
    machine = eight_hours
    machine.clock.turn(hours=2)
    give(repo, **ends)
    assert (status(machine), accounts.calls("DELETE")) == (Status.ORPHANED, [])
    machine.clock.turn(hours=6)
    assert status(machine) is Status.REVOKED


@pytest.mark.parametrize("how", ["revoked", "found gone", "and the address changes"])
@pytest.mark.parametrize(("before", "of_hire"), [({}, {}), ({"for": "8h"}, {}), ({}, {"end": "2026-12-31"})])
def test_what_was_made_so_short_that_it_is_over_does_not_come_again_while_its_entry_stays(
    machine, accounts, repo, before, of_hire, how
):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", TOOL | before, **of_hire)
    repo.commit()
    assert status(machine) is Status.PRESENT
    machine.clock.turn(hours=2)
    give(repo, for_="1h")
    if how == "found gone":
        accounts.people.clear()
    if how == "and the address changes":
        repo.hire("ada", TOOL | {"for": "1h"}, email="lovelace@example.com")
        repo.commit()
    for _ in range(2):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, stamp(found.until)) == (Status.REVOKED, "2026-12-01T10:00:00Z")
    assert accounts.created["ada@example.com"] == 1
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    give(repo, for_="1h")
    assert status(machine) is Status.PRESENT


@pytest.mark.parametrize("what", ["login", "address"])
def test_what_a_commit_ends_gives_no_other_account_that_it_names(machine, accounts, repo, what):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("tool", by_login(accounts) if what == "login" else accounts.manifest(revoke=True))
    repo.hire("ada", "tool", extra={"LOGIN": "ada"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=2)
    ends = {"integration": "tool", "for": "1h"}
    if what == "login":
        repo.hire("ada", ends, extra={"LOGIN": "lovelace"})
    else:
        accounts.add("lovelace@example.com")
        repo.hire("ada", ends, email="lovelace@example.com")
    repo.commit()
    for _ in range(2):
        (left,) = machine.reconcile().rows
        assert (left.access, left.status) == ("tool", Status.REVOKED)
    assert (sum(accounts.created.values()), len(accounts.calls("DELETE"))) == (1, 1)


def test_a_time_that_was_over_when_it_was_first_acted_on_takes_nothing_away(machine, accounts, repo):
    assert status(machine) is Status.PRESENT
    give(repo, until="2026-11-30T18:00")
    assert (status(machine), accounts.calls("DELETE")) == (Status.ORPHANED, [])
    repo.hire("bob", TOOL | {"until": "2026-11-30T18:00"})
    repo.commit()
    report = machine.reconcile()
    assert [item for item in report.rows if item.hire == "bob"] == []


@pytest.mark.parametrize("what", ["the entry leaves", "the file breaks", "it is invalid", "the file leaves"])
def test_the_ledger_knows_the_end_whatever_the_file_is_by_then(eight_hours, accounts, repo, what):
    machine = eight_hours
    machine.clock.turn(hours=1)
    match what:
        case "the entry leaves":
            repo.hire("ada")
        case "the file breaks":
            repo.write("hires/ada.yaml", "email: [\n")
        case "it is invalid":
            repo.hire("ada", TOOL | {"values": {"NONE": "1"}})
        case _:
            repo.remove("hires/ada.yaml")
    repo.commit()
    assert status(machine) in (Status.ORPHANED, Status.INVALID)
    machine.clock.turn(hours=7)
    with machine.ledger() as ledger:
        due = ledger.grants.expiring(machine.clock.now())
    assert [str(key) for key in due] == ["ada/tool"], "a daemon acts on it at once"
    assert (status(machine), len(accounts.calls("DELETE"))) == (Status.REVOKED, 1)


@pytest.fixture
def alerts(accounts):
    """Who is told of alerts."""
    accounts.route("POST", "/alerts", Reply(204))
    return [{"webhook": f"{accounts.url}/alerts"}]


def alerted(accounts):
    """What the alerts say of times that are over, one text each."""
    told = [call.body.decode() for call in accounts.calls("POST", "/alerts")]
    return [text for text in told if "its time is over, and it is still there" in text]


@pytest.mark.parametrize(
    ("settings", "entry", "policy", "ends"),
    [
        ({"expire": "prune"}, {}, [], (Status.ORPHANED, None)),
        ({"suspend": [{"hire": "ada", "reason": "on leave"}]}, {}, [], (Status.SUSPENDED, "on leave")),
        ({}, {"keep": True}, [], (Status.ORPHANED, "kept")),
        ({}, {}, [{"name": "break-glass", "hire": "ada", "must_have": ["tool"]}], (Status.ORPHANED, "break-glass")),
    ],
)
def test_what_holds_it_is_alerted_at_its_moment(eight_hours, accounts, repo, alerts, settings, entry, policy, ends):
    machine, (left, why) = eight_hours, ends
    repo.settings(gnupg_home=repo.gnupg.path, alerts=alerts, **settings)
    repo.write("config/policy.yaml", policy)
    give(repo, for_="8h", **entry)
    machine.reconcile()
    assert alerted(accounts) == []
    machine.clock.turn(hours=8)
    for _ in range(2):
        assert (status(machine), accounts.calls("DELETE")) == (left, [])
    assert [why in text for text in alerted(accounts)] == ([] if why is None else [True])
    assert machine.record("ada", "tool").expire_at is None, "no pass is due for it by itself"


def test_without_removals_it_stays_due_for_the_next_pass(eight_hours, accounts, repo, alerts):
    machine = eight_hours
    repo.settings(gnupg_home=repo.gnupg.path, alerts=alerts)
    repo.commit()
    machine.clock.turn(hours=8)
    held = row(machine.reconcile(removals=False), "ada", "tool")
    assert (held.status, accounts.calls("DELETE")) == (Status.ORPHANED, [])
    assert ["--no-removals" in text for text in alerted(accounts)] == [True]
    with machine.ledger() as ledger:
        assert ledger.grants.expiring(machine.clock.now() + ASK_AGAIN), "a daemon acts on it within a minute"
    assert status(machine) is Status.REVOKED


@pytest.mark.parametrize("fails", ["the revocation", "the check", "nothing can revoke it"])
def test_a_failure_is_alerted_at_once(eight_hours, accounts, repo, alerts, fails):
    machine = eight_hours
    repo.settings(gnupg_home=repo.gnupg.path, alerts=alerts)
    match fails:
        case "the revocation":
            accounts.fail_next(None, 500, method="DELETE")
        case "the check":
            accounts.fail_next(None, 503, method="GET", prefix="/users/")
        case _:
            repo.manifest("tool", accounts.manifest(team=True))
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=8)
    report = machine.reconcile()
    assert row(report, "ada", "tool").status in (Status.RETRYING, Status.ORPHANED)
    assert (len(alerted(accounts)), report.expired) == (1, [])
    accounts.clear()
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.commit()
    machine.clock.turn(hours=1)
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.REVOKED
    assert [late.total_seconds() for late in report.expired] == [3600.0]
    assert len(alerted(accounts)) == 1


def test_what_cannot_be_asked_for_the_moment_is_asked_again_each_minute(machine, accounts, repo):
    """The service's token cannot be had."""
    whole = accounts.manifest(revoke=True)
    whole["headers"]["Authorization"] = "Bearer {{oauth.access_token}}"
    whole["oauth"] = {"grant": "client_credentials", "access_token": {"url": f"{accounts.url}/token"}}
    token = {"access_token": "t0ken-t0ken-1", "expires_in": 7200}
    accounts.route("POST", "/token", lambda _received: token)
    repo.manifest("tool", whole)
    repo.hire("ada", {"integration": "tool", "for": "8h"})
    repo.commit()
    assert status(machine) is Status.PRESENT
    accounts.fail_next(None, 503, method="POST", prefix="/token")
    machine.clock.turn(hours=8)
    assert status(machine) is Status.ORPHANED
    assert machine.record("ada", "tool").expire_at == machine.clock.now() + ASK_AGAIN
    accounts.clear()
    machine.clock.turn(minutes=1)
    assert status(machine) is Status.REVOKED


@pytest.mark.parametrize("back", [{"minutes": -30}, {"days": -400}])
def test_what_is_over_stays_over_where_the_clock_is_set_back(eight_hours, accounts, back):
    machine = eight_hours
    machine.clock.turn(hours=8)
    assert status(machine) is Status.REVOKED
    machine.clock.turn(**back)
    assert (status(machine), accounts.created["ada@example.com"]) == (Status.REVOKED, 1)


def test_a_clock_that_is_set_back_makes_a_time_no_longer_than_it_says(eight_hours, accounts):
    machine = eight_hours
    machine.clock.turn(days=-1)
    assert status(machine) is Status.PRESENT
    assert stamp(machine.record("ada", "tool").ends_at) == "2026-12-01T17:00:00Z"
    machine.clock.turn(days=1, hours=8)
    assert status(machine) is Status.REVOKED


@pytest.mark.parametrize(
    ("until", "over"),
    [("2027-03-28T02:30", "2027-03-28T01:00:00Z"), ("2027-10-31T02:30", "2027-10-31T00:30:00Z")],
    ids=["skipped", "twice"],
)
def test_on_a_day_that_the_clock_changes(machine, accounts, repo, until, over):
    repo.settings(gnupg_home=repo.gnupg.path, timezone="Europe/Berlin")
    give(repo, until=until)
    assert stamp(row(machine.reconcile(), "ada", "tool").until) == over
    moment = datetime.fromisoformat(over)
    machine.clock.turn(seconds=(moment - machine.clock.now()).total_seconds() - 1)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(seconds=1)
    assert status(machine) is Status.REVOKED


def test_hours_are_hours_over_a_change_of_the_clock(repo, accounts):
    repo.settings(gnupg_home=repo.gnupg.path, timezone="Europe/Berlin")
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    machine = Machine(repo, Hands(datetime(2027, 3, 27, 23, tzinfo=UTC)))
    give(repo, for_="8h")
    assert stamp(row(machine.reconcile(), "ada", "tool").until) == "2027-03-28T07:00:00Z"


def test_who_does_not_answer_is_asked_again_each_minute(eight_hours, accounts):
    machine = eight_hours
    accounts.fail_next(None, 503, method="GET")
    machine.clock.turn(hours=8)
    silent = row(machine.reconcile(), "ada", "tool")
    assert (silent.status, silent.action) == (Status.ORPHANED, Action.NONE)
    assert stamp(machine.record("ada", "tool").expire_at) == "2026-12-01T17:01:00Z"
    with machine.ledger() as ledger:
        assert ledger.grants.expiring(machine.clock.now()) == []
        machine.clock.turn(minutes=1)
        assert [str(key) for key in ledger.grants.expiring(machine.clock.now())] == ["ada/tool"]
    accounts.clear()
    assert status(machine) is Status.REVOKED


def test_without_exists_it_is_revoked_once(machine, accounts, repo):
    repo.manifest("tool", {name: value for name, value in accounts.manifest(revoke=True).items() if name != "exists"})
    repo.hire("ada", {"integration": "tool", "for": "1h"})
    repo.commit()
    assert status(machine) is Status.DONE
    machine.clock.turn(hours=1)
    assert [status(machine) for _ in range(2)] == [Status.REVOKED] * 2
    assert len(accounts.calls("DELETE")) == 1


def test_two_entries_for_one_account_do_not_keep_it_once_both_are_over(machine, accounts, repo):
    entries = [TOOL | {"name": name, "for": length} for name, length in (("first", "1h"), ("second", "2h"))]
    repo.hire("ada", *entries)
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "first").status is Status.ORPHANED
    assert accounts.calls("DELETE") == []
    machine.clock.turn(hours=1)
    machine.reconcile()
    assert len(accounts.calls("DELETE")) == 1


def test_an_entry_that_does_not_fit_keeps_no_account_whose_time_is_over(machine, accounts, repo):
    repo.hire("ada", TOOL | {"for": "1h"}, TOOL | {"name": "again", "at": "2026-12-01", "until": "2026-11-01"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


def test_an_attempt_that_failed_is_not_made_again_once_it_is_over(machine, accounts, repo):
    give(repo, for_="30m")
    accounts.fail_next(None, 400, method="POST")
    assert status(machine) is Status.RETRYING
    accounts.clear()
    machine.clock.turn(hours=2)
    made = len(accounts.calls("POST"))
    for _ in range(2):
        machine.reconcile()
    assert len(accounts.calls("POST")) == made


def test_an_attempt_that_failed_is_not_made_again_where_it_was_made_so_short_that_it_is_over(machine, accounts, repo):
    """It counts from that attempt, which only the ledger knows."""
    accounts.fail_next(1, 500, method="POST")
    assert status(machine) is Status.RETRYING
    machine.clock.turn(hours=9)
    give(repo, for_="8h")
    over = [row(machine.reconcile(), "ada", "tool") for _ in range(2)]
    assert [(each.status, each.reason) for each in over] == [(Status.REVOKED, "for 8h is over")] * 2
    assert (len(accounts.calls("POST")), accounts.calls("DELETE")) == (1, [])


@pytest.mark.parametrize("entry", [TOOL, TOOL | {"for": "30d"}], ids=["without an end", "with one"])
def test_whose_last_day_was_over_and_is_given_another_comes_back(machine, accounts, repo, entry):
    repo.hire("ada", entry, end="2026-12-01")
    repo.commit()
    assert status(machine) is Status.PRESENT
    machine.clock.turn(days=1)
    assert status(machine) is Status.REVOKED
    repo.hire("ada", entry, end="2027-06-30")
    repo.commit()
    assert status(machine) is Status.PRESENT


@pytest.mark.parametrize(
    "ends", [{"expire": "revoke"}, {"expire": "prune", "prune": "revoke"}], ids=["itself", "prune"]
)
def test_the_guard_counts_times_that_a_revision_moved_and_no_others(machine, accounts, repo, ends):
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=10, **ends)
    people = [f"p{number}" for number in range(8)]
    for name in people:
        repo.hire(name, TOOL | {"for": "1h"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert {row(machine.reconcile(), name, "tool").status for name in people[:1]} == {Status.REVOKED}
    for name in people:
        repo.hire(name)
    repo.commit()
    machine.reconcile()
    for name in people:
        repo.hire(name, TOOL)
    repo.commit()
    machine.reconcile()
    for name in people:
        repo.hire(name, TOOL | {"until": "2026-12-01T12:00Z"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=2)
    report = machine.reconcile()
    assert {row(report, name, "tool").status for name in people} == {Status.SUSPENDED}


@pytest.mark.parametrize("ends", [{"for": "2h"}, {"until": "2026-12-01T11:00"}])
def test_what_is_over_counts_for_no_rule_of_the_policy(machine, accounts, others, repo, ends):
    repo.manifest("crm", others.manifest(revoke=True))
    few = {"name": "few", "integration": "tool", "at_least": 1, "at_most": 1}
    repo.write("config/policy.yaml", [{"name": "either", "never_both": ["tool", "crm"]}, few])
    repo.hire("ada", TOOL | ends)
    repo.commit()
    assert status(machine) is Status.PRESENT
    repo.hire("ada", TOOL | ends, "crm")
    repo.commit()
    assert row(machine.reconcile(), "ada", "crm").status is Status.BLOCKED
    machine.clock.turn(hours=3)
    report = machine.reconcile()
    assert [item.status for item in report.rows] == [Status.PRESENT, Status.REVOKED]
    assert [problem.message for problem in report.problems] == ["policy few: tool is given to 0, at least 1"]
    repo.hire("bob", TOOL)
    repo.commit()
    report = machine.reconcile()
    assert (row(report, "bob", "tool").status, report.problems) == (Status.PRESENT, [])
    assert {*accounts.people} == {"bob@example.com"}


def test_what_everybody_else_has_is_looked_up_only_where_a_grant_is_one_too_many(machine, repo, monkeypatch):
    """Else each part of a pass over 100,000 hires reads the rows of all of them, for a rule that is about one."""
    asked = []

    async def over_of(_desired, hires, *_args):
        asked.append(sorted(hires))
        return set()

    monkeypatch.setattr("reconciler.engine.run.planner.over_of", over_of)
    repo.hire("bob", TOOL)
    repo.commit()
    machine.reconcile()
    limit = {"name": "few", "integration": "tool", "at_most": 3}
    repo.write("config/policy.yaml", [{"name": "limited", "when": {"last_name": "Example"}, "require": "until"}, limit])
    repo.hire("cy", TOOL)
    repo.commit()
    machine.reconcile()
    assert sorted(asked) == [["ada"], ["bob"], ["cy"]]
    repo.write("config/policy.yaml", [limit | {"at_most": 2}])
    repo.commit()
    machine.reconcile()
    assert asked[3:] == [["ada", "bob", "cy"]]
