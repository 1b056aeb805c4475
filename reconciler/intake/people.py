"""Convert a source's items to fields of hires' files; invalid ones are reported with the reason.

Data from outside is not trusted to have the right types, to be unique, or to be present.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from typing import Any

from reconciler.intake.files import stem_of
from reconciler.intake.reading import SourceRecords
from reconciler.model.base import EMAIL, as_text, day
from reconciler.model.errors import MissingVariable
from reconciler.model.hire import DAYS, EXTRA
from reconciler.model.imports import ByAddress, Import
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Redactor
from reconciler.model.value import Frozen
from reconciler.requests.record import same
from reconciler.requests.template import render_text

__all__ = ["LeftOut", "People", "Person", "people_of", "without_secrets"]

_NO_DAY = "0000-00-00"
"""What BambooHR gives for a day that is not known."""

_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})[T ]\d{2}:\d{2}.*", re.ASCII | re.DOTALL)


class Person(Frozen):
    """One person: the keys of a hire that the source fills, such as `first_name` or `extra.LOGIN`.

    `by_address` are the keys whose value is another person's address.
    """

    item: int
    email: str
    fields: Mapping[str, Any]
    by_address: frozenset[str] = frozenset()
    stem: str = ""


class LeftOut(Frozen):
    """A person who cannot be imported, and why; `hire` and `file` if they have a file."""

    item: int
    reason: str
    fields: Mapping[str, Any] = {}
    hire: str | None = None
    file: str | None = None

    @property
    def called(self) -> str:
        """Name them by what is known of them."""
        name = " ".join(str(self.fields[key]) for key in ("first_name", "last_name") if key in self.fields)
        return name or str(self.fields.get("email") or f"item {self.item}")


class People(Frozen):
    """All people of a source. `addresses` are those of all, taken or left out, in lower case."""

    taken: list[Person]
    left_out: list[LeftOut]
    addresses: frozenset[str]


def people_of(reading: SourceRecords, imported: Import) -> People:
    """Return the people that `only` selects."""
    found: list[Person] = []
    left: list[LeftOut] = []
    for number, item in enumerate(reading.items, 1):
        if all(same(reading.at(item, path), wanted) for path, wanted in imported.only.items()):
            person = _person(number, item, reading, imported)
            (found if isinstance(person, Person) else left).append(person)  # type: ignore[arg-type]
    of_address: defaultdict[str, list[Person]] = defaultdict(list)
    for one in found:
        of_address[one.email.lower()].append(one)
    taken: list[Person] = []
    for several in of_address.values():
        if all(one.fields == several[0].fields for one in several):
            taken.append(several[0])
            continue
        others = ", ".join(f"item {one.item}" for one in several)
        left += [LeftOut(one.item, f"several people have the address: {others}", one.fields) for one in several]
    seen = {one.email.lower() for one in found}
    seen |= {str(each.fields["email"]).lower() for each in left if "email" in each.fields}
    return People(taken, sorted(left, key=lambda each: each.item), frozenset(seen))


def without_secrets(people: People, redactor: Redactor) -> People:
    """Leave out people whose data contains a secret of the program: a file in git must not contain it."""
    taken, left = [], list(people.left_out)
    for one in people.taken:
        key = next((key for key, value in one.fields.items() if redactor.redact(str(value)) != str(value)), None)
        if key is None:
            taken.append(one)
        else:
            left.append(LeftOut(one.item, f"{key}: it holds a secret of the initial data", one.fields))
    return People(taken, sorted(left, key=lambda each: each.item), people.addresses)


def _person(number: int, item: Any, reading: SourceRecords, imported: Import) -> Person | LeftOut:
    fields: dict[str, Any] = {}
    wrong: list[str] = []
    for key, source in imported.fills.items():
        value = reading.at(item, source.hire if isinstance(source, ByAddress) else source)
        try:
            value = _value(key, value)
        except ValueError as error:
            wrong.append(f"{key}: {error}")
            continue
        if value is not None:
            fields[key] = value
    if wrong:
        return LeftOut(number, "; ".join(wrong), fields)
    email = fields.get("email")
    if email is None:
        return LeftOut(number, "no address", fields)
    if EMAIL.fullmatch(email) is None:
        return LeftOut(number, "email: not an address", fields)
    given = frozenset(key for key, source in imported.fills.items() if isinstance(source, ByAddress))
    try:
        stem = _stem(imported, email, fields)
    except MissingVariable as error:
        return LeftOut(number, f"id: {error}", fields)
    return Person(number, email, fields, given & fields.keys(), stem)


def _value(key: str, value: Any) -> Any:
    """Return a value as a hire's file has it; None for none. Raises ValueError."""
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None) or value in ([], {}):
        return None
    if key in DAYS:
        return _day(value)
    if isinstance(value, dict):
        raise ValueError("a map, and no value; write the path of what is in it")
    if isinstance(value, list):
        if key.startswith(EXTRA) and not any(isinstance(it, dict | list) or it is None for it in value):
            return value
        raise ValueError("a list, and no value")
    return value if key.startswith(EXTRA) else as_text(value)


def _day(value: Any) -> date | None:
    """Read a day; of a time, the day that is written, in whatever zone."""
    if not isinstance(value, str):
        raise ValueError("not a date: write it YYYY-MM-DD, such as 2026-12-01")
    if value.startswith(_NO_DAY):
        return None
    moment = _MOMENT.fullmatch(value)
    return day(moment[1] if moment else value)


def _stem(imported: Import, email: str, fields: Mapping[str, Any]) -> str:
    """Return the stem of a new file; may be empty. Raises MissingVariable."""
    if imported.id is None:
        name = email.partition("@")[0]
    else:
        extra = {key.removeprefix(EXTRA): value for key, value in fields.items() if key.startswith(EXTRA)}
        values = {**extra, **{key: value for key, value in fields.items() if key not in extra}}
        name = render_text(imported.id, Scope((Layer("the person", values),)).now()).text
    return stem_of(name)
