"""What came of `reconcile try`, as lines and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reconciler.model.template import PLACEHOLDER
from reconciler.model.text import described

if TYPE_CHECKING:
    from reconciler.engine.decide.planned import PlannedGrant
    from reconciler.model.secret import Redactor
    from reconciler.transports.answer import Response
    from reconciler.workshop.canned import Exchange
    from reconciler.workshop.trying import ListedPage, Subject, Tried

__all__ = ["as_json", "lines_of"]

LONGEST = 600
"""Characters of an answer that are shown."""

HIDDEN = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
"""Headers that are credentials, whatever they are made of."""


def _answered_before(tried: Tried, place: int) -> bool:
    """Whether the same was asked for the same part of the manifest, and answered, before."""
    asked = [
        (part, each.request, None if each.answer is None else (each.answer.status, each.answer.content))
        for part, each in zip(tried.parts, tried.exchanges, strict=True)
    ]
    return asked[place][2] is not None and asked[place] in asked[:place]


def lines_of(integration: str, subject: Subject, tried: Tried, redactor: Redactor) -> Iterator[str]:
    """Return the lines; only what is cut in them is redacted yet, and nothing is escaped."""
    whose = f"{subject.hire} ({subject.person.email})" if subject.hire else subject.person.email
    yield f"{whose if subject.named else 'no person'} at {integration}, with {tried.integration.file} as it stands"
    for place, exchange in enumerate(tried.exchanges):
        if _answered_before(tried, place):
            yield described(exchange.request.method, exchange.request.shown_url)
            yield "  once more, and answered as before"
            continue
        yield from _exchange(exchange, tried, redactor)
        yield from (f"    {line}" for rule in tried.rules.get(place, ()) for line in rule.lines)
    if tried.planned is not None:
        yield from _verdict(tried.planned, tried)
    elif tried.listed is None:
        yield "no verdict: the hire's values do not fit the manifest"
    if tried.unnoticed:
        words = ", ".join(tried.unnoticed)
        yield "the service says no with a status of success, and a refusal of these would count as done:"
        wants = "`continue_if: {response_notation: PATH, value: VALUE}`"
        yield f"  {words}: add {wants} to each request, as an answer that is well has it"
    if tried.listed is not None:
        yield from _listed(tried.listed)
    elif tried.lacks_listing:
        yield f"{tried.integration.file} has no exists.list: there is no listing to be read"


def _verdict(planned: PlannedGrant, tried: Tried) -> Iterator[str]:
    decision = planned.decision
    yield f"verdict: {decision.status}: {decision.reason}"
    yield f"a pass would {decision.action}" if decision.action.acts else "a pass would send nothing"
    for word, requests in tried.would_send.items():
        yield f"{word} would send"
        for request in requests:
            body = "" if request["body"] is None else f" {json.dumps(request['body'], ensure_ascii=False, default=str)}"
            yield f"  {request['method']} {request['url']}{body}"
        for name in tried.lacking.get(word, ()):
            yield f"    not as it stands: the check was to store {name}, and found nothing (see store_data above)"


def _exchange(exchange: Exchange, tried: Tried, redactor: Redactor) -> Iterator[str]:
    wire, answer = exchange.request, exchange.answer
    yield described(wire.method, wire.shown_url)
    yield from (f"  {key}: {value}" for key, value in _sent_headers(exchange, tried).items())
    if wire.content:
        yield f"  {_cut(wire.content.decode(errors='replace'), redactor)}"
    if answer is None:
        yield f"  no answer: {exchange.why}"
        return
    yield f"  {answer.status}"
    yield from (f"  {key}: {value}" for key, value in _answered_headers(answer, redactor).items())
    yield f"  {_cut(answer.text, redactor)}"


def _sent_headers(exchange: Exchange, tried: Tried) -> dict[str, str]:
    """Return a request's headers; what the manifest puts into one is a secret, however it is encoded."""
    manifest = tried.integration.manifest
    written = [manifest.headers, *(call.headers or {} for _, call in manifest.calls())]
    templates = {key.lower(): text for headers in written for key, text in headers.items() if "{{" in text}
    return {
        key: PLACEHOLDER.sub("***", templates[key.lower()])
        if key.lower() in templates
        else "***"
        if key.lower() in HIDDEN
        else value
        for key, value in exchange.request.headers
    }


def _answered_headers(answer: Response, redactor: Redactor) -> dict[str, str]:
    return {key: "***" if key in HIDDEN else _cut(value, redactor) for key, value in answer.headers.items()}


def _listed(page: ListedPage) -> Iterator[str]:
    if page.fault:
        yield f"the listing cannot be read: {page.fault}"
        return
    further = "; there are more pages" if page.more else ""
    yield f"the listing's first page has {page.items} items, of which {page.counted} count{further}"
    for item in page.first:
        yield f"  {json.dumps(item, ensure_ascii=False, default=str)}"


def _cut(text: str, redactor: Redactor) -> str:
    """Redact a text, then cut it: a secret that was cut would not be found."""
    text = redactor.redact(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def as_json(integration: str, subject: Subject, tried: Tried, redactor: Redactor) -> Any:
    """Return the object of docs/commands.md, "JSON"."""
    decision = None if tried.planned is None else tried.planned.decision
    listed = tried.listed
    return redactor.redact_all(
        {
            "integration": integration,
            "hire": subject.hire or None,
            "email": subject.person.email,
            "status": None if decision is None else decision.status,
            "action": None if decision is None else decision.action,
            "reason": None if decision is None else decision.reason,
            "exchanges": [
                {
                    **_exchange_as_json(each, tried, redactor),
                    "rules": [_rule(rule) for rule in tried.rules.get(place, ())],
                }
                for place, each in enumerate(tried.exchanges)
            ],
            "would_send": {word: list(requests) for word, requests in tried.would_send.items()},
            "unnoticed": list(tried.unnoticed),
            "listing": None
            if listed is None
            else {"items": listed.items, "counted": listed.counted, "first": list(listed.first), "fault": listed.fault},
        }
    )


def _exchange_as_json(exchange: Exchange, tried: Tried, redactor: Redactor) -> dict[str, Any]:
    wire, answer = exchange.request, exchange.answer
    asked = {"method": wire.method, "url": wire.shown_url, "headers": _sent_headers(exchange, tried)}
    if answer is None:
        return {"request": asked, "answer": None, "why": exchange.why}
    given = {
        "status": answer.status,
        "headers": _answered_headers(answer, redactor),
        "text": _cut(answer.text, redactor),
    }
    return {"request": asked, "answer": given, "why": ""}


def _rule(rule: Any) -> Mapping[str, Any]:
    return {"rule": rule.rule, "wanted": rule.wanted, "found": rule.found, "holds": rule.holds, "follows": rule.follows}
