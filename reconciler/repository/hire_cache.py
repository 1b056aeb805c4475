"""What was parsed is remembered from one start to the next, by path and blob: files by the thousand are read once.

Only files that are in order and that there is nothing to say about are kept. The file stands in the state's folder. One
that other code or another machine wrote, or that a power cut or a full disk left damaged, counts as not there: its
first line is a MAC under a key that stands beside it, private to this user.
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

from reconciler.repository.hires import HireSummary

__all__ = ["keep", "recall"]

KEY = 32
"""Bytes of the key."""


@cache
def _written_by() -> bytes:
    """A digest of the code that decides whether a file is in order: what another version found does not count."""
    rooms = Path(__file__).parents[1]
    files = sorted(file for room in ("model", "repository") for file in (rooms / room).rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.digest()


def recall(file: Path) -> dict[str, HireSummary]:
    """What was kept, by path; nothing where there is nothing to be had."""
    key, raw = _private(_key_of(file)), _private(file)
    if key is None or raw is None or len(key) != KEY:
        return {}
    mac, _, content = raw.partition(b"\n")
    if not hmac.compare_digest(mac, _mac(key, content)):
        return {}
    lists, rows = json.loads(content)
    integrations = [tuple(map(intern, names)) for names in lists]
    return {
        path: HireSummary(
            path,
            blob,
            True,
            intern(email),
            None,
            tuple(map(intern, sequences)),
            tuple(map(intern, knows)),
            integrations[place],
        )
        for path, blob, email, sequences, knows, place in rows
    }


def keep(file: Path, hires: Iterable[HireSummary]) -> None:
    """Keep what was parsed; a full disk or a folder that is not there only means that it is parsed again.

    One at a time: the new file has a name of its own until it is whole, the same at each try, so that none is left.
    """
    lists: dict[tuple[str, ...], int] = {}  # few, and many hires have the same
    rows = [
        (
            summary.path,
            summary.blob,
            summary.email,
            summary.sequences,
            summary.knows,
            lists.setdefault(summary.integrations, len(lists)),
        )
        for summary in hires
        if summary.sound and not summary.problems and summary.raw is None
    ]
    content = json.dumps([list(lists), rows], separators=(",", ":")).encode()
    new = file.with_name(f"{file.name}.new")
    with suppress(OSError):
        key = _private(_key_of(file))
        if key is None or len(key) != KEY:
            key = secrets.token_bytes(KEY)
            _write(_key_of(file), key)
        _write(new, _mac(key, content) + b"\n" + content)
        new.replace(file)


def _key_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.key")


def _write(file: Path, content: bytes) -> None:
    """Write a new file in the place of one that is there."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)


def _private(file: Path) -> bytes | None:
    """What stands in a file that is this user's alone; None where it is a link, anybody else's, or not there."""
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
    """What tells that a content is whole, and was written here by this code."""
    return hmac.new(key, _written_by() + content, hashlib.sha256).hexdigest().encode()
