"""Connections over real sockets, plain and encrypted: what is kept, what is thrown away, what is told of a request."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.requests.answer import LIMIT, Answer
from reconciler.requests.connections import Connections, NoAnswer, _tls
from reconciler.requests.url import Address
from tests.certificates import self_signed

HOST = "127.0.0.1"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.anyio


@dataclass
class Seen:
    """What a request's connection told of it, in order."""

    left: bool = False
    told: list[str] = field(default_factory=list)

    def leaves(self) -> None:
        self.left = True
        self.told.append("leaves")

    def has_left(self) -> None:
        self.told.append("has left")


@dataclass
class Server:
    """A server that answers each request with its body's length, and then does as it is told."""

    scheme: str
    port: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    length: int = 0
    after: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                lower = head.lower()
                size = int(lower.partition(b"content-length:")[2].split()[0]) if b"content-length:" in lower else 0
                await reader.readexactly(size)
                body = str(size).encode().ljust(self.length, b".")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
                if self.after:
                    await asyncio.sleep(0.01)
                    writer.write(self.after)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that the program trusts, for this machine."""
    file = self_signed(tmp_path, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    _tls.cache_clear()
    yield file
    _tls.cache_clear()


@pytest.fixture(params=["http", "https"])
async def server(request: pytest.FixtureRequest, certificate: Path) -> AsyncIterator[Server]:
    made = Server(request.param)
    context = None
    if made.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    listening = await asyncio.start_server(made.serve, HOST, 0, ssl=context)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


@asynccontextmanager
async def connected() -> AsyncIterator[Connections]:
    connections = Connections()
    yield connections
    await connections.aclose()


async def ask(connections: Connections, server: Server, content: bytes = b"", seen: Seen | None = None) -> Answer:
    address = Address(server.scheme, HOST, server.port, "/x")
    headers = [("Content-Length", str(len(content)))] if content else []
    async with asyncio.timeout(20):
        return await connections.exchange(address, "POST", headers, content, seen or Seen(), 10.0)


async def test_a_connection_is_used_again(server: Server) -> None:
    async with connected() as connections:
        for _ in range(5):
            assert (await ask(connections, server)).text == "0"
    assert server.connections == 1


async def test_side_by_side_each_has_its_own(server: Server) -> None:
    async with connected() as connections:
        answers = await asyncio.gather(*(ask(connections, server, bytes(number)) for number in range(20)))
        assert [answer.text for answer in answers] == [str(number) for number in range(20)]
    assert server.connections == 20


async def test_what_comes_unasked_is_nobodys_answer(server: Server) -> None:
    """A server that gives up on an idle connection may say so: that is not what the next request is answered with."""
    server.after = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate"
    async with connected() as connections:
        for times in (1, 2, 3):
            assert (await ask(connections, server)).text == "0"
            await asyncio.sleep(0.05)
            assert server.connections == times


async def test_an_end_that_only_the_system_knows_of_is_noticed() -> None:
    """The server has hung up, and this process had no time yet to hear of it."""
    go, over = threading.Event(), threading.Event()
    accepted = 0

    def serve(listening: socket.socket) -> None:
        nonlocal accepted
        for _ in range(2):
            line, _ = listening.accept()
            accepted += 1
            with line:
                line.recv(65536)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0")
                go.wait(5)
            over.set()

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        server = Server("http", listening.getsockname()[1])
        async with connected() as connections:
            for _ in range(2):
                go.clear()
                over.clear()
                assert (await ask(connections, server)).text == "0"
                go.set()
                assert over.wait(5)  # without the loop
        thread.join(5)
    assert accepted == 2


async def test_an_address_of_ipv6() -> None:
    """In brackets where it is written, without them where it is connected to."""
    server = Server("http")
    try:
        listening = await asyncio.start_server(server.serve, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    address = Address("http", "[::1]", listening.sockets[0].getsockname()[1], "/x")
    async with connected() as connections:
        answer = await connections.exchange(address, "GET", [], b"", Seen(), 10.0)
    listening.close()
    assert answer.text == "0"
    assert f"Host: [::1]:{address.port}".encode() in server.heads[0]


async def test_a_large_answer_is_read_up_to_the_limit(server: Server) -> None:
    server.length = 8 * LIMIT
    async with connected() as connections:
        answer = await ask(connections, server)
        assert (len(answer.content), answer.truncated) == (LIMIT, True)
        server.length = LIMIT
        answer = await ask(connections, server)
        assert (len(answer.content), answer.truncated) == (LIMIT, False)


async def test_a_large_request_leaves_whole_before_its_answer_is_waited_for(server: Server) -> None:
    seen = Seen()
    async with connected() as connections:
        assert (await ask(connections, server, bytes(5_000_000), seen)).text == "5000000"
    assert seen.told[0] == "leaves"
    assert "leaves" not in seen.told[seen.told.index("has left") :]


@pytest.mark.parametrize("server", ["https"], indirect=True)
async def test_a_certificate_that_nobody_vouches_for_is_refused_in_words(server: Server, monkeypatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    _tls.cache_clear()
    seen = Seen()
    async with connected() as connections:
        with pytest.raises(NoAnswer, match=r"no connection: .*certificate verify failed") as raised:
            await ask(connections, server, seen=seen)
    assert (raised.value.left, seen.told) == (False, [])


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "x..example"])
async def test_a_name_that_none_can_have_is_no_connection(host: str) -> None:
    async with connected() as connections:
        with pytest.raises(NoAnswer, match="no connection") as raised:
            await connections.exchange(Address("https", host, 443, "/"), "GET", [], b"", Seen(), 1.0)
    assert not raised.value.left


async def test_a_handshake_that_is_given_up_leaves_nothing_open(certificate: Path) -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100_000)
        await reader.read()  # nothing more, once the other side is gone
        ended.set()
        writer.close()

    listening = await asyncio.start_server(silent, HOST, 0)
    silence = Server("https", listening.sockets[0].getsockname()[1])
    async with connected() as connections:
        asking = asyncio.create_task(ask(connections, silence))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            await ended.wait()
    listening.close()
