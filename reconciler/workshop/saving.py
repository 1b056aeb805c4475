"""Make a case of a try: what the service answered, without anything of the person, and without what no rule reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.model.case import CannedAnswer, Case, Person
from reconciler.model.exists import Exists, Listing, Pending
from reconciler.model.request import More, Paging
from reconciler.model.scope import Layer, steps, walk
from reconciler.requests.match import contains
from reconciler.requests.record import find
from reconciler.requests.template import written
from reconciler.transports.answer import Response
from reconciler.workshop.canned import Exchange
from reconciler.workshop.stage import ManifestSource
from reconciler.workshop.testing import CaseResult, run_case
from reconciler.workshop.trying import Subject, Tried

__all__ = ["saved_case"]

MADE_UP = {
    "email": "ada@example.com",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "phone": "+15550100",
    "start": "2026-12-01",
    "end": "2099-12-31",
    "manager": "Grace Hopper",
    "manager_email": "grace@example.com",
    "buddy": "Alan Turing",
    "buddy_email": "alan@example.com",
}
SHORTEST = 3
"""Characters of a value from which on it is replaced within longer texts, too."""


async def saved_case(name: str, sources: ManifestSource, subject: Subject, tried: Tried) -> tuple[Case, CaseResult]:
    """Return the case, and what came of running it.

    The manifest is planned again for the made-up person, request by request: each gets what the service answered.
    """
    planned, manifest = tried.planned, tried.integration.manifest
    names = _replacements(subject, tried)
    said = {"name": "saved", "expect": "unknown" if planned is None else planned.decision.status}
    person = {key: MADE_UP.get(key, "made-up") for key in _given(subject) if key != "extra"}
    extra = {info.id: f"made-up-{info.id}" for info in manifest.extra_user_info}
    base = {**said, "hire": Person.model_validate({**person, "extra": extra}), "values": subject.values}
    answers: list[CannedAnswer] = []
    result = await run_case(name, sources, Case.model_validate(base))
    for exchange in tried.exchanges:
        waiting = next((each.request for each in result.exchanges if each.answer is None), None)
        if waiting is None or exchange.answer is None:
            break
        place = len(answers)
        body = _body(tried, exchange, place, names)
        headers = {key: it for key, it in exchange.answer.headers.items() if key in ("link", "location", "retry-after")}
        sent = json.loads(waiting.content) if waiting.content and waiting.method != "GET" else None
        found = {"url": waiting.url, "method": waiting.method, "status": exchange.answer.status, "body": body}
        answers.append(CannedAnswer.model_validate({**found, "data": sent, "headers": _replaced(headers, names)}))
        result = await run_case(name, sources, Case.model_validate({**base, "answers": answers}))
    return Case.model_validate({**base, "answers": answers}), result


def _given(subject: Subject) -> dict[str, Any]:
    return subject.person.model_dump(
        mode="json", exclude_none=True, exclude={"access", "sequences", "source", "without"}
    )


def _replacements(subject: Subject, tried: Tried) -> dict[str, str]:
    """Return what stands for what: the person's values, what the check stored, and the initial data."""
    found: dict[str, str] = {}
    given = _given(subject)
    for key, value in given.items():
        if isinstance(value, str):
            found[value] = MADE_UP.get(key, "made-up")
    found[subject.person.full_name] = "Ada Lovelace"
    found.update({written(value): f"made-up-{key}" for key, value in subject.person.extra.items()})
    stored = {} if tried.planned is None else tried.planned.seen
    found.update(
        {written(value): f"made-up-{key}" for key, value in stored.items() if not isinstance(value, dict | list)}
    )
    initial = tried.integration.initial or Layer("", {})
    found.update({written(value): f"made-up-{key}" for key, value in initial.values.items() if value is not None})
    return {key: value for key, value in found.items() if key}


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """Put the made-up values in place of the real ones, in whole texts without case, and within longer ones."""
    match value:
        case str():
            folded = {key.lower(): it for key, it in names.items()}
            if value.lower() in folded:
                return folded[value.lower()]
            for key in sorted(names, key=len, reverse=True):
                value = value.replace(key, names[key]) if len(key) >= SHORTEST else value
            return value
        case bool() | None:
            return value
        case int() | float():
            return 7 if str(value) in names else value
        case dict():
            return {key: _replaced(item, names) for key, item in value.items()}
        case list():
            return [_replaced(item, names) for item in value]
        case _:
            return value


def _body(tried: Tried, exchange: Exchange, place: int, names: Mapping[str, str]) -> Any:
    """Return as much of an answer as a rule reads."""
    answer, exists = exchange.answer, tried.integration.manifest.exists
    assert answer is not None
    content = answer.json()
    if content is None:
        return _replaced(answer.text[:200], names)
    if exists is None:
        return None
    if place in tried.rules:
        return _replaced(_of_check(exists, tried, answer), names)
    return _replaced(_of_listing(exists.pending or exists.listing, content, names), names)


def _of_check(exists: Exists, tried: Tried, answer: Response) -> Any:
    content = answer.json()
    check = tried.planned.prepared.check if tried.planned is not None and tried.planned.prepared is not None else None
    wanted = None if check is None else check.wanted
    at = walk(content, exists.record or "")
    account = find(at, exists.match, wanted, contains) if exists.compares and at else None
    below = [exists.match or "", *exists.where, *exists.inactive, *exists.invited]
    stored = [*exists.store_data.values()]
    own = [path.removeprefix("record.") for path in stored if exists.compares and path.startswith("record.")]
    paths = [path for path in stored if not (exists.compares and path.startswith("record."))]
    kept = _picked(content, [*exists.absent, *paths, *_paging(exists.pages)])
    if account is not None:
        picked = _picked(account, [*filter(None, below), *own])
        if wanted is not None and not contains(json.dumps(picked, ensure_ascii=False), wanted):
            picked = _merged(picked, _leaf_with(account, wanted))
        return _put(kept, steps(exists.record or ""), [picked] if isinstance(at, list) else picked)
    if exists.record is not None and isinstance(at, list):
        return _put(kept, steps(exists.record), [])
    if wanted is not None and contains(answer.text, wanted):
        return _merged(kept, _leaf_with(content, wanted))
    return kept or _picked(content, ["error", "message", "code"])


def _of_listing(listing: Listing | Pending | None, content: Any, names: Mapping[str, str]) -> Any:
    """Return the person's item of a listing's page, or none."""
    if listing is None:
        return _picked(content, ["ok", "error", "message"])
    found = walk(content, listing.data_from)
    if not isinstance(found, list):
        return _picked(content, ["ok", "error", "message"])
    folded = {key.lower() for key in names}
    mine = [item for item in found if str(walk(item, listing.match)).lower() in folded]
    stored = listing.store_data.values() if isinstance(listing, Pending) else ()
    kept = [_picked(item, [listing.match, *stored]) for item in mine]
    return _put(_picked(content, _paging(listing)), steps(listing.data_from), kept)


def _paging(paging: Paging | None) -> Iterator[str]:
    if paging is None:
        return
    match paging.next_page_from:
        case More() as source:
            yield source.more
        case str() as path:
            yield path
        case None:
            pass
    yield from filter(None, (paging.next_page_token_from, paging.count_up and paging.count_up.total_from))


def _picked(content: Any, paths: Iterable[str]) -> Any:
    """Return only what stands at these paths of a map."""
    kept: Any = {}
    for path in paths:
        value = walk(content, path)
        if value is not None or _holds(content, path):
            kept = _put(kept, steps(path), value)
    return kept


def _holds(content: Any, path: str) -> bool:
    *parents, last = steps(path) or [""]
    holder = walk(content, ".".join(parents)) if parents else content
    return isinstance(holder, Mapping) and last in holder


def _put(content: Any, keys: list[str], value: Any) -> Any:
    """Return the content with a value at these keys; numbers are places of a list."""
    if not keys:
        return _merged(content, value) if isinstance(content, dict) and isinstance(value, dict) else value
    key, *rest = keys
    if key.isdigit() and not (isinstance(content, dict) and content):
        items = list(content) if isinstance(content, list) else []
        items += [{} for _ in range(int(key) + 1 - len(items))]
        items[int(key)] = _put(items[int(key)], rest, value)
        return items
    known = dict(content) if isinstance(content, dict) else {}
    known[key] = _put(known.get(key, {}), rest, value)
    return known


def _merged(one: Any, other: Any) -> Any:
    return {**one, **other} if isinstance(one, dict) and isinstance(other, dict) else (other or one)


def _leaf_with(content: Any, wanted: str) -> Any:
    """Return the way to the first text that holds what is expected, and nothing beside it."""
    match content:
        case dict():
            for key, item in content.items():
                if (found := _leaf_with(item, wanted)) is not None:
                    return {key: found}
            return None
        case list():
            return next(([found] for item in content if (found := _leaf_with(item, wanted)) is not None), None)
        case _:
            return content if contains(json.dumps(content, ensure_ascii=False), wanted) else None
