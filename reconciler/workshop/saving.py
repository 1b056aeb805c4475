"""Make cases of a try: what the service answered, without anything of the person, and without what no rule reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from reconciler.model.case import CannedAnswer, Case, Person, SentRequest
from reconciler.model.manifest import Manifest
from reconciler.model.request import Exists, Listing, More, Paging, Pending
from reconciler.model.scope import steps, walk
from reconciler.model.status import Status
from reconciler.requests.match import contains
from reconciler.requests.record import NOTHING, find
from reconciler.requests.template import written
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.workshop.found import has
from reconciler.workshop.stage import NOT_THE_PERSONS, CheckPart, Exchange, ManifestSource
from reconciler.workshop.testing import CaseResult, run_case
from reconciler.workshop.trying import HAS_ACCOUNT, Subject, Tried

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


async def saved_cases(name: str, sources: ManifestSource, subject: Subject, tried: Tried) -> list[CaseResult]:
    """Return the cases with what came of running each: the check, the listing where it was read, and a removal.

    The manifest is planned again for the made-up person, request by request: each gets what the service answered. What
    would be sent then is what a case says that it sends.
    """
    if tried.planned is None or tried.planned.decision.status in (Status.BLOCKED, Status.INVALID):
        return []
    manifest = tried.integration.manifest
    person = {key: MADE_UP.get(key, "made-up") for key in _given(subject) if key != "extra"}
    extra = {info.id: f"made-up-{info.id}" for info in manifest.extra_user_info}
    whose = {"hire": Person.model_validate({**person, "extra": extra}), "values": subject.values}
    alone = [each for each in tried.exchanges if each.part is not CheckPart.LISTING]
    listed = [each for each in tried.exchanges if each.part is CheckPart.LISTING]
    ways: list[tuple[str, dict[str, Any], list[Exchange]]] = [("as it was", {}, alone)]
    if listed:
        ways.append(("by the listing", {"list": True}, [*listed, *alone]))
    if manifest.revoke and tried.planned.decision.status in HAS_ACCOUNT:
        ways.append(("who left", {"orphan": True}, alone))
    names = _replacements(subject, tried)
    made = []
    for what, flags, exchanges in ways:
        expect = Status.ORPHANED if "orphan" in flags else tried.planned.decision.status
        case = Case.model_validate({"name": f"{expect}: {what}", "expect": expect, **whose, **flags})
        result = await _replayed(case, exchanges, name=name, sources=sources, tried=tried, names=names)
        if not flags or all(each.answer is not None for each in result.exchanges):
            made.append(result)
    return made


async def _replayed(
    case: Case, given: Iterable[Exchange], *, name: str, sources: ManifestSource, tried: Tried, names: Mapping[str, str]
) -> CaseResult:
    """Give a case the answers of these exchanges, as many as it asks for, and what would be sent then.

    `names` says what stands for what.
    """
    answers: list[CannedAnswer] = []
    result = await run_case(name, sources, case)
    for exchange in given:
        waiting = next((each.request for each in result.exchanges if each.answer is None), None)
        if waiting is None or exchange.answer is None:
            break
        answers.append(_answer(waiting, exchange.answer, _body(tried, exchange, names), names))
        result = await run_case(name, sources, case.model_copy(update={"answers": answers}))
    sends = [_sent(each) for each in result.sends]
    return await run_case(name, sources, case.model_copy(update={"sends": sends, "answers": answers}))


def _sent(request: Mapping[str, Any]) -> SentRequest:
    said = {"method": request["method"], "url": request["url"]}
    return SentRequest.model_validate(said if request["body"] is None else {**said, "data": request["body"]})


def _answer(waiting: RenderedRequest, answer: Response, body: Any, names: Mapping[str, str]) -> CannedAnswer:
    headers = {key: it for key, it in answer.headers.items() if key in ("link", "location", "retry-after")}
    sent = json.loads(waiting.content) if waiting.content and waiting.method != "GET" else None
    found = {"url": waiting.url, "method": waiting.method, "status": answer.status, "body": body}
    return CannedAnswer.model_validate({**found, "data": sent, "headers": _replaced(headers, names)})


def uncovered(manifest: Manifest, cases: Iterable[Case]) -> Iterator[str]:
    """Yield what no case of these covers, and how to get one that does."""
    cases, exists = list(cases), manifest.exists
    expected = {case.expect for case in cases if not case.orphan}
    if manifest.execute and Status.MISSING not in expected:
        yield "execute: save a try of an address that has no account (--email ADDRESS)"
    if manifest.updates and Status.DIFFERS not in expected:
        yield "update: save a try with a value that the account does not have (--value KEY=VALUE)"
    if manifest.revoke and not any(case.orphan for case in cases):
        yield "revoke: save a try of somebody who has an account"
    if manifest.listing is not None and not any(case.listed for case in cases):
        yield "list: save a try with --list of somebody who is on the listing's first page"
    if exists is not None and Status.UNKNOWN not in expected:
        yield "a refused token: save a try with one that is wrong; it has to be `unknown`"
    for word in ("lock", "withdraw"):
        if manifest.request_lists[word]:
            yield f"{word}: no case runs it"
    yield "how the service answers what `sends` lists: a try sends nothing that changes anything"


def _given(subject: Subject) -> dict[str, Any]:
    return subject.person.model_dump(mode="json", exclude_none=True, exclude=NOT_THE_PERSONS)


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
    for layer in filter(None, (tried.integration.initial, tried.integration.unasked)):
        found.update({written(value): f"made-up-{key}" for key, value in layer.values.items() if value is not None})
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


def _body(tried: Tried, exchange: Exchange, names: Mapping[str, str]) -> Any:
    """Return as much of an answer as a rule reads."""
    answer, exists = exchange.answer, tried.integration.manifest.exists
    assert answer is not None
    content = answer.json()
    if content is None:
        return _replaced(answer.text[:200], names)
    if exists is None:
        return None
    if exchange.part is CheckPart.CHECK:
        return _replaced(_of_check(exists, tried, answer), names)
    listing = exists.pending if exchange.part is CheckPart.PENDING else exists.listing
    return _replaced(_of_listing(exists, listing, content, names), names)


def _of_check(exists: Exists, tried: Tried, answer: Response) -> Any:
    content = answer.json()
    check = tried.planned.prepared.check if tried.planned is not None and tried.planned.prepared is not None else None
    wanted = None if check is None else check.wanted
    at = walk(content, exists.record or "")
    inactive = NOTHING.inactive if check is None else check.compared.inactive
    account = find(at, exists, wanted, contains, inactive) if exists.compares and at else None
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


def _of_listing(exists: Exists, listing: Listing | Pending | None, content: Any, names: Mapping[str, str]) -> Any:
    """Return the person's item of a listing's page, or none; of a listing of accounts it is the last page."""
    found = None if listing is None else walk(content, listing.data_from)
    if listing is None or not isinstance(found, list):
        return _picked(content, ["ok", "error", "message"])
    folded = {key.lower() for key in names}
    mine = [item for item in found if str(walk(item, listing.match)).lower() in folded]
    read = [listing.match, *listing.only]
    if isinstance(listing, Pending):
        kept = [_picked(item, [*read, *listing.store_data.values()]) for item in mine]
        return _put(_picked(content, _paging(listing)), steps(listing.data_from), kept)
    kept = [_picked(item, [*read, *exists.where, *exists.inactive, *exists.invited]) for item in mine]
    counted = None if listing.count_up is None else listing.count_up.total_from
    return _put(_put({}, steps(counted), len(kept)) if counted else {}, steps(listing.data_from), kept)


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
        if value is not None or has(content, path):
            kept = _put(kept, steps(path), value)
    return kept


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
    """Return what either has, at each path."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {key: _merged(one.get(key), value) for key, value in other.items()}
    if isinstance(one, list) and isinstance(other, list):
        return [_merged(*pair) for pair in zip_longest(one, other)]
    return one if other is None else other


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
