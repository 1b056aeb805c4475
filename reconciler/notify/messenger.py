"""Handing a message over, as notifications and alerts ask for it."""

from __future__ import annotations

from typing import Protocol

from reconciler.model.errors import ReconcilerError

__all__ = ["Messenger", "NotSent"]


class NotSent(ReconcilerError):
    """A message could not be handed over; the text says why."""


class Messenger(Protocol):
    """Hands messages over. Raises NotSent."""

    async def email(self, to: str, subject: str, text: str) -> None:
        """Send an e-mail in plain text."""

    async def text(self, to: str, text: str) -> None:
        """Send a text message."""
