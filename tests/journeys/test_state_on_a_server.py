"""The state on a real PostgreSQL, through the program, from the first pass to a person who is forgotten."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.states import OLDER, as_older
from tests.postgres import Databases
from tests.repo import Repo, call_cli, run_cli
from tests.servers import AccountService

SECRET = "correct horse battery"
TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """A database that wants a password of the user `keyed`, who owns it."""
    rules = databases.socket.parent / "pg_hba.conf"
    before = rules.read_text()
    databases.execute(f"create role keyed login password '{SECRET}'")
    rules.write_text("local all keyed scram-sha-256\n" + before)
    databases.execute("select pg_reload_conf()")
    try:
        with databases.made("empty") as made:
            name = made.partition("@/")[2].partition("?")[0]
            databases.execute(f"alter database {name} owner to keyed")
            yield databases.url(name, "keyed")
    finally:
        rules.write_text(before)
        databases.execute("select pg_reload_conf()")
        databases.execute("drop role keyed")


@pytest.fixture
def office(repo: Repo, accounts: AccountService, url: str) -> Repo:
    """Ada and zebedee are to have an account and a team."""
    repo.settings(state=url, retry_delay="0s")
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    for hire in ("ada", "zebedee"):
        repo.hire(hire, TOOL)
    repo.initial_data("reconciler", {"STATE_PASSWORD": SECRET})
    repo.commit()
    return repo


def statuses(repo: Repo) -> dict[str, str]:
    done = call_cli(repo, "status", "--output", "json")
    assert done.code in (0, 1)
    assert done.err == "" or done.err.startswith("no pass was made yet: ")
    return {f"{grant['hire']}/{grant['access']}": grant["status"] for grant in done.json["grants"]}


def test_from_the_first_pass_to_a_person_who_is_forgotten(
    office: Repo, accounts: AccountService, url: str, tmp_path: Path
) -> None:
    assert statuses(office) == {}, "who looks makes nothing"
    assert call_cli(office, "--dry-run", "--output", "json").json["summary"] == {"missing": 2}
    assert statuses(office) == {}
    assert not (office.root / ".reconciler").exists()

    accounts.fail_next(2, 500, method="POST", prefix="/teams")
    first = run_cli(office, "--yes")
    assert first.code == 1
    assert set(statuses(office).values()) == {"retrying"}
    assert call_cli(office, "--yes").code == 0
    assert statuses(office) == {"ada/tool": "present", "zebedee/tool": "present"}
    assert accounts.created == {"ada@example.com": 1, "zebedee@example.com": 1}

    explained = call_cli(office, "explain", "ada", "tool")
    assert (explained.code, "2 of 2" in explained.out or "done" in explained.out) == (0, True)
    assert call_cli(office, "history", "--verify").code == 0

    # Fails twice, is started afresh, then vouched for.
    accounts.fail_next(9, 500, method="POST", prefix="/users")
    office.hire("bob", TOOL)
    office.commit()
    for _ in range(2):
        call_cli(office, "--yes")
    assert statuses(office)["bob/tool"] == "failed"
    assert "at the next pass, afresh: bob/tool" in call_cli(office, "retry", "bob").out
    accounts.clear()
    accepted = call_cli(office, "accept", "bob", "tool")
    assert (accepted.code, accepted.out) == (0, "accepted: bob/tool, by " + accepted.out.rpartition(" by ")[2])
    accounts.add("bob@example.com")

    # The file gets another name: nothing is sent.
    before = len(accounts.calls("POST"))
    (office.root / "hires" / "ada.yaml").rename(office.root / "hires" / "lovelace.yaml")
    office.commit()
    assert call_cli(office, "--yes").code == 0
    assert statuses(office)["lovelace/tool"] == "present"
    assert len(accounts.calls("POST")) == before

    # Another clone goes on with the same state, by the same keys.
    clone = Repo(tmp_path / "clone", office.gnupg)
    shutil.rmtree(clone.root)
    office.git("clone", "--quiet", str(office.root), str(clone.root))
    assert call_cli(clone, "--yes").code == 0
    assert len(accounts.calls("POST")) == before

    office.remove("hires/zebedee.yaml")
    office.commit()
    assert call_cli(office, "--yes").code == 0
    assert call_cli(office, "revoke", "zebedee").code == 0
    assert "zebedee@example.com" not in accounts.people
    forgotten = call_cli(office, "forget", "zebedee")
    assert (forgotten.code, forgotten.out) == (0, "forgotten: a person with 1 grant\n")
    told = call_cli(office, "history", "--output", "json")
    assert "zebedee" not in told.out
    assert call_cli(office, "history", "--verify").code == 0
    for each in (first, accepted, forgotten, told):
        assert SECRET not in each.out + each.err


def test_state_that_was_lost_or_is_anothers_stops_everything(
    office: Repo, accounts: AccountService, url: str, databases: Databases, tmp_path: Path
) -> None:
    assert call_cli(office, "--yes").code == 0
    sent = len(accounts.calls())
    other = Repo(tmp_path / "other", office.gnupg)
    other.settings(state=url)
    other.manifest("tool", accounts.manifest(team=True))
    other.hire("eve", TOOL)
    other.initial_data("reconciler", {"STATE_PASSWORD": SECRET})
    other.commit("another repository")
    for command in (["--yes"], ["--dry-run"], ["status"], ["retry"]):
        done = call_cli(other, *command)
        assert (done.code, done.out) == (1, "")
        assert "the state is another repository's: that one's first commit is " in done.err
    databases.execute("drop schema reconciler cascade", url.partition("@/")[2].partition("?")[0])
    done = call_cli(office, "--yes")
    assert done.code == 1
    assert "is not there, and this checkout was acted on with one before" in done.err
    assert SECRET not in done.err
    assert len(accounts.calls()) == sent


def test_an_older_state_is_brought_up_to_date_and_the_guard_holds_on(
    office: Repo, accounts: AccountService, databases: Databases, url: str, tmp_path: Path
) -> None:
    """Both are asked for by the same option, and who backed a state up has not looked at what is held."""
    many = [f"h{number}" for number in range(6)]
    for hire in many:
        office.hire(hire, TOOL)
    office.settings(state=url, prune="revoke")
    office.commit()
    assert call_cli(office, "--yes").code == 0
    for hire in many:
        office.remove(f"hires/{hire}.yaml")
    office.commit()
    assert call_cli(office, "--yes").code == 1
    office.git("update-ref", "-d", "refs/reconciler/accepted")  # which earlier releases wrote of signed commits alone
    statements = "; ".join(["set search_path = reconciler", *as_older(tmp_path)])
    databases.execute(statements, url.partition("@/")[2].partition("?")[0])
    refused = call_cli(office, "--yes")
    assert (refused.code, f"the state's schema is {OLDER}" in refused.err) == (1, True)
    done = call_cli(office, "--yes", "--yes-really")
    assert (done.code, "the state was brought up to date" in done.err) == (1, True), done
    assert set(statuses(office).values()) == {"present", "suspended"}
    assert len(accounts.people) == 8
    assert call_cli(office, "--yes", "--yes-really").code == 0
    assert len(accounts.people) == 2
