"""Whose the accounts of listings are: by what git wants, and by what the ledger has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from sys import intern

from msgspec import Struct

from reconciler.engine.decide.orphans import why_over
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import Place, found_by
from reconciler.engine.run.grants import wanted_by
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.decision_inputs import is_over
from reconciler.model.grant import Key, Record
from reconciler.model.scope import Scope
from reconciler.model.template import roots
from reconciler.model.value import replace
from reconciler.repository.desired import Desired
from reconciler.repository.joining import hire_layers
from reconciler.repository.policy import gives_nothing
from reconciler.requests.accounts import told_by_address
from reconciler.requests.tasks import Yielder

READ_AT_A_TIME = 25
"""The most hires whose records are read before other tasks run."""


class Owners(Struct):
    """The owners of a listing's accounts, by place: grants, and orphans with why they are that.

    Those of grants are lists: sets would take five times the memory.
    """

    scopes: dict[Place, Scope] = {}
    granted: dict[Place, list[str]] = {}
    orphaned: dict[Place, dict[str, str]] = {}
    gone: set[str] = set()
    """Accounts that the listing may show, and that were taken away since."""
    keys: dict[tuple[Place, str], list[Key]] = {}
    """The grants of accounts, where the listing says when these were last used."""
    without: dict[str, str] = {}
    """Whose an account would be: a hire who has no entry for it."""

    def add(self, integration: Integration, scope: Scope, key: Key, why_orphaned: str | None = None) -> None:
        """Add the owner of an account: a grant, or an orphan."""
        place, called = found_by(integration, scope)
        self.scopes.setdefault(place, scope)
        if called is None:
            return
        who = intern(called.lower())  # the listing's accounts are interned, too
        if tells_use(integration):
            self.keys.setdefault((place, who), []).append(key)
        if why_orphaned is None:
            self.granted.setdefault(place, []).append(who)
        else:
            self.orphaned.setdefault(place, {})[who] = why_orphaned

    def join(self, other: Owners) -> None:
        """Add the owners among other hires."""
        for place, names in other.granted.items():
            self.granted.setdefault(place, []).extend(map(intern, names))
        for place, why in other.orphaned.items():
            self.orphaned.setdefault(place, {}).update(why)
        for account, keys in other.keys.items():
            self.keys.setdefault(account, []).extend(keys)
        self.gone |= other.gone
        for who, hire in other.without.items():
            self.without.setdefault(who, hire)


def tells_use(integration: Integration) -> bool:
    """Whether an integration's listing says when accounts were last used."""
    listing = integration.manifest.listing
    return listing is not None and listing.used is not None


class OwnersOf:
    """Finds the owners of the accounts of these integrations, by what git wants and what the ledger has.

    Each hire is read once for all integrations: with more hires than the cache keeps, each read parses a file.
    """

    def __init__(
        self,
        integrations: Collection[Integration],
        desired: Desired,
        yielder: Yielder,
        revoked: Collection[Key] = (),
        *,
        now: datetime,
    ) -> None:
        self._revoked = revoked
        self._now = now
        self._desired = desired
        self._yielder = yielder
        self._integrations = integrations
        self._owners = {each.name: Owners() for each in integrations}
        self._listed = {each.name: each for each in integrations if each.manifest.listing is not None}
        self._by_name = [each for each in self._listed.values() if not told_by_address(each.manifest)]

    async def add(self, hires: Iterable[str], records: Iterable[Record]) -> None:
        """Add the owners among some hires, whose records these are, and those that only the ledger has."""
        listed = self._listed
        theirs: dict[str, list[Record]] = defaultdict(list)
        rows = {record.key: record for record in records}
        for record in rows.values():
            if record.integration in listed and record.may_remain:
                theirs[record.key.hire].append(record)
        left: list[tuple[Record, str | None]] = []
        for hire in hires:
            await self._yielder.pause()
            addresses: dict[tuple[str, str], str] = {}
            unlisted = listed.keys().isdisjoint(self._desired.integrations(hire))
            known = {record.key for record in theirs.get(hire, ())}
            for grant in () if unlisted else wanted_by(self._desired.grants(hire, once=True), rows, self._now):
                integration = listed.get(grant.integration)
                if integration is not None and (grant.key in known or not gives_nothing(grant)):
                    addresses[grant.key.access, grant.integration] = grant.email
                    self._owners[integration.name].add(integration, integration.scope(grant.layers), grant.key)
            self._without(hire, {integration for _, integration in addresses})
            for record in theirs.pop(hire, ()):
                address = addresses.get((record.key.access, record.integration))
                if address is None or address.lower() != record.email.lower():
                    left.append((record, address))
        left += [(record, None) for remembered in theirs.values() for record in remembered]
        for record, address in sorted(left, key=lambda each: each[0].key):
            integration = listed[record.integration]
            owners = self._owners[integration.name]
            if record.key in self._revoked:
                who = found_by(integration, integration.scope(integration.orphan(record).layers))[1]
                owners.gone.update(() if who is None else (who.lower(),))
                continue
            unreadable = self._desired.holds(record) is not None and not is_over(record, self._now)
            over = why_over(record, self._desired, self._now)
            why = f"{record.key} is no longer in git" if over is None else f"{record.key}: {over}"
            scope = integration.scope(integration.orphan(record).layers)
            # Git may have it at another address, or all the same.
            owners.add(integration, scope, record.key, None if address is not None or unreadable else why)

    def _without(self, hire: str, has: Collection[str]) -> None:
        """Add whose accounts would be a hire's at the integrations of which it has no entry."""
        for integration in self._by_name:
            if integration.name in has:
                continue
            loaded = self._desired.hires.get(hire)
            layers = () if loaded is None else hire_layers(self._desired.files, loaded)
            exists = integration.manifest.exists
            given = {name for layer in layers for name, value in layer.values.items() if value is not None}
            if exists is not None and given & roots(exists.expected):
                _, who = found_by(integration, integration.scope(layers))
                if who is not None:
                    self._owners[integration.name].without.setdefault(who.lower(), hire)

    async def apart(self, hires: Iterable[str], records: Iterable[Record]) -> dict[str, Owners] | None:
        """The owners among some hires alone; None where they are of a listing that these have no scope for.

        They have no scopes, in which there may be secrets: so they may be sent to the process that joins them.
        """
        alone = OwnersOf(self._integrations, self._desired, self._yielder, now=self._now)
        await alone.add(hires, records)
        found = alone._owners
        if any(each.scopes.keys() - self._owners[name].scopes.keys() for name, each in found.items()):
            return None
        return {name: replace(each, scopes={}) for name, each in found.items()}

    def join(self, others: Mapping[str, Owners]) -> None:
        """Add owners that were found `apart`."""
        for name, other in others.items():
            self._owners[name].join(other)

    def found(self) -> dict[str, Owners]:
        """The owners by integration, once all are added."""
        for name, integration in self._listed.items():
            if not self._owners[name].scopes and not _asks_form(integration):
                scope = integration.scope(())
                self._owners[name].scopes[found_by(integration, scope)[0]] = scope
        return self._owners


async def owners_of(
    integrations: Collection[Integration],
    desired: Desired,
    ledger: Ledger[LedgerReader] | None,
    hires: Sequence[str],
    yielder: Yielder,
    *,
    now: datetime,
) -> dict[str, Owners]:
    """Find the owners among these hires of the accounts of these integrations; without a ledger, whom git has.

    Of the records only some are kept at a time.
    """
    owners = OwnersOf(integrations, desired, yielder, now=now)
    for at in range(0, len(hires), READ_AT_A_TIME):
        some = hires[at : at + READ_AT_A_TIME]
        await owners.add(some, () if ledger is None else await ledger.run(partial(_records, hires=some)))
    return owners.found()


def _records(ledger: LedgerReader, hires: Sequence[str]) -> list[Record]:
    return list(ledger.grants.records(hires))


def _asks_form(integration: Integration) -> bool:
    """Whether the listing depends on a form value: without an entry, it is unknown which to read."""
    listing = integration.manifest.listing
    assert listing is not None
    used = roots([listing.url, listing.data])
    return any(each.id in used for each in integration.manifest.form)
