"""What a pull request changes in manifests and settings, which name no grant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from reconciler.model.base import jsonable, spelled
from reconciler.model.manifest import Manifest
from reconciler.model.settings import Settings
from reconciler.repository.files import Files

__all__ = ["ChangeKind", "compared_manifests", "compared_parts", "compared_settings"]


class ChangeKind(StrEnum):
    """How something changes."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


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
    return _different(*(dict(_flat(settings.model_dump())) for settings in (base, head)))


def compared_parts(base: Manifest, head: Manifest) -> dict[str, tuple[Any, Any]]:
    """Return the parts of a manifest that differ, such as `execute.0.url`, with their values before and after.

    A request that one of them does not have is one part.
    """
    old, new = (manifest.model_dump(exclude_defaults=True) for manifest in (base, head))
    return _different(*(dict(_parts(each, other)) for each, other in ((old, new), (new, old))))


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


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [*old, *(name for name in new if name not in old)]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _flat(keys: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten settings to dotted keys and JSON values."""
    for key, value in keys.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", _as_written(value)


def _as_written(value: Any) -> Any:
    """Write a duration with its unit, and a whole number without a fraction."""
    if isinstance(value, timedelta):
        return spelled(value)
    return int(value) if isinstance(value, float) and value.is_integer() else jsonable(value)
