"""What a forge says of approvals, as it is asked about beside passes (docs/design/rules.md, "Who gave it")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.daemon.approving import MOST, SECONDS_EACH, UNKNOWN_AGAIN, Approving
from reconciler.daemon.runtime import ProblemLog
from reconciler.engine.context import Context
from reconciler.engine.run.accepted import InForce
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.model.clock import stamp
from reconciler.model.secret import Redactor
from reconciler.model.status import EventType
from tests.engine.harness import Machine
from tests.forges import TOKEN, Stand
from tests.repo import Daemon, Repo, call_cli
from tests.servers import PATIENCE, AccountService, eventually

ENV = {"RECONCILE_FORGE_TOKEN": TOKEN}
FORGE = [{"name": "grace", "source": "forge"}]


@pytest.fixture
def forge() -> Iterator[Stand]:
    with Stand("github") as running:
        yield running


@pytest.fixture
def given(repo: Repo, accounts: AccountService, forge: Stand) -> Repo:
    """Ada has the tool by a merged pull request that Grace approved; its commit claims that Mallory did."""
    repo.settings(forge=forge.settings)
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    merged(repo, forge, "grace APPROVED", message="Give ada the tool\n\nApproved-by: Mallory <m@example.com>")
    return repo


def merged(repo: Repo, forge: Stand, *reviews: str, message: str = "change", later: int = 0) -> None:
    number = forge.opened("x")
    forge.review(number, *reviews)
    forge.merged(number, repo.commit(message, later=later))


class Asker:
    """Asks as the daemon does, with time that passes as the test says."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RECONCILE_FORGE_TOKEN", TOKEN)
        self.machine, self.seconds, self.problems = machine, 0.0, ProblemLog()
        repo, redactor = machine.repo, Redactor()
        self._ledger = StateLocation(repo.state_url, repo.root).writer()
        self._context = Context(repo.root, machine.clock, redactor)
        self._approving = Approving(self._context, OpenLedger(self._ledger), self.problems, lambda: self.seconds)

    def ask(self, seconds: float = 0) -> None:
        self.seconds += seconds
        self.machine.clock.turn(seconds=seconds)

        async def begun() -> None:
            tree = self._context.checkout.head()
            self._approving.begin(InForce(self._context, tree, self._context.settings(tree), "main"))
            if self._approving._task is not None:
                await self._approving._task

        asyncio.run(begun())

    def close(self) -> None:
        self._ledger.close()
        asyncio.run(self._context.aclose())


@pytest.fixture
def asker(given: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    machine = Machine(given)
    machine.reconcile()
    made = Asker(machine, monkeypatch)
    yield made
    made.close()


def said(repo: Repo, *at: str) -> tuple[Any, Any]:
    grant = call_cli(repo, "status", "--output", "json", *at).grant("ada", "tool")
    return grant["approvals"], grant["merged_by"]


def test_approvals_are_the_forges_and_come_as_an_event(asker: Asker, forge: Stand, given: Repo) -> None:
    assert said(given) == ([{"name": "Mallory <m@example.com>", "source": "claimed"}], None)
    asker.ask()
    assert said(given) == (FORGE, "ivy")
    last = asker.machine.history("ada")[-1]
    assert (last.event, last.approved_by, last.author) == (
        EventType.APPROVED,
        ("grace",),
        "Ida Admin <ida@example.com>",
    )
    assert last.detail == "by grace in pull request 1, merged by ivy"
    assert "approved by grace, merged by ivy" in call_cli(given, "explain", "ada", "tool").out
    number = len(forge.requests)
    asker.ask(3600)
    assert len(forge.requests) == number, "asked until answered, then never again"
    assert asker.machine.events("ada").count(EventType.APPROVED) == 1
    assert call_cli(given, "history", "--verify").code == 0


def test_faults_are_asked_again_less_and_less_often(asker: Asker, forge: Stand, given: Repo) -> None:
    forge.fail_next(None, 500)
    asked = []
    for _ in range(100):
        asker.ask(1)
        asked.append(len(forge.requests))
    assert asked[-1] == 5, "after 5, 10, 20 and 40 seconds"
    assert "approvals cannot be read: GET" in asker.problems._open["forge"]
    forge.clear()
    forge.fail_next(1, 429, headers={"Retry-After": "600"})
    asker.ask(600)
    asker.ask(599)
    assert len(forge.requests) == asked[-1] + 1
    asker.ask(1)
    assert said(given) == (FORGE, "ivy")
    assert asker.problems._open == {}


def test_newest_is_asked_about_first_and_a_bad_answer_holds_up_no_other(
    asker: Asker, forge: Stand, given: Repo
) -> None:
    forge.pulls[0]["number"] = "none"
    given.hire("bob", "tool")
    merged(given, forge, "grace APPROVED", later=1)  # commits of the same second are in no order
    asker.machine.reconcile()
    asker.ask()
    assert asker.machine.events("bob")[-1] is EventType.APPROVED
    asker.ask(30)
    assert said(given)[1] is None
    forge.pulls[0]["number"] = 1
    asker.ask(60)
    assert said(given) == (FORGE, "ivy")


def test_no_pull_request_is_an_answer_once_the_forge_had_time(asker: Asker, forge: Stand, given: Repo) -> None:
    [pull] = forge.pulls
    forge.pulls = []
    asker.ask()
    for _ in range(8):
        asker.ask(UNKNOWN_AGAIN)
    forge.pulls = [pull]
    asker.ask(UNKNOWN_AGAIN)
    assert said(given) == (FORGE, "ivy"), "it may hear late of what was merged"
    given.hire("ada", "tool", "tool-2")
    given.manifest("tool-2", {"execute": [{"url": f"{forge.url}/x"}]})
    given.hire("bob", "tool")
    given.commit()
    asker.machine.reconcile(integrations=["tool"])
    for _ in range(20):
        asker.ask(UNKNOWN_AGAIN)
    number = len(forge.requests)
    asker.ask(86_400)
    assert len(forge.requests) == number


def test_many_commits_are_asked_about_at_a_bounded_rate(asker: Asker, forge: Stand, given: Repo) -> None:
    for number in range(MOST + 5):
        given.hire(f"hire-{number}", "tool")
        merged(given, forge, "grace APPROVED")
    asker.machine.reconcile()
    asker.ask()
    assert len(forge.calls("GET", f"{forge.project}/commits")) == MOST
    asker.ask(3 * SECONDS_EACH)
    assert len(forge.calls("GET", f"{forge.project}/commits")) == MOST + 3


def test_nothing_is_asked_without_a_token_or_a_forge(asker: Asker, forge: Stand, given: Repo) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RECONCILE_FORGE_TOKEN")
        asker.ask()
    given.settings()
    given.commit()
    asker.ask()
    assert forge.requests == []


def test_single_pass_asks_for_a_moment(given: Repo, forge: Stand) -> None:
    done = call_cli(given, "--yes", "--output", "json", env=ENV)
    assert (done.code, done.grant("ada", "tool")["approvals"]) == (0, FORGE)
    forge.hang(times=None)
    given.hire("bob", "tool")
    given.commit()
    began = time.monotonic()
    assert call_cli(given, "--yes", env=ENV).code == 0
    assert time.monotonic() - began < PATIENCE / 2


def test_forge_that_hangs_delays_neither_the_daemon_nor_its_end(
    given: Repo, forge: Stand, accounts: AccountService
) -> None:
    release = forge.hang(times=None)
    given.settings(forge=forge.settings, limits={"timeout": "10m"})
    given.commit()
    with Daemon(given, env=ENV) as daemon:
        eventually(lambda: forge.requests)
        eventually(lambda: given.has("ada", "tool", "present"))
        given.hire("bob", "tool")
        given.commit()
        eventually(lambda: given.has("bob", "tool", "present"))
        assert daemon.get("/healthz")[0] == 200
        assert daemon.terminate() == 0
        assert TOKEN not in daemon.log
    release.set()
    forge.clear()
    with Daemon(given, env=ENV):
        eventually(lambda: said(given) == (FORGE, "ivy"))
        eventually(lambda: said(given, "--at", stamp(datetime.now(UTC)) or "") == (FORGE, "ivy"))
