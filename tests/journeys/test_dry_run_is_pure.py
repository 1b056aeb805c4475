"""A dry run changes nothing, here or there: not a byte in the repository, and services see checks and look-ups only."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.harness import Machine
from tests.repo import Daemon, Repo, run_cli
from tests.servers import AccountService, eventually

FLAGS = [
    "--hire=ada",
    "--integration=tool",
    "--detailed-exitcode",
    "--output=json",
    "--by=integration",
    "--worktree",
    "-v",
]


def bytes_under(root: Path, *without: str) -> dict[str, str]:
    """Every file's path, mode and content; a folder's path and mode."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.name in without:
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path.relative_to(root))] = f"{path.stat().st_mode:o} {content}"
    return found


@pytest.fixture
def used(repo: Repo, accounts: AccountService) -> Repo:
    """A repository with something to create, to retry, to heal, to revoke, to look up, and edits nobody committed."""
    accounts.route("GET", "/teams", {"data": [{"id": "7", "name": "Team 7"}]})
    manifest = accounts.manifest(team=True, revoke=True, listing=True)
    manifest["form"] = [
        {
            "id": "TEAM",
            "name": "Team",
            "type": "choice",
            "url": f"{accounts.url}/teams",
            "method": "GET",
            "data_from": "data",
        }
    ]
    repo.manifest("tool", manifest)
    repo.settings(prune="revoke")
    for stem in ("bob", "cy", "dan"):
        repo.hire(stem, {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams/7/members")
    assert run_cli(repo).code == 1
    accounts.people.pop("cy@example.com")
    repo.remove("hires/dan.yaml")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    repo.hire("eve", "tool")
    accounts.requests.clear()
    return repo


def only_looked(accounts: AccountService) -> bool:
    return {call.method for call in accounts.requests} <= {"GET"}


def test_every_flag_alone_and_in_pairs(used: Repo, accounts: AccountService) -> None:
    before = bytes_under(used.root)
    for flags in [
        (),
        *((flag,) for flag in FLAGS[:3]),
        *itertools.islice(itertools.combinations(FLAGS, 2), 0, None, 7),
    ]:
        result = run_cli(used, "--dry-run", *flags)
        assert result.code in {0, 1, 2}, result.err
        assert bytes_under(used.root) == before, flags
    assert only_looked(accounts)
    assert accounts.calls("GET", "/users/ada@example.com")
    assert accounts.calls("GET", "/teams"), "the options were looked up"


def test_without_a_state_none_is_made(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    before = bytes_under(repo.root)
    assert run_cli(repo, "--dry-run", "--detailed-exitcode").code == 2
    assert run_cli(repo, "status").code == 0
    assert bytes_under(repo.root) == before
    assert only_looked(accounts)


def test_after_a_crash_the_log_that_it_left_stays(used: Repo, accounts: AccountService) -> None:
    """kill -9 in the middle of an attempt: the next dry run says how it stands, and mends nothing."""
    held = accounts.hang(None, method="POST", prefix="/users")
    with Daemon(used) as daemon:
        eventually(lambda: accounts.calls("POST", "/users"))
        daemon.kill9()
    held.set()
    accounts.clear()
    log = used.state.with_name("state.db-wal")
    assert log.stat().st_size > 0, "the kill left no write-ahead log: the test shows nothing"
    accounts.requests.clear()
    before = bytes_under(used.root)
    planned = run_cli(used, "--dry-run", "--output", "json")
    shown = run_cli(used, "status", "--output", "json")
    assert bytes_under(used.root) == before
    assert only_looked(accounts)
    interrupted = [grant for grant in planned.json["grants"] if "interrupted" in (grant["last_error"] or "")]
    assert interrupted
    assert {grant["status"] for grant in interrupted} == {"retrying"}
    assert shown.json["grants"]


def test_beside_a_running_daemon(used: Repo, accounts: AccountService) -> None:
    """The daemon sleeps between two intervals: whatever changes now is the reader's doing."""
    used.settings(interval="1d", retry_delay="1d", drift="report")
    used.commit()
    with Daemon(used) as daemon:
        eventually(lambda: "why=start" in daemon.log)
        # The index of the write-ahead log is where SQLite's readers and writers meet: shared memory, not the ledger.
        before = bytes_under(used.root, "state.db-shm")
        sent = len(accounts.calls("POST"))
        assert run_cli(used, "--dry-run").code in {0, 1}
        assert run_cli(used, "status").code in {0, 1}
        assert bytes_under(used.root, "state.db-shm") == before
        assert len(accounts.calls("POST")) == sent


ACCESS = st.sampled_from(["tool", "hook", "bad", "nowhere", {"integration": "tool", "name": "again"}])
HIRES = st.dictionaries(st.sampled_from(["ada", "bob", "cy"]), st.lists(ACCESS, max_size=3), max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=HIRES,
    second=HIRES,
    there=st.sets(st.sampled_from(["ada@example.com", "bob@example.com"])),
    executed=st.booleans(),
    failing=st.booleans(),
    chosen=st.sampled_from([{}, {"prune": "revoke"}, {"drift": "report"}]),
    flags=st.fixed_dictionaries(
        {},
        optional={
            "hires": st.sets(st.sampled_from(["ada", "bob"]), min_size=1),
            "integrations": st.just(["tool"]),
            "rev": st.sampled_from(["HEAD", "HEAD~1"]),
        },
    ),
)
def test_whatever_stands_in_the_repository(
    accounts: AccountService,
    first: dict[str, list[Any]],
    second: dict[str, list[Any]],
    there: set[str],
    executed: bool,
    failing: bool,
    chosen: dict[str, Any],
    flags: dict[str, Any],
) -> None:
    """Any two commits, executed in between or not, with failures or not: a plan of either changes nothing."""
    accounts.clear()
    accounts.people.clear()
    accounts.add(*there)
    with tempfile.TemporaryDirectory() as folder:
        repo = Repo(Path(folder, "repo"))
        repo.settings(**chosen)
        repo.manifest("tool", accounts.manifest(revoke=True))
        repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/teams/9/members", "data": {"email": "{{email}}"}}]})
        repo.write("manifests/bad.yaml", "execute: {}\n")
        repo.write("hires/.gitkeep", "")
        machine = Machine(repo)
        for stem, access in first.items():
            repo.hire(stem, *access)
        repo.commit()
        if executed:
            if failing:
                accounts.fail_next(2, 500, method="POST")
            machine.reconcile()
        for stem in first:
            repo.remove(f"hires/{stem}.yaml")
        for stem, access in second.items():
            repo.hire(stem, *access)
        repo.commit()
        machine.clock.turn(hours=2)
        accounts.requests.clear()
        before = bytes_under(repo.root)
        planned = machine.plan(**flags)
        assert bytes_under(repo.root) == before
        assert only_looked(accounts)
        assert machine.plan(**flags).as_json()["grants"] == planned.as_json()["grants"], (
            "twice the same question, two answers"
        )
