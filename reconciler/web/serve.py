"""Serving an application beside a program that has a loop of its own and its own way to stop.

The server has a thread of its own, and a loop in it: whoever asks for the health is answered also where the program's
loop stands still, which is when it matters. What a route does with the program's own things it does `here`.
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

__all__ = ["CannotListen", "here", "serving"]

P = ParamSpec("P")
T = TypeVar("T")


class CannotListen(ReconcilerError):
    """The address of `listen` cannot be had."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def here(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Work to be awaited in the server's loop that is done in the loop that calls this."""
    loop = asyncio.get_running_loop()

    async def from_there(*args: P.args, **given: P.kwargs) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(*args, **given), loop))

    return from_there


@asynccontextmanager
async def serving(application: Starlette, listen: str) -> AsyncIterator[str]:
    """Serve while the block runs; gives the address, with the port that was taken where `listen` says port 0.

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
