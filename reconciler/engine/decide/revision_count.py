"""What a revision takes away and adds: a value that the guard judges every part of the revision by.

Passes over parts cannot know the whole: the first few of many removals are within every limit. So a revision is counted
as it is taken over, and again for whom it says something for later, once that is due; and the ledger keeps whose
accounts it takes away. Every pass counts those that it does not cover itself. Of many entries that are new, some may be
there already: nothing of these is made before all were checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import APART, Key, Phase, Record
from reconciler.model.selection import Selection
from reconciler.model.settings import Settings
from reconciler.model.value import Frozen, replace

NOTE = "revision_count"
"""The name of the note that has the count of the last revision that was taken over."""

Keys = Mapping[str, frozenset[Key]]
"""Grants by integration."""


class Limits(Frozen, array_like=True):
    """How much of an integration a revision may change: `max_change_percent`, and `max_new`."""

    percent: float
    most_new: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits of settings."""
        return cls(settings.max_change_percent, settings.max_new)

    def stricter(self, other: Limits) -> Limits:
        """Return the stricter of each limit."""
        known = [most for most in (self.most_new, other.most_new) if most is not None]
        return Limits(min(self.percent, other.percent), min(known, default=None))


class RevisionCount(Frozen):
    """The count of a revision: whose accounts it takes away, by git and the ledger, and what is new in it.

    `own` are its own limits, `limits` those that it is judged by. `arriving` are the entries of integrations of which
    more are new, or may be updated, than `max_new`: checked since `counted_at`, they are known. `due` says when hires
    are counted again because time alone makes more leave or arrive: a moved end is over, a day comes. `moved` are the
    former and the new names of what leaves, as long as the ledger may have it under the former. `released` are those
    grants of `leaving` and `arriving` that somebody let through, whatever has come of them since; before it is noted,
    those of which it says the same as the count before.
    """

    revision: str
    counted_at: datetime
    own: Limits
    limits: Limits
    leaving: Keys = {}
    arriving: Keys = {}
    due: tuple[tuple[datetime, frozenset[str]], ...] = ()
    moved: tuple[tuple[Key, Key], ...] = ()
    released: frozenset[Key] = frozenset()

    @classmethod
    def read(cls, ledger: LedgerReader) -> RevisionCount | None:
        """Read the count of the last revision that was taken over."""
        note = ledger.notes.get(NOTE)
        return None if note is None else _read(note)

    def written(self) -> bytes:
        """Write it as the note's content."""
        leaving = {name: keys for name, keys in self.leaving.items() if keys}
        return msgspec.json.encode(replace(self, leaving=leaving), order="sorted")

    def after(self, before: RevisionCount | None, noted: bytes | None) -> bytes | None:
        """Write it in place of the one before, with what was let through meanwhile.

        What stands there of another revision by now stays.
        """
        there = None if noted is None else _read(noted)
        if (there and there.revision) != (before and before.revision):
            return noted
        released = frozenset[Key]() if there is None else there.released
        return replace(self, released=released & self.released & self.keys(Selection())).written()

    def alike(self, before: RevisionCount, differ: Sequence[Selection]) -> frozenset[Key]:
        """Return what leaves as it did before, and what arrives as it did: not where files that `differ` give it.

        A former account leaves for what arrives in its place.
        """

        def both(now: Keys, then: Keys, *, leaves: bool) -> Iterator[Key]:
            for name, keys in now.items():
                for key in keys & then.get(name, frozenset()):
                    given = APART in key.access or not leaves
                    if not (given and any(each.covers(key, name) for each in differ)):
                        yield key

        leaving = both(self.leaving, before.leaving, leaves=True)
        return frozenset((*leaving, *both(self.arriving, before.arriving, leaves=False)))

    def keys(self, selection: Selection) -> frozenset[Key]:
        """Return what leaves and arrives of a selection."""
        counted = (*self.leaving.items(), *self.arriving.items())
        return frozenset(key for name, keys in counted for key in keys if selection.covers(key, name))

    def standing(self, ledger: LedgerReader, names: Collection[str]) -> dict[Key, Record]:
        """Return the records, by their names now, of what leaves integrations by this count and was not revoked.

        As long as the guard holds some of it, it is one with what a person, or its own time, has taken away meanwhile.
        """
        moved, leaving = dict(self.moved), frozenset[Key]().union(*(self.leaving.get(name, ()) for name in names))
        if not leaving:
            return {}
        records = [*ledger.grants.records({key.hire for key in leaving} | {key.hire for key in moved})]
        mine = {key: each for each in records if (key := moved.get(each.key, each.key)) in leaving}
        held = {each.integration for each in mine.values() if each.guarded}
        revoked = {each.key for each in mine.values() if each.phase is Phase.REVOKED}
        taken = ledger.guard.taken_from({key.hire for key in revoked}) if held and revoked else set[Key]()
        return {
            key: each
            for key, each in mine.items()
            if each.key not in revoked or (each.integration in held and each.key in taken)
        }

    def due_at(self, now: datetime) -> frozenset[str]:
        """Return of whom to count again by then."""
        return frozenset[str]().union(*(hires for moment, hires in self.due if moment <= now))

    @property
    def unreleased(self) -> RevisionCount:
        """What of it nobody has let through."""
        leaving, arriving = (
            {name: left for name, keys in each.items() if (left := keys - self.released)}
            for each in (self.leaving, self.arriving)
        )
        return replace(self, leaving=leaving, arriving=arriving)

    def limits_of(self, own: Limits, *, adds: bool, held: bool) -> Limits:
        """Return the limits that a revision after this one is judged by, given its `own` and whether it adds changes.

        It is the stricter of those in force before it and its own: who raises a limit and empties a folder in one
        commit is not let through. A commit after it that changes the limits, and adds nothing, says that it is meant;
        until then, what waits, or is `held`, stays under the limits that it was judged by.
        """
        waits = held or bool(self.leaving or self.arriving)
        if adds:
            return own.stricter(self.limits if waits else self.own)
        return self.limits if waits and own == self.own else own


def let_through(noted: bytes | None, selection: Selection) -> bytes | None:
    """Write the count again where somebody lets through what it has of a selection."""
    if noted is None:
        return None
    counted = _read(noted)
    return replace(counted, released=counted.released | counted.keys(selection)).written()


def forget(noted: bytes | None, hire: str) -> bytes | None:
    """Write the count again without a person, who has nothing any more that it could be about."""
    if noted is None:
        return None
    counted = _read(noted)
    leaving, arriving = (
        {name: frozenset(key for key in keys if key.hire != hire) for name, keys in each.items()}
        for each in (counted.leaving, counted.arriving)
    )
    moved = tuple(move for move in counted.moved if all(key.hire != hire for key in move))
    due = tuple((moment, hires - {hire}) for moment, hires in counted.due)
    without = replace(counted, leaving=leaving, arriving=arriving, due=due, moved=moved)
    return without.after(counted, noted)


def _read(note: bytes) -> RevisionCount:
    return msgspec.json.decode(note, type=RevisionCount)
