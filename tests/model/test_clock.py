"""Moments as every output writes them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from reconciler.model.clock import stamp


def test_the_hour_that_comes_twice_is_written_as_the_one_that_is_meant() -> None:
    """Python takes the two for equal."""
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert [stamp(first), stamp(first.replace(fold=1))] == ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]
