"""Claim grants for a pass, so that no grant has two attempts at the same time.

Passes of one daemon run concurrently: a service that hangs must not delay a commit. A pass claims each grant before it
plans it. A grant that another pass has claimed, or had claimed since this pass read the ledger, is left out, because
this pass may have an old record of it; it is postponed to a pass of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from reconciler.model.grant import Key

__all__ = ["ClaimSet", "Claims"]


class Claims:
    """The grants that are claimed in this process."""

    def __init__(self) -> None:
        self._taken: set[Key] = set()
        self._wanted: dict[Key, bool] = {}
        """The grants that a pass left out, and whether one of these overrides the guard."""
        self._beside: dict[Key, set[Key]] = {}
        """The grants that are postponed together with one that was wanted."""
        self._released: OrderedDict[Key, int] = OrderedDict()
        """When a grant was released, the oldest first; kept as long as a pass that began before is running."""
        self._running: dict[int, None] = {}
        """When the running passes began, the oldest first."""
        self._time = 0

    def begin(self, *, overrides: bool = False) -> ClaimSet:
        """Begin a pass's claims; call it before the pass reads the ledger. It may be one that overrides the guard."""
        self._time += 1
        self._running[self._time] = None
        return ClaimSet(self, self._time, overrides=overrides)

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
        return {other: overrides for key, overrides in free.items() for other in (*self._beside.pop(key, ()), key)}

    def busy(self, key: Key) -> bool:
        """Whether a pass has claimed the grant."""
        return key in self._taken

    def taken(self, key: Key, since: int, *, overrides: bool) -> bool:
        """For `ClaimSet`: claim a grant for a pass that began at `since`, or postpone it. Whether it was claimed."""
        if key in self._taken or self._released.get(key, -1) >= since:
            self._wanted[key] = overrides or self._wanted.get(key, False)
            return False
        self._taken.add(key)
        return True

    def postpone(self, key: Key, beside: set[Key]) -> None:
        """For `ClaimSet`: postpone these grants together with one that was wanted."""
        self._beside.setdefault(key, set()).update(beside)

    def released(self, key: Key) -> None:
        """For `ClaimSet`: release a grant."""
        self._taken.discard(key)
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

    def __init__(self, claims: Claims, since: int, *, overrides: bool) -> None:
        self._claims = claims
        self._since = since
        self._overrides = overrides
        self._mine: set[Key] = set()
        self._left: set[Key] = set()

    def take(self, key: Key) -> bool:
        """Claim a grant; False if it has to be left to another pass."""
        if key in self._mine:
            return True
        if key in self._left:
            return False
        if self._claims.taken(key, self._since, overrides=self._overrides):
            self._mine.add(key)
            return True
        return False

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

    def release(self, key: Key) -> None:
        """Release a grant whose record is saved."""
        if key in self._mine:
            self._mine.discard(key)
            self._claims.released(key)

    def close(self) -> None:
        """End the pass, and release all grants that it still has."""
        for key in tuple(self._mine):
            self.release(key)
        self._claims.ended(self._since)
