"""Detect that two grants mean one account: an orphan and one that is still wanted, or those of two hires.

See docs/design/rules.md, "One account, one hire". An orphan is not revoked then; of two hires one has the account.

Two accounts are the same if their `exists`, with the expected text and record, or their `revoke` renders the same, for
any entries and manifests. All wanted grants are rendered only if an orphan's account is found, and after a commit to
some hires' files theirs; those with a choice that has to be looked up, once a pass.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

from reconciler.engine.observe.checker import NotOffered, Services
from reconciler.engine.observe.integrations import Integration
from reconciler.model.clock import LAST
from reconciler.model.decision_inputs import still_wanted
from reconciler.model.errors import Blocked
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.scope import LEDGER, Layer
from reconciler.model.template import roots
from reconciler.model.value import Frozen
from reconciler.model.verdict import Unknown
from reconciler.repository.desired import Desired, changed_hires
from reconciler.requests.accounts import account, layers_as_compared, told_by_address
from reconciler.requests.render import canonical, question
from reconciler.requests.tasks import Yielder

OF_SERVICE = frozenset({"oauth", "redirect_url"})
"""What is known only at run time and the same for all grants of a service; the rest is known for one hire only."""

UNKNOWN, ANY = "unknown", "any"
"""Which account a request is about, where what was stored of it is not known, and where it does not matter."""

MOST_FURTHER = 1000
"""Hires that are always read again one by one, before all are."""


class _Rendered(Protocol):
    """What grants' prints are made with, and what they depend on, besides the hires."""

    @property
    def rendered_with(self) -> object:
        """Return what prints depend on; to be compared."""


By = TypeVar("By", bound=_Rendered)

Prints = Callable[[By, Grant], Iterable[str] | None]
"""The prints of a grant; None where they can be told in a pass only, for a choice has to be looked up."""

Stored = Callable[[Grant], Mapping[str, Any]]
"""What was stored of an entry's account at a service."""


class WantedFingerprints(Generic[By]):
    """The prints of all that is wanted, kept for as long as the same would be asked.

    All hires are read once, and after a commit to some hires' files those. What was wanted before stays in the index: a
    lookup is compared with what the hires that it names want now.
    """

    def __init__(self, yielder: Yielder, prints: Prints[By]) -> None:
        self.yielder = yielder
        self._prints = prints
        self._of: tuple[Desired, Mapping[str, object]] | None = None
        self._reading: asyncio.Task[_FingerprintIndex] | None = None
        self._further = 0
        """How many hires were read again since all were read."""

    async def of(self, desired: Desired, integrations: Mapping[str, By]) -> _FingerprintIndex:
        """The prints of what a revision wants, rendered by these integrations, among others of former revisions."""
        of = desired, {name: each.rendered_with for name, each in integrations.items()}
        before = self._reading
        if before is not None and before.done() and (before.cancelled() or before.exception()):
            before = None
        if before is None or self._of != of:
            changed = None if before is None else self._changed(of)
            self._further = 0 if changed is None else self._further + len(changed)
            self._of, self._reading = of, asyncio.create_task(self._read(desired, integrations, before, changed))
        assert self._reading is not None
        return await asyncio.shield(self._reading)

    def _changed(self, of: tuple[Desired, Mapping[str, object]]) -> set[str] | None:
        """Return the hires to read again, or None for all: also where most prints would be of former revisions."""
        assert self._of is not None
        before, rendered_with = self._of
        changed = changed_hires(of[0], before) if rendered_with == of[1] else None
        most = max(MOST_FURTHER, len(before.hires.index))
        return changed if changed is not None and self._further + len(changed) <= most else None

    async def _read(
        self,
        desired: Desired,
        integrations: Mapping[str, By],
        before: asyncio.Task[_FingerprintIndex] | None,
        changed: set[str] | None,
    ) -> _FingerprintIndex:
        if before is None or changed is None:
            found, hires = _FingerprintIndex(), [*desired.hires]
        else:
            found, hires = await asyncio.shield(before), [*changed]
        for hire in hires:
            await self.yielder.pause()
            number = found.number(hire)
            theirs = not integrations.keys().isdisjoint(desired.integrations(hire))
            for grant in desired.grants(hire, once=True) if theirs else ():
                if (integration := integrations.get(grant.integration)) is None:
                    continue
                prints = self._prints(integration, grant)
                if prints is None:
                    found.choosing[hire] = None
                for print_ in prints or ():
                    found.add(print_, number)
        return found


def wanted_prints(integration: Integration, grant: Grant) -> Iterable[str] | None:
    """Return the prints of a grant that is wanted; None where what a service offers has to be looked up first."""
    return None if grant.choices else _prints(integration, grant, None)


class SameAccounts:
    """The grants still wanted, by the requests they render, for all parts of a pass.

    Requests that use what was stored of an account are rendered for the orphan's hire only: no other hire has it.
    """

    def __init__(self, services: Services, wanted: WantedFingerprints[Integration]) -> None:
        self._desired, self._integrations = services.desired, services.integrations
        self._checker = services.checker
        self._wanted = wanted
        self._reading: asyncio.Task[_PassIndex] | None = None

    async def of(
        self,
        integration: Integration,
        orphan: Grant,
        *,
        counts: Callable[[Grant], Awaitable[bool]],
        stored: Stored,
        as_recorded: Iterable[Record],
        unreadable: Callable[[], Awaitable[Iterable[Record]]],
    ) -> list[Key]:
        """Return the wanted grants that mean the same account as the orphan, of each hire one.

        `counts` says of what git has whether it is not over. `stored` is what was stored of the orphan's hire;
        `as_recorded` are its records whose account is that of the ledger, for their file cannot be read or has another
        address. `unreadable` reads the records whose files cannot be read, of everybody.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._build_index(unreadable))
        index = await asyncio.shield(self._reading)
        hire = orphan.key.hire
        own: dict[str, Key] = {}
        there = [grant for grant in self._desired.grants(hire) if await counts(grant)]
        async for other, grant in self._there(there, as_recorded):
            prints = _prints(other, grant, stored(grant)) if other is not None else [_unsure(grant)]
            own |= dict.fromkeys(prints, grant.key)
        asked = *_prints(integration, orphan, stored(orphan), wanted=False), _unsure(orphan)
        found = list[Key | None]()
        for print_ in asked:
            found += [index.unreadable.get(print_), *await self._last(print_, index, counts), own.get(print_)]
        return [key for key in found if key is not None]

    async def _build_index(self, unreadable: Callable[[], Awaitable[Iterable[Record]]]) -> _PassIndex:
        wanted = await self._wanted.of(self._desired, self._integrations)
        index = _PassIndex(wanted, _FingerprintIndex())
        async for integration, grant in self._there((), await unreadable()):
            if integration is not None:
                index.unreadable.update(dict.fromkeys(_prints(integration, grant, None), grant.key))
        for hire in tuple(wanted.choosing):
            await self._wanted.yielder.pause()
            number = index.chosen.number(hire)
            choosing = [grant for grant in self._desired.grants(hire) if grant.choices]
            async for integration, grant in self._there(choosing, ()):
                for print_ in () if integration is None else _prints(integration, grant, None):
                    index.chosen.add(print_, number)
        return index

    async def _last(self, print_: str, index: _PassIndex, counts: Callable[[Grant], Awaitable[bool]]) -> list[Key]:
        """Return each hire's last grant still wanted that has this print."""
        last: dict[str, Key] = {}
        for hire in index.with_print(print_):
            async for integration, grant in self._there(self._desired.grants(hire), ()):
                if integration is not None and print_ in _prints(integration, grant, None) and await counts(grant):
                    last[hire] = grant.key
        return [*last.values()]

    async def _there(
        self, wanted: Iterable[Grant], as_recorded: Iterable[Record]
    ) -> AsyncIterator[tuple[Integration | None, Grant]]:
        """Yield each grant with its integration; None if it cannot be determined which account the grant means."""
        for grant in wanted:
            integration = self._integrations.get(grant.integration)
            if integration is None:
                continue
            if not grant.choices:
                yield integration, grant
                continue
            try:
                integration.ready(grant)
                resolved = await self._checker.resolved(integration, grant)
            except NotOffered:
                if grant.requested is None:  # a request that does not fit holds nothing but itself
                    yield None, grant
            except Blocked:
                yield None, grant
            else:
                yield (None, grant) if isinstance(resolved, Unknown) else (integration, resolved)
        for record in as_recorded:
            integration = self._integrations.get(record.integration)
            if integration is not None:
                yield integration, integration.orphan(record)


def wanted_accounts(_integration: Integration, grant: Grant) -> Iterable[str]:
    """Return which account the check of a grant that is wanted means, if that can be told."""
    found = _account(grant)
    return () if found is None else (found,)


class Rivals:
    """Finds other hires whose checks mean the same account as a grant's, for all parts of a pass.

    Only one of them can have it: whose it is by the ledger, and nobody where the ledger knows nobody, for a login in a
    file proves nothing. Where all checks of a service expect the hire's address, two hires can only mean one account by
    having one address, which is an error of their files: nothing is looked up there.

    """

    def __init__(self, services: Services, wanted: WantedFingerprints[Integration]) -> None:
        self._desired, every = services.desired, services.integrations
        by_name = {each.service for each in every.values() if not told_by_address(each.manifest)}
        self._integrations = {name: each for name, each in every.items() if each.service in by_name}
        self._wanted = wanted
        self._reading: asyncio.Task[tuple[_FingerprintIndex, dict[str, tuple[Record, str]]]] | None = None

    async def of(
        self,
        grant: Grant,
        own: Record | None,
        *,
        rows_of: Callable[[frozenset[str]], Awaitable[Iterable[Record]]],
        kept: Callable[[], Awaitable[Iterable[tuple[Record, str]]]],
        now: datetime,
    ) -> str | None:
        """Return why a grant cannot have its account: it is another hire's, or may be. None if nobody else means it.

        `own` is what the ledger has of the grant. `rows_of` reads the rows of some hires under their names now, `kept`
        those of everybody whose accounts nobody else gets, each with why.
        """
        if grant.integration not in self._integrations or (meant := _account(grant)) is None:
            return None
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_both(kept))
        index, accounts = await asyncio.shield(self._reading)
        others = [
            other
            for hire in sorted(index.with_print(meant) - {grant.key.hire})
            for other in self._desired.grants(hire)
            if other.integration in self._integrations and _account(other) == meant
        ]
        held, why = accounts.get(meant, (None, ""))
        if held is not None and held.key.hire != grant.key.hire:
            return f"its account is that of {held.key}, {why}"
        if not others:
            return None
        rows = {record.key: record for record in await rows_of(frozenset(other.key.hire for other in others))}
        others = [other for other in others if still_wanted(other, rows.get(other.key), now)]
        known = [
            (record, each)
            for each, record in ((grant, own), *((other, rows.get(other.key)) for other in others))
            if record is not None and _has(record, each, meant)
        ]
        if not known:  # what is not allowed takes nothing from anybody
            others = [other for other in others if not other.refused]
            if not others:
                return None
            named = ", ".join(str(other.key) for other in others)
            return f"its check means the same account as that of {named}: an account belongs to one hire"
        _, owner = min(known, key=lambda pair: (_since(pair[0]), pair[0].key))
        if owner.key.hire == grant.key.hire:
            return None
        return f"its check means the account of {owner.key}: an account belongs to one hire"

    async def _read_both(
        self, kept: Callable[[], Awaitable[Iterable[tuple[Record, str]]]]
    ) -> tuple[_FingerprintIndex, dict[str, tuple[Record, str]]]:
        index = await self._wanted.of(self._desired, self._integrations)
        accounts: dict[str, tuple[Record, str]] = {}
        for record, why in await kept():
            integration = self._integrations.get(record.integration)
            if integration is not None and record.may_remain:
                meant = account(integration.manifest, record.service, (Layer(LEDGER, record.values),))
                if meant is not None:
                    accounts[meant] = record, why
        return index, accounts


class _PassIndex(Frozen):
    """The prints of one pass: of what is wanted, and of that what names a choice; and the records of broken files."""

    wanted: _FingerprintIndex
    chosen: _FingerprintIndex
    unreadable: dict[str, Key] = {}

    def with_print(self, print_: str) -> list[str]:
        """The hires that may have a print, the last one first."""
        return sorted(self.wanted.with_print(print_) | self.chosen.with_print(print_), reverse=True)


def _unsure(grant: Grant) -> str:
    """Return the print of an entry whose choice cannot be looked up: it may mean any account of its hire."""
    return f"{grant.key.hire} at {grant.service}"


def _prints(
    integration: Integration, grant: Grant, stored: Mapping[str, Any] | None, *, wanted: bool = True
) -> Iterator[str]:
    """Return the prints of what a grant's check and revocation would request, and of whose account the check means.

    Values are compared as a service may compare them. Where a request uses what was stored of an account, two are
    distinguished by that as soon as it is known of both: until then they may be the same. Without `stored`, such
    requests are left out.
    """
    manifest = integration.manifest
    scope = integration.scope(layers_as_compared(grant.layers))
    told = account(manifest, grant.service, grant.layers)
    if told is not None:
        yield told
    asked: list[Any] = []
    if manifest.exists is not None:
        with suppress(Blocked):
            asked.append(question(manifest.exists, scope, manifest))
    if manifest.revoke:
        with suppress(Blocked):
            asked.append([canonical(call, scope, manifest) for call in manifest.revoke])
    for request in asked:
        content = json.dumps(request, sort_keys=True, default=str)
        left_open = roots(content)
        own = left_open - OF_SERVICE
        if left_open & OF_SERVICE:
            content = f"{grant.service}: {content}"
        if not own:
            yield content
            continue
        if stored is None:
            continue
        known = json.dumps([stored[name] for name in sorted(own)], default=str) if own <= stored.keys() else None
        content = f"{grant.key.hire}: {content}"
        if not wanted and known is None:
            yield f"{content} {ANY}"
        else:
            yield f"{content} {known or UNKNOWN}"
            yield f"{content} {ANY if wanted else UNKNOWN}"


def _account(grant: Grant) -> str | None:
    return None if grant.manifest is None else account(grant.manifest, grant.service, grant.layers)


def _has(record: Record, grant: Grant, meant: str) -> bool:
    """Whether a grant has the account by the ledger; a choice by name is taken for what was sent."""
    if grant.manifest is None or not record.may_remain:
        return False
    values = {**record.values, **dict(grant.choices)}
    return account(grant.manifest, grant.service, (Layer(LEDGER, values),)) == meant


def _since(record: Record) -> datetime:
    return min(record.executed_at or LAST, record.confirmed_at or LAST)


MOST_HIRES = 1 << 24

SORTED_AT_A_TIME = 1 << 16


class _FingerprintIndex:
    """An index of which hires may have a print: eight bytes for each, as there may be millions.

    They are the first bits of its digest and its hire's number. A lookup compares the prints themselves.
    """

    def __init__(self) -> None:
        self._hires: list[str] = []
        self.choosing: dict[str, None] = {}
        """The hires of whom entries were left out whose prints can be told in a pass only."""
        self._sorted: list[array[int]] = []
        self._unsorted: array[int] = array("Q")

    def number(self, hire: str) -> int:
        """Return a number for a hire's prints."""
        self._hires.append(hire)
        return len(self._hires) - 1

    def add(self, print_: str, number: int) -> None:
        """Add a print of the hire with this number."""
        self._unsorted.append(_first_bits(print_) | number)
        if len(self._unsorted) == SORTED_AT_A_TIME:
            self._sort()

    def _sort(self) -> None:
        self._sorted.append(array("Q", sorted(self._unsorted)))
        self._unsorted = array("Q")

    def with_print(self, print_: str) -> set[str]:
        """Return the hires that may have a print."""
        if self._unsorted:
            self._sort()
        first, found = _first_bits(print_), set[str]()
        for some in self._sorted:
            place = bisect_left(some, first)
            while place < len(some) and some[place] < first + MOST_HIRES:
                found.add(self._hires[some[place] - first])
                place += 1
        return found


def _first_bits(print_: str) -> int:
    """Return the first bits of a digest, shifted to precede a hire's number."""
    digest = int.from_bytes(blake2b(print_.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
    return digest - digest % MOST_HIRES
