"""Replace a file as a whole: it has its old content or its new one, also after a crash."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def written_beside(path: Path, content: bytes, mode: int | None = None) -> Path:
    """Write a file that is to be renamed to its place, and have it on the disk. Raises OSError.

    Without a `mode` it has that of the file that is there.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is None and path.exists():
                os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(handle)
    except BaseException:  # Ctrl-C too: nobody else knows of the file yet
        temporary.unlink()
        raise
    return temporary


def settle(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
