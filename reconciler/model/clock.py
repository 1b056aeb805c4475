"""The clock of the program, which tests replace."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Stopped(Exception):
    """Shutdown was requested during a wait."""


class Clock(Protocol):
    """The wall clock, and a way to wait."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait. Raises `Stopped` as soon as shutdown is requested."""


class StoppingClock(Clock, Protocol):
    """A clock that knows when shutdown is requested."""

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work, or cancel it and raise `Stopped` when shutdown is requested."""


def stamp(moment: datetime | None) -> str | None:
    """Format a time as every output has it: UTC, ISO 8601, whole seconds, with `Z`."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def first_moment(day: date | None, timezone: str) -> datetime | None:
    """Return when a day begins in a time zone."""
    return None if day is None else in_zone(datetime.combine(day, time()), timezone)


def after(begins: datetime, span: timedelta) -> datetime:
    """Return when a span is over; what is beyond the calendar is its last moment."""
    try:
        return begins + span
    except OverflowError:
        return LAST.replace(tzinfo=begins.tzinfo)


def in_zone(when: datetime, timezone: str) -> datetime:
    """Return a time in UTC; one without an offset is what the clock of a time zone shows.

    Of a time that this clock shows twice the earlier is meant, one that it skips is the end of the gap. What is beyond
    the calendar is its first or last moment.
    """
    from zoneinfo import ZoneInfo  # which `--help` and completion do without

    zone = ZoneInfo(timezone)
    local = when if when.tzinfo is not None else when.replace(tzinfo=zone, fold=0)
    try:
        found = local.astimezone(UTC)
        if when.tzinfo is None and found.astimezone(zone).replace(tzinfo=None) != when:
            return _end_of_gap(found, local.replace(fold=1).astimezone(UTC), zone)
    except OverflowError:
        return FIRST if when.year < LAST.year else LAST
    return found


def _end_of_gap(after: datetime, before: datetime, zone: tzinfo) -> datetime:
    """Return the moment between two at which a zone's clock is put forward, to the second."""
    offset = before.astimezone(zone).utcoffset()
    low, high = 0, round((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        same = (before + timedelta(seconds=middle)).astimezone(zone).utcoffset() == offset
        low, high = (middle, high) if same else (low, middle)
    return before + timedelta(seconds=high)


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
