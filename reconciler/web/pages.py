"""The status pages: rendered on the server, read-only, and the same for everybody who may see them.

A page is made in a worker thread with its own reader, so that the daemon's loop continues meanwhile. Few are made at a
time, because threads that compute share the interpreter with that loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.daemon.authorize import callback, is_awaited
from reconciler.daemon.loop import Daemon
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, ReconcilerError
from reconciler.web import views
from reconciler.web.daemon_view import DaemonView
from reconciler.web.filters import BadFilter, NoSuchPage
from reconciler.web.guard import Guard, Refusal, Visitor, body_of
from reconciler.web.hooks import daemon_hooks, hook_route
from reconciler.web.metrics import Metrics, Noted
from reconciler.web.render import environment, static_route
from reconciler.web.serve import app, callback_route, in_this_loop

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_PAGES_AT_A_TIME = 2
"""The most pages made at a time: each repeatedly takes the interpreter from the daemon's loop for up to 5 ms."""

FORM_BYTES, FORM_SECONDS = 4096, 5.0
"""The most bytes of a form that are read, and the most time to read them."""

LONGEST_TOKEN = 1024

View = Callable[..., dict[str, object]]
"""Returns what a template shows, from the sources, the URL's query and the parts of its path."""

VIEWS: dict[str, tuple[str, View]] = {
    "/": ("overview.html", views.overview),
    "/people": ("people.html", views.people),
    "/people/{hire}": ("person.html", views.person),
    "/services/{integration}": ("service.html", views.service),
    "/privileged": ("privileged.html", views.privileged),
    "/history": ("history.html", views.history),
    "/reviews": ("reviews.html", views.reviews),
}
"""The template and the view of each path."""


class StatusPages:
    """The routes of the pages. `sources` has what they show, `guard` decides who may see them."""

    def __init__(self, sources: DaemonView, guard: Guard, redact: Callable[[str], str]) -> None:
        self._sources = sources
        self._guard = guard
        self._redact = redact
        self._limit = anyio.CapacityLimiter(MAX_PAGES_AT_A_TIME)

    def routes(self) -> Iterable[BaseRoute]:
        """Make the routes."""
        yield static_route(lasts=86_400)
        yield Route("/sign-in", self._sign_in, methods=["GET", "POST"])
        yield Route("/sign-out", self._sign_out, methods=["POST"])
        for path, (template, view) in VIEWS.items():
            yield Route(path, partial(self._answer, template, view))
        yield Route("/{path:path}", partial(self._answer, "", views.nothing))

    @cached_property
    def _templates(self) -> Environment:
        return environment(self._redact)

    # Answers

    async def _answer(self, template: str, view: View, request: Request) -> Response:
        return await anyio.to_thread.run_sync(self._show, template, view, request, limiter=self._limit)

    def _show(self, template: str, view: View, request: Request) -> Response:
        for_desk = template == "person.html" and request.headers.get("accept") == "application/json"
        judged = self._guard.judge_scrape(request) if for_desk else self._guard.judge(request)
        if isinstance(judged, Refusal):
            return self._refused(request, judged)
        try:
            if for_desk:
                return JSONResponse(views.statuses(self._sources, **request.path_params))
            shown = view(self._sources, request.query_params.multi_items(), **request.path_params)
            return self._page(request, template, 200, visitor=judged, **shown)
        except NoSuchPage as error:
            return self._error(request, judged, 404, "Not found", str(error))
        except BadFilter as error:
            return self._error(request, judged, 400, "That filter makes no sense", str(error))
        except ReconcilerError as error:
            return self._error(request, judged, 503, "The state cannot be read", str(error))

    def _page(self, request: Request, template: str, status: int, **shown: Any) -> Response:
        text = self._templates.get_template(template).render(path=_own(request.url.path), **shown)
        return HTMLResponse(text, status_code=status)

    def _error(self, request: Request, visitor: Visitor, status: int, title: str, text: str) -> Response:
        return self._page(request, "error.html", status, visitor=visitor, title=title, text=text)

    def _refused(self, request: Request, refusal: Refusal, back: str | None = None) -> Response:
        """Show the form to sign in, or why there is none."""
        if back is None:
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        shown = {"refusal": refusal, "back": _own(back), "visitor": None}
        answer = self._page(request, "sign_in.html", refusal.status, **shown)
        answer.headers.update(refusal.headers)
        return answer

    # Signing in and out

    async def _sign_in(self, request: Request) -> Response:
        if request.method != "POST":  # somebody opened the address of the form
            return RedirectResponse("/", status_code=303)
        if not _from_here(request):
            return PlainTextResponse("this form was sent from another site\n", status_code=403)
        try:
            body = (await body_of(request, FORM_BYTES, FORM_SECONDS))[:FORM_BYTES]
        except TimeoutError:
            return PlainTextResponse("the form did not come to its end\n", status_code=408)
        form = parse_qs(body.decode(errors="replace"))
        said, back = (form.get(name, [""])[0] for name in ("token", "back"))
        return await run_in_threadpool(self._signed_in, request, said[:LONGEST_TOKEN], back)

    def _signed_in(self, request: Request, said: str, back: str) -> Response:
        refusal = self._guard.check_token(request, said)
        if refusal is not None:
            return self._refused(request, refusal, back)
        answer = RedirectResponse(_own(back), status_code=303)
        self._guard.sign_in(answer)
        return answer

    async def _sign_out(self, request: Request) -> Response:
        if not _from_here(request):
            return PlainTextResponse("this form was sent from another site\n", status_code=403)
        answer = RedirectResponse("/", status_code=303)
        self._guard.sign_out(answer)
        return answer


def _from_here(request: Request) -> bool:
    """Whether a form was sent from one of these pages: browsers send its origin, and other clients have no cookies."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == request.headers.get("host", "").lower()


def _own(path: str) -> str:
    """Return the path if it is one of this site, else the overview's."""
    fine = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() and "\\" not in path
    return path if fine else "/"


PATIENCE_SECONDS = 20.0
"""How long the callback waits for a pass over its service to end."""


async def _authorized(running: Daemon, service: str, query: Mapping[str, str]) -> tuple[int, str]:
    """Answer the OAuth callback, in the daemon's loop."""
    runtime, active = running.runtime, running.runtime.active
    awaited = await is_awaited(runtime.state, service, query, runtime.context.clock.now())
    if not awaited:  # a stranger's call must not lease a service
        return await callback(active, runtime.state, service=service, query=query)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), running.runner.leased(service) as leased:
            status, said = await callback(active, leased, service=service, query=query)
    except (TimeoutError, Stopped, LedgerError):
        return 503, f"{service} is not connected: this cannot be done now. Open the link again in a minute."
    if status == 200:
        running.connected(service)
    return status, said


def pages_of(running: Daemon, metrics: Metrics) -> Starlette:
    """Make what `listen` serves. `listen` itself, unlike other settings, is the one that the daemon started with."""
    view = DaemonView(running)
    guard = Guard(view.settings.listen, lambda: view.settings, view.token)

    async def text(noted: Noted) -> bytes:
        runtime = running.runtime
        return metrics.text(noted, runtime.health.overrun, runtime.freshness.fetched_at, running.survey.unknown)

    written = in_this_loop(text)

    async def scraped() -> bytes:
        return await written(await run_in_threadpool(view.noted))

    return app(
        healthy=running.healthy,
        ready=view.ready,
        metrics=scraped,
        guard=guard,
        hosts=view.hosts,
        more=[
            callback_route(in_this_loop(partial(_authorized, running))),
            hook_route(daemon_hooks(running, view), metrics.count_hook),
            *StatusPages(view, guard, view.redact).routes(),
        ],
    )
