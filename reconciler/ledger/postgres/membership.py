"""A process as a member of a fleet, and the services that it has leased.

A member renews its leases once a second. If it is late by more than `TERM`, others take its services at higher epochs,
which refuses whatever it still writes. It notices at its next renewal, and is over for good: the process has to come
back as a new member. If the server is away for all members, none is over.

Requests to services are not fenced by the database, so a clock guards them: `refuse_to_send` refuses from `TERM` after
the last renewal began. It is the boot clock, which also counts while the machine sleeps. By it the server's time is
known between renewals, too: where this machine's clock is far from that, it renews nothing and sends nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from reconciler.ledger import schema
from reconciler.ledger.lease import EVERYTHING, OURS, Lease
from reconciler.ledger.postgres.clock import refuse_clock
from reconciler.ledger.reading import SERVER_TIME
from reconciler.ledger.schema import NOW, in_
from reconciler.ledger.transaction import WritableBackend
from reconciler.model.errors import LeaseLostError, LedgerError, StateLockedError

LEADER = f"{OURS}leader"
"""The shard of the member that decides what is due."""

TERM = timedelta(seconds=8)
"""How long a renewal is valid."""

SILENT = "the server does not answer: see that the server runs"
"""The fault while a call gets no answer and has not timed out."""

BEAT_SECONDS = 1.0
SOON_SECONDS = 0.2

STALL_SECONDS = 5.0
"""How long a member has to be connected itself before it takes others for dead."""

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_shards, _members = schema.shards, schema.members


class Membership:
    """A member of a fleet. Call `join` first.

    `lost` is called from another thread when the member is over; without it, the member is no daemon.
    """

    def __init__(self, backend: WritableBackend, name: str, lost: Callable[[], None] | None = None) -> None:
        self.name = name
        self._backend = backend
        self.owner = uuid.uuid4().hex
        """By which rows belong to this member."""
        self._lost = lost
        self._mutex = threading.Lock()
        self._held: dict[str, int] = {}
        self._deadline = 0.0
        self._booted_at = datetime.now(UTC)
        """When the boot clock began to count, by the server's time."""
        self.over: LeaseLostError | None = None
        """Why the member is over; None while it is not."""
        self._connected_at = 0.0
        self._fault: str | None = "not joined yet"
        self._ending = threading.Event()
        self._beating = threading.Thread(target=self._beat, name=f"member {name}", daemon=True)

    @property
    def place(self) -> str:
        """The shard of the member itself, for writes that are for no service."""
        return f"{OURS}member/{self.name}"

    @property
    def fault(self) -> str | None:
        """Why the server cannot be reached; None if it can."""
        return self._fault or (SILENT if self._late() else None)

    @property
    def settled(self) -> bool:
        """Whether it was connected for a whole stall period, so that it may take others for dead."""
        return self.fault is None and _boot() - self._connected_at >= STALL_SECONDS

    def refuse_to_send(self) -> None:
        """Raise LedgerError if no request may be sent now."""
        if self.over is not None:
            raise self.over
        if self._late():
            raise LedgerError("the state was out of reach for too long: another may have taken over")
        refuse_clock(self._booted_at + timedelta(seconds=_boot()))

    def join(self) -> Lease:
        """Become a member, and return the lease for writes that are for no service.

        If a dead process has the name, wait until its lease expires; raises StateLockedError if the name is in use.
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
            row = {"name": self.name, "owner": self.owner, "since": NOW, "seen": NOW, "daemon": self._lost is not None}
            connection.execute(sa.insert(_members).values(row))
        self.renew()
        self._fault, self._connected_at = None, _boot()
        self._beating.start()
        return lease

    def leader(self) -> str | None:
        """Name the member that leads; None if none does."""
        query = (
            "SELECT members.name FROM members JOIN shards ON shards.owner = members.owner"
            f" WHERE shards.service = :leader AND shards.until > {SERVER_TIME}"
        )
        with self._backend.reading() as reading:
            found: str | None = reading.value(query, leader=LEADER)
        return found

    def refuse_led(self, state: str) -> None:
        """Raise StateLockedError, naming the leader, if there is one."""
        leader = self.leader()
        if leader is not None:
            raise StateLockedError(f"the state {state} is held by a fleet, led by member {leader}")

    def leave(self) -> None:
        """Release all leases and leave the fleet. If the server is away, they end with their term."""
        self._ending.set()
        if self._beating.is_alive():
            self._beating.join()
        try:
            with self._mutex, self._backend.writing() as connection:
                connection.execute(sa.delete(_members).where(_members.c.owner == self.owner))
                connection.execute(_given_back().where(_shards.c.owner == self.owner))
        except LedgerError:
            pass

    def take(self, services: Collection[str]) -> Lease | None:
        """Lease services, all or none; None if another member, or another pass of this one, has one of them.

        Also None while something is still being written for one of them. `EVERYTHING` can be leased while every service
        is free, and excludes them all.
        """
        with self._mutex:
            if self.over is not None:
                raise self.over
            with self._backend.writing() as connection:
                ours = all(name.startswith(OURS) for name in services)
                names = {*services} if ours else {EVERYTHING, *services}
                in_the_way = _in_the_way(names, everything=EVERYTHING in services)
                there = {row.service: row.owner for row in connection.execute(in_the_way)}
                if any(there.values()):
                    return None
                for name in sorted(names - there.keys()):
                    new = postgresql.insert(_shards).values(service=name, epoch=0)
                    connection.execute(new.on_conflict_do_nothing())
                # It does not wait for locks: renewals would wait for it, and this member be taken for dead.
                locked = {
                    row.service: row.owner for row in connection.execute(in_the_way.with_for_update(skip_locked=True))
                }
                if any(locked.values()) or not locked.keys() >= there.keys() | names:
                    return None
                took = (
                    sa.update(_shards)
                    .where(_shards.c.service.in_(sorted(services)))
                    .values(epoch=_shards.c.epoch + 1, owner=self.owner, until=in_(TERM))
                )
                taken = connection.execute(took.returning(_shards.c.service, _shards.c.epoch)).all()
            epochs = {row.service: row.epoch for row in taken}
            self._held |= epochs
        return Lease(epochs)

    def release(self, lease: Lease) -> None:
        """Release a lease; if the server is away, the next renewal releases it."""
        with self._mutex:
            for name in lease.epochs:
                self._held.pop(name, None)
            try:
                with self._backend.writing() as connection:
                    mine = _shards.c.service.in_(sorted(lease.epochs)), _shards.c.owner == self.owner
                    connection.execute(_given_back().where(*mine))
            except LedgerError as error:
                self._fault = str(error)

    def renew(self) -> None:
        """Renew all leases. Raises LedgerError if the server is away or this machine's clock is not the server's.

        Raises LeaseLostError if the member is over.
        """
        began = _boot()
        with self._mutex, self._backend.writing() as connection:
            seen = sa.update(_members).where(_members.c.owner == self.owner).values(seen=NOW)
            there = connection.execute(seen.returning(_members.c.seen)).scalar()
            if there is not None:
                refuse_clock(there)
                self._booted_at = there - timedelta(seconds=_boot())
            renewed = sa.update(_shards).where(_shards.c.owner == self.owner).values(until=in_(TERM))
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
        self.over = error
        if self._lost is not None:
            self._lost()
        raise error

    def _late(self) -> bool:
        return _boot() >= self._deadline

    def _beat(self) -> None:
        while not self._ending.wait(BEAT_SECONDS) and self.over is None:
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
        """Release the leases of dead members at new epochs, which refuses whatever they still write."""
        from reconciler.ledger.postgres.writing import end_silent  # a state in a file needs no driver of PostgreSQL

        try:
            with self._backend.writing() as connection:
                end_silent(connection)
                connection.execute(_given_back().where(_shards.c.until < NOW, _shards.c.owner != self.owner))
                gone = sa.select(_shards.c.owner).where(_shards.c.owner.is_not(None))
                connection.execute(sa.delete(_members).where(_members.c.owner.not_in(gone)))
        except LedgerError as error:
            self._fault = str(error)

    def _seen(self) -> object:
        with self._backend.reading() as reading:
            return reading.value("SELECT until FROM shards WHERE service = :place", place=self.place)


def member_name(command: str) -> str:
    """Name this process among the members while it runs a command."""
    return f"`{command}` (process {os.getpid()} on {socket.gethostname()})"


@contextmanager
def everything(backend: WritableBackend, name: str, state: str) -> Iterator[tuple[Membership, Lease]]:
    """Lease a whole state while the block runs, as a member of this name.

    Raises StateLockedError: at once if a fleet has a leader, because commands go to it; else after the time in which a
    dead process would be noticed.
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


def _in_the_way(names: Collection[str], *, everything: bool) -> sa.Select[tuple[str, str | None]]:
    """Select the shards that have to be free, in one order."""
    query = sa.select(_shards.c.service, _shards.c.owner).order_by(_shards.c.service)
    return query.where(_shards.c.service.not_like(f"{OURS}%") if everything else _shards.c.service.in_(sorted(names)))


def _given_back() -> sa.Update:
    return sa.update(_shards).values(epoch=_shards.c.epoch + 1, owner=None, until=None)


def _boot() -> float:
    return time.clock_gettime(_BOOT)
