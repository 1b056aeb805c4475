"""Say what the rules of a listing found on a page, and what leads from it to the next one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.model.exists import Exists, Listing, Pending
from reconciler.model.request import More, Paging
from reconciler.model.scope import walk
from reconciler.requests.match import refusal
from reconciler.requests.record import all_there, is_whole
from reconciler.transports.answer import Response
from reconciler.workshop.found import RuleFound, kind, nearest, next_step, quoted
from reconciler.workshop.lacking import has, lacks, lists_in, totals, ways_on

__all__ = ["listing_rules", "paging_rules"]

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
    yield from paging_rules(f"{name}.", listing, answer, len(items))


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


def paging_rules(before: str, paging: Paging, answer: Response, items: int = 0) -> Iterator[RuleFound]:
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
