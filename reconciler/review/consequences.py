"""What a changed grant means for an account: from when and until when, what its removal does, what is privileged.

Each follows from what a pass decides (`reconciler/engine/decide`), as far as git alone can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Literal

from reconciler.model.base import jsonable, spelled
from reconciler.model.clock import after, stamp
from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Grant, Key
from reconciler.model.hire import Hire
from reconciler.model.settings import FEW
from reconciler.model.template import roots
from reconciler.model.text import Spoken
from reconciler.model.value import Frozen, fields
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.repository.joined_problems import first_error
from reconciler.repository.policy import PolicyRules
from reconciler.requests.template import written
from reconciler.review.causes import Cause, ChangeKind, Consequence

AT_ONCE = "at once"

HELD = "held"
"""The field of a change that says why a grant was not to be given before: it did not fit, or broke a rule."""


class Stays(Spoken):
    """Why access that git no longer wants is only reported."""

    PRUNE = "prune", "`prune` is `report`"
    """The setting `prune`, and `expire` where it leaves an end to that."""
    MANIFEST = "manifest", "the manifest has no `revoke`"
    CHECK = "check", "the manifest has no `exists`, without which nothing is revoked"
    KEEP = "keep", "the entry has `keep`"
    POLICY = "policy", "by the policy the person must have it"
    ERRORS = "errors", "nothing of a person whose files, or the policy, have errors is revoked"
    SAME_ACCOUNT = "same_account", "another entry is for the same account"


class Applied(Spoken):
    """What happens to an account that is there, where values change that its requests use."""

    UPDATED = "updated", "updated at the service"
    NOT_UPDATED = (
        "not_updated",
        "not updated at the service: the manifest has no `update`, so somebody has to do it there",
    )
    ANOTHER_ADDRESS = (
        "another_address",
        "another address: rename the account at the service; where both are there, the former one",
    )
    ANOTHER_ACCOUNT = "another_account", "another account is made; the former one"
    ANOTHER_THING = "another_thing", "access to another thing is given; the former one"
    """A field with `identity` has another value."""
    NAME_TAKEN = "name_taken", "blocked: the former account has this name, and stays; give the entry another name"
    """It is of another integration, and has the entry's name."""

    @property
    def leaves_one(self) -> bool:
        """Whether the former account is one that git no longer wants, and the new one is to be made."""
        return self in (Applied.ANOTHER_ACCOUNT, Applied.ANOTHER_THING)


class Leaving(Frozen):
    """What becomes of an account that git no longer wants: it is revoked, at an end perhaps, or only reported.

    `stays` says why it is only reported.
    """

    stays: Stays | None = None
    at: str | None = None

    @property
    def removal(self) -> str:
        """Return it in the word of docs/commands.md, "JSON"."""
        return "revoked" if self.stays is None else "reported"


class HeldOffline(Frozen):
    """An integration that the guard would hold: `count` grants of the `of` that git had, where `limit` is allowed."""

    integration: str
    kind: Literal["removed", "new"]
    count: int
    of: int
    limit: float


class Change(Frozen):
    """One grant that differs. `fields` has the values before and after, None for a missing one.

    `applied` says what happens to an account that exists already. `starts` and `ends` are dates, or "at once" where it
    begins although the hire's first day, `first_day`, lies ahead. `leaving` says what becomes of an account that is no
    longer wanted: of one that is removed, or whose time will be over; `former` of the one before, where the grant turns
    to another. `privileged` has the values that give more than others have, and did not before.
    """

    key: Key
    integration: str
    kind: ChangeKind
    fields: Mapping[str, tuple[Any, Any]] = {}
    who: str = ""
    name: str = ""
    applied: Applied | None = None
    cause: Cause | None = None
    starts: str | None = None
    first_day: str | None = None
    ends: str | None = None
    leaving: Leaving | None = None
    former: Leaving | None = None
    privileged: Mapping[str, Any] = {}

    @property
    def only_reported(self) -> bool:
        """Whether something is no longer wanted, and stays."""
        return self.kind is ChangeKind.REMOVED and self.leaving is not None and self.leaving.stays is not None

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            **fields(self.key, "hire", "access"),
            "integration": self.integration,
            "change": str(self.kind),
            "fields": {name: list(pair) for name, pair in self.fields.items()},
            "starts": self.starts,
            "ends": self.ends if self.leaving is None else self.leaving.at or self.ends,
            **fields(self.leaving, "removal", "stays"),
            "applied": self.applied,
            "former": None if self.former is None else self.former.removal,
            "privileged": dict(self.privileged),
        }


def summed_up(changes: Iterable[Change]) -> list[Consequence]:
    """Sum up what follows from each cause."""
    by_cause: dict[Cause, Consequence] = {}
    for change in changes:
        if change.cause is None:
            continue
        known = by_cause.setdefault(change.cause, Consequence(cause=change.cause))
        known.people.add(change.key.hire)
        known.grants += 1
        access, loses = change.key.access, change.kind is ChangeKind.REMOVED
        known.added[access] += change.kind is ChangeKind.ADDED
        known.removed[access] += loses
        known.revoked[access] += loses and change.leaving is not None and change.leaving.stays is None
    for known in by_cause.values():
        known.added, known.removed, known.revoked = +known.added, +known.removed, +known.revoked
    return sorted(by_cause.values(), key=lambda each: (-len(each.people), each.cause.kind, each.cause.what))


def dates_of(grant: Grant, hire: Hire, today: date) -> tuple[str | None, str | None]:
    """Return when a grant begins and when it ends; None for at once, and for never.

    A day is written as a date, another moment in UTC, and `for` as the time after which it ends. Where a grant begins
    at once although the hire's `start` lies ahead, that is said.
    """
    starts = grant.begins.isoformat() if grant.begins is not None and grant.begins > today else None
    if starts is None and hire.start is not None and hire.start > today:
        starts = AT_ONCE
    over, lasts = grant.over_at, grant.lasts
    begun = datetime.combine(max(grant.begins or today, today), time.max, UTC)
    if lasts is not None and (over is None or after(begun, lasts) < over):
        return starts, f"{spelled(lasts)} after it begins"
    return starts, None if over is None else over.date().isoformat() if over.time() == time() else stamp(over)


def leaving_of(grant: Grant, hire: Hire, after: Desired, policy: PolicyRules) -> Leaving:
    """Say what becomes of an account that the revision after no longer wants, by its settings, manifest and `policy`.

    What had an end that lies ahead is revoked then at the latest, whatever `prune` says and whatever errors there are.
    """
    stays = _stays(grant, after, at_end=False)
    if stays in (None, Stays.PRUNE, Stays.CHECK) and policy.requires(grant) is not None:
        return Leaving(Stays.POLICY)
    if stays is None and first_error(after, grant.key.hire) is not None:
        stays = Stays.ERRORS
    _, ends = dates_of(grant, hire, after.today)
    if stays is not None and ends is not None and _stays(grant, after, at_end=True) is None:
        return Leaving(at=ends)
    return Leaving(stays)


def over_before(changes: Iterable[Change], before: Desired, after: Desired) -> Iterator[Problem]:
    """Warn of entries whose own time was over, and is not any more: what was given then is not given again."""
    any_day = Desired(before.files, date.min)
    for change in changes:
        key = change.key
        was, now = (side.grant(key) if change.kind is ChangeKind.ADDED else None for side in (any_day, after))
        if was is not None and now is not None and was.over_at is not None and not was.ends_with_hire:
            over = f"access {key.access} of {key.hire}: its time was over in the base"
            ways = "where it was given then, nothing follows: take the entry out, commit that, and add it again"
            yield Problem(*now.place, f"{over}; {ways}", Severity.WARNING)


def ending_of(grant: Grant, after: Desired) -> Leaving:
    """Say what becomes of an account when the time of its grant is over."""
    return Leaving(_stays(grant, after, at_end=True))


def _stays(grant: Grant, after: Desired, *, at_end: bool) -> Stays | None:
    """Say why a grant that is removed, or whose time is over, is only reported; None where it is revoked."""
    settings, loaded = after.files.settings, after.files.manifests.get(grant.integration)
    if loaded is None or not loaded.model.revoke:
        return Stays.MANIFEST
    if grant.keep:
        return Stays.KEEP
    if at_end and settings.expire == "revoke":
        return None
    if not settings.prunes(grant.integration):
        return Stays.PRUNE
    return Stays.CHECK if loaded.model.exists is None else None


_SENT = {"execute", "update", "headers"}


def applied_to(grant: Grant, fields: Mapping[str, tuple[Any, Any]], files: Files) -> Applied | None:
    """Say what happens to an account that exists; None if no change of these fields matters to it.

    Where the manifest of another integration is gone from `files`, the grant's may be the same by another name.
    """
    manifest, (other, _) = grant.manifest, fields.get("integration", (None, None))
    if other in files.manifests or other in files.broken["manifests"]:
        return Applied.NAME_TAKEN
    if manifest is None:
        return None
    exists = manifest.exists
    asked = roots([exists.url, exists.expected, exists.data]) if exists is not None else frozenset()
    pairs = {name.removeprefix("values.").removeprefix("extra."): pair for name, pair in fields.items()}
    telling = {*manifest.identity, *asked}
    changed = {name for name, (then, now) in pairs.items() if name not in telling or _sent_as(then) != _sent_as(now)}
    if changed & set(manifest.identity):
        return Applied.ANOTHER_THING
    if changed & (asked - {"email"}):
        return Applied.ANOTHER_ACCOUNT
    if changed & asked:
        return Applied.ANOTHER_ADDRESS
    compared = exists.where if exists is not None and exists.where else manifest.model_dump(include=_SENT)
    if not changed & roots(compared):
        return None
    return Applied.UPDATED if manifest.updates else Applied.NOT_UPDATED


def _sent_as(value: Any) -> str:
    """Return a value as the text that says which account is meant; several choices have no order."""
    return written(sorted(value, key=written) if isinstance(value, list) else value)


def privileges(grant: Grant) -> dict[str, Any]:
    """Return the form values of a grant that give more than others have."""
    fields = () if grant.manifest is None else grant.manifest.form
    given = ((field, grant.value(field.id)) for field in fields)
    return {field.id: jsonable(value) for field, value in given if value is not None and field.gives_privilege(value)}


def _removed_and_new(grants: Iterable[Change]) -> tuple[Counter[str], Counter[str]]:
    """Count the grants of each integration that would be revoked, and those that would be made or updated."""
    removed, new = Counter[str](), Counter[str]()
    for change in grants:
        leaving = change.leaving if change.kind is ChangeKind.REMOVED else None
        if change.applied is not None and change.applied.leaves_one:
            leaving = change.former
        removed[change.integration] += leaving == Leaving()
        makes = change.applied is not None and (change.applied.leaves_one or change.applied is Applied.UPDATED)
        new[change.integration] += change.kind is ChangeKind.ADDED or makes
    return +removed, +new


def held_offline(before: Desired, changes: Iterable[Change]) -> list[HeldOffline]:
    """List the integrations that the guard would hold by the settings before, counted from git alone."""
    removed, new = _removed_and_new(changes)
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
