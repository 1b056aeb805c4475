"""A pass, a dry run, `status` and `explain` say the same of one grant."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.model.clock import stamp
from tests.cli.conftest import Call
from tests.engine.harness import Hands, Machine
from tests.repo import Daemon, Repo, Result
from tests.servers import AccountService

ROLE = {"id": "ROLE", "name": "Role", "type": "input"}
OWNER = {"integration": "tool", "values": {"ROLE": "owner"}}


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    """Ada has the tool since yesterday, and the state's key is the repository's own."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    manifest = accounts.manifest(revoke=True) | {"form": [ROLE]}
    manifest["execute"][0]["data"]["role"] = "{{ROLE}}"
    repo.manifest("tool", manifest)
    return repo


def yesterday(repo: Repo) -> None:
    repo.commit()
    Machine(repo, Hands(datetime.now(UTC) - timedelta(days=1))).reconcile()


def in_the_past(**span: float) -> str:
    return str(stamp(datetime.now(UTC) - timedelta(**span)))


def rows(result: Result) -> list[dict[str, Any]]:
    return [{name: value for name, value in grant.items() if name != "requests"} for grant in result.json["grants"]]


def until_is_over(repo: Repo) -> None:
    repo.hire("ada", {**OWNER, "until": in_the_past(hours=1)})
    yesterday(repo)


def end_moves_to_the_past(repo: Repo) -> None:
    repo.hire("ada", OWNER)
    yesterday(repo)
    repo.hire("ada", OWNER, end="2020-01-01")


def request_is_over(repo: Repo) -> None:
    repo.write("config/requestable.yaml", [{"integration": "tool"}])
    repo.hire("ada")
    access = {**OWNER, "until": in_the_past(hours=1)}
    repo.write("config/requests/queue.yaml", {"hire": "ada", "access": access, "reason": "INC-12"})
    yesterday(repo)


def lies_ahead(repo: Repo) -> None:
    repo.hire("ada", {**OWNER, "at": "2099-01-01"})


def leaves_while_the_hire_stays(repo: Repo) -> None:
    repo.hire("ada", OWNER, end="2099-01-01")
    yesterday(repo)
    repo.hire("ada", end="2099-01-01")


@pytest.mark.parametrize(
    ("happens", "known"),
    [
        (until_is_over, "until"),
        (end_moves_to_the_past, "until"),
        (request_is_over, "request"),
        (lies_ahead, "values"),
        (leaves_while_the_hire_stays, "end"),
    ],
)
def test_status_is_what_the_pass_said(tool: Repo, call: Call, happens: Callable[[Repo], None], known: str) -> None:
    happens(tool)
    tool.commit()
    made = rows(call(tool, "--yes", "--output", "json"))
    assert made[0][known]
    assert rows(call(tool, "status", "--output", "json")) == made
    explained = call(tool, "explain", "ada", made[0]["access"], "--output", "json").json
    asked = explained["request"] and {name: explained["request"][name] for name in made[0]["request"]}
    assert (explained["until"], asked) == (made[0]["until"], made[0]["request"])


def test_page_has_the_end_that_the_pass_said(tool: Repo, call: Call) -> None:
    end_moves_to_the_past(tool)
    tool.commit()
    assert call(tool, "--yes", "--output", "json").grant("ada", "tool")["until"] == "2020-01-02T00:00:00Z"
    with Daemon(tool) as daemon:
        page = daemon.get("/people/ada")[1]
    assert re.search(r"<dt>Ends</dt><dd>.*2020-01-02", page)


@pytest.mark.parametrize("command", [("revoke", "ada"), ("lock", "ada", "--reason", "left", "--delete")])
def test_status_is_what_a_command_said(tool: Repo, call: Call, command: tuple[str, ...]) -> None:
    tool.hire("ada", OWNER)
    tool.hire("bob", OWNER)
    yesterday(tool)
    tool.remove("hires/ada.yaml")
    tool.commit()
    call(tool, "--yes")
    made = rows(call(tool, *command, "--output", "json"))
    assert made[0]["removed_in"]
    assert rows(call(tool, "status", "--hire", "ada", "--output", "json")) == made


def test_dry_run_dates_what_left_before_its_file_broke(tool: Repo, call: Call) -> None:
    tool.hire("ada", OWNER)
    yesterday(tool)
    tool.hire("ada")
    left = tool.commit()
    call(tool, "--yes")
    tool.write("hires/ada.yaml", "email: [")
    tool.commit()
    planned = call(tool, "--dry-run", "--output", "json").grant("ada", "tool")
    assert (planned["status"], planned["removed_in"]) == ("invalid", left)
    assert call(tool, "--yes", "--output", "json").grant("ada", "tool")["due_at"] == planned["due_at"]


def test_dry_run_knows_of_what_left_under_another_file_name(tool: Repo, call: Call) -> None:
    tool.hire("ada", OWNER)
    yesterday(tool)
    given = tool.git("rev-parse", "HEAD")
    tool.hire("ada")
    left = tool.commit()
    call(tool, "--yes")
    tool.remove("hires/ada.yaml")
    tool.hire("countess", email="ada@example.com")
    tool.commit()
    planned = call(tool, "--dry-run", "--output", "json").grant("countess", "tool")
    assert (planned["granted_in"], planned["removed_in"]) == (given, left)
    made = call(tool, "--yes", "--output", "json").grant("countess", "tool")
    assert {name: made[name] for name in ("removed_in", "due_at", "end")} == {
        name: planned[name] for name in ("removed_in", "due_at", "end")
    }


def test_dry_run_shows_no_requests_of_an_entry_whose_account_another_makes(
    tool: Repo, accounts: AccountService, call: Call
) -> None:
    tool.hire("ada", OWNER, {**OWNER, "name": "again"})
    tool.commit()
    planned = call(tool, "--dry-run", "--output", "json")
    requests = {access: len(planned.grant("ada", access)["requests"]) for access in ("tool", "again")}
    assert sorted(requests.values()) == [0, 1]
    second, first = sorted(requests, key=lambda access: requests[access])
    assert planned.grant("ada", second)["reason"] == f"exists check: not found; {first} makes the same account"
    call(tool, "--yes")
    assert len(accounts.calls("POST")) == 1


def test_what_a_lock_took_away_was_gone_then(tool: Repo, call: Call) -> None:
    tool.hire("ada", OWNER)
    yesterday(tool)
    assert call(tool, "lock", "ada", "--reason", "left", "--delete").code == 0
    gone = call(tool, "status", "--output", "json").grant("ada", "tool")["checked_at"]
    tool.remove("hires/ada.yaml")
    tool.commit()
    left = call(tool, "--yes", "--output", "json").grant("ada", "tool")
    assert (left["status"], left["done_at"]) == ("revoked", gone)


def test_who_leaves_git_while_locked_has_left(tool: Repo, accounts: AccountService, call: Call) -> None:
    tool.manifest("tool", accounts.lockable())
    tool.hire("ada", "tool")
    yesterday(tool)
    assert call(tool, "lock", "ada", "--reason", "left").code == 0
    tool.write("hires/ada.yaml", "email: [")
    tool.commit()
    call(tool, "--yes")
    said = call(tool, "status", "--output", "json").grant("ada", "tool")
    assert (said["status"], said["removed_in"]) == ("suspended", None), "git cannot say whether it is wanted"
    assert call(tool, "explain", "ada", "tool", "--output", "json").json["status"] == "suspended"
    tool.remove("hires/ada.yaml")
    left = tool.commit()
    assert call(tool, "--yes").code == 0
    said = call(tool, "status", "--output", "json").grant("ada", "tool")
    assert (said["status"], said["removed_in"], said["done_at"]) == ("suspended", left, None)
    explained = call(tool, "explain", "ada", "tool", "--output", "json").json
    assert (explained["status"], explained["reason"]) == ("suspended", said["reason"])
    (line,) = call(tool, "history", "--event", "orphaned", "--output", "json").json
    assert (line["revision"], line["detail"]) == (left, "no longer in git")


def test_explain_says_of_who_is_locked_what_status_says(tool: Repo, accounts: AccountService, call: Call) -> None:
    tool.manifest("tool", accounts.lockable())
    tool.hire("ada", "tool")
    yesterday(tool)
    assert call(tool, "lock", "ada", "--reason", "left").code == 0
    assert tool.gnupg is not None
    suspended = {"integration": "tool", "until": "2099-01-01", "reason": "busy"}
    tool.settings(gnupg_home=tool.gnupg.path, suspend=[suspended])
    tool.commit()
    call(tool, "--yes")
    said = call(tool, "status", "--output", "json").grant("ada", "tool")["reason"]
    assert said.startswith("locked by ")
    assert call(tool, "explain", "ada", "tool", "--output", "json").json["reason"] == said


def test_explain_knows_what_is_over_although_its_file_broke(tool: Repo, call: Call) -> None:
    until_is_over(tool)
    call(tool, "--yes")
    tool.write("hires/ada.yaml", "email: [")
    tool.commit()
    call(tool, "--yes")
    assert call(tool, "status", "--output", "json").grant("ada", "tool")["status"] == "revoked"
    assert call(tool, "explain", "ada", "tool", "--output", "json").json["status"] == "revoked"
