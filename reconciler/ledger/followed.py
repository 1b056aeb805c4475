"""What the history says of each grant, where files are renamed: two grants' lines may have one name now.

A file may be renamed to the stem of somebody who never got what there are lines of. So lines are followed under the
names that they were written with, and what is known moves on at the line of a rename.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

__all__ = ["Followed"]

State = TypeVar("State")


class Followed(Generic[State]):
    """What is known of each grant as lines are followed, oldest first, by the name that it has then."""

    def __init__(self) -> None:
        self._known: dict[str, State] = {}
        self._moving: dict[str, State | None] = {}

    def renamed(self, name: str, data: Mapping[str, Any] | None) -> State | None:
        """Take a rename to a name, by its line's data; return what moves, if anything is known of it."""
        said = data or {}
        if said.get("place") != len(self._moving):
            self._move()
        moved = self._known.pop(said.get("was", name), None)
        self._moving[name] = moved
        return moved

    def known(self) -> dict[str, State]:
        """Return what is known now, to read and to change."""
        self._move()
        return self._known

    def _move(self) -> None:
        """Give those that were renamed at once their new names, for they may swap them."""
        for name, moved in self._moving.items():
            self._known.pop(name, None)
            if moved is not None:
                self._known[name] = moved
        self._moving.clear()
