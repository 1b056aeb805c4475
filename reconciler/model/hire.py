"""Hires and their access entries: who should have what (docs/hires.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache, wraps
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from reconciler.model.base import Day, Email, Identifier, Lasting, Model, Restricting, Text, day, refuse_twice
from reconciler.model.clock import first_moment, in_zone

_DAYS = r"(?:\s*([+-])\s*(\d{1,4})d)?"
AT = re.compile(rf"(start){_DAYS}")
UNTIL = re.compile(rf"(start|end){_DAYS}")
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)

DAYS = ("start", "end")
"""The keys of a hire whose value is a day."""

EXTRA = "extra."
"""What a path to one of a hire's further variables begins with."""


def no_entries() -> list[Any]:
    """Return an empty list: pydantic reads the signature of a factory, and `list` has it as text, which takes 4 ms."""
    return []


class At(Model):
    """When an entry begins or ends: on commit, relative to the hire's start or end, on a date, or at a time.

    A `time` without an offset is one of the settings' time zone.
    """

    kind: Literal["commit", "start", "end", "date", "time"]
    offset: timedelta = timedelta()
    day: date | None = None
    time: datetime | None = None

    def on(self, start: date | None, end: date | None = None, *, key: str = "at") -> date | None:
        """Return the day; None for at once. `key` is what the entry calls it.

        Raises ValueError where it is relative to a day that the hire does not give, or beyond the calendar.
        """
        if self.kind not in ("start", "end"):
            return self.day
        base = start if self.kind == "start" else end
        if base is None:
            raise ValueError(f"{key}: {self.kind} needs the hire's {self.kind} date")
        try:
            return base + self.offset
        except OverflowError as error:
            raise ValueError(f"{key}: {self.offset.days:+d} days from {base} is no day that there is") from error

    def moment(self, start: date | None, end: date | None, timezone: str, *, key: str) -> datetime | None:
        """Return when it is: the day's first moment, or the time. Raises ValueError like `on`."""
        if self.time is None:
            return first_moment(self.on(start, end, key=key), timezone)
        return in_zone(self.time, timezone)

    def __str__(self) -> str:
        if self.kind == "date":
            return str(self.day)
        if self.time is not None:
            return self.time.isoformat(timespec="seconds" if self.time.second else "minutes").replace("+00:00", "Z")
        return f"{self.kind}{self.offset.days:+d}d" if self.offset else self.kind


@lru_cache(maxsize=1024)
def _at_text(text: str) -> At:
    """Parse a text. It is cached, because a company uses the same few."""
    if text == "commit":
        return At(kind="commit")
    if text[:1].isdigit():
        return At(kind="date", day=day(text))
    match = AT.fullmatch(text)
    if match is None:
        raise ValueError("at is commit, start, start±Nd or a date, such as start-3d or 2026-12-01")
    return _relative(match)


def _relative(match: re.Match[str]) -> At:
    days = int(match[3] or 0)
    return At(kind="start" if match[1] == "start" else "end", offset=timedelta(days=-days if match[2] == "-" else days))


def moment(text: str, timezone: str) -> datetime:
    """Return when an `until` is that counts from no hire's day. Raises ValueError."""
    until = _until_text(text)
    if until.kind not in ("date", "time"):
        raise ValueError("it counts from a hire's day")
    found = until.moment(None, None, timezone, key="until")
    assert found is not None  # it has a day or a time
    return found


@lru_cache(maxsize=1024)
def _until_text(text: str) -> At:
    if TIME.fullmatch(text):
        try:
            return At(kind="time", time=datetime.fromisoformat(text))
        except ValueError as error:
            raise ValueError("not a time: there is no such time") from error
    if text[:1].isdigit() and "T" not in text and " " not in text:
        return At(kind="date", day=day(text))
    match = UNTIL.fullmatch(text)
    if match is None:
        raise ValueError(
            "until is start, end, start±Nd, end±Nd, a date or a time, such as end+30d, 2027-06-30 or 2026-12-01T18:00"
        )
    return _relative(match)


def _read_by(text: Callable[[str], At]) -> BeforeValidator:
    """Read a date, or what a text says; anything else is as wrong as an empty text."""

    @wraps(text)  # by whose name the JSON Schema says what is read
    def read(value: Any) -> At:
        return At(kind="date", day=value) if isinstance(value, date) else text(value if isinstance(value, str) else "")

    return BeforeValidator(read)


class HireRef(Model):
    """A reference to another hire's file, as manager or buddy."""

    hire: Identifier
    """The stem of another hire's file."""


class NamedChoice(Model):
    """A choice by the name of its option, instead of by its value."""

    name: Text
    """The name that the option shows."""


FormValue = NamedChoice | list[NamedChoice | bool | int | float | date | str] | bool | int | float | date | str | None


class Entry(Model):
    """One entry of an access list."""

    written_as: ClassVar[str] = "an integration's name or a map"

    integration: Identifier
    """The stem of the manifest."""
    name: Identifier | None = None
    """The entry's own name; needed where an integration stands twice."""
    values: dict[Text, FormValue] = Field(default_factory=dict)
    """The manifest's form, filled in; a choice by its value or as {name: …}."""
    at: Annotated[At, _read_by(_at_text)] = At.model_construct(kind="commit")
    """When it begins: commit, start, start±Nd (start-3d), or a date."""
    until: Annotated[At | None, _read_by(_until_text), Restricting] = None
    """From then on the entry counts as removed: start±Nd, end±Nd (end+30d), a date, or a time."""
    for_: Annotated[Lasting | None, Field(alias="for"), Restricting] = None
    """It ends so long after it was first acted on: 8h; with until, what is first."""
    keep: bool = False
    """Reported, and never revoked on its own, once it leaves git."""
    needs: list[Identifier] = Field(default_factory=no_entries)
    """Entries of the same hire that have to be there before."""

    @property
    def access(self) -> str:
        """Return the entry's name within the hire; by default the integration's."""
        return self.name or self.integration


def _entry(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _plain_entry(value) if value else {"integration": value}


@lru_cache(maxsize=1024)
def _plain_entry(integration: str) -> Entry:
    """Make an entry that is only an integration's name; all hires share it."""
    return Entry(integration=integration)


def _unique(entries: list[Entry]) -> list[Entry]:
    refuse_twice(((place, "name") if each.name else (place,), each.access) for place, each in enumerate(entries))
    return entries


AccessList = Annotated[list[Annotated[Entry, BeforeValidator(_entry)]], AfterValidator(_unique)]


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


Name = Annotated[Text, BeforeValidator(_or_empty)]
"""Required, and may be empty: `last_name:` with nothing after it is as good as two quotes."""


class Hire(Model):
    """A person."""

    email: Email
    """The person's address: what accounts are made and found with."""
    first_name: Name
    """May be empty."""
    last_name: Name
    """May be empty."""
    position: Text | None = None
    """The job's title."""
    department: Text | None = None
    """The department; sequences are often assigned by it."""
    start: Day | None = None
    """The first day, YYYY-MM-DD."""
    end: Annotated[Day | None, Restricting] = None
    """The last day: from the next one on every entry counts as removed."""
    phone: Text | None = None
    """A telephone number."""
    manager: HireRef | Text | None = None
    """The manager's full name, or {hire: ID} for another hire's file, which gives manager_email too."""
    manager_email: Email | None = None
    """The manager's address."""
    buddy: HireRef | Text | None = None
    """The buddy's full name, or {hire: ID} for another hire's file, which gives buddy_email too."""
    buddy_email: Email | None = None
    """The buddy's address."""
    extra: dict[Text, Any] = Field(default_factory=dict)
    """Further variables for manifests, by name."""
    source: Identifier | None = None
    """The import that made the file and keeps it."""
    sequences: list[Identifier] = Field(default_factory=no_entries)
    """The sequences that the person gets, by name."""
    access: AccessList = Field(default_factory=no_entries)
    """What the person should have: integrations, with the values of their forms."""
    without: Annotated[list[Identifier], Restricting] = Field(default_factory=no_entries)
    """Entries of these sequences that the person does not get, by name."""

    @property
    def full_name(self) -> str:
        """Return the name that another hire's `manager` shows."""
        return f"{self.first_name} {self.last_name}".strip()

    @property
    def references(self) -> dict[str, str]:
        """Return the hires that it names by their file, as `manager` or `buddy`."""
        people = {"manager": self.manager, "buddy": self.buddy}
        return {role: person.hire for role, person in people.items() if isinstance(person, HireRef)}
