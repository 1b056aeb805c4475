"""What a changed grant means for an account: from when and until when, what its removal does, what is privileged."""

from __future__ import annotations

from collections import Counter
from datetime import date, time
from enum import StrEnum
from typing import Any, Literal

from reconciler.model.base import jsonable, spelled
from reconciler.model.clock import stamp
from reconciler.model.grant import Grant
from reconciler.model.hire import Hire
from reconciler.model.settings import DEFAULT, FEW
from reconciler.model.value import value_class
from reconciler.repository.desired import Desired

__all__ = ["AT_ONCE", "HeldOffline", "Removal", "dates_of", "held_offline", "privileges", "removal_of"]

AT_ONCE = "at once"


class Removal(StrEnum):
    """What becomes of an account that git no longer wants."""

    REVOKED = "revoked"
    REPORTED = "reported"


@value_class
class HeldOffline:
    """An integration that the guard would hold: `count` grants of the `of` that git had, where `limit` is allowed."""

    integration: str
    kind: Literal["removed", "new"]
    count: int
    of: int
    limit: float

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {name: getattr(self, name) for name in ("integration", "kind", "count", "of", "limit")}


def dates_of(grant: Grant, hire: Hire, today: date) -> tuple[str | None, str | None]:
    """Return when a grant begins and when it ends; None for at once, and for never.

    A day is written as a date, another moment in UTC, and `for` as the time after which it ends. Where a grant begins
    at once although the hire's `start` lies ahead, that is said.
    """
    starts = grant.begins.isoformat() if grant.begins is not None and grant.begins > today else None
    if starts is None and hire.start is not None and hire.start > today:
        starts = AT_ONCE
    over, lasts = grant.over_at, grant.lasts
    if over is None:
        return starts, None if lasts is None else f"{spelled(lasts)} after it begins"
    return starts, over.date().isoformat() if over.time() == time() else stamp(over)


def removal_of(grant: Grant, after: Desired) -> Removal:
    """Say what becomes of an account by the settings and the manifest of the revision after."""
    said = after.files.settings.prune
    prune = said if isinstance(said, str) else said.get(grant.integration, said.get(DEFAULT))
    loaded = after.files.manifests.get(grant.integration)
    revokes = loaded is not None and bool(loaded.model.revoke)
    return Removal.REVOKED if prune == "revoke" and revokes and not grant.keep else Removal.REPORTED


def privileges(grant: Grant) -> dict[str, Any]:
    """Return the form values of a grant that give more than others have."""
    given = next((layer.values for layer in grant.layers if layer.origin == grant.source), {})
    fields = () if grant.manifest is None else grant.manifest.form
    return {
        field.id: jsonable(given[field.id])
        for field in fields
        if field.id in given and field.gives_privilege(given[field.id])
    }


def held_offline(before: Desired, removed: Counter[str], new: Counter[str]) -> list[HeldOffline]:
    """List the integrations that the guard would hold by the settings before, counted from git alone.

    `removed` and `new` count the grants of each integration that would be revoked and made.
    """
    settings, found = before.files.settings, list[HeldOffline]()
    doubtful = {name for name, number in removed.items() if number > FEW}
    doubtful |= {name for name, number in new.items() if settings.max_new is not None and number > settings.max_new}
    if not doubtful:
        return []
    had = Counter(
        grant.integration
        for hire in before.hires
        if not doubtful.isdisjoint(before.integrations(hire))
        for grant in before.grants(hire, once=True)
    )
    for name in sorted(doubtful):
        percent, limit = settings.max_change_percent, settings.max_new
        if removed[name] > FEW and removed[name] * 100 > percent * max(had[name], removed[name]):
            found.append(HeldOffline(name, "removed", removed[name], had[name], percent))
        if limit is not None and new[name] > limit:
            found.append(HeldOffline(name, "new", new[name], had[name], limit))
    return found
