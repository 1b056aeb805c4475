"""Http over real sockets, plain and encrypted: what is kept, what is thrown away, what is told of a request."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from httptools import HttpResponseParser

from reconciler.engine.context import SystemClock
from reconciler.model.errors import TransportError
from reconciler.transports.address import Address
from reconciler.transports.http.direct import Direct, _Reading
from reconciler.transports.http.pipe import Pipe
from reconciler.transports.http.transport import Http, _tls
from reconciler.transports.messages import LIMIT, RenderedRequest, Response
from reconciler.transports.transport import Idle
from tests.certificates import self_signed
from tests.servers import PATIENCE

HOST = "127.0.0.1"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.anyio


@dataclass
class Seen:
    """What a request's connection told of it, in order."""

    most: int = LIMIT
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
    instead: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    length: int = 0
    after: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.heads.append(head)
            lower = head.lower()
            size = int(lower.partition(b"content-length:")[2].split()[0]) if b"content-length:" in lower else 0
            await reader.readexactly(size)
            if self.instead:
                writer.write(self.instead.pop(0))
                continue
            body = str(size).encode().ljust(self.length, b".")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            if self.after:
                await asyncio.sleep(0.01)
                writer.write(self.after)


@asynccontextmanager
async def listening(serve: Serve, certificate: Path | None = None, host: str = HOST) -> AsyncIterator[int]:
    """The port on which somebody is served; encrypted, where there is a certificate."""
    under_way: set[asyncio.Task[None] | None] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(served, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in under_way:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])


@asynccontextmanager
async def in_a_thread(serve: Callable[[socket.socket], None]) -> AsyncIterator[int]:
    """The port of a server that goes on while this loop stands still."""
    with socket.create_server((HOST, 0)) as waiting:
        thread = threading.Thread(target=serve, args=(waiting,), daemon=True)
        thread.start()
        yield waiting.getsockname()[1]
        await asyncio.to_thread(thread.join, PATIENCE)


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
    async with listening(made.serve, certificate if made.scheme == "https" else None) as made.port:
        yield made


@asynccontextmanager
async def connected() -> AsyncIterator[Http]:
    connections = Http(SystemClock(), 12.5)
    yield connections
    await connections.aclose()


async def fail(connections: Http, server: Server) -> TransportError:
    with pytest.raises(TransportError) as raised:
        await ask(connections, server)
    return raised.value


async def ask(
    connections: Http,
    server: Server,
    content: bytes = b"",
    seen: Seen | None = None,
    *,
    method: str = "POST",
) -> Response:
    async with asyncio.timeout(PATIENCE):
        return await send(connections, Address(server.scheme, HOST, server.port, "/x"), method, content, seen)


async def send(
    connections: Http, address: Address, method: str = "GET", content: bytes = b"", seen: Seen | None = None
) -> Response:
    request = RenderedRequest(method, "", "", content=content)
    return await connections.send(request, address, seen or Seen())


async def test_a_connection_is_used_again(server: Server) -> None:
    async with connected() as connections:
        for _ in range(5):
            assert (await ask(connections, server)).text == "0"
    assert server.connections == 1


async def test_nothing_of_an_answer_is_left_to_the_garbage_collector(server: Server) -> None:
    async with connected() as connections:
        gc.collect()
        gc.disable()
        try:
            assert (await ask(connections, server)).text == "0"
            left = [each for each in gc.get_objects() if isinstance(each, _Reading | HttpResponseParser)]
        finally:
            gc.enable()
    assert left == []


async def test_side_by_side_each_has_its_own(server: Server) -> None:
    async with connected() as connections:
        answers = await asyncio.gather(*(ask(connections, server, bytes(number)) for number in range(20)))
        assert [answer.text for answer in answers] == [str(number) for number in range(20)]
    assert server.connections == 20


async def test_unrequested_answer_is_rejected(server: Server) -> None:
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
                go.wait(PATIENCE)
            over.set()

    async with in_a_thread(serve) as port, connected() as connections:
        for _ in range(2):
            go.clear()
            over.clear()
            assert (await ask(connections, Server("http", port))).text == "0"
            go.set()
            assert over.wait(PATIENCE)  # without the loop
    assert accepted == 2


async def test_an_address_of_ipv6() -> None:
    """In brackets where it is written, without them where it is connected to."""
    server = Server("http")
    try:
        async with listening(server.serve, host="::1") as port, connected() as connections:
            address = Address("http", "[::1]", port, "/x")
            answer = await send(connections, address)
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert answer.text == "0"
    assert f"Host: [::1]:{port}".encode() in server.heads[0]


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


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("no certificate", "NO_CERTIFICATE")])
async def test_authorities_that_cannot_be_read_are_named(monkeypatch, tmp_path, content: str | None, says: str) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    _tls.cache_clear()
    async with connected() as connections:
        with pytest.raises(TransportError) as raised:
            await send(connections, Address("https", HOST, 443, "/"))
    _tls.cache_clear()
    assert str(raised.value).startswith(f"no connection: SSL_CERT_FILE={file} cannot be read: ")
    assert says in str(raised.value)
    assert not raised.value.left


@pytest.mark.parametrize("server", ["https"], indirect=True)
async def test_untrusted_certificate_is_refused_with_a_plain_error(server: Server, monkeypatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    _tls.cache_clear()
    seen = Seen()
    async with connected() as connections:
        with pytest.raises(TransportError, match=r"no connection: .*certificate verify failed") as raised:
            await ask(connections, server, seen=seen)
    assert (raised.value.left, seen.told) == (False, [])


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "x..example"])
async def test_a_name_that_none_can_have_is_no_connection(host: str) -> None:
    async with connected() as connections:
        with pytest.raises(TransportError, match="no connection") as raised:
            await send(connections, Address("https", host, 443, "/"))
    assert not raised.value.left


async def test_a_handshake_that_is_given_up_leaves_nothing_open(certificate: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100_000)
        begun.set()
        await reader.read()  # nothing more, once the other side is gone
        ended.set()

    async with listening(silent) as port, connected() as connections:
        asking = asyncio.create_task(ask(connections, Server("https", port)))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await ended.wait()


# What does not belong to an answer


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
async def test_bytes_past_an_answer_are_not_the_next_answer(server: Server, status: str) -> None:
    length = "" if status.startswith("204") else "Content-Length: 0\r\n"
    stale = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    server.instead = [f"HTTP/1.1 {status}\r\n{length}\r\n{stale}".encode()]
    async with connected() as connections:
        assert (await ask(connections, server)).content == b""
        assert (await ask(connections, server)).text == "0"
    assert server.connections == 2


async def test_a_body_after_the_answer_to_head_is_not_the_next_ones(server: Server) -> None:
    server.instead = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"]
    async with connected() as connections:
        assert (await ask(connections, server, method="HEAD")).content == b""
        assert (await ask(connections, server)).text == "0"


@pytest.mark.parametrize("ends", [True, False])
async def test_bytes_before_a_request_are_not_its_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, ends: bool
) -> None:
    """Something comes between two requests, before the second is sent: that one goes over another connection."""
    take = Idle.take

    def taken(self: Idle[Direct], origin: tuple[str, str, int]) -> object:
        way = take(self, origin)
        if way is not None:
            server.writers[0].write(b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\nforeign")
            if ends:
                server.writers[0].close()
        return way

    monkeypatch.setattr(Idle, "take", taken)
    async with connected() as connections:
        assert (await ask(connections, server)).text == "0"
        await asyncio.sleep(0.02)
        assert (await ask(connections, server)).text == "0"
    assert len(server.heads) == server.connections == 2


async def test_early_refusal_is_read() -> None:
    """And not waited for until the server takes the rest, which it never does."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(b"HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno")
        writer.write_eof()
        await refused.wait()

    refused = asyncio.Event()
    async with listening(refuse) as port, connected() as connections:
        answer = await ask(connections, Server("http", port), bytes(20_000_000))
        refused.set()
    assert answer.status == 413


@pytest.mark.parametrize("goodbye", [True, False])
async def test_an_encrypted_answer_that_only_the_end_ends_wants_a_goodbye(certificate: Path, *, goodbye: bool) -> None:
    """Without TLS's own, anybody on the way could have cut it off."""

    def serve(listening: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with listening.accept()[0] as plain:
            line = context.wrap_socket(plain, server_side=True)
            line.recv(65536)
            line.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            if goodbye:
                with suppress(OSError):
                    line.unwrap()
            line.close()

    async with in_a_thread(serve) as port, connected() as connections:
        if goodbye:
            assert (await ask(connections, Server("https", port))).text == "half"
        else:
            assert (await fail(connections, Server("https", port))).left


async def test_an_answer_that_only_the_end_ends_is_not_whole_where_the_connection_breaks() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await more.wait()
        if b"/breaks" in head:
            end = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset at its close

    more = asyncio.Event()
    async with listening(serve) as port, connected() as connections:
        asking = [
            asyncio.create_task(send(connections, Address("http", HOST, port, path))) for path in ("/ends", "/breaks")
        ]
        await asyncio.sleep(0.05)
        more.set()
        whole, broken = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(whole, Response)
    assert whole.text == "half"
    assert isinstance(broken, TransportError)
    assert broken.left


# Proxies

OPEN = b"HTTP/1.1 200 Connection established\r\n"


@dataclass
class Proxy:
    """A proxy that says `first` to whoever wants a tunnel, and then opens one, or hangs up where it leads nowhere."""

    first: bytes = OPEN + b"\r\n"
    to: int | None = None
    damage: bool = False
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.first)
        await writer.drain()
        if self.to is not None:
            there = await asyncio.open_connection(HOST, self.to)
            sending = asyncio.create_task(pump(reader, there[1]))
            try:
                await pump(there[0], writer, damage=self.damage)
            finally:
                sending.cancel()
                there[1].close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, damage: bool = False) -> None:
    """Hand on what comes; with `damage`, not what comes after the handshake."""
    passed = 0
    while data := await reader.read(65536):
        if damage and passed and data[:1] == b"\x17":
            data = data[:5] + bytes(len(data) - 5)
        passed += 1
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture(params=["http", "https"])
async def proxy(
    request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    """One that the environment names, for all hosts; in front of `behind`, unless that is changed."""
    made = Proxy()
    monkeypatch.setattr("reconciler.transports.http.transport.loopback", lambda host: False)
    async with listening(made.serve, certificate if request.param == "https" else None) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"{request.param}://{HOST}:{port}")
        yield made


@pytest.fixture
async def behind(proxy: Proxy, certificate: Path) -> AsyncIterator[Server]:
    """A server that is reached through the proxy."""
    made = Server("https")
    async with listening(made.serve, certificate) as made.port:
        proxy.to = made.port
        yield made


async def test_through_a_proxy(proxy: Proxy, behind: Server) -> None:
    async with connected() as connections:
        for _ in range(3):
            assert (await ask(connections, behind, b"x")).text == "1"
    assert behind.connections == len(proxy.asked) == 1


async def test_a_proxy_cannot_answer_for_the_service(proxy: Proxy, behind: Server) -> None:
    """However its answer is cut into pieces."""
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    padding = b"".join(b"X-%04d: %s\r\n" % (number, b"a" * 990) for number in range(65))
    rest = 65536 - len(OPEN + padding) - len(b"X: \r\n\r\n")
    proxy.first = OPEN + padding + b"X: " + b"b" * rest + b"\r\n\r\n" + forged
    async with connected() as connections:
        failed = await fail(connections, behind)
    assert not failed.left
    assert behind.heads == []


@pytest.mark.parametrize("first", [b"", OPEN + b"\r\n", b"HTTP/1.1 407 Who is there\r\n\r\n", b"SSH-2.0\r\n\r\n"])
async def test_a_proxy_that_opens_no_tunnel_has_let_nothing_out(proxy: Proxy, behind: Server, first: bytes) -> None:
    proxy.first, proxy.to = first, None
    async with connected() as connections:
        failed = await fail(connections, behind)
    assert not failed.left
    assert "argument" not in str(failed)
    assert str(failed).startswith("no connection: ")
    if b"407" in first:
        assert str(failed) == "no connection: the proxy answered 407", "not in its words, which may repeat its login"


async def test_what_is_not_encrypted_is_handed_to_the_proxy_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the login that the environment has for it, on a connection that is kept."""
    made = Server("http")
    monkeypatch.setattr("reconciler.transports.http.transport.loopback", lambda host: False)
    async with listening(made.serve) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://ada:p%40ss@{HOST}:{port}")
        async with connected() as connections:
            for _ in range(2):
                assert (await send(connections, Address("http", "tool.invalid", 80, "/x"), "POST", b"x")).text == "1"
    assert made.connections == 1
    assert made.heads[0].startswith(b"POST http://tool.invalid:80/x HTTP/1.1\r\nHost: tool.invalid\r\n")
    assert b"Proxy-Authorization: Basic YWRhOnBAc3M=\r\n" in made.heads[0]


async def test_a_tunnel_that_breaks_later_may_have_let_it_out(proxy: Proxy, behind: Server) -> None:
    proxy.damage = True
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncio errs over TLS that breaks within TLS
    async with connected() as connections:
        failed = await fail(connections, behind)
    assert failed.left
    assert len(behind.heads) == 1


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
    ],
    ids=["interim answers", "chunks of a byte"],
)
async def test_a_flood_through_a_proxy_is_cut_off(proxy: Proxy, behind: Server, flood: bytes) -> None:
    behind.instead = [flood]
    async with connected() as connections:
        failed = await fail(connections, behind)
    assert failed.left
    assert "padded" in str(failed) or "more than 16 interim" in str(failed)


class Lost(asyncio.Transport):
    """What asyncio has for a turn of the loop where TLS runs within a proxy's TLS, and the outer one is gone."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise TypeError("SSLProtocol._abort() takes 1 positional argument but 2 were given")

    def is_closing(self) -> bool:
        return False


async def test_connection_lost_within_a_tunnel_is_a_clear_error() -> None:
    pipe = Pipe()
    pipe.connection_made(Lost())
    assert pipe.spoiled
    with pytest.raises(ConnectionError):
        await pipe.write(b"GET / HTTP/1.1\r\n\r\n")


async def test_a_fault_of_the_program_is_none_of_the_connections() -> None:
    class Standing(Lost):
        def is_closing(self) -> bool:
            return False

        def get_extra_info(self, name: str, default: object = None) -> object:
            return ends[0] if name == "socket" else None

    ends = socket.socketpair()
    pipe = Pipe()
    pipe.connection_made(Standing())
    try:
        with pytest.raises(TypeError):
            await pipe.write(b"GET / HTTP/1.1\r\n\r\n")
    finally:
        for end in ends:
            end.close()
