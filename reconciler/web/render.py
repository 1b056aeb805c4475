"""Render pages as HTML: Jinja, with every value escaped and every missing value an error.

Each text is made printable first, so that no name can reverse a line or hide part of it. The filter `redacted` redacts
texts of services and people once more, although the ledger has no secrets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reconciler.model.status import FAULTS, EventType, Status
from reconciler.model.text import described, printable

if TYPE_CHECKING:
    from jinja2 import Environment

STATIC = {
    name: ((files("reconciler.web") / "static" / name).read_bytes(), kind)
    for name, kind in {
        "style.css": "text/css; charset=utf-8",
        "filter.js": "text/javascript; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }.items()
}
"""The files that pages load, with their types. Nothing else is served from the disk."""

VERSION = hashlib.sha256(b"".join(content for content, _ in STATIC.values())).hexdigest()[:12]

TONES = {
    **dict.fromkeys((Status.PRESENT, Status.DONE), "good"),
    **dict.fromkeys(FAULTS, "bad"),
    **dict.fromkeys((Status.DIFFERS, Status.ORPHANED), "look"),
    **dict.fromkeys((Status.MISSING, Status.RETRYING, Status.UNCONFIRMED), "wait"),
    **dict.fromkeys((Status.SCHEDULED, Status.SUSPENDED), "wait"),
    Status.REVOKED: "over",
}
"""How a status is shown: each tone has its own colour and shape."""

EVENT_TONES = {
    **dict.fromkeys((EventType.ADOPTED, EventType.EXECUTED, EventType.CONFIRMED), "good"),
    **dict.fromkeys((EventType.HEALED, EventType.UPDATED), "good"),
    **dict.fromkeys((EventType.ATTEMPT_FAILED, EventType.ATTEMPT_INTERRUPTED, EventType.REVOKE_FAILED), "bad"),
    **dict.fromkeys((EventType.BLOCKED, EventType.NOTIFICATION_FAILED, EventType.HELD), "bad"),
    **dict.fromkeys((EventType.LOST, EventType.DIFFERED, EventType.ORPHANED, EventType.EXPIRED), "look"),
}

SHAPES = {"good": "●", "bad": "▲", "look": "◆", "wait": "◐", "over": "○"}


def environment(redact: Callable[[str], str]) -> Environment:
    """Load the templates; Jinja is loaded with them, by the first page and not by the start of a daemon."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("reconciler.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters.update(described=described, redacted=redact, moment=_moment, ago=_ago)
    made.filters.update(commit=_commit, badge=_badge, marked=_marked, text=_text)
    made.globals.update(url=url, count=_count, tone=_tone, version=VERSION)
    made.globals.update(every_status=list(Status), every_event=list(EventType))
    return made


def static_route(*, lasts: int) -> Route:
    """Make the route of the files that pages load; browsers keep one for so many seconds."""

    async def answer(request: Request) -> Response:
        found = STATIC.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("not found\n", status_code=404)
        return Response(found[0], media_type=found[1], headers={"Cache-Control": f"public, max-age={lasts}"})

    return Route("/static/{name}", answer)


def url(*parts: str) -> str:
    """Make the path of a page; each part is one segment and is quoted."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _tone(word: Status | EventType) -> str:
    return TONES[word] if isinstance(word, Status) else EVENT_TONES.get(word, "over")


def _text(value: Any) -> str:
    """Show a value of a file or an account: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _badge(word: Status | EventType) -> Markup:
    return _marked(str(word).replace("_", " "), _tone(word))


def _marked(text: str, tone: str) -> Markup:
    """Show a word with the colour and the shape of a tone."""
    shown = Markup('<span class="badge {}"><span aria-hidden="true">{}</span> {}</span>')
    return shown.format(tone, SHAPES[tone], printable(text))


def _moment(at: datetime | str | None) -> Markup:
    """Show a time in UTC, to the second for machines and to the minute for people."""
    if at is None:
        return Markup("–")
    try:
        utc = (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC)
    except (ValueError, OverflowError):  # a file may contain any text
        return escape(printable(str(at)))
    return Markup('<time datetime="{}">{}</time>').format(f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M}")


def _ago(at: datetime | str | None, now: datetime) -> Markup:
    """Show how long ago a time is, or how far ahead."""
    if at is None:
        return Markup("never")
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    utc = at.astimezone(UTC)
    text = _span(now - utc) + " ago" if at <= now else "in " + _span(utc - now)
    full = f"{utc:%Y-%m-%d %H:%M} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(f"{utc:%Y-%m-%dT%H:%M:%SZ}", full, text)


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for length, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= length:
            return _count(seconds // length, unit)
    return _count(seconds, "second")


def _commit(revision: str | None) -> Markup:
    """Show a commit's id: abbreviated, and in full as its title."""
    if not revision:
        return Markup("–")
    return Markup('<code class="commit" title="{}">{}</code>').format(escape(revision), printable(revision)[:12])
