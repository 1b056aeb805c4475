"""A hire's file that was renamed, the address still the same: the person's rows follow the address.

See docs/design/states.md.

Where the old name is given to somebody else at the same time, even where two people swap names, each one's rows go to
the name that has the address now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.ledger.entries import Part
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import Vault, notice_name, run_name, stored_name
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Record
from reconciler.model.selection import Selection
from reconciler.repository.desired import Desired

__all__ = ["follow", "move", "rows_of"]


def rows_of(ledger: LedgerReader, selection: Selection, desired: Desired) -> dict[Key, Record]:
    """The rows of a selection's hires, or all, and those under other names that may have to follow to one of them.

    A pass over one service reads that service's rows, those of the entries that these need, and any that stand where
    one of its entries does; everything, where a row has to follow or a hire's file cannot be read.
    """
    if selection.hires is None:
        return {record.key: record for record in ledger.records()}
    known = set(selection.hires)
    if selection.integrations is not None and not known & desired.broken_hires.keys():
        found = {
            record.key: record
            for record in ledger.records(known, _addresses(known, desired), _part(selection, desired))
        }
        if absent := _needed(found) - found.keys():
            names = frozenset(key.access for key in absent)
            found |= {record.key: record for record in ledger.records(known, (), Part(frozenset(), names))}
        if all(desired.owner(record.email) in (None, key.hire) for key, record in found.items()):
            return found
    while True:
        found = {record.key: record for record in ledger.records(known, _addresses(known, desired))}
        owners = {desired.owner(record.email) for record in found.values()}
        more = ({key.hire for key in found} | {owner for owner in owners if owner is not None}) - known
        if not more:
            return found
        known |= more


def _needed(found: Mapping[Key, Record]) -> set[Key]:
    """The entries that these rows need: what they stored may be asked with, to revoke what needed them."""
    return {Key(record.key.hire, need) for record in found.values() for need in record.needs}


def _addresses(hires: Iterable[str], desired: Desired) -> list[str]:
    return [file.email for hire in hires if (file := desired.hires.file(hire)) is not None and file.email is not None]


def _part(selection: Selection, desired: Desired) -> Part:
    """Which rows a selection of integrations meets."""
    assert selection.integrations is not None
    integrations, names = set(selection.integrations), set[str]()
    for hire in selection.hires or ():
        grants = desired.grants(hire)
        own = [grant for grant in grants if grant.integration in selection.integrations]
        names.update(grant.key.access for grant in own)
        if any(grant.needs for grant in own):
            integrations.update(grant.integration for grant in grants)
            names.update(grant.key.access for grant in grants)
    return Part(frozenset(integrations), frozenset(names))


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


def move(ledger: LedgerWriter, vault: Vault, moves: Mapping[Key, Key]) -> None:
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
