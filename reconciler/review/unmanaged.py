"""Accounts that services have and git does not: what a listing shows, compared with grants, orphans and ignored ones.

Only whole listings are compared. An account that a hire has a grant for is matched, also before the entry's `at` and
while the hire's file is broken; of the others, one that `config/ignore.yaml` names is ignored, one of what is in the
ledger and no longer in git is orphaned, and the rest is unmanaged. Nothing is ever removed because of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from reconciler.engine.everybody import Account, Listings, Place, found_by
from reconciler.engine.integrations import Integration
from reconciler.engine.planning import Plan
from reconciler.model.base import EMAIL
from reconciler.model.clock import stamp
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.ignore import IgnoredAccount
from reconciler.model.scope import Scope
from reconciler.model.template import names
from reconciler.repository.desired import Desired
from reconciler.review.resembling import People

__all__ = ["Compared", "Found", "Kind", "compare", "known_by", "people_of", "unknown_accounts"]


AT_A_TIME = 100
"""Hires that are compared before other tasks run."""

NEVER: Mapping[str, datetime] = {}


class Kind(StrEnum):
    """What an account is that no hire has a grant for."""

    UNMANAGED = "unmanaged"
    ORPHANED = "orphaned"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Found:
    """An account that no hire has a grant for. `reason` says why it is not matched, or why it is ignored."""

    integration: str
    account: Account
    kind: Kind
    reason: str
    near: str | None = None
    first_seen: datetime | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    """The values of the form that its listing was read with."""

    @property
    def email(self) -> str | None:
        """Its address: as the listing's `fields` say, else what it is found by or called, where that is one."""
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
            "email": self.email,
            "kind": str(self.kind),
            "near": self.near,
            "first_seen": stamp(self.first_seen),
            "reason": self.reason,
        }


@dataclass(slots=True)
class Compared:
    """An integration's listing, compared. `fault` says why it could not be read whole; then nothing is told of it."""

    integration: str
    listed: int = 0
    matched: int = 0
    complete: bool = False
    fault: str | None = None
    accounts: list[Found] = field(default_factory=list)
    seen: frozenset[str] = frozenset()
    """The digests of all accounts, by which the ledger remembers when each was first read."""
    unlisted: str = "there is no manifest"
    """Why there was no listing to read, where it is neither complete nor at fault."""

    def of(self, kind: Kind) -> int:
        """How many accounts are of a kind."""
        return sum(found.kind is kind for found in self.accounts)

    @property
    def unknown(self) -> int:
        """How many accounts git does not know: unmanaged or orphaned."""
        return len(self.accounts) - self.of(Kind.IGNORED)

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "integration": self.integration,
            "listed": self.listed,
            "matched": self.matched,
            "ignored": self.of(Kind.IGNORED),
            "complete": self.complete,
        }


@dataclass(slots=True)
class _Owners:
    """Who a listing's accounts belong to, place by place: the grants', and the orphans' with their names."""

    scopes: dict[Place, Scope] = field(default_factory=dict)
    granted: dict[Place, set[str]] = field(default_factory=dict)
    orphaned: dict[Place, dict[str, str]] = field(default_factory=dict)


async def compare(
    integration: Integration,
    desired: Desired,
    records: Iterable[Record],
    listings: Listings,
    *,
    seen: Mapping[str, datetime] = NEVER,
    people: People | None = None,
) -> Compared:
    """Compare an integration's listing with what git wants and the ledger remembers.

    `people` are whom an account may resemble, `seen` when accounts were first read.
    """
    result = Compared(integration.name, unlisted="the manifest has no list")
    exists = integration.manifest.exists
    if exists is None or exists.listing is None:
        return result
    result.unlisted = "no access entry has the values that the list is read with"
    owners = await _owners(integration, desired, records)
    keys = set()
    for place, scope in owners.scopes.items():
        population = await listings.population(integration, scope)
        if isinstance(population, str):
            return Compared(integration.name, fault=population)
        granted, orphaned = owners.granted.get(place, set()), owners.orphaned.get(place, {})
        where = dict(each.split("=", 1) for each in place[1])
        for account in population:
            result.listed += 1
            known = known_by(account)
            keys.add(known)
            if account.who in granted:
                result.matched += 1
                continue
            found = _judged(integration.name, account, orphaned, desired)
            result.accounts.append(_told(found, people, seen.get(known), where))
    result.complete, result.seen = bool(owners.scopes), frozenset(keys)
    return result


async def unknown_accounts(plan: Plan) -> list[Compared]:
    """The listings that a plan over everybody read, compared; none is read for it."""
    listings = plan.checker.listings
    if listings is None or plan.selection.hires is not None or plan.selection.grants is not None:
        return []
    names = sorted(listings.were_read() & plan.integrations.keys())
    records = plan.rows.values()
    return [await compare(plan.integrations[name], plan.desired, records, listings) for name in names]


def known_by(account: Account) -> str:
    """The digest that an account is known by from one reading to the next: the ledger needs no names for that."""
    return hashlib.sha256((account.name if account.who is None else account.who).encode(errors="replace")).hexdigest()


async def _owners(integration: Integration, desired: Desired, records: Iterable[Record]) -> _Owners:
    owners = _Owners()
    addresses: dict[Key, str] = {}
    for number, hire in enumerate(desired.hires):
        if number % AT_A_TIME == 0:
            await asyncio.sleep(0)
        grants = desired.grants(hire) if integration.name in desired.integrations(hire) else ()
        for grant in grants:
            if grant.integration == integration.name:
                addresses[grant.key] = grant.email
                _grant(owners, integration, integration.scope(grant.layers, {}))
    for record in records:
        if record.integration == integration.name and record.phase is not Phase.REVOKED and record.leaves_something:
            _remembered(owners, integration, record, desired, addresses.get(record.key))
    if not owners.scopes and not _asks_form(integration):
        scope = integration.scope((), {})
        owners.scopes[found_by(integration, scope)[0]] = scope
    return owners


def _remembered(
    owners: _Owners, integration: Integration, record: Record, desired: Desired, address: str | None
) -> None:
    """Whose the account behind a record is; `address` is that of the grant that git wants, None where it wants none."""
    if address is not None and address.lower() == record.email.lower():
        return
    scope = integration.scope(integration.orphan(record).layers, {})
    unreadable = desired.unreadable(record.key.hire, record.email, record.origin) is not None
    if address is not None or unreadable:  # under the address that it was confirmed with, or of a file that is broken
        _grant(owners, integration, scope)
        return
    place, who = found_by(integration, scope)
    owners.scopes.setdefault(place, scope)
    if who is not None:
        owners.orphaned.setdefault(place, {})[who] = f"{record.key.hire}/{record.key.access}"


def _grant(owners: _Owners, integration: Integration, scope: Scope) -> None:
    place, who = found_by(integration, scope)
    owners.scopes.setdefault(place, scope)
    if who is not None:
        owners.granted.setdefault(place, set()).add(who)


def _asks_form(integration: Integration) -> bool:
    """Whether the listing is another one for each value of the form: without an entry, nobody says which to read."""
    exists = integration.manifest.exists
    assert exists is not None
    assert exists.listing is not None
    used = {name.partition(".")[0] for name in names([exists.listing.url, exists.listing.data])}
    return any(each.id in used for each in integration.manifest.form)


def _judged(name: str, account: Account, orphaned: Mapping[str, str], desired: Desired) -> Found:
    found = Found(name, account, Kind.UNMANAGED, "no hire has this account")
    called = [text for text in (account.name, account.who, found.email) if text]
    if (entry := _ignored(name, called, desired.files.ignore, desired.today)) is not None:
        return Found(name, account, Kind.IGNORED, entry.reason)
    if account.who is not None and (grant := orphaned.get(account.who)) is not None:
        return Found(name, account, Kind.ORPHANED, f"{grant} is no longer in git")
    if found.email is not None and (hire := desired.owner(found.email)) is not None:
        return Found(name, account, Kind.UNMANAGED, f"{hire} has no entry for it")
    return found


def _ignored(name: str, called: Sequence[str], ignore: Iterable[IgnoredAccount], today: date) -> IgnoredAccount | None:
    return next((each for each in ignore if each.integration == name and each.covers(called, today)), None)


def _told(found: Found, people: People | None, first_seen: datetime | None, where: Mapping[str, str]) -> Found:
    """What was found, with whom it resembles, since when it is known, and in which of several listings it stands."""
    near = None
    if people is not None:
        fields = found.account.fields
        full = " ".join(str(fields[key]) for key in ("first_name", "last_name") if fields.get(key))
        addresses = [text for text in (found.email, found.account.who) if text and "@" in text]
        near = people.near(addresses, [full, found.account.name, found.account.who or ""])
    listing = ", ".join(f"{name}={value}" for name, value in where.items())
    reason = f"{found.reason} ({listing})" if where else found.reason
    return replace(found, reason=reason, near=near, first_seen=first_seen, values=where)


def people_of(desired: Desired) -> People:
    """Everybody whose file can be read."""
    hires = ((hire, loaded.model) for hire, loaded in desired.hires.items())
    return People((hire, model.email, model.full_name) for hire, model in hires)
