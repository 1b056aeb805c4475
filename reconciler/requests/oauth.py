"""A service's OAuth connection, as checks and attempts use it."""

from __future__ import annotations

from typing import Protocol

from reconciler.model.scope import Layer

__all__ = ["Connection"]


class Connection(Protocol):
    """A service's tokens."""

    def layer(self) -> Layer | None:
        """The stored reply as the variables `oauth.*`; None where the service is not connected."""

    async def fresh(self) -> Layer | None:
        """The layer after a refresh where less than a minute is left; None where nothing changed.

        Raises RequestFailed where the token has expired and cannot be refreshed.
        """

    async def renewed(self) -> Layer:
        """The layer after the service refused the token: refreshed once.

        Raises RequestFailed, with "connect again", where it cannot be.
        """
