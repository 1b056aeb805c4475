"""When access ends: what the ledger keeps of it, and what follows once the time is over. Pure.

What the ledger kept counts, whatever the files are by then. Once a time is over it cannot be made longer: the entry has
to leave git, and come again (docs/design/rules.md, "Removal").
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from reconciler.model.grant import Grant, Over, Phase, Record

__all__ = ["acted_on", "gone", "is_over", "left", "still_wanted"]

ASK_AGAIN = timedelta(minutes=1)
"""After how long a service is asked again that did not answer when a time was over."""

Fields = dict[str, Any]


def is_over(record: Record, now: datetime) -> bool:
    """Whether a time of the ledger's is over that lay ahead when the grant was first acted on."""
    return record.over is not None or (
        record.ends_at is not None and record.ends_at <= now and record.phase is not Phase.REVOKED
    )


def still_wanted(grant: Grant, record: Record | None, now: datetime) -> bool:
    """Whether an entry that git has still counts.

    What comes again after it was over begins anew; so does whose last day is over, and who is given another one.
    """
    acted_at = None
    if record is not None and record.phase is not Phase.REVOKED:
        acted_at = record.acted_at
    if record is not None and is_over(record, now):
        if record.over is not Over.LEFT and not record.ends_with_hire:
            return False
        acted_at = None
    end = grant.ends_at(acted_at)
    return end is None or end > now


def acted_on(record: Record, grant: Grant, now: datetime, *, found: bool) -> Fields:
    """Return what the ledger keeps of a wanted grant's end; it begins anew after it was revoked or over."""
    anew = record.over is not None or record.phase is Phase.REVOKED
    before = None if anew else record.acted_at
    there = found or (record.provided and record.phase is not Phase.REVOKED)
    acted_at = now if before is None and there else before
    ends_at = None if acted_at is None else grant.ends_at(acted_at)
    return {
        "acted_at": acted_at,
        "ends_at": ends_at,
        "expire_at": ends_at,
        "ends_with_hire": ends_at is not None and ends_at == grant.over_at and grant.ends_with_hire,
        "ends_moved": before is not None and (record.ends_moved or record.ends_at != ends_at),
        "over": None,
    }


def left(record: Record, now: datetime, *, gone: bool, in_git: bool, unanswered: bool) -> Fields:
    """Return what the ledger keeps of the end of a grant that git no longer wants, or that is over.

    `gone` says that there is no account any more, `in_git` that git still has the entry, `unanswered` that it is over
    and that it could not be looked for.
    """
    if not is_over(record, now):
        return NO_END if gone and record.phase is not Phase.REVOKED else {}
    over = Over.REACHED if in_git and record.over is not Over.LEFT else Over.LEFT
    return {"over": over, "expire_at": now + ASK_AGAIN if unanswered and not gone else None}


def gone(record: Record) -> Fields:
    """Return what the ledger keeps of the end of a grant that was revoked."""
    return NO_END if record.over is None else {"expire_at": None}


NO_END: Fields = {"acted_at": None, "ends_at": None, "expire_at": None, "ends_with_hire": False, "ends_moved": False}
"""What a grant has that was revoked before its time was over."""
