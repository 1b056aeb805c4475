"""The lock of a SQLite state: one process at a time; the kernel releases it when that process dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from reconciler.ledger.sqlite.permissions import make_folder, refuse_unsafe
from reconciler.model.clock import stamp
from reconciler.model.errors import LedgerError, StateLockedError
from reconciler.model.failpoints import Failpoint, Reached, unwatched

__all__ = ["AGAIN_SECONDS", "StateLock", "open_lock", "try_lock"]

AGAIN_SECONDS = 0.02
"""Between two tries to take a lock."""


class StateLock:
    """The lock of one state, in a file beside it."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._path = state.with_name(state.name + ".lock")

    @contextmanager
    def acquire(self, command: str, now: datetime, reached: Reached = unwatched) -> Iterator[None]:
        """Lock the state while the block runs.

        Raises StateLockedError at once, naming the process that has locked it.
        """
        path = self._path
        refuse_unsafe(self._state)
        descriptor = open_lock(path)
        try:
            if not _take(descriptor):
                raise StateLockedError(f"the state {self._state} is held by {_who(path)}")
            reached(Failpoint.LOCK, done=False)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": stamp(now)}
            with suppress(OSError):  # the kernel has the lock; on a full disk, only its owner is not named
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(who).encode(), 0)
            reached(Failpoint.LOCK, done=True)
            yield
        finally:
            os.close(descriptor)

    def owner(self) -> str | None:
        """Name the process that has locked the state; None if none has. Changes nothing."""
        path = self._path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _who(path)
        finally:
            os.close(descriptor)
        return None


def open_lock(path: Path) -> int:
    """Open the file of a lock; create it, private to its owner, if it does not exist."""
    try:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with suppress(PermissionError):  # another user's file, perhaps from a backup; it only names a process
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}: the state's folder has to be writable") from error
    return descriptor


def _take(descriptor: int) -> bool:
    """Take the lock, in a few tries, because `owner` takes it for a moment."""
    for _ in range(5):
        if try_lock(descriptor):
            return True
        time.sleep(AGAIN_SECONDS)
    return False


def try_lock(descriptor: int) -> bool:
    """Take a lock, which lasts until the file is closed; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(path: Path) -> str:
    try:
        who = json.loads(path.read_text())
        return f"`{who['command']}` (process {who['pid']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
