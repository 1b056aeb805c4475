"""The overview: the state in one sentence, what needs a person, the services, git, and the last pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta

from reconciler.daemon.freshness import clones
from reconciler.daemon.hooked import hooks_of
from reconciler.model.decision_inputs import Policy
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.status import Status
from reconciler.model.value import Frozen, replace
from reconciler.notify.alerts import Outage, outages_of
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
)
from reconciler.web.daemon_view import DaemonView, GitView, Live

ON_THE_WAY = (Status.MISSING, Status.RETRYING, Status.UNCONFIRMED, Status.SCHEDULED)

WEEK, MAX_ENDING = timedelta(days=7), 20
"""How far ahead the end of access is shown, and the most that is shown of it."""


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


def overview(sources: DaemonView) -> dict[str, object]:
    """Read everything that the overview shows; of access that ends soon, how much it is and the first of it."""
    live, git = sources.now(), sources.git()
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
    suspended = Policy.of(live.active.settings, live.now).suspended("", name)
    wrong = sum(own[status] for status in (Status.FAILED, Status.UNKNOWN, Status.BLOCKED, Status.INVALID))
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
    found = live.unmanaged.get(name)
    return ServiceState(
        name=name,
        tone=tone,
        word=word,
        why=why,
        counts=own,
        checked_at=checked.get(name),
        unmanaged=None if found is None else found.unknown,
    )


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
