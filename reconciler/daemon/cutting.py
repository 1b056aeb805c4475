"""Cutting a selection into passes: by service, and into parts of a bounded number of hires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Key
from reconciler.model.selection import Selection
from reconciler.repository.desired import NO_SERVICE, Desired, Service

__all__ = ["NO_SERVICE", "by_service", "cut", "in_parts", "joined"]


async def by_service(selection: Selection, desired: Desired, ledger: Ledger[LedgerReader]) -> dict[str, Selection]:
    """Cut a selection by service; each part has only the hires and the single grants that use its service."""
    if selection.hires is None:
        return cut(selection, desired.services)
    if selection.grants is None:
        hires = selection.hires
        noted = await ledger.run(lambda reader: list(reader.integrations(hires)))
        wanted = ((hire, integration) for hire in hires for integration in desired.integrations(hire))
        uses = chain(wanted, noted)
        return cut(selection, desired.services, [use for use in uses if selection.covers_some_of(use[1])])
    grants = selection.grants
    named = {key.hire for key in grants}
    records = await ledger.run(lambda reader: list(reader.records(named))) if named else []
    found = [
        (grant.key, grant.integration)
        for hire in selection.hires
        for grant in desired.grants(hire)
        if selection.covers(grant.key, grant.integration)
    ]
    found += [(record.key, record.integration) for record in records if record.key in grants]
    home = _homes(desired.services)
    own: dict[str, set[Key]] = {}
    for key, integration in found:
        own.setdefault(home.get(integration, NO_SERVICE), set()).add(key)
    parts = cut(selection, desired.services, [(key.hire, integration) for key, integration in found])
    return {name: replace(part, grants=frozenset(own.get(name, ()))) for name, part in parts.items()}


def _homes(services: Mapping[str, Service]) -> dict[str, str]:
    """Map each integration to its service."""
    return {integration: name for name, service in services.items() for integration in service.manifests}


def cut(
    selection: Selection, services: Mapping[str, Service], uses: Iterable[tuple[str, str]] | None = None
) -> dict[str, Selection]:
    """Cut a selection into one for each service; what belongs to no service is in the part of `NO_SERVICE`.

    `uses` are pairs of a hire and an integration that it uses, if known: each part then has only the hires that use the
    service. Hires that use none are in the part of `NO_SERVICE`, unless only some integrations are selected.
    """
    manifests = {name: frozenset(service.manifests) for name, service in services.items()}
    home = _homes(services)
    if uses is None:
        names = {home.get(item, NO_SERVICE) for item in selection.integrations or ()} or {*manifests, NO_SERVICE}
        return {name: _part(selection, name, manifests, selection.hires) for name in names}
    hires: dict[str, set[str]] = {}
    for hire, integration in uses:
        hires.setdefault(home.get(integration, NO_SERVICE), set()).add(hire)
    if selection.integrations is None and (idle := (selection.hires or frozenset()).difference(*hires.values())):
        hires.setdefault(NO_SERVICE, set()).update(idle)
    # Parts that all hires use share one set: thousands of parts may wait in queues.
    all_hires = selection.hires or frozenset()
    return {
        name: _part(selection, name, manifests, all_hires if users == all_hires else frozenset(users))
        for name, users in hires.items()
    }


def _part(
    selection: Selection, name: str, manifests: Mapping[str, frozenset[str]], hires: frozenset[str] | None
) -> Selection:
    if name == NO_SERVICE:
        return replace(selection, hires=hires, without=frozenset().union(*manifests.values()))
    own = manifests[name]
    return replace(
        selection, hires=hires, integrations=own if selection.integrations is None else own & selection.integrations
    )


def in_parts(selection: Selection, most: int) -> Iterator[Selection]:
    """Cut a selection of hires into several, each of at most `most` hires and their grants."""
    hires = sorted(selection.hires or ())
    grants: dict[str, list[Key]] = {}
    for key in selection.grants or ():
        grants.setdefault(key.hire, []).append(key)
    for place in range(0, len(hires), most):
        some = hires[place : place + most]
        theirs = None if selection.grants is None else frozenset(key for hire in some for key in grants.get(hire, ()))
        yield replace(selection, hires=frozenset(some), grants=theirs)


def joined(parts: Sequence[Selection]) -> Selection:
    """Join single grants of one service into one selection."""
    hires = frozenset[str]().union(*(part.hires or () for part in parts))
    return replace(parts[0], hires=hires, grants=frozenset[Key]().union(*(part.grants or () for part in parts)))
