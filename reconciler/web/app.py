"""The routes on `listen`. Off loopback only health and the OAuth callback are open to everybody.

See docs/operations.md, "Pages, health and metrics". The page of the callback loads nothing and sends no referrer,
because its address contains the code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from html import escape

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.model.errors import ReconcilerError
from reconciler.web.guard import Guard, Refusal
from reconciler.web.headers import KnownHosts, SafeHeaders

__all__ = ["Connect", "app", "callback_route"]

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

    async def health(request: Request) -> Response:
        return await to_thread.run_sync(answer, healthy(), request, limiter=threads)

    async def readiness(request: Request) -> Response:
        return await to_thread.run_sync(answer, ready(), request, limiter=threads)

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
        routes=[Route("/healthz", health), Route("/readyz", readiness), Route("/metrics", scrape), *more],
        middleware=[Middleware(SafeHeaders), Middleware(KnownHosts, names=hosts)],
    )


Connect = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str]]]
"""Called with the service and the query; returns an HTTP status and a sentence for the person."""

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
        status, text = await connect(request.path_params["service"], dict(request.query_params))
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Access reconciler</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<body><main><h1>Access reconciler</h1><p>{escape(text)}</p></main></body></html>\n"
        )
        return HTMLResponse(page, status_code=status, headers=HEADERS)

    return Route("/oauth/callback/{service}", answer, methods=["GET"])
