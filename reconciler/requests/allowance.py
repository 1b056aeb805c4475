"""What a service says of its own limit: how many requests it still takes, and until when that counts.

There is no standard yet; three spellings of the two headers are common. The second one has seconds, or a time since
1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

__all__ = ["allowance"]

_HEADERS = tuple((f"{prefix}-remaining", f"{prefix}-reset") for prefix in ("x-ratelimit", "ratelimit", "x-rate-limit"))

_DIGITS = 10

_SINCE_1970 = 1_000_000_000
"""More seconds than this are a time."""


def allowance(headers: Mapping[str, str], now: datetime) -> tuple[int, timedelta] | None:
    """Return how many requests more a service takes, and for how long; None where it says nothing of them."""
    for remaining, reset in _HEADERS:
        if remaining in headers:
            left, until = _number(headers[remaining]), _number(headers.get(reset, ""))
            if left is None or not until:
                return None
            if until <= _SINCE_1970:
                return left, timedelta(seconds=until)
            return left, max(datetime.fromtimestamp(until, UTC) - now, timedelta())
    return None


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
