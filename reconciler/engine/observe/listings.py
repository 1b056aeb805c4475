"""What a pass asks a service once for all grants: listings, open invitations, readiness.

They serve one pass, or all slices of an interval. If a listing cannot be read, single checks replace it. If open
invitations cannot be read, or a service is not ready, an absence counts as a failed check.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from sys import intern
from typing import Any, TypeVar

from reconciler.engine.decide.planned import Prepared
from reconciler.engine.observe.integrations import Integration
from reconciler.model.base import as_text
from reconciler.model.dn import as_attributes, is_of_directory
from reconciler.model.errors import Blocked, MissingVariable, TransportError
from reconciler.model.request import Listing, Pending, Ready
from reconciler.model.scope import Layer, Scope, follow, steps, walk
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Invited, Unknown
from reconciler.repository.desired import Desired
from reconciler.requests.match import unready
from reconciler.requests.pages import TokenRefused, items
from reconciler.requests.protocols import asks_directory
from reconciler.requests.record import Comparison, all_there, as_wanted
from reconciler.requests.render import account_expected, expected, render
from reconciler.requests.template import render_data, written

_Invitations = dict[str, Invited] | str
"""Every open invitation by the address invited; or why they cannot be read."""

K = TypeVar("K")
T = TypeVar("T")

ENOUGH = 10
"""Up to this many grants of an integration are asked for one by one, listing or not."""

ITEMS_AT_A_TIME = 250
"""The most items of a listing that are looked at before other tasks run."""

Place = tuple[str, tuple[str, ...]]
"""An integration, and the values of the form that a listing's URL uses: it is read once for each of them."""


class ListedAccount(Frozen):
    """An item of a listing: `who` checks match it by, its name, and the fields that fill a hire."""

    who: str | None
    name: str
    fields: Mapping[str, Any] = {}
    used: Any = None
    """When it was last used, as the service says it."""
    also: tuple[str, ...] = ()
    """What else checks match it by: an attribute of a directory may have several values."""

    def as_one_of(self, known: Container[str]) -> ListedAccount:
        """Return it as matched by the first of its values that is known, in lower case; by its first one if none is."""
        who = next((each for each in self.also if each.lower() in known), None)
        unknown = self.who is not None and self.who.lower() not in known
        return replace(self, who=who) if who is not None and unknown else self


class _ListedAccounts(Frozen):
    """The accounts of a listing, sorted, with the values of each that checks compare.

    `values` has a text for each name, None where the item does not say all that is compared; it is empty where nothing
    is. Sorted names and shared texts: a map of the items would take many times the memory. `accounts` are the items
    where there is more to say of them than that. In a `directory` values are compared as its checks compare them.
    """

    names: list[str]
    values: list[str | None]
    accounts: list[ListedAccount]
    directory: bool

    def population(self) -> Iterator[ListedAccount]:
        """Return every account that counts."""
        return iter(self.accounts) if self.accounts else (ListedAccount(name, name) for name in self.names)

    def shows(self, who: str, prepared: Prepared) -> bool:
        """Whether an account exists and nothing of it differs. Of two items of one name neither counts."""
        at = bisect_left(self.names, who)
        if at == len(self.names) or self.names[at] != who:
            return False
        if not self.values:
            return True
        alone = at + 1 == len(self.names) or self.names[at + 1] != who
        text = self.values[at]
        if not alone or text is None:
            return False
        found = as_attributes(json.loads(text)) if self.directory else json.loads(text)
        assert prepared.check is not None
        return as_wanted(found, prepared.check.compared)


class Listings:
    """What is asked once for all grants: listings, open invitations, readiness.

    For a pass, or for all the slices of an interval; with `whole`, all that a listing says of an account is kept.
    """

    def __init__(self, began_at: datetime, *, whole: bool = False) -> None:
        self.began_at = began_at
        """Before anything was asked."""
        self._whole = whole
        self._read: dict[Place, asyncio.Task[_ListedAccounts | str]] = {}
        self._open: dict[Place, asyncio.Task[_Invitations]] = {}
        self._anew: dict[Place, asyncio.Task[_Invitations]] = {}
        """Readings of open invitations that have not begun yet."""
        self._ready: dict[str, asyncio.Task[str | None]] = {}
        self._counts: Counter[str] = Counter()

    def expect(self, counts: Mapping[str, int]) -> None:
        """Announce how many grants of each integration are to be checked."""
        self._counts.update(counts)

    def serve(self, integration: str) -> bool:
        """Whether an integration has enough grants for its listing to be read."""
        return self._counts[integration] > ENOUGH

    async def shows(self, integration: Integration, prepared: Prepared, wanted: str) -> bool:
        """Whether the listing shows the account, as git wants it.

        The listing can be an interval old: a person who differs in it, or is not in it, gets a check of their own. So
        does everybody if too few are asked for or it cannot be read.
        """
        if integration.manifest.listing is None or not self.serve(integration.name):
            return False
        listed = await self._accounts(integration, prepared.scope)
        return isinstance(listed, _ListedAccounts) and listed.shows(_folded(wanted), prepared)

    async def _accounts(self, integration: Integration, grant: Scope) -> _ListedAccounts | str:
        listing = integration.manifest.listing
        assert listing is not None
        place, values = _place(integration, listing, grant)

        def ask() -> Coroutine[Any, Any, _ListedAccounts | str]:
            return _read_accounts(integration, listing, _scope(integration, values), whole=self._whole)

        return await once(self._read, place, ask)

    def were_read(self) -> frozenset[str]:
        """Return the integrations whose listing was requested already."""
        return frozenset(name for name, _ in self._read)

    async def population(self, integration: Integration, grant: Scope) -> Iterator[ListedAccount] | str:
        """Return every account of the listing that serves a grant; or why it cannot be read whole."""
        try:
            integration.reachable()
        except Blocked as error:
            return str(error)
        listed = await self._accounts(integration, grant)
        return listed if isinstance(listed, str) else listed.population()

    async def unready(self, integration: Integration) -> str | None:
        """Return why an absence at this service does not count; None if it does."""
        ready = None if integration.manifest.exists is None else integration.manifest.exists.ready
        if ready is None:
            return None
        return await once(self._ready, integration.name, lambda: _unready(integration, ready))

    async def invitation(
        self, integration: Integration, prepared: Prepared, wanted: str, *, anew: bool = False
    ) -> Invited | Unknown | None:
        """Return the open invitation of an absent person; Unknown if open invitations cannot be read.

        With `anew`, by a reading that begins after this call: all who call before it begins share it.
        """
        pending = integration.manifest.pending
        if pending is None:
            return None
        place, values = _place(integration, pending, prepared.scope)

        def ask() -> Coroutine[Any, Any, _Invitations]:
            return _invitations(integration, pending, _scope(integration, values))

        asking = once(self._anew, place, lambda: self._asked_anew(place, ask)) if anew else once(self._open, place, ask)
        found = await asking
        return Unknown(f"open invitations: {found}") if isinstance(found, str) else found.get(wanted.lower())

    async def _asked_anew(self, place: Place, ask: Callable[[], Coroutine[Any, Any, _Invitations]]) -> _Invitations:
        """Read open invitations once the reading under way is over; from then on this one serves the place."""
        if (under_way := self._open.get(place)) is not None:
            await asyncio.wait({under_way})
        self._open[place] = self._anew.pop(place)
        return await ask()


async def once(asked: dict[K, asyncio.Task[T]], key: K, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Ask once for all that share the answer; again if this process could not ask."""
    task = asked.get(key)
    if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
        task = asked[key] = asyncio.create_task(ask())
    return task.result() if task.done() else await asyncio.shield(task)


def found_by(integration: Integration, grant: Scope) -> tuple[Place, str | None]:
    """Return which reading of the integration's listing serves a grant, and the value that identifies its account.

    None where the hire's values do not say that.
    """
    exists = integration.manifest.exists
    assert exists is not None
    assert exists.listing is not None
    try:
        who = _folded(account_expected(exists, grant))
    except Blocked:
        who = None
    return _place(integration, exists.listing, grant)[0], who


def _place(integration: Integration, listing: Listing | Pending, grant: Scope) -> tuple[Place, Mapping[str, Any]]:
    """Return which reading of a listing serves a grant, and the values of the form that it is read with."""
    fields, values = integration.names.listed_with[type(listing)], dict[str, Any]()
    if not fields:
        return (integration.name, ()), values
    for name in fields:
        with suppress(MissingVariable):  # then it cannot be read, and single checks answer
            values[name] = grant.look_up(name).value
    return (integration.name, tuple(f"{name}={written(value)}" for name, value in sorted(values.items()))), values


def _scope(integration: Integration, values: Mapping[str, Any]) -> Scope:
    """Return what the placeholders of a listing see."""
    return integration.scope((Layer("form", values),) if values else ())


async def _invitations(integration: Integration, pending: Pending, scope: Scope) -> _Invitations:
    """Read every open invitation by the address invited, in lower case; or return why they cannot be read."""

    async def read(scope: Scope) -> dict[str, Invited]:
        found: dict[str, Invited] = {}
        only = {path: render_data(value, scope) for path, value in pending.only.items()}
        async for item in items(integration.client, pending, scope, integration.manifest):
            if only and not all_there(item, only):
                continue
            value = walk(item, pending.match)
            if isinstance(value, str | int):
                stored = {name: walk(item, path) for name, path in pending.store_data.items()}
                kept = {name: value for name, value in stored.items() if value is not None}
                found[str(as_text(value)).lower()] = Invited(kept)
        return found

    try:
        return await read_connected(integration, scope, read)
    except (Blocked, TransportError) as error:
        return str(error)


async def _unready(integration: Integration, ready: Ready) -> str | None:
    """Return why the service is not ready, or None."""
    try:
        scope = await connected(integration, integration.scope(()))
        wanted = expected(ready.expected, scope) if ready.expected else None
        answer = await integration.client.send(render(ready, scope, integration.manifest), follow=True)
        if answer.status == 401 and integration.connection is not None:
            scope = scope.over(await integration.connection.renewed())
            answer = await integration.client.send(render(ready, scope, integration.manifest), follow=True)
    except (Blocked, TransportError) as error:
        return str(error)
    reason = unready(ready, wanted, answer)
    return None if reason is None else f"{reason}{integration.client.excerpt(answer)}"


async def connected(integration: Integration, scope: Scope) -> Scope:
    """Return the scope with a fresh token, if the service has a connection. Raises TransportError."""
    if integration.connection is not None and (fresh := await integration.connection.fresh()) is not None:
        return scope.over(fresh)
    return scope


async def read_connected(integration: Integration, scope: Scope, read: Callable[[Scope], Awaitable[T]]) -> T:
    """Read pages with a fresh token; anew, with another one, if it is refused. Raises what `read` and a token do."""
    try:
        return await read(await connected(integration, scope))
    except TokenRefused:
        if integration.connection is None:
            raise
        return await read(scope.over(await integration.connection.renewed()))


async def _read_accounts(
    integration: Integration, listing: Listing, scope: Scope, *, whole: bool
) -> _ListedAccounts | str:
    """Read the accounts of a listing; or return why it cannot be read whole, so that single checks answer."""
    exists = integration.manifest.exists
    assert exists is not None
    compares, named = exists.compares, whole or bool(listing.account) or "email" in listing.fields
    found: list[str] = []
    values: list[str | None] = []
    accounts: list[ListedAccount] = []
    several = set[str]()
    match, comparison = steps(listing.match), Comparison(exists)
    try:
        scope = await connected(integration, scope)
        directory = asks_directory(listing.url, scope)
        only = {path: render_data(value, scope) for path, value in listing.only.items()}
        number = 0
        async for item in items(integration.client, listing, scope, integration.manifest):
            number += 1
            if number % ITEMS_AT_A_TIME == 0:  # a page may have very many
                await asyncio.sleep(0)
            if only and not all_there(item, only):
                continue
            matched = _texts(follow(item, match))
            # the same people are in every service's listing, and most have the same role there
            whose = [intern(_folded(text)) for text in matched]
            found += whose
            if compares:
                read = [comparison.read(item, text) for text in matched]
                values += [None if said is None else intern(json.dumps(said)) for said in read]
            if named or len(whose) != 1:
                several.update(() if named else whose)
                accounts.append(_account(listing, item, whose, whole=whole))
    except (Blocked, TransportError) as error:
        return str(error)
    if not named and accounts:
        accounts += [ListedAccount(who, who) for who in found if who not in several]
    if not compares:
        return _ListedAccounts(sorted(found), [], accounts, directory)
    # Pairs would take six times the memory, and many listings are read at the same time.
    order = sorted(range(len(found)), key=found.__getitem__)
    return _ListedAccounts([found[at] for at in order], [values[at] for at in order], accounts, directory)


def _texts(value: Any) -> list[str]:
    """Return a value as text; of a directory's attribute each of its values."""
    values = value if isinstance(value, list) and is_of_directory(value) else [value]
    return [str(as_text(each)) for each in values if isinstance(each, str | int)]


def _account(listing: Listing, item: Any, whose: Sequence[str], *, whole: bool) -> ListedAccount:
    """Make an account of an item; with `whole`, with all fields that fill a hire, else with the address only."""
    called = [text for path in (listing.account, listing.match) if path for text in _texts(walk(item, path))]
    name = next(iter(called), "")
    kept = {key: path for key, path in listing.fields.items() if whole or key == "email"}
    said = {key: _first(walk(item, path)) for key, path in kept.items()}
    used = walk(item, listing.used) if whole and listing.used else None
    fields = {key: value for key, value in said.items() if value is not None}
    return ListedAccount(next(iter(whose), None), name, fields, used, tuple(whose[1:]))


def _first(value: Any) -> Any:
    """Return the first of several values of a directory's attribute; anything else as it is."""
    return value[0] if isinstance(value, list) and value and is_of_directory(value) else value


def _folded(text: str) -> str:
    """Fold the case of an address; anything else is compared unchanged."""
    return text.lower() if "@" in text else text


def listed_grants(desired: Desired, hires: Iterable[str] | None = None) -> Counter[str]:
    """Count each listed integration's grants among these hires, or all, up to the number that is enough."""
    counts = Counter({name: 0 for name, loaded in desired.files.manifests.items() if loaded.model.listing is not None})
    wanted = set(counts)
    for hire in desired.hires if hires is None else hires:
        if not wanted:
            break
        if wanted.isdisjoint(desired.integrations(hire)):
            continue  # without a look into the file
        counts.update(grant.integration for grant in desired.grants(hire) if grant.integration in wanted)
        wanted = {name for name in wanted if counts[name] <= ENOUGH}
    return counts
