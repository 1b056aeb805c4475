"""Services that keep accounts, on loopback: several ports of one process that does nothing else, and answers at once.

`GET /users/<email>` shows an account or answers 404, `POST /users` makes one. With a limit, a service takes so many
creates in a minute that begins with the first of them, and answers 429 to others. Where it tells its limit, each answer
to a create says how many are left, and for how long. `/told` tells what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection

MINUTE = 60.0


@dataclass
class Told:
    """What a service was asked: creates in all and of how many people, other requests, and how many it refused."""

    created: int = 0
    people: int = 0
    refused: int = 0
    asked: int = 0
    first: float = 0.0
    """When the first create came, and the last one, in seconds since the epoch."""
    last: float = 0.0


@dataclass(frozen=True)
class Limit:
    """How many creates a service takes in a minute, and whether its answers tell."""

    creates: int
    told: bool


class _Service(asyncio.Protocol):
    """One service: a connection's state is what came of a request, all else is shared by its connections."""

    def __init__(self, shared: _Accounts) -> None:
        self._shared = shared
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end]
            length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            whole = end + 4 + int(length or 0)
            if len(self._rest) < whole:
                return
            content, self._rest = self._rest[end + 4 : whole], self._rest[whole:]
            method, target, _ = head.split(b" ", 2)
            status, lines, body = self._shared.answer(method, target.decode(), content)
            self._transport.write(  # type: ignore[attr-defined]
                b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
                % (status, len(body), lines, body)
            )


class _Accounts:
    def __init__(self, limit: Limit | None) -> None:
        self._limit = limit
        self._made: Counter[str] = Counter()
        self._began, self._taken = 0.0, 0
        self._told = Told()

    def answer(self, method: bytes, path: str, content: bytes) -> tuple[int, bytes, bytes]:
        """Return the status, the lines of the head, and the content."""
        if path == "/told":
            self._told.people = len(self._made)
            return 200, b"", json.dumps(asdict(self._told)).encode()
        if method == b"POST":
            return self._create(json.loads(content)["email"])
        self._told.asked += 1
        email = path.rpartition("/")[2].replace("%40", "@")
        if email in self._made:
            return 200, b"", b'{"email": "%b"}' % email.encode()
        return 404, b"", b'{"error": "not_found"}'

    def _create(self, email: str) -> tuple[int, bytes, bytes]:
        now, lines = time.time(), b""
        if self._limit is not None:
            if now >= self._began + MINUTE:
                self._began, self._taken = now, 0
            self._taken += 1
            left, until = self._limit.creates - self._taken, int(self._began + MINUTE - now)
            if self._limit.told:
                lines = b"X-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n" % (max(left, 0), until)
            if left < 0:
                self._told.refused += 1
                return 429, lines + b"Retry-After: %d\r\n" % (until + 1), b'{"error": "rate_limited"}'
        self._told.created += 1
        self._told.first = self._told.first or now
        self._told.last = now
        self._made[email] += 1
        return 201, lines, b'{"email": "%b"}' % email.encode()


def told(url: str) -> Told:
    """Return what a service was asked so far."""
    with urllib.request.urlopen(f"{url}/told") as answer:
        return Told(**json.load(answer))


async def _serve(count: int, limit: Limit | None, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for _ in range(count):
        made = partial(_Service, _Accounts(limit))
        servers.append(await loop.create_server(made, "127.0.0.1", 0, backlog=512))
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _main(count: int, limit: Limit | None, pipe: Connection) -> None:
    asyncio.run(_serve(count, limit, pipe))


@contextmanager
def accounts(count: int, *, limit: Limit | None = None) -> Iterator[list[str]]:
    """The services' URLs while the block runs; each has the limit."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(count, limit, theirs), daemon=True)
    process.start()
    try:
        yield [f"http://127.0.0.1:{port}" for port in ours.recv()]
    finally:
        process.terminate()
        process.join(10)
