"""Who had what at a moment, from the history's lines up to then: nothing else knows what is over.

A grant is shown if an account was there by its lines, or may have been, because an attempt failed half-way. What its
lines do not say is None: an older release wrote no values, and a line may be from before it was known who gave it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.ledger.entries import Event
from reconciler.ledger.history import ENDED, MADE, Followed
from reconciler.model.attribution import Approval, Attribution
from reconciler.model.grant import Key
from reconciler.model.report import Row
from reconciler.model.status import Action, EventType, Status

__all__ = ["replayed"]

THERE = (*MADE, EventType.UPDATED)
"""The events from which on there is an account, with the values that they say, by who gave it then."""

GONE = (*ENDED, EventType.LOST)
"""The events from which on there is none."""

HALFWAY = (EventType.ATTEMPT_FAILED, EventType.ATTEMPT_INTERRUPTED)
"""The events from which on there may be one."""

MEANT = {
    EventType.EXECUTED: Status.UNCONFIRMED,
    EventType.DIFFERED: Status.DIFFERS,
    EventType.ORPHANED: Status.ORPHANED,
    EventType.EXPIRED: Status.ORPHANED,
    EventType.BLOCKED: Status.BLOCKED,
    EventType.LOCKED: Status.SUSPENDED,
    EventType.ATTEMPT_FAILED: Status.RETRYING,
    EventType.ATTEMPT_INTERRUPTED: Status.RETRYING,
    **dict.fromkeys((EventType.ADOPTED, EventType.CONFIRMED, EventType.ACCEPTED), Status.PRESENT),
}
"""The status after an event whose line does not have it."""


@dataclass(slots=True)
class Past:
    """A grant as the history has it up to a line."""

    integration: str
    status: Status = Status.MISSING
    there: bool = False
    halfway: bool = False
    since: datetime | None = None
    values: dict[str, Any] | None = None
    given: Attribution | None = None
    last: str = ""
    revision: str | None = None

    @property
    def shown(self) -> bool:
        """Whether there was an account, or may have been."""
        return self.there or self.halfway

    def follow(self, line: Event) -> None:
        """Go on by one line."""
        self.integration = line.integration or self.integration
        self.revision = line.revision or self.revision
        self.last = f"{line.event}: {line.detail}" if line.detail else str(line.event)
        data, kind = line.data or {}, line.event
        said = data.get("status")
        self.status = Status(said) if said is not None else MEANT.get(kind, self.status)
        if kind in GONE:
            self.there = self.halfway = False
            self.since = self.values = self.given = None
            return
        if kind in THERE:
            self.since = line.at if self.since is None or not self.there else self.since
            self.there, self.halfway = True, False
        elif kind in HALFWAY and not self.there:
            self.since, self.halfway = self.since or line.at, True
        if kind is EventType.APPROVED and self.given is not None and line.granted_in == self.given.granted_in:
            self.given = _given(line)
        elif kind in THERE or not self.there:
            self.values = data.get("values", None if kind in THERE else self.values)
            self.given = _given(line) or self.given

    def row(self, key: Key, *, email: str = "", name: str = "") -> Row:
        """Return the grant as `status` shows it; the address and the name are those of now."""
        return Row(
            hire=key.hire,
            email=email,
            access=key.access,
            integration=self.integration,
            status=self.status,
            action=Action.NONE,
            reason=self.last,
            attempts=None,
            retry_at=None,
            checked_at=None,
            last_error=None,
            source="",
            since=self.since,
            revision=self.revision,
            name=name,
            values=self.values,
            given=self.given,
        )


def replayed(lines: Iterable[Event]) -> tuple[dict[Key, Past], str | None]:
    """Follow the history, oldest line first; return each grant by its name of now, and the revision acted on last."""
    followed, named, revision = Followed[Past](), dict[str, Key](), None
    for line in lines:
        revision = line.revision or revision
        if not line.key.access:
            continue
        name = line.was or str(line.key)
        named[name] = line.key
        if line.event is not EventType.RENAMED:
            followed.known().setdefault(name, Past(line.integration)).follow(line)
        elif (moved := followed.renamed(name, line.data)) is not None:
            moved.follow(line)
    found = sorted(followed.known().items(), key=lambda each: each[1].shown)  # of two with one name one is gone
    return {named[name]: past for name, past in found}, revision


def _given(line: Event) -> Attribution | None:
    if line.granted_in is None or line.author is None:
        return None
    data = line.data or {}
    said = data.get("approvals")
    approvals = map(Approval, line.approved_by) if said is None else map(Approval.from_json, said)
    return Attribution(line.granted_in, line.author, "", line.at, tuple(approvals), merged_by=data.get("merged_by"))
