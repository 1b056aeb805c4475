"""However many pushes are told of, one fetch is under way and one comes after it, at most once a second."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.repository.git.checkout import Checkout
from tests.daemon.running import Turned, running, until
from tests.repo import Repo, call_cli


def test_a_flood_of_pushes_costs_two_fetches(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.settings(interval="1d", git={"fetch": "1h"})
    repo.hire("ada")
    repo.commit()
    repo.git("remote", "add", "origin", str(tmp_path / "anywhere"))
    begun: list[float] = []
    go_on = threading.Event()

    async def walk() -> None:
        loop = asyncio.get_running_loop()

        def fetch(*_: object) -> None:
            begun.append(loop.time())
            go_on.wait()

        monkeypatch.setattr(Checkout, "fetch", fetch)
        async with running(repo) as now:
            await until(lambda: begun)
            for _ in range(10_000):
                now.daemon.pushed()
            await now.a_tick()
            assert len(begun) == 1, "one is under way"
            go_on.set()
            await until(lambda: len(begun) == 2)
            for _ in range(10_000):
                now.daemon.pushed()
            await now.a_tick()
            await until(lambda: len(begun) == 3)
            assert begun[2] - begun[1] >= 0.5, "a second, but for how long a thread takes to begin"
            await now.a_tick()
            await now.a_tick()
            assert len(begun) == 3

    asyncio.run(walk())


def test_a_commit_that_nobody_told_of_is_noted_where_hooks_used_to_come(repo: Repo, tmp_path: Path) -> None:
    repo.settings(interval="1d", git={"fetch": "1s"})
    repo.hire("ada")
    repo.commit()
    bare = tmp_path / "remote.git"
    repo.git("clone", "--quiet", "--bare", ".", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    subprocess.run(["git", "clone", "--quiet", str(bare), str(tmp_path / "clone")], check=True)
    theirs = Repo(tmp_path / "clone")

    def hooks() -> list[dict[str, str | None]]:
        found: list[dict[str, str | None]] = call_cli(repo, "status", "--output", "json").json["hooks"]
        return found

    async def walk() -> None:
        clock = Turned(timedelta(seconds=0.1))
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.freshness.fetched_at)
            assert hooks() == []
            now.daemon.pushed()
            assert [(each["hook"], each["missed_at"]) for each in hooks()] == [("git", None)]
            await until(lambda: now.daemon.fetching.told_of and not now.daemon.fetching.under_way)
            clock.turn(minutes=2)
            theirs.hire("bob")
            theirs.commit()
            theirs.git("push", "--quiet", "origin", "HEAD:main")
            await until(lambda: now.daemon.hooks.last["git"].missed_at)
            assert hooks()[0]["missed_at"] is not None
            now.daemon.pushed()
            assert hooks()[0]["missed_at"] is None

    asyncio.run(walk())
