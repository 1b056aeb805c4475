"""Limits over all members of a fleet, in shared rows (`reconciler.requests.sharing`).

Members exchange one after another, each in one short transaction, so that their places never add up to more than the
limit. Places of dead members are free: only rows of present members count.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import ParamSpec, TypeVar

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import WritableBackend
from reconciler.ledger.reading import MICROSECOND, SERVER_TIME
from reconciler.ledger.schema import NOW, in_
from reconciler.model.errors import LedgerError
from reconciler.requests.sharing import Ask, Granted, fair

__all__ = ["SharedLimits"]

_shares, _hosts, _members = schema.shares, schema.hosts, schema.members

_ALONE = "limits"

P = ParamSpec("P")
T = TypeVar("T")


class SharedLimits:
    """One member's share of the limits."""

    def __init__(self, backend: WritableBackend, member: str) -> None:
        self._backend = backend
        self._member = member
        self._has_rows = False
        self._closed = False
        self._mutex = threading.Lock()

    def close(self) -> None:
        """Stop sharing, after an exchange that is under way: the state is about to be closed."""
        with self._mutex:
            self._closed = True

    async def exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        """Report what this member needs and learn what it may use, in a thread."""
        return await asyncio.to_thread(self._alone, self._exchange, asks, pauses)

    async def departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        """Reserve the next `count` departures, `spacing` apart; return how long to wait for the first."""
        return await asyncio.to_thread(self._alone, self._departures, host, spacing, count)

    def _alone(self, work: Callable[P, T], *args: P.args, **given: P.kwargs) -> T:
        with self._mutex:
            if self._closed:
                raise LedgerError("the state is closed")
            return work(*args, **given)

    def _exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        places: dict[str, int] = {}
        if asks or pauses or self._has_rows:
            with self._backend.writing() as connection:
                self._backend.alone(connection, _ALONE)
                places = self._settle(connection, asks)
                for host, pause in pauses.items():
                    self._backend.add(connection, _hosts, {"host": host})
                    until = sa.func.greatest(sa.func.coalesce(_hosts.c.held_until, NOW), in_(pause))
                    connection.execute(sa.update(_hosts).where(_hosts.c.host == host).values(held_until=until))
            self._has_rows = bool(asks)
        query = f"SELECT host, held_until - {SERVER_TIME} AS remaining FROM hosts WHERE held_until > {SERVER_TIME}"
        with self._backend.reading() as reading:
            held = {row["host"]: row["remaining"] * MICROSECOND for row in reading.rows(query)}
        return Granted(places, held)

    def _settle(self, connection: sa.Connection, asks: Sequence[Ask]) -> dict[str, int]:
        """Write what this member has, and return what it may use from now on."""
        mine, names = _shares.c.member == self._member, [ask.name for ask in asks]
        gone = _shares.c.member.not_in(sa.select(_members.c.owner))
        connection.execute(sa.delete(_shares).where(gone | (mine & _shares.c.name.not_in(names))))
        others: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in names}
        for row in connection.execute(sa.select(_shares).where(_shares.c.name.in_(names))):
            others[row.name][row.member] = row.has, row.wants
        before = {name: of_members.pop(self._member, None) for name, of_members in others.items()}
        places, rows = {}, []
        for ask in asks:
            wanted = {member: wants for member, (_, wants) in others[ask.name].items()} | {self._member: ask.wants}
            goal = fair(ask.limit, wanted, int(time.time()))[self._member] if ask.wants else 0
            free = ask.limit - sum(has for has, _ in others[ask.name].values())
            has = max(ask.has, min(goal, free))
            places[ask.name] = min(has, goal)
            if (has, ask.wants) != before[ask.name]:
                rows.append({"name": ask.name, "member": self._member, "has": has, "wants": ask.wants})
        if rows:
            self._backend.upsert(connection, _shares, ("name", "member"), rows)
        return places

    def _departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        first = sa.func.greatest(sa.func.coalesce(_hosts.c.next_at, NOW), NOW)
        with self._backend.writing() as connection:
            self._backend.add(connection, _hosts, {"host": host})
            query = sa.select(sa.type_coerce(first, schema.Moment), NOW).where(_hosts.c.host == host).with_for_update()
            at, now = connection.execute(query).one()
            next_at = {"next_at": at + spacing * count}
            connection.execute(sa.update(_hosts).where(_hosts.c.host == host).values(next_at))
        wait: timedelta = at - now
        return wait
