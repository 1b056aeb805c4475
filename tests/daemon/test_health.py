"""Health: unhealthy is a daemon that has work and does nothing, not one that is slow or has nothing to do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic

import pytest

from reconciler.daemon.runtime import Health
from tests.daemon.running import Turned, peopled, running, until
from tests.repo import Repo
from tests.servers import AccountService, Reply, Service

NOW = 1_000_000.0
INTERVAL = timedelta(minutes=10)


def ago(**span: float) -> float:
    return NOW - timedelta(**span).total_seconds()


@pytest.mark.parametrize(
    ("due_since", "progress", "looked", "healthy"),
    [
        pytest.param(None, None, NOW, True, id="nothing to do yet"),
        pytest.param(None, ago(days=9), NOW, True, id="nothing to do for days"),
        pytest.param(ago(minutes=30), None, NOW, True, id="due for three intervals"),
        pytest.param(ago(minutes=31), None, NOW, False, id="due for longer, nothing done"),
        pytest.param(ago(hours=5), ago(minutes=1), NOW, True, id="a long resync that goes on"),
        pytest.param(ago(hours=5), ago(minutes=31), NOW, False, id="a long resync that stands still"),
        pytest.param(ago(minutes=1), ago(days=1), NOW, True, id="due only now"),
        pytest.param(None, ago(minutes=1), ago(minutes=30), True, id="nobody looked for three intervals"),
        pytest.param(None, ago(minutes=1), ago(minutes=31), False, id="nobody looks at what is due any more"),
        pytest.param(ago(hours=5), ago(minutes=1), ago(hours=5), True, id="nobody looks, what was begun goes on"),
    ],
)
def test_healthy(due_since: float | None, progress: float | None, looked: float, healthy: bool) -> None:
    assert Health(looked, due_since=due_since, progressed_at=progress).healthy(NOW, INTERVAL) is healthy


def test_requests_without_checks_are_progress(repo: Repo, service: Service) -> None:
    """A pass over webhooks alone makes no check, and may go on for longer than three intervals."""
    service.route("POST", "/hook", Reply(202))
    repo.settings(interval="1d", limits={"per_host": 1})
    repo.manifest("hook", {"execute": [{"url": f"{service.url}/hook", "data": {"email": "{{email}}"}}]})
    repo.hire("ada", "hook")
    repo.commit()
    release = service.hang()

    async def walk() -> None:
        async with running(repo) as now:
            await until(lambda: service.calls("POST"))
            assert now.daemon.runtime.health.due_since is not None
            assert now.daemon.runtime.health.progressed_at is not None
            assert now.passes == []
            release.set()

    asyncio.run(walk())


def test_a_resync_that_overruns_its_interval_is_a_metric_and_no_ill_health(
    repo: Repo, accounts: AccountService
) -> None:
    """A person's turn comes every minute, and takes the service five: each pass is short, and more and more wait."""
    repo.settings(interval="1h", limits={"per_host": 1})
    stems = peopled(repo, accounts, 60)

    async def walk() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) == len(stems))
            assert now.daemon.runtime.health.overrun == timedelta()
            accounts.delay = 0.05
            clock.pace = timedelta(minutes=1)
            await until(lambda: now.daemon.runtime.health.overrun > timedelta(minutes=5))
            assert now.daemon.runtime.health.healthy(monotonic(), timedelta(seconds=1))

    asyncio.run(walk())
