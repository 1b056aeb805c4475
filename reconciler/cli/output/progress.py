"""Report the progress of a long pass on stderr."""

from __future__ import annotations

import time

from reconciler.cli.output.logs import note
from reconciler.cli.output.text import count

__all__ = ["ProgressReporter"]

QUIET_SECONDS = 5.0
"""How often to report; a pass that ends within this time reports nothing."""


class ProgressReporter:
    """Reports every `QUIET_SECONDS` how many hires a pass has checked."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` hires are checked, unless the last report is recent."""
        now = time.monotonic()
        if now - self._told >= QUIET_SECONDS:
            self._told = now
            note(f"looked at {done} of {count(total, 'hire')}, {now - self._began:.0f} s")
