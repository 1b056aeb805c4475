"""Whether the revision in force is as new as git's: a daemon that is cut off from git goes on, and reports it.

It is stale after `fail_stale` without a successful fetch, or with the newest commit refused. The state is a note in the
ledger, so that `status` can show it and a restart neither forgets nor repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from reconciler.ledger.reader import LedgerReader
from reconciler.model.clock import stamp
from reconciler.model.revision_status import Stale
from reconciler.model.value import Frozen

NOTE = "freshness"

CLONES = "clones"
"""The name of the note that has the clone of each member of a fleet, by name."""


class Clone(Frozen):
    """A member's clone as the others know it: what is in force, and why it takes over no new commit.

    It is `able` if it takes them over, and has the newest revision that any member acted on.
    """

    revision: str
    able: bool
    problem: str | None = None
    stale: Stale | None = None


class Noted(Frozen):
    """What the note says: when a fetch last succeeded, and since when commits are refused, or not taken over, and why.

    `members` are those of a fleet whose clones are stale.
    """

    fetched_at: datetime | None = None
    refused_since: datetime | None = None
    stale: Stale | None = None
    members: Mapping[str, Stale] = {}


@dataclass(slots=True)
class Freshness:
    """The outcome of fetches. `counted_from` is when one last succeeded, or the daemon's start if none did."""

    counted_from: datetime
    fetched_at: datetime | None = None
    refused_since: datetime | None = None
    stale: Stale | None = None
    problem: str | None = None
    refused: str | None = None
    known: bool = False
    """Whether this process knows yet whether fetching succeeds."""

    @property
    def why_not(self) -> str | None:
        """Why new commits are not taken over; None if they are."""
        return self.problem or self.refused

    def follow(self, note: bytes | None) -> None:
        """Go on from the note of the daemon before this one."""
        kept = noted(note)
        self.fetched_at, self.refused_since, self.stale = kept.fetched_at, kept.refused_since, kept.stale
        self.counted_from = self.fetched_at or self.counted_from

    def written(self, members: Mapping[str, Stale | None]) -> bytes:
        """Write it as a note, with the other members of a fleet whose clones are stale."""
        theirs = {name: each for name, each in members.items() if each is not None}
        return msgspec.json.encode(Noted(self.fetched_at, self.refused_since, self.stale, theirs))

    def fetched(self, now: datetime, problem: str | None) -> None:
        """Record that a fetch ended; `problem` is None if it succeeded."""
        self.known, self.problem = True, problem
        if problem is None:
            self.counted_from = self.fetched_at = now
        self.counted_from = min(self.counted_from, now)  # the clock was set back

    def not_fetching(self) -> None:
        """Record that this repository is not fetched: only a refused commit makes it stale."""
        self.known, self.problem = True, None

    def refuse(self, now: datetime, refused: str | None) -> None:
        """Record why the newest commit is refused; None if it is in force."""
        self.refused = refused
        self.refused_since = None if refused is None else min(self.refused_since or now, now)

    def judge(self, now: datetime, limit: timedelta) -> None:
        """Judge whether the revision is stale."""
        if not self.known:
            return
        found = [
            (since, reason)
            for since, reason in ((self.counted_from, self.problem), (self.refused_since, self.refused))
            if since is not None and reason is not None and now - since >= limit
        ]
        since, reason = min(found, default=(None, ""))
        self.stale = None if since is None else Stale(stamp(since) or "", reason)


def stale(ledger: LedgerReader) -> Stale | None:
    """Read from the ledger since when, and why, commits are not taken over; None if they are."""
    return noted(ledger.notes.get(NOTE)).stale


def clones(ledger: LedgerReader) -> dict[str, Clone]:
    """Read from the ledger what each member of a fleet said of its clone."""
    return msgspec.json.decode(ledger.notes.get(CLONES) or b"{}", type=dict[str, Clone])


def noted(note: bytes | None) -> Noted:
    """Read the note."""
    return msgspec.json.decode(note or b"{}", type=Noted)
