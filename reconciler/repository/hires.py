"""The hires of a revision as a mapping; a file is parsed when it is needed, because there may be very many.

A hire is parsed again from its blob in less time than a service takes to answer a request, so only some are kept in
memory. What concerns all hires at once comes from the index.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping

from reconciler.model.hire import Hire
from reconciler.repository.documents.loaded import Loaded
from reconciler.repository.hire_index import HireIndex, HireSummary

__all__ = ["Hires", "ParsedHires"]

MAX_PARSED = 16_384
"""How many hires and access entries are kept parsed in memory.

The first ones stay: a pass goes over all hires in turn, and with the oldest evicted each round would miss them all.
"""


class ParsedHires:
    """Parsed hires by id, up to `MAX_PARSED`."""

    def __init__(self) -> None:
        self._hires: dict[str, Loaded[Hire]] = {}
        self._room = MAX_PARSED

    def get(self, stem: str) -> Loaded[Hire] | None:
        """Return a cached hire, or None."""
        return self._hires.get(stem)

    def add(self, loaded: Loaded[Hire]) -> None:
        """Cache a hire, if there is room."""
        if self._room > 0:
            self._hires[loaded.stem] = loaded
            self._room -= 1 + len(loaded.model.access)


class Hires(Mapping[str, Loaded[Hire]]):
    """The hires whose file can be used, by id. `broken` are the ids of other files."""

    def __init__(
        self,
        index: HireIndex,
        broken: Mapping[str, object],
        parse: Callable[[HireSummary], Loaded[Hire]],
        parsed: ParsedHires,
    ) -> None:
        self._index = index
        self._broken = broken
        self._parse = parse
        self._parsed = parsed

    def __getitem__(self, stem: str) -> Loaded[Hire]:
        file = self.file(stem)
        if file is None:
            raise KeyError(stem)
        loaded = self._parsed.get(stem)
        if loaded is None:
            loaded = self._parse(file)
            self._parsed.add(loaded)
        return loaded

    def __contains__(self, stem: object) -> bool:
        return stem in self._index and stem not in self._broken

    def __iter__(self) -> Iterator[str]:
        return (stem for stem in self._index if stem not in self._broken)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def file(self, stem: str) -> HireSummary | None:
        """Return the summary of a hire's file, or None if it cannot be used."""
        return self._index.file(stem) if stem in self else None

    def contents(self) -> set[tuple[str, str]]:
        """Return the path and blob of every file, including broken ones."""
        return {(summary.path, summary.blob) for summary in self._index.paths.values()}

    def stems(self) -> KeysView[str]:
        """Return the id of every file, including broken ones."""
        return self._index.stems

    def has_file(self, stem: str) -> bool:
        """Whether there is a file of this id, broken or not."""
        return stem in self._index

    def owner(self, email: str) -> str | None:
        """Return the id of the hire that has an address, without regard to case; including broken files."""
        return self._index.owner(email)

    def referrers(self, hires: Iterable[str]) -> set[str]:
        """Return the hires that name one of these as manager or buddy; including broken files."""
        return self._index.referrers(hires)

    def named_sequences(self) -> Collection[str]:
        """Return the sequences that hires name; including broken files."""
        return self._index.sequences
