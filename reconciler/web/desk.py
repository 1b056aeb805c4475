"""The desk's routes: what somebody may ask for, a form, and how far their requests are (docs/how-to/desk.md).

Who is signed in is what the proxy's header says, and the address is a hire's. The desk has neither key nor state: it
commits to branches of its clone, and opens pull requests. It never merges.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, quote

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from reconciler.engine.context import Context
from reconciler.intake.forge import ForgeError
from reconciler.intake.requesting import Asked, Asking, NotRequestable
from reconciler.model.base import as_text, spelled
from reconciler.model.config_files import Requestable
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.hire import Hire
from reconciler.repository.desired import Desired
from reconciler.repository.documents.yaml import Loaded
from reconciler.transports.address import HTTP, parse
from reconciler.transports.transport import tls_context
from reconciler.web.guard import KnownHosts, SafeHeaders, body_of, named
from reconciler.web.render import environment, static_route

FETCH_SECONDS = 10.0
FORM_BYTES, FORM_SECONDS = 16 << 10, 10.0
MAX_REMEMBERED = 1000


class Desk:
    """One clone, of which one request at a time is answered.

    `text` describes what a branch changes; `status_of` returns what the daemon says of a hire's entries.
    """

    def __init__(
        self,
        context: Context,
        public_url: str | None,
        text: Callable[[Context, str, str], str],
        status_of: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._status_of = status_of
        self._context = context
        self._public = None if public_url is None else parse(public_url)
        self._text = text
        self._lock = Lock()
        self._fetched: float | None = None
        self._urls: dict[str, str] = {}
        self._templates = environment(context.redactor.redact)

    def asking(self, *, fetch: bool = False) -> Asking:
        """Return the newest commit, fetched where the last fetch is older than a few seconds."""
        now = time.monotonic()
        fetch = fetch or self._fetched is None or now - self._fetched > FETCH_SECONDS
        found = Asking(self._context, fetch=fetch)
        if fetch:
            self._fetched = now
        return found

    def application(self) -> Starlette:
        """Make the application. Raises ReconcilerError without a proxy."""
        if self.asking().files.settings.pages is None:
            raise ReconcilerError(
                "the desk needs `pages.trusted_header` in config/reconciler.yaml: a proxy signs people in"
            )
        names = frozenset() if self._public is None else frozenset({self._public.host.strip("[]")})
        routes = [
            Route("/", self._show),
            Route("/ask", self._asked, methods=["POST"]),
            Route("/healthz", self._health),
            static_route(lasts=3600),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(SafeHeaders), Middleware(KnownHosts, names=lambda: names)],
            exception_handlers={ReconcilerError: self._refused},
        )

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"ok": True})

    def _show(self, request: Request) -> Response:
        with self._lock:
            return self._shown(request, self.asking())

    async def _asked(self, request: Request) -> Response:
        if not self._from_here(request):
            return PlainTextResponse("this form was sent from another site\n", status_code=403)
        try:
            body = await body_of(request, FORM_BYTES, FORM_SECONDS)
        except TimeoutError:
            return PlainTextResponse("the form did not come to its end\n", status_code=408)
        if len(body) > FORM_BYTES:
            return PlainTextResponse("the form is too long\n", status_code=413)
        return await run_in_threadpool(self._ask, request, dict(parse_qsl(body.decode(errors="replace"))))

    async def _refused(self, _request: Request, error: Exception) -> Response:
        said = self._context.redactor.redact(f"nothing can be asked for now: {error}\n")
        return PlainTextResponse(said, status_code=503)

    def _ask(self, request: Request, form: Mapping[str, str]) -> Response:
        with self._lock:
            asking = self.asking(fetch=True)
            person = self._person(request, asking)
            if person is None:
                return self._shown(request, asking)
            values = {
                name.removeprefix("value."): value
                for name, value in form.items()
                if name.startswith("value.") and value
            }
            asked = Asked(
                integration=form.get("integration", ""),
                reason=form.get("reason", ""),
                hire=person.stem,
                values=values,
                lasts=form.get("for", ""),
                asker=(person.model.full_name or person.stem, person.model.email),
            )
            try:
                found = asking.wait_or_commit(asked, opens=True)
                pull, _ = asking.opened(found, lambda base, head: self._text(self._context, base, head))
            except (NotRequestable, UsageError) as error:
                return self._shown(request, asking, 422, str(error))
            except ForgeError as error:
                return self._shown(request, asking, 502, str(error))
            if len(self._urls) < MAX_REMEMBERED:
                self._urls[found.stem] = pull.url
        return RedirectResponse("/", status_code=303)

    def _from_here(self, request: Request) -> bool:
        """Whether a form comes from the desk's own address."""
        if (origin := parse(request.headers.get("origin", ""))) is None:
            return False
        if self._public is not None:
            return origin.origin == self._public.origin
        host = request.headers.get("host", "")
        here = (parse(f"{scheme}://{host}") for scheme in HTTP)
        return any(each is not None and origin.origin == each.origin for each in here)

    def _person(self, request: Request, asking: Asking) -> Loaded[Hire] | None:
        """Return the hire who is signed in."""
        pages = asking.files.settings.pages
        address = None if pages is None else named(request, pages)
        stem = None if address is None else asking.files.hires.index.owner(address)
        return None if stem is None else asking.files.hires.get(stem)

    def _shown(self, request: Request, asking: Asking, status: int = 200, message: str = "") -> Response:
        person = self._person(request, asking)
        shown: dict[str, Any] = {"message": message, "person": None}
        if person is None:
            status = 403 if status == 200 else status
            shown["message"] = message or "Nobody is signed in whose address is that of a hire."
        else:
            said = self._status_of(person.stem)
            shown |= {
                "person": person.model.full_name or person.stem,
                "offers": [*_offers(asking, person.model)],
                "requests": [
                    {
                        "asked": each.asked,
                        "state": each.state if each.refused is None else f"refused: {each.refused}",
                        "until": each.until,
                        "url": self._urls.get(each.stem),
                        "status": said.get(each.stem),
                    }
                    for each in asking.known({})
                    if each.asked.hire == person.stem
                ],
                "has": [*_has(asking, person.stem, self._context.clock.now())],
            }
        return HTMLResponse(self._templates.get_template("desk.html").render(**shown), status_code=status)


def _offers(asking: Asking, hire: Hire) -> Iterator[dict[str, Any]]:
    """Return what a hire may ask for, with the fields of a form."""
    for offer in asking.files.offers.of(hire):
        loaded = asking.files.manifests.get(offer.integration)
        fields = [] if loaded is None else [each for each in loaded.model.form if each.type != "generate"]
        yield {
            "integration": offer.integration,
            "longest": None if offer.longest is None else spelled(offer.longest),
            "fields": [{"id": each.id, "name": each.name, "choices": _choices(offer, each)} for each in fields],
        }


def _choices(offer: Requestable, field: Any) -> list[tuple[str, str]]:
    names = {str(as_text(item.id)): str(item.name) for item in field.items or ()}
    allowed = offer.values.get(field.id) or list(names)
    return [(value, names.get(value, value)) for value in allowed]


def _has(asking: Asking, stem: str, now: datetime) -> Iterator[dict[str, Any]]:
    for grant in Desired(asking.files, now.date(), now).grants(stem):
        if grant.hold is None and not grant.refused:
            own = grant.layers[0].values if grant.layers and grant.layers[0].origin == grant.source else {}
            values = [(name, str(as_text(value))) for name, value in own.items()]
            yield {"integration": grant.integration, "form": values, "until": grant.known_end}


SECONDS = 3.0
"""A daemon that does not answer delays a page by no more; then it shows what git says."""


def statuses(url: str, token: str | None, hire: str) -> Mapping[str, str]:
    """Return a hire's statuses by access entry; none where the daemon does not say."""
    headers = {"Accept": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})

    async def asked() -> Any:
        async with (
            asyncio.timeout(SECONDS),  # as a whole: each byte of an answer has httpx's own
            httpx.AsyncClient(verify=tls_context(), follow_redirects=False, headers=headers) as client,
        ):
            return (await client.get(f"{url.rstrip('/')}/people/{quote(hire, safe='')}")).raise_for_status().json()

    try:
        return {str(each["access"]): str(each["status"]) for each in asyncio.run(asked())["grants"]}
    except (TimeoutError, httpx.HTTPError, ValueError, KeyError, TypeError):
        return {}
