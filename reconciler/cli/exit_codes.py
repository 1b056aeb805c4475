"""Exit codes (docs/commands.md, "Exit codes"); 0 is done, and 1 an error or what needs a person."""

from __future__ import annotations

__all__ = ["INTERRUPTED", "PENDING", "WRONG_USAGE"]

PENDING = 2
"""Nothing is wrong, and something is to be done."""

WRONG_USAGE = 64

INTERRUPTED = 130
"""Ctrl-C: 128 and the signal's number, as shells have it."""
