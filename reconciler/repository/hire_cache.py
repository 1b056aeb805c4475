"""Save the summaries of a revision's hires' files from one start to the next.

Only files without problems are saved, in a file in the state's folder that only this user can have written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

from reconciler.repository.hire_index import HireSummary
from reconciler.repository.private_file import PrivateFile

__all__ = ["NOTHING", "HireCache", "SavedHires", "as_columns", "of_columns"]


class SavedHires(NamedTuple):
    """The summaries of a revision's files by path, in their order there; `left_out` are the paths of its other files.

    A `revision` of None is none that is in git.
    """

    revision: str | None
    summaries: Mapping[str, HireSummary]
    left_out: frozenset[str] = frozenset()


NOTHING = SavedHires(None, {})


class HireCache:
    """The summaries in one file, beside the state."""

    def __init__(self, file: Path) -> None:
        self._file = PrivateFile(file)

    def load(self) -> SavedHires:
        """Return what was saved; `NOTHING` if the file is missing, damaged, or not trusted."""
        content = self._file.read()
        if content is None:
            return NOTHING
        revision, left_out, hires = json.loads(content)
        return SavedHires(revision, of_columns(hires), frozenset(left_out))

    def save(self, revision: str | None, hires: Iterable[HireSummary], misnamed: Iterable[str] = ()) -> None:
        """Replace what was saved if possible: at worst files are parsed again. `misnamed` are files that are not read.

        Without a revision, or where a file's content is not git's, each file is looked at again.
        """
        found = sorted(hires)
        columns = as_columns(summary for summary in found if summary.raw is None)
        left_out = {summary.path for summary in found}.difference(columns[1]).union(misnamed)
        saved = (revision, sorted(left_out), columns)
        self._file.write(json.dumps(saved, separators=(",", ":")).encode())


def as_columns(hires: Iterable[HireSummary]) -> tuple[list[Any], ...]:
    """Return the summaries of files without problems, as JSON values.

    They are a list for each field, which takes a third of the time of a list for each file to read.
    """
    lists: dict[tuple[str, ...], int] = {}  # few, and many hires have the same
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
    for summary in hires:
        if not summary.valid or summary.problems:
            continue
        named = (summary.sequences, summary.references, summary.integrations)
        places = (lists.setdefault(each, len(lists)) for each in named)
        for column, value in zip(columns, (summary.path, summary.blob, summary.email, *places), strict=True):
            column.append(value)
    return list(lists), *columns


def of_columns(saved: Any) -> dict[str, HireSummary]:
    """Read what `as_columns` returned, by path."""
    lists, paths, blobs, emails, *places = saved
    shared = [tuple(map(intern, names)) for names in lists]
    sequences, references, integrations = (map(shared.__getitem__, column) for column in places)
    valid, no_line, no_problems, no_raw = repeat(True), repeat(None), repeat(()), repeat(None)
    fields = (paths, blobs, valid, emails, no_line, sequences, references, integrations, no_problems, no_raw)
    return dict(zip(paths, map(HireSummary._make, zip(*fields, strict=False)), strict=True))
