"""Services that hang, drip for ever or never come to an end, beside a good one that is none the worse for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.repo import Daemon, Repo
from tests.servers import AccountService, eventually

PER_HOST, CONCURRENCY = 4, 8
PEOPLE = [f"h{number}" for number in range(12)]
BAD = ("hung", "dripping", "endless")


@pytest.fixture
def services() -> Iterator[dict[str, AccountService]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(AccountService()) for name in (*BAD, "good")}


@pytest.fixture
def company(repo: Repo, services: dict[str, AccountService]) -> Repo:
    """Everybody is to have an account at each: the three bad ones could use more places than there are."""
    limits = {"per_host": PER_HOST, "concurrency": CONCURRENCY, "timeout": "1h"}  # whoever waits for a bad one is lost
    repo.settings(interval="1d", max_new=None, limits=limits)
    for name, service in services.items():
        repo.manifest(name, service.manifest())
    for stem in PEOPLE:
        repo.hire(stem, *services)
    repo.commit()
    return repo


def turn_bad(services: dict[str, AccountService], method: str) -> None:
    services["hung"].hang(None, method=method)
    services["dripping"].drip(0.05, times=None, method=method)
    services["endless"].flood(1 << 40, times=None, method=method)


@pytest.mark.parametrize("method", ["GET", "POST"], ids=["checks", "changes"])
def test_each_costs_its_own_lane_only(company: Repo, services: dict[str, AccountService], method: str) -> None:
    turn_bad(services, method)
    good = services["good"]
    with Daemon(company) as daemon:
        eventually(lambda: len(good.created) == len(PEOPLE))
        company.hire("new", *services)
        company.commit()
        eventually(lambda: good.created["new@example.com"])
        assert len(services["hung"].calls(method)) > 0
        assert daemon.get("/healthz")[0] == 200
        daemon.kill9()  # to wait for what hangs would show nothing more
    assert max(service.busiest for service in services.values()) <= PER_HOST
    assert services["hung"].busiest + services["dripping"].busiest >= CONCURRENCY / 2, (
        "they were spared: nothing is shown"
    )
    assert all(services[name].created == {} for name in BAD)
