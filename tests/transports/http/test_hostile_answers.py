"""Answers that are not exactly one: what h11 refuses our own connections refuse. And floods, which nobody waits for."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import suppress
from time import process_time

import h11
import pytest

from reconciler.model.errors import TransportError
from reconciler.transports.address import Address
from reconciler.transports.http.transport import Http
from reconciler.transports.messages import LIMIT, RenderedRequest, Response
from tests.transports.http.test_connections import HOST, Seen, connected, listening, send

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

ACCEPTED = {
    "a length": OK + b"Content-Length: 2\r\n\r\n{}",
    "chunks": CHUNKED + b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\nX: y\r\n\r\n",
    "the end": OK + b"\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "a reason beyond ASCII": b"HTTP/1.1 200 \xc3\xa9\r\nContent-Length: 2\r\n\r\n{}",
    "an interim answer": b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
    "a value beyond ASCII": OK + b"X: \xe9\r\nContent-Length: 2\r\n\r\n{}",
    "an empty value": OK + b"X:\r\nContent-Length:  2 \r\n\r\n{}",
    "another case": OK + b"transfer-encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}

REFUSED = {
    "nothing": b"",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a list of lengths": OK + b"Content-Length: 2, 3\r\n\r\n{} ",
    "a negative length": OK + b"Content-Length: -2\r\n\r\n{}",
    "a signed length": OK + b"Content-Length: +2\r\n\r\n{}",
    "a length in hex": OK + b"Content-Length: 0x2\r\n\r\n{}",
    "a length of digits that are none": OK + b"Content-Length: \xb2\r\n\r\n{}",
    "an empty length": OK + b"Content-Length:\r\n\r\n{}",
    "a length past all bounds": OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}",
    "a length with a blank": OK + b"Content-Length: 2 0\r\n\r\n{}" + b" " * 18,
    "gzip as a transfer coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "gzip alone": OK + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n{}",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a coding with a tab inside": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
    "a size that is none": CHUNKED + b"z\r\n{}\r\n0\r\n\r\n",
    "a size in C's hex": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a blank before a size": CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n",
    "a size past all bounds": CHUNKED + b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk without its end": CHUNKED + b"2\r\n{}0\r\n\r\n",
    "chunks cut off": CHUNKED + b"2\r\n{}\r\n",
    "chunks cut off in the last": CHUNKED + b"2\r\n{}\r\n0\r\n",
    "a trailer that is none": CHUNKED + b"2\r\n{}\r\n0\r\nX y\r\n\r\n",
    "a trailer with a null": CHUNKED + b"2\r\n{}\r\n0\r\nX: \x00\r\n\r\n",
    "a length cut off": OK + b"Content-Length: 3\r\n\r\n{}",
    "a head cut off": OK + b"Content-Length: 2\r\n",
    "a null in a value": OK + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a line end in a value": OK + b"X: a\rb\r\nContent-Length: 2\r\n\r\n{}",
    "a form feed in a value": OK + b"X: a\x0cb\r\nContent-Length: 2\r\n\r\n{}",
    "a null in a name": OK + b"X\x00: a\r\nContent-Length: 2\r\n\r\n{}",
    "a blank in a name": OK + b"X Y: a\r\nContent-Length: 2\r\n\r\n{}",
    "a blank after a name": OK + b"Content-Length : 2\r\n\r\n{}",
    "a name beyond ASCII": OK + b"\xe9: a\r\nContent-Length: 2\r\n\r\n{}",
    "a line of more than 8 KiB": OK + b"X: %b\r\nContent-Length: 2\r\n\r\n{}" % (b"a" * 8192),
    "no name": OK + b": a\r\nContent-Length: 2\r\n\r\n{}",
    "no colon": OK + b"X\r\nContent-Length: 2\r\n\r\n{}",
    "a fold at the start": OK + b" X: a\r\nContent-Length: 2\r\n\r\n{}",
    "a protocol that is none": b"HTTQ/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a lower case protocol": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a version that is none": b"HTTP/1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a version in letters": b"HTTP/x.y 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status in letters": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\n{}",
    "two blanks before a status": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a null in a reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\n{}",
    "a line end in a reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\n{}",
    "a line before the status line": b"\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
    "a line after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "a head that is too long": OK + b"X: " + b"a" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
}

OURS = {
    "a folded value": OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a control character in a value": OK + b"X: a\x01b\r\nContent-Length: 2\r\n\r\n{}",
    "many interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + OK + b"Content-Length: 2\r\n\r\n{}",
    "line ends without a return": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "chunks of a byte each": CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
    "extensions of chunks": CHUNKED + b"".join(b"1;%b\r\nx\r\n" % (b"a" * 900) for _ in range(300)) + b"0\r\n\r\n",
}
"""What h11 takes, and our own connections do not."""


def by_h11(raw: bytes) -> bytes:
    """The content, as h11 has it at the limit that httpcore gives it. Raises RemoteProtocolError."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=100 * 1024)
    parser.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
    parser.send(h11.EndOfMessage())
    pieces = [raw[place : place + 65536] for place in range(0, len(raw), 65536)]
    body = b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(pieces.pop(0) if pieces else b"")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("closed")


async def by_us(raw: bytes, *, piece: int = 0) -> Response:
    """The same bytes over a connection; with `piece`, so many at a time. Raises TransportError."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        step = piece or len(raw) or 1
        for place in range(0, len(raw), step):
            writer.write(raw[place : place + step])
            await writer.drain()
            await asyncio.sleep(0)

    async with listening(serve) as port, connected() as connections:
        return await send(connections, Address("http", HOST, port, "/"), "POST")


@pytest.mark.parametrize("piece", [0, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
async def test_an_answer_is_read_as_h11_reads_it(raw: bytes, piece: int) -> None:
    answer = await by_us(raw, piece=piece)
    assert (answer.status, answer.content, answer.truncated) == (200, by_h11(raw), False)


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
async def test_only_exactly_one_answer_is_accepted(raw: bytes) -> None:
    for piece in (0, 1) if len(raw) < 1000 else (0,):
        with pytest.raises(TransportError) as refused:
            await by_us(raw, piece=piece)
        assert refused.value.left


@pytest.mark.parametrize("raw", OURS.values(), ids=OURS)
async def test_answers_that_h11_accepts_wrongly_are_refused(raw: bytes) -> None:
    with pytest.raises(TransportError):
        await by_us(raw)


def test_the_table_is_what_h11_refuses() -> None:
    """But for a length beside chunks, of which h11 takes the chunks, and a line that is long."""
    taken = []
    for name, raw in REFUSED.items():
        try:
            by_h11(raw)
        except h11.RemoteProtocolError:
            continue
        taken.append(name)
    assert taken == ["a length and chunks", "chunks and a length", "a line of more than 8 KiB"]


@pytest.mark.parametrize("extra", [b"\r\n", b"\n", b"x", b"0\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("raw", [ACCEPTED["a length"], ACCEPTED["chunks"]], ids=["a length", "chunks"])
async def test_a_connection_is_not_kept_over_which_more_came(raw: bytes, extra: bytes) -> None:
    connections_made = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections_made
        connections_made += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(raw + (extra if connections_made == 1 else b""))

    async with listening(serve) as port, connected() as connections:
        for times in (1, 2, 2):
            answer = await send(connections, Address("http", HOST, port, "/"), "POST")
            assert (answer.content, connections_made) == (b"{}", times)


@pytest.mark.parametrize(
    ("method", "target", "headers", "content"),
    [
        ("GET", "/a b", [], b""),
        ("GET", "/\r\nX: y", [], b""),
        ("GE T", "/", [], b""),
        ("GET", "/", [("X", "a\r\nY: b")], b""),
        ("GET", "/", [("X", "a\x00")], b""),
        ("GET", "/", [("X:", "a")], b""),
        ("GET", "/", [("", "a")], b""),
        ("GET", "/", [("Host", "other.example.com")], b""),
        ("POST", "/", [("Content-Length", "1")], b"{}"),
        ("POST", "/", [("Content-Length", "2")], b"{}"),
        ("GET", "/", [("content-length", "0")], b""),
        ("POST", "/", [("Transfer-Encoding", "chunked")], b""),
    ],
)
async def test_a_request_that_could_be_read_as_another_does_not_leave(
    method: str, target: str, headers: list[tuple[str, str]], content: bytes
) -> None:
    came = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.extend(await reader.read(1000))

    async with listening(serve) as port, connected() as connections:
        request = RenderedRequest(method, "", "", tuple(headers), content)
        with pytest.raises(TransportError, match="none that HTTP allows") as refused:
            await connections.send(request, Address("http", HOST, port, target), Seen())
    assert not refused.value.left
    assert came == b""


# Floods

GZIP = b"\x1f\x8b\x08\x08" + bytes(6)

FLOODS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4000),
    "headers": (OK, b"X: y\r\n" * 16_000),
    "chunks of a byte": (CHUNKED, b"1\r\nx\r\n" * 16_000),
    "an extension of a chunk": (CHUNKED + b"1;", b"a" * 100_000),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 16_000),
    "a packed head of a name without end": (OK + b"Content-Encoding: gzip\r\n\r\n" + GZIP, b"a" * 100_000),
    "empty packed blocks": (
        OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"")[:2],
        b"\x00\x00\x00\xff\xff" * 20_000,
    ),
    "a packed nothing that unpacks to much": (
        OK + b"Content-Encoding: gzip\r\n\r\n",
        zlib.compress(bytes(64 * LIMIT), 1, wbits=31),
    ),
}


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize(("first", "again"), FLOODS.values(), ids=FLOODS)
async def test_endless_answer_is_cut_off(first: bytes, again: bytes) -> None:
    """Twenty connections are flooded, as many as a host gets, again and again, while another service answers."""
    one_ended = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        for _ in range(300):
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0)

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ACCEPTED["a length"])

    async def ask(connections: Http, port: int) -> Response:
        return await send(connections, Address("http", HOST, port, "/"))

    async def be_flooded(connections: Http, port: int) -> None:
        while True:
            with suppress(TransportError):
                assert (await ask(connections, port)).truncated
            one_ended.set()

    async with listening(flood) as bad, listening(answers) as good, connected() as flooded, connected() as others:
        flooding = [asyncio.create_task(be_flooded(flooded, bad)) for _ in range(20)]
        slowest = 0.0
        for _ in range(20):
            began = process_time()
            assert (await ask(others, good)).content == b"{}"
            slowest = max(slowest, process_time() - began)
        await one_ended.wait()
        for task in flooding:
            assert not task.done()
            task.cancel()
        await asyncio.wait(flooding)
    assert slowest < 3, f"{slowest:.1f} s of processor time"
