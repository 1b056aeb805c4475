"""Read the times of `--since` and `--until`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model import clock
from reconciler.model.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["moment"]


def moment(text: str, now: datetime, timezone: str, *, option: str = "--since") -> datetime:
    """Read the time of `--since`, or the end of that of `--until`. Raises UsageError."""
    try:
        return clock.moment(text, now, timezone, ends=option == "--until")
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None
