"""When a service says that an account was last used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["last_used"]

FIRST = datetime(1990, 1, 1, tzinfo=UTC)
"""What is before it is no time: services write 0, or the first day that they can, for never."""

MILLISECONDS = 13
"""So many digits count milliseconds since 1970, and not seconds."""


def last_used(value: Any, now: datetime) -> datetime | None:
    """Read a time, or seconds or milliseconds since 1970; None where it is not known, which is never unused."""
    found = _moment(value)
    return found if found is not None and FIRST <= found <= now + timedelta(days=1) else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    try:
        if not isinstance(value, str) or text.replace(".", "", 1).isdecimal():
            whole = text.partition(".")[0]
            seconds = float(text) / (1000 if len(whole) == MILLISECONDS else 1)
            return datetime.fromtimestamp(seconds, UTC)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
