"""What a person asks of the state: retry, accept, run, revoke, release.

`retry` and `accept` only change the ledger; `run`, `revoke` and `release` (`--yes-really`) go into the next pass. Where
another process holds the state they are left as words, which the holder takes up (DESIGN section 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.ledger.store import Happening, Ledger, Word
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import Action, Event, Status

__all__ = ["ByHand", "hear", "matching", "requested"]

UNSETTLED = (Phase.RETRYING, Phase.FAILED)


@dataclass(slots=True)
class ByHand:
    """What the next pass is asked to do beyond the plan."""

    grants: dict[Key, str] = field(default_factory=dict)
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


def hear(ledger: Ledger, words: Iterable[Word], now: datetime) -> ByHand:
    """Act on words as far as the ledger alone can, and give back what is left for the next pass."""
    asked = ByHand()
    for word in words:
        records = matching(ledger.records([word.hire] if word.hire else None), word)
        match word.kind:
            case "retry":
                again = [replace(record, fresh=True) for record in records if record.phase in UNSETTLED]
                ledger.save(again, [_line(record, Event.RETRY_REQUESTED, word, now) for record in again])
                asked.touched |= {record.key for record in again}
            case "accept":
                done = [_accepted(record, now) for record in records]
                ledger.save(done, [_line(record, Event.ACCEPTED, word, now) for record in done])
                for record in done:
                    ledger.erase(f"run/{record.key}")
                asked.touched |= {record.key for record in done}
            case "run" | "revoke" if word.hire and word.access:
                key = Key(word.hire, word.access)
                asked.grants[key] = word.kind
                asked.touched.add(key)
                ledger.save((), requested(word.kind, key, now, word.by))
            case "release":
                asked.released = True
            case _:
                pass
    return asked


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
