"""The people, one person, one service, and the history, as their pages show them. Each is made in a worker thread."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.ledger.browsing import Chosen, Listed, Page, Recent
from reconciler.ledger.chain import Link
from reconciler.ledger.entries import Event
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Grant, Record
from reconciler.model.hire import Hire
from reconciler.model.report import Row
from reconciler.notify.outages import Outage, outages_of
from reconciler.review.attention import Step, needs_of_accounts, steps
from reconciler.review.reviews import ReviewProgress
from reconciler.review.unmanaged import Compared, Found, known_by
from reconciler.web.filters import Filters
from reconciler.web.overview import ServiceState, state_of
from reconciler.web.seen import FromGit
from reconciler.web.sources import NoSuchPage, Sources, asked

__all__ = ["SIZE", "Listing", "history", "people", "person", "reviews", "service"]

SIZE = 50
"""How many rows a page has."""

TRIES = 20
"""The most attempts at a grant that are shown; of more, the history tells."""

ACCOUNTS = 100
"""The most accounts unknown to git that are shown."""

Query = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a page is within its list, and what the list is filtered by."""

    filters: Filters
    total: int

    @property
    def pages(self) -> int:
        """How many pages the list has; an empty one has one."""
        return max(1, -(-self.total // SIZE))

    @property
    def page(self) -> Page:
        """The page that is asked for. Raises NoSuchPage where the list has not so many."""
        number = self.filters.page
        if number > self.pages:
            raise NoSuchPage(f"There is no page {number:,}: the list ends with page {self.pages:,}.")
        return Page(number, SIZE)


@dataclass(frozen=True, slots=True)
class GrantShown:
    """One grant: its row, what a person can do, and the newest attempts."""

    row: Row
    steps: tuple[Step, ...]
    recent: Recent


def people(sources: Sources, query: Query) -> dict[str, object]:
    """Everybody that the ledger knows, page by page. `hire` is a part of an id or of an address here."""
    live, git = sources.now(), sources.git()
    with sources.ledger() as ledger:
        counts = ledger.counts()
        names = {*git.integrations, *(name for name, _ in counts)}
        filters = asked(query, ("hire", "integration", "status"), live, names)
        chosen = Chosen(text=filters.first("hire"), integrations=filters.integrations, statuses=filters.statuses)
        listing = Listing(filters, ledger.count_people(chosen))
        found: list[Listed] = ledger.people(chosen, listing.page)
    hires = sources.git([each.hire for each in found]).hires
    return {"live": live, "listing": listing, "people": found, "hires": hires, "integrations": sorted(names)}


def person(sources: Sources, hire: str, query: Query) -> dict[str, object]:
    """One person with all grants. Raises NoSuchPage for whom neither git nor the ledger knows."""
    live, git = sources.now(), sources.git([hire])
    with sources.ledger() as ledger:
        listing = Listing(asked(query, (), live, ()), ledger.count_grants(Chosen(hires=[hire])))
        if not listing.total and hire not in git.hires:
            raise NoSuchPage(f"Nobody has the id {hire}: neither git nor the ledger knows it.")
        records = ledger.grants(Chosen(hires=[hire]), listing.page)
        grants = _shown(ledger, hire, records, git)
    return {
        "live": live,
        "hire": hire,
        "person": git.hires.get(hire),
        "file": git.files.get(hire),
        "listing": listing,
        "grants": grants,
    }


def _shown(ledger: LedgerReader, hire: str, records: list[Record], git: FromGit) -> list[GrantShown]:
    wanted: Mapping[object, Grant] = {grant.key: grant for grant in git.grants.get(hire, ())}
    given, recent = ledger.given([hire]), ledger.recent_attempts(hire, TRIES)
    rows = [Row.of(record, grant=wanted.get(record.key)).given_by(given.get(record.key)) for record in records]
    return [
        GrantShown(row, steps(record), recent.get(record.key, Recent(())))
        for row, record in zip(rows, records, strict=True)
    ]


def service(sources: Sources, name: str, query: Query) -> dict[str, object]:
    """One integration. Raises NoSuchPage for one that neither git nor the ledger knows."""
    live, git = sources.now(), sources.git()
    with sources.ledger() as ledger:
        counts = ledger.counts()
        if name not in git.integrations and all(name != known for known, _ in counts):
            raise NoSuchPage(f"There is no integration {name}: neither git nor the ledger knows it.")
        filters = asked(query, ("hire", "status"), live, ())
        chosen = Chosen(hires=filters.hires, integrations=[name], statuses=filters.statuses)
        listing = Listing(filters, ledger.count_grants(chosen))
        records = ledger.grants(chosen, listing.page)
        outages: list[Outage] = outages_of(ledger).get(name, [])
        checked, seen = ledger.last_checked(), ledger.first_seen(name)
        held = ledger.held_by_policy().get(name, 0)
    hires: Mapping[str, Hire] = sources.git({record.key.hire for record in records}).hires
    compared: Compared | None = live.unmanaged.get(name)
    state: ServiceState = state_of(name, live, git, counts=counts, checked=checked, outages=outages)
    return {
        "live": live,
        "state": state,
        "service": git.integrations.get(name, name),
        "listed": name in git.listed,
        "listing": listing,
        "grants": [Row.of(record) for record in records],
        "hires": hires,
        "outages": outages,
        "held": held,
        "compared": compared,
        "unread": live.unread.get(name),
        "accounts": _accounts(compared, seen),
        "todo_accounts": [step for need in needs_of_accounts({name: state.unmanaged or 0}) for step in need.steps],
        "most": ACCOUNTS,
    }


def _accounts(compared: Compared | None, seen: Mapping[str, datetime]) -> list[tuple[Found, datetime | None]]:
    """The accounts of a listing that git does not know, with when each was first read."""
    found = [] if compared is None else sorted(compared.accounts, key=lambda each: (each.kind, each.account.name))
    return [(each, seen.get(known_by(each.account))) for each in found[:ACCOUNTS]]


def reviews(sources: Sources, query: Query) -> dict[str, object]:
    """The access reviews, the newest period first."""
    live = sources.now()
    asked(query, (), live, ())
    with sources.ledger() as ledger:
        found = sources.reviews(ledger)
    periods: dict[str, list[ReviewProgress]] = {}
    for review in sorted(found, key=lambda each: each.period, reverse=True):
        periods.setdefault(review.period, []).append(review)
    check = {period: shlex.join(["reconcile", "review", "check", period]) for period in periods}
    return {"periods": periods, "check": check, "now": live.now}


def history(sources: Sources, query: Query) -> dict[str, object]:
    """What happened, newest first."""
    live, git = sources.now(), sources.git()
    with sources.ledger() as ledger:
        names = {*git.integrations, *(name for name, _ in ledger.counts())}
        allowed = ("hire", "integration", "event", "since", "until")
        filters = asked(query, allowed, live, names)
        by = {
            "hires": filters.hires,
            "integrations": filters.integrations,
            "events": filters.events,
            "since": filters.since,
            "until": filters.until,
        }
        listing = Listing(filters, ledger.count_events(**by))
        events: list[Event] = ledger.history_page(listing.page, **by)
        end: Link = ledger.history_end()
    return {"live": live, "listing": listing, "events": events, "end": end, "integrations": sorted(names)}
