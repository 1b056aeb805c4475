"""However many pushes are told of, one fetch is under way and one comes after it, at most once a second."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from reconciler.daemon import fetching
from tests.daemon.running import running, until
from tests.repo import Repo


def test_a_flood_of_pushes_costs_two_fetches(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.settings(interval="1d", git={"fetch": "1h"})
    repo.hire("ada")
    repo.commit()
    repo.git("remote", "add", "origin", str(tmp_path / "anywhere"))
    begun: list[float] = []
    go_on = threading.Event()

    async def walk() -> None:
        loop = asyncio.get_running_loop()

        def fetch(*_: object, **__: object) -> None:
            begun.append(loop.time())
            go_on.wait()

        monkeypatch.setattr(fetching, "fetch", fetch)
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
