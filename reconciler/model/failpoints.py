"""The points at which a kill or a disk error could do harm: every durable write, and everything that is sent.

The program calls a `Reached` right before and right after each. Only tests pass one that does something: it ends the
program there, or makes the disk fail (`tests/faults`). No setting and no environment variable can set it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Failpoint(StrEnum):
    """What is about to be written or sent, or just was."""

    # The state, and who has it locked
    LOCK = "lock taken"
    MIGRATION = "migration"
    LEASE = "lease taken"
    SEALING_KEY = "sealing key written"

    # A pass
    CHECKOUT = "checkout updated"
    ACCEPTED = "accepted revision kept"
    PLAN = "plan written down"
    DROPPED = "dropped"
    RENAMED = "renamed"
    NOTE = "note written"
    CACHE = "parse cache kept"

    # An attempt
    INTENT = "intent written"
    LEAVING = "request recorded"
    REQUEST = "request sent"
    RESPONSE = "response received"
    ANSWER = "answer recorded"
    TOKEN = "token saved"  # noqa: S105  what is said of it
    SEALED = "kept sealed"
    OUTCOME = "outcome recorded"
    CHECKED = "checked once more"

    # Messages to people, and their commands
    NOTICE = "notification marked"
    MESSAGE = "message sent"
    NOTIFIED = "notification recorded"
    COMMAND = "command enqueued"
    TAKEN_UP = "command taken up"
    LOCKED = "lock written"
    FORGOTTEN = "person forgotten"
    WIPED = "free pages wiped"


class Reached(Protocol):
    """A callback for failpoints: called right before one, and with `done` right after."""

    def __call__(self, point: Failpoint, *, done: bool) -> None:
        """Reach a point."""


def unwatched(point: Failpoint, *, done: bool) -> None:
    """Do nothing."""
