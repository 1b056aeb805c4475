"""Parse versions of hires' and sequences' files entry by entry, to compare them.

Files of any age are read, those too that today's models would refuse: only what the YAML says counts, and comments,
order and layout do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from reconciler.model.hire import EXTRA
from reconciler.model.value import Frozen
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import read


class Part(StrEnum):
    """The parts of a file that can give a grant."""

    ENTRY = "entry"
    """An access entry, of a hire or of a sequence; a line of a review."""
    NAMES = "names"
    """A hire's line that names a sequence."""
    FIELDS = "fields"
    """A hire's fields that a sequence's `assign` matches."""
    ASSIGN = "assign"
    """A sequence's `assign`."""
    INCLUDES = "includes"
    """A sequence's line that includes another."""
    WITHOUT = "without"
    """That a hire does not do without an entry of its sequences."""


class FileVersion(Frozen):
    """One version of a hire's or a sequence's file, or of a review, which has entries alone.

    By its person's address, `email`, it is followed to another name; empty for none.
    """

    email: str = ""
    entries: Mapping[str, Any] = {}
    sequences: frozenset[str] = frozenset()
    fields: Mapping[str, Any] = {}
    assign: Any = None
    included: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    def value(self, part: Part, name: str | tuple[str, ...]) -> Any:
        """Return the value of one part; None if it has none."""
        match part:
            case Part.ENTRY:
                return self.entries.get(str(name))
            case Part.NAMES:
                return name in self.sequences or None
            case Part.FIELDS:
                return [self._field(each) for each in name]
            case Part.ASSIGN:
                return self.assign
            case Part.INCLUDES:
                return name in self.included or None
            case Part.WITHOUT:
                return name not in self.without or None

    def _field(self, name: str) -> Any:
        extra = self.fields.get("extra")
        if name.startswith(EXTRA):
            return extra.get(name.removeprefix(EXTRA)) if isinstance(extra, dict) else None
        return self.fields.get(name)


def parse_version(raw: bytes, path: str) -> FileVersion | None:
    """Parse one version of a file; None if it cannot be read."""
    try:
        data = read(raw, path).data
    except BrokenFile:
        return None
    if not isinstance(data, dict):
        return None
    if path.startswith("config/requests/"):
        return FileVersion(entries={PurePosixPath(path).stem: data})
    access = data.get("access")
    entries = (_entry(item) for item in access) if isinstance(access, list) else ()
    return FileVersion(
        email=str(data.get("email", "")).lower(),
        entries={name: entry for name, entry in entries if name is not None},
        sequences=_names(data.get("sequences")),
        fields=data,
        assign=data.get("assign"),
        included=_names(data.get("include")),
        without=_names(data.get("without")),
    )


def _names(listed: Any) -> frozenset[str]:
    return frozenset(map(str, listed)) if isinstance(listed, list) else frozenset()


def _entry(item: Any) -> tuple[str | None, Any]:
    entry = {"integration": item} if isinstance(item, str) else item
    if not isinstance(entry, dict):
        return None, None
    name = entry.get("name") or entry.get("integration")
    return (None if name is None else str(name)), entry
