"""Who gave grants, and what a forge says of the pull requests that brought those commits.

Each commit is asked about until the forge has answered, then never again. An approval that is known only after lines of
the history were written is a line of its own (docs/design/rules.md, "Who gave it").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.entries import Event
from reconciler.ledger.reader import GIVEN, UNTRACED, Givers
from reconciler.ledger.reading import LINES
from reconciler.ledger.rows import event_row, given_row
from reconciler.ledger.transaction import WritablePart
from reconciler.model.attribution import Attribution, Merged, Unattributed
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key
from reconciler.model.status import EventType

__all__ = ["WritableGivers", "pull_row", "untraced_row"]

_TRACED = sa.delete(schema.meta).where(
    schema.meta.c.name == sa.bindparam("name"), schema.meta.c.value == sa.bindparam("value")
)


def pull_row(given: Attribution) -> dict[str, Any]:
    """Write that the forge is to be asked about a commit; what it answered stays."""
    return {"revision": given.granted_in, "committed_at": given.committed_at, "merges": list(given.merges)}


def untraced_row(hire: str, untraced: Unattributed) -> dict[str, Any]:
    """Write up to which revision it is known who gave a hire's grants."""
    return {"name": f"{UNTRACED}{hire}", "value": " ".join((untraced.since or "", untraced.revision)).encode()}


class WritableGivers(WritablePart, Givers):
    """Who gave grants, and what a forge answers."""

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
            transaction.upsert(schema.pulls, ("revision",), (pull_row(commits[each]) for each in sorted(commits)))
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
