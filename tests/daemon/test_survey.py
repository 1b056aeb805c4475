"""Once an interval the daemon counts the accounts that git does not know."""

from __future__ import annotations

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
