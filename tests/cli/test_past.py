"""`reconcile status --at`: who had what, with which values, given by whom, at a time that is over."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.model.clock import stamp
from tests.cli.conftest import Call
from tests.cli.goldens import same, steady
from tests.engine.harness import Hands, Machine
from tests.repo import Repo
from tests.servers import AccountService

NOVEMBER = datetime(2025, 11, 1, 9, tzinfo=UTC)
GRACE = "Grace Chief <grace@example.com>"
OWN = {"email": "{{email}}"}
ROLE = {"id": "ROLE", "name": "Role", "type": "input"}


@pytest.fixture
def past(repo: Repo, accounts: AccountService) -> Repo:
    """Ada is a member, Grace approving, then an owner a day later; then Max takes her out. Bob has had it all along.

    Mallory has an account that nobody gave, and of `wiki` nothing is known.
    """
    machine = Machine(repo, Hands(NOVEMBER))
    repo.settings(prune="revoke")
    body = {"email": "{{email}}", "role": "{{ROLE}}"}
    execute = [{"url": f"{accounts.url}/users", "data": body}]
    update = [{"url": f"{accounts.url}/users/{{{{email}}}}", "method": "PATCH", "data": body}]
    manifest = accounts.manifest(listing=True, revoke=True)
    manifest["exists"]["list"]["used"] = "last_login"
    repo.manifest("tool", manifest | {"form": [ROLE], "execute": execute, "update": update})
    repo.manifest("wiki", {"execute": [{"url": f"{accounts.url}/wiki"}]})
    accounts.add("mallory@example.com")
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": "member"}})
    repo.hire("bob", {"integration": "tool", "values": {"ROLE": "member"}})
    repo.commit(f"Give the tool\n\nApproved-by: {GRACE}")
    machine.reconcile()
    machine.clock.turn(days=1)
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": "owner"}})
    repo.commit("Ada leads the team")
    machine.reconcile()
    machine.clock.turn(days=1)
    repo.remove("hires/ada.yaml")
    repo.git("config", "user.name", "Max Manager")
    repo.git("config", "user.email", "max@example.com")
    repo.commit("Ada left")
    machine.reconcile()
    accounts.people["bob@example.com"]["last_login"] = "2025-11-02T10:00:00Z"
    return repo


def at(days: float) -> str:
    return str(stamp(NOVEMBER + timedelta(days=days)))


def test_each_day_has_its_values_and_who_gave_them(past: Repo, call: Call) -> None:
    first, second = past.git("rev-parse", "HEAD~2"), past.git("rev-parse", "HEAD~1")
    then = call(past, "status", "--at", at(0.5), "--output", "json")
    assert (then.code, then.json["at"], then.json["revision"]) == (0, at(0.5), first)
    ada = then.grant("ada", "tool")
    assert (ada["status"], ada["values"], ada["since"]) == ("present", {"ROLE": "member"}, at(0))
    assert (ada["granted_in"], ada["approved_by"]) == (first, [GRACE])
    assert ada["approvals"] == [{"name": GRACE, "source": "claimed"}]
    later = call(past, "status", "--at", at(1.5), "--output", "json")
    ada, bob = later.grant("ada", "tool"), later.grant("bob", "tool")
    assert (ada["values"], ada["granted_in"], ada["approved_by"]) == ({"ROLE": "owner"}, second, [])
    assert (bob["values"], bob["granted_in"]) == ({"ROLE": "member"}, first)
    gone = call(past, "status", "--at", at(2), "--output", "json")
    assert [grant["hire"] for grant in gone.json["grants"]] == ["bob"]
    assert gone.json["revision"] == past.git("rev-parse", "HEAD")


def test_since_is_when_the_check_first_found_it(repo: Repo, accounts: AccountService, call: Call) -> None:
    machine = Machine(repo, Hands(NOVEMBER))
    repo.manifest("tool", accounts.manifest() | {"execute": [{"url": f"{accounts.url}/teams/1/members", "data": OWN}]})
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    machine.clock.turn(days=1)
    accounts.add("ada@example.com")
    machine.reconcile()
    account = accounts.people.pop("ada@example.com")
    repo.settings(drift="report")
    repo.commit()
    machine.clock.turn(days=1)
    machine.reconcile()
    accounts.people["ada@example.com"] = account
    machine.clock.turn(days=1)
    machine.reconcile()
    for asked, since in ((("--at", at(0.5)), at(0)), (("--at", at(1)), at(1)), (("--at", at(3)), at(1)), ((), at(1))):
        assert call(repo, "status", *asked, "--output", "json").grant("ada", "tool")["since"] == since
    assert call(repo, "status", "--at", at(2), "--output", "json").json["grants"] == []


@pytest.mark.parametrize(("access", "status"), [("tool", "present"), ("wiki", "done"), ("club", "unconfirmed")])
def test_entry_that_is_back_is_no_orphan_any_more(
    past: Repo, accounts: AccountService, call: Call, access: str, status: str
) -> None:
    machine = Machine(past, Hands(NOVEMBER + timedelta(days=3)))
    past.settings(prune="report")
    wiki = {"execute": [{"url": f"{accounts.url}/users", "data": OWN}]}
    past.manifest("wiki", wiki)
    past.manifest(
        "club", {**wiki, "exists": {"url": f"{accounts.url}/teams", "method": "GET", "expected": "{{email}}"}}
    )
    form = {"values": {"ROLE": "member"}} if access == "tool" else {}
    for accesses in ([access], [], [access]):
        past.hire("zoe", *({"integration": each, **form} for each in accesses))
        past.commit()
        machine.reconcile()
        machine.clock.turn(days=1)
    told = [call(past, "status", "--at", at(day), "--output", "json").grant("zoe", access) for day in (3.5, 4.5, 5.5)]
    assert [grant["status"] for grant in told] == [status, "orphaned", status]
    assert [grant["since"] for grant in told] == [at(3)] * 3
    assert told[2]["granted_in"] == past.git("rev-parse", "HEAD")
    assert call(past, "history", "--verify").code == 0


@pytest.mark.parametrize(("access", "status"), [("tool", "present"), ("wiki", "done")])
def test_who_was_left_as_they_were_by_a_lock_is_suspended_no_longer(
    past: Repo, accounts: AccountService, call: Call, access: str, status: str
) -> None:
    machine = Machine(past, Hands(NOVEMBER + timedelta(days=3)))
    past.manifest("wiki", {"execute": [{"url": f"{accounts.url}/users", "data": OWN}]})
    past.manifest("tool", accounts.manifest())
    for day, accesses in enumerate([[access], [], [access], [access]]):
        past.hire("zoe", *accesses)
        past.commit()
        if day == 1:
            machine.lock("zoe")
        if day == 3:
            machine.enqueue("unlock", "zoe")
        machine.reconcile()
        machine.clock.turn(days=1)
    told = [call(past, "status", "--at", at(day), "--output", "json").grant("zoe", access) for day in (3.5, 4.5, 6.5)]
    assert [grant["status"] for grant in told] == [status, "suspended", status]


def test_the_second_that_history_shows_counts(past: Repo, call: Call) -> None:
    line = call(past, "history", "--hire", "ada", "--event", "revoked", "--output", "json").json[0]
    before = str(stamp(datetime.fromisoformat(line["at"]) - timedelta(seconds=1)))
    had = [
        call(past, "status", "--at", when, "--hire", "ada", "--output", "json").json["grants"]
        for when in (before, line["at"])
    ]
    assert list(map(len, had)) == [1, 0]


def test_every_output_has_values_giver_and_approver(past: Repo, call: Call) -> None:
    first = past.git("rev-parse", "HEAD~2")
    table = call(past, "status", "--at", at(0.5)).out
    assert table.startswith(f"{at(0.5)}: 2 grants at {first[:12]}: 2 present\n")
    given = f"given in commit {first[:12]} by Ida Admin <ida@example.com>, approved by {GRACE}"
    assert f"ROLE: member; {given}, not proven: only the commit's text says so; last: confirmed: " in table
    row = next(csv.DictReader(io.StringIO(call(past, "status", "--at", at(0.5), "--output", "csv").out)))
    assert (row["hire"], row["values"], row["granted_in"], row["approved_by"]) == (
        "ada",
        '{"ROLE": "member"}',
        first,
        GRACE,
    )
    assert f"approved by {GRACE}" in call(past, "status", "--at", at(0.5), "--output", "markdown").out


def test_what_is_no_time_or_lies_ahead_is_wrong_usage(past: Repo, call: Call) -> None:
    for when in ("2999-01-01", "7d", "start", "2025-13-01", "gestern"):
        done = call(past, "status", "--at", when)
        assert (done.code, done.out) == (64, ""), when
        assert f"--at {when}: " in done.err


def test_before_the_first_line_nothing_is_known(past: Repo, call: Call) -> None:
    done = call(past, "status", "--at", at(-1), "--output", "json")
    assert (done.code, done.json["grants"], done.json["revision"]) == (1, [], None)
    assert done.json["problems"][0]["message"] == f"it begins at {at(0)}: nothing is known of {at(-1)}"
    day = call(past, "status", "--at", "2025-11-02", "--output", "json")
    assert (day.code, len(day.json["grants"])) == (0, 2)


def test_a_repository_without_a_state_knows_nothing(repo: Repo, call: Call) -> None:
    repo.commit()
    done = call(repo, "status", "--at", "2025-11-02", "--output", "json")
    assert (done.code, done.json["grants"], repo.state.exists()) == (1, [], False)


def test_values_of_an_older_release_are_null_and_said_so(past: Repo, call: Call) -> None:
    with closing(sqlite3.connect(past.state)) as state, state:
        state.execute("UPDATE events SET data = NULL, approved_by = NULL, granted_in = NULL")
    done = call(past, "status", "--at", at(0.5), "--output", "json")
    ada = done.grant("ada", "tool")
    assert (done.code, ada["status"], ada["values"], ada["granted_in"]) == (0, "present", None, None)
    assert [problem["severity"] for problem in done.json["problems"]] == ["warning", "warning"]
    assert "values not known; not known who gave it" in call(past, "status", "--at", at(0.5)).out


def test_forgetting_somebody_erases_their_values(past: Repo, call: Call) -> None:
    assert call(past, "forget", "ada").code == 0
    done = call(past, "status", "--at", at(1.5), "--output", "json")
    assert [grant["hire"] for grant in done.json["grants"]] == ["bob"]
    assert "of people who were forgotten are erased" in done.json["problems"][0]["message"]
    assert b': "owner"' not in b"".join(file.read_bytes() for file in past.state.parent.glob("state.db*"))


def test_who_is_renamed_to_the_stem_of_somebody_who_got_nothing(past: Repo, call: Call) -> None:
    machine = Machine(past, Hands(NOVEMBER + timedelta(days=3)))
    past.hire("cy", {"integration": "tool", "values": {"ROLE": "member"}, "at": "2030-01-01"})
    past.commit()
    machine.reconcile()
    past.remove("hires/cy.yaml")
    past.commit()
    machine.reconcile()
    machine.clock.turn(days=1)
    past.git("mv", "hires/bob.yaml", "hires/cy.yaml")
    past.commit()
    machine.reconcile()
    for day in (3.5, 4.5):
        done = call(past, "status", "--at", at(day), "--output", "json")
        assert [(each["hire"], each["status"]) for each in done.json["grants"]] == [("cy", "present")]
    verified = call(past, "history", "--verify")
    assert verified.code == 0, verified.out


def test_a_secret_among_the_values_is_masked(repo: Repo, accounts: AccountService, call: Call) -> None:
    accounts.token = "tok-en-123456"
    repo.initial_data("tool", {"TOKEN": accounts.token})
    body = {"email": "{{email}}", "role": "{{ROLE}}"}
    execute = [{"url": f"{accounts.url}/users", "data": body}]
    repo.manifest("tool", accounts.manifest() | {"form": [ROLE], "execute": execute})
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": accounts.token}})
    repo.commit()
    assert call(repo, "--yes").code == 0
    now = str(stamp(datetime.now(UTC)))
    assert call(repo, "status", "--at", now, "--output", "json").grant("ada", "tool")["values"] == {"ROLE": "***"}
    for role in (f"{accounts.token}-2", "owner"):
        repo.hire("ada", {"integration": "tool", "values": {"ROLE": role}})
        repo.commit()
        call(repo, "--yes")
        assert call(repo, "accept", "ada", "tool").code == 0
    accepted = call(repo, "history", "--event", "accepted", "--output", "json").json
    assert [line["values"] for line in accepted] == [{"ROLE": "***-2"}, {"ROLE": "owner"}]


def test_the_chain_covers_values(past: Repo, call: Call) -> None:
    assert call(past, "history", "--verify").code == 0
    with closing(sqlite3.connect(past.state)) as state, state:
        state.execute("UPDATE events SET data = replace(data, 'owner', 'member') WHERE event = 'updated'")
    done = call(past, "history", "--verify")
    assert (done.code, "what it says was changed" in done.out) == (1, True)


def questions() -> list[str]:
    """The commands of docs/how-to/audit.md that answer an auditor's ten questions."""
    page = (Path(__file__).parents[2] / "docs/how-to/audit.md").read_text()
    return re.findall(r"^\| .*\? \| `reconcile (.*)` \|$", page.partition("## Ten questions")[2], re.MULTILINE)


def test_ten_questions_of_an_auditor_are_one_command_each(past: Repo, call: Call) -> None:
    commands = questions()
    assert len(commands) == 10
    older = {past.git("rev-parse", f"HEAD~{number}"): f"COMMIT-{number}" for number in (1, 2)}
    for number, command in enumerate(commands, 1):
        done = call(past, *command.split())
        assert done.code == 0, done.err
        text = re.sub(r"digest [0-9a-f]{64}", "digest DIGEST", done.out)
        for commit, name in older.items():
            text = text.replace(commit, name).replace(commit[:12], name)
        same(f"auditor/{number:02}.txt", f"$ reconcile {command}\n{steady(text, past)}")
