"""How a request travels: one `Transport` for each protocol, chosen by the scheme of the request's URL.

A transport says what a fault means. A connection that never opened has had no effect; one that broke after the request
left is an answer that never came. It is not guessed from the error: the request's `Watch` is notified right before the
first byte leaves.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Protocol, TypeVar

from reconciler.model.errors import TransportError
from reconciler.transports.address import Address
from reconciler.transports.messages import RenderedRequest, Response

if TYPE_CHECKING:
    import ssl

__all__ = ["BROKE", "Transport", "Watch", "authorities", "in_thread", "spoiled", "tls_context"]

T = TypeVar("T")

BROKE = "the connection broke before a whole answer came"


class Watch(Protocol):
    """Is notified how far a request got."""

    most: int
    """Bytes that are kept of its answer."""

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
