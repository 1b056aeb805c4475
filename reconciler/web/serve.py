"""Serve an application beside a program that has its own loop and its own way to stop.

The server runs in its own thread and loop, so that it reports the health even when the program's loop is blocked. Work
of a route on the program's objects is wrapped in `in_this_loop`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any, ParamSpec, TypeVar

import uvicorn
from starlette.applications import Starlette

from reconciler.model.errors import ReconcilerError
from reconciler.web.bounds import bounded

__all__ = ["CannotListen", "in_this_loop", "serving"]

P = ParamSpec("P")
T = TypeVar("T")


class CannotListen(ReconcilerError):
    """The address of `listen` cannot be bound."""


class _Server(uvicorn.Server):
    """A server that does not handle signals: the program does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def in_this_loop(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap work so that it can be awaited in another loop, and runs in the one that calls this."""
    loop = asyncio.get_running_loop()

    async def from_there(*args: P.args, **given: P.kwargs) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(*args, **given), loop))

    return from_there


@asynccontextmanager
async def serving(application: Starlette, listen: str) -> AsyncIterator[str]:
    """Serve while the block runs; return the address, with the port that was chosen if `listen` has port 0.

    Raises CannotListen.
    """
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP by name: without it asyncio leaves Nagle's algorithm on, and each reply waits 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), int(port)))
    except OSError as error:
        bound.close()
        raise CannotListen(f"listen {listen}: {error.strerror}: free it, or set another `listen`") from error
    server = _Server(bounded(application))
    thread = Thread(target=server.run, args=([bound],), name="web", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"{host}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join)
        bound.close()
