"""Refuse a machine whose clock is not the server's: members use their own for dates, ends and `retry_at`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.model.errors import LedgerError

CLOCK = timedelta(seconds=30)
"""How far this machine's clock may be from the server's."""


def refuse_clock(there: datetime) -> None:
    """Raise LedgerError where this machine's clock is too far from the server's time."""
    apart = datetime.now(UTC) - there
    if abs(apart) > CLOCK:
        ahead = "ahead of" if apart > timedelta() else "behind"
        raise LedgerError(
            f"this machine's clock is {round(abs(apart).total_seconds())} s {ahead} the database server's: set both by "
            "NTP"
        )
