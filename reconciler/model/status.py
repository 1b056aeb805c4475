"""The closed sets: the status of a grant, the action on it, the codes of reasons, the types of events.

See docs/design/states.md, "Precedence".
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The status of a grant."""

    PRESENT = "present"
    DIFFERS = "differs"
    MISSING = "missing"
    UNCONFIRMED = "unconfirmed"
    DONE = "done"
    RETRYING = "retrying"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    INVALID = "invalid"
    ORPHANED = "orphaned"
    SUSPENDED = "suspended"
    REVOKED = "revoked"

    @property
    def granted(self) -> bool:
        """Whether the hire has the access."""
        return self in (Status.PRESENT, Status.DONE)


FAULTS = frozenset({Status.FAILED, Status.UNKNOWN, Status.BLOCKED, Status.INVALID})
"""The statuses that make the exit code 1 (docs/commands.md, "Exit codes").

So do a grant that a tripped guard suspends and drift that is left to a person.
"""


class Action(StrEnum):
    """What a plan does about a grant."""

    NONE = "none"
    EXECUTE = "execute"
    UPDATE = "update"
    WAIT = "wait"
    RETRY = "retry"
    REVOKE = "revoke"

    @property
    def acts(self) -> bool:
        """Whether requests are sent for it now."""
        return self in _ACTS

    @property
    def provides(self) -> bool:
        """Whether the account is as git wants it once its requests succeed."""
        return self in _PROVIDES


_PROVIDES = (Action.EXECUTE, Action.UPDATE, Action.RETRY)  # Python 3.11 finds a member by a call, each time
_ACTS = (*_PROVIDES, Action.REVOKE)


class ReasonCode(StrEnum):
    """The codes of the reasons that something depends on; no sentence is ever read."""

    COUNTING = "counting"
    """The guard holds it until it has counted the other parts of its pass."""
    TRIPPED = "tripped"
    """The guard holds it, for it has tripped."""
    POLICY = "policy"
    """A rule of the policy does not allow it to be given."""
    DRIFT = "drift"
    """What differs was changed at the service."""
    UNABLE = "unable"
    """What would take it away cannot be sent with what the ledger has: only a person can."""
    LAST_SEEN = "last_seen"
    """Its check failed, and the last one that was answered found it as git wants it."""
    IN_DOUBT = "in_doubt"
    """A notification may have been sent, or not."""


class EventType(StrEnum):
    """The events of the history (docs/commands.md, "Events")."""

    ADOPTED = "adopted"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPT_INTERRUPTED = "attempt_interrupted"
    EXECUTED = "executed"
    CONFIRMED = "confirmed"
    LOST = "lost"
    HEALED = "healed"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    RETRY_REQUESTED = "retry_requested"
    RUN_REQUESTED = "run_requested"
    REVOKE_REQUESTED = "revoke_requested"
    ACCEPTED = "accepted"
    APPROVED = "approved"
    NOTIFIED = "notified"
    NOTIFICATION_FAILED = "notification_failed"
    DIFFERED = "differed"
    UPDATED = "updated"
    WITHDRAWN = "withdrawn"
    ORPHANED = "orphaned"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REVOKE_FAILED = "revoke_failed"
    DROPPED = "dropped"
    HELD = "held"
    RELEASED = "released"
    FORGOTTEN = "forgotten"
    RENAMED = "renamed"
    LOCKED = "locked"
    UNLOCKED = "unlocked"
    REFUSED = "refused"
