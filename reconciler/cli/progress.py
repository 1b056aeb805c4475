"""Progress of a long pass, to stderr: nothing for a short one, then a line now and then."""

from __future__ import annotations

import time

from reconciler.cli.logs import tell
from reconciler.cli.text import count

__all__ = ["Progress"]

QUIET_SECONDS = 5.0
"""Seconds without a word; a pass that is over by then has told its story with its result."""


class Progress:
    """Tells every five seconds how far a pass has looked."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """So many hires of so many are looked at."""
        now = time.monotonic()
        if now - self._told >= QUIET_SECONDS:
            self._told = now
            tell(f"looked at {done} of {count(total, 'hire')}, {now - self._began:.0f} s")
