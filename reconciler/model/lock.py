"""A lock: one person who may have no access for now, whatever git says (docs/design/rules.md, "Locking somebody out").

It names the hire's file and follows the address, so that neither a renamed file nor another address ends it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from msgspec.structs import asdict

from reconciler.model.clock import stamp
from reconciler.model.value import Frozen, replace


class LockState(StrEnum):
    """How far an account of somebody who is locked is locked."""

    DONE = "done"
    PENDING = "pending"
    """It is to be locked: by an attempt, or once its check is answered."""
    FAILED = "failed"
    """Two attempts failed, and nothing more runs on its own."""
    MANUAL = "manual"
    """No request does it: a person has to, at the service."""


class Lock(Frozen):
    """One lock. `hires` are the ids of the person's file, `addresses` all that were seen of theirs, in lower case.

    `deletes` says that `revoke` may take the place of `lock` also where it deletes the account.
    """

    hire: str
    at: datetime
    by: str
    reason: str
    until: datetime | None = None
    deletes: bool = False
    hires: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    mac: str | None = None
    """The code that only who has the state's key can make."""

    def __str__(self) -> str:
        until = f", until {stamp(self.until)}" if self.until is not None else ""
        return f"locked by {self.by} since {stamp(self.at)}{until}: {self.reason}"

    def over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.until is not None and self.until <= now

    def as_row(self) -> dict[str, Any]:
        """The ledger's row."""
        return {**asdict(self), "hires": sorted(self.hires), "addresses": sorted(self.addresses)}

    @property
    def said(self) -> bytes:
        """Return what the code is of."""
        return json.dumps({**self.as_row(), "mac": None}, sort_keys=True, default=_in_utc).encode()


def _in_utc(moment: datetime) -> str:
    """Write a time as it is read back, whatever the zone it was named in."""
    return moment.astimezone(UTC).isoformat()


class Locks:
    """The locks at a time, at a revision: `owner` is the id of the file with an address, `address` that of a file.

    A file that has one of the addresses is the person's; where none has, the file that was theirs last is.
    """

    def __init__(
        self,
        locks: Iterable[Lock],
        now: datetime,
        *,
        owner: Callable[[str], str | None],
        address: Callable[[str], str | None],
    ) -> None:
        self._locks = [lock for lock in locks if not lock.over(now)]
        self._now: list[Lock] = []
        self._of_hire: dict[str, Lock] = {}
        self._of_address: dict[str, Lock] = {}
        for lock in self._locks:
            owners = {hire for each in lock.addresses if (hire := owner(each)) is not None}
            hires = frozenset(owners) or lock.hires
            theirs = {each.lower() for hire in hires if (each := address(hire)) is not None}
            found = replace(lock, hires=hires, addresses=lock.addresses | theirs)
            self._now.append(found)
            self._of_hire |= dict.fromkeys(found.hires, found)
            self._of_address |= dict.fromkeys(found.addresses, found)

    @property
    def hires(self) -> frozenset[str]:
        """Return the ids of who is locked."""
        return frozenset(self._of_hire)

    def of(self, hire: str, email: str) -> Lock | None:
        """Return the lock of a grant; None if its person is not locked."""
        if not self._locks:
            return None
        return self._of_hire.get(hire) or self._of_address.get(email.lower())

    def followed(self) -> Iterator[Lock]:
        """Yield the locks whose person has another file or another address than when that was written down."""
        yield from (new for old, new in zip(self._locks, self._now, strict=True) if new != old)
