"""Say what each rule of a check found in an answer: what a person reads who writes a manifest.

Where a rule found nothing it is said what there is instead, and what follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.model.manifest import Manifest
from reconciler.model.request import Exists, Listing, More, Paging, Pending
from reconciler.model.scope import walk
from reconciler.model.template import roots
from reconciler.requests.match import GONE, contains, not_an_answer, refusal
from reconciler.requests.record import Compared, all_there, find, is_whole, same
from reconciler.transports.messages import Response
from reconciler.workshop.found import (
    MOST_KEYS,
    RuleFound,
    has,
    kind,
    lacks,
    leaves,
    lists_in,
    nearest,
    next_step,
    place_of,
    quoted,
    totals,
    ways_on,
)


def check_rules(manifest: Manifest, wanted: str | None, compared: Compared, answer: Response) -> Iterator[RuleFound]:
    """Yield what each rule of `exists` found, in the order in which they decide."""
    exists = manifest.exists
    assert exists is not None
    if not_an_answer(exists, answer) is not None:
        found = f"not looked at: the answer was {answer.status}"
        yield RuleFound("rules", "", found, follows=_next_step(exists, answer))
        return
    content, text = answer.json(), answer.whole_text
    if answer.status in GONE and answer.status not in (exists.status_code or ()):
        yield from _pairs("absent", compared.absent, content, "the answer")
        found = f"not looked at: the answer was {answer.status}"
        yield RuleFound("other rules", "", found, follows="" if compared.absent or exists.ready else _URL_FIRST)
        return
    there = wanted is None or (text is not None and contains(text, wanted))
    at = walk(content, exists.record or "")
    account, says_absent = None, all_there(content, compared.absent)
    if not says_absent and (there or exists.match):
        account = find(at, exists, wanted, contains, compared.inactive) if at and exists.compares else at or None
    yield from _pairs("absent", compared.absent, content, "" if account is not None else "the answer")
    if wanted is not None:
        follows = "" if there or exists.absent or exists.ready or not exists.expected else _unsaid(content)
        yield RuleFound("expected", quoted(wanted), "", there, follows)
    if exists.record is not None:
        found = "no JSON" if content is None else kind(at)
        instead = lacks([content], exists.record, "the answer") if content is not None else None
        yield RuleFound("record", exists.record, found, at is not None, instead or "")
    if exists.match is not None and content is not None and not says_absent:
        yield _matched(exists.match, wanted, at, account)
    if exists.compares and account is not None:
        for rule, pairs in (("where", compared.where), ("inactive", compared.inactive), ("invited", compared.invited)):
            yield from _pairs(rule, pairs, account, "the record")
    yield from _stored(manifest, answer, account)
    if exists.pages is not None:
        yield from _paging_rules("pages.", exists.pages, answer)


def _unsaid(content: Any) -> str:
    """Say that any answer counts as one without an account, and how to tell this one from a refused token."""
    if content is None or next(lists_in(content), None) is not None:
        return ""
    said = next(((path, value) for path, value in leaves(content) if isinstance(value, str) and value), None)
    such = f", such as `absent: {{{said[0]}: {quoted(said[1])}}}` if that is what this one says" if said else ""
    return f"without `absent` an answer that refuses the token counts as no account, too: write how one looks{such}"


def _matched(match: str, wanted: str | None, at: Any, account: Any) -> RuleFound:
    if account is not None:
        return RuleFound("match", match, quoted(walk(account, match)), holds=True)
    items = at if isinstance(at, list) else [] if at is None else [at]
    place = next((each for item in items if wanted and (each := place_of(item, wanted)) is not None), None)
    lacking = lacks(items, match, "item" if isinstance(at, list) else "the record")
    follows = lacking or ""
    if place is not None and place != match:
        follows = "; ".join(filter(None, (follows.partition("; did you mean ")[0], f"{wanted} stands at {place}")))
    shown = "nothing" if lacking else nearest(items, match)
    return RuleFound("match", match, shown, holds=False, follows=follows, nowhere=lacking is not None)


def _pairs(rule: str, wanted: Mapping[str, Any], content: Any, one: str) -> Iterator[RuleFound]:
    """Yield what stands at each path; `one` names what is looked at where it is to be said what there is instead."""
    for path, value in wanted.items():
        there = walk(content, path)
        word = "wants" if rule == "where" else "is"
        follows = lacks([content], path, one) if one and content is not None else None
        if isinstance(there, Mapping):
            follows = f"a record stands there, with {', '.join(list(there)[:MOST_KEYS])}: write the path within it"
        yield RuleFound(f"{rule} {path}", f"{word} {quoted(value)}", quoted(there), same(there, value), follows or "")


def _stored(manifest: Manifest, answer: Response, account: Any) -> Iterator[RuleFound]:
    """Yield what `store_data` saves."""
    exists = manifest.exists
    assert exists is not None
    for name, path in exists.store_data.items():
        of_record = exists.compares and path.startswith(_RECORD)
        within = path.removeprefix(_RECORD) if of_record else path
        value = walk(account, within) if of_record else answer.at(path)
        rule, wanted = "store_data", f"{name} from {path}"
        if value is not None:
            yield RuleFound(rule, wanted, quoted(value))
        elif account is None:
            yield RuleFound(rule, wanted, "nothing, as the account was not found")
        else:
            one, looked = ("the record", account) if of_record else ("the answer", answer.json())
            said = None if path.lower().startswith("header:") or looked is None else lacks([looked], within, one)
            if exists.compares and not of_record and has(account, path):
                said = f"the record has it: write {_RECORD}{path}"
            follows = "; ".join(filter(None, (said, _consequence(manifest, name))))
            yield RuleFound(rule, wanted, "nothing", holds=False, follows=follows, nowhere=said is not None)


_RECORD = "record."


def users_of(manifest: Manifest, name: str) -> list[str]:
    """Return the lists of requests that use a variable."""
    return [word for word, calls in manifest.request_lists.items() if name in roots([it.model_dump() for it in calls])]


def _consequence(manifest: Manifest, name: str) -> str:
    using = users_of(manifest, name)
    return f"without {{{{{name}}}}} {' and '.join(using)} cannot be sent" if using else ""


_URL_FIRST = (
    "a wrong URL answers this for everybody: try somebody who has an account, and write `absent` or `ready`, which "
    "tell the two apart"
)


def _next_step(exists: Exists, answer: Response) -> str:
    status, listed = answer.status, exists.status_code
    if status in GONE and exists.fail_when_4xx_response_code and not listed:
        return (
            "look at the URL first: a wrong one answers this for everybody; if it is right, try somebody who has an "
            "account; where the service says so that nobody is there, write `fail_when_4xx_response_code: false`"
        )
    if listed and status not in listed and 200 <= status < 300:
        return f"`status_code` lists {', '.join(map(str, listed))} only: add {status} if it is an answer, too"
    return next_step(status)


SHOWN = 3


def listing_rules(
    exists: Exists, listing: Listing | Pending, wanted: str | None, only: Mapping[str, Any], answer: Response
) -> Iterator[RuleFound]:
    """Yield what each rule of a listing, of accounts or of open invitations, found on a page.

    `only` has its values rendered.
    """
    name = "pending" if isinstance(listing, Pending) else "list"
    if refusal(listing, answer.status) is not None:
        yield RuleFound(name, "", f"not looked at: the answer was {answer.status}", None, next_step(answer.status))
        return
    content = answer.json()
    items = None if content is None else walk(content, listing.data_from)
    if not isinstance(items, list):
        found = "no JSON" if content is None else kind(items)
        follows = "" if content is None else f"a list stands at {', '.join(lists_in(content)) or 'no path of it'}"
        yield RuleFound(f"{name}.data_from", listing.data_from, found, holds=False, follows=follows)
        return
    counted = [item for item in items if not only or all_there(item, only)]
    let = f", of which `only` lets {len(counted)} through" if only else ""
    yield RuleFound(f"{name}.data_from", listing.data_from, f"a list of {len(items)}{let}")
    if (said := lacks(items, listing.match, "item")) is not None:
        yield RuleFound(f"{name}.match", listing.match, "nothing", holds=False, follows=said, nowhere=True)
    elif items and wanted is not None:
        there = [value for item in counted if is_whole(value := walk(item, listing.match), wanted)]
        shown = quoted(there[0]) if there else nearest(items, listing.match)
        yield RuleFound(f"{name}.match", listing.match, shown, bool(there))
    for rule, (path, then) in _paths(name, exists, listing).items():
        if (said := lacks(items, path, "item")) is not None:
            within = _within_record(items, path) if then else None
            yield RuleFound(rule, path, "nothing", None, within or f"{said}{then}")
    yield from _paging_rules(f"{name}.", listing, answer, len(items))


def _paths(name: str, exists: Exists, listing: Listing | Pending) -> dict[str, tuple[str, str]]:
    """Return the paths in an item that are read beside `match`, by their rule, with what comes of an error in them."""
    paths = {f"{name}.only": (path, "; no account counts") for path, value in listing.only.items() if value is not None}
    if isinstance(listing, Pending):
        return paths | {f"{name}.store_data {key} from": (path, "") for key, path in listing.store_data.items()}
    if listing.account:
        paths[f"{name}.account"] = (listing.account, "")
    paths |= {f"{name}.fields.{key}": (path, "") for key, path in listing.fields.items()}
    if listing.used:
        paths[f"{name}.used"] = (listing.used, "")
    alone = "; the listing cannot decide without it, and each account is checked on its own"
    for rule in ("where", "inactive", "invited"):
        paths |= {f"{name}: {rule}": (path, alone) for path in getattr(exists, rule)}
    return paths


def _within_record(items: Sequence[Any], path: str) -> str | None:
    """Say that a rule's path begins with the account's own place in the check's answer, if it does."""
    keys = path.split(".")
    for at in range(1, len(keys)):
        before, rest = ".".join(keys[:at]), ".".join(keys[at:])
        if any(has(item, rest) for item in items):
            return (
                f"items have {rest}: write `record: {before}`, where the account stands in the check's answer, and the "
                f"rules' paths from there on, such as {rest}"
            )
    return None


def _paging_rules(before: str, paging: Paging, answer: Response, items: int = 0) -> Iterator[RuleFound]:
    """Yield what leads on from a page of so many items; `before` is what stands before the rules' names."""
    content, source = answer.json(), paging.next_page_from
    paths = {"next_page_token_from": paging.next_page_token_from}
    if isinstance(source, More):
        paths |= {"next_page_from.more": source.more, "next_page_from.from": source.origin}
    elif source is not None:
        paths["next_page_from"] = source
    if paging.count_up is not None:
        paths["count_up.total_from"] = paging.count_up.total_from
    asked = {rule: path for rule, path in paths.items() if path is not None}
    others = [way for way in _ways(answer, items) if way[0] not in asked.values()][:SHOWN]
    for rule, path in asked.items():
        value = answer.at(path)
        follows = ""
        if value in (None, "", False):
            said = (
                None
                if path.lower().startswith("header:") or has(content, path)
                else lacks([content], path, "the answer")
            )
            leads = f"; this may lead on: {', '.join(way for way, _ in others)}" if said and others else ""
            follows = f"{said}{leads}: so this is the last page" if said else "this is the last page"
        yield RuleFound(f"{before}{rule}", path, quoted(value), None, follows)
    if not asked and paging.count_up is None and others:
        follows = f"without it only this page is read; this may lead on: {', or '.join(how for _, how in others)}"
        yield RuleFound(f"{before}next_page_from", "", "not in the manifest", None, follows)


def _ways(answer: Response, items: int) -> Iterator[tuple[str, str]]:
    """Yield what may lead to the next page, each with how a manifest says so."""
    if 'rel="next"' in answer.headers.get("link", ""):
        yield "header:Link", "`next_page_from: header:Link`"
    for path, value in ways_on(answer.json()):
        if value is True:
            yield path, f"`next_page_from: {{more: {path}, parameter: NAME, from: PATH}}`"
        elif isinstance(value, str) and "/" in value:
            yield path, f"`next_page_from: {path}`"
        else:
            yield path, f"`next_page_token_from: {path}` with `next_page`, the URL with {{{{NEXT_PAGE_TOKEN}}}} in it"
    for path, total in totals(answer.json(), items):
        yield path, f"`count_up: {{parameter: NAME, total_from: {path}}}`, as it says {total}"
