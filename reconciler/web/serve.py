"""What is served on `listen`, beside a program that has its own loop and its own way to stop.

Off loopback only health and the OAuth callback are open to everybody (docs/operations.md, "Pages, health and metrics").
The page of the callback loads nothing and sends no referrer, because its address contains the code.

The server runs in its own thread and loop, so that it reports the health even when the program's loop is blocked. Work
of a route on the program's objects is wrapped in `in_this_loop`.

What a peer can use is bounded: one of a few connections, for one request, and for a bounded time. Where there is a
connection too many, the one that has waited longest for its request is closed. So connections that are opened and left
exhaust neither file descriptors nor memory, and one that asks at once is answered. Health has places of its own:
whatever else is asked for can take all the others.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from html import escape
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

import uvicorn
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from reconciler.model.errors import ReconcilerError
from reconciler.web.guard import Guard, KnownHosts, Refusal, SafeHeaders

P = ParamSpec("P")
T = TypeVar("T")


class _CannotListen(ReconcilerError):
    """The address of `listen` cannot be bound."""


class _Server(uvicorn.Server):
    """A server that does not handle signals: the program does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def in_this_loop(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap work so that it can be awaited in another loop, and runs in the one that calls this."""
    loop = asyncio.get_running_loop()

    async def from_there(*args: P.args, **given: P.kwargs) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(*args, **given), loop))

    return from_there


@asynccontextmanager
async def serving(application: Starlette, listen: str) -> AsyncIterator[str]:
    """Serve while the block runs; return the address, with the port that was chosen if `listen` has port 0.

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
        raise _CannotListen(f"listen {listen}: {error.strerror}: free it, or set another `listen`") from error
    server = _Server(_bounded(application))
    thread = Thread(target=server.run, args=([bound],), name="web", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"{host}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join)
        bound.close()


MAX_CONNECTIONS = 64
"""The most connections at a time."""

MAX_OF_AN_ADDRESS = 32
"""The most of them from one address."""

MAX_REQUESTS = 48
"""The most requests at a time for anything but health."""

HEALTH = frozenset({"/healthz", "/readyz"})

TIMEOUT_SECONDS = 5.0
"""How long a request may take to arrive, and its answer to be read once it is ready."""

BACKLOG = 16
"""The most connections that the system queues, and that one iteration of the loop accepts."""


class _Bounded(H11Protocol):
    """A connection that carries one request."""

    made: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, and make room for it."""
        super().connection_made(transport)
        self.made = self.loop.time()
        self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)
        everybody = [each for each in self.connections if isinstance(each, _Bounded)]
        mine = [each for each in everybody if self.client and each.client and each.client[0] == self.client[0]]
        if len(mine) > MAX_OF_AN_ADDRESS:
            _drop_one(mine)
        elif len(everybody) > MAX_CONNECTIONS:
            _drop_one(everybody)

    @property
    def waits(self) -> bool:
        """Whether its request has not come as a whole."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expire(self) -> None:
        """Close, unless the application is still making the answer, which has its own limits."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started and not cycle.disconnected:
            self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)
        else:
            self.transport.abort()


def _drop_one(connections: list[_Bounded]) -> None:
    """Close the one that has waited longest for its request; the newest where none waits, which is one that does."""
    found = min((each for each in connections if each.waits), key=lambda each: each.made)
    found.connections.discard(found)
    found.transport.abort()


class _Shared:
    """Answers requests for anything but health only as long as they leave places for it."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in HEALTH:
            await self._application(scope, receive, send)
            return
        if self._requests >= MAX_REQUESTS:
            text = "too many requests at a time: try again in a moment\n"
            await PlainTextResponse(text, status_code=503, headers={"Retry-After": "1"})(scope, receive, send)
            return
        self._requests += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._requests -= 1


def _bounded(application: ASGIApp) -> uvicorn.Config:
    """Configure a server of an application within these bounds."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns about each malformed request
    return uvicorn.Config(
        _Shared(application),
        http=_Bounded,
        ws="none",
        backlog=BACKLOG,
        headers=[("Connection", "close")],
        server_header=False,
        # A header must not decide the peer's address, which decides who is trusted.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
    )


HEALTH_THREADS = 4

UNTOLD = "not well: the pages, `reconcile status` and the log say why"
"""The answer to strangers instead of the reason, which may name people."""


def app(
    *,
    healthy: Callable[[], tuple[bool, str]],
    ready: Callable[[], tuple[bool, str]],
    metrics: Callable[[], Awaitable[bytes]],
    guard: Guard,
    hosts: Callable[[], frozenset[str]],
    more: Iterable[BaseRoute] = (),
) -> Starlette:
    """Make the application. `healthy` and `ready` return whether, and why not; `guard` decides who may read `metrics`.

    `hosts` returns the names that it answers to beside those of loopback.
    """

    def answer(result: tuple[bool, str], request: Request) -> Response:
        well, why = result
        if why != "ok" and isinstance(guard.judge(request), Refusal):
            why = "ok" if well else UNTOLD
        return JSONResponse({"ok": well, "detail": why}, status_code=200 if well else 503)

    # Threads of its own: all others may wait for a state that cannot be reached.
    threads = CapacityLimiter(HEALTH_THREADS)

    async def told(state: Callable[[], tuple[bool, str]], request: Request) -> Response:
        return await to_thread.run_sync(answer, state(), request, limiter=threads)

    async def scrape(request: Request) -> Response:
        judged = await run_in_threadpool(guard.judge_scrape, request)
        if isinstance(judged, Refusal):
            return PlainTextResponse(f"{judged.text}\n", status_code=judged.status, headers=judged.headers)
        try:
            counted = await metrics()
        except ReconcilerError:
            return PlainTextResponse("the state cannot be read\n", status_code=503)
        return Response(counted, media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[
            Route("/healthz", partial(told, healthy)),
            Route("/readyz", partial(told, ready)),
            Route("/metrics", scrape),
            *more,
        ],
        middleware=[Middleware(SafeHeaders), Middleware(KnownHosts, names=hosts)],
    )


class Connect(Protocol):
    """Answers a callback."""

    def __call__(self, *, service: str, query: Mapping[str, str]) -> Awaitable[tuple[int, str]]:
        """Return an HTTP status and a sentence for the person."""


HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def callback_route(connect: Connect) -> Route:
    """Make the route where a service sends a person back to; its page shows the outcome."""

    async def answer(request: Request) -> Response:
        if request.method == "HEAD":  # a preview must not use up the authorization
            return Response(status_code=405, headers=HEADERS | {"Allow": "GET"})
        status, text = await connect(service=request.path_params["service"], query=dict(request.query_params))
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Access reconciler</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<body><main><h1>Access reconciler</h1><p>{escape(text)}</p></main></body></html>\n"
        )
        return HTMLResponse(page, status_code=status, headers=HEADERS)

    return Route("/oauth/callback/{service}", answer, methods=["GET"])
