from __future__ import annotations

from tests.requests.conftest import anyio_backend

__all__ = ["anyio_backend"]
