"""Summaries of hires' files, cached from one start to the next by path and blob.

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
    """The summaries of hires' files in one file, beside the state."""

    def __init__(self, file: Path) -> None:
        self._file = PrivateFile(file)

    def load(self) -> dict[str, HireSummary]:
        """The saved summaries by path; empty where the file is missing, damaged, or cannot be trusted."""
        content = self._file.read()
        return {} if content is None else of_rows(json.loads(content))

    def save(self, hires: Iterable[HireSummary]) -> None:
        """Replace the saved summaries, as far as they can be saved: at worst files are parsed again."""
        lasting = (summary for summary in hires if summary.raw is None)
        self._file.write(json.dumps(as_rows(lasting), separators=(",", ":")).encode())


def as_rows(hires: Iterable[HireSummary]) -> tuple[list[Any], list[Any]]:
    """The summaries of files without problems, as JSON has them."""
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
    """The summaries by path that `as_rows` made rows of."""
    lists, rows = saved
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
