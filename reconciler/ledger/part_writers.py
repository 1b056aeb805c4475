"""Write the parts of a ledger. Every write is one transaction, durable before the call returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Unpack

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.entries import Answer, Attempt, Change, Command, Event, ValueChanges
from reconciler.ledger.guard_counts import RESYNC, RESYNC_BEFORE, GuardCounts
from reconciler.ledger.history import TREE, History, whole_blocks
from reconciler.ledger.reader import GIVEN, LISTED, UNTRACED, Accounts, Attempts, Givers, Notes, Sealed
from reconciler.ledger.reading import BLOCKS, LINES, in_batches
from reconciler.ledger.rows import attempt_row, event_row, event_rows, given_row, request_row
from reconciler.ledger.transaction import WritablePart
from reconciler.model.attribution import Attribution, Merged, Unattributed
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.run import Outcome, Step
from reconciler.model.selection import Selection
from reconciler.model.status import EventType
from reconciler.model.value import replace

_OF_ATTEMPT = schema.attempts.c.id == sa.bindparam("which")
_BEGUN = sa.insert(schema.attempts).returning(schema.attempts.c.id)
_NEW_RUN = sa.update(schema.attempts).where(_OF_ATTEMPT).values(run=sa.bindparam("which"))
_ALIVE = sa.update(schema.attempts).where(_OF_ATTEMPT).values(alive_at=sa.bindparam("moment"))
_ENDED = (
    sa.update(schema.attempts).where(_OF_ATTEMPT).values(ended_at=sa.bindparam("moment"), error=sa.bindparam("why"))
)
_ANSWERED = (
    sa.update(schema.requests)
    .where(schema.requests.c.attempt == sa.bindparam("which"), schema.requests.c.place == sa.bindparam("where"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("answered_at", "outcome", "status_code", "error")})
)
_TRACED = sa.delete(schema.meta).where(
    schema.meta.c.name == sa.bindparam("name"), schema.meta.c.value == sa.bindparam("value")
)


class WritableAttempts(WritablePart, Attempts):
    """The attempts at grants, each written down before its first request is sent."""

    def begin(
        self,
        record: Record,
        attempt: Attempt,
        events: Iterable[Event],
        *,
        kept: ValueChanges | None = None,
        answered: Iterable[Command] = (),
    ) -> Attempt:
        """Write an attempt before its first request is sent, with its sealed memory.

        A `run` of 0 starts a run of its own. The commands that requested it are answered with it.
        """
        if self._session.lease is not None:
            service, epoch = self._session.lease.of(record.service)
            attempt = replace(attempt, service=service, epoch=epoch)
        row, lines, commands = attempt_row(attempt), event_rows(events, self._session.redact), list(answered)
        with self._session.writing(Failpoint.INTENT) as transaction:
            new: int = transaction.connection.execute(_BEGUN, row).scalar_one()
            run = attempt.run or new
            if run == new:
                transaction.then(_NEW_RUN, [{"which": new}])
            transaction.save([replace(record, open=replace(record.run, id=run))], lines, kept)
            transaction.answer(commands)
        return replace(attempt, id=new, run=run)

    def sending(
        self, attempt: Attempt, step: Step, method: str, url: str, now: datetime, *, kept: ValueChanges | None = None
    ) -> None:
        """Write that a request is about to be sent, or sent again, with what its effect does to sealed values."""
        row = request_row(attempt, step, method, url, now)
        with self._session.writing(Failpoint.LEAVING) as transaction:
            transaction.upsert(schema.requests, ("attempt", "place"), [row])
            transaction.then(_ALIVE, [{"which": attempt.id, "moment": now}])
            transaction.put_all(schema.sealed, kept)

    def answered(
        self,
        attempt: Attempt,
        place: int,
        outcome: Outcome,
        now: datetime,
        *,
        kept: ValueChanges | None = None,
        **answer: Unpack[Answer],
    ) -> None:
        """Write the outcome of a request, with the run's sealed memory."""
        new = {"answered_at": now, "outcome": outcome, "status_code": None, "error": None, **answer}
        row = {"which": attempt.id, "where": place, **{f"new_{name}": value for name, value in new.items()}}
        with self._session.writing(Failpoint.ANSWER) as transaction:
            transaction.then(_ANSWERED, [row])
            transaction.then(_ALIVE, [{"which": attempt.id, "moment": now}])
            transaction.put_all(schema.sealed, kept)

    def settle(
        self,
        attempt: Attempt,
        record: Record,
        events: Iterable[Event],
        *,
        now: datetime,
        error: str | None,
        kept: ValueChanges | None = None,
    ) -> None:
        """Write how an attempt ended, and erase memory that is no longer needed."""
        lines = event_rows(events, self._session.redact)
        with self._session.writing(Failpoint.OUTCOME) as transaction:
            transaction.then(_ENDED, [{"which": attempt.id, "moment": now, "why": error}])
            transaction.save([record], lines, kept)


class WritableGuardCounts(WritablePart, GuardCounts):
    """What the guard counts, and since when."""

    def begin_resync(self, *, ended: bool = True) -> None:
        """Begin a full resync: the guard restarts its counts, of what is taken away once the one before has `ended`.

        Attempts are counted in the order in which they were written down, which no clock that jumps moves.
        """
        if ended:
            self._session.put(schema.meta, RESYNC_BEFORE, str(self.counted_since().began).encode())
        self._session.put(schema.meta, RESYNC, str(self.newest_attempt()).encode())

    def let_through(self, selection: Selection) -> None:
        """Count nothing any more that was done so far of what a pass covers, as if a person had asked for it."""
        attempts = schema.attempts.c
        done = sa.update(schema.attempts).values(by_hand=True).where(attempts.id > self.counted_since().ended)
        if selection.integrations is not None:
            done = done.where(attempts.integration.in_(selection.integrations))
        with self._session.writing(Failpoint.NOTE) as transaction:
            for names in [None] if selection.hires is None else in_batches(selection.hires):
                transaction.connection.execute(done if names is None else done.where(attempts.hire.in_(names)))


class WritableHistory(WritablePart, History):
    """The history, and the roots of the tree over it that are kept."""

    def keep_tree(self) -> None:
        """Keep the roots of some more whole blocks of the tree over the history, so that a checkpoint is quick."""
        with self._backend.snapshot() as reading:
            note = whole_blocks(reading, BLOCKS)
        if note is not None:
            self._session.put(schema.meta, TREE, note)


class WritableAccounts(WritablePart, Accounts):
    """The accounts of integrations' listings."""

    def save(self, integration: str, accounts: AbstractSet[str], now: datetime) -> None:
        """Save since when a complete listing shows these accounts, by digest; delete those that it no longer shows."""
        known = self.first_seen(integration).keys()
        self.change(integration, now, added=sorted(accounts - known), gone=sorted(known - accounts), ended=True)

    def change(
        self,
        integration: str,
        now: datetime,
        *,
        added: Iterable[str] = (),
        gone: Iterable[str] = (),
        ended: bool = False,
    ) -> None:
        """Save some accounts that a complete listing shows and were not known, and delete some that it does not show.

        With `ended` these are the last ones.
        """
        table = schema.accounts
        theirs = table.c.integration == integration, table.c.account == sa.bindparam("whose")
        with self._session.writing(Failpoint.NOTE) as transaction:
            if ended:
                transaction.put(schema.meta, f"{LISTED}{integration}", now.isoformat().encode())
            transaction.then(
                sa.insert(table), ({"integration": integration, "account": each, "first_seen": now} for each in added)
            )
            transaction.then(sa.delete(table).where(*theirs), [{"whose": each} for each in gone])


class WritableGivers(WritablePart, Givers):
    """Who gave grants, and what a forge says of the pull requests that brought those commits.

    Each commit is asked about until the forge has answered, then never again. An approval that is known only after
    lines of the history were written is a line of its own (docs/design/rules.md, "Who gave it").
    """

    def retrace(self, hires: Iterable[str], since: str | None, revision: str, *, ended: bool = False) -> None:
        """Save that a later commit, up to a revision, may have given grants of these hires.

        Who gave them is known up to `since`, if nothing older is saved. With `ended` these are the last ones.
        """
        names = sorted(hires)
        before = self.untraced(names)
        rows = [(hire, Unattributed(before[hire].since if hire in before else since, revision)) for hire in names]
        with self._session.writing(Failpoint.NOTE) as transaction:
            transaction.upsert(schema.meta, ("name",), (untraced_row(hire, each) for hire, each in rows))
            if ended:
                transaction.put(schema.meta, GIVEN, revision.encode())

    def save(self, given: Iterable[tuple[Key, Attribution]], traced: Mapping[str, Unattributed]) -> None:
        """Save who gave grants, and that it is known of these hires, unless another revision came since."""
        rows, commits = list[dict[str, Any]](), dict[str, Attribution]()
        for key, each in given:
            rows.append(given_row(key, each))
            commits[each.granted_in] = each
        with self._session.writing(Failpoint.NOTE) as transaction:
            transaction.upsert(schema.given, ("hire", "access"), rows)
            pulls = (
                {"revision": revision, "committed_at": each.committed_at, "merges": list(each.merges)}
                for revision, each in sorted(commits.items())
            )
            transaction.upsert(schema.pulls, ("revision",), pulls)  # what the forge answered stays
            transaction.then(_TRACED, (untraced_row(hire, each) for hire, each in sorted(traced.items())))

    def save_unmerged(self, revision: str, now: datetime, *, settled: bool) -> None:
        """Save that the forge knows no pull request that brought a commit; with `settled` for good."""
        table = schema.pulls
        values = {"asked_at": sa.func.coalesce(table.c.asked_at, sa.literal(now, schema.Moment())), "settled": settled}
        with self._session.writing(Failpoint.NOTE) as transaction:
            transaction.connection.execute(sa.update(table).where(table.c.revision == revision).values(values))

    def save_merged(self, revision: str, merged: Merged, now: datetime) -> bool:
        """Save who approved and merged what brought a commit, with lines for some of its grants; return if any is left.

        The commit is unanswered until all lines are written: after a crash the next answer writes those that are left.
        """
        this = schema.pulls.c.revision == revision
        answer = {"approvals": list(merged.approvals), "merged_by": merged.merged_by}
        with self._session.writing(Failpoint.NOTE) as transaction:
            connection = transaction.connection
            # The lines say who approved it, so that this is written before them.
            connection.execute(sa.update(schema.pulls).where(this).values(answer))
            keys = connection.execute(_UNTOLD, {"revision": revision}).all() if merged.approvals else []
            events = [
                Event(now, Key(hire, access), integration, EventType.APPROVED, merged.detail)
                for hire, access, integration in keys
            ]
            transaction.append_events(map(event_row, events))
            left = len(keys) == LINES
            connection.execute(sa.update(schema.pulls).where(this).values(settled=not left))
        return left


class WritableSealed(WritablePart, Sealed):
    """Values that are sealed."""

    def put(self, name: str, value: bytes | Change | None, point: Failpoint = Failpoint.SEALED) -> None:
        """Save, change or erase a value."""
        self._session.put(schema.sealed, name, value, point)

    def reseal(self, key: str, before: bytes | None, notes: ValueChanges, anew: Callable[[str, bytes], bytes]) -> None:
        """Save notes, with every value sealed anew, if the note `key` still is as it was before."""
        with self._session.writing(Failpoint.SEALING_KEY) as transaction:
            connection = transaction.connection
            self._session.backend.exclude_others(connection, f"{schema.meta.name}/{key}")
            there = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.name == key)).scalar()
            if there is None or bytes(there) != before:
                return
            rows = connection.execute(sa.select(schema.sealed.c.name, schema.sealed.c.value).with_for_update()).all()
            for name, value in rows:
                transaction.put(schema.sealed, name, anew(name, bytes(value)))
            transaction.put_all(schema.meta, notes)


class WritableNotes(WritablePart, Notes):
    """Notes, which the program makes for itself."""

    def put(self, name: str, value: bytes | Change, point: Failpoint = Failpoint.NOTE) -> None:
        """Save or change a note."""
        self._session.put(schema.meta, name, value, point)


def untraced_row(hire: str, untraced: Unattributed) -> dict[str, Any]:
    """Write up to which revision it is known who gave a hire's grants."""
    return {"name": f"{UNTRACED}{hire}", "value": " ".join((untraced.since or "", untraced.revision)).encode()}


def _untold() -> sa.Select[Any]:
    """Select the grants that a commit gave and whose history does not say yet that it was approved."""
    given, grants, events = schema.given, schema.grants, schema.events
    of_grant = events.c.hire == given.c.hire, events.c.access == given.c.access
    told = sa.exists().where(*of_grant, events.c.event == EventType.APPROVED, events.c.granted_in == given.c.granted_in)
    same = (grants.c.hire == given.c.hire) & (grants.c.access == given.c.access)
    return (
        sa.select(given.c.hire, given.c.access, grants.c.integration)
        .join(grants, same)
        .where(given.c.granted_in == sa.bindparam("revision"), ~told)
        .order_by(given.c.hire, given.c.access)
        .limit(LINES)
    )


_UNTOLD = _untold()
