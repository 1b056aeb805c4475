"""The filters in a page's URL: `hire`, `integration`, `status`, `event`, `since`, `until`, and the `page`.

A filter that is not understood is refused with what is allowed. To ignore it would show a list that is longer than the
one asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

from reconciler.model.clock import moment
from reconciler.model.status import EventType, Status
from reconciler.model.text import cut, hint
from reconciler.model.value import Frozen
from reconciler.web.daemon_view import Live

MAX_CHARACTERS, MAX_VALUES = 255, 50
"""The most characters of one value, and the most values of all filters together."""

MAX_PAGE = 1_000_000

E = TypeVar("E", bound=StrEnum)


class BadFilter(Exception):
    """A filter that makes no sense; the text says what is allowed."""


class Filters(Frozen):
    """The filters of a page. `given` are their values as written in the URL, without the page."""

    page: int = 1
    hires: tuple[str, ...] = ()
    integrations: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    events: tuple[EventType, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    given: Mapping[str, tuple[str, ...]] = {}

    def first(self, name: str) -> str:
        """Return the first value of a filter as it was written, or an empty text."""
        return next(iter(self.given.get(name, ())), "")

    def query(self, page: int) -> str:
        """Return the URL's query for another page with the same filters."""
        pairs = [(name, value) for name, values in self.given.items() for value in values]
        return urlencode([*pairs, *([("page", page)] if page > 1 else [])])


def page_filters(
    query: Iterable[tuple[str, str]], allowed: Collection[str], live: Live, integrations: Collection[str]
) -> Filters:
    """Read the filters of a page's URL. An empty one counts as absent, because a form sends all its fields.

    Raises BadFilter. `allowed` are the filters that the page has.
    """
    given = _given(query, allowed)
    page = _page(given.pop("page", ["1"])[0])
    for name in given.get("integration", ()):
        if name not in integrations:
            raise BadFilter(
                f"integration: there is no {cut(name, 40)}{hint(name, integrations)}; {_choices(integrations)}"
            )
    since, until = (
        _moment(name, given.get(name, [""])[0], live.now, live.active.settings.timezone) for name in ("since", "until")
    )
    if since is not None and until is not None and until <= since:
        raise BadFilter("until lies before since: nothing can have happened between them")
    return Filters(
        page=page,
        hires=tuple(given.get("hire", ())),
        integrations=tuple(given.get("integration", ())),
        statuses=_words("status", given.get("status", ()), Status),
        events=_words("event", given.get("event", ()), EventType),
        since=since,
        until=until,
        given={name: tuple(values) for name, values in given.items()},
    )


def _given(query: Iterable[tuple[str, str]], allowed: Collection[str]) -> dict[str, list[str]]:
    """Collect the values of each filter as written."""
    found: dict[str, list[str]] = {}
    for name, value in query:
        if name not in (*allowed, "page"):
            raise BadFilter(f"{cut(name, 40)}: there is no such filter here{hint(name, allowed)}; {_choices(allowed)}")
        if len(value) > MAX_CHARACTERS:
            raise BadFilter(f"{name}: at most {MAX_CHARACTERS} characters")
        if "\0" in value:
            raise BadFilter(f"{name}: no name has a null character")
        if value and value not in found.setdefault(name, []):
            found[name].append(value)
    if sum(map(len, found.values())) > MAX_VALUES:
        raise BadFilter(f"at most {MAX_VALUES} filters at a time")
    for name in ("page", "since", "until"):
        if len(found.get(name, ())) > 1:
            raise BadFilter(f"{name}: it stands there twice")
    return {name: values for name, values in found.items() if values}


def _moment(name: str, text: str, now: datetime, timezone: str) -> datetime | None:
    try:
        return moment(text, now, timezone, ends=name == "until") if text else None
    except ValueError as error:
        raise BadFilter(f"{name}: {cut(text, 40)}: {error}") from None


def _page(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_PAGE):
        raise BadFilter(f"page: {cut(text, 40)}: a number from 1 on")
    return int(text)


def _words(name: str, values: Collection[str], kind: type[E]) -> tuple[E, ...]:
    known = [str(each) for each in kind]
    for value in values:
        if value not in known:
            raise BadFilter(f"{name}: there is no {cut(value, 40)}{hint(value, known)}; {_choices(known)}")
    return tuple(kind(value) for value in values)


def _choices(words: Collection[str]) -> str:
    shown = sorted(words)[:30]
    return f"there are {', '.join(shown)}" if shown else "there are none"


class NoSuchPage(Exception):
    """There is no page of that address; the text says what is missing."""
