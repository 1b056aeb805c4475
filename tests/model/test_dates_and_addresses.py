"""What the properties of users' files take: days, addresses, names that may be empty."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.model.hire import At, Entry, Hire

ADA = {"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace"}


def hire(**fields: Any) -> Hire:
    return Hire.model_validate({**ADA, **fields})


@pytest.mark.parametrize("written", [date(2026, 12, 1), "2026-12-01"])
def test_a_day_is_a_date_or_its_text(written: object) -> None:
    assert hire(start=written).start == date(2026, 12, 1)
    assert Entry.model_validate({"integration": "x", "at": written}).at == At(kind="date", day=date(2026, 12, 1))


@pytest.mark.parametrize("written", [0, 86400, 20261201, "86400", "2026-02-30", "soon", "2026-12-01T10:00", True, []])
def test_nothing_else_is_a_day(written: object) -> None:
    with pytest.raises(ValidationError, match="not a date"):
        hire(start=written)


@pytest.mark.parametrize(
    ("written", "days"), [("start", 0), ("start-3d", -3), ("start+10d", 10), ("start - 3d", -3), ("start +0d", 0)]
)
def test_at_counts_from_the_start(written: str, days: int) -> None:
    at = Entry.model_validate({"integration": "x", "at": written}).at
    assert at == At(kind="start", offset=timedelta(days=days))
    assert at.on(date(2026, 12, 10)) == date(2026, 12, 10) + timedelta(days=days)


def test_a_name_may_be_empty_but_has_to_be_there() -> None:
    assert (hire(first_name="", last_name=None).full_name, hire().full_name) == ("", "Ada Lovelace")
    with pytest.raises(ValidationError, match="last_name"):
        Hire.model_validate({"email": "a@example.com", "first_name": "A"})


@pytest.mark.parametrize("address", ["o'brien@example.com", "a+b@sub.example.com", "zoë@exämple.com", "x@localhost"])
def test_addresses(address: str) -> None:
    assert hire(email=address).email == address


@pytest.mark.parametrize("address", ['"a"@x.com', "a\\b@x.com", "a b@x.com", "a@x.com\n", "\0@x"])
def test_addresses_with_what_could_break_out_of_a_request(address: str) -> None:
    with pytest.raises(ValidationError, match=r"not an address \(no double quotes"):
        hire(email=address)


@pytest.mark.parametrize("address", ["ada", "", "a@b@c", "@example.com", "a@", 12, None, True])
def test_invalid_addresses_are_refused(address: object) -> None:
    with pytest.raises(ValidationError) as caught:
        hire(email=address)
    assert caught.value.errors()[0]["msg"] == "Value error, not an address"
