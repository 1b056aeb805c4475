"""Determine who gave each grant of a revision, from the commits since the last one.

A grant's commit is the newest that changed what gives it: its entry in the hire's or sequence's file; for a sequence
also the line that names it, or `assign` and the fields that it matched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath

from reconciler.model.given import Given
from reconciler.model.grant import Grant, Key
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import UNREADABLE, WORKTREE, Checkout
from reconciler.repository.git.parts import Part
from reconciler.repository.git.provenance import Provenance, Traced

__all__ = ["Givers", "Tracing", "who_gave", "who_gave_in_parts"]

MANY_GRANTS = 20_000
"""How many grants to trace at a time: each takes half a kibibyte meanwhile, and each batch walks the commits again."""

OFTEN = 20
"""After so many hires others get a turn."""


class Tracing:
    """Grants whose giver has to be found out, with the parts that give them."""

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        self._parts: dict[tuple[str, Part, str | tuple[str, ...]], Traced] = {}
        self._grants: dict[Key, tuple[Traced, ...]] = {}

    @property
    def grants(self) -> int:
        """Return how many were added."""
        return len(self._grants)

    def add(self, hire: str) -> None:
        """Add a hire's grants."""
        for grant in self._desired.grants(hire):
            self._grants[grant.key] = tuple(self._parts_of(grant))

    def run(self, provenance: Provenance, base: str | None, known: Mapping[Key, Given]) -> dict[Key, Given]:
        """Find out who gave them; those unchanged since `base` are taken from what is known."""
        try:
            if base is not None and not provenance.descends(self._desired.revision, base):
                base = None
            provenance.trace(self._desired.revision, self._parts.values(), base)
            found = dict(self._found(provenance, self._grants))
            left = {
                key: parts
                for key, parts in self._grants.items()
                if (key not in found and key not in known) or any(part.unread_before for part in parts)
            }
            if base is not None and left:
                again = {id(part): part for parts in left.values() for part in parts}
                provenance.trace(self._desired.revision, again.values())
                found |= dict(self._found(provenance, left))  # of others' parts only some were traced so far back
        except UNREADABLE:
            return {}
        return {**{key: known[key] for key in self._grants if key in known and base is not None}, **found}

    def _found(self, provenance: Provenance, keys: Iterable[Key]) -> Iterator[tuple[Key, Given]]:
        for key in keys:
            by_commits = [part for part in self._grants[key] if part.commit is not None]
            if by_commits:
                newest = min(by_commits, key=lambda part: part.order)
                yield key, provenance.given(str(newest.commit), newest.merges)

    def _parts_of(self, grant: Grant) -> Iterator[Traced]:
        source = grant.source.rpartition(":")[0]
        yield self._part(source, Part.ENTRY, grant.key.access)
        if grant.origin is None:
            return
        file = self._desired.hires.file(grant.key.hire)
        if file is None:
            return
        if grant.origin in file.sequences:
            yield self._part(file.path, Part.NAMES, grant.origin)
            return
        assign = self._desired.files.sequences[grant.origin].model.assign
        yield self._part(file.path, Part.FIELDS, tuple(assign or ()))
        yield self._part(source, Part.ASSIGN, "")

    def _part(self, path: str, part: Part, name: str | tuple[str, ...]) -> Traced:
        return self._parts.setdefault((path, part, name), Traced(path, part, name))


class Givers:
    """Finds out who gave the grants that may have been given since `base`, some hires at a time.

    `known` reads who gave the grants of hires, as far as that is known up to `base`. Nothing is found for files that
    are in no commit. The commits are walked in a thread, so that a first run delays no one; and so may one be made, for
    it compares two revisions.
    """

    def __init__(
        self,
        checkout: Checkout,
        desired: Desired,
        base: str | None,
        known: Callable[[Collection[str]], Mapping[Key, Given]],
    ) -> None:
        self._desired = desired
        self._base = base
        self._known = known
        self._provenance: Provenance | None = None
        if checkout.repository is not None and desired.revision not in (WORKTREE, base):
            with suppress(*UNREADABLE):
                self._provenance = Provenance(checkout.root)
        self.hires = [] if self._provenance is None else _changed(self._provenance, desired, base)
        """The hires of whose grants that may be said."""
        self._among = frozenset(self.hires)
        self._tracing = Tracing(desired)
        self._added: list[str] = []

    @property
    def full(self) -> bool:
        """Whether so many grants were added that it has to be found out who gave them."""
        return self._tracing.grants >= MANY_GRANTS

    def add(self, hires: Iterable[str]) -> None:
        """Add hires, to be found out together with the next ones."""
        for hire in hires:
            if hire in self._among:
                self._tracing.add(hire)
                self._added.append(hire)

    async def found(self) -> dict[Key, Given]:
        """Return who gave the grants of the hires that were added."""
        tracing, added = self._tracing, self._added
        self._tracing, self._added = Tracing(self._desired), []
        if self._provenance is None or not added:
            return {}
        known: dict[Key, Given] = {}
        for start in range(0, 0 if self._base is None else len(added), OFTEN):
            known |= self._known(added[start : start + OFTEN])
            await asyncio.sleep(0)
        return await asyncio.to_thread(tracing.run, self._provenance, self._base, known)


async def who_gave(
    checkout: Checkout, desired: Desired, base: str | None, known: Callable[[Collection[str]], Mapping[Key, Given]]
) -> dict[Key, Given]:
    """Find out who gave all grants that may have been given since `base`; see `Givers`."""
    return {
        key: given async for part in who_gave_in_parts(checkout, desired, base, known) for key, given in part.items()
    }


async def who_gave_in_parts(
    checkout: Checkout, desired: Desired, base: str | None, known: Callable[[Collection[str]], Mapping[Key, Given]]
) -> AsyncIterator[dict[Key, Given]]:
    """Find out who gave all grants likewise, and return them in parts, each as soon as it is found out."""
    givers = await asyncio.to_thread(Givers, checkout, desired, base, known)
    for start in range(0, len(givers.hires), OFTEN):
        givers.add(givers.hires[start : start + OFTEN])
        await asyncio.sleep(0)
        if givers.full:
            yield await givers.found()
    yield await givers.found()


def _changed(provenance: Provenance, desired: Desired, base: str | None) -> list[str]:
    """Return the hires whose grants may have been given since a revision."""
    try:
        changed = provenance.changed(base, desired.revision) if base is not None else None
    except UNREADABLE:  # history was rewritten, and what was acted on is gone
        changed = None
    if changed is None or any(path.startswith("config/sequences/") for path in changed):
        return list(desired.hires)
    stems = {PurePosixPath(path).stem for path in changed if path.startswith("hires/")}
    return sorted(stem for stem in stems if stem in desired.hires)
