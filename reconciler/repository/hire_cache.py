"""Summaries of hires' files, cached from one start to the next by path and blob.

Only files without problems are cached. The cache is a file in the state's folder. Its first line is a MAC under a key
in a file beside it that only this user can read: a cache that other code or another machine wrote, or that was damaged,
is ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from sys import intern

from reconciler.repository.hire_index import HireSummary

__all__ = ["HireCache"]

KEY_BYTES = 32


@cache
def _written_by() -> bytes:
    """A digest of the code that checks files: a cache that another version wrote is ignored."""
    rooms = Path(__file__).parents[1]
    files = sorted(file for room in ("model", "repository") for file in (rooms / room).rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.digest()


class HireCache:
    """The summaries of hires' files in one file, beside the state."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> dict[str, HireSummary]:
        """The saved summaries by path; empty where the file is missing, damaged, or cannot be trusted."""
        key, raw = _private(_key_of(self._file)), _private(self._file)
        if key is None or raw is None or len(key) != KEY_BYTES:
            return {}
        mac, _, content = raw.partition(b"\n")
        if not hmac.compare_digest(mac, _mac(key, content)):
            return {}
        lists, rows = json.loads(content)
        integrations = [tuple(map(intern, names)) for names in lists]
        return {
            path: HireSummary(
                path=path,
                blob=blob,
                valid=True,
                email=intern(email),
                sequences=tuple(map(intern, sequences)),
                references=tuple(map(intern, references)),
                integrations=integrations[place],
            )
            for path, blob, email, sequences, references, place in rows
        }

    def save(self, hires: Iterable[HireSummary]) -> None:
        """Replace the saved summaries. An OSError is ignored: the files are parsed again at the next start.

        The new file has one fixed name until it is complete, so that failed tries leave at most one file behind.
        """
        lists: dict[tuple[str, ...], int] = {}  # few, and many hires have the same
        rows = [
            (
                summary.path,
                summary.blob,
                summary.email,
                summary.sequences,
                summary.references,
                lists.setdefault(summary.integrations, len(lists)),
            )
            for summary in hires
            if summary.valid and not summary.problems and summary.raw is None
        ]
        content = json.dumps([list(lists), rows], separators=(",", ":")).encode()
        new = self._file.with_name(f"{self._file.name}.new")
        with suppress(OSError):
            key = _private(_key_of(self._file))
            if key is None or len(key) != KEY_BYTES:
                key = secrets.token_bytes(KEY_BYTES)
                _write(_key_of(self._file), key)
            _write(new, _mac(key, content) + b"\n" + content)
            new.replace(self._file)


def _key_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.key")


def _write(file: Path, content: bytes) -> None:
    """Write a file anew, removing one that exists."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)


def _private(file: Path) -> bytes | None:
    """The content of a file that only this user can read; None where it is a link, another user's, or missing."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
            return None
        with suppress(OSError):
            return opened.read()
    return None


def _mac(key: bytes, content: bytes) -> bytes:
    """The MAC of a content that this code wrote."""
    return hmac.new(key, _written_by() + content, hashlib.sha256).hexdigest().encode()
