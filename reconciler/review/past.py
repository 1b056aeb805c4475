"""What is over: who had what at a moment, and when access had to be gone, by which commit, and when it was.

Only the history's lines up to a moment say who had what then. A grant is shown if an account was there by its lines, or
may have been, because an attempt failed half-way. What its lines do not say is None: an older release wrote no values,
and a line may be from before it was known who gave it.

`Leaving` reads git and the ledger for some rows; the `Dates` that it returns need neither, so that a dry run can keep
them until its rows are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from reconciler.ledger.entries import Event
from reconciler.ledger.history import ENDED, MADE, Followed, Removed
from reconciler.ledger.reader import LedgerReader
from reconciler.model.attribution import Approval, Attribution
from reconciler.model.grant import Grant, Key
from reconciler.model.report import Row
from reconciler.model.status import Action, EventType, Status
from reconciler.model.value import Frozen, replace
from reconciler.repository.attribution.origins import LastChanges
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE

if TYPE_CHECKING:  # `status` shows rows of the ledger alone, and has none
    from reconciler.repository.desired import Desired

THERE = (*MADE, EventType.UPDATED)
"""The events from which on there is an account, with the values that they say, by who gave it then."""

GONE = (*ENDED, EventType.LOST)
"""The events from which on there is none."""

HALFWAY = (EventType.ATTEMPT_FAILED, EventType.ATTEMPT_INTERRUPTED)
"""The events from which on there may be one."""

MEANT = {
    EventType.EXECUTED: Status.UNCONFIRMED,
    EventType.DIFFERED: Status.DIFFERS,
    EventType.ORPHANED: Status.ORPHANED,
    EventType.EXPIRED: Status.ORPHANED,
    EventType.BLOCKED: Status.BLOCKED,
    EventType.LOCKED: Status.SUSPENDED,
    EventType.ATTEMPT_FAILED: Status.RETRYING,
    EventType.ATTEMPT_INTERRUPTED: Status.RETRYING,
    **dict.fromkeys((EventType.ADOPTED, EventType.CONFIRMED, EventType.ACCEPTED), Status.PRESENT),
}
"""The status after an event whose line does not have it."""


@dataclass(slots=True)
class Past:
    """A grant as the history has it up to a line."""

    integration: str
    status: Status = Status.MISSING
    there: bool = False
    halfway: bool = False
    since: datetime | None = None
    """As in the ledger: when a check first found it, or it was made; kept where a lost account is found again."""
    unseen: bool = False
    """Whether it was made or invited, and no check has found it."""
    values: dict[str, Any] | None = None
    given: Attribution | None = None
    last: str = ""
    revision: str | None = None

    @property
    def shown(self) -> bool:
        """Whether there was an account, or may have been."""
        return self.there or self.halfway

    def follow(self, line: Event) -> None:
        """Go on by one line."""
        self.integration = line.integration or self.integration
        self.revision = line.revision or self.revision
        self.last = f"{line.event}: {line.detail}" if line.detail else str(line.event)
        data, kind = line.data or {}, line.event
        said = data.get("status")
        self.status = Status(said) if said is not None else MEANT.get(kind, self.status)
        if kind in GONE:
            self.there = self.halfway = self.unseen = False
            self.since = self.since if kind is EventType.LOST else None
            self.values = self.given = None
            return
        if kind in THERE:
            another = not self.there and kind is not EventType.CONFIRMED
            unfound = self.status in (Status.UNCONFIRMED, Status.DONE)
            stays = kind is EventType.UPDATED or (kind is EventType.CONFIRMED and unfound)
            if self.since is None or another or (self.unseen and not stays):
                self.since = line.at
            self.there, self.halfway = True, False
            self.unseen = self.unseen if kind is EventType.UPDATED else self.status is Status.UNCONFIRMED
        elif kind in HALFWAY and not self.there:
            self.since, self.halfway = self.since or line.at, True
        if kind is EventType.APPROVED and self.given is not None and line.granted_in == self.given.granted_in:
            self.given = _given(line)
        elif kind in THERE or not self.there:
            self.values = data.get("values", None if kind in THERE else self.values)
            self.given = _given(line) or self.given

    def row(self, key: Key, *, email: str = "", name: str = "") -> Row:
        """Return the grant as `status` shows it; the address and the name are those of now."""
        return Row(
            hire=key.hire,
            email=email,
            access=key.access,
            integration=self.integration,
            status=self.status,
            action=Action.NONE,
            reason=self.last,
            since=self.since,
            revision=self.revision,
            name=name,
            values=self.values,
            given=self.given,
        )


def replayed(lines: Iterable[Event]) -> tuple[dict[Key, Past], str | None]:
    """Follow the history, oldest line first; return each grant by its name of now, and the revision acted on last."""
    followed, named, revision = Followed[Past](), dict[str, Key](), None
    for line in lines:
        revision = line.revision or revision
        if not line.key.access:
            continue
        name = line.was or str(line.key)
        named[name] = line.key
        if line.event is not EventType.RENAMED:
            followed.known().setdefault(name, Past(line.integration)).follow(line)
        elif (moved := followed.renamed(name, line.data)) is not None:
            moved.follow(line)
    found = sorted(followed.known().items(), key=lambda each: each[1].shown)  # of two with one name one is gone
    return {named[name]: past for name, past in found}, revision


def _given(line: Event) -> Attribution | None:
    if line.granted_in is None or line.author is None:
        return None
    data = line.data or {}
    said = data.get("approvals")
    approvals = map(Approval, line.approved_by) if said is None else map(Approval.from_json, said)
    return Attribution(line.granted_in, line.author, "", line.at, tuple(approvals), merged_by=data.get("merged_by"))


class Dates(Frozen):
    """The last days of some hires, and what of a row that leaves is known beside the ledger's record."""

    ends: Mapping[str, date] = {}
    left: Mapping[Key, Mapping[str, Any]] = {}

    def of(self, row: Row) -> Row:
        """Return the row with its dates."""
        end = self.ends.get(row.hire)
        known = self.left.get(Key(row.hire, row.access), {}) if row.leaves else {}
        return row if end is None and not known else replace(row, ends=end, **known)


class Leaving:
    """Dates access by the files in force, where they have the entry still, and else by the history.

    `desired` is what the files want on any day, entries that are over too. Where it cannot be read, `over` says when
    entries end.
    """

    def __init__(self, checkout: Checkout, desired: Desired | None, over: Mapping[Key, datetime] = {}) -> None:
        self._checkout = checkout
        self._desired = desired
        self._over = over
        self._last_changes = LastChanges(checkout)

    def grants(self, hires: Iterable[str]) -> dict[Key, Grant]:
        """Return the entries that the files have of some hires."""
        desired = self._desired
        if desired is None:
            return {}
        return {grant.key: grant for hire in hires for grant in desired.grants(hire)}

    def dates(
        self,
        ledger: LedgerReader,
        hires: Collection[str],
        rows: Iterable[Row],
        known: Mapping[Key, Grant] | None = None,
        *,
        former: Mapping[Key, Key] = {},
    ) -> Dates:
        """Return the dates of some hires and of their rows that leave; `known` are all their entries, if read.

        `former` are the names that rows have in the history still.
        """
        leaving = [row for row in rows if row.leaves]
        whose = {row.hire for row in leaving}
        removed = ledger.history.removals({*whose, *(key.hire for key in former.values())})
        grants = self.grants(whose) if known is None else known
        over = {**self._over, **{key: grant.over_at for key, grant in grants.items()}}
        left = dict[Key, dict[str, object]]()
        for row in leaving:
            key = Key(row.hire, row.access)
            left[key] = self._left(row, removed.get(former.get(key, key)), over.get(key))
            said = (row.until, over.get(key))  # the ledger's is the former one, until a pass has seen that of the files
            left[key]["until"] = min((end for end in said if end is not None), default=None)
            if (grant := grants.get(key)) is not None:
                left[key]["requested"] = grant.requested
        ends = {} if known is None else {key.hire: each.ends for key, each in known.items()}
        if self._desired is not None:
            loaded = ((hire, self._desired.files.hires.get(hire)) for hire in set(hires).difference(ends))
            ends |= {hire: each.model.end for hire, each in loaded if each is not None}
        return Dates({hire: end for hire, end in ends.items() if end is not None}, left)

    def dated(
        self, ledger: LedgerReader, rows: Iterable[Row], known: Mapping[Key, Grant] | None = None
    ) -> Iterator[Row]:
        """Yield rows with their dates."""
        shown = list(rows)
        yield from map(self.dates(ledger, {row.hire for row in shown}, shown, known).of, shown)

    def _left(self, row: Row, removed: Removed | None, over: datetime | None) -> dict[str, object]:
        """Return when a row that leaves had to be gone, and was, and by which commit.

        What the history says counts if it is about this leaving: access may have left once before.
        """
        since, due = row.due_at, row.due_at if row.over else None
        if removed is not None and not row.over and removed.orphaned_at != since:
            removed = None
        gone = row.done_at
        if removed is not None and row.status is Status.REVOKED:
            gone = removed.gone_at or gone  # a lock took it away before git no longer wanted it
        if due is None and over is not None and (since is None or over <= since):
            due = over
        revision = row.revision if removed is None else removed.revision
        if row.over or revision in (None, WORKTREE):
            return {"due_at": due or since, "done_at": gone}
        hire = row.hire if removed is None or removed.hire is None else removed.hire
        commit = self._last_changes.changed_in(revision, row.source.rpartition(":")[0] or row.source, hire)
        made = self._checkout.commit_if_there(commit)
        return {"due_at": due or (None if made is None else made.at) or since, "done_at": gone, "removed_in": commit}
