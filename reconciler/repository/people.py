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
from typing import TYPE_CHECKING

from reconciler.model.errors import Problem

if TYPE_CHECKING:
    from reconciler.model.hire import Hire
    from reconciler.repository.files import Loaded

__all__ = ["KEPT", "Index", "People", "Slim"]

KEPT = 1024
"""So many whole hires are kept at hand."""


@dataclass(frozen=True, slots=True)
class Slim:
    """What is remembered of every hire's file.

    `sound` says that the file itself is in order; `knows` are the hires that it names as manager or buddy. `raw` is
    kept where the file may be another one when it is read again.
    """

    path: str
    blob: str
    sound: bool
    email: str | None = None
    email_line: int | None = None
    sequences: tuple[str, ...] = ()
    knows: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    raw: bytes | None = field(default=None, repr=False)

    @property
    def stem(self) -> str:
        """The hire's id."""
        return self.path.rpartition("/")[2].rpartition(".")[0]


class Index:
    """Every hire's file by path, and the few ways in which they meet."""

    def __init__(self, files: Iterable[Slim] = ()) -> None:
        self.paths: dict[str, Slim] = {}
        self._stems: dict[str, tuple[str, ...]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}
        self._known_by: dict[str, set[str]] = {}
        self._own: set[str] = set()
        """The keys of `_known_by` whose set is this index's own, and not shared with the one it was made from."""
        self._troubled: set[str] = set()
        self._twins: set[str] = set()
        self._shared: set[str] = set()
        for slim in files:
            self._add(slim)

    def updated(self, gone: Iterable[str], new: Iterable[Slim]) -> Index:
        """Another index, in which these paths are gone and these files are there."""
        index = Index()
        for name in ("paths", "_stems", "_owners", "_known_by", "_troubled", "_twins", "_shared"):
            setattr(index, name, getattr(self, name).copy())
        for path in gone:
            index._remove(path)
        for slim in new:
            index._remove(slim.path)
            index._add(slim)
        return index

    def _add(self, slim: Slim) -> None:
        self.paths[slim.path] = slim
        _join(self._stems, slim.stem, slim.path, self._twins)
        if slim.email is not None:
            _join(self._owners, slim.email.lower(), slim.path, self._shared)
        for other in slim.knows:
            self._known(other).add(slim.path)
        if slim.problems:
            self._troubled.add(slim.path)

    def _remove(self, path: str) -> None:
        slim = self.paths.pop(path, None)
        if slim is None:
            return
        _part(self._stems, slim.stem, path, self._twins)
        if slim.email is not None:
            _part(self._owners, slim.email.lower(), path, self._shared)
        for other in slim.knows:
            self._known(other).discard(path)
        self._troubled.discard(path)

    def _known(self, hire: str) -> set[str]:
        """The set of those who name a hire, to be changed."""
        if hire not in self._own:
            self._own.add(hire)
            self._known_by[hire] = set(self._known_by.get(hire, ()))
        return self._known_by[hire]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stems)

    def __contains__(self, stem: object) -> bool:
        return stem in self._stems

    def __len__(self) -> int:
        return len(self._stems)

    def file(self, stem: str) -> Slim:
        """The file of a hire. Raises KeyError."""
        return self.paths[self._stems[stem][0]]

    def known_by(self, hires: Iterable[str]) -> set[str]:
        """Everybody who names one of these as manager or buddy."""
        return {self.paths[path].stem for hire in hires for path in self._known_by.get(hire, ())}

    def owner(self, email: str) -> str | None:
        """Whose address this is, without regard to case."""
        paths = self._owners.get(email.lower())
        return self.paths[paths[0]].stem if paths else None

    def troubled(self) -> list[Slim]:
        """The files that there is something to say about."""
        return [self.paths[path] for path in sorted(self._troubled)]

    def twins(self) -> dict[str, tuple[str, ...]]:
        """Stems that several files have."""
        return {stem: self._stems[stem] for stem in sorted(self._twins)}

    def shared(self) -> list[tuple[str, ...]]:
        """Files that have one address between them."""
        return [self._owners[email] for email in sorted(self._shared)]

    @cached_property
    def sequences(self) -> frozenset[str]:
        """Every sequence that somebody names."""
        return frozenset(name for slim in self.paths.values() for name in slim.sequences)


def _join(groups: dict[str, tuple[str, ...]], key: str, path: str, several: set[str]) -> None:
    groups[key] = tuple(sorted({*groups.get(key, ()), path}))
    if len(groups[key]) > 1:
        several.add(key)


def _part(groups: dict[str, tuple[str, ...]], key: str, path: str, several: set[str]) -> None:
    left = tuple(other for other in groups[key] if other != path)
    if left:
        groups[key] = left
    else:
        del groups[key]
    if len(left) < 2:
        several.discard(key)


class People(Mapping[str, "Loaded[Hire]"]):
    """The hires whose file is in order, by id; each parsed when it is asked for."""

    def __init__(
        self,
        index: Index,
        broken: Mapping[str, object],
        parse: Callable[[Slim], Loaded[Hire]],
        kept: dict[str, Loaded[Hire]],
    ) -> None:
        self.index = index
        self._broken = broken
        self._parse = parse
        self._kept = kept

    def __getitem__(self, stem: str) -> Loaded[Hire]:
        kept = self._kept.get(stem)
        if kept is None:
            if stem not in self:
                raise KeyError(stem)
            kept = self._parse(self.index.file(stem))
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[stem] = kept
        return kept

    def __contains__(self, stem: object) -> bool:
        return stem in self.index and stem not in self._broken

    def __iter__(self) -> Iterator[str]:
        return (stem for stem in self.index if stem not in self._broken)

    def __len__(self) -> int:
        return sum(1 for _ in self)
