"""The interface for delivering messages, for notifications and alerts."""

from __future__ import annotations

from typing import Protocol

from reconciler.model.errors import ReconcilerError

__all__ = ["AlertMessenger", "Messenger", "NotSent"]


class NotSent(ReconcilerError):
    """A message could not be delivered; the text says why."""


class Messenger(Protocol):
    """Delivers messages. Raises NotSent."""

    async def email(self, to: str, subject: str, text: str) -> None:
        """Send an e-mail in plain text."""

    async def text(self, to: str, text: str) -> None:
        """Send a text message."""


class AlertMessenger(Messenger, Protocol):
    """Delivers alerts, and knows the secrets in a receiver's address. Raises NotSent."""

    async def filled(self, text: str) -> str:
        """Replace each `{{NAME}}` in a text of the settings by the program's own secret of that name."""
