"""The routes on `listen`. Off loopback only health and the OAuth callback are served.

See docs/operations.md, "Pages, health and metrics".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.web.hosts import KnownHosts

__all__ = ["app"]


def app(
    *,
    healthy: Callable[[], tuple[bool, str]],
    ready: Callable[[], tuple[bool, str]],
    metrics: Callable[[], Awaitable[bytes]] | None,
    hosts: Callable[[], frozenset[str]],
    more: Iterable[BaseRoute] = (),
) -> Starlette:
    """The application. `healthy` and `ready` tell whether, and why not; `metrics` is None where they are not served.

    `hosts` gives the names that it answers to, beside loopback's.
    """

    def answer(told: tuple[bool, str]) -> Response:
        well, why = told
        return JSONResponse({"ok": well, "detail": why}, status_code=200 if well else 503)

    async def health(_request: Request) -> Response:
        return answer(healthy())

    async def readiness(_request: Request) -> Response:
        return answer(ready())

    async def scrape(_request: Request) -> Response:
        if metrics is None:
            return PlainTextResponse("metrics are served on loopback only\n", status_code=403)
        return Response(await metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[Route("/healthz", health), Route("/readyz", readiness), Route("/metrics", scrape), *more],
        middleware=[Middleware(KnownHosts, names=hosts)],
    )
