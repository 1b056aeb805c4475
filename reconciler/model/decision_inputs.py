"""What decisions depend on beside verdict and record: the settings' policy, an open run's progress, when access ends.

What the ledger kept of an end counts, whatever the files are by then. Once a time is over it cannot be made longer: the
entry has to leave git, and come again (docs/design/rules.md, "Removal").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.model.grant import Grant, Over, Phase, Record
from reconciler.model.run import Outcome, Step
from reconciler.model.settings import Settings
from reconciler.model.value import Frozen, replace


class Policy(Frozen):
    """The settings that decisions depend on, and the time at which they are made.

    Without `removals` nothing is revoked.
    """

    settings: Settings
    now: datetime
    removals: bool = True

    @property
    def today(self) -> date:
        """Return the day in the settings' time zone."""
        return self.now.astimezone(ZoneInfo(self.settings.timezone)).date()

    @property
    def expires(self) -> bool:
        """Whether what is over is revoked, whatever `prune` says."""
        return self.settings.expire == "revoke"

    def suspended(self, hire: str, integration: str) -> str | None:
        """Return why this grant is suspended, or None."""
        for item in self.settings.suspend:
            over = item.until is not None and item.until <= self.today
            meant = item.hire in (None, hire) and item.integration in (None, integration)
            if meant and not over:
                until = f" until {item.until}" if item.until else ""
                return f"suspended{until}{': ' + item.reason if item.reason else ''}"
        return None

    def due(self, record: Record) -> bool:
        """Whether a retry is due. One further ahead than the delay, from a clock that jumped, counts from now."""
        return record.retry_at is None or record.retry_at <= self.now


class Progress(Frozen):
    """How far an unsettled run came.

    `done` counts the requests that are done, from the first on; `effect` says whether any can have changed something,
    `same` whether the manifest's requests up to there are still the same.
    """

    done: int
    total: int
    effect: bool
    same: bool

    def __str__(self) -> str:
        return f"{self.done} of {self.total} requests done"


def made(step: Step) -> bool:
    """Count what may have made an account that is there."""
    return step.may_have_effect


def taken(step: Step) -> bool:
    """Count what may have taken away an account that is gone: a service may do so, and fail all the same."""
    return step.may_have_effect or (step.mutates and step.status is not None and step.status >= 500)


def neither(_step: Step) -> bool:
    """Count nothing but what is done."""
    return False


def progress(steps: Iterable[Step], texts: tuple[str, ...], first: Callable[[Step], bool] = made) -> Progress:
    """Determine where an interrupted run continues (docs/design/rules.md, "The ledger and the retry").

    The first request that could change anything counts as done where it is as `first` says, too: once the account is
    there, that request made it, although its answer never came or said that it is not ready yet. One that was passed
    over, for what it needs is gone, counts as done with the one after it. `texts` are the digests of the manifest's
    requests as they are now.
    """
    ordered = sorted(steps, key=lambda step: step.index)
    first_change = next((step.index for step in ordered if step.mutates), None)
    done = 0
    for step in ordered:
        counts = step.outcome is Outcome.DONE or (step.index == first_change == done and first(step))
        if not counts:
            break
        done = step.index + 1
    same = done <= len(texts) and all(step.text == texts[step.index] for step in ordered if step.index < done)
    return Progress(done, len(texts), any(step.may_have_effect for step in ordered), same)


def complete(steps: Iterable[Step], total: int) -> bool:
    """Whether all requests of a run are done: the last one succeeded, and so did those before it.

    A first change without an answer counts as done where later requests show it (docs/design/rules.md, "The ledger and
    the retry").
    """
    known = {step.index: step.outcome for step in steps}
    done = progress(steps, ()).done
    return total > 0 and done == total and known[total - 1] is Outcome.DONE


def account_changed(steps: Iterable[Step]) -> bool:
    """Whether the first request that changes anything succeeded."""
    changing = [step for step in sorted(steps, key=lambda step: step.index) if step.mutates]
    return bool(changing) and changing[0].outcome is Outcome.DONE


# --- when access ends -------------------------------------------------------------------------------------------------

ASK_AGAIN = timedelta(minutes=1)
"""After how long a service is asked again that did not answer when a time was over."""

Fields = dict[str, Any]


def is_over(record: Record, now: datetime) -> bool:
    """Whether a time of the ledger's is over that lay ahead when the grant was first acted on."""
    return record.ended or (record.ends_at is not None and record.ends_at <= now and not _anew(record))


def _anew(record: Record) -> bool:
    """Whether it was revoked, so that an entry begins anew; the time of what only a lock took away runs on."""
    return record.phase is Phase.REVOKED and (record.locked is None or record.ends_at is None)


def spent(record: Record, now: datetime) -> bool:
    """Whether its time is over, so that its entry gives nothing any more for as long as git has it.

    What comes again after it was over begins anew; so does whose last day is over, and who is given another one.
    """
    return is_over(record, now) and record.over not in (Over.OUT, Over.LEFT) and not record.ends_with_hire


def still_wanted(grant: Grant, record: Record | None, now: datetime) -> bool:
    """Whether an entry that git has still counts."""
    if record is not None and spent(record, now):
        return False
    acted_at = None if record is None or _anew(record) or is_over(record, now) else record.acted_at
    end = grant.ends_at(acted_at)
    return end is None or end > now


def taken_back(record: Record, grant: Grant, now: datetime) -> Record:
    """Return a record as if no revision had moved its end, where git has the first again before it was revoked.

    Where only the first is over, git takes the access away: that is a removal like another.
    """
    first, end = record.first_ends_at, record.ends_at
    stays = record.over in (None, Over.REACHED) and record.phase is not Phase.REVOKED
    shorter = first is not None and first <= now and (end is None or end > now)
    if not (stays and record.ends_moved and grant.ends_at(record.acted_at) == first) or shorter:
        return record
    return replace(record, ends_at=first, over=None)


def acted_on(record: Record, grant: Grant, now: datetime, *, found: bool) -> Fields:
    """Return what the ledger keeps of a wanted grant's end; it begins anew after it was revoked or over."""
    anew = _anew(record) or (record.over is not None and is_over(record, now))
    before = None if anew else record.acted_at
    there = found or (record.provided and record.phase is not Phase.REVOKED)
    acted_at = now if before is None and there else before
    ends_at = None if acted_at is None else grant.ends_at(acted_at)
    return {
        "acted_at": acted_at,
        "ends_at": ends_at,
        "expire_at": ends_at,
        "ends_with_hire": ends_at is not None and ends_at == grant.over_at and grant.ends_with_hire,
        "first_ends_at": ends_at if before is None else record.first_ends_at,
        "over": None,
    }


def left(
    record: Record, now: datetime, *, there: bool, in_git: bool, unanswered: bool, ran_out: datetime | None
) -> Fields:
    """Return what the ledger keeps of the end of a grant that git no longer wants, or that is over.

    `there` says that there may be an account, `in_git` that git still has the entry, `unanswered` that it is over and
    that it could not be looked for, `ran_out` when it was over by a `for` that was made shorter.
    """
    if not is_over(record, now):
        if not there and record.phase is not Phase.REVOKED:
            return gone(record, ran_out)
        return {} if record.ends_at is None else {"over": None if in_git else Over.OUT}
    over = Over.REACHED if in_git and record.over in (None, Over.REACHED) else Over.LEFT
    return {"over": over, "expire_at": now + ASK_AGAIN if unanswered and there else None}


def gone(record: Record, ran_out: datetime | None) -> Fields:
    """Return what the ledger keeps of the end of a grant that was revoked.

    What `ran_out` does not begin anew while its entry stays: only the ledger knows from when its `for` counted.
    """
    if ran_out is not None and not record.ended:
        return {**NO_END, "acted_at": record.acted_at, "over": Over.REACHED, "ends_at": ran_out}
    return {"expire_at": None} if record.ended else NO_END


NO_END: Fields = {
    **dict.fromkeys(("acted_at", "ends_at", "first_ends_at", "expire_at", "over")),
    "ends_with_hire": False,
}
"""What a grant has that was revoked before its time was over."""
