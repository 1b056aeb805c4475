"""Say in plain words what follows from a change: for who has never seen the program, without its documentation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

from reconciler.cli.output.text import clipped, count
from reconciler.model.base import DAY
from reconciler.model.settings import Settings
from reconciler.model.text import described
from reconciler.review.causes import CauseKind, ChangeKind, Consequence
from reconciler.review.consequences import AT_ONCE, HELD, Applied, Change, HeldOffline, Leaving

Quote = Callable[[str], str]
"""Makes a text from a file safe for the output."""

A_DAY = timedelta(days=1)

MAX_VALUE = 200
"""The most characters of a value of a manifest."""

_VERBS = {ChangeKind.ADDED: "gets", ChangeKind.CHANGED: "keeps", ChangeKind.REMOVED: "loses"}
_PLURAL = {"gets": "get", "keeps": "keep", "loses": "lose", "is no longer to have": "are no longer to have"}


def person(change: Change, quote: Quote) -> str:
    """Write whom a change is about: the name, and the id."""
    return quote(f"{change.name} ({change.key.hire})" if change.name else change.key.hire)


def people(number: int) -> str:
    """Write how many people."""
    return "1 person" if number == 1 else f"{number} people"


def verb(change: Change, *, several: bool = False) -> str:
    """Say whether somebody gets, keeps or loses something; nobody loses what stays."""
    said = "is no longer to have" if change.only_reported else _VERBS[change.kind]
    return _PLURAL[said] if several else said


def what_follows(change: Change) -> str:
    """Write from and until when, and what becomes of the account; nothing where nothing is special."""
    if change.kind is ChangeKind.REMOVED:
        return "" if change.leaving is None else f"; it {_leaving(change.leaving)}"
    starts = "" if change.starts is None else f" from {change.starts}"
    if change.starts == AT_ONCE:
        starts = f" at once, before the first day ({change.first_day})"
    return starts if change.ends is None else f"{starts} until {_end(change.ends)}{_then(change.leaving)}"


def left_to_do(change: Change) -> str:
    """Say what a person has to do for a change to come true at the service; nothing where the program does it."""
    return f"; {change.applied.text}" if change.applied is Applied.NOT_UPDATED else ""


def _end(ends: str) -> str:
    """Write when something ends: of a day with whose begin it does, the day before, which people mean by "until"."""
    return f"the end of {date.fromisoformat(ends) - A_DAY}" if DAY.fullmatch(ends) else ends


def _leaving(leaving: Leaving) -> str:
    if leaving.at is not None:
        return f"is revoked at the service when its time is over: {_end(leaving.at)}"
    stays = leaving.stays
    return "is revoked at the service" if stays is None else f"stays, and is only reported: {stays.text}"


def _then(leaving: Leaving | None) -> str:
    if leaving is None or leaving.stays is None:
        return ", then revoked"
    return f", then it stays, and is only reported: {leaving.stays.text}"


def fields(change: Change, quote: Quote) -> str:
    """Write the fields that differ and what follows, or all fields of a grant that is added or removed."""
    if change.kind is ChangeKind.CHANGED:
        steps = ", ".join(_step(name, pair, quote) for name, pair in change.fields.items())
        if change.applied is None:
            return steps
        becomes = "" if change.former is None else f" {_leaving(change.former)}"
        return f"{steps} ({change.applied.text}{becomes})"
    side = 1 if change.kind is ChangeKind.ADDED else 0
    shown = {name: pair[side] for name, pair in change.fields.items() if name not in _SAID_BY_DATES}
    return ", ".join(f"{quote(_called(name))} {quote(_text(value))}" for name, value in shown.items())


def _step(name: str, pair: tuple[object, object], quote: Quote) -> str:
    return f"no longer held: {quote(_text(pair[0]))}" if name == HELD else f"{quote(_called(name))} {step(pair, quote)}"


_SAID_BY_DATES = ("at", "until", "for", "end")


def _called(name: str) -> str:
    return name.removeprefix("values.")


def privilege(change: Change, quote: Quote) -> str:
    """Write which of the values give more than others have."""
    return ", ".join(f"{quote(name)} {quote(_text(value))}" for name, value in change.privileged.items())


def cause(each: Consequence, quote: Quote) -> str:
    """Write what changed, and how many gain and lose what through it; of one person the changes themselves say it."""
    number, title = len(each.people), f"{each.cause.kind.text}{quote(each.cause.what)}"
    if each.cause.kind in (CauseKind.MANIFEST, CauseKind.SETTINGS):
        return f"{title}{_concerns(each)}"
    if each.cause.kind is CauseKind.HIRE and each.cause.change is not ChangeKind.CHANGED:
        news = "new: this person joins" if each.cause.change is ChangeKind.ADDED else "gone: this person leaves"
        return f"{quote(each.cause.file or each.cause.what)} is {news}"
    if number == 1:
        whom = f" ({quote(*each.people)})" if each.cause.kind is CauseKind.FIELDS else ""
        return f"{title}{whom}"
    told = (("gain", each.added), ("lose", each.revoked), ("are no longer to have", each.removed - each.revoked))
    found = [f"{what} {_counted(counts, number, quote)}" for what, counts in told if counts]
    whom = "two people for a pass: the address changes too" if each.cause.renamed else people(number)
    return f"{title}: {whom},{_alike(each)} {'; '.join(found) or count(each.grants, 'grant') + ' changed'}"


def _alike(each: Consequence) -> str:
    """Say how many entries each of several people gains and loses, if all do the same ones."""
    if {*each.added.values(), *each.removed.values()} != {len(each.people)}:
        return ""
    noun = "entry" if len(each.added or each.removed) == 1 else "entries"
    told = [f"{len(each.added)} {noun} added"] if each.added else []
    if each.removed:
        told.append(f"{len(each.removed)} removed" if told else f"{len(each.removed)} {noun} removed")
    return f" {', '.join(told)} each:"


def _concerns(each: Consequence) -> str:
    """Say how many a manifest or a setting concerns, and what a setting is for."""
    whom = f": concerns {count(each.grants, 'grant')} of {people(len(each.people))}" if each.people else ""
    if each.cause.kind is CauseKind.MANIFEST:
        return whom or ": nobody has it"
    meaning = Settings.descriptions().get(each.cause.what.partition(":")[0].partition(".")[0])
    return whom if meaning is None else f"{whom}. {meaning}" if whom else f": {meaning}"


def _counted(counts: Counter[str], everybody: int, quote: Quote) -> str:
    return ", ".join(
        quote(name) + ("" if number == everybody else f" ({number} of them)") for name, number in sorted(counts.items())
    )


def parts(each: Consequence, quote: Quote) -> Iterator[str]:
    """Write what a manifest's file changes: which part of which request, before and after."""
    for name, pair in each.parts.items():
        part, *rest = name.split(".")
        which = f", request {int(rest.pop(0)) + 1}" if rest and rest[0].isdigit() else ""
        where = f": {quote('.'.join(rest))}" if rest else ":"
        before, after = ("nothing" if value is None else quote(_short(value)) for value in pair)
        yield f"{quote(part)}{which}{where} {before} → {after}"


def _short(value: Any) -> str:
    """Write a part of a manifest; of requests, what is sent where."""
    several = value if isinstance(value, list) else [value]
    if all(isinstance(each, dict) and "url" in each for each in several) and several:
        return clipped(", ".join(described(each.get("method", "POST"), each["url"]) for each in several), MAX_VALUE)
    return clipped(_text(value), MAX_VALUE)


def held(each: HeldOffline, quote: Quote) -> str:
    """Say why the guard would hold an integration, and what that means."""
    if each.kind == "new":
        why = f"{each.count} accounts would be made or updated, and `max_new` is {each.limit:g}"
    else:
        why = f"{each.count} of {each.of} would be revoked, and `max_change_percent` is {each.limit:g}"
    return (
        f"the guard would hold {quote(each.integration)}: {why}. "
        "Nothing happens there until somebody runs `reconcile --yes-really`"
    )


def step(pair: tuple[Any, Any], quote: Quote) -> str:
    """Write the values before and after; as JSON if only their type differs."""
    before, after = map(_text, pair)
    if before == after:
        before, after = (json.dumps(value, ensure_ascii=False) for value in pair)
    old, new = ("nothing" if value is None else quote(text) for value, text in zip(pair, (before, after), strict=True))
    return f"{old} → {new}"


def _text(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"name"}:
        return str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
