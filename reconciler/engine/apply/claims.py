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
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.model.grant import Key

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import PlannedGrant


class Claims:
    """The grants that are claimed in this process. Its fields are for `ClaimSet`."""

    def __init__(self) -> None:
        self.taken: dict[Key, tuple[ClaimSet, str]] = {}
        """Who claimed a grant, and for which address."""
        self.of_address: dict[str, set[Key]] = {}
        self.together: dict[Key, set[Key]] = {}
        """The grants that are postponed together with one that was wanted."""
        self.running: list[ClaimSet] = []
        self.acted_on: dict[Key, PlannedGrant] = {}
        """What passes are about to change of the grants that they have claimed."""
        self.judging = asyncio.Lock()
        """Held while a plan is judged, until what it is about to change is noted."""
        self._wanted: dict[Key, str | None] = {}
        """The grants that a pass left out, and who overrides the guard, if one of these does."""

    def begin(self, services: Collection[str] = (), *, overrides: str | None = None) -> ClaimSet:
        """Begin the claims of a pass over some services; call it before the pass reads the ledger.

        It may be one by which somebody `overrides` the guard.
        """
        found = ClaimSet(self, frozenset(services), overrides=overrides)
        self.running.append(found)
        return found

    @property
    def overriding(self) -> bool:
        """Whether a grant is postponed by a pass that overrides the guard."""
        return any(self._wanted.values())

    def want(self, key: Key, *, overrides: str | None) -> None:
        """Postpone a grant, to a pass that overrides the guard or not."""
        self._wanted[key] = overrides or self._wanted.get(key)

    def postpone(self, key: Key, together: set[Key]) -> None:
        """Postpone these grants together with one that was wanted."""
        self.together.setdefault(key, set()).update(together)

    def postponed(self) -> dict[Key, str | None]:
        """Return the grants that a pass left out and that are free again, and who overrides the guard by it.

        Each is returned once.
        """
        free = {key: overrides for key, overrides in self._wanted.items() if key not in self.taken}
        self._wanted = {key: overrides for key, overrides in self._wanted.items() if key not in free}
        return {other: overrides for key, overrides in free.items() for other in (*self.together.pop(key, ()), key)}

    @property
    def none_taken(self) -> bool:
        """Whether no pass has claimed a grant."""
        return not self.taken

    def busy(self, key: Key) -> bool:
        """Whether a pass has claimed the grant."""
        return key in self.taken


class ClaimSet:
    """The claims of one pass."""

    def __init__(self, claims: Claims, services: frozenset[str], *, overrides: str | None) -> None:
        self._claims = claims
        self.services = services
        self._overrides = overrides
        self._mine: set[Key] = set()
        self._left: set[Key] = set()
        self.stale: set[Key] = set()
        """The grants that were released since it began, of which it may have an old record."""
        self.judging = claims.judging
        """Held while a plan is judged, until what it is about to change is noted."""

    def take(self, key: Key, address: str = "") -> bool:
        """Claim a grant, for an address if it has one; False if it has to be left to another pass."""
        if key in self._mine:
            return True
        if key in self._left:
            return False
        claims, address = self._claims, address.lower()
        if key in claims.taken or key in self.stale:
            claims.want(key, overrides=self._overrides)
            return False
        claims.taken[key] = self, address
        claims.of_address.setdefault(address, set()).add(key)
        self._mine.add(key)
        return True

    def take_new(self, key: Key, address: str, others_wanted: Iterable[Key]) -> bool:
        """Claim a grant of nobody's yet; False if it has to be left.

        What another pass works on for the address may be the same grant under another name, or mean the same account;
        `others_wanted` for its hire are neither.
        """
        if others := self._elsewhere(address.lower()):
            others.difference_update(others_wanted)
        for other in others:
            self._claims.want(other, overrides=self._overrides)
            self._claims.postpone(other, {key})
        return not others and self.take(key, address)

    def _elsewhere(self, address: str) -> set[Key]:
        """Return what other passes over the same services claimed for an address."""
        claims = self._claims
        if len(claims.running) == 1:
            return set()
        passes = {key: claims.taken[key][0] for key in claims.of_address.get(address, ())}
        return {key for key, other in passes.items() if other is not self and other.services & self.services}

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

    def act_on(self, planned: Iterable[PlannedGrant]) -> None:
        """Note what this pass is about to change, for those at the same time: each grant until it is released."""
        acting = (item for item in planned if item.decision.action.acts)
        self._claims.acted_on |= {item.grant.key: item for item in acting if item.grant.key in self._claims.taken}

    def changed_by_others(self) -> list[PlannedGrant]:
        """Return what other passes are about to change: the ledger does not have all of it yet."""
        claims = self._claims
        return [item for key, item in claims.acted_on.items() if claims.taken[key][0] is not self]

    def leave(self, key: Key) -> None:
        """Leave a grant that it has to another pass, begun once it is released: the guard judges it anew."""
        self._claims.want(key, overrides=None)

    def release(self, key: Key) -> None:
        """Release a grant whose record is saved."""
        if key not in self._mine:
            return
        self._mine.discard(key)
        claims = self._claims
        _, address = claims.taken.pop(key)
        claims.acted_on.pop(key, None)
        claims.of_address[address].discard(key)
        if not claims.of_address[address]:
            del claims.of_address[address]
        for each in claims.running:
            each.stale.add(key)

    def close(self) -> None:
        """End the pass, and release all grants that it still has."""
        for key in tuple(self._mine):
            self.release(key)
        self._claims.running.remove(self)
