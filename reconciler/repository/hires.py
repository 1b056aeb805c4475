"""The hires of a revision, of which there may be very many: an index of all, and each file parsed when asked for.

What has to be known of everybody at once (addresses, who names whom, what is broken) stands in the index, a few hundred
bytes a hire; a whole hire is parsed again from its blob in less time than it takes to ask a service about it. From one
commit to the next the index is brought up to date by what git says has changed. An index never changes once it is made:
a pass that is under way keeps the one it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from sys import intern
from typing import TYPE_CHECKING

from reconciler.model.errors import Problem

if TYPE_CHECKING:
    from reconciler.model.hire import Hire
    from reconciler.repository.files import Loaded

__all__ = ["HireSummary", "Hires", "Index", "Whole"]

KEPT = 16_384
"""So many whole hires and access entries are kept at hand; the files of all others are parsed when they are asked for.

The first ones that come stay: passes go over everybody in turn, and whoever made room for the next would be missed in
the next round, everybody in every round.
"""


@dataclass(frozen=True, slots=True)
class HireSummary:
    """What is remembered of every hire's file.

    `sound` says that the file itself is in order; `knows` are the hires that it names as manager or buddy,
    `integrations` those of its own entries, shared by all who have the same. `raw` is kept where the file may be
    another one when it is read again.
    """

    path: str
    blob: str
    sound: bool
    email: str | None = None
    email_line: int | None = None
    sequences: tuple[str, ...] = ()
    knows: tuple[str, ...] = ()
    integrations: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    raw: bytes | None = field(default=None, repr=False)

    @property
    def stem(self) -> str:
        """The hire's id."""
        return self.path.rpartition("/")[2].rpartition(".")[0]


class Index:
    """Every hire's file by path, and the few ways in which they meet."""

    def __init__(self, files: Iterable[HireSummary] = ()) -> None:
        self.paths: dict[str, HireSummary] = {}
        self._stems = _Groups()
        self._owners = _Groups()
        self._known_by: dict[str, set[str]] = {}
        self._own: set[str] = set()
        """The keys of `_known_by` whose set is this index's own, and not shared with the one it was made from."""
        self._troubled: set[str] = set()
        for summary in files:
            self._add(summary)

    def updated(self, gone: Iterable[str], new: Iterable[HireSummary]) -> Index:
        """Another index, in which these paths are gone and these files are there."""
        index = Index()
        for name in ("paths", "_stems", "_owners", "_known_by", "_troubled"):
            setattr(index, name, getattr(self, name).copy())
        for path in gone:
            index._remove(path)
        for summary in new:
            index._remove(summary.path)
            index._add(summary)
        return index

    def _add(self, summary: HireSummary) -> None:
        self.paths[summary.path] = summary
        self._stems.join(summary.stem, summary.path)
        if summary.email is not None:
            self._owners.join(intern(summary.email.lower()), summary.path)
        for other in summary.knows:
            self._known(other).add(summary.path)
        if summary.problems:
            self._troubled.add(summary.path)

    def _remove(self, path: str) -> None:
        summary = self.paths.pop(path, None)
        if summary is None:
            return
        self._stems.part(summary.stem, path)
        if summary.email is not None:
            self._owners.part(summary.email.lower(), path)
        for other in summary.knows:
            self._known(other).discard(path)
        self._troubled.discard(path)

    def _known(self, hire: str) -> set[str]:
        """The set of those who name a hire, to be changed."""
        if hire not in self._own:
            self._own.add(hire)
            self._known_by[hire] = set(self._known_by.get(hire, ()))
        return self._known_by[hire]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stems.first)

    def __contains__(self, stem: object) -> bool:
        return stem in self._stems.first

    def __len__(self) -> int:
        return len(self._stems.first)

    def file(self, stem: str) -> HireSummary:
        """The file of a hire. Raises KeyError."""
        return self.paths[self._stems.first[stem]]

    def known_by(self, hires: Iterable[str]) -> set[str]:
        """Everybody who names one of these as manager or buddy."""
        return {self.paths[path].stem for hire in hires for path in self._known_by.get(hire, ())}

    def owner(self, email: str) -> str | None:
        """Whose address this is, without regard to case."""
        path = self._owners.first.get(email.lower())
        return None if path is None else self.paths[path].stem

    def troubled(self) -> list[HireSummary]:
        """The files that there is something to say about."""
        return [self.paths[path] for path in sorted(self._troubled)]

    def twins(self) -> dict[str, tuple[str, ...]]:
        """Stems that several files have."""
        return dict(sorted(self._stems.several.items()))

    def shared(self) -> list[tuple[str, ...]]:
        """Files that have one address between them."""
        return [paths for _, paths in sorted(self._owners.several.items())]

    @cached_property
    def sequences(self) -> frozenset[str]:
        """Every sequence that somebody names."""
        return frozenset(name for summary in self.paths.values() for name in summary.sequences)


class _Groups:
    """Paths by what they have in common, which is nearly always one path's own; `several` has the others, sorted."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        self.several: dict[str, tuple[str, ...]] = {}

    def copy(self) -> _Groups:
        """Another one, to be changed."""
        groups = _Groups()
        groups.first, groups.several = self.first.copy(), self.several.copy()
        return groups

    def join(self, key: str, path: str) -> None:
        """Add a path."""
        if key in self.first:
            self._set(key, {*self._of(key), path})
        else:
            self.first[key] = path

    def part(self, key: str, path: str) -> None:
        """Take a path away that is there."""
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


class Whole:
    """Whole hires by id, as far as there is room for them."""

    def __init__(self) -> None:
        self._hires: dict[str, Loaded[Hire]] = {}
        self._room = KEPT

    def get(self, stem: str) -> Loaded[Hire] | None:
        """A hire that is kept."""
        return self._hires.get(stem)

    def keep(self, loaded: Loaded[Hire]) -> None:
        """Keep a hire, where there is room."""
        if self._room > 0:
            self._hires[loaded.stem] = loaded
            self._room -= 1 + len(loaded.model.access)


class Hires(Mapping[str, "Loaded[Hire]"]):
    """The hires whose file is in order, by id; each parsed when it is asked for."""

    def __init__(
        self,
        index: Index,
        broken: Mapping[str, object],
        parse: Callable[[HireSummary], Loaded[Hire]],
        kept: Whole,
    ) -> None:
        self.index = index
        self._broken = broken
        self._parse = parse
        self._kept = kept

    def __getitem__(self, stem: str) -> Loaded[Hire]:
        file = self.file(stem)
        if file is None:
            raise KeyError(stem)
        kept = self._kept.get(stem)
        if kept is None:
            kept = self._parse(file)
            self._kept.keep(kept)
        return kept

    def file(self, stem: str) -> HireSummary | None:
        """What is remembered of a hire's file, where it is in order."""
        return self.index.file(stem) if stem in self else None

    def __contains__(self, stem: object) -> bool:
        return stem in self.index and stem not in self._broken

    def __iter__(self) -> Iterator[str]:
        return (stem for stem in self.index if stem not in self._broken)

    def __len__(self) -> int:
        return sum(1 for _ in self)
