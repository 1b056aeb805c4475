"""Check the accounts that services tell of: at once, then at most once in ten seconds each.

An event decides nothing by what it says. An account of nobody has the service's listing read again, once a minute at
most; so neither replays nor floods cost more than that. Whose each account is is read before the first event comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain

from reconciler.daemon.dispatcher import Dispatcher
from reconciler.daemon.runtime import Runtime
from reconciler.daemon.schedule import Schedule
from reconciler.engine.observe.same_account import WantedFingerprints
from reconciler.model.errors import LedgerError, MissingVariable, RepositoryError
from reconciler.model.grant import Grant, Key
from reconciler.model.scope import LEDGER, Layer, Scope
from reconciler.model.text import folded
from reconciler.model.value import Frozen
from reconciler.repository.desired import Desired
from reconciler.requests.template import render_text

AGAIN_SECONDS = 10.0
"""How often one grant is checked for events."""

LISTED_SECONDS = 60.0
"""How often the listing of a service is read because of accounts of nobody."""

MOST_WAITING = 1000
"""Events that wait to be looked up: of more, only the listing is read."""


class EventChecks:
    """Looks up whose account an event is about, and checks it. Use it in the daemon's loop."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, schedule: Schedule) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._schedule = schedule
        self._waiting: dict[tuple[str, str], None] = {}
        self._later: dict[Key, None] = {}
        """The grants that are checked once more, their ten seconds being over."""
        self._working: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[None] | None = None
        self._at: dict[Key, float] = {}
        """When each grant was last checked for an event, or will be."""
        self._listed_at: dict[str, float] = {}
        self._left: dict[str, tuple[float, dict[str, list[Key]]]] = {}
        """When it was last read of each integration what the accounts of who left are called, and whose each is."""
        self._yielder = runtime.context.yielder
        self._whose = WantedFingerprints(self._yielder, _prints)

    def tell(self, integration: str, account: str | None) -> None:
        """Take an event about an account; None if its body does not say which."""
        wanted = "" if account is None or len(self._waiting) >= MOST_WAITING else folded(account)
        self._waiting[integration, wanted] = None
        self._begin()

    def _begin(self) -> None:
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    def cancel(self) -> None:
        """Stop: what waits is checked by the interval."""
        for task in (self._working, self._ahead):
            if task is not None:
                task.cancel()

    async def _work(self) -> None:
        while self._waiting or self._later:
            try:
                if self._later:
                    keys, self._later = [*self._later], {}
                    await self._dispatcher.start_grants(keys, "event")
                if self._waiting:
                    (integration, account) = next(iter(self._waiting))
                    del self._waiting[integration, account]
                    await self._take(integration, account)
            except (LedgerError, RepositoryError) as error:
                self._runtime.problems.update("events", str(error))
            else:
                self._runtime.problems.update("events", None)

    async def _take(self, integration: str, account: str) -> None:
        desired, now = self._runtime.active.desired, asyncio.get_running_loop().time()
        keys = await self._keys(desired, integration, account) if account else []
        if keys:
            self._forget(now)
            due = [key for key in keys if self._is_due(key, now)]
            if due:
                await self._dispatcher.start_grants(due, "event")
        elif now - self._listed_at.get(integration, float("-inf")) >= LISTED_SECONDS:
            self._listed_at[integration] = now
            self._runtime.spawn(self._schedule.read_listing(integration))

    def _is_due(self, key: Key, now: float) -> bool:
        """Whether a grant is checked now; else it is once its ten seconds are over."""
        last = self._at.get(key, float("-inf"))
        if now - last >= AGAIN_SECONDS:
            self._at[key] = now
            return True
        if last <= now:
            self._at[key] = last + AGAIN_SECONDS
            asyncio.get_running_loop().call_at(last + AGAIN_SECONDS, partial(self._again, key))
        return False

    def _again(self, key: Key) -> None:
        self._later[key] = None
        self._begin()

    def _forget(self, now: float) -> None:
        if len(self._at) > MOST_WAITING:
            self._at = {key: at for key, at in self._at.items() if now - at < AGAIN_SECONDS}

    def read_ahead(self) -> None:
        """Begin to read whose each account is at the revision in force: the first event is not to wait for that."""
        if self._ahead is not None:
            self._ahead.cancel()  # what it reads goes on
        self._ahead = asyncio.create_task(self._read_ahead())

    async def _read_ahead(self) -> None:
        with suppress(RepositoryError):  # said where it is acted on
            desired = self._runtime.active.desired
            if named := _named(_telling(desired)):
                await self._whose.of(desired, named)

    async def _keys(self, desired: Desired, integration: str, account: str) -> list[Key]:
        """Return the grants whose check expects this account; those of who left where nobody has it."""
        telling = _telling(desired)
        if (told := telling.get(integration)) is None:
            return []
        if told.by_address:
            hire = desired.owner(account)
            hires = [] if hire is None else [hire]
        else:
            whose = await self._whose.of(desired, _named(telling))
            hires = sorted(whose.with_print(told.print_of(account)))
        grants = [each for each in chain.from_iterable(map(desired.grants, hires)) if each.integration == integration]
        if keys := [each.key for each in grants if told.by_address or told.account_of(each.layers) == account]:
            return keys
        return (await self._accounts_left(told)).get(account, [])

    async def _accounts_left(self, told: _Telling) -> Mapping[str, list[Key]]:
        """Return what the accounts of who left are called, as of ten seconds ago at most: a flood reads them once."""
        now = asyncio.get_running_loop().time()
        at, found = self._left.get(told.name, (float("-inf"), {}))
        if now - at >= AGAIN_SECONDS:
            found = {}
            for row in await self._runtime.ledger.run(lambda ledger: ledger.grants.orphans(told.name)):
                await self._yielder.pause()
                if (account := told.account_of((Layer(LEDGER, row.values),))) is not None:
                    found.setdefault(account, []).append(row.key)
            self._left[told.name] = now, found
        return found


class _Telling(Frozen):
    """An integration that tells of accounts."""

    name: str
    rendered_with: str
    """The check's `expected`: what the accounts are called depends on this, and on the hires."""

    @property
    def by_address(self) -> bool:
        """Whether accounts are called by the hires' addresses: for these it is known whose they are."""
        return self.rendered_with.replace(" ", "") == "{{email}}"

    def account_of(self, layers: tuple[Layer, ...]) -> str | None:
        """Return what a grant's account is called, without case; None if only initial data or an answer says."""
        try:
            return folded(render_text(self.rendered_with, Scope(layers).now()).text)
        except MissingVariable:
            return None

    def print_of(self, account: str) -> str:
        """Return the print of an account."""
        return f"{self.name}\n{account}"


def _telling(desired: Desired) -> dict[str, _Telling]:
    manifests = ((name, loaded.model) for name, loaded in desired.files.manifests.items())
    return {
        name: _Telling(name, each.exists.expected)
        for name, each in manifests
        if each.events is not None and each.exists is not None and each.exists.expected
    }


def _named(telling: Mapping[str, _Telling]) -> dict[str, _Telling]:
    return {name: each for name, each in telling.items() if not each.by_address}


def _prints(told: _Telling, grant: Grant) -> Iterable[str]:
    account = told.account_of(grant.layers)
    return [] if account is None else [told.print_of(account)]
