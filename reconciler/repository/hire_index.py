"""The index of all hires' files: addresses, references and errors, a few hundred bytes a hire; and its cache.

From one commit to the next, the index is updated by the paths that git reports as changed. An index is immutable: a
running pass keeps the one that it began with. The files without problems are saved from one start to the next, in a
file in the state's folder that only this user can have written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import repeat
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

from reconciler.model.errors import Problem
from reconciler.model.text import folded
from reconciler.model.value import replace
from reconciler.repository.private_file import PrivateFile


def stem_of(path: str) -> str:
    """Return the stem of a file that has an ending; in a tenth of the time that the standard library takes."""
    return path.rpartition("/")[2].rpartition(".")[0]


class HireSummary(NamedTuple):
    """What is kept of every hire's file.

    `valid` says that the file itself passes its checks; `references` are the hires that it names as manager or buddy;
    `integrations` are those of its own entries, one tuple shared by all hires that have the same. `raw` is set where
    the file's content may have changed by the time it is read again.
    """

    path: str
    blob: str
    valid: bool
    email: str | None = None
    email_line: int | None = None
    sequences: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    integrations: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    raw: bytes | None = None

    @property
    def stem(self) -> str:
        """Return the hire's id."""
        return stem_of(self.path)

    def renamed(self, path: str) -> HireSummary:
        """Return the same content under another name."""
        return self._replace(path=path, problems=tuple(replace(problem, file=path) for problem in self.problems))


class HireIndex:
    """All hires' files by path, and what they share: a stem, an address, a reference to one hire."""

    def __init__(self, paths: dict[str, HireSummary] | None = None) -> None:
        self.paths = {} if paths is None else paths
        self._stems = _Groups((stem_of(path), path) for path in self.paths)
        self._owners = _Groups(
            (_as_compared(summary.email), path) for path, summary in self.paths.items() if summary.email is not None
        )
        self._referrers: dict[str, set[str]] = {}
        self._unshared: set[str] = set()
        """The keys of `_referrers` whose set belongs to this index, and not also to the one it was made from."""
        self._with_problems = {path for path, summary in self.paths.items() if summary.problems}
        for path, summary in self.paths.items():
            if summary.references:
                self._refer(summary.references, path)

    def updated(self, gone: Iterable[str], new: Iterable[HireSummary]) -> HireIndex:
        """Return a new index, without the paths in `gone` and with the files in `new`."""
        index = HireIndex()
        for name in ("paths", "_stems", "_owners", "_referrers", "_with_problems"):
            setattr(index, name, getattr(self, name).copy())
        for path in gone:
            index._remove(path)
        for summary in new:
            index._remove(summary.path)
            index._add(summary)
        return index

    def _add(self, summary: HireSummary) -> None:
        self.paths[summary.path] = summary
        self._stems.add(summary.stem, summary.path)
        if summary.email is not None:
            self._owners.add(_as_compared(summary.email), summary.path)
        self._refer(summary.references, summary.path)
        if summary.problems:
            self._with_problems.add(summary.path)

    def _remove(self, path: str) -> None:
        summary = self.paths.pop(path, None)
        if summary is None:
            return
        self._stems.remove(summary.stem, path)
        if summary.email is not None:
            self._owners.remove(_as_compared(summary.email), path)
        for other in summary.references:
            self._own_referrers(other).discard(path)
        self._with_problems.discard(path)

    def _refer(self, hires: Iterable[str], path: str) -> None:
        for hire in hires:
            self._own_referrers(hire).add(path)

    def _own_referrers(self, hire: str) -> set[str]:
        """Return the paths that reference a hire, as a set that may be changed."""
        if hire not in self._unshared:
            self._unshared.add(hire)
            self._referrers[hire] = set(self._referrers.get(hire, ()))
        return self._referrers[hire]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stems.first)

    def __contains__(self, stem: object) -> bool:
        return stem in self._stems.first

    def __len__(self) -> int:
        return len(self._stems.first)

    def file(self, stem: str) -> HireSummary:
        """Return the file of a hire. Raises KeyError."""
        return self.paths[self._stems.first[stem]]

    def referrers(self, hires: Iterable[str]) -> set[str]:
        """Return the hires that name one of these as manager or buddy."""
        return {stem_of(path) for hire in hires for path in self._referrers.get(hire, ())}

    def owner(self, email: str) -> str | None:
        """Return the id of the hire that has this address, in whatever spelling."""
        path = self._owners.first.get(_as_compared(email))
        return None if path is None else stem_of(path)

    def with_problems(self) -> list[HireSummary]:
        """Return the files that have problems, sorted by path."""
        return [self.paths[path] for path in sorted(self._with_problems)]

    def shared_stems(self) -> dict[str, tuple[str, ...]]:
        """Return stems that several files have, with their paths."""
        return dict(sorted(self._stems.several.items()))

    def shared_addresses(self) -> list[tuple[str, ...]]:
        """Return the paths of files with the same address, one tuple for each address."""
        return [paths for _, paths in sorted(self._owners.several.items())]

    @cached_property
    def sequences(self) -> frozenset[str]:
        """Return every sequence that a hire names."""
        return frozenset(name for summary in self.paths.values() for name in summary.sequences)


def _as_compared(email: str) -> str:
    """Return the address that all its spellings share; it is the same object if it is spelled so."""
    shared = folded(email)
    return email if shared == email else shared


class _Groups:
    """Paths by key; most keys have one path, and `several` has the others, with sorted paths."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.first: dict[str, str] = {}
        self.several: dict[str, tuple[str, ...]] = {}
        for key, path in pairs:
            if self.first.setdefault(key, path) is not path:
                self.add(key, path)

    def copy(self) -> _Groups:
        """Return a copy that may be changed."""
        groups = _Groups()
        groups.first, groups.several = self.first.copy(), self.several.copy()
        return groups

    def add(self, key: str, path: str) -> None:
        """Add a path."""
        if key in self.first:
            self._set(key, {*self._of(key), path})
        else:
            self.first[key] = path

    def remove(self, key: str, path: str) -> None:
        """Remove a key's path."""
        self._set(key, {*self._of(key)} - {path})

    def _of(self, key: str) -> tuple[str, ...]:
        return self.several.get(key) or (self.first[key],)

    def _set(self, key: str, paths: set[str]) -> None:
        self.several.pop(key, None)
        if not paths:
            del self.first[key]
            return
        self.first[key] = min(paths)
        if len(paths) > 1:
            self.several[key] = tuple(sorted(paths))


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
