"""Once an interval the daemon counts the accounts that git does not know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.engine.observe.listings import Listings
from reconciler.ledger.part_writers import WritableAccounts
from reconciler.requests.record import all_there
from reconciler.review.unmanaged import account_digest
from tests.daemon.running import running, until
from tests.ledgers import inside
from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, Reply, eventually

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)


def test_accounts_are_counted_once_an_interval_and_never_half(repo: Repo) -> None:
    with AccountService() as saas:
        repo.settings(interval="3s")
        repo.manifest("saas", saas.manifest(listing=True))
        repo.hire("ada", "saas")
        saas.add("ada@example.com", "eve@example.com")
        repo.commit()
        with Daemon(repo) as daemon:
            eventually(lambda: 'reconciler_unmanaged_accounts{integration="saas"} 1.0' in daemon.get("/metrics")[1])
            (row,) = call_cli(repo, "unmanaged", "--output", "json").json["accounts"]
            assert row["first_seen"] is not None
            saas.route("GET", "/users", Reply(500, "no"))
            eventually(lambda: "reconciler_unmanaged_accounts{" not in daemon.get("/metrics")[1])
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
    for name in ("engine.observe.listings.ITEMS", "review.unmanaged.ACCOUNTS", "daemon.survey.LINES"):
        monkeypatch.setattr(f"reconciler.{name}_AT_A_TIME", 50)
    work, turn = Counter[tuple[str, int]](), 0

    def looked_at(*given: Any) -> bool:
        work["items", turn] += 1
        return all_there(*given)

    def compared(account: Any) -> str:
        work["accounts", turn] += 1
        return account_digest(account)

    def noted(
        self: WritableAccounts,
        integration: str,
        now: datetime,
        added: Sequence[str] = (),
        gone: Sequence[str] = (),
        **more: Any,
    ) -> None:
        work["seen", turn] += len(added)
        work["gone", turn] += len(gone)
        change(self, integration, now, added=added, gone=gone, **more)

    async def counting() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async def walk() -> tuple[int, datetime | None]:
        ticking = asyncio.create_task(counting())
        async with running(repo) as now:
            inside(now.state.ledger).accounts.save("tool", {f"gone{number}" for number in range(len(people))}, BEFORE)
            work.clear()
            await until(lambda: now.daemon.survey.found)
            ticking.cancel()
            return len(inside(now.state.ledger).accounts.first_seen("tool")), inside(
                now.state.ledger
            ).accounts.listed_at("tool")

    change = WritableAccounts.change
    monkeypatch.setattr(WritableAccounts, "change", noted)
    monkeypatch.setattr("reconciler.engine.observe.listings.all_there", looked_at)
    monkeypatch.setattr("reconciler.review.unmanaged.account_digest", compared)
    known, listed_at = asyncio.run(walk())
    assert known == len(people)
    assert listed_at is not None
    assert listed_at > BEFORE
    for kind in ("items", "accounts", "seen", "gone"):
        sizes = [size for (what, _), size in work.items() if what == kind]
        assert (max(sizes), sum(sizes)) == (50, len(people)), kind


def test_surveys_of_two_cycles_follow_one_another(repo: Repo, accounts: AccountService) -> None:
    """The second begins while the first is at its listing; both find an account that the ledger does not know."""
    repo.settings(interval="1d", git={"branch": "main"})
    repo.manifest("tool", accounts.manifest(listing=True))
    repo.hire("ada", "tool")
    repo.commit()

    async def surveys() -> set[str]:
        async with running(repo) as now:
            await until(lambda: now.daemon.survey.found and accounts.created)
            accounts.add("eve@example.com")
            began_at = now.context.clock.now()
            await asyncio.gather(*(now.daemon.survey.take(Listings(began_at), ["ada"]) for _ in range(2)))
            return set(inside(now.state.ledger).accounts.first_seen("tool"))

    with capture_logs() as logged:
        known = asyncio.run(surveys())
    assert len(known) == 2
    assert [line for line in logged if line["log_level"] in ("error", "warning")] == []
