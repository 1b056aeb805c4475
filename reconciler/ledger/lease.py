"""The right to write for services: a number that grows with each taking, which every write holds.

A process that was stopped or cut off for a while does not know that another has taken over; so it is not asked. The
transaction of each write begins with the rows of `shards` that it is for, with the numbers at which they were taken,
and locks them until it ends. Whoever takes a service over changes its number in that row: before the write began, and
then the write finds no such row and is refused; or after it ended. A condition within the writing statement would not
do on PostgreSQL: what it reads is as of the statement's beginning, and nothing keeps the number from changing before
the commit. On SQLite the transaction that begins with this row is the only one (docs/design/rules.md, "A fleet").

The lock is `FOR KEY SHARE`, so that neither writes wait for a renewal nor a renewal for writes, which would be late
then. Taking over locks the row `FOR UPDATE`, which waits for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.ledger.reading import Reading
from reconciler.model.errors import LeaseLostError

__all__ = ["EVERYTHING", "OURS", "Lease"]

EVERYTHING = "*"
"""The shard that stands for all services at once: a SQLite state's, and what is done by hand."""

OURS = "/"
"""What the names of shards begin with that are no service's."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The services that a pass may write for, each with the epoch at which it was taken."""

    epochs: Mapping[str, int]

    def covers(self, service: str) -> bool:
        """Whether it is for this service."""
        return EVERYTHING in self.epochs or service in self.epochs

    def epoch(self, service: str) -> int:
        """The epoch of a service that it covers."""
        return self.epochs[EVERYTHING] if EVERYTHING in self.epochs else self.epochs[service]

    def of(self, service: str) -> tuple[str, int]:
        """Under which service, and at which epoch, is written what is of this one.

        What is of another, because its manifest went under another `service`, is of the first that it has.
        """
        name = service if self.covers(service) else min(self.epochs)
        return name, self.epoch(name)

    def hold(self, reading: Reading) -> None:
        """Lock what was taken until the transaction ends. Raises LeaseLostError where another has taken it since."""
        query = "SELECT service, epoch FROM shards WHERE service IN :services ORDER BY service FOR KEY SHARE"
        there = {row["service"]: row["epoch"] for row in reading.rows(query, services=sorted(self.epochs))}
        lost = [name for name, epoch in self.epochs.items() if there.get(name) != epoch]
        if lost:
            raise LeaseLostError(sorted(lost))
