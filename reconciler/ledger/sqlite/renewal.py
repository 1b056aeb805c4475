"""The lock of a token that is renewed, of a state in a SQLite file.

A refresh token may serve once: two processes that spend it at the same time lose the connection. An import renews
tokens beside the process that has locked the state, so each renewal has a lock of its own, which all processes take.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from reconciler.ledger.sqlite.lock import AGAIN_SECONDS, open_lock, try_lock
from reconciler.model.errors import TransportError

__all__ = ["renewal_lock"]

PATIENCE = timedelta(seconds=30)
"""How long to wait for another process: as long as a request may take by default."""


@asynccontextmanager
async def renewal_lock(state: Path, name: str) -> AsyncIterator[None]:
    """Be the only process that renews the tokens of this name while the block runs.

    Raises TransportError if another one does for longer than `PATIENCE`.
    """
    descriptor = open_lock(state.with_name(f"{state.name}.{sha256(name.encode()).hexdigest()[:16]}.lock"))
    try:
        last = time.monotonic() + PATIENCE.total_seconds()
        while not try_lock(descriptor):
            if time.monotonic() > last:
                raise TransportError("another process has been renewing it for too long", left=False)
            await asyncio.sleep(AGAIN_SECONDS)
        yield
    finally:
        os.close(descriptor)
