"""Serving an application inside a program that has a loop of its own and its own way to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from reconciler.model.errors import ReconcilerError

__all__ = ["CannotListen", "serving"]


class CannotListen(ReconcilerError):
    """The address of `listen` cannot be had."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off")
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"{host}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        bound.close()
