"""What value classes do alike: compare, hash, show and pickle themselves."""

from __future__ import annotations

import pickle
from dataclasses import field, replace

import pytest

from reconciler.model.value import changed, value_class


@value_class
class Nothing:
    """No field."""


@value_class
class One:
    """One field, which may be a tuple."""

    name: object


@value_class
class Several:
    """Fields of which some are not compared, or not shown."""

    name: str
    line: int = field(default=0, compare=False)
    token: str = field(default="", repr=False)


@value_class
class Derived(One):
    """A field that follows from another."""

    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(str(self.name)))


@value_class
class Written(One):
    """A class with words of its own."""

    def __repr__(self) -> str:
        return "written"


def test_values_are_equal_where_what_is_compared_is() -> None:
    """Values compare and hash by their compared fields; those of two classes are never equal."""
    assert Several("a", 1) == Several("a", 2)
    assert len({Several("a", 1), Several("a", 2), Several("b", 1), One("a"), One(("a",)), Nothing(), Nothing()}) == 5
    assert Several("a") != Several("a", token="t")
    assert Written("a") != One("a")


def test_a_value_shows_the_fields_that_may_be_shown() -> None:
    """The text names the class and its shown fields, unless the class writes its own."""
    assert repr(Several("a", 1, "t")) == "Several(name='a', line=1)"
    assert (repr(One("a")), repr(Nothing()), repr(Written("a"))) == ("One(name='a')", "Nothing()", "written")
    assert repr(Derived("a")) == "Derived(name='a', size=1)"


@pytest.mark.parametrize("value", [Nothing(), One(("a", "b")), Several("a", 1, "t"), Derived("a")], ids=repr)
def test_a_value_survives_pickling(value: object) -> None:
    """A value comes back equal, whatever number of fields it has."""
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_changed_copy_is_the_same_as_replaced() -> None:
    """`changed` does what `dataclasses.replace` does."""
    assert repr(changed(Several("a"), {"line": 3})) == repr(replace(Several("a"), line=3))
    assert changed(One("a"), {"name": "b"}) == One("b")
    assert changed(Derived("a"), {"name": "ab"}) == Derived("ab")
