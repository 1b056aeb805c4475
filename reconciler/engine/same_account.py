"""Detect that an orphan is the same account as a grant that is still wanted, so that it is not revoked.

See docs/design/states.md.

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
from dataclasses import field
from hashlib import blake2b
from typing import Any

from reconciler.engine.checker import Checker, NotOffered
from reconciler.engine.integrations import Integration
from reconciler.model.errors import Blocked
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.scope import LEDGER, Layer, Scope
from reconciler.model.template import roots
from reconciler.model.value import value_class
from reconciler.model.verdict import Unknown
from reconciler.repository.desired import Desired
from reconciler.requests.render import canonical, question
from reconciler.requests.tasks import Pace

__all__ = ["SameAccounts", "WantedPrints"]

OF_SERVICE = frozenset({"oauth", "redirect_url"})
"""What is known only at run time and the same for all grants of a service; the rest is known for one hire only."""

UNKNOWN, ANY = "unknown", "any"
"""Which account a request is about, where what was stored of it is not known, and where it does not matter."""

MOST_HIRES = 1 << 24

MOST_FURTHER = 1000
"""Hires that are always read again one by one, before all are."""

SORTED_AT_A_TIME = 1 << 16

Stored = Callable[[Key, str], Mapping[str, Any]]
"""What was stored of an entry's account at a service."""


class WantedPrints:
    """The prints of all that is wanted, and of what was wanted before, kept for as long as the same would be asked.

    Those of entries with a choice are not among them: what a service offers is looked up in each pass.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._of: tuple[Desired, Mapping[str, object]] | None = None
        self._reading: asyncio.Task[_PrintIndex] | None = None
        self._further = 0
        """How many hires were read again since all were read."""

    async def of(self, desired: Desired, integrations: Mapping[str, Integration]) -> _PrintIndex:
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
        changed = of[0].changed_since(before) if rendered_with == of[1] else None
        most = max(MOST_FURTHER, len(before.hires.stems()))
        return changed if changed is not None and self._further + len(changed) <= most else None

    async def _read(
        self,
        desired: Desired,
        integrations: Mapping[str, Integration],
        before: asyncio.Task[_PrintIndex] | None,
        changed: set[str] | None,
    ) -> _PrintIndex:
        if before is None or changed is None:
            found, hires = _PrintIndex(), [*desired.hires]
        else:
            found, hires = await asyncio.shield(before), [*changed]
        for hire in hires:
            await self.pace.keep()
            number = found.number(hire)
            for grant in desired.grants(hire, once=True):
                if grant.choices:
                    found.choosing[hire] = None
                elif (integration := integrations.get(grant.integration)) is not None:
                    for print_ in _prints(integration, grant, None):
                        found.add(print_, number)
        return found


class SameAccounts:
    """The grants still wanted, by the requests they render, for all parts of a pass.

    Requests that use what was stored of an account are rendered for the orphan's hire only: no other hire has it.
    """

    def __init__(
        self,
        desired: Desired,
        integrations: Mapping[str, Integration],
        checker: Checker,
        wanted: WantedPrints,
    ) -> None:
        self._desired = desired
        self._integrations = integrations
        self._checker = checker
        self._wanted = wanted
        self._reading: asyncio.Task[_PassIndex] | None = None

    async def of(
        self,
        integration: Integration,
        orphan: Grant,
        *,
        stored: Stored,
        as_recorded: Iterable[Record],
        unreadable: Callable[[], Awaitable[Iterable[Record]]],
    ) -> Key | None:
        """Return a wanted grant that means the same account as the orphan, or None.

        `stored` is what was stored of the orphan's hire; `as_recorded` are its records whose account is that of the
        ledger, for their file cannot be read or has another address. `unreadable` reads the records whose files cannot
        be read, of everybody.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._build_index(unreadable))
        index = await asyncio.shield(self._reading)
        hire = orphan.key.hire
        own: dict[str, Key] = {}
        async for other, grant in self._there(self._desired.grants(hire), as_recorded):
            prints = _prints(other, grant, stored(grant.key, grant.service)) if other is not None else [_unsure(grant)]
            own |= dict.fromkeys(prints, grant.key)
        asked = *_prints(integration, orphan, stored(orphan.key, orphan.service), wanted=False), _unsure(orphan)
        for print_ in asked:
            same = index.unreadable.get(print_) or await self._last(print_, index) or own.get(print_)
            if same is not None:
                return same
        return None

    async def _build_index(self, unreadable: Callable[[], Awaitable[Iterable[Record]]]) -> _PassIndex:
        wanted = await self._wanted.of(self._desired, self._integrations)
        index = _PassIndex(wanted, _PrintIndex())
        async for integration, grant in self._there((), await unreadable()):
            if integration is not None:
                index.unreadable.update(dict.fromkeys(_prints(integration, grant, None), grant.key))
        for hire in tuple(wanted.choosing):
            await self._wanted.pace.keep()
            number = index.chosen.number(hire)
            choosing = [grant for grant in self._desired.grants(hire) if grant.choices]
            async for integration, grant in self._there(choosing, ()):
                for print_ in () if integration is None else _prints(integration, grant, None):
                    index.chosen.add(print_, number)
        return index

    async def _last(self, print_: str, index: _PassIndex) -> Key | None:
        """The last grant still wanted that has this print, or None."""
        for hire in index.with_print(print_):
            found = None
            async for integration, grant in self._there(self._desired.grants(hire), ()):
                if integration is not None and print_ in _prints(integration, grant, None):
                    found = grant.key
            if found is not None:
                return found
        return None

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
            except (Blocked, NotOffered):
                yield None, grant
            else:
                yield (None, grant) if isinstance(resolved, Unknown) else (integration, resolved)
        for record in as_recorded:
            integration = self._integrations.get(record.integration)
            if integration is not None:
                yield integration, integration.orphan(record)


class _PrintIndex:
    """An index of which hires may have a print: eight bytes for each, as there may be millions.

    They are the first bits of its digest and its hire's number. A lookup compares the prints themselves.
    """

    def __init__(self) -> None:
        self._hires: list[str] = []
        self.choosing: dict[str, None] = {}
        """The hires of whom entries with a choice were left out."""
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


@value_class
class _PassIndex:
    """The prints of one pass: of what is wanted, and of that what names a choice; and the records of broken files."""

    wanted: _PrintIndex
    chosen: _PrintIndex
    unreadable: dict[str, Key] = field(default_factory=dict)

    def with_print(self, print_: str) -> list[str]:
        """The hires that may have a print, the last one first."""
        return sorted(self.wanted.with_print(print_) | self.chosen.with_print(print_), reverse=True)


def _first_bits(print_: str) -> int:
    """Return the first bits of a digest, shifted to precede a hire's number."""
    digest = int.from_bytes(blake2b(print_.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
    return digest - digest % MOST_HIRES


def _unsure(grant: Grant) -> str:
    """Return the print of an entry whose choice cannot be looked up: it may mean any account of its hire."""
    return f"{grant.key.hire} at {grant.service}"


def _prints(
    integration: Integration, grant: Grant, stored: Mapping[str, Any] | None, *, wanted: bool = True
) -> Iterator[str]:
    """Return the prints of what a grant's check and revocation would request.

    Where a request uses what was stored of an account, two are distinguished by that as soon as it is known of both:
    until then they may be the same. Without `stored`, such requests are left out.
    """
    manifest = integration.manifest
    scope = _without_case(integration.scope(grant.layers, {}))
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


def _without_case(scope: Scope) -> Scope:
    """Return the scope with the address in lower case: written in another case, it is still the same account's."""
    address = next((layer.values["email"] for layer in scope.layers if "email" in layer.values), None)
    return scope if address is None else scope.over(Layer(LEDGER, {"email": address.lower()}))
