"""How often events about one account, and about nobody, are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.daemon import events
from reconciler.daemon.events import EventChecks
from reconciler.daemon.health import ProblemLog
from reconciler.engine.context import Context
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from tests.daemon.running import until

ADA = Key("ada", "tool")


class Desired:
    """One hire with one entry, whose check expects the address."""

    def __init__(self) -> None:
        exists = SimpleNamespace(expected="{{ email }}")
        self.files = SimpleNamespace(manifests={"tool": SimpleNamespace(model=SimpleNamespace(exists=exists))})

    def owner(self, email: str) -> str | None:
        return "ada" if email == "ada@example.com" else None

    def grants(self, _hire: str) -> list[Any]:
        return [SimpleNamespace(key=ADA, integration="tool"), SimpleNamespace(key=Key("ada", "x"), integration="x")]


def test_a_known_account_is_checked_at_once_and_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "AGAIN_SECONDS", 0.3)
    checked: list[tuple[float, list[Key]]] = []
    listed: list[str] = []
    failing = [LedgerError("away")]

    async def walk() -> None:
        loop = asyncio.get_running_loop()

        async def check(keys: Iterable[Key]) -> None:
            checked.append((loop.time(), list(keys)))
            if failing:
                raise failing.pop()

        checks = EventChecks(
            cast("Context", None),
            ProblemLog(),
            desired=cast("Any", Desired),
            check=check,
            listed=listed.append,
        )
        for _ in range(1000):
            checks.tell("tool", " ADA@example.com")
            checks.tell("tool", "nobody@example.com")
            checks.tell("tool", None)
        await until(lambda: len(checked) == 1)
        checks.tell("tool", "ada@example.com")
        checks.tell("other", "ada@example.com")
        await until(lambda: len(checked) == 2)
        assert [keys for _, keys in checked] == [[ADA], [ADA]]
        assert checked[1][0] - checked[0][0] >= 0.29
        assert listed == ["tool", "other"]

    asyncio.run(walk())
