"""A hire's file that was renamed, the address still the same: the person's rows follow the address (STATES.md).

Where the old name is given to somebody else at the same time, even where two people swap names, each one's rows go to
the name that has the address now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.engine.memory import Vault, notice_name, run_name, stored_name
from reconciler.ledger.store import Ledger
from reconciler.model.grant import Key, Record
from reconciler.repository.desired import Desired

__all__ = ["follow", "move", "rows_of"]


def rows_of(ledger: Ledger, hires: frozenset[str] | None, desired: Desired) -> dict[Key, Record]:
    """The rows of these hires, or all, and those under other names that may have to follow to one of them."""
    if hires is None:
        return {record.key: record for record in ledger.records()}
    known = set(hires)
    while True:
        people = [loaded.model.email for hire in known if (loaded := desired.hires.get(hire)) is not None]
        found = {record.key: record for record in ledger.records(known, people)}
        owners = {desired.owner(record.email) for record in found.values()}
        more = ({key.hire for key in found} | {owner for owner in owners if owner is not None}) - known
        if not more:
            return found
        known |= more


def follow(found: Mapping[Key, Record], desired: Desired) -> dict[Key, Key]:
    """Which rows move, and where to. A row whose place is taken by one that stays stays too."""
    moves: dict[Key, Key] = {}
    for key, record in found.items():
        owner = desired.owner(record.email)
        if owner not in (None, key.hire) and key.hire not in desired.broken_hires:
            to = Key(str(owner), key.access)
            if to not in moves.values():
                moves[key] = to
    while stuck := [key for key, to in moves.items() if to in found and to not in moves]:
        for key in stuck:
            del moves[key]
    return moves


def move(ledger: Ledger, vault: Vault, moves: Mapping[Key, Key]) -> None:
    """Move rows, their history and what is sealed for them, all or none."""
    if not moves:
        return
    sealed: dict[str, Any] = {}
    stored: dict[str, dict[str, Any]] = {}
    left: dict[str, None] = {}
    for old, new in moves.items():
        for name in (run_name, notice_name):
            if (known := vault.read(name(old))) is not None:
                sealed[name(new)] = known
                left[name(old)] = None
        of_hire = vault.read(stored_name(old.hire)) or {}
        if old.access in of_hire:
            stored.setdefault(new.hire, {})[old.access] = of_hire[old.access]
    for hire, values in stored.items():
        moving = {old.access for old in moves if old.hire == hire}
        stay = vault.read(stored_name(hire)) or {}
        sealed[stored_name(hire)] = {name: stay[name] for name in stay if name not in moving} | values
    kept = {place: vault.sealed(place, value) for place, value in sealed.items()}
    ledger.rename(moves, {**vault.without_stored(moves.keys()), **left, **kept})
