"""What was parsed is remembered from one start to the next, by path and blob: files by the thousand are read once.

Only files that are in order and that there is nothing to say about are kept. The file stands in the state's folder; one
that other code wrote, or that a power cut or a full disk left damaged, counts as not there: its first line tells.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from sys import intern

from reconciler.repository.people import Slim

__all__ = ["keep", "recall"]


@cache
def _written_by() -> bytes:
    """A digest of the code that decides whether a file is in order: what another version found does not count."""
    rooms = Path(__file__).parents[1]
    files = sorted(file for room in ("model", "repository") for file in (rooms / room).glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.digest()


def recall(file: Path) -> dict[str, Slim]:
    """What was kept, by path; nothing where there is nothing to be had."""
    try:
        digest, _, content = file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if digest != _digest(content):
        return {}
    lists, rows = json.loads(content)
    integrations = [tuple(map(intern, names)) for names in lists]
    return {
        path: Slim(
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


def keep(file: Path, hires: Iterable[Slim]) -> None:
    """Keep what was parsed; a full disk or a folder that is not there only means that it is parsed again.

    One at a time: the new file has a name of its own until it is whole, the same at each try, so that none is left.
    """
    lists: dict[tuple[str, ...], int] = {}  # few, and many hires have the same
    rows = [
        (
            slim.path,
            slim.blob,
            slim.email,
            slim.sequences,
            slim.knows,
            lists.setdefault(slim.integrations, len(lists)),
        )
        for slim in hires
        if slim.sound and not slim.problems and slim.raw is None
    ]
    content = json.dumps([list(lists), rows], separators=(",", ":")).encode()
    new = file.with_name(f"{file.name}.new")
    with suppress(OSError):
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(_digest(content) + b"\n" + content)
        new.replace(file)


def _digest(content: bytes) -> bytes:
    """What tells that a content is whole and was written by this code."""
    return hashlib.sha256(_written_by() + content).hexdigest().encode()
