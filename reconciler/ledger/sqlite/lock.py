"""The lock of a SQLite state, and where it may be.

One process at a time has the state; the kernel releases the lock when that process dies. The state is in a folder that
nobody else writes to, in files that are files: a user who can write there decides what was done and for whom, and a
link leads wherever its owner wants.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from reconciler.model.clock import stamp
from reconciler.model.errors import LedgerError, StateLockedError, TransportError
from reconciler.model.failpoints import Failpoint, Reached, unwatched

FILES = ("", "-wal", "-shm", "-journal", ".lock")
"""What a state consists of: the endings of its files' names."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH

AGAIN_SECONDS = 0.02
"""Between two tries to take a lock."""

PATIENCE = timedelta(seconds=30)
"""How long to wait for another process: as long as a request may take by default."""


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
        descriptor = _open_lock(path)
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


@asynccontextmanager
async def renewal_lock(state: Path, name: str) -> AsyncIterator[None]:
    """Be the only process that renews the tokens of this name while the block runs.

    A refresh token may serve once: two processes that spend it at the same time lose the connection. An import renews
    tokens beside the process that has locked the state, so each renewal has a lock of its own, which all take. Raises
    TransportError if another one does for longer than `PATIENCE`.
    """
    import asyncio  # a command that reads has no loop

    descriptor = _open_lock(state.with_name(f"{state.name}.{sha256(name.encode()).hexdigest()[:16]}.lock"))
    try:
        last = time.monotonic() + PATIENCE.total_seconds()
        while not _try_lock(descriptor):
            if time.monotonic() > last:
                raise TransportError("another process has been renewing it for too long", left=False)
            await asyncio.sleep(AGAIN_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
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
        if _try_lock(descriptor):
            return True
        time.sleep(AGAIN_SECONDS)
    return False


def _try_lock(descriptor: int) -> bool:
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


def refuse_unsafe(state: Path) -> None:
    """Raise LedgerError, with what to do, where the state's folder or a file of it is not this user's alone."""
    folder = state.parent
    found = _look(folder)
    if found is None:
        return
    if stat.S_ISLNK(found.st_mode):
        raise LedgerError(
            f"the state's folder {folder} is a link to {folder.readlink()}: name that folder itself in `state`, or "
            f"remove the link (rm {folder})"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise LedgerError(f"the state's folder {folder} is no folder: remove it, or name another place in `state`")
    _refuse_stranger(folder, found)
    if found.st_mode & _OTHERS:
        raise LedgerError(
            f"the state's folder {folder} can be written to by others (mode {stat.S_IMODE(found.st_mode):04o}): keep "
            f"the state in a folder of its own, and take their right away (chmod 700 {folder})"
        )
    for ending in FILES:
        file = state.with_name(state.name + ending)
        found = _look(file)
        if found is None:
            continue
        if not stat.S_ISREG(found.st_mode):
            what = "a link" if stat.S_ISLNK(found.st_mode) else "no file"
            raise LedgerError(f"the state's {file} is {what}: remove it (rm {file}); bring a state back from a backup")
        _refuse_stranger(file, found)


def make_folder(folder: Path) -> None:
    """Make a state's folder where it is not there: its owner's alone, and ignored by git. Raises OSError.

    A `git add` of everything would otherwise commit who has what, and the next pass be refused for it.
    """
    if folder.exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as ignored:
        ignored.write("*\n")


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}: the state's folder has to be readable") from error


def _refuse_stranger(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise LedgerError(
            f"the state's {path} belongs to another user ({found.st_uid}), who can change it: run as that user, or "
            f"make it this user's (chown {os.geteuid()} {path})"
        )
