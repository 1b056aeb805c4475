"""Once an interval the daemon counts the accounts that git does not know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from reconciler.ledger.writer import LedgerWriter
from reconciler.requests.record import all_there
from reconciler.review.unmanaged import account_digest
from tests.daemon.running import running, until
from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, Reply, eventually


def test_accounts_are_counted_once_an_interval_and_never_half(repo: Repo) -> None:
    with AccountService() as saas:
        repo.settings(interval="3s")
        repo.manifest("saas", saas.manifest(listing=True))
        repo.hire("ada", "saas")
        saas.add("ada@example.com", "eve@example.com")
        repo.commit()
        with Daemon(repo) as daemon:
            eventually(lambda: 'reconciler_unmanaged_accounts{integration="saas"} 1.0' in daemon.get("/metrics")[1], 20)
            (row,) = call_cli(repo, "unmanaged", "--output", "json").json["accounts"]
            assert row["first_seen"] is not None
            saas.route("GET", "/users", Reply(500, "no"))
            eventually(lambda: "reconciler_unmanaged_accounts{" not in daemon.get("/metrics")[1], 20)
            assert "listing of saas" in daemon.log
            assert len(daemon.log.split("answered 500")) <= 3  # told when it begins, and not each time
        read = [request for request in saas.requests if request.path == "/users"]
        # One an interval, the first, the one of the command, and one under way.
        assert len(read) <= (read[-1].at - read[0].at) / 3 + 3


def test_a_large_listing_is_read_compared_and_noted_in_pieces(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.settings(interval="1d")
    manifest = accounts.manifest(listing=True)
    manifest["exists"]["list"]["only"] = {"active": True}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    people = [{"email": f"p{number}@example.com", "active": True} for number in range(120)]
    accounts.route("GET", "/users", Reply(200, {"users": people}))
    for name in ("engine.listings.ITEMS", "review.unmanaged.ACCOUNTS", "daemon.survey.SEEN"):
        monkeypatch.setattr(f"reconciler.{name}_AT_A_TIME", 50)
    work, turn = Counter[tuple[str, int]](), 0

    def looked_at(*given: Any) -> bool:
        work["items", turn] += 1
        return all_there(*given)

    def compared(account: Any) -> str:
        work["accounts", turn] += 1
        return account_digest(account)

    def noted(self: LedgerWriter, integration: str, some: Iterable[str], now: datetime) -> None:
        work["seen", turn] += len(list(some))
        add_seen(self, integration, some, now)

    async def counting() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async def walk() -> int:
        ticking = asyncio.create_task(counting())
        async with running(repo) as now:
            await until(lambda: now.daemon.survey.found)
            ticking.cancel()
            return len(now.state.ledger.seen("tool"))

    add_seen = LedgerWriter.add_seen
    monkeypatch.setattr(LedgerWriter, "add_seen", noted)
    monkeypatch.setattr("reconciler.engine.listings.all_there", looked_at)
    monkeypatch.setattr("reconciler.review.unmanaged.account_digest", compared)
    assert asyncio.run(walk()) == len(people)
    for kind in ("items", "accounts", "seen"):
        sizes = [size for (what, _), size in work.items() if what == kind]
        assert (max(sizes), sum(sizes)) == (50, len(people)), kind
