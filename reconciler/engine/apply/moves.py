"""Write down that rows have other names now: they move with all that is kept of them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.ledger.entries import Event
from reconciler.ledger.vault import Vault, notice_name, run_name, stored_name
from reconciler.model.grant import Key

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["move"]


def move(ledger: LedgerWriter, vault: Vault, moves: Mapping[Key, Key], events: Iterable[Event]) -> None:
    """Move rows, their history and their sealed values, all or none. Each move has its event.

    Rows go on needing what moves: a pass need not cover them for that.
    """
    sealed: dict[str, Any] = {}
    stored: dict[str, dict[str, Any]] = {}
    left: dict[str, None] = {}
    for old, new in moves.items():
        for name in (run_name, notice_name):
            if (known := vault.read(ledger, name(old))) is not None:
                sealed[name(new)] = known
                left[name(old)] = None
        of_hire = vault.read(ledger, stored_name(old.hire)) or {}
        if old.access in of_hire:
            stored.setdefault(new.hire, {})[new.access] = of_hire[old.access]
    kept: dict[str, Any] = {place: vault.sealed(place, value) for place, value in sealed.items()}
    for hire, values in stored.items():  # within the transaction: another service's pass may move its own at this time
        moving = {old.access for old in moves if old.hire == hire}
        kept[stored_name(hire)] = vault.changed(stored_name(hire), partial(_with_moved, moving, values))
    kept = {**vault.without_stored(ledger, moves.keys()), **left, **kept}
    ledger.rename(moves, events, kept, needs=_needs(ledger, moves))


def _needs(ledger: LedgerWriter, moves: Mapping[Key, Key]) -> dict[Key, list[str]]:
    """Return what rows of the same services need, where that has another name, by the rows' new keys."""
    names: dict[tuple[str, str], dict[str, str]] = {}
    for old, new in moves.items():
        names.setdefault((old.hire, new.hire), {})[old.access] = new.access
    rows = list(ledger.grants.records({hire for pair in names for hire in pair}))
    services = {row.service for row in rows if row.key in moves}
    found: dict[Key, list[str]] = {}
    for row in rows:
        key = moves.get(row.key, row.key)
        theirs = names.get((row.key.hire, key.hire), {})
        if row.service in services and not theirs.keys().isdisjoint(row.needs):
            found[key] = [theirs.get(need, need) for need in row.needs]
    return found


def _with_moved(moving: Container[str], values: Mapping[str, Any], of_hire: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is stored for a hire, without the entries that move away and with those that move here."""
    stay = {access: kept for access, kept in (of_hire or {}).items() if access not in moving}
    return {**stay, **values}
