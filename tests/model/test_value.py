"""What immutable values do alike: compare, hash, show, copy and pickle themselves."""

from __future__ import annotations

import pickle

import pytest
from rich.pretty import pretty_repr

from reconciler.model.report import Report
from reconciler.model.value import Frozen, Unshown, replace


class Nothing(Frozen):
    """No field."""


class Several(Frozen):
    """A field that is not shown."""

    name: str
    line: int = 0
    token: Unshown[str] = ""


class Further(Several):
    """More fields, of which one is not shown either."""

    key: Unshown[str] = ""


VALUES = (Nothing(), Several("a", 1, "t"), Further("a", 1, "t", "k"))


def test_a_value_shows_the_fields_that_may_be_shown() -> None:
    assert [*map(repr, VALUES)] == ["Nothing()", "Several(name='a', line=1)", "Further(name='a', line=1)"]
    assert [*map(pretty_repr, VALUES)] == [*map(repr, VALUES)], "nor by fields"


def test_values_of_two_classes_are_not_equal() -> None:
    assert len({*VALUES, *VALUES, Several("a"), Further("a")}) == 5
    assert Several("a") != Further("a")


def test_no_field_is_assigned() -> None:
    with pytest.raises(AttributeError):
        Several("a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_survives_pickling(value: Frozen) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_copy_has_some_fields_changed() -> None:
    assert replace(Several("a", token="t"), line=3) == Several("a", 3, "t")


def test_a_report_shows_no_rows_of_its_own() -> None:
    assert repr(Report("0123", dry_run=False, problems=[])) == "Report('0123', 0 grants)"
