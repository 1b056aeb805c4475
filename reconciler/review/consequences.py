"""What a changed grant means for an account: from when and until when, what its removal does, what is privileged."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Literal

from reconciler.model.base import jsonable
from reconciler.model.grant import Grant
from reconciler.model.hire import Entry, Hire
from reconciler.model.settings import DEFAULT
from reconciler.model.value import value_class
from reconciler.repository.desired import Desired

__all__ = ["AT_ONCE", "HeldOffline", "Removal", "dates_of", "held_offline", "privileges", "removal_of"]

FEW = 5
"""The most removals that never trip the guard."""

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


def dates_of(grant: Grant, entry: Entry, hire: Hire, today: date) -> tuple[str | None, str | None]:
    """Return the days on which a grant begins and from which it counts as removed; None for at once, and for never.

    Where it begins at once although the hire's `start` lies ahead, that is said.
    """
    starts = grant.begins.isoformat() if grant.begins is not None and grant.begins > today else None
    if starts is None and hire.start is not None and hire.start > today:
        starts = AT_ONCE
    by_end = entry.until is not None and entry.until.kind == "end"
    over = None if grant.ends is None or by_end else grant.ends + timedelta(days=1)
    ends = min((day for day in (grant.until, over) if day is not None), default=None)
    return starts, None if ends is None else ends.isoformat()


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
