"""Health: unhealthy is a daemon that has work and does nothing, not one that is slow or has nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.daemon.loop import Pulse

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
INTERVAL = timedelta(minutes=10)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


@pytest.mark.parametrize(
    ("due_since", "progress", "healthy"),
    [
        pytest.param(None, None, True, id="nothing to do yet"),
        pytest.param(None, ago(days=9), True, id="nothing to do for days"),
        pytest.param(ago(minutes=30), None, True, id="due for three intervals"),
        pytest.param(ago(minutes=31), None, False, id="due for longer, nothing done"),
        pytest.param(ago(hours=5), ago(minutes=1), True, id="a long resync that goes on"),
        pytest.param(ago(hours=5), ago(minutes=31), False, id="a long resync that stands still"),
        pytest.param(ago(minutes=1), ago(days=1), True, id="due only now"),
    ],
)
def test_healthy(due_since: datetime | None, progress: datetime | None, healthy: bool) -> None:
    assert Pulse(due_since=due_since, progress=progress).healthy(NOW, INTERVAL) is healthy
