"""One process's place among those that share a state on a server, and what it has taken of the work.

A member renews all that it has once a second. Who is late for longer than `TERM` is over for the others: they take its
services, at higher epochs, which end whatever it still writes. It finds out when it renews, and is over for good: a
process comes back as a new member. Where the server is away from all, nobody's time is over.

What it sends is not written anywhere, so a clock stands before it: `may_send` says no from `TERM` after the last
renewal was begun. That clock is the boot clock, which runs on while the machine sleeps.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import WritableBackend
from reconciler.ledger.lease import EVERYTHING, OURS, Lease
from reconciler.ledger.reading import SERVER_TIME
from reconciler.ledger.schema import NOW, in_
from reconciler.model.errors import LeaseLostError, LedgerError, StateLockedError

__all__ = ["LEADER", "STALL_SECONDS", "TERM", "Membership", "everything"]

LEADER = f"{OURS}leader"
"""The shard of whoever decides for all what is due."""

TERM = timedelta(seconds=8)
"""For how long a renewal holds."""

SILENT = "the server does not answer: see that the server runs"
"""What is told before a call for which nothing comes back is given up."""

BEAT_SECONDS = 1.0
SOON_SECONDS = 0.2

STALL_SECONDS = 5.0
"""Nobody is taken for dead by a member that was itself not connected for so long."""

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_shards, _members = schema.shards, schema.members


class Membership:
    """A member of a fleet. `join` before anything else.

    `lost` is called from another thread once it is over; without, it is no daemon, and ends soon.
    """

    def __init__(self, backend: WritableBackend, name: str, lost: Callable[[], None] | None = None) -> None:
        self.name = name
        self._backend = backend
        self._owner = uuid.uuid4().hex
        self._lost = lost
        self._mutex = threading.Lock()
        self._held: dict[str, int] = {}
        self._deadline = 0.0
        self._over: LeaseLostError | None = None
        self._connected_at = 0.0
        self._fault: str | None = "not joined yet"
        self._ending = threading.Event()
        self._beating = threading.Thread(target=self._beat, name=f"member {name}", daemon=True)

    @property
    def owner(self) -> str:
        """What its rows say whose they are: no two members ever have the same."""
        return self._owner

    @property
    def place(self) -> str:
        """The shard that is the member itself: what it writes for no service holds it."""
        return f"{OURS}member/{self.name}"

    @property
    def over(self) -> LeaseLostError | None:
        """Why it is over; None while it is not."""
        return self._over

    @property
    def fault(self) -> str | None:
        """Why the server cannot be reached; None where it can."""
        return self._fault or (SILENT if self._late() else None)

    @property
    def settled(self) -> bool:
        """Whether it was connected for a whole stall period, and may tell who is dead."""
        return self.fault is None and _boot() - self._connected_at >= STALL_SECONDS

    def may_send(self) -> str | None:
        """Why nothing may be sent at this moment; None where it may."""
        if self._over is not None:
            return str(self._over)
        return "the state was out of reach for too long: another may have taken over" if self._late() else None

    def join(self) -> Lease:
        """Become a member, and give the lease for what it writes for no service.

        A name that a dead process left is waited for, and one that is renewed meanwhile raises StateLockedError.
        """
        seen, began = None, _boot()
        while True:
            lease = self.take([self.place])
            if lease is not None:
                break
            found = self._seen()
            late = _boot() > began + 2 * TERM.total_seconds()
            if late or (seen is not None and found not in (None, seen)):
                raise StateLockedError(f"a member of the name {self.name} is running already")
            seen = found
            time.sleep(BEAT_SECONDS)
            if _boot() > began + STALL_SECONDS:
                self._reap()
        with self._backend.writing() as connection:
            connection.execute(sa.delete(_members).where(_members.c.name == self.name))
            row = {"name": self.name, "owner": self._owner, "since": NOW, "seen": NOW, "daemon": self._lost is not None}
            connection.execute(sa.insert(_members).values(row))
        self.renew()
        self._fault, self._connected_at = None, _boot()
        self._beating.start()
        return lease

    def leader(self) -> str | None:
        """The name of the member that leads; None where nobody does."""
        query = (
            "SELECT members.name FROM members JOIN shards ON shards.owner = members.owner"
            f" WHERE shards.service = :leader AND shards.until > {SERVER_TIME}"
        )
        with self._backend.reading() as reading:
            found: str | None = reading.value(query, leader=LEADER)
        return found

    def refuse_led(self, state: str) -> None:
        """Raise StateLockedError where somebody leads, with who that is."""
        leader = self.leader()
        if leader is not None:
            raise StateLockedError(f"the state {state} is held by a fleet, led by member {leader}")

    def leave(self) -> None:
        """Give back what it has, and be a member no more. What the server does not hear of ends with the term."""
        self._ending.set()
        if self._beating.is_alive():
            self._beating.join()
        try:
            with self._mutex, self._backend.writing() as connection:
                connection.execute(sa.delete(_members).where(_members.c.owner == self._owner))
                connection.execute(_given_back().where(_shards.c.owner == self._owner))
        except LedgerError:
            pass

    def take(self, services: Collection[str]) -> Lease | None:
        """Take services, all or none: None where another has one of them, or this member in another pass.

        `EVERYTHING` is free where every service is, and then no service is.
        """
        with self._mutex:
            if self._over is not None:
                raise self._over
            with self._backend.writing() as connection:
                for name in sorted({EVERYTHING, *services}):
                    self._backend.add(connection, _shards, {"service": name, "epoch": 0})
                rows = connection.execute(_in_the_way(services)).all()
                if any(row.owner is not None for row in rows):
                    return None
                took = (
                    sa.update(_shards)
                    .where(_shards.c.service.in_(sorted(services)))
                    .values(epoch=_shards.c.epoch + 1, owner=self._owner, until=in_(TERM))
                )
                taken = connection.execute(took.returning(_shards.c.service, _shards.c.epoch)).all()
            epochs = {row.service: row.epoch for row in taken}
            self._held |= epochs
        return Lease(epochs)

    def release(self, lease: Lease) -> None:
        """Give services back; what the server does not hear of now is given back with the next renewal."""
        with self._mutex:
            for name in lease.epochs:
                self._held.pop(name, None)
            try:
                with self._backend.writing() as connection:
                    mine = _shards.c.service.in_(sorted(lease.epochs)), _shards.c.owner == self._owner
                    connection.execute(_given_back().where(*mine))
            except LedgerError as error:
                self._fault = str(error)

    def renew(self) -> None:
        """Renew what it has. Raises LedgerError where the server is away, LeaseLostError where it is over."""
        began = _boot()
        with self._mutex, self._backend.writing() as connection:
            connection.execute(sa.update(_members).where(_members.c.owner == self._owner).values(seen=NOW))
            renewed = sa.update(_shards).where(_shards.c.owner == self._owner).values(until=in_(TERM))
            rows = connection.execute(renewed.returning(_shards.c.service, _shards.c.epoch)).all()
            there = {row.service: row.epoch for row in rows}
            left = sorted(there.keys() - self._held.keys())
            if left:
                connection.execute(_given_back().where(_shards.c.service.in_(left)))
            lost = sorted(name for name, epoch in self._held.items() if there.get(name) != epoch)
        if lost:
            self._end(LeaseLostError([name.removeprefix(OURS) for name in lost]))
        self._deadline = began + TERM.total_seconds()

    def _end(self, error: LeaseLostError) -> None:
        self._over = error
        if self._lost is not None:
            self._lost()
        raise error

    def _late(self) -> bool:
        return _boot() >= self._deadline

    def _beat(self) -> None:
        while not self._ending.wait(BEAT_SECONDS) and self._over is None:
            try:
                self.renew()
            except LeaseLostError:
                return
            except LedgerError as error:
                self._fault = str(error)
                continue
            if self._fault is not None:
                self._fault, self._connected_at = None, _boot()
            if self.settled:
                self._reap()

    def _reap(self) -> None:
        """Give back what the dead have, at new epochs, which end whatever they still write."""
        try:
            with self._backend.writing() as connection:
                connection.execute(_given_back().where(_shards.c.until < NOW, _shards.c.owner != self._owner))
                gone = sa.select(_shards.c.owner).where(_shards.c.owner.is_not(None))
                connection.execute(sa.delete(_members).where(_members.c.owner.not_in(gone)))
        except LedgerError as error:
            self._fault = str(error)

    def _seen(self) -> object:
        with self._backend.reading() as reading:
            return reading.value("SELECT until FROM shards WHERE service = :place", place=self.place)


@contextmanager
def everything(backend: WritableBackend, name: str, state: str) -> Iterator[tuple[Membership, Lease]]:
    """Have all there is of a state for as long as the block runs, as a member of this name.

    Raises StateLockedError: at once where a fleet is led, for that one is asked to do what has to be done; else after
    as long as a dead process may take to be noticed.
    """
    member = Membership(backend, name)
    member.refuse_led(state)
    member.join()
    try:
        last = _boot() + 2 * TERM.total_seconds()
        while (lease := member.take([EVERYTHING])) is None:
            member.refuse_led(state)
            if _boot() > last:
                raise StateLockedError(f"the state {state} is held by another process")
            time.sleep(SOON_SECONDS)
        yield member, lease
    finally:
        member.leave()


def _in_the_way(services: Collection[str]) -> sa.Select[tuple[str]]:
    """The shards that have to be free, locked in one order."""
    query = sa.select(_shards.c.owner).order_by(_shards.c.service).with_for_update()
    if EVERYTHING in services:
        return query.where(_shards.c.service.not_like(f"{OURS}%"))
    ours = all(name.startswith(OURS) for name in services)
    return query.where(_shards.c.service.in_(sorted({*services} if ours else {EVERYTHING, *services})))


def _given_back() -> sa.Update:
    return sa.update(_shards).values(epoch=_shards.c.epoch + 1, owner=None, until=None)


def _boot() -> float:
    return time.clock_gettime(_BOOT)
