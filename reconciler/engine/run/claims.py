"""Claim grants for a pass, so that no grant has two attempts at the same time.

Passes of one daemon run concurrently: a service that hangs must not delay a commit. A pass claims each grant before it
plans it. A grant that another pass has claimed, or had claimed since this pass read the ledger, is left out, because
this pass may have an old record of it; it is postponed to a pass of its own.

So is a new grant as long as another pass works for its address, at the same service, on a grant that git does not have:
passes may act on different revisions, and between these a hire's file or an entry may have been renamed. And as long as
it works on an entry that means the same account: both checks would find that it is not there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.model.grant import Key

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import PlannedGrant

__all__ = ["ClaimSet", "Claims"]


class Claims:
    """The grants that are claimed in this process."""

    def __init__(self) -> None:
        self._taken: dict[Key, tuple[ClaimSet, str]] = {}
        """Who claimed a grant, and for which address."""
        self._of_address: dict[str, set[Key]] = {}
        self._wanted: dict[Key, bool] = {}
        """The grants that a pass left out, and whether one of these overrides the guard."""
        self._together: dict[Key, set[Key]] = {}
        """The grants that are postponed together with one that was wanted."""
        self._released: OrderedDict[Key, int] = OrderedDict()
        """When a grant was released, the oldest first; kept as long as a pass that began before is running."""
        self._running: dict[int, None] = {}
        """When the running passes began, the oldest first."""
        self._acted_on: dict[Key, PlannedGrant] = {}
        """What passes are about to change of the grants that they have claimed."""
        self.judging = asyncio.Lock()
        """Held while a plan is judged, until what it is about to change is noted."""
        self._time = 0

    def begin(self, services: Collection[str] = (), *, overrides: bool = False) -> ClaimSet:
        """Begin the claims of a pass over some services; call it before the pass reads the ledger.

        It may be one that overrides the guard.
        """
        self._time += 1
        self._running[self._time] = None
        return ClaimSet(self, self._time, frozenset(services), overrides=overrides)

    @property
    def overriding(self) -> bool:
        """Whether a grant is postponed by a pass that overrides the guard."""
        return any(self._wanted.values())

    def postponed(self) -> dict[Key, bool]:
        """Return the grants that a pass left out and that are free again, and whether it overrides the guard.

        Each is returned once.
        """
        free = {key: overrides for key, overrides in self._wanted.items() if key not in self._taken}
        self._wanted = {key: overrides for key, overrides in self._wanted.items() if key not in free}
        return {other: overrides for key, overrides in free.items() for other in (*self._together.pop(key, ()), key)}

    def busy(self, key: Key) -> bool:
        """Whether a pass has claimed the grant."""
        return key in self._taken

    def taken(self, key: Key, address: str, by: ClaimSet) -> bool:
        """For `ClaimSet`: claim a grant for a pass, or postpone it. Whether it was claimed."""
        if key in self._taken or self._released.get(key, -1) >= by.since:
            self.want(key, overrides=by.overrides)
            return False
        self._taken[key] = by, address
        self._of_address.setdefault(address, set()).add(key)
        return True

    def want(self, key: Key, *, overrides: bool) -> None:
        """For `ClaimSet`: postpone a grant, to a pass that overrides the guard or not."""
        self._wanted[key] = overrides or self._wanted.get(key, False)

    def elsewhere(self, address: str, by: ClaimSet) -> set[Key]:
        """For `ClaimSet`: return what other passes over the same services claimed for an address."""
        if len(self._running) == 1:
            return set()
        passes = {key: self._taken[key][0] for key in self._of_address.get(address, ())}
        return {key for key, other in passes.items() if other is not by and other.services & by.services}

    def act_on(self, planned: Iterable[PlannedGrant]) -> None:
        """For `ClaimSet`: note what a pass is about to change."""
        self._acted_on |= {item.grant.key: item for item in planned if item.grant.key in self._taken}

    def changed_by_others(self, by: ClaimSet) -> list[PlannedGrant]:
        """For `ClaimSet`: return what other passes are about to change."""
        return [item for key, item in self._acted_on.items() if self._taken[key][0] is not by]

    def postpone(self, key: Key, together: set[Key]) -> None:
        """For `ClaimSet`: postpone these grants together with one that was wanted."""
        self._together.setdefault(key, set()).update(together)

    def released(self, key: Key) -> None:
        """For `ClaimSet`: release a grant."""
        _, address = self._taken.pop(key)
        self._acted_on.pop(key, None)
        self._of_address[address].discard(key)
        if not self._of_address[address]:
            del self._of_address[address]
        self._released[key] = self._time
        self._released.move_to_end(key)

    def ended(self, since: int) -> None:
        """For `ClaimSet`: end the pass that began at `since`."""
        del self._running[since]
        oldest = next(iter(self._running), self._time + 1)
        while self._released and self._released[next(iter(self._released))] < oldest:
            self._released.popitem(last=False)


class ClaimSet:
    """The claims of one pass."""

    def __init__(self, claims: Claims, since: int, services: frozenset[str], *, overrides: bool) -> None:
        self._claims = claims
        self.since = since
        self.services = services
        self.overrides = overrides
        self._mine: set[Key] = set()
        self._left: set[Key] = set()

    def take(self, key: Key, address: str = "") -> bool:
        """Claim a grant, for an address if it has one; False if it has to be left to another pass."""
        if key in self._mine:
            return True
        if key in self._left:
            return False
        if self._claims.taken(key, address.lower(), self):
            self._mine.add(key)
            return True
        return False

    def take_new(self, key: Key, address: str, others_wanted: Iterable[Key]) -> bool:
        """Claim a grant of nobody's yet; False if it has to be left.

        What another pass works on for the address may be the same grant under another name, or mean the same account;
        `others_wanted` for its hire are neither.
        """
        if others := self._claims.elsewhere(address.lower(), self):
            others.difference_update(others_wanted)
        for other in others:
            self._claims.want(other, overrides=self.overrides)
            self._claims.postpone(other, {key})
        return not others and self.take(key, address)

    def follow(self, key: Key, needed: Key) -> None:
        """Postpone a grant together with one that it needs, which was left to another pass."""
        self._claims.postpone(needed, {key})

    def take_moves(self, moves: Mapping[Key, Key]) -> dict[Key, Key]:
        """Claim records that are to move, under both names. Returns the moves that can be made.

        A record that another pass has claimed does not move, and neither do those whose moves depend on it. This pass
        leaves all their names out: the new name would look like a new grant.
        """
        busy = {key for key in {*moves, *moves.values()} if not self.take(key)}
        left = set(busy)
        while more := {key for move in moves.items() if not left.isdisjoint(move) for key in move} - left:
            left |= more
        for key in left - busy:
            self.release(key)
        for key in busy:
            self._claims.postpone(key, left - busy)
        self._left |= left
        return {old: new for old, new in moves.items() if old not in left}

    @property
    def judging(self) -> asyncio.Lock:
        """Held while a plan is judged, until what it is about to change is noted."""
        return self._claims.judging

    def act_on(self, planned: Iterable[PlannedGrant]) -> None:
        """Note what this pass is about to change, for those beside it: each grant until it is released."""
        self._claims.act_on(item for item in planned if item.decision.action.acts)

    def changed_by_others(self) -> list[PlannedGrant]:
        """Return what other passes are about to change: the ledger does not have all of it yet."""
        return self._claims.changed_by_others(self)

    def leave(self, key: Key) -> None:
        """Leave a grant that it has to another pass, begun once it is released: the guard judges it anew."""
        self._claims.want(key, overrides=False)

    def release(self, key: Key) -> None:
        """Release a grant whose record is saved."""
        if key in self._mine:
            self._mine.discard(key)
            self._claims.released(key)

    def close(self) -> None:
        """End the pass, and release all grants that it still has."""
        for key in tuple(self._mine):
            self.release(key)
        self._claims.ended(self.since)
