"""Follow a request while it is sent: whether it can have taken effect is known, not guessed."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Watch"]


class Watch(Protocol):
    """Is notified how far a request got."""

    most: int
    """Bytes that are kept of its answer."""

    left: bool
    """Whether it began to leave."""

    def leaves(self) -> None:
        """The next bytes are about to leave."""

    def has_left(self) -> None:
        """The request has left completely: the answer is awaited."""
