"""A loopback server that is quicker than anything that asks it: raw asyncio, in a process of its own.

A path under `/users/` ends with the address that is asked for; the answer repeats it, as a service's would.
`/everybody/<people>/<page>` is a listing in pages of a hundred. `/heard` tells how many requests came, without those of
its own, and at which moment the last one did.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import ClassVar

PAGE = 100


def heard(url: str) -> tuple[int, float]:
    """How many requests came, and when the last one did, in seconds since the epoch."""
    with urllib.request.urlopen(f"{url}/heard") as answer:
        count, last = json.load(answer)
    return count, last


def asked_for(url: str, email: str) -> float | None:
    """When somebody was first asked for, in seconds since the epoch; None where nobody has asked yet."""
    with urllib.request.urlopen(f"{url}/first/{email}") as answer:
        first: float | None = json.load(answer)
    return first


class _Protocol(asyncio.Protocol):
    count = 0
    last = 0.0
    first: ClassVar[dict[bytes, float]] = {}

    def __init__(self, delay: float, busy: float) -> None:
        self.delay = delay
        self.busy = busy
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head, self.rest = self.rest[:end], self.rest[end + 4 :]
            if self.busy:
                time.sleep(self.busy)
            body = self._body(head.split(b" ", 2)[1], head)
            reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
                len(body),
                body,
            )
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self._write, reply)
            else:
                self._write(reply)

    def _body(self, path: bytes, head: bytes) -> bytes:
        if path == b"/heard":
            return json.dumps([_Protocol.count, _Protocol.last]).encode()
        who = path.rpartition(b"/")[2].replace(b"%40", b"@")
        if path.startswith(b"/first/"):
            return json.dumps(_Protocol.first.get(who)).encode()
        _Protocol.count += 1
        _Protocol.last = time.time()
        if path.startswith(b"/everybody/"):
            return _page(
                *map(int, path.split(b"/")[2:]), host=head.partition(b"Host: ")[2].partition(b"\r\n")[0].decode()
            )
        _Protocol.first.setdefault(who, _Protocol.last)
        return b'{"data": {"email": "' + who + b'", "gid": "1"}}'

    def _write(self, reply: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(reply)  # type: ignore[attr-defined]


def _page(people: int, number: int, *, host: str) -> bytes:
    members = range(number * PAGE, min((number + 1) * PAGE, people))
    more = f"http://{host}/everybody/{people}/{number + 1}" if members.stop < people else None
    return json.dumps({"data": [{"email": f"p{who}@example.com"} for who in members], "next": more}).encode()


async def _serve(delay: float, busy: float, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(delay, busy), "127.0.0.1", 0, backlog=512)
    pipe.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def _main(delay: float, busy: float, pipe: Connection) -> None:
    asyncio.run(_serve(delay, busy, pipe))


@contextmanager
def serving(delay: float = 0.0, busy: float = 0.0) -> Iterator[str]:
    """The server's URL while the block runs.

    An answer comes `delay` seconds after its request; `busy` seconds of them the server does nothing else.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(delay, busy, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join(10)
