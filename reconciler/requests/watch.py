"""Who follows a request on its way: whether it can have taken effect is not guessed from an error."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Watch"]


class Watch(Protocol):
    """Told how far a request got."""

    most: int
    """Bytes that are kept of its answer."""

    left: bool
    """Whether it began to leave."""

    def leaves(self) -> None:
        """Its next bytes are about to leave."""

    def has_left(self) -> None:
        """Nothing of it is left to send: an answer is waited for."""
