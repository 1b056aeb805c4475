"""Why the newest commit is not acted on: it is not trusted, it cannot be read, or git cannot be reached."""

from __future__ import annotations

from reconciler.model.value import Frozen

REF = "refs/reconciler/accepted"
"""Where a checkout keeps the revision that was accepted last; no commit and no fetch of the program changes it."""

VOUCH = f"have it signed, or vouch for it on this machine: `git update-ref {REF} COMMIT`"


class Untrusted(Frozen):
    """The newest commit that is not accepted, and the first commit on the way to it that is the reason.

    An `unreadable` one has nothing to vouch for: `why` says what to do, and `head` may be the name of its branch.
    """

    head: str
    commit: str
    author: str
    why: str
    unreadable: bool = False

    def __str__(self) -> str:
        if self.unreadable:
            return self.why
        whose = f"commit {self.commit[:12]} by {self.author}" if self.author else f"commit {self.commit[:12]}"
        if self.commit == self.head:
            return f"{whose} is not accepted: {self.why}"
        return f"commit {self.head[:12]} is not accepted: {whose} on the way to it: {self.why}"

    def as_json(self) -> dict[str, str]:
        """The object of docs/commands.md, "JSON"."""
        return {"head": self.head, "commit": self.commit, "author": self.author, "why": self.why}

    @property
    def advice(self) -> str:
        """Say it with the next step."""
        return str(self) if self.unreadable else f"{self}: {VOUCH}"


class Stale(Frozen):
    """Since when, in UTC, git's commits are not taken over, and why."""

    since: str
    reason: str

    def __str__(self) -> str:
        return f"no new commit is taken over since {self.since}: {self.reason}"
