"""What the models of all users' files share: unknown keys are errors, models are frozen, text stays text.

The YAML reader leaves an unquoted `NO` or `012345` as text (docs/design/rules.md, "Limits of input"); numbers, booleans
and dates are turned back into text here if a property wants text.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, RootModel, StringConstraints
from pydantic_core import PydanticCustomError


class Model(BaseModel):
    """The base of every model of a file."""

    written_as: ClassVar[str] = "a map"

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=False,
        hide_input_in_errors=True,
        defer_build=True,  # a command that only reads needs the settings' validators, and no other
    )

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return what stands below each field, those of the bases too, by the key that files have for it."""
        found: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Model):
                found |= _below_fields(base.__module__)[base.__name__]
        return {cls.model_fields[name].alias or name: text for name, text in found.items()}


@cache
def _below_fields(module: str) -> dict[str, dict[str, str]]:
    """Read from its source what stands below each field of a module's classes: Python itself keeps none of it.

    Pydantic can (`use_attribute_docstrings`), but for all classes at each start, not only where a command shows it.
    """
    parsed = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: dict(_texts(each)) for each in parsed.body if isinstance(each, ast.ClassDef)}


def _texts(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for pair in pairwise(definition.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def _given(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("restricts", "nothing stands under it")
    return value


Restricting = BeforeValidator(_given)
"""Of a key that restricts: with nothing under it, it is no key that is not there, but one that was not finished."""


class Misplaced(ValueError):
    """What is wrong with a part of a model, which is at a path in it."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def refuse_twice(names: Iterable[tuple[tuple[str | int, ...], str]]) -> None:
    """Raise Misplaced where a name stands, by its path, that stood before."""
    seen: set[str] = set()
    for path, name in names:
        if name in seen:
            raise Misplaced(path, f"{name!r} stands twice: give each a name of its own")
        seen.add(name)


def as_text(value: Any) -> Any:
    """Return a scalar as text: `true`, `12`, `2026-12-01`; anything else unchanged."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    return value


Text = Annotated[str, BeforeValidator(as_text)]


def one_or_more(value: Any) -> Any:
    """Return one value as a list of it; a list unchanged."""
    return value if isinstance(value, list) else [value]


def number(value: Any) -> Any:
    """Read digits as a number, and refuse `true` and `false`, which pydantic takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


EMAIL = re.compile(
    r'(?!(?:[^@]*/)?\.{1,2}/)[^@\s"\\\x00-\x1f\x7f<>(),:;\[\]]+@[^@\s"\\\x00-\x1f\x7f<>(),:;\[\]/?#%]*'
    r'[^@\s"\\\x00-\x1f\x7f<>(),:;\[\]/?#%.]'
)
"""An address. One with a dot at its end is another spelling, and a part `.` or `..` would climb in a URL's path."""

_ODD_DOTS = re.compile(r"\.$|(?:^|/)\.{1,2}/")
_PLAIN = re.compile(r"[^\s\"\\\x00-\x1f\x7f]*")


def _email(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("not an address")
    if not EMAIL.fullmatch(value):
        hint = "" if _PLAIN.fullmatch(value) else " (no double quotes, backslashes, blanks or control characters)"
        if "@" in value and not hint:
            hint = " (no dot at its end, and no part `.` or `..` between slashes)" if _ODD_DOTS.search(value) else ""
        raise ValueError(f"not an address{hint}")
    return value


Email = Annotated[str, BeforeValidator(_email)]

LONGEST_NAME = 255
"""Characters: what names a file is no longer."""


def _without_nul(value: str) -> str:
    """Refuse what no database keeps as it is: by another name it would be another one's."""
    if "\0" in value:
        raise ValueError("NUL cannot stand in it")
    return value


Identifier = Annotated[
    str,
    BeforeValidator(as_text),
    StringConstraints(min_length=1, max_length=LONGEST_NAME),
    AfterValidator(_without_nul),
]

DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d)")
LONGEST = timedelta(days=99_999)
"""The calendar begins in the year 1 and ends in 9999: a few of these before or after now are within it."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(value: Any) -> timedelta:
    """Read `30s`, `10m`, `1h`, `2d` as a duration; a bare number counts seconds.

    Raises ValueError for anything else.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e8:
        return timedelta(seconds=value)
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a duration: write a number and s, m, h or d, such as 10m")
    found = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if found > LONGEST:
        raise ValueError(f"must be at most {spelled(LONGEST)}")
    return found


Duration = Annotated[timedelta, BeforeValidator(duration)]


def lasting(value: Any) -> timedelta:
    """Read how long access lasts, above zero: always with a unit, or `8` would be over after as many seconds.

    Raises ValueError for anything else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a number without a unit: write {value:g}h, or with s, m or d what is meant")
    found = duration(value)
    if not found:
        raise ValueError("must be more than 0")
    return found


Lasting = Annotated[timedelta, BeforeValidator(lasting)]


def spelled(span: timedelta) -> str:
    """Write a duration as a file has it, such as `8h`."""
    for unit, name in (("d", "days"), ("h", "hours"), ("m", "minutes")):
        count, rest = divmod(span, timedelta(**{name: 1}))
        if count and not rest:
            return f"{count}{unit}"
    return f"{span.total_seconds():g}s"


DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def day(value: Any) -> date:
    """Read a date, or the text `2026-12-01`. A number is refused, because it is always meant otherwise.

    Raises ValueError for anything else.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValueError("not a date: there is no such day") from error
    raise ValueError("not a date: write it YYYY-MM-DD, such as 2026-12-01")


Day = Annotated[date, BeforeValidator(day)]


def jsonable(value: Any) -> Any:
    """Return a value of a file as JSON: a date as text, a duration with its unit, a choice by name as `{name: …}`."""
    match value:
        case str():  # nearly every value is
            return value
        case Model():
            return value.model_dump()
        case date():
            return value.isoformat()
        case timedelta():
            return spelled(value)
        case list() | tuple():
            return [jsonable(item) for item in value]
        case Mapping():
            return {str(key): jsonable(item) for key, item in value.items()}
        case _:
            return value


M = TypeVar("M", bound=Model)


class ListFile(RootModel[list[M]], Generic[M]):
    """The base of every model of a file that is a list; its validators are built when there is such a file."""

    model_config = ConfigDict(defer_build=True)
