"""Convert rows of the tables to entries, and entries to rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

from reconciler.ledger.entries import Attempt, Command, Event, Sent
from reconciler.ledger.reading import Row, moment, without_nul
from reconciler.model.attribution import Approval, Attribution, Source
from reconciler.model.grant import Key, Kind, OpenRun, Outcome, Over, Phase, Record, Step
from reconciler.model.lock import Lock, LockState
from reconciler.model.status import Action, EventType, ReasonCode, Status
from reconciler.model.verdict import Cause

__all__ = [
    "RECORD_COLUMNS",
    "SELECT_GIVEN",
    "Redact",
    "attempt_of",
    "attempt_row",
    "changed_and_checked",
    "command_of",
    "event_of",
    "event_row",
    "event_rows",
    "from_json",
    "given_of",
    "given_row",
    "grant_row",
    "line_of",
    "lock_of",
    "record_by_place",
    "record_of",
    "request_row",
    "sent_of",
]

E = TypeVar("E", bound=StrEnum)

Redact = Callable[[Any], Any]

_RECORD_FIELDS = tuple(name for name in Record.__struct_fields__ if name not in ("key", "open"))
_PHASE = _RECORD_FIELDS.index("phase")
_BUT_WHEN_CHECKED = attrgetter("key", "open", *(name for name in _RECORD_FIELDS if name != "checked_at"))


def from_json(cell: Any) -> Any:
    """Read a column of JSON, which one database's driver decodes and the other's does not.

    Most are empty, and to parse those would take a fifth of the time of a row.
    """
    if cell == "{}":
        return {}
    return json.loads(cell) if isinstance(cell, str) else cell


def _reads(kind: type[E]) -> Callable[[str], E]:
    """Return what finds a member by its value: calling the class takes eight times as long."""
    return {each.value: each for each in kind}.__getitem__


def _code(cell: str | None) -> ReasonCode | None:
    return None if cell is None else ReasonCode(cell)


_moment = lru_cache(maxsize=1024)(moment)  # a pass writes few moments, each of them into many rows

_READ: dict[str, Callable[[Any], Any]] = {
    "phase": _reads(Phase),
    "status": _reads(Status),
    "action": _reads(Action),
    "cause": lambda cell: None if cell is None else Cause(cell),
    "code": _code,
    "locked": lambda cell: None if cell is None else LockState(cell),
    "needs": lambda cell: () if cell == "[]" else tuple(from_json(cell)),
    "form": lambda cell: None if cell is None else () if cell == "[]" else tuple(from_json(cell)),
    **dict.fromkeys(("snapshot", "wants", "differs", "accepted"), from_json),
    **dict.fromkeys(("changed", "lost", "fresh", "guarded", "keep", "off", "ends_with_hire", "ends_moved"), bool),
    **dict.fromkeys(("checked_at", "executed_at", "confirmed_at", "healed_at", "orphaned_at"), _moment),
    **dict.fromkeys(("as_wanted_at", "updated_at", "acted_at", "ends_at", "expire_at", "seen_at"), _moment),
    "over": lambda cell: None if cell is None else Over(cell),
}
"""How to read columns whose value is not that of the record."""


RECORD_COLUMNS = ("hire", "access", *_RECORD_FIELDS, "kind", "run", "digest", "attempted", "by_hand", "retry_at")
"""The columns of a record, in the order in which `record_by_place` reads them."""

_READERS = tuple(_READ.get(name) for name in _RECORD_FIELDS)


def record_of(row: Row, steps: tuple[Step, ...]) -> Record:
    """Read a grant's record."""
    return record_by_place([row[name] for name in RECORD_COLUMNS], steps)


def record_by_place(cells: Sequence[Any], steps: tuple[Step, ...]) -> Record:
    """Read a grant's record from the columns `RECORD_COLUMNS`: a pass reads very many."""
    own, run = cells[2 : len(_READERS) + 2], cells[len(_READERS) + 2 :]
    values = [cell if read is None else read(cell) for cell, read in zip(own, _READERS, strict=True)]
    phase: Phase = values[_PHASE]
    values.append(_open_run(run, steps) if run[1] is not None or phase.unsettled else None)
    return Record(Key(cells[0], cells[1]), *values)  # in the order of the fields


def _open_run(cells: Sequence[Any], steps: tuple[Step, ...]) -> OpenRun:
    kind, run, digest, attempted, by_hand, retry_at = cells
    return OpenRun(
        kind=Kind(kind),
        id=run,
        digest=digest,
        values=from_json(attempted),
        by_hand=bool(by_hand),
        retry_at=moment(retry_at),
        steps=steps,
    )


def grant_row(record: Record) -> dict[str, Any]:
    """Write a record."""
    row = {name: getattr(record, name) for name in _RECORD_FIELDS}
    run = record.run
    open_run = {
        "kind": run.kind,
        "run": run.id,
        "digest": run.digest,
        "attempted": run.values,
        "by_hand": run.by_hand,
        "retry_at": run.retry_at,
    }
    return {**row, **open_run, "hire": record.key.hire, "access": record.key.access, "needs": list(record.needs)}


def changed_and_checked(
    records: Iterable[Record], before: Mapping[Key, Record]
) -> tuple[list[Record], list[dict[str, Any]]]:
    """Split records into those that changed, and the check times of those that were only checked again."""
    changed, checked = [], []
    for record in records:
        known = before.get(record.key)
        if known is None or _BUT_WHEN_CHECKED(known) != _BUT_WHEN_CHECKED(record):
            changed.append(record)
        elif known.checked_at != record.checked_at:
            checked.append({"whose": record.key.hire, "which": record.key.access, "moment": record.checked_at})
    return changed, checked


def attempt_of(row: Row) -> Attempt:
    """Read an attempt."""
    return Attempt(
        id=row["id"],
        key=Key(row["hire"], row["access"]),
        integration=row["integration"],
        run=row["run"],
        kind=row["kind"],
        number=row["number"],
        total=row["total"],
        started_at=moment(row["started_at"]),
        alive_at=moment(row["alive_at"]),
        ended_at=moment(row["ended_at"]),
        error=row["error"],
        revision=row["revision"],
        service=row["service"],
        epoch=row["epoch"],
    )


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """Write an attempt that begins; the database gives it its id."""
    return {
        "hire": attempt.key.hire,
        "access": attempt.key.access,
        "integration": attempt.integration,
        "run": attempt.run,
        "kind": attempt.kind,
        "number": attempt.number,
        "total": attempt.total,
        "started_at": attempt.started_at,
        "alive_at": attempt.alive_at,
        "revision": attempt.revision,
        "service": attempt.service,
        "epoch": attempt.epoch,
    }


def sent_of(row: Row) -> Sent:
    """Read a request."""
    return Sent(
        attempt=row["attempt"],
        place=row["place"],
        method=row["method"],
        url=row["url"],
        sent_at=moment(row["sent_at"]),
        answered_at=moment(row["answered_at"]),
        status_code=row["status_code"],
        outcome=Outcome(row["outcome"]),
        error=row["error"],
    )


def request_row(attempt: Attempt, step: Step, method: str, url: str, now: datetime) -> dict[str, Any]:
    """Write a request that is about to be sent."""
    return {
        "attempt": attempt.id,
        "run": attempt.run,
        "place": step.index,
        "text": step.text,
        "method": method,
        "url": url,
        "mutates": step.mutates,
        "sent_at": now,
        "answered_at": None,
        "status_code": None,
        "outcome": step.outcome,
        "error": None,
    }


def event_of(row: Row) -> Event:
    """Read a line of the history."""
    return Event(
        at=moment(row["at"]),
        key=Key(row["hire"], row["access"]),
        integration=row["integration"],
        event=EventType(row["event"]),
        detail=row["detail"],
        revision=row["revision"],
        author=row["author"],
        granted_in=row["granted_in"],
        approved_by=tuple(from_json(row["approved_by"]) or ()),
        digest=row["digest"],
        code=_code(row["code"]),
        data=from_json(row["data"]),
        was=row["was"],
    )


def line_of(row: Row) -> dict[str, Any]:
    """Read a line of the history with all its columns, for the chain."""
    parsed = {name: from_json(row[name]) for name in ("approved_by", "data")}
    return {**row, "at": moment(row["at"]), **parsed}


def event_row(item: Event) -> dict[str, Any]:
    """Write a line of the history with values that both databases store alike, for the chain."""
    row = {
        "at": item.at,
        "hire": item.key.hire,
        "access": item.key.access,
        "integration": item.integration,
        "event": item.event,
        "revision": item.revision,
        "author": item.author,
        "detail": item.detail,
        "granted_in": item.granted_in,
        "approved_by": list(item.approved_by) or None,
        "data": item.data,
        "code": item.code,
    }
    return {name: without_nul(value) if isinstance(value, str) else value for name, value in row.items()}


def event_rows(events: Iterable[Event], redact: Redact | None) -> list[dict[str, Any]]:
    """Write lines of the history with their values masked, or without values if nothing can mask them."""
    rows = [event_row(event) for event in events]
    for row in rows:
        if row["data"] is not None:
            values = {} if redact is None else {"values": redact(row["data"]["values"])}
            row["data"] = {"status": row["data"]["status"], **values}
    return rows


SELECT_GIVEN = (
    "SELECT hire, access, granted_in, author, committer, given.committed_at, approved_by, approvals, merged_by"
    " FROM given LEFT JOIN pulls ON pulls.revision = granted_in"
)
"""Selects who gave grants, with the columns in the order in which `given_of` reads them."""


def given_of(cells: Sequence[Any]) -> tuple[Key, Attribution]:
    """Read who gave a grant."""
    hire, access, granted_in, author, committer, committed_at, approved_by, at_forge, merged_by = cells
    approvals = () if approved_by == "[]" else tuple(map(Approval.from_json, from_json(approved_by)))
    if at_forge is not None:
        signed = (each for each in approvals if each.source is Source.SIGNATURE)
        approvals = (*(Approval(login, Source.FORGE) for login in from_json(at_forge)), *signed)
    return Key(hire, access), _given(granted_in, author, committer, committed_at, approvals, merged_by=merged_by)


@lru_cache(maxsize=1024)  # one commit gives many grants
def _given(
    granted_in: str,
    author: str,
    committer: str,
    committed_at: int,
    approvals: tuple[Approval, ...],
    *,
    merged_by: str | None,
) -> Attribution:
    return Attribution(granted_in, author, committer, moment(committed_at), approvals, merged_by=merged_by)


def given_row(key: Key, given: Attribution) -> dict[str, Any]:
    """Write who gave a grant."""
    return {
        "hire": key.hire,
        "access": key.access,
        "granted_in": given.granted_in,
        "author": given.author,
        "committer": given.committer,
        "committed_at": given.committed_at,
        "approved_by": [approval.as_json() for approval in given.approvals],
    }


def command_of(row: Row) -> Command:
    """Read a command."""
    return Command(
        id=row["id"],
        at=moment(row["at"]),
        kind=row["kind"],
        hire=row["hire"],
        access=row["access"],
        integration=row["integration"],
        by=row["by"],
        mac=row["mac"],
        data=from_json(row["data"]),
        once=row["once"],
    )


def lock_of(row: Row) -> Lock:
    """Read a lock."""
    return Lock(
        hire=row["hire"],
        at=moment(row["at"]),
        by=row["by"],
        reason=row["reason"],
        until=moment(row["until"]),
        deletes=bool(row["deletes"]),
        hires=frozenset(from_json(row["hires"])),
        addresses=frozenset(from_json(row["addresses"])),
        mac=row["mac"],
    )
