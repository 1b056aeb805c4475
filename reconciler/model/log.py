"""The log of commands that seldom write a line: structlog is loaded, and set up, with the first one.

To load it costs as much as all other imports of a command that only reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_set_up: Callable[[], None] | None = None
"""What sets structlog up for this process; None once it is done."""


def set_up_with(set_up: Callable[[], None]) -> None:
    """Have structlog set up like this before the first line."""
    global _set_up  # noqa: PLW0603  a process has one log
    _set_up = set_up


def event_log() -> Any:
    """Return the log of events, set up."""
    import structlog

    global _set_up
    set_up, _set_up = _set_up, None
    if set_up is not None:
        set_up()
    return structlog.get_logger()
