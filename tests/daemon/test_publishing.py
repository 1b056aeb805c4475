"""Checkpoints that a daemon publishes: to a branch or a directory, through failures (docs/how-to/prove.md)."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from reconciler.daemon.publishing import Publishing
from reconciler.daemon.runtime import ProblemLog
from reconciler.engine.context import Context
from reconciler.engine.run.accepted import InForce
from reconciler.ledger.entries import Event
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Key
from reconciler.model.secret import Redactor
from reconciler.model.status import EventType
from reconciler.secrets.checkpoint import Checkpoint, SigningKey, VerifyingKey
from tests.engine.harness import Hands
from tests.ledger.states import NOW
from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, Reply, eventually

ORIGIN = "access-reconciler/test"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    made = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(made)], check=True)
    return made


@pytest.fixture
def key(repo: Repo) -> str:
    made = SigningKey.new(ORIGIN)
    repo.initial_data("reconciler", {"CHECKPOINT_KEY": made.reveal()})
    return SigningKey(made).public


def in_remote(remote: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(remote), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.split()


class Publisher:
    """Publishes under a clock of its own; each turn there is one more line."""

    def __init__(self, repo: Repo, **checkpoints: Any) -> None:
        assert repo.gnupg is not None
        others = {name: checkpoints.pop(name) for name in ("alerts", "limits") if name in checkpoints}
        repo.settings(checkpoints=checkpoints, gnupg_home=repo.gnupg.path, **others)
        repo.commit()
        self.repo, self.clock, self.arrived = repo, Hands(), 0
        self.problems = ProblemLog()

    def count(self, number: int) -> None:
        self.arrived += number

    def turn(self, **passes: Any) -> None:
        """A member begins, publishes what is due and ends; then time passes."""
        ledger = StateLocation(self.repo.state_url, self.repo.root).writer()
        ledger.save((), [Event(NOW, Key("ada", "tool"), "tool", EventType.BLOCKED)])

        async def publish() -> None:
            async with aclosing(Context(self.repo.root, self.clock, Redactor())) as context:
                tree = context.checkout.head()
                publishing = Publishing(OpenLedger(ledger), self.problems, self.count)
                publishing.begin(self.clock.now(), InForce(context, tree, context.settings(tree), "main"))
                await publishing.finish()

        asyncio.run(publish())
        ledger.close()
        self.clock.turn(**passes)


def test_a_day_through_failed_pushes_loses_and_repeats_none(repo: Repo, remote: Path, key: str, tmp_path: Path) -> None:
    publisher = Publisher(repo, every="1h", branch="proof", remote=str(remote))
    away = tmp_path / "away.git"
    tips = []
    for half_hour in range(48):
        if half_hour in (11, 31):
            remote.rename(away)
        if half_hour in (18, 40):
            away.rename(remote)
        publisher.turn(minutes=30)
        if remote.exists():
            tips += in_remote(remote, "rev-parse", "proof")
    names = in_remote(remote, "ls-tree", "--name-only", "proof")
    assert sorted(names, key=lambda name: int(name.removesuffix(".note"))) == [f"{n}.note" for n in range(1, 49, 2)]
    assert publisher.arrived == len(names) == 24
    for name in names:
        note = subprocess.run(
            ["git", "-C", str(remote), "show", f"proof:{name}"], capture_output=True, text=True, check=True
        ).stdout
        assert f"{Checkpoint.of(note, VerifyingKey.of(key)).lines}.note" == name
    assert in_remote(remote, "rev-list", "--count", "proof") == ["17"], "what waited came in one commit"
    for tip in tips:
        in_remote(remote, "merge-base", "--is-ancestor", tip, "proof")
    done = call_cli(repo, "history", "--verify", "--checkpoint", "newest", "--key", key)
    assert (done.code, "the checkpoint is of access-reconciler/" in done.out) == (0, False), done.out


def test_one_process_publishes_as_often_as_the_settings_say(repo: Repo, key: str, tmp_path: Path) -> None:
    """It waits a minute only where it failed."""
    publisher = Publisher(repo, every="2s", directory=str(tmp_path / "notes"))
    with closing(StateLocation(repo.state_url, repo.root).writer()) as ledger:

        async def publish() -> None:
            async with aclosing(Context(repo.root, publisher.clock, Redactor())) as context:
                tree = context.checkout.head()
                force = InForce(context, tree, context.settings(tree), "main")
                publishing = Publishing(OpenLedger(ledger), publisher.problems, publisher.count)
                for _ in range(3):
                    ledger.save((), [Event(NOW, Key("ada", "tool"), "tool", EventType.BLOCKED)])
                    publishing.begin(publisher.clock.now(), force)
                    await publishing.finish()
                    publisher.clock.turn(seconds=2)

        asyncio.run(publish())
    assert publisher.arrived == 3


def test_nothing_new_is_not_published_again(repo: Repo, key: str, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    publisher = Publisher(repo, every="1h", directory=str(folder))
    publisher.turn(minutes=10)
    publisher.turn(minutes=10)
    assert [each.name for each in folder.iterdir()] == ["1.note"]
    publisher.turn(minutes=70)
    publisher.turn(minutes=10)
    assert sorted(each.name for each in folder.iterdir()) == ["1.note", "4.note"]


def test_branch_that_holds_something_else_is_left_alone(repo: Repo, remote: Path, key: str) -> None:
    repo.commit()
    repo.git("push", "--quiet", str(remote), "HEAD:refs/heads/proof")
    before = in_remote(remote, "rev-parse", "proof")
    publisher = Publisher(repo, every="1h", branch="proof", remote=str(remote))
    publisher.turn(minutes=1)
    assert in_remote(remote, "rev-parse", "proof") == before
    assert any("holds something else than checkpoints" in said for said in publisher.problems._open.values())
    publisher = Publisher(repo, every="1h", branch="main", remote=str(remote))
    publisher.turn(minutes=1)
    assert any("main is the branch in force" in said for said in publisher.problems._open.values())


def test_another_note_of_the_same_lines_is_told(repo: Repo, remote: Path, key: str, tmp_path: Path) -> None:
    """Somebody wrote where notes are published, or the state is another one: neither is passed over."""
    folder = tmp_path / "notes"
    for where in ({"directory": str(folder)}, {"branch": "proof", "remote": str(remote)}):
        publisher = Publisher(repo, every="1h", **where)
        publisher.turn(minutes=1)
        (repo.root / ".reconciler" / "state.db").unlink()
        publisher.clock.turn(hours=2)
        publisher.turn(minutes=1)
        (said,) = publisher.problems._open.values()
        assert "has another 1.note" in said
        (repo.root / ".reconciler" / "state.db").unlink()


def test_missing_key_is_alerted(repo: Repo, accounts: AccountService, tmp_path: Path) -> None:
    accounts.route("POST", "/alerts", Reply(204))
    alerts = [{"webhook": f"{accounts.url}/alerts"}]
    publisher = Publisher(repo, every="1h", directory=str(tmp_path / "notes"), alerts=alerts)
    for _ in range(4):
        publisher.turn(minutes=10)
    (told,) = accounts.calls("POST")
    assert b"--new-key" in told.body


def test_alert_once_where_nothing_arrives_for_long(
    repo: Repo, accounts: AccountService, key: str, tmp_path: Path
) -> None:
    accounts.route("POST", "/alerts", Reply(204))
    alerts = [{"webhook": f"{accounts.url}/alerts"}]
    publisher = Publisher(repo, every="1h", branch="proof", remote=str(tmp_path / "nowhere"), alerts=alerts)
    for _ in range(4):
        publisher.turn(minutes=10)
    (told,) = accounts.calls("POST")
    assert b"checkpoints of the history cannot be published" in told.body


def test_daemon_publishes(repo: Repo, remote: Path, accounts: AccountService, key: str) -> None:
    repo.settings(checkpoints={"every": "1s", "branch": "proof", "remote": str(remote)}, interval="1d")
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    with Daemon(repo) as daemon:
        eventually(lambda: in_remote(remote, "branch", "--list", "proof"))
        eventually(lambda: "checkpoint.published" in daemon.log)
    assert call_cli(repo, "history", "--verify").code == 0
