"""Entries of the ledger: events of the history, attempts and their requests, commands, members.

A grant's own entry is `reconciler.model.grant.Record`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from reconciler.model.clock import stamp
from reconciler.model.grant import Key, Record
from reconciler.model.run import Outcome
from reconciler.model.status import EventType, ReasonCode
from reconciler.model.value import Frozen, fields, replace

Change = Callable[[bytes | None], bytes | None]
"""Computes a new value from the present one, in a transaction that excludes other writers."""

ValueChanges = Mapping[str, bytes | Change | None]
"""Values to save, by name; None erases one."""


class SavedWith(TypedDict, total=False):
    """What is written together with records: sealed values, notes, and commands that are answered with it."""

    kept: ValueChanges | None
    noted: ValueChanges | None
    answered: Iterable[Command]


class Event(Frozen):
    """One line of the history; its `digest` covers all lines up to it, and is set when it is written."""

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
    code: ReasonCode | None = None
    """What its detail says, as far as anything depends on it."""
    data: Mapping[str, Any] | None = None
    """The grant's status after it, and the form's values of the account, or those that an attempt sends; who vouches
    for the approvals; who asked for it by hand. None where nothing of this is known."""
    was: str | None = None
    """The name that it was written with, where the grant was renamed since."""

    @classmethod
    def of(
        cls,
        record: Record,
        event: EventType,
        detail: str,
        at: datetime,
        *,
        author: str | None = None,
        code: ReasonCode | None = None,
    ) -> Event:
        """Make the event of a grant at the revision of its record, with the values that the account has."""
        about, said = (record.key, record.integration), None
        if record.form is not None:
            has = record.values
            values = {name: has[name] for name in record.form if has.get(name) is not None}
            said = {"status": str(record.status), "values": values}
        return cls(at, *about, event, detail, revision=record.revision, author=author, code=code, data=said)

    def asked(self, by: str) -> Event:
        """Return the line as one that somebody asked for by hand."""
        return replace(self, detail=f"by {by}", data={**(self.data or {}), "by": by})

    @property
    def by(self) -> str | None:
        """Who asked for it by hand; None where nobody did, or an older release wrote it."""
        return (self.data or {}).get("by")

    def shown(self) -> Event:
        """Return the line as people read it: what somebody asked for by hand is theirs, and no commit's."""
        return self if self.by is None else replace(self, author=None, granted_in=None, approved_by=())


class Attempt(Frozen):
    """One attempt at a grant.

    Attempts that continue one another share their `run`; `total` is the number of requests of all. `epoch` is that of
    the lease of `service` when the attempt began. `by_hand` says that a person asked for it, or let it through.
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
    by_hand: bool = False

    @classmethod
    def of(cls, record: Record, number: int, total: int, now: datetime) -> Attempt:
        """Make an attempt at the grant of a record with an open run, which is not in the ledger yet."""
        return cls(
            id=0,
            key=record.key,
            integration=record.integration,
            run=record.run.id or 0,
            kind=record.run.kind,
            number=number,
            total=total,
            started_at=now,
            alive_at=now,
            ended_at=None,
            error=None,
            revision=record.revision,
            by_hand=record.run.by_hand,
        )


class Answer(TypedDict, total=False):
    """What came of a request: its status, and what was wrong."""

    status_code: int | None
    error: str | None


class Sent(Frozen):
    """One request of an attempt, with its answer; the URL is masked."""

    attempt: int
    place: int
    method: str
    url: str
    sent_at: datetime
    answered_at: datetime | None
    status_code: int | None
    outcome: Outcome
    error: str | None


class Command(Frozen):
    """A command of a person to the process that has the state."""

    id: int
    at: datetime
    kind: str
    hire: str | None
    access: str | None
    integration: str | None
    by: str
    mac: str | None = None
    """The code that only who has the state's key can make."""
    data: Mapping[str, Any] | None = None
    """What a command says beside the grants that it is about."""
    once: str | None = None
    """A random name: what was acted on counts no second time."""

    def __hash__(self) -> int:
        return hash((self.id, self.at))

    @property
    def once_only(self) -> bool:
        """Whether a copy of it must not be acted on. A check does no harm, and a command may become thousands."""
        return self.once is not None and self.kind != "check"

    @property
    def said(self) -> bytes:
        """Return what the code is of."""
        parts = [stamp(self.at), self.at.microsecond, self.kind, self.hire, self.access, self.integration, self.by]
        return json.dumps([*parts, self.data, self.once], sort_keys=True).encode()


class About(TypedDict, total=False):
    """What a command is about."""

    hire: str | None
    access: str | None
    integration: str | None
    data: Mapping[str, Any] | None


CommandsByGrant = Mapping[Key, Sequence[Command]]
"""Commands that a pass acts on, by the grant that they name, oldest first."""


class Member(Frozen):
    """A process of a fleet: since when, when it was last seen, and the services that it has leased.

    One that is no `daemon` runs a command and ends.
    """

    name: str
    since: datetime
    seen: datetime
    services: tuple[str, ...]
    daemon: bool

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return fields(self, "name", "since", "seen", "services")


class GrantFilter(Frozen):
    """Some grants of every hire: those of these integrations, and those of these access names."""

    integrations: frozenset[str]
    names: frozenset[str]


class Unanswered(Frozen):
    """A commit that the forge has not answered for; `asked_at` is when it first said that it knows no pull request."""

    revision: str
    merges: tuple[str, ...]
    asked_at: datetime | None
