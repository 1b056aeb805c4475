"""How a request travels: one `Transport` for each protocol, chosen by the scheme of the request's URL.

A transport says what a fault means. A connection that never opened has had no effect; one that broke after the request
left is an answer that never came. It is not guessed from the error: the request's `Watch` is notified right before the
first byte leaves.
"""

from __future__ import annotations

import asyncio
import os
import select
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from time import monotonic
from typing import Generic, Protocol, TypeVar

from reconciler.model.errors import TransportError
from reconciler.transports.address import Address
from reconciler.transports.messages import RenderedRequest, Response

T = TypeVar("T")
C = TypeVar("C")

BROKE = "the connection broke before a whole answer came"

KEPT_OPEN_SECONDS = 4.0
"""Seconds that an idle connection is kept. Many servers close one after five: what is sent just then would be lost."""


class Watch(Protocol):
    """Is notified how far a request got."""

    left: bool
    """Whether it began to leave."""

    def leaves(self) -> None:
        """The next bytes are about to leave. Raises LedgerError if they may not."""

    def has_left(self) -> None:
        """The request has left completely: the answer is awaited."""


class Transport(Protocol):
    """Carries the requests of one service over one protocol."""

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Send a request once to the address that its URL leads to, and return the answer.

        No await is between `watch.leaves` and the request's first byte. Cancelled at the timeout, it sends and keeps
        nothing more. Raises TransportError; `left` says whether the request can have taken effect.
        """

    async def aclose(self) -> None:
        """Close what is idle."""


class Idle(Generic[C]):
    """Connections that lie idle, by where they lead. The one that was used last is taken first."""

    def __init__(self, close: Callable[[C], None]) -> None:
        self._close = close
        self._kept: list[tuple[object, float, C]] = []

    def take(self, where: object) -> C | None:
        """Return a connection; close those that lay idle for too long."""
        now = monotonic()
        while self._kept and now - self._kept[0][1] > KEPT_OPEN_SECONDS:
            self._close(self._kept.pop(0)[2])
        for place in reversed(range(len(self._kept))):
            if self._kept[place][0] == where:
                return self._kept.pop(place)[2]
        return None

    def keep(self, where: object, connection: C) -> None:
        """Keep a connection for a while."""
        self._kept.append((where, monotonic(), connection))

    def close(self) -> None:
        """Close all of them."""
        while self._kept:
            self._close(self._kept.pop()[2])


async def in_thread(work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Return what a driver's call returns, or raise what it raises. Where this is cancelled, `abort` has to end it.

    Each call has a thread of its own, so that none that hangs can take another's place; how many there are at a time is
    the throttle's to bound. They are daemon threads: one that hangs keeps nobody from ending.
    """
    future = Future[T]()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001  it is raised where the work is awaited
            future.set_exception(error)

    Thread(target=run, daemon=True, name="transport").start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        abort()
        raise


def spoiled(descriptor: int) -> bool:
    """Whether the other side said something, or closed the connection, while it was idle."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def tls_context() -> ssl.SSLContext:
    """Make a TLS context that trusts the same `authorities`, which takes longer than connecting.

    Raises TransportError where they cannot be read.
    """
    import httpx

    try:
        return httpx.create_ssl_context()
    except OSError as error:
        why = f"no connection: SSL_CERT_FILE={authorities()[0]} cannot be read: {error.strerror}; name a file in PEM"
        raise TransportError(why, left=False) from None


def authorities() -> tuple[str | None, str | None]:
    """Return the file, or the folder, of the authorities that encrypted connections trust, over every protocol.

    They are certifi's, or those of SSL_CERT_FILE and SSL_CERT_DIR. No configuration file of a library counts.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or not folder:
        import certifi

        return file or certifi.where(), None
    return None, folder
