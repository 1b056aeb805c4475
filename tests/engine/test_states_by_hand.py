"""docs/design/states.md: what a person asks for: run, accept, revoke, retry."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reconciler.engine.apply.commands import CommandEffects, apply_in_pieces
from reconciler.ledger.entries import Command
from reconciler.ledger.ledger import OpenLedger
from reconciler.model.grant import Key
from reconciler.model.status import Action, EventType, Status
from reconciler.review.past import replayed
from tests.engine.harness import row

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}
RUN = {("ada", "tool"): "run"}
REVOKE = {("ada", "tool"): "revoke"}


@pytest.fixture
def lenient(machine, accounts):
    """A service that takes the same account twice, so that a run by hand can succeed."""
    accounts.route("POST", "/users", lambda received: accounts.add(received.json()["email"]) or 201)
    return machine


# run


def test_run_sends_every_request_after_any_check(lenient, accounts):
    lenient.reconcile()
    before = len(accounts.calls("POST"))
    ran = row(lenient.reconcile(by_hand=RUN), "ada", "tool")
    assert (ran.status, ran.attempts) == (Status.PRESENT, 1)
    assert [call.path for call in accounts.calls("POST")[before:]] == ["/users", "/teams/7/members"]


def test_run_goes_on_where_the_check_fails(lenient, accounts):
    accounts.fail_next(1, 500, method="GET")
    assert row(lenient.reconcile(by_hand=RUN), "ada", "tool").status is Status.PRESENT


def test_run_is_recorded_with_who_asked_and_for_what(lenient, repo):
    lenient.enqueue("run", "ada", "tool")
    lenient.reconcile()
    (asked,) = [line for line in lenient.history("ada") if line.event is EventType.RUN_REQUESTED]
    assert (asked.detail, asked.integration) == ("by tester@here", "tool")
    assert asked.revision == repo.git("rev-parse", "HEAD")


def test_command_waits_for_a_pass_over_its_grant(lenient, accounts, repo):
    lenient.reconcile()
    repo.hire("bob")
    repo.commit()
    lenient.enqueue("run", "ada", "tool")
    before = len(accounts.calls("POST", "/users"))
    lenient.reconcile(hires=["bob"])
    assert len(accounts.calls("POST", "/users")) == before
    for _ in range(2):
        lenient.reconcile()
        assert len(accounts.calls("POST", "/users")) == before + 1, "not lost, and not heard twice"


def test_command_for_an_unknown_grant_is_answered(machine):
    machine.enqueue("run", "nobody", "tool")
    machine.reconcile(hires=["ada"])
    assert machine.commands_left() == 1
    machine.reconcile()
    assert machine.commands_left() == 0


def test_run_of_a_half_done_grant_starts_from_the_first_request(lenient, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    lenient.reconcile()
    ran = row(lenient.reconcile(by_hand=RUN), "ada", "tool")
    assert (ran.status, ran.attempts) == (Status.PRESENT, 1)
    assert len(accounts.calls("POST", "/users")) == 2


def test_a_run_that_failed_without_effect_creates_nobody_again(lenient, accounts, repo):
    """The check comes first at its retry, as at any other; what differs is still known."""
    lenient.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    failed = row(lenient.reconcile(by_hand=RUN), "ada", "tool")
    assert (failed.status, failed.attempts) == (Status.RETRYING, 1)
    assert failed.retry_at == lenient.clock.now() + timedelta(hours=1)
    lenient.clock.turn(hours=1)
    for _ in range(2):
        left = row(lenient.reconcile(), "ada", "tool")
        assert (left.status, left.as_json()["differs"]) == (Status.DIFFERS, {"TEAM": ["7", "8"]})
    assert len(accounts.calls("POST", "/users")) == 2


def test_a_run_that_failed_runs_again_where_the_account_is_gone(lenient, accounts):
    lenient.reconcile()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    lenient.reconcile(by_hand=RUN)
    accounts.people.clear()
    assert row(lenient.reconcile(), "ada", "tool").action is Action.WAIT
    lenient.clock.turn(hours=1)
    done = row(lenient.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 2)


def test_a_run_that_fails_half_way_continues(lenient, accounts):
    lenient.reconcile()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    lenient.reconcile(by_hand=RUN)
    lenient.clock.turn(hours=1)
    assert row(lenient.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST", "/users")) == 2


def test_a_run_that_fails_twice_is_failed(lenient, accounts):
    lenient.reconcile()
    accounts.fail_next(2, 500, method="POST", prefix="/teams")
    lenient.reconcile(by_hand=RUN)
    lenient.clock.turn(hours=1)
    lenient.reconcile()
    assert row(lenient.reconcile(), "ada", "tool").status is Status.FAILED
    lenient.enqueue("accept", "ada", "tool")
    assert row(lenient.reconcile(), "ada", "tool").status is Status.PRESENT


def test_a_run_that_is_refused_does_not_make_a_half_done_attempt_complete(machine, accounts, repo):
    """The account is there, and nobody has joined the team; what was done before the run began anew is not known."""
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    assert row(machine.reconcile(by_hand=RUN), "ada", "tool").status is Status.RETRYING  # 409: there is one already
    machine.clock.turn(hours=1)
    left = row(machine.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.FAILED, Action.NONE)
    assert "`reconcile accept ada tool` or `reconcile run ada tool`" in left.reason
    assert accounts.created == {"ada@example.com": 1}
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.people.clear()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT  # somebody else made it


def test_a_run_that_is_refused_does_not_make_a_half_done_healing_complete(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    assert row(machine.reconcile(by_hand=RUN), "ada", "tool").status is Status.RETRYING  # 409: there is one already
    machine.clock.turn(hours=1)
    for _ in range(2):
        left = row(machine.reconcile(), "ada", "tool")
        assert (left.status, left.action) == (Status.FAILED, Action.NONE)
        assert "`reconcile accept ada tool` or `reconcile run ada tool`" in left.reason


REFUSED = {
    "suspended": ({"suspend": [{"hire": "ada"}]}, TOOL, Status.SUSPENDED),
    "scheduled": ({}, TOOL | {"at": "2027-01-01"}, Status.SCHEDULED),
    "invalid": ({}, TOOL | {"needs": ["nothing"]}, Status.INVALID),
    "blocked": ({}, {"integration": "tool"}, Status.BLOCKED),
}


@pytest.mark.parametrize(("settings", "entry", "status"), REFUSED.values(), ids=REFUSED)
def test_run_is_refused_with_the_reason(machine, accounts, repo, settings, entry, status):
    repo.settings(gnupg_home=repo.gnupg.path, **settings)
    repo.hire("ada", entry)
    repo.commit()
    refused = row(machine.reconcile(by_hand=RUN), "ada", "tool")
    assert (refused.status, refused.reason != "") == (status, True)
    machine.enqueue("run", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is status
    assert (machine.commands_left(), machine.events("ada").count(EventType.RUN_REQUESTED)) == (0, 1), "refused likewise"
    assert accounts.calls() == []


def test_run_repeats_an_unconfirmed_grant(machine, accounts):
    accounts.route("POST", "/users", lambda _received: 202)
    machine.reconcile()
    assert row(machine.reconcile(by_hand=RUN), "ada", "tool").status is Status.UNCONFIRMED
    assert len(accounts.calls("POST", "/users")) == 2


def test_run_sends_a_choice_as_the_hires_file_gives_it(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["form"] = [{"id": "TEAM", "type": "choice", "url": f"{accounts.url}/teams", "method": "GET"}]
    manifest["form"][0]["data_from"] = "data"
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(machine.reconcile(by_hand=RUN), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("GET", "/teams") == []


# accept


def test_accept_vouches_for_a_half_done_grant_with_who(machine, accounts):
    accounts.fail_next(2, 500, method="POST", prefix="/teams")
    machine.reconcile()
    machine.clock.turn(hours=1)
    machine.reconcile()
    machine.enqueue("accept", "ada", "tool")
    accepted = row(machine.reconcile(), "ada", "tool")
    assert (accepted.status, accepted.last_error) == (Status.PRESENT, None)
    (line,) = [line for line in machine.history("ada") if line.event is EventType.ACCEPTED]
    assert line.detail == "by tester@here"
    assert not [name for name in machine.sealed() if name.startswith("run/")]
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT, "checked like any other, and healed"


def test_accept_of_a_webhook_is_done(machine, accounts, repo):
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    repo.hire("bob", "hook")
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "bob", "hook").status is Status.FAILED
    machine.enqueue("accept", "bob", "hook")
    assert row(machine.reconcile(), "bob", "hook").status is Status.DONE
    assert row(machine.reconcile(), "bob", "hook").status is Status.DONE
    assert len(accounts.calls("POST", "/hook")) == 2


def test_accept_before_its_day_provisions_nothing_then(machine, accounts, repo):
    """Confirmed and not there would be drift, which is healed: it counts as executed, and is found once it is there."""
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}, "at": "2026-12-20"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.SCHEDULED
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert row(machine.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    past, _ = replayed(machine.history())
    assert past[Key("ada", "tool")].status is Status.UNCONFIRMED, "`status --at` said `done`"
    assert machine.events("ada") == [EventType.ACCEPTED, EventType.CONFIRMED]
    assert accounts.calls("POST") == []
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_accepted_before_anything_was_checked_it_is_revoked_as_any_other(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"].insert(0, {"url": f"{accounts.url}/teams/{{{{TEAM}}}}/remove"})
    accounts.route("POST", "/teams/7/remove", {"ok": True})
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}, "at": "2026-12-20"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.SCHEDULED
    machine.enqueue("accept", "ada", "tool")
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert "ada@example.com" not in accounts.people


def test_accept_of_a_webhook_before_its_day_is_done(machine, accounts, repo):
    """Nothing but the person's word says that it was done by hand: on its day it would be done twice."""
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}}"}}]})
    repo.hire("ada", {"integration": "hook", "at": "2026-12-20"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "hook").status is Status.SCHEDULED
    machine.enqueue("accept", "ada", "hook")
    assert row(machine.reconcile(), "ada", "hook").status is Status.DONE
    machine.clock.turn(days=60)
    assert row(machine.reconcile(), "ada", "hook").status is Status.DONE
    assert accounts.requests == []


def test_accept_of_a_half_done_revocation_is_refused_and_it_continues(machine, accounts, repo):
    """Else it would count as revoked once the account is gone, whatever its other requests still have to take away."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"].append({"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}})
    accounts.route("POST", "/archive", {"ok": True})
    repo.manifest("tool", manifest)
    repo.commit()
    machine.reconcile()
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(2, 500, prefix="/archive")
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED
    assert EventType.ACCEPTED not in machine.events("ada")
    assert row(machine.reconcile(by_hand=REVOKE), "ada", "tool").status is Status.REVOKED
    assert (len(accounts.calls("DELETE")), len(accounts.calls("POST", "/archive"))) == (1, 3)


# revoke


@pytest.fixture
def orphaned(machine, repo):
    """Ada has her account, and git no longer wants it; the settings only report that."""
    machine.reconcile()
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.ORPHANED
    return machine


def test_revoke_takes_one_orphan_away(orphaned, accounts):
    assert row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}


def test_revoke_of_a_wanted_grant_does_nothing(machine, accounts):
    machine.reconcile()
    assert row(machine.reconcile(by_hand=REVOKE), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("DELETE") == []


def test_revoke_that_fails_is_retried_and_can_be_asked_for_again(orphaned, accounts):
    accounts.fail_next(2, 500, method="DELETE")
    assert row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool").status is Status.RETRYING
    orphaned.clock.turn(hours=1)
    assert row(orphaned.reconcile(), "ada", "tool").status is Status.FAILED
    done = row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool")
    assert (done.status, done.attempts) == (Status.REVOKED, 1)


def test_revoke_keeps_an_account_that_another_hire_uses(orphaned, accounts, repo):
    repo.hire("ada", TOOL | {"name": "again"})
    repo.commit()
    left = row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "ada/again" in left.reason
    assert accounts.calls("DELETE") == []


def test_revoke_takes_an_open_invitation_back(machine, accounts, repo):
    accounts.route("POST", "/users", lambda _received: 202)
    accounts.route("DELETE", "/users/{email}", lambda _received, email: {"withdrawn": email})
    machine.reconcile()
    repo.hire("ada")
    repo.commit()
    assert "invitation" in row(machine.reconcile(), "ada", "tool").reason
    assert row(machine.reconcile(by_hand=REVOKE), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


def test_revoke_undoes_a_webhook_that_can_be_undone(machine, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    accounts.route("DELETE", "/hook", {"ok": True})
    hook = {"execute": [{"url": f"{accounts.url}/hook"}]}
    repo.manifest("hook", hook)
    repo.hire("bob", "hook")
    repo.commit()
    machine.reconcile()
    repo.hire("bob")
    repo.commit()
    repo.manifest("hook", hook | {"revoke": [{"url": f"{accounts.url}/hook", "method": "DELETE"}]})
    repo.commit()
    assert row(machine.reconcile(), "bob", "hook").status is Status.ORPHANED
    assert row(machine.reconcile(by_hand={("bob", "hook"): "revoke"}), "bob", "hook").status is Status.REVOKED
    assert len(accounts.calls("DELETE", "/hook")) == 1


@pytest.mark.parametrize("manifest", ["without revoke", "gone"])
def test_revoke_without_manifest_counts_as_done_by_hand(machine, accounts, repo, manifest):
    """Else such a person could never be forgotten."""
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    repo.hire("bob", "hook")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/bob.yaml")
    if manifest == "gone":
        repo.remove("manifests/hook.yaml")
    repo.commit()
    assert row(machine.reconcile(), "bob", "hook").status is Status.ORPHANED
    assert row(machine.reconcile(by_hand={("bob", "hook"): "revoke"}), "bob", "hook").status is Status.REVOKED
    assert "taken away by hand" in machine.history("bob")[-1].detail
    assert row(machine.reconcile(), "bob", "hook").status is Status.REVOKED


def test_revoke_waits_for_a_manifest_that_cannot_be_read(orphaned, accounts, repo):
    """What it would send is only unknown for now: the account must not count as taken away."""
    repo.write("manifests/tool.yaml", "exists: [")
    repo.commit()
    left = row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "manifests/tool.yaml" in left.reason
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.commit()
    assert row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


def test_revoke_of_existing_account_needs_a_request(orphaned, accounts, repo):
    repo.manifest("tool", accounts.manifest(team=True))
    repo.commit()
    left = row(orphaned.reconcile(by_hand=REVOKE), "ada", "tool")
    assert (left.status, left.reason) == (Status.ORPHANED, "no longer in git; the manifest has no revoke")


def test_a_run_by_hand_that_took_no_effect_leaves_the_accounts_own_values(machine, accounts, repo):
    """The account is in team 7 until a request for team 8 succeeded: an orphan is revoked from what it has."""
    manifest = accounts.manifest(team=True)
    accounts.route("DELETE", "/teams/{team}", lambda _received, team: accounts.people.clear() or {"left": team})
    manifest["revoke"] = [{"url": f"{accounts.url}/teams/{{{{TEAM}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    accounts.fail_next(1, 500, method="POST")
    assert row(machine.reconcile(by_hand=RUN), "ada", "tool").status is Status.RETRYING
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/teams/7"]


def test_a_run_by_hand_that_took_effect_leaves_the_new_values(lenient, accounts, repo):
    lenient.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    accounts.drop_after_commit(method="POST", prefix="/teams")
    lenient.reconcile(by_hand=RUN)
    lenient.enqueue("accept", "ada", "tool")
    accepted = row(lenient.reconcile(), "ada", "tool")
    assert (accepted.status, accepted.changed) == (Status.PRESENT, False)


def test_commands_for_unknown_hires_change_nothing(machine, accounts):
    for kind in ("run", "revoke", "accept", "retry"):
        machine.enqueue(kind, "nobody", "tool")
    assert [item.hire for item in machine.reconcile().rows] == ["ada"]


def test_a_retry_of_everything_waits_only_for_the_grants_of_a_pass_under_way(machine, accounts, repo):
    repo.hire("bob", TOOL)
    repo.commit()
    accounts.fail_next(None, 500, method="POST")
    machine.reconcile()
    machine.enqueue("retry")
    busy = Key("bob", "tool")
    with machine.ledger() as ledger:
        asked = CommandEffects()

        async def apply_commands(commands: list[Command]) -> None:
            take, now = (lambda key: key != busy), machine.clock.now()
            pieces = apply_in_pieces(OpenLedger(ledger), commands, now, asked, erasing=pytest.fail, take=take)
            assert len([None async for _ in pieces]) == 1

        asyncio.run(apply_commands(ledger.commands.waiting()))
        assert (
            {record.key for record in ledger.grants.records() if record.fresh} == asked.touched == {Key("ada", "tool")}
        )
        (left,) = ledger.commands.waiting()
        assert (left.kind, left.hire, left.access, left.by) == ("retry", *busy, "tester@here")
        asyncio.run(apply_commands([left]))
        assert ledger.commands.waiting() == [left]
        assert asked.waiting == {left}
