"""What a pull request changes in manifests and settings, which name no grant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from reconciler.model.base import jsonable, spelled
from reconciler.model.settings import Settings
from reconciler.repository.files import Files

__all__ = ["ChangeKind", "compared_manifests", "compared_settings"]


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
    old, new = (dict(_flat(settings.model_dump())) for settings in (base, head))
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
