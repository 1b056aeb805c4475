"""How often events about one account, and about nobody, are looked at; and whose account one is about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.daemon import events
from reconciler.daemon.events import EventChecks
from reconciler.daemon.runtime import ProblemLog
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from tests.daemon.running import running, until
from tests.repo import Repo
from tests.servers import AccountService

ADA = Key("ada", "tool")


class Desired:
    """One hire with one entry, whose check expects the address."""

    def __init__(self) -> None:
        exists = SimpleNamespace(expected="{{ email }}")
        model = SimpleNamespace(exists=exists, events=object())
        self.files = SimpleNamespace(manifests={"tool": SimpleNamespace(model=model)})

    def owner(self, email: str) -> str | None:
        return "ada" if email == "ada@example.com" else None

    def grants(self, _hire: str) -> list[Any]:
        return [SimpleNamespace(key=ADA, integration="tool"), SimpleNamespace(key=Key("ada", "x"), integration="x")]


def test_a_known_account_is_checked_at_once_and_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "AGAIN_SECONDS", 0.3)
    checked: list[tuple[float, list[Key]]] = []
    listed: list[str] = []
    failing = [LedgerError("away")]
    left: list[str] = []

    async def walk() -> None:
        loop = asyncio.get_running_loop()

        async def check(keys: Iterable[Key], _why: str) -> None:
            checked.append((loop.time(), list(keys)))
            if failing:
                raise failing.pop()

        async def read(what: Callable[[Any], list[Any]]) -> list[Any]:
            return what(SimpleNamespace(grants=SimpleNamespace(orphans=nobody)))

        def nobody(integration: str) -> list[Any]:
            left.append(integration)
            return []

        runtime = SimpleNamespace(
            context=SimpleNamespace(yielder=None),
            problems=ProblemLog(),
            ledger=SimpleNamespace(run=read),
            active=SimpleNamespace(desired=Desired()),
            spawn=listed.append,
        )
        dispatcher, schedule = SimpleNamespace(start_grants=check), SimpleNamespace(read_listing=lambda name: name)
        checks = EventChecks(*cast("Any", (runtime, dispatcher, schedule)))
        for number in range(900):
            checks.tell("tool", " ADA@example.com")
            checks.tell("tool", f"nobody-{number}@example.com")
            checks.tell("tool", None)
        await until(lambda: len(checked) == 1)
        checks.tell("tool", "ada@example.com")
        checks.tell("other", "ada@example.com")
        await until(lambda: len(checked) == 2)
        assert [keys for _, keys in checked] == [[ADA], [ADA]]
        assert checked[1][0] - checked[0][0] >= 0.29
        assert listed == ["tool", "other"]
        assert 0 < len(left) < 10, "each reads all who left of 100,000 hires"

    asyncio.run(walk())


def test_who_is_called_what_is_known_from_commit_to_commit(repo: Repo, accounts: AccountService) -> None:
    """Of many hires, without reading them all for an event; a name that changed is its hire's no longer."""
    manifest = accounts.manifest()
    manifest["exists"] |= {"expected": "{{LOGIN}}"}
    told = {"token": {"header": "X-Token", "value": "{{HOOK_SECRET}}"}, "account": "login"}
    repo.settings(interval="1d")
    for name in ("tool", "other"):
        repo.manifest(name, {**manifest, "events": told})
    for stem in ("ada", "bob", "eve"):
        repo.hire(stem, "tool", *(["other"] if stem == "eve" else []), extra={"LOGIN": f"{stem}-login"})
    repo.hire("nameless", "tool")
    repo.commit()

    async def walk() -> None:
        async with running(repo) as now:
            checks = now.daemon._events
            await until(lambda: now.active.taken_over and checks._ahead is not None and checks._ahead.done())

            async def whose(account: str) -> list[str]:
                return [str(key) for key in await checks._keys(checks._runtime.active.desired, "tool", account)]

            assert await whose("ada-login") == ["ada/tool"]
            assert await whose("eve-login") == ["eve/tool"]
            assert await whose("") == await whose("nobody") == []
            repo.hire("bob", "tool", extra={"LOGIN": "ada-login"})
            repo.hire("ada", "tool", extra={"LOGIN": "lovelace"})
            head = repo.commit()
            await until(lambda: now.active.acted_on == head)
            assert await whose("lovelace") == ["ada/tool"]
            assert await whose("ada-login") == ["bob/tool"]
            assert await whose("bob-login") == []

    asyncio.run(walk())
