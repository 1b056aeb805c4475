"""What a person asks of the state: retry, accept, run, revoke, release.

`retry` and `accept` only change the ledger; `run`, `revoke` and `release` (`--yes-really`) go into the next pass. Where
another process holds the state they are left as words, which the holder takes up (docs/design/rules.md, "The ledger and
the retry").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.engine.memory import run_name
from reconciler.ledger.entries import Happening, Word
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import Action, Event, Status

__all__ = ["ByHand", "Waiting", "hear", "matching", "requested", "told", "waiting"]

UNSETTLED = (Phase.RETRYING, Phase.FAILED)


Waiting = Mapping[Key, Sequence[Word]]
"""The words that wait for a pass to act on them, by the grant that they name, oldest first."""


@dataclass(slots=True)
class ByHand:
    """What became of words: `touched` are grants that a pass is to look at, `released` the guard's holds."""

    released: bool = False
    touched: set[Key] = field(default_factory=set)


def matching(records: Iterable[Record], word: Word) -> list[Record]:
    """The records that a word is about."""
    return [
        record
        for record in records
        if word.hire in (None, record.key.hire)
        and word.access in (None, record.key.access)
        and word.integration in (None, record.integration)
    ]


def hear(ledger: LedgerWriter, words: Iterable[Word], now: datetime) -> ByHand:
    """Act on words as far as the ledger alone can, each taken off the list with what it changes.

    A `run` or `revoke` stays on the list until a pass writes down what it makes of it: the beginning of an attempt, or
    that there is to be none. Until then no crash loses it, and from then on none repeats it.
    """
    asked = ByHand()
    for word in words:
        records = matching(ledger.records([word.hire] if word.hire else None), word)
        lines: list[Happening] = []
        kept: dict[str, None] = {}
        match word.kind:
            case "retry":
                records = [replace(record, fresh=True) for record in records if record.phase in UNSETTLED]
                lines = [_line(record, Event.RETRY_REQUESTED, word, now) for record in records]
            case "accept":
                records = [_accepted(record, now) for record in records]
                lines = [_line(record, Event.ACCEPTED, word, now) for record in records]
                kept = {run_name(record.key): None for record in records}
            case "run" | "revoke" if word.hire and word.access:
                asked.touched.add(Key(word.hire, word.access))
                continue
            case "release":
                records, asked.released = [], True
            case _:
                records = []
        ledger.save(records, lines, Failpoint.HEARD, kept=kept, heard=[word])
        asked.touched |= {record.key for record in records}
    return asked


def waiting(words: Iterable[Word]) -> dict[Key, list[Word]]:
    """The words that a pass acts on."""
    found: dict[Key, list[Word]] = {}
    for word in words:
        if word.kind in ("run", "revoke") and word.hire and word.access:
            found.setdefault(Key(word.hire, word.access), []).append(word)
    return found


def told(words: Iterable[Word], now: datetime) -> list[Happening]:
    """The lines of the history for words that are taken off the list."""
    return [
        line for word in words for line in requested(word.kind, Key(word.hire or "", word.access or ""), now, word.by)
    ]


def requested(kind: str, key: Key, now: datetime, by: str) -> list[Happening]:
    """The line of the history for a run by hand."""
    return [Happening(now, key, "", Event.RUN_REQUESTED, f"by {by}")] if kind == "run" else []


def _accepted(record: Record, now: datetime) -> Record:
    """A person vouches that the grant is complete: confirmed from here on, and checked like any other."""
    checked = record.checked_at is not None  # what was never checked is a webhook, as far as the ledger knows
    return replace(
        record,
        phase=Phase.CONFIRMED,
        status=Status.PRESENT if checked else Status.DONE,
        action=Action.NONE,
        reason="accepted by hand",
        snapshot=record.values,
        attempted={},
        confirmed_at=record.confirmed_at or now,
        retry_at=None,
        last_error=None,
        fresh=False,
        lost=False,
        revoking=False,
        by_hand=False,
        run=None,
    )


def _line(record: Record, event: Event, word: Word, now: datetime) -> Happening:
    return Happening(now, record.key, record.integration, event, f"by {word.by}", record.revision)
