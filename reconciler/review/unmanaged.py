"""Accounts that services have and git does not: listings, compared with grants, orphans and ignored accounts.

Only complete listings are compared. An account that a hire has a grant for is matched, also before the entry's `at` and
while the hire's file is broken. Of the others, those that `config/ignore.yaml` names are ignored, those of grants that
only the ledger has are orphaned, and the rest is unmanaged. Nothing is ever removed because of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import unicodedata
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any

from msgspec import Struct

from reconciler.engine.apply.plan import Plan
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import ListedAccount, Listings
from reconciler.model.base import EMAIL
from reconciler.model.grant import Key, Record
from reconciler.model.value import Frozen, fields, replace
from reconciler.repository.desired import Desired
from reconciler.requests.record import last_used
from reconciler.requests.tasks import Yielder
from reconciler.review.owners import Owners, OwnersOf, tells_use

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
        result.tells_use = tells_use(integration)
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
        self.owners = OwnersOf(self._integrations.values(), desired, yielder, revoked, now=listings.began_at)

    async def add(self, plan: Plan) -> None:
        """Add whom a part of the pass is about."""
        await self.owners.add(*self._about(plan))

    async def apart(self, plan: Plan) -> dict[str, Owners] | None:
        """Return whom a part is about, for `owners.join`; None if only this process can tell."""
        return await self.owners.apart(*self._about(plan))

    def _about(self, plan: Plan) -> tuple[Iterable[str], Iterable[Record]]:
        chosen, known = plan.selection.hires, self._desired.hires
        hires = known if chosen is None else sorted(hire for hire in chosen if hire in known)
        rows = [row for row in plan.rows.values() if chosen is None or row.key.hire in chosen]
        moved = plan.renamed
        return hires, [replace(row, key=moved[row.key]) if row.key in moved else row for row in rows]

    async def compared(self) -> AsyncIterator[ComparedListing]:
        """Each listing that was read, compared, once all parts are planned."""
        owners = self.owners.found()
        for name in sorted(self._listings.were_read() & self._integrations.keys()):
            yield await compare(self._integrations[name], self._desired, owners.pop(name), self._listings)


def account_digest(account: ListedAccount) -> str:
    """Return the digest by which the ledger recognizes an account without having its name."""
    return hashlib.sha256((account.name if account.who is None else account.who).encode(errors="replace")).hexdigest()


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


# --- whom an account resembles ---------------------------------------------------------------------------------------

_MIN_LETTERS = 5
"""The fewest letters of a name that may differ in one: shorter names resemble too many others."""

_PARTS = re.compile(r"[\W_]+")


class PeopleIndex:
    """Hires, by addresses and names that an account may have, or names that differ from one in a letter."""

    def __init__(self, desired: Desired) -> None:
        """Index everybody whose file can be read."""
        self._desired = desired
        self._by_name: dict[str, str] = {}
        self._nearly: dict[str, str] = {}
        for hire, loaded in desired.hires.items():
            for key in {_key(_local(loaded.model.email)), _key(loaded.model.full_name)} - {""}:
                self._by_name.setdefault(key, hire)
                for slip in _slips(key):
                    self._nearly.setdefault(slip, hire)

    def near(self, addresses: Iterable[str], names: Iterable[str]) -> str | None:
        """Find the hire who has one of these addresses, or resembles one of the addresses or names."""
        addresses = list(addresses)
        keys = [key for text in (*map(_local, addresses), *names) if (key := _key(text))]
        found = (self._by_name.get(key) for key in keys)
        nearly = (self._nearly.get(form) for key in keys for form in _slips(key))
        return next((hire for hire in chain(map(self._desired.owner, addresses), found, nearly) if hire), None)


def _local(text: str) -> str:
    """Return the part before the @, without a `+tag`."""
    local = text.partition("@")[0]
    return local.partition("+")[0] or local


def _key(text: str) -> str:
    """Normalize a name: no accents, case, dots or order. `Lovelace, Ada` is `adalovelace`."""
    plain = text[:200].casefold()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain).casefold() if not unicodedata.combining(c))
    return "".join(sorted(part for part in _PARTS.split(plain) if part))


def _slips(key: str) -> Iterator[str]:
    """Yield the name, and the name without each one letter: names that share a form differ in one letter."""
    if len(key) >= _MIN_LETTERS:
        yield key
        for at in range(min(len(key), 40)):
            yield key[:at] + key[at + 1 :]
