"""Every command writes what `--output` says and nothing else to standard output, whatever the outcome."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import pytest

from reconciler.cli import COMMANDS
from reconciler.ledger.opening import StateLocation
from tests.repo import Repo, call_cli
from tests.servers import AccountService

CALLS = [
    "status",
    "status --hire nobody",
    "--dry-run",
    "--dry-run --rev nothing",
    "validate",
    "try tool --email ada@example.com",
    "try other",
    "test",
    "test other",
    "diff HEAD",
    "diff nothing",
    "explain ada tool",
    "explain ada other",
    "history",
    "history --hire nobody",
    "history --verify",
    "check ada tool",
    "check nobody",
    "retry",
    "retry nobody",
    "retry --integration tool",
    "accept ada tool",
    "accept nobody tool",
    "run ada tool",
    "run ada other",
    "revoke ada",
    "revoke nobody",
    "forget ada",
    "unmanaged",
    "unused",
    "unmanaged --integration other",
    "adopt tool --all",
    "import people",
    "request tool --hire ada --reason an-outage",
    "request list",
    "request tidy",
    "review start 2026-Q4",
    "review check 2026-Q4",
    "add --list",
    "add other",
    "add slack",
    "options tool TEAM",
    "initial-data check",
    "initial-data set tool",
    "initial-data rekey tool --recipient nobody@example.com",
    "oauth connect tool",
    "schema hire",
    "schema other",
    "state copy sqlite:///nothing.db sqlite:///copy.db",
    "init hires",
    "lock ada --reason lost-laptop",
    "lock nobody --reason lost-laptop",
    "unlock ada",
    "unlock nobody",
    "",
]
"""Results, nothing to show, and errors, of every command that ends."""

HANDED_OVER = ["retry ada", "accept ada tool", "run ada tool", "revoke bob tool", "--yes-really"]


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", "tool")
    repo.commit()
    return repo


def test_every_command_is_called() -> None:
    called = {call.split()[0] for call in CALLS if call and not call.startswith("-")}
    assert called == COMMANDS.keys() - {"daemon", "demo", "desk"}


@pytest.mark.parametrize("asked", ["json", "csv", "markdown"])
def test_output_is_as_asked(tool: Repo, asked: str) -> None:
    for call in CALLS:
        done = call_cli(tool, *call.split(), "--output", asked)
        where = f"{call}: {done.code}\n{done.out}\n{done.err}"
        assert done.out or (done.code in (1, 64) and done.err), where
        if asked == "json" and done.out:
            json.loads(done.out)
        if asked == "csv" and done.out and not call.startswith("schema"):
            widths = {len(row) for row in csv.reader(io.StringIO(done.out))}
            assert len(widths) == 1, where
            assert widths.pop() > 1, where


def test_status_before_first_pass_names_the_command(tool: Repo) -> None:
    done = call_cli(tool, "status")
    assert (done.code, done.out) == (0, "no grants\nbranch: main\n")
    assert done.err.startswith("no pass was made yet: `reconcile` makes one")


def test_values_are_those_that_are_sent_wherever_they_come_from(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest(team=True))
    repo.hire("ada", "tool", extra={"TEAM": "7", "LOGIN": "ada"})
    repo.commit()
    for words in (("--dry-run",), (), ("status",)):
        assert call_cli(repo, *words, "--output", "json").grant("ada", "tool")["values"] == {"TEAM": "7"}, words
    assert "POST /teams/7/members" in accounts.lines()


def test_enqueued_command_is_reported(tool: Repo, accounts: AccountService) -> None:
    tool.hire("bob", "tool")
    tool.commit()
    call_cli(tool, "--hire", "bob")
    tool.remove("hires/bob.yaml")
    tool.commit()
    accounts.fail_next(1, 500, method="POST")
    call_cli(tool)
    with StateLocation(tool.state_url, tool.root).locked("a pass", datetime.now(UTC)):
        for call in HANDED_OVER:
            done = call_cli(tool, *call.split(), "--output", "json")
            assert done.code == 0, f"{call}: {done.err}"
            command = call.split()[0].replace("--yes-really", "release")
            assert (done.json["command"], done.json["handed_over"]) == (command, True)
        done = call_cli(tool, "accept", "ada", "tool")
        assert (done.code, done.out) == (0, "handed over: accept ada/tool\n")


def test_release_is_handed_over_for_what_it_was_asked_for_only(tool: Repo) -> None:
    with StateLocation(tool.state_url, tool.root).locked("a pass", datetime.now(UTC)) as held:
        done = call_cli(tool, "--yes-really", "--integration=tool", "--hire=ada")
        assert (done.code, done.out) == (0, "handed over: let tool through for ada, once\n")
        (command,) = held.ledger.commands.waiting()
        assert (command.kind, command.hire, command.integration) == ("release", "ada", "tool")
        done = call_cli(tool, "--yes-really", "--no-removals")
        assert done.code == 1
        assert "is held by" in done.err
        assert held.ledger.commands.waiting() == [command], "it would let removals through"
