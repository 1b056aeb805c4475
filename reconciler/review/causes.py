"""What the changes of a pull request come from: one cause for each file, sequence, condition or field that changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from reconciler.model.base import jsonable
from reconciler.model.condition import value_of
from reconciler.model.grant import Grant
from reconciler.model.manifest import Manifest
from reconciler.model.settings import Settings
from reconciler.model.text import Spoken
from reconciler.model.value import Frozen, fields
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files

WITHOUT_GRANTS = (
    "listen",
    "public_url",
    "smtp",
    "twilio",
    "alerts",
    "pages",
    "state",
    "fail_stale",
    "checkpoints",
    "forge",
)
"""The settings that concern no grant."""


class ChangeKind(StrEnum):
    """How something changes."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class CauseKind(Spoken):
    """What changed, and how it is said before its name."""

    FIELDS = "fields"
    """Fields of hires, so that a condition holds for them or no longer does, or that requests use."""
    SEQUENCE = "sequence", "sequence "
    """An entry of a sequence."""
    CONDITION = "condition", "who is meant by sequence "
    """A sequence's `assign`."""
    INCLUDE = "include", "what is included in sequence "
    MANIFEST = "manifest", "manifest "
    SETTINGS = "settings", "setting "
    HIRE = "hire", "file of "
    """A hire's file: it is new or gone, its own entries, or the sequences that it names."""
    REQUEST = "request", "request "


class Cause(Frozen):
    """One thing that changed, in which file; None where it is in several.

    A hire's file may be new or gone, or renamed with another address.
    """

    kind: CauseKind
    what: str
    file: str | None
    change: ChangeKind = ChangeKind.CHANGED
    renamed: bool = False


@dataclass(slots=True, kw_only=True)
class Consequence:
    """What follows from a cause: how many gain and lose what through it, whom it concerns, and how many grants.

    `revoked` are those of `removed` that are not only reported. `parts` are what a manifest's file changes, with the
    values before and after.
    """

    cause: Cause
    people: set[str] = field(default_factory=set)
    added: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    revoked: Counter[str] = field(default_factory=Counter)
    grants: int = 0
    parts: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            **fields(self.cause, "kind", "what", "file"),
            "people": len(self.people),
            "added": dict(sorted(self.added.items())),
            "removed": dict(sorted(self.removed.items())),
            "grants": self.grants,
            "parts": {name: list(pair) for name, pair in self.parts.items()},
        }


class Causes:
    """Finds the nearest cause of each grant that differs between two revisions."""

    def __init__(self, before: Desired, after: Desired) -> None:
        self._before = before
        self._after = after

    def of(self, was: Grant | None, now: Grant | None) -> Cause:
        """Return the nearest cause of a grant that is removed (without `now`), added (without `was`) or changed."""
        if was is not None and now is not None:
            return self._of_change(was, now)
        here, there, grant = (self._after, self._before, now) if was is None else (self._before, self._after, was)
        assert grant is not None
        hire = grant.key.hire
        if hire not in there.hires:
            return self._of_file(hire, here, there)
        if grant.requested is not None:
            return _of_request(grant, here)
        own = Cause(CauseKind.HIRE, hire, here.hires[hire].path)
        if grant.origin is None:
            return own
        of_sequence = self._of_entry(grant, there)
        return of_sequence or self._of_giving(hire, grant.origin, here, there) or own

    def _of_file(self, hire: str, here: Desired, there: Desired) -> Cause:
        """Return the cause where a hire's file is new or gone: of one that was renamed, with another address, both."""
        pair = self._renamed.get(hire)
        if pair is None:
            new_or_gone = ChangeKind.ADDED if here is self._after else ChangeKind.REMOVED
            change = ChangeKind.CHANGED if hire in there.hires.index else new_or_gone  # it could not be read
            return Cause(CauseKind.HIRE, hire, here.hires[hire].path, change)
        return Cause(CauseKind.HIRE, " → ".join(pair), self._after.hires[pair[1]].path, renamed=True)

    @cached_property
    def _renamed(self) -> dict[str, tuple[str, str]]:
        """The hires whose file is gone and stands under another name, with another address: it has the same name."""
        gone = self._before.hires.keys() - self._after.hires.keys() - self._after.broken_hires.keys()
        new = self._after.hires.keys() - self._before.hires.keys() - self._before.broken_hires.keys()
        olds, news = _by_name(gone, self._before), _by_name(new, self._after)
        pairs = [(olds[name], news[name]) for name in olds.keys() & news.keys()]
        return {hire: pair for pair in pairs for hire in pair}

    def _of_change(self, was: Grant, now: Grant) -> Cause:
        hire = now.key.hire
        path = self._after.hires[hire].path
        if was.key == now.key and was.origin == now.origin and _entry(self._before, was) == _entry(self._after, now):
            return Cause(CauseKind.FIELDS, hire, path)
        if now.origin is None or was.origin is None or was.key != now.key:
            return Cause(CauseKind.HIRE, hire, path) if now.requested is None else _of_request(now, self._after)
        if was.origin == now.origin:
            return Cause(CauseKind.SEQUENCE, now.origin, self._after.files.sequences[now.origin].path)
        return self._of_giving(hire, now.origin, self._after, self._before) or Cause(CauseKind.HIRE, hire, path)

    def _of_entry(self, grant: Grant, there: Desired) -> Cause | None:
        """Return the sequence where its own entry is new, or gone."""
        assert grant.origin is not None
        other = there.files.sequences.get(grant.origin)
        if other is not None and any(entry.access == grant.key.access for entry in other.model.access):
            return None
        here = self._after.files.sequences.get(grant.origin) or self._before.files.sequences[grant.origin]
        return Cause(CauseKind.SEQUENCE, grant.origin, here.path)

    def _of_giving(self, hire: str, sequence: str, here: Desired, there: Desired) -> Cause | None:
        """Return why a hire has a sequence at one revision and not at the other; None for the hire's own file."""
        if sequence in there.entries.sequences_of(hire):
            return None
        while (includer := here.entries.includer(hire, sequence)) is not None:
            other = there.files.sequences.get(includer)
            if (
                other is not None
                and sequence not in other.model.include
                and includer in there.entries.sequences_of(hire)
            ):
                return Cause(CauseKind.INCLUDE, includer, here.files.sequences[includer].path)
            sequence = includer
        named = here.hires.file(hire)
        if named is not None and sequence in named.sequences:
            return None
        return self._of_condition(hire, sequence)

    def _of_condition(self, hire: str, sequence: str) -> Cause | None:
        sides = [desired.files.sequences.get(sequence) for desired in (self._before, self._after)]
        conditions = [None if side is None else side.model.assign for side in sides]
        if conditions[0] != conditions[1]:
            path = next(side.path for side in reversed(sides) if side is not None)
            return Cause(CauseKind.CONDITION, sequence, path)
        old, new = self._before.hires[hire].model, self._after.hires[hire].model
        names = conditions[1].fields if conditions[1] is not None else ()
        steps = [
            f"{name} {_shown(old, name)} → {_shown(new, name)}"
            for name in names
            if value_of(old, name) != value_of(new, name)
        ]
        return Cause(CauseKind.FIELDS, ", ".join(steps), None) if steps else None


def _by_name(hires: Iterable[str], desired: Desired) -> dict[str, str]:
    """Map each full name that one of these hires has to the hire."""
    names = Counter[str]()
    found = {}
    for hire in sorted(hires):
        name = desired.hires[hire].model.full_name.casefold()
        names[name] += 1
        found[name] = hire
    return {name: hire for name, hire in found.items() if name and names[name] == 1}


def _entry(desired: Desired, grant: Grant) -> object:
    """Return what gives a grant: an entry of a sequence's or a hire's file, or a request as a whole."""
    asked = grant.requested is not None
    return desired.files.requests[grant.key.access].model if asked else desired.entries.giving(grant)


def _of_request(grant: Grant, here: Desired) -> Cause:
    return Cause(CauseKind.REQUEST, grant.key.access, here.files.requests[grant.key.access].path)


def _shown(hire: Any, name: str) -> str:
    value = hire.extra.get(name.removeprefix("extra.")) if name.startswith("extra.") else getattr(hire, name)
    return "none" if value is None else str(getattr(value, "hire", jsonable(value)))


def touched_by(
    before: Desired, after: Desired, manifests: Collection[str], settings: Mapping[str, tuple[Any, Any]]
) -> Iterator[Consequence]:
    """Yield the manifests and settings that changed, with how many grants each touches."""
    about = {name: _about(name, after) for name in settings}
    touched = _touched(after, {*manifests, *filter(None, about.values())}, everything="" in about.values())
    for name in sorted(manifests):
        old, new = before.files.manifests[name], after.files.manifests[name]
        parts = _compared_parts(old.model, new.model)
        named = ", ".join(dict.fromkeys(part.partition(".")[0] for part in parts))
        cause = Cause(CauseKind.MANIFEST, f"{name}: {named}", new.path)
        people, grants = touched.get(name, (set(), 0))
        yield Consequence(cause=cause, people=people, grants=grants, parts=parts)
    for name, pair in settings.items():
        old_value, new_value = ("nothing" if value is None else str(value) for value in pair)
        cause = Cause(CauseKind.SETTINGS, f"{name}: {old_value} → {new_value}", "config/reconciler.yaml")
        people, grants = touched.get(about[name], (set(), 0))
        yield Consequence(cause=cause, people=people, grants=grants)


def _about(setting: str, after: Desired) -> str | None:
    """Return the integration whose grants a setting concerns, "" for all of them, None for no grant."""
    name, _, part = setting.partition(".")
    if name in WITHOUT_GRANTS:
        return None
    return part if name == "prune" and part in after.files.manifests else ""


def _touched(after: Desired, named: Collection[str], *, everything: bool) -> dict[str | None, tuple[set[str], int]]:
    """Count the people and grants of each of these integrations, and of all under ""."""
    people: dict[str, set[str]] = defaultdict(set)
    grants = Counter[str]()
    for hire in after.hires if named or everything else ():
        if not everything and set(named).isdisjoint(after.integrations(hire)):
            continue
        for grant in after.grants(hire, once=True):
            for name in ("", *({grant.integration} & {*named})):
                people[name].add(hire)
                grants[name] += 1
    return {name: (people[name], grants[name]) for name in people}


def compared_manifests(base: Files, head: Files) -> dict[ChangeKind, list[str]]:
    """List the integrations whose manifest differs; one that is broken on either side is a problem instead."""
    old = {name: loaded.model for name, loaded in base.manifests.items()}
    new = {name: loaded.model for name, loaded in head.manifests.items()}
    return {
        ChangeKind.ADDED: sorted(new.keys() - old.keys() - base.broken["manifests"].keys()),
        ChangeKind.CHANGED: sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
        ChangeKind.REMOVED: sorted(old.keys() - new.keys() - head.broken["manifests"].keys()),
    }


def compared_settings(base: Settings, head: Settings) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted name, with their values before and after."""
    return different(*(dict(_flat(settings.model_dump())) for settings in (base, head)))


def _compared_parts(base: Manifest, head: Manifest) -> dict[str, tuple[Any, Any]]:
    """Return the parts of a manifest that differ, such as `execute.0.url`, with their values before and after.

    A request that one of them does not have is one part.
    """
    old, new = (manifest.model_dump(exclude_defaults=True) for manifest in (base, head))
    return different(*(dict(_parts(each, other)) for each, other in ((old, new), (new, old))))


def _parts(value: Any, other: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten what differs from the other as far as both are maps or lists."""
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(value, dict) and isinstance(other, dict):
        pairs, there = value.items(), other
    elif isinstance(value, list) and isinstance(other, list):
        pairs, there = enumerate(value), dict(enumerate(other))
    else:
        yield above.removesuffix("."), jsonable(value)
        return
    for key, each in pairs:
        if key not in there or each != there[key]:
            yield from _parts(each, there.get(key), f"{above}{key}.")


def different(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values before and after of the names that differ."""
    names = [*old, *(name for name in new if name not in old)]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _flat(keys: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten settings to dotted keys and JSON values."""
    for key, value in keys.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            whole = isinstance(value, float) and value.is_integer()  # written without a fraction
            yield f"{above}{key}", int(value) if whole else jsonable(value)
