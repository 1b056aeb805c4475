"""The clock of the program, which tests replace."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol

__all__ = ["Clock", "Stopped", "first_moment", "moment", "stamp"]


class Stopped(Exception):
    """Shutdown was requested during a wait."""


class Clock(Protocol):
    """The wall clock, and a way to wait."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait. Raises `Stopped` as soon as shutdown is requested."""


def stamp(moment: datetime | None) -> str | None:
    """Format a time as every output has it: UTC, ISO 8601, whole seconds, with `Z`."""
    return None if moment is None else _formatted(moment.astimezone(UTC))  # times that differ in `fold` are equal


@lru_cache(maxsize=1024)  # a pass writes few moments, each of them many times
def _formatted(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def first_moment(day: date | None, timezone: str) -> datetime | None:
    """Return when a day begins in a time zone."""
    if day is None:
        return None
    from zoneinfo import ZoneInfo  # which `--help` and completion do without

    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)


def moment(text: str, now: datetime, timezone: str, *, ends: bool = False) -> datetime:
    """Return when a span begins: a day in a time zone, an ISO time (UTC by default), or a span before now.

    Where it `ends`, after that day, or that second. Raises ValueError, with what can be written, for anything else.
    """
    from zoneinfo import ZoneInfo

    from reconciler.model.base import day, duration

    with suppress(ValueError, OverflowError):
        return datetime.combine(day(text) + timedelta(days=ends), time(), ZoneInfo(timezone))
    with suppress(ValueError, OverflowError):
        return now - duration(text)
    try:
        given = datetime.fromisoformat(text) + timedelta(seconds=ends)
    except (ValueError, OverflowError):
        raise ValueError(
            "write a date (2026-12-01), a time (2026-12-01T09:00:00Z), or how long ago (7d, 12h)"
        ) from None
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
