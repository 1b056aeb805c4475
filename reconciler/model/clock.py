"""Time as the program sees it, so that tests can turn the hands."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Protocol
from zoneinfo import ZoneInfo

__all__ = ["Clock", "Stopped", "first_moment", "stamp"]


class Stopped(Exception):
    """The program was told to stop while it waited."""


class Clock(Protocol):
    """The wall clock and a way to wait."""

    def now(self) -> datetime:
        """The wall clock's time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait; raises `Stopped` at once when the program is told to stop."""


def stamp(moment: datetime | None) -> str | None:
    """A moment as every output writes it: UTC, ISO 8601, whole seconds, with `Z`."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def first_moment(day: date | None, timezone: str) -> datetime | None:
    """When a day begins in a time zone."""
    return None if day is None else datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)
