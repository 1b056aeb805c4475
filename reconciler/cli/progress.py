"""Progress of a long pass, to stderr: nothing for a short one, then a line now and then."""

from __future__ import annotations

import time

from reconciler.cli.logs import tell

__all__ = ["Progress"]

QUIET = 5.0
"""Seconds without a word; a pass that is over by then has told its story with its result."""


class Progress:
    """Counts checks as they are sent, and tells of them every five seconds."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._checks = 0

    def __call__(self) -> None:
        """One more check."""
        self._checks += 1
        now = time.monotonic()
        if now - self._told >= QUIET:
            self._told = now
            tell(f"{self._checks} checks sent, {now - self._began:.0f} s")
