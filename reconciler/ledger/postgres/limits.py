"""Limits over all members of a fleet, in shared rows (`reconciler.requests.shares`).

Members exchange one after another, each in one short transaction, so that their places never add up to more than the
limit. Places of dead members are free: only rows of present members count.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from reconciler.ledger.postgres.reading import Connection
from reconciler.ledger.postgres.writing import WritablePostgresBackend
from reconciler.ledger.reading import MICROSECOND, SERVER_TIME
from reconciler.ledger.transaction import WritableBackend
from reconciler.model.errors import LedgerError
from reconciler.requests.shares import Ask, Granted, fair

_EXCLUSIVE = "SELECT pg_advisory_xact_lock(hashtextextended('limits', 0))"

_GONE = """
DELETE FROM shares
WHERE member NOT IN (SELECT owner FROM members) OR member = %(member)s AND NOT name = ANY(%(names)s)
"""

_SHARES = "SELECT name, member, has, wants FROM shares WHERE name = ANY(%(names)s)"

_HAVE = """
INSERT INTO shares (name, member, has, wants)
SELECT name, %(member)s, has, wants
FROM unnest(%(names)s::text[], %(has)s::integer[], %(wants)s::integer[]) AS mine (name, has, wants)
ON CONFLICT (name, member) DO UPDATE SET has = excluded.has, wants = excluded.wants
"""

_PAUSES = f"SELECT host, held_until - {SERVER_TIME} FROM hosts WHERE held_until > {SERVER_TIME}"

_PAUSE = f"""
INSERT INTO hosts (host, held_until)
SELECT host, {SERVER_TIME} + pause FROM unnest(%(hosts)s::text[], %(pauses)s::bigint[]) AS mine (host, pause)
ON CONFLICT (host) DO UPDATE SET held_until = greatest(hosts.held_until, excluded.held_until)
"""

_DEPART = f"""
INSERT INTO hosts (host, next_at) VALUES (%(host)s, {SERVER_TIME} + %(span)s)
ON CONFLICT (host) DO UPDATE SET next_at = greatest(hosts.next_at, {SERVER_TIME}) + %(span)s
RETURNING greatest(next_at - %(span)s - {SERVER_TIME}, 0)
"""


class SharedLimits:
    """One member's share of the limits."""

    def __init__(self, backend: WritableBackend, member: str) -> None:
        assert isinstance(backend, WritablePostgresBackend)  # a SQLite file has no members
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
        return await asyncio.to_thread(self._exchange, asks, pauses)

    async def departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        """Reserve the next `count` departures, `spacing` apart; return how long to wait for the first."""
        return await asyncio.to_thread(self._departures, host, spacing, count)

    def _exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        """Exchange in two round trips, which is how long others wait: one to lock and read, one to write and commit."""
        places: dict[str, int] = {}
        with self._mutex:
            if self._closed:
                return Granted({}, {})
            with self._backend.pipelined() as connection:
                if asks or pauses or self._has_rows:
                    connection.execute(_EXCLUSIVE)
                    places = self._settle(connection, asks)
                    if pauses:
                        spans = [pause // MICROSECOND for pause in pauses.values()]
                        connection.execute(_PAUSE, {"hosts": list(pauses), "pauses": spans})
                held = connection.execute(_PAUSES)
            self._has_rows = bool(asks)
        return Granted(places, {host: remaining * MICROSECOND for host, remaining in held})

    def _settle(self, connection: Connection, asks: Sequence[Ask]) -> dict[str, int]:
        """Write what this member has, and return what it may use from now on."""
        names = [ask.name for ask in asks]
        mine = {"member": self._member, "names": names}
        connection.execute(_GONE, mine)
        others: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in names}
        for name, member, has, wants in connection.execute(_SHARES, mine) if asks else ():
            others[name][member] = has, wants
        before = {name: of_members.pop(self._member, None) for name, of_members in others.items()}
        places: dict[str, int] = {}
        changed: dict[str, tuple[int, int]] = {}
        for ask in asks:
            wanted = {member: wants for member, (_, wants) in others[ask.name].items()} | {self._member: ask.wants}
            goal = fair(ask.limit, wanted, int(time.time()))[self._member] if ask.wants else 0
            free = ask.limit - sum(has for has, _ in others[ask.name].values())
            has = max(ask.has, min(goal, free))
            places[ask.name] = min(has, goal)
            if (has, ask.wants) != before[ask.name]:
                changed[ask.name] = has, ask.wants
        if changed:
            columns = {"has": [has for has, _ in changed.values()], "wants": [wants for _, wants in changed.values()]}
            connection.execute(_HAVE, {"member": self._member, "names": list(changed), **columns})
        return places

    def _departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        with self._mutex:
            if self._closed:
                raise LedgerError("the state is closed")
            with self._backend.pipelined() as connection:
                found = connection.execute(_DEPART, {"host": host, "span": spacing * count // MICROSECOND})
        (wait,) = found.fetchone() or (0,)
        return wait * MICROSECOND
