"""Cache summaries of hires' files, by path and blob, from one start to the next.

Only files without problems are cached, in a file in the state's folder that only this user can have written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from sys import intern
from typing import Any

from reconciler.repository.hire_index import HireSummary
from reconciler.repository.private_file import PrivateFile

__all__ = ["HireCache", "as_rows", "of_rows"]


class HireCache:
    """The summaries in one file, beside the state."""

    def __init__(self, file: Path) -> None:
        self._file = PrivateFile(file)

    def load(self) -> dict[str, HireSummary]:
        """Return the saved summaries by path; empty if the file is missing, damaged, or not trusted."""
        content = self._file.read()
        return {} if content is None else of_rows(json.loads(content))

    def save(self, hires: Iterable[HireSummary]) -> None:
        """Replace the saved summaries if possible: at worst files are parsed again."""
        lasting = (summary for summary in hires if summary.raw is None)
        self._file.write(json.dumps(as_rows(lasting), separators=(",", ":")).encode())


def as_rows(hires: Iterable[HireSummary]) -> tuple[list[Any], list[Any]]:
    """Return the summaries of files without problems, as JSON values."""
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
        if summary.valid and not summary.problems
    ]
    return list(lists), rows


def of_rows(saved: Any) -> dict[str, HireSummary]:
    """Read what `as_rows` returned, by path."""
    lists, rows = saved
    integrations = [tuple(map(intern, names)) for names in lists]
    return {
        path: HireSummary(
            path,
            blob,
            valid=True,
            email=intern(email),
            sequences=tuple(map(intern, sequences)) if sequences else (),
            references=tuple(map(intern, references)) if references else (),
            integrations=integrations[place],
        )
        for path, blob, email, sequences, references, place in rows
    }
