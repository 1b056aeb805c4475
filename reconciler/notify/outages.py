"""The record of outages: since when a service's checks failed, until when, and why.

Each integration has one note in the ledger, so that a restart neither loses an outage nor leaves it open for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from reconciler.ledger.reader import LedgerReader
from reconciler.model.value import Frozen, replace
from reconciler.notify.rules import CheckStreak, News, NewsKind

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["Outage", "forget", "note", "outages_of", "watches"]

NOTE = "outages:"
KEPT = 20
"""The most outages of an integration that are remembered."""


class Outage(Frozen):
    """One outage; `until` is None while it lasts. Moments are UTC, ISO 8601."""

    since: str
    reason: str
    until: str | None = None


def outages_of(ledger: LedgerReader) -> dict[str, list[Outage]]:
    """Return the outages of each integration, newest first."""
    return {name: _read(value) for name, value in ledger.notes.beginning(NOTE).items()}


def watches(ledger: LedgerReader) -> dict[str, CheckStreak]:
    """Return the outages whose end a starting daemon has to watch for: those that lasted when the last one ended."""
    lasting = {name: found[0] for name, found in outages_of(ledger).items() if found and found[0].until is None}
    return {name: CheckStreak(down_since=outage.since) for name, outage in lasting.items()}


def note(ledger: LedgerWriter, news: Iterable[News], now: str) -> None:
    """Save outages that begin and end; `now` is a time."""
    for item in news:
        name = f"{NOTE}{item.integration}"
        known = _read(ledger.notes.get(name) or b"[]")
        lasts = bool(known) and known[0].until is None
        if item.kind is NewsKind.OUTAGE and not lasts:
            known.insert(0, Outage(item.since or now, item.reason))
        elif item.kind is NewsKind.RECOVERED and lasts:
            known[0] = replace(known[0], until=now)
        ledger.notes.put(name, json.dumps([asdict(each) for each in known[:KEPT]]).encode())


def forget(ledger: LedgerWriter) -> None:
    """Erase what services said: it may name a person who is forgotten."""
    for name, value in ledger.notes.beginning(NOTE).items():
        without = [asdict(replace(each, reason="")) for each in _read(value)]
        ledger.notes.put(f"{NOTE}{name}", json.dumps(without).encode())


def _read(value: bytes) -> list[Outage]:
    return [Outage(**each) for each in json.loads(value)]
