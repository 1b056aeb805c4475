"""Which program a name means: this machine says, never a commit.

So nothing within the checkout can be one, by a link either: neither the path as it is written nor any place that its
links lead through.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from reconciler.model.errors import UsageError

__all__ = ["named_programs", "passes_through"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
LINKS = 40


def named_programs(given: Iterable[str], root: Path) -> dict[str, Path]:
    """Read `NAME=PATH` of each program; `root` is the checkout's. Raises UsageError."""
    found: dict[str, Path] = {}
    for each in given:
        name, _, path = each.partition("=")
        if not _NAME.fullmatch(name) or not path:
            raise UsageError(f"--program {each}: write NAME=PATH, with letters, digits, `.`, `_` and `-` in the name")
        place = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  `resolve` would follow the links
        if found.setdefault(name, place) != place:
            raise UsageError(f"--program {name}: it is named twice, as {found[name]} and as {place}")
        if passes_through(place, root):
            raise UsageError(f"--program {name}: {place} is within the checkout, where a commit could change it")
    return found


def passes_through(path: Path, root: Path) -> bool:
    """Whether a path is within a folder, or one of its links leads through it."""
    root = root.resolve()
    here, left, links = Path(path.anchor), list(reversed(path.parts[1:])), 0
    while left:
        here = here.parent if (part := left.pop()) == ".." else here / part
        if here.is_relative_to(root):
            return True
        if here.is_symlink() and links < LINKS:
            links += 1
            target = here.readlink()
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path(target.anchor) if target.is_absolute() else here.parent
    return False
