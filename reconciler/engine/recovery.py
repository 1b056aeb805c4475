"""Attempts without an end: what becomes of a run that a crash cut off.

It succeeded if every request was answered with success; else it failed, at the last moment at which the ledger shows it
alive (docs/design/rules.md, "The ledger and the retry").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler.engine import transitions as records
from reconciler.engine.decide import Policy
from reconciler.ledger.entries import Attempt, Event
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import run_name
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Kind, Record
from reconciler.model.settings import Settings

__all__ = ["as_settled", "recover"]


def recover(
    ledger: LedgerWriter, settings: Settings, now: datetime, *, busy: Callable[[Key], bool] = lambda _key: False
) -> None:
    """Settle every attempt that a crash cut off. The caller holds the state; what is `busy` is under way."""
    policy = Policy.of(settings, now)
    for attempt in ledger.open_attempts():
        record = ledger.record(attempt.key)
        if record is None or busy(attempt.key):
            continue
        new, lines = _cut_off(record, attempt, policy)
        done = new.phase not in records.UNSETTLED
        ledger.settle(
            attempt,
            new,
            lines,
            now=attempt.alive_at,
            error=None if done else new.last_error,
            kept={run_name(record.key): None} if done else None,
        )


def as_settled(found: Mapping[Key, Record], ledger: LedgerReader, policy: Policy) -> dict[Key, Record]:
    """The records as they will count once `recover` has run: for who only reads."""
    settled = dict(found)
    for attempt in ledger.open_attempts():
        if (record := settled.get(attempt.key)) is not None:
            settled[attempt.key], _ = _cut_off(record, attempt, policy)
    return settled


def _cut_off(record: Record, attempt: Attempt, policy: Policy) -> tuple[Record, list[Event]]:
    if records.complete(record.steps, attempt.total):
        if record.revoking:
            return records.revoked(record, attempt.alive_at)
        if record.kind.updates:
            return records.updated(record, webhook=False, now=attempt.alive_at)
        # Whether it is a webhook's the ledger does not know: the next pass, which has the manifest, says `done` of it.
        return records.succeeded(record, webhook=False, heals=record.kind is Kind.HEAL, now=attempt.alive_at)
    error = "interrupted: the program ended in mid-attempt"
    return records.failed(
        record, error, now=policy.now, at=attempt.alive_at, retry_delay=policy.retry_delay, interrupted=True
    )
