"""What decisions depend on beside verdict and record: the settings' policy, and an open run's progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from reconciler.model.grant import Outcome, Record, Step
from reconciler.model.settings import DEFAULT, Drift, Settings, Suspension
from reconciler.model.value import Frozen

__all__ = ["NEITHER", "TAKEN", "Policy", "Progress", "account_changed", "complete", "progress"]


class Policy(Frozen):
    """The settings that decisions depend on, and the time at which they are made."""

    now: datetime
    today: date
    retry_delay: timedelta
    drift: Drift = Drift()
    prune: bool = False
    prune_of: Mapping[str, bool] = {}
    removals: bool = True
    expires: bool = True
    """Whether what is over is revoked, whatever `prune` says."""
    suspensions: tuple[Suspension, ...] = ()
    zone: tzinfo = UTC
    """Whose days a reason names."""

    @classmethod
    def of(cls, settings: Settings, now: datetime, *, removals: bool = True) -> Policy:
        """Make the settings' policy at this time; days are those of the settings' time zone.

        `removals` is False for a pass that revokes nothing.
        """
        zone = ZoneInfo(settings.timezone)
        prune = settings.prune if isinstance(settings.prune, Mapping) else {DEFAULT: settings.prune}
        return cls(
            now=now,
            today=now.astimezone(zone).date(),
            retry_delay=settings.retry_delay,
            drift=settings.drift,
            prune=prune.get(DEFAULT) == "revoke",
            prune_of={name: said == "revoke" for name, said in prune.items() if name != DEFAULT},
            removals=removals,
            expires=settings.expire == "revoke",
            suspensions=tuple(settings.suspend),
            zone=zone,
        )

    def suspended(self, hire: str, integration: str) -> str | None:
        """Return why this grant is suspended, or None."""
        for item in self.suspensions:
            over = item.until is not None and item.until <= self.today
            meant = item.hire in (None, hire) and item.integration in (None, integration)
            if meant and not over:
                until = f" until {item.until}" if item.until else ""
                return f"suspended{until}{': ' + item.reason if item.reason else ''}"
        return None

    def prunes(self, integration: str) -> bool:
        """Whether grants of an integration that git no longer wants are revoked."""
        return self.prune_of.get(integration, self.prune)

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


MADE = frozenset({Outcome.SENT, Outcome.LOST, Outcome.UNMET})
TAKEN = frozenset({Outcome.SENT, Outcome.LOST})
NEITHER: frozenset[Outcome] = frozenset()


def progress(steps: Iterable[Step], texts: tuple[str, ...], first: frozenset[Outcome] = MADE) -> Progress:
    """Determine where an interrupted run continues (docs/design/rules.md, "The ledger and the retry").

    The first request that could change anything counts as done with one of the outcomes `first` too: once the account
    is there, that request made it, although its answer never came or said that it is not ready yet. `texts` are the
    digests of the manifest's requests as they are now.
    """
    ordered = sorted(steps, key=lambda step: step.index)
    first_change = next((step.index for step in ordered if step.mutates), None)
    done = 0
    for step in ordered:
        counts = step.outcome is Outcome.DONE or (step.index == first_change and step.outcome in first)
        if step.index != done or not counts:
            break
        done += 1
    same = done <= len(texts) and all(step.text == texts[step.index] for step in ordered[:done])
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
