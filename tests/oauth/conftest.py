"""The loopback server, the clients and the clock of the requests' tests."""

from __future__ import annotations

from tests.requests.conftest import anyio_backend, clock, connect, loopback, redactor

__all__ = ["anyio_backend", "clock", "connect", "loopback", "redactor"]
