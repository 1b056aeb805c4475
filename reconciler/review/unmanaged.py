"""Accounts that services have and git does not: listings, compared with grants, orphans and ignored accounts.

Only complete listings are compared. An account that a hire has a grant for is matched, also before the entry's `at` and
while the hire's file is broken. Of the others, those that `config/ignore.yaml` names are ignored, those of grants that
only the ledger has are orphaned, and the rest is unmanaged. Nothing is ever removed because of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from functools import partial
from sys import intern
from typing import Any

from msgspec import Struct

from reconciler.engine.apply.plan import Plan
from reconciler.engine.decide.orphans import why_over
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import ListedAccount, Listings, Place, found_by
from reconciler.engine.observe.wiring import Services
from reconciler.engine.run.grants import wanted_by
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.base import EMAIL
from reconciler.model.decision_inputs import is_over
from reconciler.model.grant import Key, Record
from reconciler.model.report import Report
from reconciler.model.scope import Scope
from reconciler.model.status import Status
from reconciler.model.template import roots
from reconciler.model.value import Frozen, fields, replace
from reconciler.repository.desired import Desired
from reconciler.repository.joining import hire_layers
from reconciler.repository.policy import gives_nothing
from reconciler.requests.accounts import told_by_address
from reconciler.requests.record import last_used
from reconciler.requests.tasks import Yielder
from reconciler.review.similarity import PeopleIndex

__all__ = [
    "AccountKind",
    "ComparedListing",
    "UnknownAccount",
    "UnknownAccounts",
    "account_digest",
    "compare",
    "owners_of",
    "people_of",
    "unknown_accounts",
]


READ_AT_A_TIME = 25
"""The most hires whose records are read before other tasks run."""

ACCOUNTS_AT_A_TIME = 500
"""The most accounts that are compared before other tasks run."""


class AccountKind(StrEnum):
    """The kind of an account that no hire has a grant for."""

    UNMANAGED = "unmanaged"
    ORPHANED = "orphaned"
    IGNORED = "ignored"


class UnknownAccount(Frozen):
    """An account that no hire has a grant for. `reason` says why it is not matched or why it is ignored."""

    integration: str
    account: ListedAccount
    kind: AccountKind
    reason: str
    near: str | None = None
    first_seen: datetime | None = None
    values: Mapping[str, str] = {}
    """The form values that its listing was read with."""
    hire: str | None = None
    """The hire whose it is, and who has no entry for it."""

    @property
    def email(self) -> str | None:
        """Its address: that of the listing's `fields`, else its name or match, if that is an address."""
        said = self.account.fields.get("email")
        texts = [said] if isinstance(said, str) else []
        return next(
            (text for text in (*texts, self.account.name, self.account.who or "") if EMAIL.fullmatch(text)), None
        )

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "integration": self.integration,
            "account": self.account.name,
            **fields(self, "email", "kind", "near", "first_seen", "reason"),
        }


class ComparedListing(Struct):
    """An integration's listing, compared. `fault` says why it could not be read to its end; then it has no accounts."""

    integration: str
    listed: int = 0
    matched: int = 0
    complete: bool = False
    fault: str | None = None
    accounts: list[UnknownAccount] = []
    seen: AbstractSet[str] = frozenset()
    """The digests of all accounts, by which the ledger knows when each was first seen."""
    used: dict[Key, tuple[str, datetime]] = {}
    """When accounts of grants were last used, with their names, as far as the listing says."""
    tells_use: bool = False
    """Whether it says when accounts were last used."""
    unlisted: str = "there is no manifest"
    """Why there was no listing to read, if it is neither complete nor at fault."""

    def of(self, kind: AccountKind) -> int:
        """Count the accounts of a kind."""
        return sum(found.kind is kind for found in self.accounts)

    @property
    def unknown(self) -> int:
        """The number of accounts that git does not know: unmanaged or orphaned."""
        return len(self.accounts) - self.of(AccountKind.IGNORED)

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            **fields(self, "integration", "listed", "matched"),
            "ignored": self.of(AccountKind.IGNORED),
            "complete": self.complete,
        }


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
        if _tells_use(integration):
            self.keys.setdefault((place, who), []).append(key)
        if why_orphaned is None:
            self.granted.setdefault(place, []).append(who)
        else:
            self.orphaned.setdefault(place, {})[who] = why_orphaned


async def compare(
    integration: Integration,
    desired: Desired,
    owners: Owners,
    listings: Listings,
    *,
    seen: Mapping[str, datetime] = {},
    people: PeopleIndex | None = None,
) -> ComparedListing:
    """Compare an integration's listing with its owners, which `owners_of` finds.

    `people` are hires whom an account may resemble, `seen` has when accounts were first seen.
    """
    result = ComparedListing(integration.name, unlisted="the manifest has no list under exists")
    if integration.manifest.listing is None:
        return result
    result.unlisted = "no access entry has the values that the list is read with"
    keys = set()
    for place, scope in owners.scopes.items():
        population = await listings.population(integration, scope)
        if isinstance(population, str):
            return ComparedListing(integration.name, fault=population)
        result.tells_use = _tells_use(integration)
        granted, orphaned = set(owners.granted.get(place, ())), owners.orphaned.get(place, {})
        where = dict(each.split("=", 1) for each in place[1])
        known = {*granted, *orphaned, *owners.gone}
        for account in (each.as_one_of(known) for each in population):
            who = _as_compared(account)
            if who in owners.gone:
                continue
            if result.listed % ACCOUNTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            result.listed += 1
            digest = account_digest(account)
            keys.add(digest)
            used = last_used(account.used, listings.began_at)
            if used is not None and who is not None:
                for key in owners.keys.get((place, who), ()):
                    if key not in result.used or result.used[key][1] < used:  # it may be listed twice
                        result.used[key] = account.name, used
            if who in granted:
                result.matched += 1
                continue
            found = _judged(integration.name, account, orphaned, owners.without, desired)
            result.accounts.append(_with_details(found, people, seen.get(digest), where))
    result.complete, result.seen = bool(owners.scopes), keys
    return result


class UnknownAccounts:
    """Compares the listings that a pass over everybody reads, and reads no other."""

    def __init__(
        self,
        integrations: Mapping[str, Integration],
        desired: Desired,
        listings: Listings,
        yielder: Yielder,
        revoked: Collection[Key] = (),
    ) -> None:
        """`revoked` are the grants of which the pass has taken the account away since it read the listings."""
        self._integrations = {name: each for name, each in integrations.items() if listings.serve(name)}
        self._desired = desired
        self._listings = listings
        self._owners = OwnersOf(self._integrations.values(), desired, yielder, revoked, now=listings.began_at)

    async def add(self, plan: Plan) -> None:
        """Add whom a part of the pass is about."""
        chosen, known = plan.selection.hires, self._desired.hires
        hires = known if chosen is None else sorted(hire for hire in chosen if hire in known)
        rows = [row for row in plan.rows.values() if chosen is None or row.key.hire in chosen]
        moved = plan.renamed
        await self._owners.add(hires, [replace(row, key=moved[row.key]) if row.key in moved else row for row in rows])

    async def compared(self) -> AsyncIterator[ComparedListing]:
        """Each listing that was read, compared, once all parts are planned."""
        owners = self._owners.found()
        for name in sorted(self._listings.were_read() & self._integrations.keys()):
            yield await compare(self._integrations[name], self._desired, owners.pop(name), self._listings)


async def unknown_accounts(
    services: Services, plan: Plan, yielder: Yielder, done: Report
) -> AsyncIterator[ComparedListing]:
    """Compare the listings that a plan over everybody read; read no other. `done` is what came of the plan."""
    if plan.selection.hires is not None or plan.selection.grants is not None:
        return
    revoked = {Key(row.hire, row.access) for row in done.rows if row.status is Status.REVOKED}
    unknown = UnknownAccounts(services.integrations, services.desired, services.checker.listings, yielder, revoked)
    await unknown.add(plan)
    async for each in unknown.compared():
        yield each


def account_digest(account: ListedAccount) -> str:
    """Return the digest by which the ledger recognizes an account without having its name."""
    return hashlib.sha256((account.name if account.who is None else account.who).encode(errors="replace")).hexdigest()


def _tells_use(integration: Integration) -> bool:
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


def _as_compared(account: ListedAccount) -> str | None:
    """Return what checks find an account by, without case."""
    return None if account.who is None else account.who.lower()


def _judged(
    name: str, account: ListedAccount, orphaned: Mapping[str, str], without: Mapping[str, str], desired: Desired
) -> UnknownAccount:
    found = UnknownAccount(name, account, AccountKind.UNMANAGED, "no hire has this account")
    called = [text for text in (account.name, account.who, found.email) if text]
    listed = (each for each in desired.files.ignore if each.integration == name)
    if (entry := next((each for each in listed if each.covers(called, desired.today)), None)) is not None:
        return UnknownAccount(name, account, AccountKind.IGNORED, entry.reason)
    who = _as_compared(account)
    if who is not None and (why := orphaned.get(who)) is not None:
        return UnknownAccount(name, account, AccountKind.ORPHANED, why)
    hire = None if who is None else without.get(who)
    if hire is None and found.email is not None:
        hire = desired.owner(found.email)
    return found if hire is None else replace(found, reason=f"{hire} has no entry for it", hire=hire)


def _with_details(
    found: UnknownAccount, people: PeopleIndex | None, first_seen: datetime | None, where: Mapping[str, str]
) -> UnknownAccount:
    """Add whom the account resembles, when it was first seen, and which of several listings has it."""
    near = found.hire
    if near is None and people is not None:
        fields = found.account.fields
        full = " ".join(str(fields[key]) for key in ("first_name", "last_name") if fields.get(key))
        addresses = [text for text in (found.email, found.account.who) if text and "@" in text]
        near = people.near(addresses, [full, found.account.name, found.account.who or ""])
    listing = ", ".join(f"{name}={value}" for name, value in where.items())
    reason = f"{found.reason} ({listing})" if where else found.reason
    return replace(found, reason=reason, near=near, first_seen=first_seen, values=where)


def people_of(desired: Desired) -> PeopleIndex:
    """Index everybody whose file can be read."""
    hires = ((hire, loaded.model) for hire, loaded in desired.hires.items())
    return PeopleIndex((hire, model.email, model.full_name) for hire, model in hires)
