"""The bytes of one connection, on asyncio's own transports: made, encrypted, read and sent, and thrown away.

Every fault is an OSError with a message: asyncio itself errs where TLS that runs within a proxy's TLS breaks.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.transports.transport import spoiled

AHEAD_BYTES = 256 * 1024
"""Bytes that may have come and wait to be read, before no more are taken from the system."""

NEXT_ADDRESS_SECONDS = 0.25
"""Seconds after which a host's next address is tried beside the one that does not answer (RFC 8305)."""

CLOSED = "the other side closed it"

_BUGS = (AttributeError, AssertionError, RuntimeError, TypeError)


class Pipe(asyncio.Protocol):
    """A connection. `unread` is what came and was not read yet; once it is `over`, no more will."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.unread = bytearray()
        self.over = False
        self._broke: str | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._reader: asyncio.Future[None] | None = None
        """Who waits for more."""

    @classmethod
    async def connect(cls, host: str, port: int) -> Pipe:
        """Connect to a host, at whichever of its addresses answers first. Raises OSError."""
        literal = host[-1:].isdigit() or ":" in host
        with _in_words():
            _, pipe = await asyncio.get_running_loop().create_connection(
                cls, host, port, happy_eyeballs_delay=None if literal else NEXT_ADDRESS_SECONDS
            )
        return pipe

    async def encrypt(self, context: ssl.SSLContext, name: str | None) -> None:
        """Encrypt from here on; `name` is whose certificate is wanted. Raises OSError."""
        try:
            with _in_words():
                if self.unread:  # it would be read later on as if it had come encrypted
                    raise ConnectionError("something came that was not asked for, before anything was encrypted")
                loop = asyncio.get_running_loop()
                with self._may_be_gone():
                    encrypted = await loop.start_tls(self.transport, self, context, server_hostname=name)
                if encrypted is None:
                    raise ConnectionError(CLOSED)
        except BaseException:
            self.close()
            raise
        self.transport = encrypted

    async def read(self, most: int) -> bytes:
        """What came, so many bytes at most; nothing at the end. Raises OSError where the end is none."""
        if len(self.unread) > most:
            await asyncio.sleep(0)  # let other tasks run between large reads; after the last one more is waited for
        elif not (self.unread or self.over):
            await self.more()
        data = bytes(self.unread[:most])
        self.take(len(data))
        if not data and self._broke is not None:
            raise ConnectionError(self._broke)
        return data

    async def more(self) -> None:
        """Wait until more has come than is unread, or the end."""
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    def take(self, count: int) -> None:
        """Take this many bytes off what is unread."""
        del self.unread[:count]
        if len(self.unread) <= AHEAD_BYTES:
            self.transport.resume_reading()

    async def write(self, data: bytes) -> None:
        """Send, and wait until there is room for more. Raises OSError."""
        if self.over:
            raise ConnectionError(CLOSED)
        try:
            self.transport.write(data)
        except (OSError, ValueError, *_BUGS):
            with _in_words(), self._may_be_gone():
                raise
        if not self._room.is_set():
            await self._room.wait()

    @contextmanager
    def _may_be_gone(self) -> Iterator[None]:
        """Asyncio errs like a bug where TLS breaks within a proxy's TLS; on a connection that stands it is one."""
        try:
            yield
        except _BUGS:
            if not self._gone:
                raise
            raise ConnectionError(CLOSED) from None

    @property
    def _gone(self) -> bool:
        socket = self.transport.get_extra_info("socket")
        return self.over or self.transport.is_closing() or socket is None or socket.fileno() < 0

    @property
    def ended(self) -> str:
        """How the connection ended, in the words of the system or of TLS where they have any."""
        return self._broke or CLOSED

    @property
    def spoiled(self) -> bool:
        """Whether something came that nobody asked for, the end included; the system may know of it already."""
        if self.unread or self._gone:
            return True
        return spoiled(self.transport.get_extra_info("socket").fileno())

    def close(self) -> None:
        """Close at once, whatever the other side does."""
        self.transport.abort()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self.unread += data
        self._wake()
        if len(self.unread) > AHEAD_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> None:
        """Nothing more will come."""
        encrypted = self.transport.get_extra_info("ssl_object")
        if encrypted is not None:
            try:
                self.unread += encrypted.read(1)
            except ssl.SSLError:  # somebody ended the connection, and not the other side its stream: RFC 8446, 6.1
                self._broke = "TLS was cut off"
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if not self.over:
            self._broke = None if exc is None else str(exc) or CLOSED
        self._end()

    def _end(self) -> None:
        self.over = True
        self._wake()
        self._room.set()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def pause_writing(self) -> None:
        """The other side takes no more for now."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It takes more again."""
        self._room.set()


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if str(error):
            raise
        raise ConnectionError(CLOSED) from error
    except ValueError as error:  # a name that none can be
        raise ConnectionError(str(error)) from error
