"""Where a state may be: in a folder that nobody else writes to, in files that are files.

A user who can write there decides what was done and for whom; a link leads wherever its owner wants.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reconciler.model.errors import LedgerError

__all__ = ["FILES", "make_folder", "refuse_unsafe"]

FILES = ("", "-wal", "-shm", "-journal", ".lock")
"""What a state consists of: the endings of its files' names."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


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
