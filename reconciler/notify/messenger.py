"""Handing a message over, as notifications and alerts ask for it."""

from __future__ import annotations

from typing import Protocol

from reconciler.model.errors import ReconcilerError

__all__ = ["AlertMessenger", "Messenger", "NotSent"]


class NotSent(ReconcilerError):
    """A message could not be handed over; the text says why."""


class Messenger(Protocol):
    """Hands messages over. Raises NotSent."""

    async def email(self, to: str, subject: str, text: str) -> None:
        """Send an e-mail in plain text."""

    async def text(self, to: str, text: str) -> None:
        """Send a text message."""


class AlertMessenger(Messenger, Protocol):
    """Hands alerts over, and knows what is secret in a receiver's address. Raises NotSent."""

    async def filled(self, text: str) -> str:
        """A text of the settings with each `{{NAME}}` replaced by the program's own secret of that name."""
