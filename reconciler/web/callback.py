"""`/oauth/callback/<service>`: where a service sends a person back to. The page shows the outcome.

It loads nothing and sends no referrer, because its address contains the code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

__all__ = ["Connect", "callback_route"]

Connect = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str]]]
"""Called with the service and the query; returns an HTTP status and a sentence for the person."""

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def callback_route(connect: Connect) -> Route:
    """Make the route of the callback."""

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
