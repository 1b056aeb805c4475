"""Say why a grant is an orphan, and in which order the orphans of a hire are revoked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.decide.wanted import NOT_IN_GIT
from reconciler.model.clock import stamp
from reconciler.model.ending import is_over
from reconciler.model.grant import Key, Over, Record
from reconciler.repository.desired import Desired

__all__ = ["all_needed", "dependents_first", "needing", "why_over"]


def why_over(record: Record, desired: Desired, now: datetime) -> str | None:
    """Return why an orphan counts as removed although git has its entry, or before it left git; or None."""
    hire, access = record.key
    known = desired.over(hire, access, now, record.acted_at)
    if known is not None or not is_over(record, now):
        return known
    if record.over is Over.LEFT or not desired.has(hire, access):
        return f"{NOT_IN_GIT}, and its time is over"
    return f"its time was over at {stamp(record.ends_at)}: take the entry out, and add it again"


def all_needed(access: str, needs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the entries that an entry needs, directly or through others; never itself."""
    found: set[str] = set()
    queue = list(needs.get(access, ()))
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += needs.get(name, ())
    return found - {access}


def needing(access: str, among: Iterable[str], needs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return those that need an entry, directly or through others; none that it needs itself, which is a circle."""
    own = all_needed(access, needs)
    return {each for each in among if access in all_needed(each, needs) and each not in own}


def dependents_first(orphans: list[PlannedGrant], needs: Mapping[str, Iterable[str]]) -> list[Key]:
    """Order a hire's orphans: each after those that need it, also through entries that stay; circles as given."""
    needed_by = {item.grant.key.access: all_needed(item.grant.key.access, needs) for item in orphans}
    queue: list[Key] = []
    left = list(orphans)
    while left:
        needed = {need for item in left for need in needed_by[item.grant.key.access]}
        free = [item for item in left if item.grant.key.access not in needed] or left
        queue += [item.grant.key for item in free]
        left = [item for item in left if item.grant.key not in queue]
    return queue
