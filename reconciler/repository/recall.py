"""What was parsed is remembered from one start to the next, by path and blob: files by the thousand are read once.

Only files that are in order and that there is nothing to say about are kept. The file stands in the state's folder; one
that was written by other code, or cannot be read, counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from sys import intern

from reconciler.repository.people import Slim

__all__ = ["keep", "recall"]


@cache
def _written_by() -> str:
    """A digest of the code that decides whether a file is in order: what another version found does not count."""
    rooms = Path(__file__).parents[1]
    files = sorted(file for room in ("model", "repository") for file in (rooms / room).glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def recall(file: Path) -> dict[str, Slim]:
    """What was kept, by path; nothing where there is nothing to be had."""
    try:
        kept = json.loads(file.read_bytes())
        if kept["written_by"] != _written_by():
            return {}
        return {
            path: Slim(path, blob, True, email, None, tuple(map(intern, sequences)), tuple(map(intern, knows)))
            for path, blob, email, sequences, knows in kept["hires"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def keep(file: Path, hires: Iterable[Slim]) -> None:
    """Keep what was parsed; a full disk or a folder that is not there only means that it is parsed again."""
    rows = [
        (slim.path, slim.blob, slim.email, slim.sequences, slim.knows)
        for slim in hires
        if slim.sound and not slim.problems and slim.raw is None
    ]
    content = json.dumps({"written_by": _written_by(), "hires": rows}, separators=(",", ":"))
    with suppress(OSError):
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
        try:
            with os.fdopen(descriptor, "w") as opened:
                opened.write(content)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)
