"""`POST /hooks/<name>`: git servers and services tell of changes (docs/operations.md, "Pages, health and metrics").

A hook decides nothing by what it says: a push makes the daemon fetch, an event makes it check an account. Whoever
knows no secret is refused, and whoever sends the same hook again causes one more look at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reconciler.model.errors import SecretsError

__all__ = ["Hook", "Hooks", "hook_route"]

BODY_BYTES, BODY_SECONDS = 1024 * 1024, 5.0
"""The most bytes of a hook that are read, and the most time to read them."""


class Hook(Protocol):
    """One hook: whether it is signed, and what it makes the daemon do."""

    def is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether whoever sent it knows the secret."""

    def take(self, body: bytes) -> None:
        """Act on it."""


Hooks = Callable[[str], Hook | None]
"""Returns the hook of a name, or None if there is none. Raises SecretsError if its secret cannot be read."""


def hook_route(hooks: Hooks, count: Callable[[str, str], None]) -> Route:
    """Make the route. `count` is called with each hook's name, empty for an unknown one, and its outcome."""

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            hook = await run_in_threadpool(hooks, name)
        except SecretsError:
            count(name, "secret_unreadable")
            return _said(503, "the secret of this hook cannot be read now")
        if hook is None:
            count("", "unknown")
            return _said(404, "there is no such hook")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            count(name, "cut_off")
            return _said(408, "the hook did not come to its end")
        if body is None:
            count(name, "too_large")
            return _said(413, "a hook may have 1 MiB")
        headers = dict(request.headers)
        if not await run_in_threadpool(hook.is_signed, headers, body):
            count(name, "unsigned")
            return _said(401, "not signed with this hook's secret")
        hook.take(body)
        count(name, "accepted")
        return Response(status_code=204)

    return Route("/hooks/{name}", answer, methods=["POST"])


def _said(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)


async def _body(request: Request) -> bytes | None:
    """Read a hook's body; None if it is too large.

    Not even one that says so is refused unread: its sender is still at it, and would find the connection closed
    before the answer.
    """
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > BODY_BYTES:
            return None
    return bytes(found)
