"""What each page shows. Views run in worker threads."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta

from reconciler.daemon.freshness import clones
from reconciler.daemon.hooked import hooks_of
from reconciler.ledger.browsing import Chosen, Page
from reconciler.ledger.history import LineFilters
from reconciler.ledger.reader import LedgerReader, Recent
from reconciler.model.attribution import Attribution
from reconciler.model.decision_inputs import Policy
from reconciler.model.form import FormField
from reconciler.model.grant import Grant, Record
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.report import Row
from reconciler.model.status import FAULTS, Status
from reconciler.model.value import Frozen, replace
from reconciler.notify.alerts import Outage, outages_of
from reconciler.repository.git.checkout import Checkout
from reconciler.review.attention import (
    EXAMPLES,
    Need,
    NextStep,
    needs_of_accounts,
    needs_of_files,
    needs_of_git,
    needs_of_grants,
    needs_of_locks,
    needs_of_reviews,
    steps,
)
from reconciler.review.past import Leaving
from reconciler.review.reviews import ReviewProgress
from reconciler.review.unmanaged import ComparedListing, UnknownAccount, account_digest
from reconciler.web.daemon_view import DaemonView, GitView, Live
from reconciler.web.filters import Filters, NoSuchPage, page_filters

PAGE_ROWS = 50
"""The most rows of a page."""

MAX_ATTEMPTS = 20
"""The most attempts that are shown for a grant; the history has them all."""

MAX_ACCOUNTS = 100
"""The most accounts unknown to git that are shown."""

MAX_HOLDERS = 1000
"""The most people with privileged access to one integration that are listed."""

ON_THE_WAY = (Status.MISSING, Status.RETRYING, Status.UNCONFIRMED, Status.SCHEDULED)

WEEK, MAX_ENDING = timedelta(days=7), 20
"""How far ahead the end of access is shown, and the most that is shown of it."""

Query = Iterable[tuple[str, str]]


class PagedList(Frozen):
    """A list that has pages, and the filters that it was made with."""

    filters: Filters
    total: int

    @property
    def pages(self) -> int:
        """The number of pages; an empty list has one."""
        return max(1, -(-self.total // PAGE_ROWS))

    @property
    def page(self) -> Page:
        """The page that the filters ask for. Raises NoSuchPage if it is past the end."""
        number = self.filters.page
        if number > self.pages:
            raise NoSuchPage(f"There is no page {number:,}: the list ends with page {self.pages:,}.")
        return Page(number, PAGE_ROWS)


class GrantDetails(Frozen):
    """One grant: its row, what a person can do, and the newest attempts."""

    row: Row
    steps: tuple[NextStep, ...]
    recent: Recent


class Holder(Frozen):
    """Somebody whose role gives more than others have, by the ledger: access that is there, or is not gone yet."""

    record: Record
    role: object
    given: Attribution | None = None


def nothing(_sources: DaemonView, _query: Query, path: str) -> dict[str, object]:  # noqa: ARG001
    """Raise NoSuchPage, for a path that no other view has."""
    raise NoSuchPage("There is no page of this address.")


class ServiceState(Frozen):
    """One line on an integration: `tone` and `word` are its state, `why` the reason."""

    name: str
    tone: str
    word: str
    why: str = ""
    counts: Counter[Status] = field(default_factory=Counter)
    checked_at: datetime | None = None
    unmanaged: int | None = None

    @property
    def total(self) -> int:
        """The number of grants that git wants, or that are not revoked yet."""
        return sum(self.counts.values()) - self.counts[Status.REVOKED]

    @property
    def granted(self) -> int:
        """The number of those that are as git wants them."""
        return sum(count for status, count in self.counts.items() if status.granted)


def overview(sources: DaemonView, query: Query) -> dict[str, object]:
    """Show the state in one sentence, what needs a person, the services, what ends soon, git, and the last pass."""
    live, git = sources.now(), sources.git()
    page_filters(query, (), live, ())
    active = live.active
    with sources.ledger() as ledger:
        counts, checked = ledger.grants.counts(), ledger.pages.last_checked()
        waiting, outages = ledger.pages.waiting(EXAMPLES), outages_of(ledger)
        ending = ledger.pages.ending(live.now, live.now + WEEK, MAX_ENDING)
        last, end, members = LastPass.read(ledger.notes.get(LAST)), ledger.history.end(), ledger.members()
        reviews, hooks, told = sources.reviews(ledger), hooks_of(ledger), clones(ledger)
        locks = [lock for lock in ledger.locks.all() if not lock.over(live.now)]
        people = {hire for lock in locks for hire in lock.hires}
        locked = [*ledger.grants.records(people, [each for lock in locks for each in lock.addresses])] if locks else []
    now = replace(last, of_files=git.problems or last.of_files)
    names = sorted({*git.integrations, *(name for name, _ in counts)})
    services = [
        state_of(name, live, git, counts=counts, checked=checked, outages=outages.get(name, [])) for name in names
    ]
    needs = [
        *needs_of_locks(locks, locked),
        *_of_daemon(live),
        *needs_of_git(live.freshness.stale, active.refused, active.fault, active.settings.git.remote, active.branch),
        *needs_of_files(now.problems),
        *needs_of_grants(waiting, {name: outages[name] for name in outages if _down(name, git, counts, outages[name])}),
        *needs_of_accounts({name: each.unknown for name, each in live.unmanaged.items()}),
        *needs_of_reviews(reviews),
    ]
    named = [*ending[1], *(record for need in needs for record in need.grants)]
    return {
        "live": live,
        "sentence": _sentence(services, needs),
        "needs": sorted(needs, key=lambda need: not need.urgent),
        "hires": sources.git({record.key.hire for record in named}).hires,
        "ending": ending,
        "services": services,
        "last": last,
        "problems": now.problems,
        "history": end,
        "members": members,
        "clones": told,
        "hooks": hooks,
    }


def state_of(
    name: str,
    live: Live,
    git: GitView,
    *,
    counts: Mapping[tuple[str, Status], int],
    checked: Mapping[str, datetime],
    outages: list[Outage],
) -> ServiceState:
    """Sum up an integration by the most serious of its states."""
    own = Counter({status: count for (integration, status), count in counts.items() if integration == name})
    tone, word, why = "good", "as it should be", ""
    suspended = Policy(live.active.settings, live.now).suspended("", name)
    wrong = sum(own[status] for status in FAULTS)
    look = own[Status.DIFFERS] + own[Status.ORPHANED]
    way = sum(own[status] for status in ON_THE_WAY)
    if _down(name, git, counts, outages):
        tone, word, why = "bad", "not answering", outages[0].reason
    elif suspended is not None:
        tone, word, why = "wait", "suspended", suspended
    elif wrong:
        tone, word = "bad", f"{wrong} {'problem' if wrong == 1 else 'problems'}"
    elif look:
        tone, word = "look", f"{look} to look at"
    elif own[Status.SUSPENDED]:
        tone, word = "wait", f"{own[Status.SUSPENDED]} held"
    elif way:
        tone, word = "wait", f"{way} on the way"
    elif not own:
        tone, word = "over", "nobody has it"
    elif name not in git.integrations and git.integrations:
        tone, word = "over", "no longer in git"
    unmanaged = live.unmanaged[name].unknown if name in live.unmanaged else None
    return ServiceState(name, tone, word, why, counts=own, checked_at=checked.get(name), unmanaged=unmanaged)


def _down(name: str, git: GitView, counts: Mapping[tuple[str, Status], int], outages: list[Outage]) -> bool:
    """Whether an integration does not answer. One that is no longer checked is not down, even in an outage."""
    checked = any(
        count and integration == name and status is not Status.REVOKED
        for (integration, status), count in counts.items()
    )
    return bool(outages) and outages[0].until is None and checked and (name in git.integrations or not git.integrations)


def _of_daemon(live: Live) -> Iterator[Need]:
    if not live.healthy:
        step = NextStep("Read its log; a restart helps where it hangs:", "systemctl restart reconcile")
        yield Need("The daemon does not get on", live.health, (step,))


def _sentence(services: list[ServiceState], needs: list[Need]) -> str:
    total, granted = sum(each.total for each in services), sum(each.granted for each in services)
    way = sum(each.counts[status] for each in services for status in ON_THE_WAY)
    if not total:
        found = "No access is recorded yet"
    elif granted == total:
        found = f"Access is as agreed in {f'all {total:,} cases' if total > 1 else 'the one case'}"
    else:
        found = f"Access is as agreed in {granted:,} of {total:,} {'case' if total == 1 else 'cases'}"
        found += f", {way:,} on the way" if way else ""
    if not needs:
        return f"{found}, and nothing needs a person."
    return f"{found}; {len(needs)} {'thing needs' if len(needs) == 1 else 'things need'} a person."


def people(sources: DaemonView, query: Query) -> dict[str, object]:
    """Show everybody in the ledger, page by page. The filter `hire` is a part of an id or an address here."""
    live, git = sources.now(), sources.git()
    with sources.ledger() as ledger:
        counts = ledger.grants.counts()
        names = {*git.integrations, *(name for name, _ in counts)}
        filters = page_filters(query, ("hire", "integration", "status"), live, names)
        chosen = Chosen(text=filters.first("hire"), integrations=filters.integrations, statuses=filters.statuses)
        listing = PagedList(filters, ledger.pages.count_people(chosen))
        found = ledger.pages.people(chosen, listing.page)
    hires = sources.git([each.hire for each in found]).hires
    return {"live": live, "listing": listing, "people": found, "hires": hires, "integrations": sorted(names)}


def person(sources: DaemonView, query: Query, hire: str) -> dict[str, object]:
    """Show one person with all grants. Raises NoSuchPage if neither git nor the ledger has the person."""
    live, git = sources.now(), sources.git([hire])
    with sources.ledger() as ledger:
        listing = PagedList(page_filters(query, (), live, ()), ledger.pages.count_grants(Chosen(hires=[hire])))
        if not listing.total and hire not in git.hires:
            raise NoSuchPage(f"Nobody has the id {hire}: neither git nor the ledger knows it.")
        records = ledger.pages.grants(Chosen(hires=[hire]), listing.page)
        checkout = sources.checkout()
        grants = _details(ledger, hire, records, git, checkout)
    return {
        "live": live,
        "hire": hire,
        "person": git.hires.get(hire),
        "file": git.files.get(hire),
        "listing": listing,
        "grants": grants,
        "authors": _authors(checkout, grants),
    }


def statuses(sources: DaemonView, hire: str) -> dict[str, object]:
    """Return the status of each of one person's grants, for the desk."""
    with sources.ledger() as ledger:
        records = list(ledger.grants.records([hire]))
    return {"grants": [{"access": each.key.access, "status": str(each.status)} for each in records]}


def _details(
    ledger: LedgerReader, hire: str, records: list[Record], git: GitView, checkout: Checkout
) -> list[GrantDetails]:
    wanted: Mapping[object, Grant] = {grant.key: grant for grant in git.grants.get(hire, ())}
    given, recent = ledger.given.of([hire]), ledger.attempts.recent(hire, MAX_ATTEMPTS)
    rows = [Row.of(record, grant=wanted.get(record.key)).given_by(given.get(record.key)) for record in records]
    dated = Leaving(checkout, None, git.over).dated(ledger, rows)
    return [
        GrantDetails(row, steps(record), recent.get(record.key, Recent(())))
        for row, record in zip(dated, records, strict=True)
    ]


def _authors(checkout: Checkout, grants: Iterable[GrantDetails]) -> dict[str, str]:
    """Return who wrote the commits with which grants left git."""
    commits = {each.row.removed_in for each in grants if each.row.removed_in is not None}
    found = {commit: checkout.commit_if_there(commit) for commit in commits}
    return {commit: each.author for commit, each in found.items() if each is not None}


def service(sources: DaemonView, query: Query, integration: str) -> dict[str, object]:
    """Show one integration. Raises NoSuchPage for one that neither git nor the ledger knows."""
    live, git = sources.now(), sources.git()
    with sources.ledger() as ledger:
        counts = ledger.grants.counts()
        if integration not in git.integrations and all(integration != known for known, _ in counts):
            raise NoSuchPage(f"There is no integration {integration}: neither git nor the ledger knows it.")
        filters = page_filters(query, ("hire", "status"), live, ())
        chosen = Chosen(hires=filters.hires, integrations=[integration], statuses=filters.statuses)
        listing = PagedList(filters, ledger.pages.count_grants(chosen))
        records = ledger.pages.grants(chosen, listing.page)
        outages = outages_of(ledger).get(integration, [])
        checked, seen = ledger.pages.last_checked(), ledger.accounts.first_seen(integration)
        held = ledger.pages.held_by_policy().get(integration, 0)
        hooked = next((each for each in hooks_of(ledger) if each.hook == integration), None)
    files = sources.git({record.key.hire for record in records})
    manifest, roles = git.manifests.get(integration), git.roles(integration)
    compared = live.unmanaged.get(integration)
    state = state_of(integration, live, git, counts=counts, checked=checked, outages=outages)
    return {
        "live": live,
        "state": state,
        "service": git.integrations.get(integration, integration),
        "listed": manifest is not None and manifest.listing is not None,
        "listing": listing,
        "grants": [(Row.of(record), roles_of(record, roles, files)) for record in records],
        "roles": bool(roles),
        "hires": files.hires,
        "outages": outages,
        "held": held,
        "tells": manifest is not None and manifest.events is not None,
        "hooked": hooked,
        "compared": compared,
        "unread": live.unread.get(integration),
        "accounts": _accounts(compared, seen),
        "todo_accounts": [
            step for need in needs_of_accounts({integration: state.unmanaged or 0}) for step in need.steps
        ],
        "most": MAX_ACCOUNTS,
    }


def privileged(sources: DaemonView, query: Query) -> dict[str, object]:
    """Show who has privileged roles, over all integrations whose manifest says which these are."""
    live, git = sources.now(), sources.git()
    filters = page_filters(query, ("hire", "integration"), live, git.integrations)
    meant = sorted(name for name in git.manifests if git.roles(name))
    with sources.ledger() as ledger:
        asked = [name for name in meant if not filters.integrations or name in filters.integrations]
        found = [holder for name in asked for holder in _holders(ledger, name, git)]
        found = [each for each in found if not filters.hires or each.record.key.hire in filters.hires]
        listing = PagedList(filters, len(found))
        begin = (listing.page.number - 1) * listing.page.size
        shown = found[begin : begin + listing.page.size]
        given = ledger.given.of({each.record.key.hire for each in shown})
    return {
        "live": live,
        "listing": listing,
        "holders": [replace(each, given=given.get(each.record.key)) for each in shown],
        "hires": sources.git({each.record.key.hire for each in shown}).hires,
        "integrations": meant,
        "most": MAX_HOLDERS,
    }


def _holders(ledger: LedgerReader, integration: str, git: GitView) -> list[Holder]:
    """List who has a privileged role of an integration, by role."""
    manifest, roles, found = git.manifests[integration], git.roles(integration), list[Holder]()
    texts = frozenset(text for role in roles for text in role.privileged_texts)
    for record in ledger.pages.holding(integration, texts, MAX_HOLDERS):
        has = {**record.values, **manifest.held(record.differs or record.accepted)}
        given = (has[role.id] for role in roles if role.id in has and role.gives_privilege(has[role.id]))
        found += [Holder(record, role) for role in given]
    return sorted(found, key=lambda each: (str(each.role), each.record.key))


def roles_of(record: Record, roles: Iterable[FormField], files: GitView) -> list[tuple[object, bool]]:
    """List the roles that somebody has, each with whether it gives more than others.

    They are those of git; of an access that git no longer has, those that the ledger knows.
    """
    grant = next((each for each in files.grants.get(record.key.hire, ()) if each.key == record.key), None)
    values = Row.of(record, grant=grant, form=[role.id for role in roles]).values or {}
    return [(values[role.id], role.gives_privilege(values[role.id])) for role in roles if role.id in values]


def _accounts(
    compared: ComparedListing | None, seen: Mapping[str, datetime]
) -> list[tuple[UnknownAccount, datetime | None]]:
    """List the accounts of a listing that git does not know, with when each was first read."""
    found = [] if compared is None else sorted(compared.accounts, key=lambda each: (each.kind, each.account.name))
    return [(each, seen.get(account_digest(each.account))) for each in found[:MAX_ACCOUNTS]]


def reviews(sources: DaemonView, query: Query) -> dict[str, object]:
    """Show the access reviews, the newest period first."""
    live = sources.now()
    page_filters(query, (), live, ())
    with sources.ledger() as ledger:
        found = sources.reviews(ledger)
    periods: dict[str, list[ReviewProgress]] = {}
    for review in sorted(found, key=lambda each: each.file.period, reverse=True):
        periods.setdefault(review.file.period, []).append(review)
    check = {period: shlex.join(["reconcile", "review", "check", period]) for period in periods}
    return {"periods": periods, "check": check, "today": Policy(live.active.settings, live.now).today}


def history(sources: DaemonView, query: Query) -> dict[str, object]:
    """Show the history, newest first."""
    live, git = sources.now(), sources.git()
    with sources.ledger() as ledger:
        names = {*git.integrations, *(name for name, _ in ledger.grants.counts())}
        allowed = ("hire", "integration", "event", "since", "until")
        filters = page_filters(query, allowed, live, names)
        by = LineFilters(
            hires=filters.hires,
            integrations=filters.integrations,
            events=filters.events,
            since=filters.since,
            until=filters.until,
        )
        listing = PagedList(filters, ledger.history.count(**by))
        events = [each.shown() for each in ledger.history.page(listing.page, **by)]
        end = ledger.history.end()
    hires = sources.git({event.key.hire for event in events}).hires
    shown = {"live": live, "listing": listing, "events": events, "hires": hires}
    return {**shown, "end": end, "integrations": sorted(names)}
