"""The hires of a revision as a mapping; a file is parsed when it is needed, because there may be very many.

A hire is parsed again from its blob in less time than a service takes to answer a request, so only the last ones are
kept in memory, and the first ones as plain data. What concerns all hires at once comes from the index.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

from reconciler.model.errors import RepositoryError
from reconciler.model.hire import Hire
from reconciler.repository.documents.problems import validated
from reconciler.repository.documents.yaml import Document, Loaded
from reconciler.repository.git.trees import CommitTree, Tree
from reconciler.repository.hire_index import HireIndex, HireSummary, stem_of
from reconciler.repository.naming import shown
from reconciler.repository.parsing import parse_hire, read_hire

LAST = 2
"""How many are kept parsed, for what asks for one again and again: it, and its manager."""

MAX_PACKED = 24 << 20
"""How many bytes are kept as plain data of hires, each with `OVERHEAD`.

The first ones stay: a pass goes over all in turn, and with the oldest evicted each round would miss them all. A hire is
made of its data in a sixth of the time that reading and parsing its file takes, from a tenth of the memory.
"""

OVERHEAD = 128
"""The bytes that a dict and an object take for each."""


class ParsedHires:
    """The last parsed hires by id, and the plain data of the first ones. Threads may share it."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, Loaded[Hire]] = OrderedDict()
        self._packed: dict[str, bytes] = {}
        self._room = MAX_PACKED

    def get(self, file: HireSummary, tree: Tree) -> Loaded[Hire] | None:
        """Return the cached hire of a file of a tree, or None."""
        stem = file.stem
        loaded = self._last.get(stem)
        if loaded is None and (packed := self._packed.get(stem)) is not None:
            data, lines = pickle.loads(packed)  # noqa: S301  it never left this process
            loaded = Loaded(
                stem=stem,
                path=file.path,
                blob=file.blob,
                model=validated(Hire, data),
                lines=lines,
                document=Document(partial(read_hire, tree, file), file.path, data, None),
            )
            self.add(loaded)
        return loaded

    def add(self, loaded: Loaded[Hire]) -> None:
        """Cache a hire."""
        if self._room > 0 and loaded.stem not in self._packed:
            packed = pickle.dumps((loaded.document.data, loaded.lines), pickle.HIGHEST_PROTOCOL)
            self._packed[loaded.stem] = packed
            self._room -= len(packed) + OVERHEAD
        self._last[loaded.stem] = loaded
        if len(self._last) > LAST:
            self._last.popitem(last=False)


class Hires(Mapping[str, Loaded[Hire]]):
    """The hires whose file can be used, by id. `broken` are the ids of other files."""

    def __init__(
        self,
        index: HireIndex,
        broken: Mapping[str, object],
        tree: Tree,
        parsed: ParsedHires,
    ) -> None:
        self.index = index
        """All files, including broken ones."""
        self._broken = broken
        self.tree = tree
        self._parsed = parsed
        self._renamed: dict[str, Mapping[str, str]] = {}

    def __getitem__(self, stem: str) -> Loaded[Hire]:
        file = self.file(stem)
        if file is None:
            raise KeyError(stem)
        loaded = self._parsed.get(file, self.tree)
        if loaded is None:
            loaded = parse_hire(self.tree, file)
            self._parsed.add(loaded)
        return loaded

    def __contains__(self, stem: object) -> bool:
        return stem in self.index and stem not in self._broken

    def __iter__(self) -> Iterator[str]:
        return (stem for stem in self.index if stem not in self._broken)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def file(self, stem: str) -> HireSummary | None:
        """Return the summary of a hire's file, or None if it cannot be used."""
        return self.index.file(stem) if stem in self else None

    def changed_paths(self, before: Hires) -> frozenset[str] | None:
        """Return the paths of all files that differ from another revision; None if one is no commit's, or pruned."""
        if isinstance(self.tree, CommitTree) and isinstance(before.tree, CommitTree):
            with suppress(RepositoryError):
                return self.tree.changed(before.tree)
        return None

    def renamed_since(self, revision: str) -> Mapping[str, str]:
        """Return the ids of hires whose file git sees as renamed since a revision, by the id of before."""
        if revision not in self._renamed:
            found: Mapping[str, str] = {}
            if isinstance(self.tree, CommitTree):
                with suppress(RepositoryError):
                    other = self.tree.other(revision)
                    found = {} if other is None else self.tree.renamed(other, "hires")
            self._renamed[revision] = {stem_of(old): stem_of(shown(new)) for old, new in found.items()}
        return self._renamed[revision]
