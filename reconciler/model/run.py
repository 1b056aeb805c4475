"""A run: a list of requests that is sent for a grant, in one attempt or in several that continue one another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from reconciler.model.value import Frozen, Unshown


class Kind(StrEnum):
    """The kind of an attempt."""

    EXECUTE = "execute"
    HEAL = "heal"
    RUN = "run"
    """Somebody asked for it by hand."""
    UPDATE = "update"
    MEND = "mend"
    """An update of what somebody changed at the service."""
    REINVITE = "reinvite"
    """The open invitation is withdrawn, and another one sent."""
    REVOKE = "revoke"
    WITHDRAW = "withdraw"
    """An orphan's open invitation is taken back."""
    LOCK = "lock"
    """The account of somebody who is locked is switched off, or revoked."""
    LOCK_INVITED = "lock_invited"
    """The open invitation of somebody who is locked is taken back."""

    @property
    def updates(self) -> bool:
        """Whether it makes an existing account as git wants it."""
        return self in _UPDATES

    @property
    def takes_away(self) -> bool:
        """Whether it takes access away."""
        return self in _TAKES_AWAY

    @property
    def locks(self) -> bool:
        """Whether it locks somebody out."""
        return self in _LOCKS

    @property
    def withdraws(self) -> bool:
        """Whether all that it does is to take an open invitation back."""
        return self in _WITHDRAWS

    @property
    def makes(self) -> bool:
        """Whether it makes an account."""
        return not (self.updates or self.takes_away)


_UPDATES = (Kind.UPDATE, Kind.MEND)
_LOCKS = (Kind.LOCK, Kind.LOCK_INVITED)
_WITHDRAWS = (Kind.WITHDRAW, Kind.LOCK_INVITED)
_TAKES_AWAY = (Kind.REVOKE, Kind.WITHDRAW, *_LOCKS)


class Outcome(StrEnum):
    """The outcome of one request of an attempt."""

    SENT = "sent"
    """About to leave, or left: no answer is known."""
    DONE = "done"
    """Answered with success."""
    REFUSED = "refused"
    """Answered with a failure, or never left: it has taken no effect."""
    LOST = "lost"
    """It left, and no answer that can be read came back: it may have taken effect."""
    UNMET = "unmet"
    """Answered with success, but not with what was wanted: another status, a `continue_if` that does not hold."""


class Step(Frozen):
    """One request of an unsettled run: place, digest of its text in the manifest, outcome, status of the answer."""

    index: int
    text: str
    mutates: bool
    outcome: Outcome
    status: int | None = None

    @property
    def may_have_effect(self) -> bool:
        """Whether it can have changed something (docs/design/rules.md, "The ledger and the retry")."""
        return self.mutates and self.outcome is not Outcome.REFUSED

    @property
    def broke_there(self) -> bool:
        """Whether the service answered with a fault of its own, which is no proof that nothing was changed."""
        return self.mutates and self.outcome is Outcome.REFUSED and (self.status or 0) >= 500


class OpenRun(Frozen, kw_only=True):
    """A chain of attempts that is not settled: one is running, or the last one failed.

    `id` names it in the ledger from when its first attempt is written down. `digest` is the keyed digest of what it
    would send, `values` are the variables that it is made with, `steps` its requests. `by_hand` says that a person
    requested it. `retry_at` is when it runs again.
    """

    kind: Kind = Kind.EXECUTE
    id: int | None = None
    digest: str | None = None
    values: Unshown[Mapping[str, Any]] = {}
    by_hand: bool = False
    retry_at: datetime | None = None
    steps: tuple[Step, ...] = ()

    @property
    def may_have_effect(self) -> bool:
        """Whether any of its requests can have changed something."""
        return any(step.may_have_effect for step in self.steps)

    @property
    def broke_there(self) -> bool:
        """Whether any of its requests was answered with a fault of the service's own."""
        return any(step.broke_there for step in self.steps)


NO_RUN = OpenRun()
