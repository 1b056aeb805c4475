"""A grant: one hire and one access entry, the unit that is checked, executed, retried and reported.

`Grant` is what git wants, `Record` what the ledger has, `Decision` what a plan makes of both and a verdict. Records
change in one place only: `reconciler.engine.apply.transitions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.model.attribution import Requested
from reconciler.model.lock import LockState
from reconciler.model.run import NO_RUN, Kind, OpenRun
from reconciler.model.scope import Layer
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.value import Frozen, Unshown, replace
from reconciler.model.verdict import Cause

if TYPE_CHECKING:
    from reconciler.model.manifest import Manifest

APART = "~"
"""What stands between an entry's name and what it was about, or the address that it was for, before."""

Differences = Mapping[str, tuple[Any, Any]]
"""A path in the account's record, or a value's name → what stands there and what git wants."""


class Key(NamedTuple):
    """The key of a grant: the hire's id and the access entry's name."""

    hire: str
    access: str

    def __str__(self) -> str:
        return f"{self.hire}/{self.access}"


def all_needed(access: str, needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the entries that an entry needs, directly or through others, the nearest first; never itself."""
    queue = list(dict.fromkeys(needs.get(access, ())))
    for name in queue:
        queue += [need for need in needs.get(name, ()) if need not in queue]
    return [name for name in queue if name != access]


class Hold(Frozen):
    """Why a grant cannot be checked: `invalid` or `blocked`, and what to do.

    `personal` says that the entry fits, but not this hire.
    """

    status: Status
    reason: str
    personal: bool = False


class GrantCore(Frozen):
    """What a grant and its record both have: whose it is, of which integration, and by which entry.

    `origin` is the sequence that it comes from, or None for the hire's own entry, `through` the others by which the
    hire has it. `keep` says that it is never revoked on its own.
    """

    key: Key
    email: str
    integration: str
    service: str
    source: str
    needs: tuple[str, ...] = ()
    origin: str | None = None
    through: tuple[str, ...] = ()
    keep: bool = False

    @property
    def core(self) -> dict[str, Any]:
        """Return this much of it."""
        return {name: getattr(self, name) for name in GrantCore.__struct_fields__}

    @property
    def sequences(self) -> tuple[str, ...]:
        """Return all sequences that give it."""
        return () if self.origin is None else (self.origin, *self.through)


class Grant(GrantCore):
    """One hire and one access entry, as the files want it.

    `layers` are the hire's and the form's variables; `absent` says of those that are in none why they are not. `begins`
    is the first day on which it counts, `ends` the hire's last day, `until` when the entry itself is over.
    """

    manifest: Unshown[Manifest | None] = None
    layers: Unshown[tuple[Layer, ...]] = ()
    absent: Unshown[Mapping[str, str]] = {}
    begins: date | None = None
    ends: date | None = None
    until: datetime | None = None
    over_at: datetime | None = None
    """When it ends, whenever it is first acted on: from then on it counts as removed."""
    ends_with_hire: bool = False
    """Whether that follows from the hire's last day; a `for` that is over before it does not."""
    lasts: timedelta | None = None
    """How long it lasts from when it is first acted on."""
    hold: Hold | None = None
    requested: Requested | None = None
    """Set where it comes from a request's file instead of from the hire's or a sequence's."""
    choices: tuple[tuple[str, Any], ...] = ()
    """Form values that have to be looked up among the service's own options: (field id, value or NamedChoice)."""

    @property
    def place(self) -> tuple[str, int]:
        """Return the file and the line of its entry."""
        file, _, line = self.source.rpartition(":")
        return file, int(line)

    @property
    def known_end(self) -> datetime | None:
        """Return when it ends, whenever it is first acted on; None where a `for` may be over before."""
        return self.over_at if self.lasts is None else None

    def ends_at(self, acted_at: datetime | None) -> datetime | None:
        """Return when it ends, given when it was first acted on: from then on it counts as removed."""
        if self.lasts is None or acted_at is None:
            return self.over_at
        end = acted_at + self.lasts
        return end if self.over_at is None else min(end, self.over_at)

    def asks_as(self, other: Grant) -> bool:
        """Whether two revisions ask for the same access alike, whatever line of their files it is in."""
        return self._asked == other._asked

    def means_as(self, other: Grant) -> bool:
        """Whether two entries of a hire ask for the same account, as far as the files say."""
        mine, theirs = ([layer.values for layer in each.layers] for each in (self, other))
        return self.integration == other.integration and mine == theirs and self.choices == other.choices

    def as_of(self, now: datetime, known: Mapping[str, Record | None]) -> Grant:
        """Return it as it is at a time of the day, at which these entries of its hire count, as far as `known`.

        What is too long to be asked for may fit later, and what the hire has already may be over.
        """
        if self.requested is None:
            return self
        acted = {name: None if each is None or not each.acted_on else each.acted_at for name, each in known.items()}
        return replace(self, requested=self.requested.as_of(now, self.key.access, acted))

    def value(self, name: str) -> Any:
        """Return what a field of the form gets: the entry's value, else what the hire's file has under that name."""
        return next((value for layer in self.layers if (value := layer.values.get(name)) is not None), None)

    @property
    def refused(self) -> bool:
        """Whether it is a request that the files do not allow, or that does not fit: it holds nothing but itself."""
        unfit = self.hold is not None and self.hold.status is Status.INVALID
        return self.requested is not None and (unfit or self.requested.refusal is not None)

    @property
    def _asked(self) -> tuple[Any, ...]:
        values = [layer.values for layer in self.layers]
        return values, self.manifest, self.choices, self.begins, self.needs, self.hold


class Phase(StrEnum):
    """The phase of a grant in the ledger."""

    NEW = "new"
    CONFIRMED = "confirmed"
    EXECUTED = "executed"
    DONE = "done"
    RETRYING = "retrying"
    FAILED = "failed"
    REVOKED = "revoked"

    @property
    def unsettled(self) -> bool:
        """Whether an attempt, or a chain of them, has more to do."""
        return self in _UNSETTLED


_UNSETTLED = (Phase.RETRYING, Phase.FAILED)  # Python 3.11 finds a member by a call, each time


class Over(StrEnum):
    """What became of a grant that has an end."""

    OUT = "out"
    """Its entry left git before its time is over: one that comes again after that begins anew."""
    REACHED = "reached"
    """Its time is over."""
    LEFT = "left"
    """Its time is over, and its entry left git since: one that comes again begins anew."""


class Record(GrantCore):
    """The ledger's record of a grant.

    `attempts` counts since it last started afresh; `open` is what of them is not settled. `snapshot` holds the
    variables of the hire and the form as they were when it was last executed, updated or confirmed. `fresh` asks for a
    fresh start. `guarded` says that a tripped guard suspends it. `form` are the form's fields, if known.
    """

    phase: Phase = Phase.NEW
    status: Status = Status.MISSING
    action: Action = Action.NONE
    reason: str = ""
    changed: bool = False
    attempts: int = 0
    checked_at: datetime | None = None
    last_error: str | None = None
    snapshot: Unshown[Mapping[str, Any]] = {}
    executed_at: datetime | None = None
    confirmed_at: datetime | None = None
    healed_at: datetime | None = None
    orphaned_at: datetime | None = None
    lost: bool = False
    fresh: bool = False
    guarded: bool = False
    takes: bool = False
    """Whether an account that the guard holds would be revoked or healed, and not made or updated."""
    revision: str | None = None
    as_wanted_at: datetime | None = None
    """Since when the check finds the account as git wants it; kept when it no longer does, for that is drift."""
    updated_at: datetime | None = None
    wants: Unshown[Mapping[str, Any]] = {}
    """What `where` asked for when the account was last found so, updated or accepted."""
    differs: Unshown[Mapping[str, Any]] = {}
    """What of the account is not as git wants it: path or name → [there, wanted]."""
    accepted: Unshown[Mapping[str, Any]] = {}
    """What of that a person accepted as it is."""
    invitations: int = 0
    """How many were sent since the account was last there."""
    answered: str = ""
    """What the service answered to the last request of an attempt that no check has seen the effect of."""
    cause: Cause | None = None
    """Who has to do something about a check that failed, or about what is missing, if that is known."""
    code: ReasonCode | None = None
    """What its reason says, as far as anything depends on it."""
    off: bool = False
    """Whether the account was switched off at the last check that found out."""
    locked: LockState | None = None
    """How far its account is locked, if its person is."""
    acted_at: datetime | None = None
    """When it was first acted on: by its first attempt, or by the check that found it."""
    ends_at: datetime | None = None
    ends_with_hire: bool = False
    first_ends_at: datetime | None = None
    """When it ends, as long as that lay ahead: with the hire's last day? By git when it was first acted on?"""
    over: Over | None = None
    """What became of it, if that is over or its entry left git."""
    expire_at: datetime | None = None
    """When a pass is due for it to end."""
    seen_at: datetime | None = None
    """When the last check that was answered found its account as wanted, if others failed since."""
    form: tuple[str, ...] | None = None
    left_over: bool = False
    """Whether an attempt may have left an account that one begun anew, or an entry wanted again, knows nothing of."""
    hire_email: str = ""
    """The address of its hire when git was last seen to want it; the account may be under one of before."""
    open: OpenRun | None = None

    def as_grant(self) -> Grant:
        """Make a grant from the record alone: the hire's file may be gone."""
        return Grant(**self.core)

    @property
    def run(self) -> OpenRun:
        """Return the open run; an empty one if none is open."""
        return self.open or NO_RUN

    @property
    def retry_at(self) -> datetime | None:
        """Return when it runs again, if it does."""
        return None if self.open is None else self.open.retry_at

    @property
    def ended(self) -> bool:
        """Whether a pass has seen that its time is over."""
        return self.over is not None and self.over is not Over.OUT

    @property
    def ends_moved(self) -> bool:
        """Whether a revision set or moved its end since it was first acted on."""
        return self.ends_at != self.first_ends_at

    @property
    def revoking(self) -> bool:
        """Whether the attempt that is running, or the last one, takes access away."""
        return self.open is not None and self.open.kind.takes_away

    @property
    def unchecked(self) -> bool:
        """Whether all of its revocation succeeded, and no check has said since whether the account is gone."""
        return self.revoking and self.phase.unsettled and self.last_error is None

    @property
    def unseen(self) -> bool:
        """Whether it was updated, and no check has found it as wanted since."""
        return self.updated_at is not None and self.as_wanted_at is None

    @property
    def to_be_seen(self) -> bool:
        """Whether an attempt made or updated its account, and the check that follows it was not answered yet."""
        done_at = {Status.UNCONFIRMED: self.executed_at, Status.DIFFERS: self.updated_at}.get(self.status)
        return done_at is not None and (self.checked_at is None or self.checked_at < done_at)

    @property
    def provided(self) -> bool:
        """Whether it was ever executed or confirmed."""
        return self.executed_at is not None or self.confirmed_at is not None

    @property
    def acted_on(self) -> bool:
        """Whether there was an attempt, or the account was found, since it was last revoked."""
        return self.phase is not Phase.REVOKED and (self.provided or self.phase.unsettled)

    @property
    def uncounted(self) -> bool:
        """Whether the guard holds it only until it has counted the other parts of its pass."""
        return self.guarded and self.code is ReasonCode.COUNTING

    @property
    def may_run(self) -> bool:
        """Whether more than its check may be sent, whatever the check finds."""
        return not self.provided or self.phase.unsettled

    @property
    def leaves_something(self) -> bool:
        """Whether it may have an account: then it is never silently dropped."""
        began_there = self.open is not None and (self.open.kind is Kind.REINVITE or self.open.kind.takes_away)
        return self.provided or began_there or self.left_over or self.run.may_have_effect

    @property
    def may_remain(self) -> bool:
        """Whether it may have an account that was not revoked."""
        return self.phase is not Phase.REVOKED and self.leaves_something

    @property
    def values(self) -> Mapping[str, Any]:
        """Return the account's values, as far as known: an orphan is checked and revoked with these."""
        if not self.phase.unsettled or self.revoking or not self.leaves_something:
            return self.snapshot
        sent = not self.provided or any(step.may_have_effect for step in self.run.steps)
        return {**self.snapshot, **self.run.values} if sent else self.snapshot


class Decision(Frozen):
    """What to do about one grant, and why.

    `resume` is the index of the request at which an attempt continues, 0 for a whole run. `afresh` says that the count
    of attempts starts again. `heals` says that it mends drift, which the guard counts. `withdraws` says that an open
    invitation is taken back, before another is sent or for good. `differs` says what of the account is not as git wants
    it, `accepted` that a person accepted it so. `pending` says that only the check, which failed, could have told that
    an account is to be made or revoked: the guard counts it as that. `takes` says of what is `guarded` whether access
    would be taken away, or healed. `code` and `cause` are the reason's; `detail` is what the history says of it, where
    that is not the reason. `locked` says how far the account of somebody who is locked is locked.
    """

    status: Status
    action: Action
    reason: str
    changed: bool = False
    resume: int = 0
    afresh: bool = False
    heals: bool = False
    guarded: bool = False
    takes: bool = False
    withdraws: bool = False
    differs: Differences = {}
    accepted: bool = False
    pending: bool = False
    cause: Cause | None = None
    code: ReasonCode | None = None
    detail: str = ""
    locked: LockState | None = None
