"""The right to write for services: an epoch that grows each time a service is taken, and that every write checks.

A process that was stopped or cut off for a while does not know that another has taken over, so its own knowledge does
not count. The transaction of each write first locks the rows of `shards` that it is for, with the epochs at which they
were taken. A service is taken over in two steps. The epoch in its row is changed: a write that begins later is refused.
Then the row is locked `FOR UPDATE`, which only succeeds once all writes that began earlier have ended: the new
holder then reads what they wrote. A condition within the writing statement would not be enough on PostgreSQL: it reads
the state at the statement's beginning, and the epoch could change before the commit. On SQLite, this transaction is
the only one (docs/design/rules.md, "A fleet").

The lock of a write is `FOR KEY SHARE`, so that writes, renewals and the change of an epoch do not wait for each other,
which would delay renewals.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from reconciler.ledger.reading import Reading
from reconciler.model.errors import LeaseLostError
from reconciler.model.value import Frozen

EVERYTHING = "*"
"""The shard of all services at once: for a SQLite state, and for commands."""

OURS = "/"
"""The prefix of shards that are not services."""


class MoreNeeded(Exception):
    """These services have to be leased, too; nothing was written yet."""

    def __init__(self, services: AbstractSet[str]) -> None:
        super().__init__(", ".join(sorted(services)))
        self.services = services


class Lease(Frozen):
    """The services that a pass may write for, with the epochs at which they were taken."""

    epochs: Mapping[str, int]

    def covers(self, service: str) -> bool:
        """Whether it includes this service."""
        return EVERYTHING in self.epochs or service in self.epochs

    def require(self, services: AbstractSet[str]) -> None:
        """Raise MoreNeeded if it does not include one of these."""
        if not all(self.covers(service) for service in services):
            raise MoreNeeded(services)

    def epoch(self, service: str) -> int:
        """Return the epoch of a service that it covers."""
        return self.epochs[EVERYTHING] if EVERYTHING in self.epochs else self.epochs[service]

    def of(self, service: str) -> tuple[str, int]:
        """Return the service, and its epoch, under which to write for this service.

        Rows of a service that it does not cover, because their manifest changed its `service`, go under its first one.
        """
        name = service if self.covers(service) else min(self.epochs)
        return name, self.epoch(name)

    def lock(self, reading: Reading) -> None:
        """Lock its rows until the transaction ends. Raises LeaseLostError if another process took one over."""
        query = "SELECT service, epoch FROM shards WHERE service IN :services ORDER BY service FOR KEY SHARE"
        there = {row["service"]: row["epoch"] for row in reading.rows(query, services=sorted(self.epochs))}
        lost = [name for name, epoch in self.epochs.items() if there.get(name) != epoch]
        if lost:
            raise LeaseLostError(sorted(lost))
