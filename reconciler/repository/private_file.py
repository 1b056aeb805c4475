"""A file in the state's folder that only this user can have written: caches are trusted only as such.

Its first line is a MAC under a key in a file beside it that only this user can read. What other code or another machine
wrote, or what was damaged, is ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

HIRES_CACHE = ".reconciler/hires.cache"
"""Where what was parsed is kept from one start to the next, if the folder is there; deleting it costs a slow start."""

VALIDATE_CACHE = ".reconciler/validate.cache"
"""Where `validate` keeps whose files it found in order, likewise."""

KEY_BYTES = 32


class PrivateFile:
    """One file, and its key in a file beside it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._new = file.with_name(f"{file.name}.new")
        self._key = file.with_name(f"{file.name}.key")

    def read(self) -> bytes | None:
        """Return the content; None if the file is missing, damaged, or not trusted."""
        key, raw = _private(self._key), _private(self._file)
        if key is None or raw is None or len(key) != KEY_BYTES:
            return None
        mac, _, content = raw.partition(b"\n")
        return content if hmac.compare_digest(mac, _mac(key, content)) else None

    def write(self, content: bytes) -> None:
        """Replace the content. An OSError is ignored: a cache only saves time.

        The new file has one fixed name until it is complete, so that failed tries leave at most one file behind.
        """
        with suppress(OSError):
            key = _private(self._key)
            if key is None or len(key) != KEY_BYTES:
                key = secrets.token_bytes(KEY_BYTES)
                _write(self._key, key)
            _write(self._new, _mac(key, content) + b"\n" + content)
            self._new.replace(self._file)

    def remove(self) -> None:
        """Remove the content, and what a failed attempt to replace it left."""
        for file in (self._file, self._new):
            file.unlink(missing_ok=True)


@cache
def _written_by() -> bytes:
    """Return a digest of the program: what another version wrote is ignored."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()


def _write(file: Path, content: bytes) -> None:
    """Write a new file, removing an existing one."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)


def _private(file: Path) -> bytes | None:
    """Read a file that only this user can read; None if it is no file, a link, another user's, or missing."""
    with suppress(OSError), open(file, "rb", opener=_not_followed) as opened:
        found = os.fstat(opened.fileno())
        if stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077 and found.st_uid == os.geteuid():
            return opened.read()
    return None


def _not_followed(file: str, flags: int) -> int:
    """Open a file, not what it links to; never wait for another end of it."""
    return os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _mac(key: bytes, content: bytes) -> bytes:
    """Return the MAC of a content that this program wrote."""
    return hmac.new(key, _written_by() + content, hashlib.sha256).hexdigest().encode()
