"""Decide what is news, from the alerts that were sent before and what a pass found.

Pure. An alert is sent on a change and on a recovery, and not repeated in between. A pass makes at most one message, and
news of one kind about one integration is sent at most three times in ten minutes: further news waits and is sent
together. So an hour's outage over 500 hires is two messages.

`AlertState` has the alerts that were sent. It has grants as digests, so that forgetting a person leaves no name here.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from reconciler.ledger.entries import Event
from reconciler.model.clock import stamp
from reconciler.model.lock import LockState
from reconciler.model.report import Row
from reconciler.model.status import EventType, ReasonCode, Status
from reconciler.model.text import Spoken
from reconciler.model.value import Frozen, replace

IN_A_ROW = 3
"""Checks that fail in a row to make an outage; so does more than half of as many checks in one pass."""

OFTEN = 3
QUIET = timedelta(minutes=10)
SHOWN = 20
"""The most grants that are named; the rest are counted."""

ANSWERED = frozenset({Status.PRESENT, Status.DIFFERS, Status.MISSING, Status.UNCONFIRMED})
"""The statuses that show that a check was answered; others do not show whether there was one."""

SAME = frozenset({Status.UNKNOWN, Status.SUSPENDED, Status.SCHEDULED, Status.INVALID, Status.BLOCKED})
"""The statuses in which a grant that differs is as it was, as far as anybody knows."""

HELD_BACK = frozenset({Status.SUSPENDED, Status.SCHEDULED, Status.INVALID, Status.BLOCKED, Status.FAILED})
"""The statuses in which a grant that had failed has not come further."""


class NewsKind(Spoken):
    """The kinds of news, each with the headline of a message."""

    OUTAGE = "outage", "checks fail"
    RECOVERED = "recovered", "checks are answered again"
    FAILED = "failed", "failed, and nothing more runs on its own"
    OVERDUE = "overdue", "its time is over, and it is still there"
    BLOCKED = "blocked", "cannot run"
    DRIFT = "drift", "an account was changed or taken away there"
    DIFFERS = "differs", "not as git wants it, and left to a person"
    HELD = "held", "held by the guard"
    IN_DOUBT = "notification_in_doubt", "a notification may or may not have been sent"
    STALE = "stale", "git's commits are not taken over"
    CAUGHT_UP = "caught_up", "git's commits are taken over again"
    REFUSED = "refused", "somebody else wrote to the state"
    UNPUBLISHED = "unpublished", "checkpoints of the history cannot be published"
    UNTIMED = "untimed", "checkpoints of the history get no timestamp"
    REVIEW_OVERDUE = "review_overdue", "an access review is overdue"


class News(Frozen):
    """One kind of event at one integration; `grants` are some of the `count` that it concerns.

    `since` is when an outage began.
    """

    kind: NewsKind
    integration: str
    count: int
    reason: str
    grants: tuple[str, ...] = ()
    since: str | None = None

    def __str__(self) -> str:
        about = f"{self.integration}: " if self.integration else ""
        named = ", ".join(self.grants)
        more = f" and {self.count - len(self.grants)} more" if self.grants and self.count > len(self.grants) else ""
        whom = f"\n  {named}{more}" if named else ""
        headline = "" if self.kind is NewsKind.HELD else f"{self.kind.text}: "  # the guard's reason has its own
        return f"{about}{headline}{self.reason}{whom}"

    def joined(self, other: News) -> News:
        """Join two; the reason is the later one's."""
        grants = tuple(dict.fromkeys((*self.grants, *other.grants)))
        return replace(other, count=self.count + other.count, grants=grants[:SHOWN], since=self.since or other.since)


class Message(Frozen):
    """One message: all news of a pass."""

    news: tuple[News, ...]

    @property
    def subject(self) -> str:
        """Return the subject of an e-mail."""
        first = self.news[0]
        more = f", and {len(self.news) - 1} more" if len(self.news) > 1 else ""
        return f"Access: {first.integration and f'{first.integration} '}{first.kind.text}{more}"

    @property
    def text(self) -> str:
        """Return the news, one after the other."""
        return "\n".join(str(item) for item in self.news)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the news as a webhook gets them."""
        return [asdict(item) for item in self.news]


class CheckStreak(Struct):
    """An integration's checks: how many failed, or succeeded, in a row, up to the number that matters.

    `failing_since` is when the first of those that failed in a row did; `down_since` is set while an outage is
    reported; `silent` are the grants whose last check failed.
    """

    failing: int = 0
    failing_since: str | None = None
    answering: int = 0
    down_since: str | None = None
    silent: set[str] = set()


class AlertState(Struct):
    """The alerts that were sent, and what is needed to know what is new."""

    watches: dict[str, CheckStreak] = {}
    failed: set[str] = set()
    overdue: set[str] = set()
    blocked: set[str] = set()
    differing: set[str] = set()
    unable: set[str] = set()
    told: dict[str, list[str]] = {}
    """When news of a kind about an integration was sent recently."""
    waiting: dict[str, News] = {}

    @classmethod
    def read(cls, raw: bytes | None) -> Self:
        """Read the state from its note. A note that this version cannot read counts as none."""
        try:
            return msgspec.json.decode(raw or b"{}", type=cls)
        except msgspec.DecodeError:
            return cls()

    def without(self, hire: str) -> Self:
        """Return the state without a person who is forgotten: but for news that waits, it has digests alone."""
        waiting = {
            name: replace(news, grants=tuple(each for each in news.grants if not each.startswith(f"{hire}/")))
            for name, news in self.waiting.items()
        }
        return replace(self, waiting=waiting)

    def written(self) -> bytes:
        """Return the state as a note."""
        return msgspec.json.encode(self, order="deterministic")  # sets are sorted


def alerts_of(
    before: AlertState, rows: Iterable[Row], events: Iterable[Event], now: datetime
) -> tuple[Message | None, AlertState]:
    """Return a pass's message, if there is news, and the new state; `before` is not changed."""
    state = AlertState.read(before.written())
    rows = list(rows)
    news = [
        *outages(state.watches, rows, now),
        *_grown(state.failed, rows, NewsKind.FAILED, _failed, _among(HELD_BACK)),
        *_grown(state.overdue, rows, NewsKind.OVERDUE, lambda row: row.overdue, lambda row: row.action.acts),
        *_grown(state.blocked, rows, NewsKind.BLOCKED, _among({Status.BLOCKED}), _among(HELD_BACK - {Status.FAILED})),
        *_grown(state.differing, rows, NewsKind.DIFFERS, _differs, _among({Status.DIFFERS, *SAME})),
        *_grown(state.unable, rows, NewsKind.DIFFERS, _is_unable, _among({Status.ORPHANED, *SAME})),
        *_happened(events),
    ]
    _drop_solved(state, rows)
    news = _spared(state, news, now)
    return Message(tuple(news)) if news else None, state


def outages(watches: dict[str, CheckStreak], rows: Iterable[Row], now: datetime) -> list[News]:
    """Return news of integrations whose checks begin to fail, or succeed again.

    The one rule of what an outage is, for alerts and for the daemon's log. `watches` is brought up to date.
    """
    checked: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status in ANSWERED or row.status is Status.UNKNOWN:
            checked[row.integration].append(row)
    found = []
    for name, looked_at in sorted(checked.items()):
        watch = watches.setdefault(name, CheckStreak())
        unknown = [row for row in looked_at if row.status is Status.UNKNOWN]
        answered = len(looked_at) - len(unknown)
        if answered or not watch.failing or watch.failing_since is None:  # a note of an earlier version has none
            watch.failing_since = stamp(now)
        watch.failing = 0 if answered else min(watch.failing + len(unknown), IN_A_ROW)
        watch.answering = 0 if unknown else min(watch.answering + answered, IN_A_ROW)
        watch.silent -= {_mark(row) for row in looked_at}
        watch.silent |= {_mark(row) for row in unknown}
        most = len(looked_at) >= IN_A_ROW and len(unknown) * 2 > len(looked_at)
        if watch.down_since is None and (most or watch.failing >= IN_A_ROW):
            watch.down_since = watch.failing_since
            reason = f"{unknown[0].reason} ({len(unknown)} of {len(looked_at)} checks)"
            found.append(News(NewsKind.OUTAGE, name, len(unknown), reason, since=watch.down_since))
        elif watch.down_since is not None and not unknown and (watch.answering >= IN_A_ROW or not watch.silent):
            reason = f"they had failed since {watch.down_since}"
            found.append(News(NewsKind.RECOVERED, name, answered, reason, since=watch.down_since))
            watch.down_since = None
    return found


def _grown(
    known: set[str],
    rows: Iterable[Row],
    kind: NewsKind,
    is_so: Callable[[Row], bool],
    may_be_so: Callable[[Row], bool],
) -> list[News]:
    """Return news of grants of which something is so now, one for each integration; who `may_be_so` stays known."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        mark = _mark(row)
        if not is_so(row):
            if not may_be_so(row):
                known.discard(mark)
        elif mark not in known:
            known.add(mark)
            found[row.integration].append((f"{row.hire}/{row.access}", row.reason))
    return [_news(kind, name, lines) for name, lines in found.items()]


def _among(statuses: Collection[Status]) -> Callable[[Row], bool]:
    return lambda row: row.status in statuses


def _failed(row: Row) -> bool:
    """Whether an attempt failed, or a lock did, or a person has to lock it."""
    return row.status is Status.FAILED or row.locked in (LockState.FAILED, LockState.MANUAL)


def _differs(row: Row) -> bool:
    """Whether a grant that git wants differs, and that is not reported as drift."""
    return row.waits_for_person and row.code not in (ReasonCode.DRIFT, ReasonCode.UNABLE)


def _is_unable(row: Row) -> bool:
    """Whether a grant cannot be taken away but by a person."""
    return row.waits_for_person and row.code is ReasonCode.UNABLE


def _happened(events: Iterable[Event]) -> list[News]:
    """Return news of events that no status shows."""
    found: dict[tuple[NewsKind, str], list[tuple[str, str]]] = defaultdict(list)
    for line in events:
        match line.event:
            case EventType.LOST:
                kind = NewsKind.DRIFT
            case EventType.DIFFERED if line.code is ReasonCode.DRIFT:
                kind = NewsKind.DRIFT
            case EventType.HELD:
                kind = NewsKind.HELD
            case EventType.REFUSED:
                kind = NewsKind.REFUSED
            case EventType.NOTIFICATION_FAILED if line.code is ReasonCode.IN_DOUBT:
                kind = NewsKind.IN_DOUBT
            case _:
                continue
        found[kind, line.integration].append((str(line.key) if line.key.hire else "", line.detail))
    return [_news(kind, name, lines) for (kind, name), lines in found.items()]


def _news(kind: NewsKind, integration: str, lines: list[tuple[str, str]]) -> News:
    reasons = list(dict.fromkeys(reason for _, reason in lines))
    more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
    grants = tuple(grant for grant, _ in lines if grant)
    return News(kind, integration, len(lines), f"{reasons[0]}{more}", grants[:SHOWN])


def _drop_solved(state: AlertState, rows: Iterable[Row]) -> None:
    """Take out of the news that waits the grants of which it is no longer true."""
    lasting = {
        NewsKind.FAILED: state.failed,
        NewsKind.OVERDUE: state.overdue,
        NewsKind.BLOCKED: state.blocked,
        NewsKind.DIFFERS: state.differing | state.unable,
    }
    seen = {f"{row.hire}/{row.access}": _mark(row) for row in rows} if state.waiting else {}
    for name, item in [*state.waiting.items()]:
        if (marks := lasting.get(item.kind)) is None:
            continue
        kept = tuple(grant for grant in item.grants if grant not in seen or seen[grant] in marks)
        count = item.count - len(item.grants) + len(kept)
        state.waiting[name] = replace(item, grants=kept, count=count)
        if not count:
            del state.waiting[name]


def _spared(state: AlertState, news: Iterable[News], now: datetime) -> list[News]:
    """Return the news to send now: a kind that was sent too often lately waits, and one that has waited goes out."""
    for item in news:
        name = f"{item.kind} {item.integration}"
        if (
            item.kind is NewsKind.RECOVERED
            and state.waiting.pop(f"{NewsKind.OUTAGE} {item.integration}", None) is not None
        ):
            continue  # the outage was not reported yet
        state.waiting[name] = state.waiting[name].joined(item) if name in state.waiting else item
    since, until = (now - QUIET).isoformat(), now.isoformat()  # what was told after now, a clock was wrong about
    told = {name: [at for at in each if since < at <= until] for name, each in state.told.items()}
    state.told = {name: recent for name, recent in told.items() if recent}
    out = [name for name in state.waiting if len(state.told.get(name, ())) < OFTEN]
    for name in out:
        state.told.setdefault(name, []).append(now.isoformat())
    return [state.waiting.pop(name) for name in out]


def _mark(row: Row) -> str:
    """Return a grant as the note has it."""
    return hashlib.sha256(f"{row.hire}/{row.access}".encode()).hexdigest()[:16]
