"""What the ledger remembers, a row each: lines of the history, attempts and their requests, what somebody asked for.

A grant's own row is `reconciler.model.grant.Record`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.model.clock import stamp
from reconciler.model.grant import Key, Outcome, Record
from reconciler.model.status import EventType

__all__ = ["Attempt", "Change", "Command", "Event", "Kept", "Member", "Part", "Sent"]

Change = Callable[[bytes | None], bytes | None]
"""What a value becomes of the one that is there: applied in the transaction, while nobody else can change it."""

Kept = Mapping[str, bytes | Change | None]
"""What is kept sealed from now on, by its name; erased where there is None."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history; its `digest` is of all lines up to it, and is given when it is written."""

    at: datetime
    key: Key
    integration: str
    event: EventType
    detail: str = ""
    revision: str | None = None
    author: str | None = None
    granted_in: str | None = None
    approved_by: tuple[str, ...] = ()
    digest: str = ""

    @classmethod
    def of(cls, record: Record, event: EventType, detail: str, at: datetime, *, author: str | None = None) -> Event:
        """The event of a grant, at the revision that its record is of."""
        return cls(at, record.key, record.integration, event, detail, revision=record.revision, author=author)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a grant.

    `run` is shared by the attempts that continue one another, `total` is how many requests there are in all. `epoch` is
    the one at which `service` was held when it began.
    """

    id: int
    key: Key
    integration: str
    run: int
    kind: str
    number: int
    total: int
    started_at: datetime
    alive_at: datetime
    ended_at: datetime | None
    error: str | None
    revision: str | None
    service: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of an attempt, as it was sent and answered; the URL is masked."""

    attempt: int
    place: int
    method: str
    url: str
    sent_at: datetime
    answered_at: datetime | None
    status_code: int | None
    outcome: Outcome
    error: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asks of the holder of the state."""

    id: int
    at: datetime
    kind: str
    hire: str | None
    access: str | None
    integration: str | None
    by: str


@dataclass(frozen=True, slots=True)
class Member:
    """A process that shares the work on a state: since when, when it was last seen, and the services that it has.

    One that is no `daemon` does what somebody asked for, and ends.
    """

    name: str
    since: datetime
    seen: datetime
    services: tuple[str, ...]
    daemon: bool

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "name": self.name,
            "since": stamp(self.since),
            "seen": stamp(self.seen),
            "services": list(self.services),
        }


@dataclass(frozen=True, slots=True)
class Part:
    """Some grants of everybody: those of these integrations, and those of these names whatever they are of."""

    integrations: frozenset[str]
    names: frozenset[str]
