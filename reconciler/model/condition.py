"""Conditions: which hires something is meant for, by their fields (docs/hires.md, "Conditions"); and sequences.

A condition is a map of fields, all of which must hold; `any` and `not` combine conditions. Text is compared without
case and blanks at the ends, numbers and dates as the text that was written. A field that a hire lacks equals nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from reconciler.model.base import Identifier, Model, as_text, one_or_more
from reconciler.model.hire import EXTRA, AccessList, Hire, HireRef, no_entries
from reconciler.model.text import hint
from reconciler.model.value import Frozen

ANY, NOT = "any", "not"
FIELDS = tuple(name for name in Hire.model_fields if name not in ("extra", "sequences", "without", "access"))
CONDITION_KEYS = (*FIELDS, f"{EXTRA}NAME", ANY, NOT)

Fold = Callable[[str], str]


class _Test(Frozen):
    """One field's test: it has one of these values, or with `negated` none of them."""

    field: str
    values: tuple[str, ...]
    negated: bool = False

    def holds(self, hire: Hire, *, lacking: bool, fold: Fold) -> bool:
        """Whether it holds; `lacking` says whether a field that the hire lacks counts as equal."""
        value = value_of(hire, self.field)
        equal = lacking if value is None else fold(value) in map(fold, self.values)
        return equal is not self.negated


class Condition(Frozen):
    """What must hold of a hire: every test, one of each group in `any_of`, and none of `none_of`."""

    tests: tuple[_Test, ...] = ()
    any_of: tuple[Condition, ...] = ()
    none_of: Condition | None = None

    def holds(self, hire: Hire, *, sure: bool = False, negated: bool = False, fold: Fold | None = None) -> bool:
        """Whether a hire is meant; with `sure`, whatever the fields were that the hire lacks and `not` is about.

        `negated` says that it stands under an odd number of `not`; texts are equal that `fold` makes equal.
        """
        alike, inner = fold or plain, partial(Condition.holds, hire=hire, sure=sure, fold=fold)
        return (
            all(test.holds(hire, lacking=sure and test.negated is not negated, fold=alike) for test in self.tests)
            and (not self.any_of or any(inner(each, negated=negated) for each in self.any_of))
            and (self.none_of is None or not inner(self.none_of, negated=not negated))
        )

    def lacking(self, hire: Hire) -> tuple[str, ...]:
        """Return the fields that a hire is meant only for lacking: those of `not`."""
        if not self.holds(hire) or self.holds(hire, sure=True):
            return ()
        return tuple(name for name in self.fields if value_of(hire, name) is None)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it is about, sorted."""
        return tuple(sorted({name for name, _ in self.values}))

    @property
    def values(self) -> Iterator[tuple[str, str]]:
        """Every field with each value that it is compared with, as written."""
        yield from ((test.field, value) for test in self.tests for value in test.values)
        for each in (*self.any_of, *(() if self.none_of is None else (self.none_of,))):
            yield from each.values

    def __str__(self) -> str:
        parts = [f"{test.field} {'not ' * test.negated}{' or '.join(test.values)}" for test in self.tests]
        if self.any_of:
            parts.append(" or ".join(f"({each})" for each in self.any_of))
        if self.none_of is not None:
            parts.append(f"not ({self.none_of})")
        return ", ".join(parts)


class HireValues(Frozen):
    """The values that conditions compare hires' fields with, and which of them a hire has."""

    compared: frozenset[tuple[str, str]]
    fields: tuple[str, ...]

    @classmethod
    def of(cls, conditions: Iterable[Condition]) -> HireValues:
        """Collect what conditions compare."""
        compared = frozenset((name, plain(value)) for each in conditions for name, value in each.values)
        return cls(compared, tuple(sorted({name for name, _ in compared})))

    def had_by(self, hire: Hire) -> tuple[tuple[str, str], ...]:
        """Return each field with a hire's value, where a condition compares it with that value."""
        pairs = ((name, value_of(hire, name)) for name in self.fields)
        return tuple((name, value) for name, value in pairs if value is not None and (name, value) in self.compared)


def value_of(hire: Hire, name: str) -> str | None:
    """Return a hire's field as conditions compare it; None if the hire lacks it."""
    value = hire.extra.get(name.removeprefix(EXTRA)) if name.startswith(EXTRA) else getattr(hire, name)
    text = value.hire if isinstance(value, HireRef) else as_text(value)
    return None if text is None or text == "" else plain(str(text))


def plain(text: str) -> str:
    """Return a text as conditions compare it."""
    return text.strip().casefold()


def _key(word: str) -> str:
    if word in FIELDS or word in (ANY, NOT) or (word.startswith(EXTRA) and word != EXTRA):
        return word
    raise ValueError(f"unknown key; allowed: {', '.join(CONDITION_KEYS)}{hint(word, CONDITION_KEYS)}")


def _condition(written: dict[str, Any]) -> Condition:
    """Read a condition. Raises ValueError."""
    tests = tuple(_test(name, value) for name, value in written.items() if name not in (ANY, NOT))
    any_of: tuple[Condition, ...] = ()
    none_of: Condition | None = None
    if ANY in written:
        several = written[ANY]
        if not isinstance(several, list) or not several:
            raise ValueError("any: must be a list of conditions, of which one has to hold")
        any_of = tuple(_inner(f"{ANY}.{place}", each) for place, each in enumerate(several))
    if NOT in written:
        none_of = _inner(NOT, written[NOT])
    return Condition(tests, any_of, none_of)


def _inner(place: str, written: Any) -> Condition:
    if not isinstance(written, dict) or not written:
        raise ValueError(f"{place}: must be a condition, a map of fields that is not empty")
    for name in map(str, written):
        try:
            _key(name)
        except ValueError as error:
            raise ValueError(f"{place}.{name}: {error}") from error
    try:
        return _condition(written)
    except ValueError as error:
        raise ValueError(f"{place}.{error}") from error


def _test(name: str, written: Any) -> _Test:
    negated = isinstance(written, dict) and written.keys() == {NOT}
    values = written[NOT] if negated else written
    texts = [_text(each) for each in one_or_more(values)]
    if not texts or None in texts:
        raise ValueError(f"{name}: must be a value, a list of values, or {{not: …}} of these")
    return _Test(name, tuple(str(each) for each in texts), negated)


def _text(value: Any) -> str | None:
    return str(as_text(value)) if isinstance(value, str | bool | int | float | date) and value != "" else None


if TYPE_CHECKING:
    ConditionMap = Condition
else:
    # Read as a map first, so that an unknown key is reported where it stands.
    ConditionMap = Annotated[
        dict[Annotated[str, AfterValidator(_key)], Any], Field(min_length=1), AfterValidator(_condition)
    ]
"""A condition in a file."""


class Sequence(Model):
    """A bundle of access entries, with those of the sequences that it includes."""

    assign: ConditionMap | None = None
    """Every hire for whom this condition holds gets the sequence without naming it."""
    include: list[Identifier] = Field(default_factory=no_entries)
    """Other sequences whose entries this one has too; its own entry of a name wins."""
    access: AccessList = Field(default_factory=no_entries)
    """The entries that the sequence gives."""
