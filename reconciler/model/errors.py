"""Every error that the program raises on purpose.

Each carries one sentence for the person who reads it; `Problem` is the same for what is wrong in a file.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from enum import StrEnum

from msgspec.structs import force_setattr

from reconciler.model.value import Frozen
from reconciler.model.verdict import Cause

LONGEST = 2000
"""Characters of a message about a file, a grant or a request: each can repeat a name that is as long as a file."""


def shortened(text: str) -> str:
    """Shorten a text to about 2,000 characters, cutting out its middle.

    It is cut between words: a secret of which half is left would not be known again where texts are redacted.
    """
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half].rpartition(' ')[0]} … {text[-half:].partition(' ')[2]}"


_WAYS_OUT = {
    errno.EACCES: "run this as the user whose folder it is",
    errno.EPERM: "run this as the user whose folder it is",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within the quota",
}


def not_written(path: object, error: OSError) -> str:
    """Describe that a file or folder cannot be written, why, and what to do."""
    way = _WAYS_OUT.get(error.errno or 0, "choose another place")
    return f"{path} cannot be written: {error.strerror}; {way}"


class ReconcilerError(Exception):
    """The root of the tree; its text may be shown."""


class UsageError(ReconcilerError):
    """The command was called wrongly (exit 64)."""


class RepositoryError(ReconcilerError):
    """The checkout cannot be read, or a revision does not exist."""


class NothingImported(ReconcilerError):
    """An import's source is refused as a whole; nothing was changed."""


class NotWritable(ReconcilerError):
    """Files of the worktree cannot be written, or not as requested; none of them was."""


class StateLockedError(ReconcilerError):
    """Another process has locked the state; `who` says which."""

    def __init__(self, who: str) -> None:
        super().__init__(f"{who}: stop it, or leave it to its work")
        self.who = who


class LedgerError(ReconcilerError):
    """The ledger cannot be opened, read or written; nothing was sent."""


class OutdatedError(LedgerError):
    """A server's state has an older schema, and is migrated only once somebody says that it was backed up."""


class LeaseLostError(LedgerError):
    """Another process has leased the services that this one worked on; nothing was written."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__(
            f"another process has taken over {', '.join(services)}: this one was stopped, or cut off from the state, "
            "for too long; it writes and sends nothing more"
        )


class SecretsError(ReconcilerError):
    """Initial data or sealed values cannot be read; the text has the next step."""


class TimestampError(ReconcilerError):
    """A timestamp cannot be had, or does not count; what was to be timestamped stands without it."""


class Blocked(ReconcilerError):
    """A grant cannot run; the text says what is missing, and becomes the grant's reason, with its `cause`."""

    def __init__(self, message: str, cause: Cause | None = None) -> None:
        super().__init__(shortened(message))
        self.cause = cause


class MissingVariable(Blocked):
    """A placeholder names a variable that is unknown or has no value."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"variable {{{{{name}}}}} {why}")
        self.name = name
        self.why = why


class HostNotAllowed(Blocked):
    """A request would go to a host that is not allowed."""


class NotInstalled(Blocked):
    """This machine lacks a program or a driver that a request needs; another may have it."""


class TransportError(ReconcilerError):
    """A request brought no answer.

    `left` says whether any of it can have reached the server: False for a refused connection, True for an answer
    that never came; `cause`, if it is known, who has to do something about it.
    """

    def __init__(self, message: str, *, left: bool, cause: Cause | None = None) -> None:
        super().__init__(shortened(message))
        self.left = left
        self.cause = cause


class Severity(StrEnum):
    """The severity of a problem in a file."""

    ERROR = "error"
    WARNING = "warning"


class Problem(Frozen, order=True):
    """A problem in one file, where it is, and what to do. `line` counts from 1; None if the file has no lines."""

    file: str
    line: int | None
    message: str
    severity: Severity = Severity.ERROR

    def __post_init__(self) -> None:
        """Make the message printable."""
        force_setattr(self, "message", shortened(self.message))

    def __str__(self) -> str:
        return f"{self._place}: {self.severity}: {self.message}"

    @property
    def clause(self) -> str:
        """Return it as part of a sentence, or after a word that says how severe it is."""
        return f"{self._place}: {self.message}"

    @property
    def _place(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @property
    def order(self) -> tuple[str, int, Severity, str]:
        """Return the sort key for lists of problems."""
        return self.file, self.line or 0, self.severity, self.message

    def as_json(self) -> dict[str, object]:
        """The object of docs/commands.md, "JSON"."""
        return {"file": self.file, "line": self.line, "severity": str(self.severity), "message": self.message}


class SettingsError(ReconcilerError):
    """Settings cannot be read; nothing is done until they can. `rev` names whose they are, if not those in force."""

    def __init__(self, problems: list[Problem], rev: str | None = None) -> None:
        whose = "" if rev is None else f"{rev}: "
        super().__init__("\n".join(f"{whose}{problem.clause}" for problem in problems))
        self.problems = problems
