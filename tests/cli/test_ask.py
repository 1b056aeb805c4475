"""`reconcile` at a terminal: the plan is shown first, and only what was agreed to is carried out."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

import pytest

from reconciler.engine.apply.commands import enqueue_release
from reconciler.ledger.opening import StateLocation
from reconciler.model.selection import Selection
from tests.repo import Repo, call_cli, run_cli, start_cli, use_key
from tests.servers import AccountService

QUESTION = "Carry out"


@pytest.fixture
def ready(repo: Repo, accounts: AccountService) -> Repo:
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", "tool")
    repo.commit()
    return repo


def at_terminal(repo: Repo, *arguments: str, answers: list[Callable[[], str]]) -> tuple[int, str]:
    """Run the program on a terminal of its own, and answer each question when it comes; gives code and text."""
    ours, theirs = pty.openpty()
    process = start_cli(repo, *arguments, streams=(theirs, theirs, theirs), terminal=True)
    os.close(theirs)
    text, asked = "", 0
    try:
        while True:
            try:
                read = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            text += read.decode(errors="replace")
            while text.count(QUESTION) > asked and text.rstrip().endswith("[y/N]:"):
                os.write(ours, answers[asked]().encode())
                asked += 1
        assert asked == len(answers), text
        return process.wait(), text
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_the_plan_is_shown_and_carried_out_once_it_is_agreed_to(ready: Repo, accounts: AccountService) -> None:
    def agree() -> str:
        assert accounts.calls("POST") == [], "nothing is sent before the answer"
        return "y\n"

    code, text = at_terminal(ready, answers=[agree])
    assert code == 0, text
    assert "missing" in text.partition(QUESTION)[0]
    assert "present" in text.partition(QUESTION)[2]
    assert set(accounts.people) == {"ada@example.com"}


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04", "\x03"], ids=["no", "nothing", "end of input", "Ctrl-C"])
def test_without_a_yes_nothing_is_carried_out(ready: Repo, accounts: AccountService, answer: str) -> None:
    code, text = at_terminal(ready, answers=[lambda: answer])
    assert code in (1, 130), text
    assert accounts.calls("POST") == []
    assert ready.record("ada", "tool") is None


def test_release_stays_on_the_list_until_the_plan_is_agreed_to(ready: Repo, accounts: AccountService) -> None:
    ready.settings(max_new=0)
    ready.commit()
    assert call_cli(ready).code == 1
    with closing(StateLocation(ready.state_url, ready.root).writer()) as ledger:
        use_key(ledger, ready)
        enqueue_release(ledger, Selection(), datetime.now(UTC), by="tester@here")
    for answer, created in (("n\n", 0), ("y\n", 1)):
        code, text = at_terminal(ready, answers=[partial(str, answer)])
        assert (code, accounts.created["ada@example.com"]) == (1 - created, created), text
    accounts.people.clear()
    ready.hire("bob", "tool")
    ready.commit()
    code, text = at_terminal(ready, "--hire=bob", answers=[])
    assert (code, accounts.created["bob@example.com"]) == (1, 0), "it lets through once"


@pytest.mark.parametrize("state_kind", ["sqlite", "postgresql"])
def test_what_is_released_is_shown_and_carried_out(ready: Repo, accounts: AccountService) -> None:
    ready.settings(max_new=0)
    ready.commit()
    assert call_cli(ready).code == 1, "held"
    code, text = at_terminal(ready, "--yes-really", answers=[partial(str, "y\n")])
    assert (code, accounts.created["ada@example.com"]) == (0, 1), text


def test_a_plan_that_changed_meanwhile_is_shown_again(ready: Repo, accounts: AccountService) -> None:
    """The account is there by the time of the answer, and another hire's is gone."""
    ready.hire("bob", "tool")
    ready.commit()
    accounts.add("bob@example.com")

    def change() -> str:
        accounts.people.pop("bob@example.com")
        return "y\n"

    code, text = at_terminal(ready, answers=[change, lambda: "n\n"])
    assert code == 1, text
    assert accounts.calls("POST") == []


def test_plan_without_changes_asks_no_question(ready: Repo, accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    code, text = at_terminal(ready, answers=[])
    assert code == 0, text
    assert ready.has("ada", "tool", "present")


@pytest.mark.parametrize("arguments", [["--yes"], ["--dry-run"]])
def test_neither_yes_nor_a_dry_run_asks(ready: Repo, accounts: AccountService, arguments: list[str]) -> None:
    code, text = at_terminal(ready, *arguments, answers=[])
    assert code == 0, text
    assert len(accounts.calls("POST")) == (arguments == ["--yes"])


def test_pass_without_a_terminal_asks_no_question(ready: Repo, accounts: AccountService) -> None:
    assert run_cli(ready).code == 0
    assert set(accounts.people) == {"ada@example.com"}
