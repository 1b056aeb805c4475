"""Send a pass's news to the receivers of alerts that the settings name.

`reconciler.notify.rules` decides what is news. The alerts that were sent are a note in the ledger. So is the record of
each integration's outages, since when its checks failed, until when, and why: a restart neither loses one nor leaves it
open for ever.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from reconciler.ledger.entries import Event
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import Blocked, LedgerError, TransportError
from reconciler.model.report import Row
from reconciler.model.revision_status import Stale
from reconciler.model.secret import Redactor
from reconciler.model.settings import Alert
from reconciler.model.value import Frozen, replace
from reconciler.notify.delivery import DeliveryContext, DeliveryRevision, NotSent, Post
from reconciler.notify.rules import AlertState, CheckStreak, Message, News, NewsKind, alerts_of
from reconciler.requests.hosts import AllowedHosts
from reconciler.transports.address import parse
from reconciler.transports.messages import RenderedRequest

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

log = structlog.get_logger()

NOTE = "alerts"
OUTAGES = "outages:"
KEPT = 20
"""The most outages of an integration that are remembered."""

PATIENCE_SECONDS = 60.0
"""Seconds that one receiver may take."""


async def send_alert(revision: DeliveryRevision, message: Message) -> None:
    """Send a message to every receiver. One that cannot be reached is logged, and not tried again. Never raises."""
    post, redact = Post(revision), revision.context.redactor.redact_all

    async def to(receiver: Alert) -> None:
        kind = "email" if receiver.email is not None else "webhook"
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if receiver.email is not None:
                    await post.email(receiver.email, redact(message.subject), redact(message.text))
                else:
                    content = {"text": for_chat(redact(message.text)), "events": redact(message.events)}
                    await _call(revision, await post.filled(receiver.webhook or ""), content)
        except (NotSent, TransportError, LedgerError, Blocked, TimeoutError) as error:
            problem = redact(str(error)) or f"took longer than {PATIENCE_SECONDS:g} s"
        else:
            return
        log.error("alert.not_sent", receiver=kind, problem=problem, about=[str(item.kind) for item in message.news])

    await asyncio.gather(*map(to, revision.settings.alerts))


async def _call(revision: DeliveryRevision, url: str, content: Mapping[str, Any]) -> None:
    """Post to a webhook. Its URL is often a secret itself; only its host is ever shown."""
    address = parse(url)
    if address is None:
        raise NotSent("the webhook is no http or https address")
    # A client each: if its hosts change it is replaced, while connections of the old one are still open.
    hosts = AllowedHosts(frozenset({address.name}))
    client = revision.context.client(f"(alerts to {address.name})", hosts, revision.settings.limits)
    body = json.dumps(content).encode()
    call = RenderedRequest("POST", url, address.name, (("Content-Type", "application/json"),), body)
    try:
        answer = await client.send(call)
    except TransportError as error:  # it may repeat what was answered, and a redirect's text has the path again
        _, _, *ours = re.split(r"[/?&=#]+", url)
        raise NotSent(Redactor(ours).redact(str(error))) from None
    if not 200 <= answer.status < 300:
        raise NotSent(f"{address.name} answered {answer.status}")


def forget(ledger: LedgerWriter, hire: str) -> None:
    """Erase a person from the alerts' state, and of outages what services said: it may name the person."""
    if ledger.notes.get(NOTE) is not None:
        ledger.notes.put(NOTE, lambda noted: AlertState.read(noted).without(hire).written())
    for name, value in ledger.notes.beginning(OUTAGES).items():
        without = [replace(each, reason="") for each in _outages_in(value)]
        ledger.notes.put(f"{OUTAGES}{name}", msgspec.json.encode(without))


async def alert_freshness(
    revision: DeliveryRevision, changed: tuple[Stale | None, Stale | None], member: str = ""
) -> None:
    """Alert that git's commits are not taken over, or that they are again: before and now. Never raises.

    By a `member` of a fleet, if one is named: others take them over.
    """
    before, now = changed
    by = f"by member {member}: " if member else ""
    if now is not None:
        acting = "others take them over" if member else f"acting on {revision.tree.revision[:12]}"
        news = News(NewsKind.STALE, "", 0, f"{by}{now.reason}; {acting}", since=now.since)
    else:
        since = None if before is None else before.since
        news = News(NewsKind.CAUGHT_UP, "", 0, f"{by}they had not been since {since}", since=since)
    await alert_of(revision, news)


async def alert_of(revision: DeliveryRevision, news: News) -> None:
    """Alert of one thing that no pass found. Never raises."""
    await send_alert(revision, Message((news,)))


async def alert_due(
    context: DeliveryContext, ledger: OpenLedger, rows: list[Row], events: list[Event]
) -> Message | None:
    """Return what is to be told of a pass, and note that it was. Never raises: a failure is logged."""
    message: Message | None = None
    now = context.clock.now()

    def updated(noted: bytes | None) -> bytes:
        nonlocal message
        message, after = alerts_of(AlertState.read(noted), rows, events, now)
        return after.written()

    try:
        # Saved before it is sent, in one transaction: of two concurrent passes only one may send it.
        if updated(noted := await ledger.run(lambda reader: reader.notes.get(NOTE))) != noted:
            await ledger.run(lambda writer: writer.notes.put(NOTE, updated))
    except LedgerError as error:
        problem = str(error)
    else:
        return message
    log.error("alert.not_noted", problem=problem)
    return None


_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

_BEGINS = re.compile(
    r"(?<=@)(?=\w)"  # @channel, a person, an address
    r"|(?<=\])(?=[(\[:])"  # [text](url), [text][reference], [reference]: url
    r"|(?<=:)(?=//)"  # https://
    r"|(?<=\w)(?=\.(?!(?:asc|csv|gpg|json|md|py|ya?ml)\b)[^\W\d_]{2,})"  # example.com, and no file's name
)
"""Where a mention or a link would begin, or an address go on."""

NO_WIDTH = "\u200b"


def for_chat(text: str) -> str:
    """Return a text that a chat shows as it stands: it mentions nobody and links to nothing.

    A webhook says nothing of the chat behind it, and all take the same message, `{"text": …}`. So the text is written
    as all of them read it: those with Slack's markup (`<!channel>`, `<url|text>`) decode `&lt;`, and so does Markdown;
    a character without width separates what would become a mention or a link.
    """
    return _BEGINS.sub(NO_WIDTH, text).translate(_MARKUP)


class Outage(Frozen):
    """One outage; `until` is None while it lasts. Moments are UTC, ISO 8601."""

    since: str
    reason: str
    until: str | None = None


def outages_of(ledger: LedgerReader) -> dict[str, list[Outage]]:
    """Return the outages of each integration, newest first."""
    return {name: _outages_in(value) for name, value in ledger.notes.beginning(OUTAGES).items()}


def watches(ledger: LedgerReader) -> dict[str, CheckStreak]:
    """Return the outages whose end a starting daemon has to watch for: those that lasted when the last one ended."""
    lasting = {name: found[0] for name, found in outages_of(ledger).items() if found and found[0].until is None}
    return {name: CheckStreak(down_since=outage.since) for name, outage in lasting.items()}


def note_outages(ledger: LedgerWriter, news: Iterable[News], now: str) -> None:
    """Save outages that begin and end; `now` is a time."""
    for item in news:
        name = f"{OUTAGES}{item.integration}"
        known = _outages_in(ledger.notes.get(name) or b"[]")
        lasts = bool(known) and known[0].until is None
        if item.kind is NewsKind.OUTAGE and not lasts:
            known.insert(0, Outage(item.since or now, item.reason))
        elif item.kind is NewsKind.RECOVERED and lasts:
            known[0] = replace(known[0], until=now)
        ledger.notes.put(name, msgspec.json.encode(known[:KEPT]))


def _outages_in(value: bytes) -> list[Outage]:
    return msgspec.json.decode(value, type=list[Outage])
