"""What ought to happen, said a second time and as simply as it can be: the model that the engine is compared with.

Written from docs/design/rules.md and docs/design/states.md, not from the engine, with none of its code. What a service
does is not guessed here: a pass is judged in two halves, first what has to be tried, then, from what reached the
service, what has to be remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum, StrEnum
from typing import Any, NamedTuple

DELAY = timedelta(hours=1)
PAUSE = timedelta(hours=24)
FEW = 5

AGAIN = timedelta(minutes=1)
"""After how long a service is asked again that did not answer when a time was over."""

EXPIRES = timedelta(days=7)
RESEND = 1

REQUESTS = {"tool": 2, "mail": 1, "hook": 1, "seat": 1, "club": 1}
"""How many requests each integration's `execute` has.

`hook` has no check. It, `tool` and `seat` can be revoked; `tool` and `seat` can be updated. A `seat` has a level,
compared by `where`, which the first request of an update changes, and may be switched off (`inactive`); no check shows
the second request's effect. A `club` invites: its open invitations are listed (`pending`), withdrawn, and expire.
"""

UPDATED = frozenset({"tool", "seat"})
REVOKED = UPDATED | {"hook"}
UPDATES = {"tool": 1, "seat": 2}
"""How many requests each integration's `update` has."""

WITH_DEPARTMENT = frozenset({"tool", "mail"})

BASE = frozenset({"mail", "seat"})
"""What the sequence gives."""

Grant = tuple[str, str]
"""A person and an integration: each person has each integration once at most, and its name is the entry's."""


class Seen(Enum):
    """What a check finds."""

    THERE = "there"
    OFF = "there, and switched off"
    INVITED = "away, and an invitation is open"
    AWAY = "away"
    NOTHING_KNOWN = "nothing known"
    NOT_ASKED = "there is no check"


FOUND = (Seen.THERE, Seen.OFF)
ABSENT = (Seen.AWAY, Seen.INVITED)


class Seat(NamedTuple):
    """What a check can say of a seat."""

    level: str
    off: bool = False


class Came(Enum):
    """What the ledger can know of a request that was about to leave."""

    DONE = "answered with success"
    REFUSED = "answered with a failure"
    UNSENT = "never left"
    IN_DOUBT = "no answer came"


class Phase(StrEnum):
    NEW = "new"
    CONFIRMED = "confirmed"
    EXECUTED = "executed"
    DONE = "done"
    RETRYING = "retrying"
    FAILED = "failed"
    REVOKED = "revoked"


OPEN = (Phase.RETRYING, Phase.FAILED)

AWAY = ("revoke", "withdraw")
"""The kinds of attempts that take access away."""


@dataclass(frozen=True)
class Entry:
    """An access entry: its form's value, when it begins and ends, and whether it needs the hire's `tool`."""

    value: str
    begins: date | None = None
    until: date | datetime | None = None
    lasts: timedelta | None = None
    """`for`."""
    keep: bool = False
    needs: bool = False


@dataclass(frozen=True)
class Person:
    """A hire's file. `mail` and `tool` use the department."""

    stem: str
    file: str = "gone"
    department: str | None = "R&D"
    access: Mapping[str, Entry] = field(default_factory=dict)
    base: bool = False
    """Whether it names the sequence."""
    end: date | None = None
    """The last day."""


@dataclass(frozen=True)
class Git:
    """What the commit at HEAD says."""

    people: Mapping[str, Person]
    broken: frozenset[str] = frozenset()
    edition: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(REQUESTS, 0))
    """Each manifest's requests are of an edition; another one is another text and sends something else."""
    heal: bool = True
    prune: bool = False
    expire: bool = True
    """Whether what is over is revoked whatever `prune` says."""
    percent: int = 25
    most: int | None = None
    """`max_new`."""
    suspended: tuple[tuple[str, date | None], ...] = ()
    """Hires and integrations, and the day until which."""
    sequence: str = "there"
    """Whether the sequence's file is there, broken or gone."""
    given: str = "1"
    """The value of what the sequence gives."""

    def access(self, name: str) -> Mapping[str, Entry]:
        """The entries of a hire: its own before the sequence's."""
        person = self.people[name]
        given = person.base and self.sequence == "there"
        return {**(dict.fromkeys(sorted(BASE), Entry(self.given)) if given else {}), **person.access}

    def of_sequence(self, grant: Grant) -> bool:
        """Whether the sequence gives it."""
        return grant[1] not in self.people[grant[0]].access


@dataclass(frozen=True)
class Scope:
    """What a pass is about; None for all."""

    people: frozenset[str] | None = None
    integrations: frozenset[str] | None = None
    grants: frozenset[Grant] | None = None

    def covers(self, grant: Grant) -> bool:
        return (
            (self.people is None or grant[0] in self.people)
            and (self.integrations is None or grant[1] in self.integrations)
            and (self.grants is None or grant in self.grants)
        )

    @property
    def everything(self) -> bool:
        return self == Scope()


class Values(NamedTuple):
    """What an account is made with."""

    value: str
    department: str | None


@dataclass(frozen=True)
class Row:
    """What has to be remembered of a grant."""

    phase: Phase = Phase.NEW
    attempts: int = 0
    retry_at: datetime | None = None
    healed_at: datetime | None = None
    executed: bool = False
    confirmed: bool = False
    lost: bool = False
    fresh: bool = False
    revoking: bool = False
    withdrawing: bool = False
    updating: bool = False
    mending: bool = False
    by_hand: bool = False
    orphan: bool = False
    guarded: bool = False
    status: str = "missing"
    of_sequence: bool = False
    half: bool = False
    """Whether a revocation took something before it was wanted again, and nothing has brought that back since."""
    unchecked: bool = False
    """Whether all of a revocation was answered with success, and no check has said since what came of it."""
    needs: bool = False
    """Whether it needed the hire's `tool` when git last wanted it."""
    meant: bool = False
    """Whether the last pass was to revoke it."""
    reinviting: bool = False
    """Whether the attempt that failed took an open invitation back first."""
    invited_at: datetime | None = None
    """When it was last executed, or its invitation first seen."""
    invitations: int = 0
    wants: str | None = None
    """The level that git wanted when the seat was last made, updated, accepted, or found as wanted."""
    as_wanted: bool = False
    """Whether the seat was as git wants it since it was last made, updated or found."""
    unseen: bool = False
    """Whether it was updated, and was not found as git wants it since."""
    accepted: tuple[str, str] | None = None
    """The level that a person accepted, and the one that git wanted then."""
    acted_at: datetime | None = None
    """When it was first acted on: its first attempt, or the check that found it."""
    ends_at: datetime | None = None
    """Its end, which lay ahead then or was set since."""
    of_hire: bool = False
    """Whether that is the end of the hire's last day, and the entry has no earlier one of its own."""
    first: datetime | None = None
    """Its end by git when it was first acted on."""
    over: str | None = None
    """Whether a pass met it over: `stays` as long as git has had the entry since, `left` once it had not.

    Before that, `out` says that the entry is out of git.
    """
    ask_at: datetime | None = None
    """When it has its turn because of its end."""
    keep: bool = False
    drifts: bool = False
    """Whether it is drift that the guard holds."""
    checked: bool = False
    """Whether a check was ever made."""
    off: bool = False
    """Whether the account was switched off at the last check: then a person who accepts it is refused."""
    other: tuple[str, str] | None = None
    """The level that stood there at the last check where it was another, and the one that git wanted."""
    made: Values | None = None
    """What the account was made with."""
    tried: Values | None = None
    """What the attempt that failed was made with."""
    asked: Values | None = None
    """What git wanted of an account that was last seen to have something else."""
    sent: object = None
    """What that attempt would have sent in all."""
    run: Mapping[int, tuple[Came, int]] = field(default_factory=dict)
    """What came of each request of the open run, and of which edition it was."""

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over, which lay ahead when it was first acted on; nothing makes it longer then."""
        ended = self.ends_at is not None and self.ends_at <= now and self.phase is not Phase.REVOKED
        return ended or self.over in ENDED

    @property
    def moved(self) -> bool:
        """Whether a revision set or moved its end since it was first acted on."""
        return self.ends_at != self.first

    @property
    def settled(self) -> bool:
        return self.executed or self.confirmed

    @property
    def taken(self) -> bool:
        """Whether the guard, which holds it, counts it as revoked or healed, and not as made or updated."""
        return self.lost or self.orphan or self.drifts

    @property
    def effect(self) -> bool:
        return any(came not in (Came.REFUSED, Came.UNSENT) for came, _ in self.run.values())

    @property
    def doubtful(self) -> bool:
        """Whether nothing but an answer of 500 says that nothing is there: it is looked for before it is forgotten."""
        return not self.something_left and any(came is Came.REFUSED for came, _ in self.run.values())

    @property
    def something_left(self) -> bool:
        taken_back = self.revoking and self.phase in OPEN  # what that is about was there, or may have been
        return self.settled or self.effect or self.reinviting or taken_back

    @property
    def has(self) -> Values | None:
        sent = self.effect or (self.reinviting and not self.settled)
        return self.tried if self.phase in OPEN and not self.revoking and sent else self.made


NOT_AS_WANTED: Mapping[str, Any] = {"as_wanted": False, "unseen": False, "accepted": None, "wants": None, "other": None}
"""What is remembered of a seat that was not yet found as git wants it."""

NO_END: Mapping[str, Any] = {
    **dict.fromkeys(("acted_at", "ends_at", "first", "ask_at", "over")),
    "of_hire": False,
}

ENDED = ("stays", "left")
"""What is remembered of the end of what is gone before it."""


@dataclass(frozen=True)
class Duty:
    """What a pass has to make of a grant. `act` is what it has to try, the kind of an attempt; or None.

    `differs` says that values have changed in git since the account was made.
    """

    status: str
    act: str | None = None
    resume: int = 0
    afresh: bool = False
    wanted: bool = True
    by_hand: bool = False
    seen: Seen | None = None
    differs: bool = False
    guarded: bool = False
    untouched: bool = False
    there: Seat | None = None
    heals: bool = False
    """Whether it mends drift: the guard counts that."""
    pending: bool = False
    """Whether only the check that failed could have told that it is to be made or revoked: the guard counts that."""
    accepted: bool = False
    by_itself: bool = False
    """Whether it goes because its time is over, and no revision moved that: the guard neither counts nor holds it."""

    @property
    def exempt(self) -> bool:
        return self.by_hand or self.by_itself


@dataclass(frozen=True)
class Tried:
    """An attempt that was made: what came of its requests by their place, and whether the account was seen then."""

    came: Mapping[int, Came]
    seen: bool = False
    seat: Seat | None = None
    cut_off: bool = False
    """Whether the program ended in the middle of it."""
    left: Seen = Seen.AWAY
    """What a check finds after it."""


@dataclass(frozen=True)
class Count:
    """The count of a revision: its files, its own limits and those it is judged by, who leaves and what arrives."""

    files: Mapping[str, Any]
    own: tuple[int, int | None]
    limits: tuple[int, int | None]
    leaving: frozenset[Grant]
    arriving: frozenset[Grant]
    """Of integrations of which more is new than may be made."""
    due: Mapping[str, datetime]
    """When whom is to be counted again: a day comes, or an end that a revision moved."""
    is_of_now: bool = True


def _limits(before: Count, own: tuple[int, int | None], *, adds: bool) -> tuple[int, int | None]:
    """What a revision after another is judged by."""
    waits = bool(before.leaving or before.arriving)
    if adds:
        percent, most = before.limits if waits else before.own
        known = [each for each in (most, own[1]) if each is not None]
        return min(percent, own[0]), min(known, default=None)
    return before.limits if waits and own == before.own else own


class Judgement:
    """The rows, and what has to become of them."""

    def __init__(self, seats: Mapping[str, Seat]) -> None:
        self._seats = seats
        """What stands there, by person."""
        self.rows: dict[Grant, Row] = {}
        self.taken: tuple[dict[str, set[Grant]], ...] = ({}, {})
        """What was revoked since the full resync before the last began, and since the last one."""
        self.ended: tuple[dict[str, set[Grant]], ...] = ({}, {})
        """The same of what was over by itself."""
        self.away: set[Grant] = set()
        """What an attempt ever took away."""
        self.counted: dict[str, set[Grant]] = {}
        """What was healed since the last full resync."""
        self.made: dict[str, set[Grant]] = {}
        """What was made or updated since then, retries not counted."""
        self.commands: dict[Grant, str] = {}
        self.count: Count | None = None
        """Of the last revision that was counted."""
        self.stems: dict[str, str] = {}
        """Under which name the ledger has each person's rows."""

    def resync(self) -> None:
        """A full resync begins."""
        self.counted.clear()
        self.made.clear()
        self.taken = (self.taken[1], {})
        self.ended = (self.ended[1], {})

    def released(self) -> None:
        """What was done so far counts no more."""
        self.resync()
        self.resync()

    def forget(self, grants: Collection[Grant]) -> None:
        """There was nobody."""
        for grant in grants:
            del self.rows[grant]
            self.away.discard(grant)
            self.commands.pop(grant, None)
            for some in (*self.taken, *self.ended):
                some.get(grant[1], set()).discard(grant)
            self.counted.get(grant[1], set()).discard(grant)
            self.made.get(grant[1], set()).discard(grant)

    # What people ask for

    def act_on(self, kind: str, grant: Grant, now: datetime) -> None:
        """Act on a command that the ledger alone answers, as soon as a pass begins."""
        row = self.rows.get(grant)
        if row is None:
            return
        if kind == "retry" and (row.phase in OPEN or row.unseen or row.status == "failed"):
            self.rows[grant] = replace(row, fresh=True)
        elif kind == "accept" and not row.orphan and row.phase is not Phase.REVOKED:
            checked = row.checked and row.status != "scheduled"
            vouched: Mapping[str, Any] = {"phase": Phase.CONFIRMED, "confirmed": True, "status": "present"}
            if not checked:  # it counts as executed now
                since = row.invited_at if row.executed else now
                vouched = {"phase": Phase.EXECUTED, "executed": True, "invited_at": since, "status": "done"}
            self.rows[grant] = replace(
                row,
                made=row.asked or row.has,
                asked=None,
                tried=None,
                retry_at=None,
                fresh=False,
                lost=False,
                revoking=False,
                updating=False,
                by_hand=False,
                run={},
                reinviting=False,
                accepted=row.other,
                wants=row.other[1] if row.other else row.wants,
                other=None,
                **vouched,
            )

    # What a revision takes away and adds

    def count_revision(self, git: Git, files: Mapping[str, Any], now: datetime) -> None:
        """Count a revision before anything of it is acted on, as far as git and the ledger say."""
        own, before = (git.percent, git.most), self.count
        paths = None if before is None else {path for path in {*files, *before.files} if _differs(path, files, before)}
        whole = paths is None or any(path.startswith("config/") for path in paths)
        hires = self._in_files({_stem(path) for path in paths or () if path.startswith("hires/")}, git)
        integrations = {_stem(path) for path in paths or () if path.startswith("manifests/")}
        noted = {} if before is None else before.due
        due = {name for name, moment in noted.items() if moment <= now}
        if before is not None and files == before.files and not due:
            return
        if before is not None:
            before = replace(before, leaving=frozenset(self._standing(before.leaving)))
        if before is not None and not (before.leaving or before.arriving or whole or integrations or due):
            stems = [path for path in paths or () if path.startswith("hires/")]
            wanted = sum(len(git.access(name)) for name in hires if git.people[name].file == "there")
            if len(stems) <= FEW and (git.most is None or wanted <= git.most):
                self.count = replace(before, is_of_now=files == before.files)
                return  # it is within every limit, and is counted with the next
        leaving = set() if before is None else {*before.leaving}
        arriving = set() if before is None else {*before.arriving}
        scope = [grant for grant in _all(git) if whole or grant[0] in hires | due or grant[1] in integrations]
        ahead = {name: moment for name, moment in noted.items() if moment > now}
        leaving.difference_update(scope)
        arriving.difference_update(scope)
        for grant, duty in self._blind(git, now).items():
            if grant in scope and (moments := self._comes(git, grant, now)):
                ahead[grant[0]] = min(*moments, ahead.get(grant[0], moments[0]))
            if grant in scope and not duty.wanted and _takes(duty) and not duty.exempt:
                leaving.add(grant)
            elif grant in scope and (self._makes(grant, duty) or self._may_be_updated(git, grant, duty)):
                arriving.add(grant)
        news = before is None or leaving - before.leaving or arriving - before.arriving
        adds = bool(news or integrations)  # what a manifest changes, checks may show
        limits = own if before is None else _limits(before, own, adds=adds)
        many = {
            grant
            for grant in arriving
            if limits[1] is not None and sum(other[1] == grant[1] for other in arriving) > limits[1]
        }
        self.count = Count(files, own, limits, frozenset(leaving), frozenset(many), ahead)

    def _comes(self, git: Git, grant: Grant, now: datetime) -> list[datetime]:
        """When time alone makes it arrive, or leave."""
        row, found = self.rows.get(grant, Row()), set[datetime | None]()
        if _has(git, grant) and (begins := git.access(grant[0])[grant[1]].begins) is not None:
            found.add(_moment(begins))
        if row.acted_at is not None:
            ends = {_end(git, grant, row.acted_at)[0] if _has(git, grant) else None, row.ends_at}
            found |= ends if row.ends_at != row.first else ends - {row.first}
        return [each for each in found if each is not None and each > now]

    def _standing(self, leaving: Collection[Grant]) -> set[Grant]:
        """What was not revoked of what leaves, and as long as some of it is held, what an attempt took away."""
        rows = {grant: self.rows[grant] for grant in leaving if grant in self.rows}
        held = {grant[1] for grant, row in rows.items() if row.guarded}
        taken = {grant for grant in rows if grant[1] in held and grant in self.away}
        return {grant for grant, row in rows.items() if row.phase is not Phase.REVOKED or grant in taken}

    def _in_files(self, stems: Collection[str], git: Git) -> set[str]:
        """Whom files are about, or the rows that the ledger has under their names."""
        people = git.people.items()
        return {
            name
            for name, person in people
            if self.stems.get(name) in stems or (person.file != "gone" and person.stem in stems)
        }

    def _blind(self, git: Git, now: datetime) -> dict[Grant, Duty]:
        """What would have to become of every grant if no service could be asked, and nothing were suspended."""
        commands, self.commands, git = self.commands, {}, replace(git, suspended=())

        def look(grant: Grant) -> Seen:
            return Seen.NOT_ASKED if grant[1] == "hook" else Seen.NOTHING_KNOWN

        found = self.duties(git, Scope(), now, look, released=True, blind=True)[0]
        self.commands = commands
        return found

    def _may_be_updated(self, git: Git, grant: Grant, duty: Duty) -> bool:
        """Whether a check may find that an account is not as git wants it now."""
        row, values = self.rows.get(grant, Row()), self._values(git, grant)
        if grant[1] not in UPDATED or not (duty.wanted and row.settled and duty.seen) or values is None:
            return False
        wants = grant[1] == "seat" and row.as_wanted and row.wants != values.value
        return wants or (row.made is not None and _differ(grant, row.made, values))

    # What a pass has to do

    def duties(
        self,
        git: Git,
        scope: Scope,
        now: datetime,
        look: Callable[[Grant], Seen],
        *,
        released: bool,
        blind: bool = False,
    ) -> tuple[dict[Grant, Duty], set[Grant]]:
        """What has to become of every grant that the pass is about; and the rows that have to go."""
        found: dict[Grant, Duty] = {}
        gone = set()
        for name in git.people:
            if scope.people is not None and name not in scope.people:
                continue
            wanted = {integration for integration in REQUESTS if self._counts(git, (name, integration), now)}
            whole: dict[str, Duty] = {}
            for integration in REQUESTS:
                grant = (name, integration)
                if integration in wanted:
                    whole[integration] = self._wanted(git, scope, now, look, grant, whole, blind=blind)
                    if scope.covers(grant):
                        found[grant] = whole[integration]
                elif grant in self.rows and scope.covers(grant):
                    row = self._row(git, grant, now)
                    over = row.is_over(now) and _has(git, grant)
                    stays = over or _ran_out(git, row, grant, now) is not None  # else it would begin anew
                    droppable = not self._unreadable(git, grant) and not row.something_left and not stays
                    duty = self._left(git, now, look, grant) if row.doubtful or not droppable else None
                    if duty is None or (droppable and duty.seen in (Seen.AWAY, Seen.NOT_ASKED)):
                        gone.add(grant)
                    else:
                        waits = "mail" not in wanted and not scope.covers((name, "mail")) and self._comes_first(name)
                        found[grant] = replace(duty, act=None) if waits and _may_wait(grant, duty) else duty
        if not released:
            found = self._guarded(git, found, gone, anew=scope.everything)
        return found, gone

    def _comes_first(self, name: str) -> bool:
        """Whether a hire's `mail` needs the tool, and another pass is to revoke it."""
        row = self.rows.get((name, "mail"), Row())
        to_go = row.something_left and not row.revoking and row.phase is not Phase.REVOKED
        return row.needs and to_go and (row.meant or not row.orphan)

    def _counts(self, git: Git, grant: Grant, now: datetime) -> bool:
        """Whether git has an entry, and it is not over.

        Once it is over it does not count, whatever its time is then, until it was taken out and comes again; but what
        ended with the hire's last day comes back with another one.
        """
        if not _has(git, grant):
            return False
        row = self._row(git, grant, now)
        if row.over not in ("out", "left") and row.is_over(now) and not row.of_hire:
            return False
        anew = row.is_over(now) or row.phase is Phase.REVOKED
        end, _ = _end(git, grant, None if anew else row.acted_at)
        # What is an error is one until the day is over.
        return end is None or end > (_moment(now.date()) if _misfits(git, grant) else now)

    def _wanted(
        self,
        git: Git,
        scope: Scope,
        now: datetime,
        look: Callable[[Grant], Seen],
        grant: Grant,
        others: Mapping[str, Duty],
        *,
        blind: bool,
    ) -> Duty:
        (name, integration), person = grant, git.people[grant[0]]
        entry, row = git.access(name)[integration], self._now(git, grant, now)
        if _misfits(git, grant):
            return Duty("invalid", untouched=grant in self.rows)
        if _suspended(git, grant, now.date()):
            return Duty("suspended")
        if not row.settled or row.phase is Phase.REVOKED:
            if entry.begins is not None and entry.begins > now.date():
                return Duty("scheduled")
            tool = others.get("tool")
            comes = blind and tool is not None and tool.status == "unknown"  # it may be there, or be made before
            if entry.needs and not (comes or _provided(tool, covered=scope.covers((name, "tool")))):
                return Duty("scheduled")
        if integration in git.broken or (person.department is None and integration in WITH_DEPARTMENT):
            return Duty("blocked")
        seen = look(grant)
        there = self._seats.get(name) if integration == "seat" and seen in FOUND else None
        if self.commands.get(grant) == "run":
            if seen is Seen.OFF:  # a switched-off account is never executed again
                judged = self._judged(git, row, grant, seen, now)
                return replace(judged, act="update", resume=0, afresh=True, by_hand=True, seen=seen, there=there)
            return Duty("missing", "run", afresh=True, by_hand=True, seen=seen, there=there)
        return replace(self._judged(git, row, grant, seen, now), seen=seen, there=there)

    def _judged(self, git: Git, row: Row, grant: Grant, seen: Seen, now: datetime) -> Duty:
        values = self._values(git, grant)
        assert values is not None
        half, stays = row.revoking and row.effect, seen in FOUND or (seen is Seen.NOT_ASKED and row.executed)
        if row.revoking and row.phase in OPEN and stays:  # it is kept, as what it was made with
            kept = replace(row, phase=Phase.CONFIRMED, revoking=False, half=half)
            return self._judged(git, replace(kept, as_wanted=False, accepted=None, unseen=False), grant, seen, now)
        if row.phase in (Phase.NEW, Phase.REVOKED) or row.revoking:
            return _brought_back(self._untried(git, row, grant, seen, now), grant, half=half)
        if row.phase in OPEN:
            judged = self._updating if row.updating else self._open
            return judged(git, row, grant, seen, now)
        match seen:
            case Seen.NOTHING_KNOWN:
                return Duty("unknown")
            case Seen.THERE | Seen.OFF if grant[1] == "seat":
                return _brought_back(self._seat(git, row, grant, seen, now), grant, half=row.half)
            case Seen.THERE | Seen.NOT_ASKED if _differ(grant, row.made, values):
                updates = grant[1] in UPDATED
                return Duty("differs", "update" if updates else None, afresh=True, differs=True)
            case Seen.THERE:
                return _brought_back(Duty("present"), grant, half=row.half)
            case Seen.NOT_ASKED:
                return Duty("done")
        return self._absent(git, row, grant, seen, now)

    def _absent(self, git: Git, row: Row, grant: Grant, seen: Seen, now: datetime) -> Duty:
        """Who was made, or found, is not there: lost, or not seen yet; or an invitation is open."""
        values = self._values(git, grant)
        assert values is not None
        if row.phase is Phase.CONFIRMED:
            return Duty("unconfirmed") if seen is Seen.INVITED else _lost(git, row, now)
        if _differ(grant, row.made, values):
            return Duty("missing", "reinvite" if seen is Seen.INVITED else "execute", afresh=True)
        if grant[1] == "club":
            assert row.invited_at is not None
            if now >= row.invited_at + EXPIRES:
                if max(1, row.invitations) > RESEND and not row.fresh:
                    return Duty("failed")
                return Duty("missing", "reinvite" if seen is Seen.INVITED else "execute", afresh=True)
        return Duty("unconfirmed")

    def _untried(self, git: Git, row: Row, grant: Grant, seen: Seen, now: datetime) -> Duty:
        """Nothing was tried yet, or nothing that can have taken effect, or what was made was revoked."""
        if seen in FOUND and grant[1] == "seat":
            return self._seat(git, replace(row, as_wanted=False, accepted=None, unseen=False), grant, seen, now)
        match seen:
            case Seen.THERE:
                return Duty("present", afresh=True)
            case Seen.INVITED:
                return Duty("unconfirmed", afresh=True)
            case Seen.NOTHING_KNOWN:
                return Duty("unknown", pending=True)
        return Duty("missing", "execute", afresh=True)

    def _seat(self, git: Git, row: Row, grant: Grant, seen: Seen, now: datetime) -> Duty:
        """A seat that is there: what differs by a commit is updated, and what somebody changed there is drift."""
        wanted, level, off = git.access(grant[0])["seat"].value, self._seats[grant[0]].level, seen is Seen.OFF
        if not off and level == wanted:
            return Duty("present", afresh=True)
        if not off and row.accepted == (level, wanted):
            return Duty("present", afresh=True, accepted=True)
        by_commit = wanted not in {level, row.wants}
        if row.unseen and not (by_commit or row.fresh):
            return Duty("differs")
        if off and row.as_wanted:  # a person locked it, and `drift: heal` does not unlock it
            return Duty("differs")
        if by_commit or not row.as_wanted:
            return Duty("differs", "update", afresh=True)
        if not git.heal or _paused(row, now):
            return Duty("differs")
        return Duty("differs", "mend", afresh=True, heals=True)

    def _open(self, git: Git, row: Row, grant: Grant, seen: Seen, now: datetime) -> Duty:
        """An attempt failed, or two did."""
        edition = git.edition[grant[1]]
        stands = Duty(str(row.phase))
        afresh = row.fresh or row.sent != self._sends(git, grant)
        due = afresh or (row.phase is Phase.RETRYING and (row.retry_at is None or row.retry_at <= now))
        heals = row.lost and not row.by_hand
        if seen is Seen.NOTHING_KNOWN:
            return stands
        if seen not in FOUND:
            act = "reinvite" if seen is Seen.INVITED else "heal" if heals else "execute"
            return Duty("retrying", act, afresh=afresh, heals=heals) if due else stands
        if not row.effect:
            if row.settled:  # it is judged as it was before the attempt
                return self._judged(git, replace(row, phase=Phase.CONFIRMED), grant, seen, now)
            return self._untried(git, row, grant, seen, now)
        if not due:
            return stands
        done = _done(row)
        if any(row.run[place][1] != edition for place in range(done)):
            return Duty("failed")
        act = "reinvite" if row.reinviting and done else "heal" if heals else "execute"
        return Duty("retrying", act, done, afresh, heals=heals)

    def _updating(self, git: Git, row: Row, grant: Grant, seen: Seen, now: datetime) -> Duty:
        """An update failed, or two did. What comes after the change of a seat is sent even if that is as wanted."""
        values = self._values(git, grant)
        assert values is not None
        stands = Duty(str(row.phase))
        if seen is Seen.NOTHING_KNOWN:
            return stands
        if seen not in FOUND:
            return _lost(git, row, now)
        afresh = row.fresh or row.sent != ("update", *self._sends(git, grant))
        due = afresh or (row.phase is Phase.RETRYING and (row.retry_at is None or row.retry_at <= now))
        if grant[1] == "seat":
            now_is = self._seat(git, replace(row, as_wanted=False, unseen=False), grant, seen, now)
            if (as_wanted := now_is.status == "present") and not (row.effect or row.half):
                return now_is
            done = _done(row) if as_wanted or row.run.get(0, (None,))[0] is Came.DONE else 0
            if as_wanted and done == UPDATES["seat"] and due:
                return now_is
            same = all(row.run[place][1] == git.edition["seat"] for place in range(done))
            resume = done if same and done < UPDATES["seat"] else 0
            differs = False
        else:
            differs, resume = _differ(grant, row.made, values), 0
            if not differs and not (row.effect or row.half):
                return Duty("present")
        if not due:
            return replace(stands, differs=differs)
        act = "mend" if row.mending else "update"
        return Duty("retrying", act, resume, afresh=afresh, differs=differs, heals=row.mending)

    def _unreadable(self, git: Git, grant: Grant, *, revoked_too: bool = False) -> bool:
        """Whether git cannot say that a grant is no longer wanted; of what was revoked, nothing is kept for that."""
        if git.people[grant[0]].file == "broken":
            return True
        row = self.rows[grant]
        if not row.of_sequence or git.sequence == "there" or (row.phase is Phase.REVOKED and not revoked_too):
            return False
        named = any(person.base and person.file == "there" for person in git.people.values())
        return git.sequence == "broken" or named

    def _left(self, git: Git, now: datetime, look: Callable[[Grant], Seen], grant: Grant) -> Duty:
        """What the ledger has beyond what git wants."""
        row, asked = self._now(git, grant, now), self.commands.get(grant) == "revoke"
        over = row.is_over(now)
        if not over and self._unreadable(git, grant):
            return Duty("invalid", untouched=True)
        never = not row.something_left and (over or _ran_out(git, row, grant, now) is not None)
        if row.phase is Phase.REVOKED or (never and not row.doubtful):
            return Duty("revoked", wanted=False)
        if _suspended(git, grant, now.date()):
            return Duty("suspended", wanted=False)
        expired = over and git.expire
        prune = git.prune or expired
        orphaned = Duty("orphaned", wanted=False, by_hand=asked, by_itself=over and not row.moved)
        if grant[1] in git.broken:
            return replace(orphaned, by_hand=False)
        error = _slip(git, grant[0], now.date()) or any(
            self._unreadable(git, each) for each in self.rows if each[0] == grant[0]
        )
        spared = (_keeps(git, row, grant) or (error and not expired)) and not (asked or (row.revoking and row.by_hand))
        seen = look(grant)
        orphaned = replace(orphaned, seen=seen)
        gone = replace(orphaned, status="revoked")
        # What is off is gone already, and so is what a revocation left of it.
        if seen is Seen.OFF or (never and seen in (Seen.AWAY, Seen.NOT_ASKED)):
            return gone
        if row.revoking and row.phase in OPEN and not (row.withdrawing and seen is Seen.THERE):
            sent = row.unchecked and seen is Seen.NOT_ASKED  # which counts where there is no check
            return gone if sent or seen is Seen.AWAY else self._half_revoked(row, orphaned, seen, now, spared=spared)
        if seen is Seen.INVITED:
            taken = (prune or asked) and not spared
            return replace(orphaned, act="withdraw") if taken else orphaned
        unconfirmed = not row.confirmed or row.phase is Phase.EXECUTED
        if seen is Seen.AWAY and not unconfirmed:
            return gone
        if seen is Seen.NOTHING_KNOWN:
            pending = prune and grant[1] in REVOKED and not unconfirmed and not spared
            return replace(orphaned, pending=pending)
        once = expired and seen is Seen.NOT_ASKED and grant[1] in REVOKED
        if not (asked or once or (seen is Seen.THERE and prune)) or spared:
            return orphaned
        if grant[1] in REVOKED:
            return replace(orphaned, act="revoke")
        return orphaned if seen is Seen.THERE else gone

    def _half_revoked(self, row: Row, orphaned: Duty, seen: Seen, now: datetime, *, spared: bool) -> Duty:
        """A revocation, or a withdrawal, failed once or twice."""
        stands, afresh = replace(orphaned, status=str(row.phase)), orphaned.by_hand or row.fresh
        due = afresh or (row.phase is Phase.RETRYING and row.retry_at is not None and row.retry_at <= now)
        if row.unchecked and seen is Seen.NOTHING_KNOWN:
            return orphaned
        if seen is Seen.NOTHING_KNOWN or not due:
            return stands
        if spared:
            return replace(stands, status="retrying")
        act, by_hand = "withdraw" if row.withdrawing else "revoke", orphaned.by_hand or row.by_hand
        return replace(stands, status="retrying", act=act, afresh=afresh, by_hand=by_hand)

    def _guarded(
        self, git: Git, duties: Mapping[Grant, Duty], gone: Collection[Grant], *, anew: bool
    ) -> dict[Grant, Duty]:
        """The duties with those of the integrations that the guard holds put off, and what needs one of those."""
        held, (percent, most) = set(), self._judged_by(git, duties)
        for integration in {grant[1] for grant in duties}:
            met = {grant for grant, duty in duties.items() if grant[1] == integration and not duty.exempt}
            wanting = {grant for grant in met if _takes(duties[grant])}
            wanting |= {
                grant
                for grant, row in self.rows.items()
                if grant[1] == integration and grant not in met and grant not in gone and row.guarded and row.taken
            }
            wanting |= self._elsewhere(integration, duties)
            revoked = _since(self.taken, integration, anew=anew)
            ended = _since(self.ended, integration, anew=anew)
            done = revoked if anew else self.counted.get(integration, set()) | revoked
            changes = len(wanting | done)
            confirmed = sum(
                row.confirmed and (row.phase is not Phase.REVOKED or grant in revoked | ended)
                for grant, row in self.rows.items()
                if grant[1] == integration
            )
            if wanting and changes > FEW and changes * 100 > percent * max(confirmed, changes):
                held.add(integration)
            making = {grant for grant in met if self._makes(grant, duties[grant])}
            making |= {
                grant
                for grant, row in self.rows.items()
                if grant[1] == integration and grant not in met and grant not in gone and row.guarded and not row.taken
            }
            news = len(making | (set() if anew else self.made.get(integration, set())))
            if making and most is not None and news > most:
                held.add(integration)
        found = dict(duties)
        for grant, duty in duties.items():
            if duty.act is None:
                if duty.pending and grant[1] in held and not duty.exempt:
                    found[grant] = replace(duty, guarded=True)
                continue
            if grant[1] in held and not (duty.exempt and not duty.wanted):
                found[grant] = replace(duty, status="suspended", act=None, afresh=False, guarded=True)
        for grant, duty in found.items():
            tool = found.get((grant[0], "tool"))
            waits = tool is not None and tool.status in ("suspended", "scheduled")
            if duty.act and duty.wanted and waits and needs_tool(git, grant) and not self.settled(grant):
                found[grant] = replace(duty, status="scheduled", act=None, afresh=False)
        return found

    def _judged_by(self, git: Git, duties: Mapping[Grant, Duty]) -> tuple[int, int | None]:
        """The limits of the revision, or the stricter ones of those before and its own."""
        own, count = (git.percent, git.most), self.count
        if count is None:
            return own
        adds = any(
            not duty.exempt
            and (
                (not duty.wanted and _takes(duty) and grant not in count.leaving)
                or (self._makes(grant, duty) and grant not in count.arriving)
            )
            for grant, duty in duties.items()
        )
        return count.limits if count.is_of_now else _limits(count, own, adds=adds)

    def _elsewhere(self, integration: str, duties: Mapping[Grant, Duty]) -> set[Grant]:
        """Who leaves by the revision beside these, but for the suspended ones, and counts, and is not held already."""
        met = {grant for grant, duty in duties.items() if duty.status != "suspended" or duty.exempt}
        leaving = self.count.leaving if self.count is not None else ()
        rows = {grant: self.rows[grant] for grant in self._standing(leaving) if grant[1] == integration}
        return {
            grant
            for grant, row in rows.items()
            if row.phase is Phase.REVOKED or not (row.guarded or grant in met or (row.revoking and row.phase in OPEN))
        }

    def _makes(self, grant: Grant, duty: Duty) -> bool:
        """Whether an account is made or updated because of git: no retry, and nothing that a person started afresh."""
        row = self.rows.get(grant, Row())
        retried = row.phase in OPEN and not row.revoking and (row.updating or duty.seen in FOUND or not duty.afresh)
        makes = duty.act in ("execute", "update", "reinvite") and not duty.heals
        makes |= duty.pending and duty.wanted
        return makes and not retried and not row.fresh

    def settled(self, grant: Grant) -> bool:
        """Whether it was ever executed or confirmed."""
        return self.rows.get(grant, Row()).settled

    # What has to be remembered

    def planned(self, git: Git, duties: Mapping[Grant, Duty], gone: Collection[Grant], now: datetime) -> None:
        """The pass planned, and recorded what it is about to do."""
        for grant in gone:
            del self.rows[grant]
        for grant, duty in duties.items():
            self.stems[grant[0]] = git.people[grant[0]].stem
            row = self._now(git, grant, now)
            self.rows[grant] = replace(
                self._planned(git, row, grant, duty, now), **self._ends(git, row, grant, duty, now)
            )

    def _ends(self, git: Git, row: Row, grant: Grant, duty: Duty, now: datetime) -> Mapping[str, Any]:
        """What is to be remembered of its end."""
        if duty.untouched:
            return {"ask_at": None} if row.is_over(now) else {}
        if duty.wanted:
            return _acted_on(git, row, grant, now, found=duty.seen in FOUND or duty.status == "unconfirmed")
        in_git = _has(git, grant) or self._unreadable(git, grant, revoked_too=True)
        if row.is_over(now):
            stays = row.over in (None, "stays") and in_git
            unanswered = git.expire and duty.seen is Seen.NOTHING_KNOWN
            return {"over": "stays" if stays else "left", "ask_at": now + AGAIN if unanswered else None}
        if duty.status == "revoked" and row.phase is not Phase.REVOKED:
            return _gone(git, row, grant, now)
        return {} if row.ends_at is None else {"over": None if in_git else "out"}

    def _planned(self, git: Git, row: Row, grant: Grant, duty: Duty, now: datetime) -> Row:
        if duty.untouched:
            return replace(row, status=duty.status, guarded=False, asked=None)
        seen, values = duty.seen, self._values(git, grant) if duty.wanted else None
        if duty.wanted and seen not in (None, Seen.NOTHING_KNOWN) and (row.revoking or row.phase is Phase.REVOKED):
            row = _back_again(row, seen)
        row = replace(row, status=duty.status, guarded=duty.guarded, drifts=duty.guarded and duty.heals)
        row = replace(row, orphan=not duty.wanted, off=seen is Seen.OFF, meant=duty.act == "revoke")
        row = replace(row, checked=row.checked or seen not in (None, Seen.NOT_ASKED))
        row = replace(row, asked=values if duty.differs else None, other=_other(values, duty))
        row = replace(row, keep=_keeps(git, row, grant))
        if duty.wanted:
            entry = git.access(grant[0])[grant[1]]
            row = replace(row, of_sequence=git.of_sequence(grant), needs=entry.needs)
        if duty.afresh and row.phase in OPEN:
            row = replace(row, attempts=0)
        if row.phase is Phase.NEW and seen is not None:
            row = replace(row, made=values)
        return self._observed(row, duty, values, now)

    def _observed(self, row: Row, duty: Duty, values: Values | None, now: datetime) -> Row:
        """The row with what the check found."""
        seen = duty.seen
        if duty.status == "revoked" and row.phase is not Phase.REVOKED:
            return replace(_settled(row), phase=Phase.REVOKED, **NOT_AS_WANTED)
        held_back = row.phase is Phase.NEW and duty.status in ("suspended", "scheduled")
        if seen in FOUND and duty.wanted and (held_back or duty.status in ("present", "differs")):
            if row.phase in (Phase.NEW, *OPEN):
                as_before = row.phase in OPEN and row.settled and not row.updating
                half = row.half and duty.status != "present"
                row = replace(_settled(row), half=half, made=row.made if as_before else values)
            row = replace(row, phase=Phase.CONFIRMED, confirmed=True, lost=False, invitations=0)
            if duty.status != "present":
                return row
            row = replace(row, fresh=False)
            if duty.accepted or values is None:
                return row
            return replace(row, wants=values.value, as_wanted=True, unseen=False, accepted=None)
        if not duty.wanted and duty.status in OPEN:
            row = replace(row, unchecked=False)
        if duty.wanted and duty.status == "unconfirmed" and not (row.phase is Phase.EXECUTED and row.executed):
            row = replace(_settled(row), phase=Phase.EXECUTED, executed=True, confirmed=False, lost=False, made=values)
            return replace(row, invited_at=now, invitations=max(1, row.invitations), **NOT_AS_WANTED)
        if seen is Seen.THERE and not duty.wanted:
            accepted = row.withdrawing  # the invitation that was to be taken back
            phase = Phase.CONFIRMED if accepted or row.phase is Phase.EXECUTED else row.phase
            return replace(_settled(row) if accepted else row, confirmed=True, phase=phase)
        if seen in ABSENT and row.phase is Phase.CONFIRMED:
            return replace(row, lost=True)
        if seen is Seen.NOT_ASKED and duty.wanted and row.phase is Phase.EXECUTED:
            return replace(row, phase=Phase.DONE)
        return row

    def tried(self, git: Git, grant: Grant, duty: Duty, now: datetime, made: Tried) -> None:
        """An attempt was made."""
        row, revoking, updating = self.rows[grant], duty.act in AWAY, duty.act in ("update", "mend")
        same = row.phase in OPEN and row.revoking == revoking and row.updating == updating
        again = same and not duty.afresh and duty.act != "run"
        number = row.attempts + 1 if again else 1
        values = row.has if revoking else self._values(git, grant)
        sent: object = ("revoke", grant) if revoking else self._sends(git, grant)
        if updating:
            sent = ("update", *self._sends(git, grant))
        if duty.act in ("heal", "mend"):
            self.counted.setdefault(grant[1], set()).add(grant)
        elif duty.act in ("execute", "update", "reinvite") and number == 1:
            self.made.setdefault(grant[1], set()).add(grant)
        if revoking:
            counts = self.ended if duty.by_itself else self.taken
            counts[1].setdefault(grant[1], set()).add(grant)
            self.away.add(grant)
        else:
            row = replace(row, **_acted_on(git, row, grant, now, found=True))
        kept = dict(row.run) if duty.resume else {}
        by_hand = duty.by_hand or (row.by_hand and same)
        first = 1 if duty.act == "reinvite" else 0  # taking an invitation back makes no account
        came = {place - first: came for place, came in made.came.items() if place >= first}
        row = replace(
            row,
            attempts=number,
            made=values if revoking else row.made,
            tried=None if revoking else row.tried if duty.resume and row.tried is not None else values,
            sent=sent,
            run={**kept, **{place: (came, git.edition[grant[1]]) for place, came in came.items()}},
            fresh=False,
            revoking=revoking,
            unchecked=False,
            withdrawing=duty.act == "withdraw",
            updating=updating,
            mending=duty.act == "mend",
            reinviting=duty.act == "reinvite",
            by_hand=by_hand,
            retry_at=None,
            wants=values.value if values is not None and not revoking else row.wants,
        )
        total = 1 if revoking else (UPDATES if updating else REQUESTS)[grant[1]]
        whole = all(came.get(place) is Came.DONE for place in range(duty.resume, total))
        whole = whole and not (made.cut_off and duty.resume == total)
        self.rows[grant] = self._ended(git, row, grant, duty, now, whole=whole, made=made)

    def _ended(self, git: Git, row: Row, grant: Grant, duty: Duty, now: datetime, *, whole: bool, made: Tried) -> Row:
        unchecked = row.revoking and whole and (made.cut_off or made.left is Seen.NOTHING_KNOWN)
        left = row.revoking and made.left in (Seen.THERE, Seen.INVITED)
        if unchecked or left or not whole:
            again = row.attempts <= 1
            phase = Phase.RETRYING if again else Phase.FAILED
            status = "orphaned" if unchecked else str(phase)
            retry_at = now + DELAY if again else None
            return replace(row, phase=phase, status=status, retry_at=retry_at, unchecked=unchecked)
        if row.revoking:
            no_end = _gone(git, row, grant, now)
            return replace(_settled(row), phase=Phase.REVOKED, status="revoked", **NOT_AS_WANTED, **no_end)
        made_with, updated = row.tried, row.updating
        row = replace(_settled(row), made=made_with, asked=None, lost=False, as_wanted=False, accepted=None)
        row = replace(row, healed_at=now if duty.heals or duty.act == "heal" else row.healed_at)
        if updated:
            row = replace(row, phase=Phase.CONFIRMED, status="differs", unseen=True)
        else:
            # Without the manifest, nobody can say of one that was cut off that it is a webhook's: the next pass does.
            done = duty.seen is Seen.NOT_ASKED and not made.cut_off
            row = replace(
                row,
                phase=Phase.DONE if done else Phase.EXECUTED,
                status="done" if done else "unconfirmed",
                executed=True,
                unseen=False,
                other=None,
                invited_at=now,
                invitations=row.invitations + 1,
            )
        if not made.seen:
            return row
        row = replace(row, phase=Phase.CONFIRMED, confirmed=True, invitations=0)
        values = self._values(git, grant)
        assert values is not None
        if made.seat is not None and (made.seat.off or made.seat.level != values.value):
            other = None if made.seat.level == values.value else (made.seat.level, values.value)
            return replace(row, status="differs", other=other)
        if grant[1] != "seat" and _differ(grant, row.made, values):  # what was done has the values of its time
            return replace(row, status="differs", asked=values)
        return replace(row, status="present", wants=values.value, as_wanted=True, unseen=False, other=None)

    def put_off(self, grant: Grant) -> None:
        """What it needs did not come to be."""
        self.rows[grant] = replace(self.rows[grant], status="scheduled")

    def _row(self, git: Git, grant: Grant, now: datetime) -> Row:
        """The row, as if no revision had moved its end where git has the first one again before it was revoked.

        Not where that takes the access away: the first one is over, and that which it was moved to lies ahead.
        """
        row = self.rows.get(grant, Row())
        stays = row.over in (None, "stays") and row.phase is not Phase.REVOKED and _has(git, grant)
        if not stays or not row.moved or _end(git, grant, row.acted_at)[0] != row.first:
            return row
        if row.first is not None and row.first <= now and (row.ends_at is None or row.ends_at > now):
            return row
        return replace(row, ends_at=row.first, over=None)

    def _now(self, git: Git, grant: Grant, now: datetime) -> Row:
        """The row as it counts now: what lies further ahead than it can comes from a clock that jumped."""
        row = self._row(git, grant, now)
        if row.retry_at is not None:
            row = replace(row, retry_at=min(row.retry_at, now + DELAY))
        if row.healed_at is not None:
            row = replace(row, healed_at=min(row.healed_at, now))
        return row

    def _values(self, git: Git, grant: Grant) -> Values | None:
        entry = git.access(grant[0]).get(grant[1])
        return None if entry is None else Values(entry.value, git.people[grant[0]].department)

    def _sends(self, git: Git, grant: Grant) -> tuple[object, ...]:
        values = self._values(git, grant)
        assert values is not None
        department = values.department if grant[1] in WITH_DEPARTMENT else None
        return git.edition[grant[1]], values.value, department


def _settled(row: Row) -> Row:
    """The row with no attempt open."""
    return replace(
        row,
        tried=None,
        run={},
        retry_at=None,
        fresh=False,
        by_hand=False,
        revoking=False,
        half=False,
        unchecked=False,
        withdrawing=False,
        updating=False,
        mending=False,
        reinviting=False,
    )


def _all(git: Git) -> list[Grant]:
    return [(name, integration) for name in git.people for integration in REQUESTS]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _differs(path: str, files: Mapping[str, Any], before: Count) -> bool:
    return files.get(path) != before.files.get(path)


def _takes(duty: Duty) -> bool:
    return duty.heals or duty.act in ("heal", *AWAY) or (duty.pending and not duty.wanted)


def _back_again(row: Row, seen: Seen | None) -> Row:
    """What was revoked, or half so, is wanted again: a new grant, unless the account is still there."""
    new = replace(_settled(row), attempts=0, invitations=0, **NOT_AS_WANTED)
    if row.revoking and seen in FOUND:
        return replace(new, phase=Phase.CONFIRMED, confirmed=True, half=row.effect)
    if row.revoking and row.executed and seen is Seen.NOT_ASKED:
        return replace(new, phase=Phase.DONE)
    return replace(new, phase=Phase.NEW, executed=False, confirmed=False, healed_at=None, lost=False)


def _brought_back(duty: Duty, grant: Grant, *, half: bool) -> Duty:
    """What is as git wants it, as far as a check shows, and was half revoked before: it is updated all the same."""
    return Duty("differs", "update", afresh=True) if half and duty.status == "present" and grant[1] in UPDATED else duty


def _other(values: Values | None, duty: Duty) -> tuple[str, str] | None:
    """What a person who accepts the seat as it is accepts."""
    if values is None or duty.there is None or duty.accepted or duty.guarded or duty.there.level == values.value:
        return None
    return duty.there.level, values.value


def _has(git: Git, grant: Grant) -> bool:
    """Whether git has an entry, over or not."""
    return git.people[grant[0]].file == "there" and grant[1] in git.access(grant[0])


def _misfits(git: Git, grant: Grant) -> bool:
    """Whether an entry is an error: it needs another that the hire does not have."""
    access = git.access(grant[0])
    return access[grant[1]].needs and "tool" not in access


def _end(git: Git, grant: Grant, acted_at: datetime | None) -> tuple[datetime | None, bool]:
    """When an entry ends that was first acted on then, and whether that is because of the hire's last day."""
    entry, last = git.access(grant[0])[grant[1]], git.people[grant[0]].end
    found: list[tuple[datetime, int]] = []
    if entry.until is not None:
        found.append((_moment(entry.until), 0))
    if last is not None:
        found.append((_moment(last + timedelta(1)), 1))
    if entry.lasts is not None and acted_at is not None:
        found.append((acted_at + entry.lasts, 2))
    end, which = min(found, default=(None, 0))
    return end, which == 1


def _moment(day: date) -> datetime:
    return day if isinstance(day, datetime) else datetime.combine(day, time(), UTC)


def _acted_on(git: Git, row: Row, grant: Grant, now: datetime, *, found: bool) -> Mapping[str, Any]:
    """What is remembered of the end of a grant that git wants."""
    anew = row.phase is Phase.REVOKED or (row.over is not None and row.is_over(now))
    before = None if anew else row.acted_at
    acted_at = now if before is None and (found or (row.settled and row.phase is not Phase.REVOKED)) else before
    ends_at, of_hire = (None, False) if acted_at is None else _end(git, grant, acted_at)
    return {
        "acted_at": acted_at,
        "ends_at": ends_at,
        "of_hire": of_hire,
        "first": ends_at if before is None else row.first,
        "over": None,
        "ask_at": ends_at,
    }


def _gone(git: Git, row: Row, grant: Grant, now: datetime) -> Mapping[str, Any]:
    """What is remembered of the end of a grant that was revoked: a `for` that was made shorter does not begin anew."""
    if row.over in ENDED:
        return {"ask_at": None}
    end = _ran_out(git, row, grant, now)
    return NO_END if end is None else {**NO_END, "acted_at": row.acted_at, "over": "stays", "ends_at": end}


def _ran_out(git: Git, row: Row, grant: Grant, now: datetime) -> datetime | None:
    """When its `for` was over, if that is why an entry that git has counts no longer."""
    if not _has(git, grant) or row.acted_at is None:
        return None
    by_itself, end = (_end(git, grant, since)[0] for since in (None, row.acted_at))
    return end if (by_itself is None or by_itself > now) and end is not None and end <= now else None


def _keeps(git: Git, row: Row, grant: Grant) -> bool:
    """Whether it is only reported once it is over: as git has it, or had it last."""
    return git.access(grant[0])[grant[1]].keep if _has(git, grant) else row.keep


def _since(taken: tuple[Mapping[str, set[Grant]], ...], integration: str, *, anew: bool) -> set[Grant]:
    """What was revoked, or tried to be, and still counts."""
    return {grant for some in (taken[1:] if anew else taken) for grant in some.get(integration, ())}


def _slip(git: Git, name: str, today: date) -> bool:
    """Whether one of a hire's entries is an error, or its sequence: then nothing of the hire is revoked on its own.

    What was over when the day began is no error any more.
    """
    person = git.people[name]
    if person.file != "there":
        return False
    if person.base and git.sequence != "there":
        return True
    misfits = [grant for each in git.access(name) if _misfits(git, grant := (name, each))]
    ends = [_end(git, grant, None)[0] for grant in misfits]
    return any(end is None or end > _moment(today) for end in ends)


def _paused(row: Row, now: datetime) -> bool:
    """Whether it was healed so lately that another loss, or another change, is an admin's decision."""
    return row.healed_at is not None and now - row.healed_at < PAUSE


def _lost(git: Git, row: Row, now: datetime) -> Duty:
    """An account that was there is gone."""
    return Duty("missing", "heal", afresh=True, heals=True) if git.heal and not _paused(row, now) else Duty("missing")


def _suspended(git: Git, grant: Grant, today: date) -> bool:
    return any(name in grant and (until is None or until > today) for name, until in git.suspended)


def _provided(tool: Duty | None, *, covered: bool) -> bool:
    if tool is None:
        return False
    return tool.status in ("present", "differs", "done") or (tool.act is not None and covered)


def _done(row: Row) -> int:
    """How many requests are done, once the account is there: the first made it, whatever was heard of it."""
    done = 0
    while done in row.run and (row.run[done][0] is Came.DONE or (done == 0 and row.run[0][0] is Came.IN_DOUBT)):
        done += 1
    return done


def _differ(grant: Grant, then: Values | None, now: Values) -> bool:
    assert then is not None
    return then.value != now.value or (grant[1] in WITH_DEPARTMENT and then.department != now.department)


def _may_wait(grant: Grant, duty: Duty) -> bool:
    """Whether its revocation waits for those that need it."""
    return grant[1] == "tool" and duty.act == "revoke" and not duty.by_hand


def needs_tool(git: Git, grant: Grant) -> bool:
    """Whether an entry waits for the hire's `tool`."""
    return git.access(grant[0])[grant[1]].needs
