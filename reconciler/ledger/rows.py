"""Convert rows of the tables to entries, and entries to rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache, partial
from operator import attrgetter
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from msgspec.structs import asdict

from reconciler.ledger.entries import Attempt, Event
from reconciler.ledger.reading import Row, UnreadableError, moment, without_nul
from reconciler.model.attribution import Approval, Attribution, Source
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.run import OpenRun, Step
from reconciler.model.value import Frozen

V = TypeVar("V", bound=Frozen)

Redact = Callable[[Any], Any]
Read = Callable[[Any], Any]

_RECORD_FIELDS = tuple(name for name in Record.__struct_fields__ if name not in ("key", "open"))
_PHASE = _RECORD_FIELDS.index("phase")
_BUT_WHEN_CHECKED = attrgetter("key", "open", *(name for name in _RECORD_FIELDS if name != "checked_at"))
_OPEN_RUN = {
    "kind": "kind",
    "run": "id",
    "digest": "digest",
    "attempted": "values",
    "by_hand": "by_hand",
    "retry_at": "retry_at",
}
"""The columns of an open run, and its fields."""

RECORD_COLUMNS = ("hire", "access", *_RECORD_FIELDS, *_OPEN_RUN)
"""The columns of a record, in the order in which `record_by_place` reads them."""


def from_json(cell: Any, kind: type = object) -> Any:
    """Read a column of JSON of this kind, or null, which one database's driver decodes and the other's does not.

    Most are empty, and to parse those would take a fifth of the time of a row. Raises UnreadableError.
    """
    if cell == "{}":
        return {}
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
    except (ValueError, RecursionError):
        raise UnreadableError(cell) from None
    if found is not None and not isinstance(found, kind):
        raise UnreadableError(cell)
    return found


def _tuple(cell: Any) -> tuple[Any, ...]:
    return () if cell == "[]" else tuple(from_json(cell, list) or ())


@cache
def _readers(kind: type[Frozen]) -> dict[str, Read | None]:
    """Return how to read each field of an entry from its column; None where the column has the field's value."""
    hints = get_type_hints(kind)
    return {name: _reader(hints[name]) for name in kind.__struct_fields__}


def _reader(hint: Any) -> Read | None:
    """Return what reads a column for a field of this type."""
    kinds = [each for each in get_args(hint) if each is not NoneType]
    if NoneType in get_args(hint):
        read = _reader(kinds[0])
        return None if read is None else lambda cell: None if cell is None else read(cell)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        # To call the class takes eight times as long.
        return _Words(hint, {each.value: each for each in hint}).__getitem__
    kind = get_origin(hint) or hint
    return _BY_KIND.get(kind)


class _Words(dict[str, StrEnum]):
    """The members of a closed set, by what a column has. Raises LedgerError for what is none of them."""

    def __init__(self, kind: type[StrEnum], members: Mapping[str, StrEnum]) -> None:
        super().__init__(members)
        self._kind = kind

    def __missing__(self, word: str) -> StrEnum:
        raise LedgerError(
            f"the state has a word that this version does not know, {word!r} ({self._kind.__name__}): a newer version"
            " wrote it, or it was changed by hand; use that version, or restore a backup of the state"
        )


_BY_KIND: dict[Any, Read] = {
    bool: bool,
    datetime: moment,
    frozenset: lambda cell: frozenset(_tuple(cell)),
    Mapping: partial(from_json, kind=dict),
    tuple: _tuple,
}


def entry_of(kind: type[V], row: Row) -> V:
    """Read an entry from a row, whose columns have the names of its fields."""
    readers = _readers(kind)
    values = {name: row[name] if read is None else read(row[name]) for name, read in readers.items() if name != "key"}
    if "key" in readers:
        values["key"] = Key(row["hire"], row["access"])
    return kind(**values)


_READERS = tuple(_readers(Record)[name] for name in _RECORD_FIELDS)
_RUN_READERS = {name: _readers(OpenRun)[name] for name in _OPEN_RUN.values()}


def record_of(row: Row, steps: tuple[Step, ...]) -> Record:
    """Read a grant's record."""
    return record_by_place([row[name] for name in RECORD_COLUMNS], steps)


def record_by_place(cells: Sequence[Any], steps: tuple[Step, ...]) -> Record:
    """Read a grant's record from the columns `RECORD_COLUMNS`: a pass reads very many."""
    own, run = cells[2 : len(_READERS) + 2], cells[len(_READERS) + 2 :]
    values = [cell if read is None or cell is None else read(cell) for cell, read in zip(own, _READERS, strict=True)]
    phase: Phase = values[_PHASE]
    values.append(_open_run(run, steps) if run[1] is not None or phase.unsettled else None)
    return Record(Key(cells[0], cells[1]), *values)  # in the order of the fields


def _open_run(cells: Sequence[Any], steps: tuple[Step, ...]) -> OpenRun:
    read = zip(_RUN_READERS.items(), cells, strict=True)
    return OpenRun(**{name: cell if how is None else how(cell) for (name, how), cell in read}, steps=steps)


def grant_row(record: Record) -> dict[str, Any]:
    """Write a record."""
    row = {name: getattr(record, name) for name in _RECORD_FIELDS}
    open_run = {column: getattr(record.run, name) for column, name in _OPEN_RUN.items()}
    lists = {"needs": list(record.needs), "through": list(record.through)}
    return {**row, **open_run, "hire": record.key.hire, "access": record.key.access, **lists}


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


def _row(entry: Attempt | Event, *left_out: str) -> dict[str, Any]:
    """Write an entry, but for these fields."""
    row = {name: value for name, value in asdict(entry).items() if name not in ("key", *left_out)}
    return {**row, "hire": entry.key.hire, "access": entry.key.access}


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """Write an attempt that begins; the database gives it its id."""
    return _row(attempt, "id")


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


def line_of(row: Row) -> dict[str, Any]:
    """Read a line of the history with all its columns, for the chain. Raises UnreadableError."""
    parsed = {"approved_by": from_json(row["approved_by"], list), "data": from_json(row["data"], dict)}
    return {**row, "at": moment(row["at"]), **parsed}


def event_row(item: Event) -> dict[str, Any]:
    """Write a line of the history with values that both databases store alike, for the chain."""
    row = {**_row(item, "digest", "was"), "approved_by": list(item.approved_by) or None}
    return {name: without_nul(value) if isinstance(value, str) else value for name, value in row.items()}


def event_rows(events: Iterable[Event], redact: Redact | None) -> list[dict[str, Any]]:
    """Write lines of the history with their values masked, or without values if nothing can mask them."""
    rows = [event_row(event) for event in events]
    for row in rows:
        if row["data"] is not None:
            said = {name: value for name, value in row["data"].items() if name != "values"}
            values = {} if redact is None or "values" not in row["data"] else {"values": redact(row["data"]["values"])}
            row["data"] = {**said, **values}
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
    given = Attribution(granted_in, author, committer, moment(committed_at), approvals, merged_by=merged_by)
    return Key(hire, access), given


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
