"""What is asked of a service once for everybody: listings, open invitations, whether it is ready.

For a pass, or for all the slices of an interval. A listing that cannot be read gives way to single checks; open
invitations that cannot be read, and a service that is not ready, make a failed check of an absence.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from sys import intern
from typing import Any

from reconciler.engine.integrations import Integration, Prepared
from reconciler.model.base import as_text
from reconciler.model.errors import Blocked, MissingVariable, TransportError
from reconciler.model.manifest import Exists, Listing, Pending, Ready
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.template import names
from reconciler.model.verdict import Invited, Unknown
from reconciler.requests.match import unready
from reconciler.requests.pages import items
from reconciler.requests.record import all_there, as_wanted, comparable
from reconciler.requests.render import expected, render
from reconciler.requests.template import render_data, written

__all__ = ["ENOUGH", "UNAUTHORIZED", "Listings", "connected"]

ENOUGH = 10
"""Up to this many grants of an integration are asked for one by one, listing or not."""

UNAUTHORIZED = 401

_Place = tuple[str, tuple[str, ...]]
"""An integration, and the values of the form that a listing's URL uses: it is read once for each of them."""


@dataclass(frozen=True, slots=True)
class _Everybody:
    """Everybody that a listing shows, sorted, and what of each is compared.

    `values` has a text for each name, None where the item does not say all that is compared; it is empty where nothing
    is. Sorted names and shared texts: a map of the items would take many times the memory.
    """

    names: list[str]
    values: list[str | None]

    def shows(self, who: str, prepared: Prepared) -> bool:
        """Whether somebody is there, and nothing of the account differs. Of two items of one name none decides."""
        at = bisect_left(self.names, who)
        if at == len(self.names) or self.names[at] != who:
            return False
        if not self.values:
            return True
        alone = at + 1 == len(self.names) or self.names[at + 1] != who
        text = self.values[at]
        assert prepared.check is not None
        return alone and text is not None and as_wanted(json.loads(text), prepared.check.compared)


class Listings:
    """What is asked once for everybody: listings, open invitations, whether a service is ready.

    For a pass, or for all the slices of an interval.
    """

    def __init__(self) -> None:
        self._read: dict[_Place, asyncio.Task[_Everybody | None]] = {}
        self._open: dict[_Place, asyncio.Task[dict[str, Invited] | str]] = {}
        self._ready: dict[str, asyncio.Task[str | None]] = {}
        self._counts: Counter[str] = Counter()

    def expect(self, counts: Mapping[str, int]) -> None:
        """Say how many grants of each integration they are to serve."""
        self._counts.update(counts)

    async def shows(self, integration: Integration, prepared: Prepared, wanted: str) -> bool:
        """Whether the listing shows the account, as git wants it.

        What it shows of a person can be an interval old: whoever differs in it, or is not in it, gets a check of their
        own, as does everybody where too few are asked for or it cannot be read.
        """
        exists = integration.manifest.exists
        if exists is None or exists.listing is None or self._counts[integration.name] <= ENOUGH:
            return False
        place, scope = _place(integration, exists.listing, prepared)
        if place not in self._read:
            self._read[place] = asyncio.create_task(_everybody(integration, exists, exists.listing, scope))
        listed = await asyncio.shield(self._read[place])
        return listed is not None and listed.shows(_folded(wanted), prepared)

    async def unready(self, integration: Integration) -> str | None:
        """Why an absence at this service does not count; None where it does."""
        if integration.manifest.exists is None or integration.manifest.exists.ready is None:
            return None
        if integration.name not in self._ready:
            self._ready[integration.name] = asyncio.create_task(
                _unready(integration, integration.manifest.exists.ready)
            )
        return await asyncio.shield(self._ready[integration.name])

    async def invitation(self, integration: Integration, prepared: Prepared, wanted: str) -> Invited | Unknown | None:
        """The open invitation of somebody who is absent; Unknown where open invitations cannot be read."""
        pending = integration.manifest.exists.pending if integration.manifest.exists is not None else None
        if pending is None:
            return None
        place, scope = _place(integration, pending, prepared)
        if place not in self._open:
            self._open[place] = asyncio.create_task(_invitations(integration, pending, scope))
        found = await asyncio.shield(self._open[place])
        return Unknown(f"open invitations: {found}") if isinstance(found, str) else found.get(wanted.casefold())


def _place(integration: Integration, listing: Listing | Pending, prepared: Prepared) -> tuple[_Place, Scope]:
    """Which reading of a listing serves a grant, and what its placeholders see."""
    used = {name.partition(".")[0] for name in names([listing.url, listing.data, listing.next_page])}
    values: dict[str, Any] = {}
    for field in integration.manifest.form:
        if field.id in used:
            with suppress(MissingVariable):  # then it cannot be read, and single checks answer
                values[field.id] = prepared.scope.look_up(field.id).value
    key = tuple(f"{name}={written(value)}" for name, value in sorted(values.items()))
    return (integration.name, key), integration.scope((Layer("form", values),) if values else (), {})


async def _invitations(integration: Integration, pending: Pending, scope: Scope) -> dict[str, Invited] | str:
    """Every open invitation by who is invited, in lower case; or why they cannot be read."""
    found: dict[str, Invited] = {}
    try:
        scope = await connected(integration, scope)
        async for item in items(integration.client, pending, scope, integration.manifest):
            value = walk(item, pending.match)
            if isinstance(value, str | int):
                stored = {name: walk(item, path) for name, path in pending.store_data.items()}
                kept = {name: value for name, value in stored.items() if value is not None}
                found[str(as_text(value)).casefold()] = Invited(kept)
    except (Blocked, TransportError) as error:
        return str(error)
    return found


async def _unready(integration: Integration, ready: Ready) -> str | None:
    """Why the service is not ready, or None."""
    try:
        scope = await connected(integration, integration.scope((), {}))
        wanted = expected(ready.expected, scope) if ready.expected else None
        answer = await integration.client.send(render(ready, scope, integration.manifest), follow=True)
        if answer.status == UNAUTHORIZED and integration.connection is not None:
            scope = scope.over(await integration.connection.renewed())
            answer = await integration.client.send(render(ready, scope, integration.manifest), follow=True)
    except (Blocked, TransportError) as error:
        return str(error)
    reason = unready(ready, wanted, answer)
    return None if reason is None else f"{reason}{integration.client.said(answer)}"


async def connected(integration: Integration, scope: Scope) -> Scope:
    """The scope with a token that is fresh, where the service has a connection. Raises TransportError."""
    if integration.connection is not None and (fresh := await integration.connection.fresh()) is not None:
        return scope.over(fresh)
    return scope


async def _everybody(integration: Integration, exists: Exists, listing: Listing, scope: Scope) -> _Everybody | None:
    """Everybody that the listing shows; None where it cannot be read, and single checks answer instead."""
    compares = exists.compares
    try:
        scope = await connected(integration, scope)
        only = {path: render_data(value, scope) for path, value in listing.only.items()}
        found: list[tuple[str, str | None]] = []
        async for item in items(integration.client, listing, scope, integration.manifest):
            value = walk(item, listing.match)
            if isinstance(value, str | int) and (not only or all_there(item, only)):
                who = str(as_text(value))
                said = comparable(exists, item, who) if compares else None
                # The same people are in every service's listing, and most have the same role there.
                found.append((intern(_folded(who)), None if said is None else intern(json.dumps(said))))
    except (Blocked, TransportError):
        return None
    found.sort(key=itemgetter(0))
    return _Everybody([who for who, _ in found], [said for _, said in found] if compares else [])


def _folded(text: str) -> str:
    """An address is the same in either case; anything else is compared as it is."""
    return text.casefold() if "@" in text else text
