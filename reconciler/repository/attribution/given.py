"""Determine who gave each grant of a revision, from the commits since the last one.

A grant's commit is the newest that changed what gives it: its entry in the hire's or sequence's file; for a sequence
also the line that names or includes it, or `assign` and the fields that it matched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Protocol

from reconciler.model.attribution import Attribution, Unattributed
from reconciler.model.errors import RepositoryError
from reconciler.model.grant import Grant, Key
from reconciler.model.log import event_log
from reconciler.repository.attribution.provenance import WALKED, Provenance, Traced
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.extent import UNREADABLE
from reconciler.repository.git.parts import Part
from reconciler.repository.git.program import home_of
from reconciler.repository.git.signatures import signer
from reconciler.repository.git.trees import WORKTREE

MANY_GRANTS = 8_000
"""How many grants to trace at a time: each takes half a kibibyte meanwhile, and each batch walks the commits again."""

OFTEN = 20
"""After so many hires others get a turn."""


class KnownGivers(Protocol):
    """What is known of who gave grants."""

    async def given_up_to(self) -> str | None:
        """Return the revision up to which it is known, but for hires that are untraced."""

    async def untraced(self, hires: Collection[str], /) -> Mapping[str, Unattributed]:
        """Return those of some hires of whom it is known up to an older revision only."""

    async def given(self, hires: Collection[str], /) -> Mapping[Key, Attribution]:
        """Return who gave each grant of some hires."""


class _Tracing:
    """Grants whose giver has to be found out, with the parts that give them."""

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        self._parts: dict[tuple[str, Part, str | tuple[str, ...]], Traced] = {}
        self._grants: dict[Key, tuple[Traced, ...]] = {}
        self.hires: list[str] = []

    @property
    def grants(self) -> int:
        """Return how many were added."""
        return len(self._grants)

    def add(self, hire: str) -> None:
        """Add a hire's grants."""
        self.hires.append(hire)
        for grant in self._desired.grants(hire):
            self._grants[grant.key] = tuple(self._parts_of(grant))

    def run(self, provenance: Provenance, base: str | None, known: Collection[Key]) -> dict[Key, Attribution]:
        """Find out who gave them, except for those of the known ones that are unchanged since `base`."""
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
        return found

    def _found(self, provenance: Provenance, keys: Iterable[Key]) -> Iterator[tuple[Key, Attribution]]:
        for key in keys:
            by_commits = [part for part in self._grants[key] if part.commit is not None]
            if by_commits:
                newest = min(by_commits, key=lambda part: part.order)
                yield key, provenance.given(str(newest.commit), newest.merges)

    def _parts_of(self, grant: Grant) -> Iterator[Traced]:
        yield self._part(grant.place[0], Part.ENTRY, grant.key.access)
        if grant.origin is None:
            return
        file = self._desired.hires.file(grant.key.hire)
        if file is None:
            return
        # Where the hire had an entry of its own in its place, whoever took that out gave it as it is.
        yield self._part(file.path, Part.ENTRY, grant.key.access)
        yield self._part(file.path, Part.WITHOUT, grant.key.access)
        given, sequences = grant.origin, self._desired.files.sequences
        while (includer := self._desired.entries.includer(grant.key.hire, given)) is not None:
            yield self._part(sequences[includer].path, Part.INCLUDES, given)
            given = includer
        if given in file.sequences:
            yield self._part(file.path, Part.NAMES, given)
            return
        assign = sequences[given].model.assign
        yield self._part(file.path, Part.FIELDS, () if assign is None else assign.fields)
        yield self._part(sequences[given].path, Part.ASSIGN, "")

    def _part(self, path: str, part: Part, name: str | tuple[str, ...]) -> Traced:
        return self._parts.setdefault((path, part, name), Traced(path, part, name))


class Givers:
    """Finds out who gave grants of a revision, of some hires at a time, as far as that is not known.

    Nothing is found for files that are in no commit. The commits are walked in a thread, so that a first run delays no
    one.
    """

    def __init__(self, checkout: Checkout, desired: Desired, known: KnownGivers) -> None:
        self._checkout = checkout
        self._desired = desired
        self._known = known
        self._since: dict[str | None, _Tracing] = {}
        self._base: str | None = None
        self._changed: frozenset[str] | None = None
        """The hires to whom a commit may have given something since `_base`, up to which it is known of the others."""

    @property
    def full(self) -> bool:
        """Whether so many grants were added that it has to be found out who gave them."""
        return sum(tracing.grants for tracing in self._since.values()) >= MANY_GRANTS

    def add(self, hires: Mapping[str, str | None]) -> None:
        """Add hires, each with the revision up to which it is known; None if nothing is known of its grants."""
        for hire, since in hires.items():
            self._since.setdefault(since, _Tracing(self._desired)).add(hire)

    async def add_unknown(self, hires: Collection[str]) -> None:
        """Add those of some hires of whom it is not known who gave their grants of the revision."""
        if self._changed is None:
            self._base = await self._known.given_up_to()
            self._changed = frozenset(changed_since(self._checkout, self._desired, self._base))
        older = {hire: each.since for hire, each in (await self._known.untraced(hires)).items()}
        self.add({**{hire: self._base for hire in hires if hire in self._changed}, **older})

    async def found(self) -> dict[str, dict[Key, Attribution]]:
        """Return by hire who gave what of those that were added, except for what is known and unchanged."""
        added, self._since = self._since, {}
        found: dict[str, dict[Key, Attribution]] = {hire: {} for tracing in added.values() for hire in tracing.hires}
        provenance = await asyncio.to_thread(_provenance, self._checkout, self._desired) if found else None
        for since, tracing in added.items() if provenance is not None else ():
            assert provenance is not None
            known = set[Key]()
            for start in range(0, 0 if since is None else len(tracing.hires), OFTEN):
                known |= (await self._known.given(tracing.hires[start : start + OFTEN])).keys()
                await asyncio.sleep(0)
            for key, given in (await asyncio.to_thread(tracing.run, provenance, since, known)).items():
                found[key.hire][key] = given
        if provenance is None or not provenance.too_large:
            return found

        for commit in sorted(provenance.too_large):
            why = f"it changes more than {WALKED:,} files and folders"
            event_log().warning("giver.unknown", commit=commit, why=why)
        return found


async def who_gave(
    checkout: Checkout, desired: Desired, known: KnownGivers, hires: Collection[str]
) -> dict[Key, Attribution]:
    """Find out who gave the grants of some hires, except for what is known and unchanged."""
    givers, names = Givers(checkout, desired, known), sorted(hires)
    found: dict[Key, Attribution] = {}
    for start in range(0, len(names), OFTEN):
        await givers.add_unknown(names[start : start + OFTEN])
        if givers.full:
            found |= _by_key(await givers.found())
    return found | _by_key(await givers.found())


def _by_key(found: Mapping[str, Mapping[Key, Attribution]]) -> dict[Key, Attribution]:
    return {key: given for of_hire in found.values() for key, given in of_hire.items()}


def changed_since(checkout: Checkout, desired: Desired, base: str | None) -> list[str]:
    """Return the hires whose grants a commit may have given since a revision; all, if there is none before this one.

    It compares two revisions, and may be called in a thread.
    """
    if checkout.repository is None or desired.revision in (base, WORKTREE):
        return []
    changed: frozenset[str] | None = None
    with suppress(*UNREADABLE, RepositoryError):
        own = Checkout.open(checkout.root)  # another thread's may not be used in this one
        if base is not None and own.has(base) and own.descends(desired.revision, base):
            changed = own.changed(own.at(base), own.at(desired.revision))
    broken = desired.broken_hires  # such a file may count later without a change of its own
    if changed is None or any(path.startswith("config/sequences/") for path in changed):
        return [*desired.hires, *broken]
    stems = {PurePosixPath(path).stem for path in changed if path.startswith("hires/")}
    requests = (PurePosixPath(path).stem for path in changed if path.startswith("config/requests/"))
    stems.update(hire for name in requests for hire in desired.requesting(name))
    return sorted(stem for stem in stems if stem in desired.hires or stem in broken)


def _provenance(checkout: Checkout, desired: Desired) -> Provenance | None:
    """Return the commits; None where they say nothing of the files."""
    if checkout.repository is None or desired.revision == WORKTREE:
        return None
    with suppress(*UNREADABLE):
        home = home_of(checkout.root, desired.files.settings)
        return Provenance(checkout.root, signer=lambda commit: signer(checkout, commit, home))
    return None
