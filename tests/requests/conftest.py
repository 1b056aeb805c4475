"""A raw HTTP server that keeps the bytes it was sent, and a clock whose hands a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.model.clock import Stopped
from reconciler.model.secret import Redactor
from reconciler.model.settings import Limits
from reconciler.requests.client import Client, Sending
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.throttle import Throttle
from tests.servers import PATIENCE


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeClock:
    """Sleeping takes no time and moves the hands."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 12, 1, 9, tzinfo=UTC)
        self.slept: list[float] = []
        self.stopped = False
        self.sleeping = asyncio.Event()

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        if self.stopped:
            raise Stopped
        self.slept.append(seconds)
        self.sleeping.set()
        for _ in range(50):  # what is on its way arrives before the hands move
            await asyncio.sleep(0)
        self.moment += timedelta(seconds=seconds)


@dataclass
class Raw:
    """One request as it came over the wire; `at` by the test's clock."""

    head: bytes
    body: bytes
    at: datetime

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def fields(self) -> dict[str, bytes]:
        pairs = (line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:] if line)
        return {name.decode().lower(): value for name, value in pairs}


def reply(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """An HTTP answer; `retry_after` becomes Retry-After."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


Script = Callable[[Raw, asyncio.StreamWriter], Awaitable[bytes | None]]


@dataclass
class Loopback:
    """Answers from `replies`, the last of them for ever; a script writes what it likes and gives None to hang up."""

    clock: FakeClock
    requests: list[Raw] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=lambda: [reply()])
    script: Script | None = None
    port: int = 0
    connections: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-2]
                raw = Raw(head, b"", self.clock.now())
                raw.body = await reader.readexactly(int(raw.fields.get("content-length", b"0")))
                self.requests.append(raw)
                if self.script is not None:
                    answer = await self.script(raw, writer)
                else:
                    answer = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.serving.discard(task)

    async def hang_up(self) -> None:
        """End every connection, those too that were accepted just now."""
        await _turns()
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)
        await _turns()


async def _turns() -> None:
    """Let the loop do what stands in line."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def loopback(clock: FakeClock) -> AsyncIterator[Loopback]:
    made = Loopback(clock)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await made.hang_up()


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
async def connect(clock: FakeClock, redactor: Redactor) -> AsyncIterator[Callable[..., Client]]:
    """Makes clients; those of one test share a throttle unless they are given another."""
    made: list[Client] = []
    shared: list[Throttle] = []

    def connect(*hosts: str, throttle: Throttle | None = None, **limits: object) -> Client:
        rules = Limits.model_validate({"timeout": PATIENCE, **limits})
        if not shared:
            shared.append(Throttle(rules, clock))
        allowed = AllowedHosts(frozenset(hosts))
        sending = Sending(clock=clock, throttle=throttle or shared[0], redactor=redactor)
        client = Client("acme", rules, allowed, sending)
        made.append(client)
        return client

    yield connect
    for client in made:
        await client.aclose()
