"""What a pass found and did: one row for each grant, in the words of docs/commands.md, "JSON"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from reconciler.model.attribution import Attribution, Requested
from reconciler.model.base import jsonable
from reconciler.model.clock import stamp
from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Differences, Grant, Key, Phase, Record
from reconciler.model.lock import LockState
from reconciler.model.revision_status import Stale, Untrusted
from reconciler.model.scope import LEDGER
from reconciler.model.status import FAULTS, Action, ReasonCode, Status
from reconciler.model.value import Frozen, Unshown, fields, replace
from reconciler.model.verdict import Cause

STATE = "state"
"""What stands in a problem for its file if it is one of the state."""

_AS_RECORDED = (
    *("status", "action", "reason", "attempts", "retry_at", "checked_at", "last_error", "changed", "revision"),
    *("unseen", "code", "locked"),
)
"""What of a record is shown as it is."""


class Row(Frozen):
    """One grant, as it is shown."""

    hire: str
    email: str
    access: str
    integration: str
    status: Status
    action: Action
    reason: str
    attempts: int | None = None
    retry_at: datetime | None = None
    checked_at: datetime | None = None
    last_error: str | None = None
    source: str = ""
    changed: bool = False
    guarded: bool = False
    drifted: bool = False
    since: datetime | None = None
    revision: str | None = None
    name: str = ""
    values: Mapping[str, Any] | None = {}
    """The form's values; None where the history does not have those of then."""
    differs: Differences = {}
    given: Attribution | None = None
    due_at: datetime | None = None
    """When the access was to be there, or to be gone."""
    done_at: datetime | None = None
    """When it was."""
    removed_in: str | None = None
    """The commit with which it left git."""
    until: datetime | None = None
    """When it ends, by git, or by the ledger once it is known when it was first acted on."""
    requested: Requested | None = None
    """Who asked for it and why, where it comes from a request."""
    over: bool = False
    """Whether it leaves because its time is over."""
    overdue: bool = False
    """Whether it should be gone for that and is not, and nothing is about to be sent."""
    leaves: bool = False
    """Whether git no longer wants it."""
    ends: date | None = None
    """The hire's last day."""
    unseen: bool = False
    """Whether it was updated and the check does not see it yet."""
    busy: bool = False
    """Whether its check failed because the service is down or asks for a pause: it is asked again."""
    code: ReasonCode | None = None
    locked: LockState | None = None
    """How far its account is locked, if its person is."""
    asks: Unshown[Callable[[], tuple[Mapping[str, Any], ...]]] = tuple
    """Makes `requests`, which few rows are asked for."""

    @property
    def requests(self) -> tuple[Mapping[str, Any], ...]:
        """Return what would be sent: method, URL and body of each request."""
        return self.asks()

    @property
    def unlocked(self) -> bool:
        """Whether its person is locked, and its account is not, or not yet."""
        return self.locked not in (None, LockState.DONE)

    @property
    def waits_for_person(self) -> bool:
        """Whether it is not as git wants it, and only a person can change that."""
        differs = self.status is Status.DIFFERS and not self.unseen
        return self.action is Action.NONE and (differs or self.code is ReasonCode.UNABLE)

    @classmethod
    def of(
        cls,
        record: Record,
        *,
        grant: Grant | None = None,
        form: Iterable[str] = (),
        person: str = "",
        begins: datetime | None = None,
        expired: bool = False,
    ) -> Row:
        """Make the row of a record; name and values are the `grant`'s, if there is one.

        Without a grant that git wants, and of one that does not fit, its values are those the ledger has for the fields
        of the `form`.
        """
        named = grant or record
        values = _given(grant) if grant is not None else None
        if values is None or (record.status is Status.INVALID and not values):
            values = {name: record.values[name] for name in form if record.values.get(name) is not None}
        return cls(
            hire=record.key.hire,
            email=named.email,
            access=record.key.access,
            integration=named.integration,
            **{name: getattr(record, name) for name in _AS_RECORDED},
            until=record.ends_at or (grant.known_end if grant is not None else None),
            requested=grant.requested if grant is not None else None,
            over=record.ended,
            overdue=expired and record.status is not Status.REVOKED and not record.action.acts,
            source=named.source,
            drifted=record.lost and record.status is Status.MISSING and record.action is Action.NONE,
            since=record.confirmed_at or record.executed_at,
            due_at=record.ends_at if record.ended else record.orphaned_at or begins,
            done_at=_done_at(record),
            name=person or _name(record, grant),
            values=values,
            differs={name: (there, wanted) for name, (there, wanted) in record.differs.items()},
            leaves=record.orphaned_at is not None,
            busy=record.status is Status.UNKNOWN and record.cause is Cause.BUSY,
        )

    def wanted_by(self, grant: Grant | None, *, guarded: bool) -> Row:
        """Return the row with the request that gives its entry in git; its end and values if the ledger has none."""
        if grant is None:
            return replace(self, guarded=guarded)
        until, values = self.until or grant.known_end, self.values or _given(grant) or {}
        return replace(self, guarded=guarded, requested=grant.requested, until=until, values=values)

    def given_by(self, given: Attribution | None) -> Row:
        """Return the row with who gave the grant: it is due with the commit, unless a later day is set."""
        if given is None:
            return self
        due = self.due_at if self.leaves or (self.due_at or given.committed_at) > given.committed_at else None
        return replace(self, given=given, due_at=due or given.committed_at)

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        given = self.given
        return {
            **fields(self, "hire", "email", "access", "integration", "status", "action", "reason", "attempts"),
            **fields(self, "retry_at", "until"),
            "request": None if self.requested is None else self.requested.as_json(),
            **fields(self, "checked_at", "last_error", "source"),
            "values": None if self.values is None else dict(self.values),
            "differs": {name: list(pair) for name, pair in self.differs.items()},
            **fields(given, "granted_in", "author"),
            "committer": given.committer or None if given is not None else None,
            "approved_by": list(given.approved_by) if given is not None else [],
            "approvals": [approval.as_json() for approval in given.approvals] if given is not None else [],
            **fields(given, "merged_by"),
            **fields(self, "changed", "guarded", "drifted", "since", "due_at", "done_at", "removed_in"),
            "end": None if self.ends is None else str(self.ends),
            "revision": self.revision,
            "requests": [dict(request) for request in self.requests],
        }


def _done_at(record: Record) -> datetime | None:
    """Return when the access was granted, or revoked, which is the last event of a grant."""
    if record.orphaned_at is not None:
        return record.checked_at if record.phase is Phase.REVOKED else None
    return record.executed_at or record.confirmed_at


def _given(grant: Grant) -> dict[str, Any] | None:
    """Return the form's values, an entry's own first; None if only the ledger has it."""
    if not grant.layers or grant.layers[0].origin == LEDGER:
        return None
    first, form = grant.layers[0], () if grant.manifest is None else grant.manifest.form
    values = {**(first.values if first.origin == grant.source else {})}
    values |= {field.id: grant.value(field.id) for field in form if field.id not in values}
    return {name: jsonable(value) for name, value in values.items() if value is not None}


def _name(record: Record, grant: Grant | None) -> str:
    """Return the hire's full name, as far as git or the ledger has it."""
    found = record.values
    for layer in grant.layers if grant is not None else ():
        if "first_name" in layer.values:
            found = layer.values
    return " ".join(str(part) for part in (found.get("first_name"), found.get("last_name")) if part)


class Tally(Struct):
    """Totals over rows, counted one by one."""

    grants: int = 0
    pending: int = 0
    faults: bool = False
    """Whether something is wrong with one of them."""
    unfinished: bool = False
    """Whether something is to be done now, or somebody has access that git no longer wants."""
    statuses: Counter[tuple[str, Status]] = field(default_factory=Counter)
    """By integration."""
    guarded: Counter[str] = field(default_factory=Counter)
    """Grants that a tripped guard suspends, by integration."""
    left: Counter[Status] = field(default_factory=Counter)
    """What nothing is done about, without what a tripped guard suspends, and what is only asked again."""

    @property
    def by_status(self) -> dict[str, int]:
        """Return how many grants have each status."""
        counts: Counter[Status] = Counter()
        for (_, status), number in self.statuses.items():
            counts[status] += number
        return {str(status): counts[status] for status in Status if counts[status]}

    def add(self, row: Row) -> None:
        """Count a row."""
        self.grants += 1
        self.pending += row.action.acts
        self.faults |= row.status in FAULTS or row.guarded or row.drifted or row.waits_for_person or row.unlocked
        self.unfinished |= row.action.acts or row.status in (Status.ORPHANED, Status.DIFFERS)
        self.statuses[row.integration, row.status] += 1
        if row.guarded:
            self.guarded[row.integration] += 1
        elif row.action is Action.NONE and not row.busy:
            self.left[row.status] += 1


class Report(Struct):
    """A pass, or the ledger, as it is shown. `failures` counts attempts and revocations that failed in this pass."""

    revision: str | None
    dry_run: bool
    rows: list[Row] = []
    problems: list[Problem] = []
    failures: int = 0
    executed: int = 0
    revoked: int = 0
    expired: list[timedelta] = []
    """How late access was revoked whose time was over, of each."""
    at: datetime | None = None
    """The moment that it is about; None for now."""
    branch: str | None = None
    """The branch in force; None where commits do not count, or before the first pass."""
    ignored: list[str] = []
    """What the checkout has and is not acted on, a sentence each."""
    refused: Untrusted | None = None
    stale: Stale | None = None
    members: list[Mapping[str, Any]] = []
    """The daemons that share the work, as JSON shows them."""
    hooks: list[Mapping[str, Any]] = []
    """When each hook last came, as JSON shows it."""
    unmanaged: dict[str, int] = {}
    """How many accounts git does not know, by integration: of those whose listing the pass read whole."""
    _tally: Tally | None = None

    def __repr__(self) -> str:
        """Leave the rows out: an event loop that ends makes this text of what it returns, and drops it."""
        return f"Report({self.revision!r}, {len(self.rows)} grants)"

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield these rows instead of the report's own, and count them."""
        tally = Tally()
        for row in rows:
            tally.add(row)
            yield row
        self._tally = tally

    @property
    def tally(self) -> Tally:
        """Return the totals over the rows."""
        if self._tally is not None:
            return self._tally
        tally = Tally()
        for row in self.rows:
            tally.add(row)
        return tally

    @property
    def hires(self) -> set[str]:
        """Return the hires of the rows."""
        return {row.hire for row in self.rows}

    def give(self, given: Mapping[Key, Attribution]) -> None:
        """Set who gave each grant."""
        self.rows = [row.given_by(given.get(Key(row.hire, row.access))) for row in self.rows]

    def refuse(self, untrusted: Untrusted | None) -> None:
        """Set why HEAD is not in force; None if it is."""
        if untrusted is not None:
            self.refused = untrusted
            self.problems = [Problem("HEAD", None, untrusted.advice), *self.problems]

    def outdate(self, stale: Stale | None) -> None:
        """Set since when and why git's newest commits are not taken over; None if they are."""
        if stale is not None:
            self.stale = stale
            self.problems = [Problem("git", None, str(stale)), *self.problems]

    def seal(self, fault: str | None) -> None:
        """Set why the state, or what is sealed in it, cannot be used; None if it can."""
        if fault is not None and all(problem.message != fault for problem in self.problems):
            self.problems = [Problem(STATE, None, fault), *self.problems]

    @property
    def summary(self) -> dict[str, int]:
        """Return how many grants have each status."""
        return self.tally.by_status

    @property
    def pending(self) -> list[Row]:
        """Return the grants with an action pending."""
        return [row for row in self.rows if row.action.acts]

    @property
    def wrong(self) -> bool:
        """Whether the exit code is 1 (docs/commands.md, "Exit codes")."""
        broken = any(problem.severity is Severity.ERROR for problem in self.problems)
        return bool(self.failures) or broken or self.tally.faults

    def as_json(self, shown: Iterable[Row] | None = None) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"; `shown` replaces its grants, and the totals are of all."""
        return {
            **({} if self.at is None else {"at": stamp(self.at)}),
            "revision": self.revision,
            "dry_run": self.dry_run,
            "branch": self.branch,
            "ignored": self.ignored,
            "summary": self.summary,
            "grants": [row.as_json() for row in (self.rows if shown is None else shown)],
            "problems": [problem.as_json() for problem in self.problems],
            "unmanaged": dict(self.unmanaged),
            "refused": None if self.refused is None else self.refused.as_json(),
            "stale": None if self.stale is None else asdict(self.stale),
            "members": self.members,
            "hooks": self.hooks,
        }
