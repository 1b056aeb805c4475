"""When an entry ends: what can be written, and which moment is meant."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from reconciler.model.clock import stamp
from reconciler.model.hire import Entry

BERLIN = "Europe/Berlin"

MOMENTS = {
    "a time of the settings' zone": ("2026-12-01T18:00", BERLIN, "2026-12-01T17:00:00Z"),
    "with seconds": ("2026-12-01T18:00:30", BERLIN, "2026-12-01T17:00:30Z"),
    "in UTC": ("2026-12-01T18:00Z", BERLIN, "2026-12-01T18:00:00Z"),
    "with an offset": ("2026-12-01T18:00-05:30", BERLIN, "2026-12-01T23:30:00Z"),
    "a day": ("2026-12-01", BERLIN, "2026-11-30T23:00:00Z"),
    "days from the start": ("start+1d", BERLIN, "2026-06-01T22:00:00Z"),
    "a time that is shown twice": ("2026-10-25T02:30", BERLIN, "2026-10-25T00:30:00Z"),
    "a time that is skipped": ("2026-03-29T02:30", BERLIN, "2026-03-29T01:00:00Z"),
    "a skipped midnight": ("2026-04-24T00:30", "Africa/Cairo", "2026-04-23T22:00:00Z"),
    "the end of the calendar": ("9999-12-31T23:00-12:00", "UTC", "9999-12-31T23:59:59Z"),
    "its beginning": ("0001-01-01T00:00", "Asia/Tokyo", "0001-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("case", MOMENTS)
def test_an_until_is_one_moment(case: str) -> None:
    """Of a time that the clock shows twice the earlier is meant; one that it skips is the end of the gap."""
    written, zone, meant = MOMENTS[case]
    until = Entry.model_validate({"integration": "slack", "until": written}).until
    assert until is not None
    assert stamp(until.moment(date(2026, 6, 1), None, zone, key="until")) == meant
    assert str(until) == written


@pytest.mark.parametrize(
    "written", ["2026-12-01T25:00", "2026-12-01 18:00", "2026-12-01T18", "18:00", "2026-12-01t18:00"]
)
def test_another_text_is_no_until(written: str) -> None:
    """What is no time of the calendar is an error."""
    with pytest.raises(ValidationError):
        Entry.model_validate({"integration": "slack", "until": written})


def test_a_time_after_a_blank_is_told_how_it_is_written() -> None:
    with pytest.raises(ValidationError, match=r"such as .* 2026-12-01T18:00"):
        Entry.model_validate({"integration": "slack", "until": "2026-12-01 18:00"})


def test_for_is_a_duration_above_zero() -> None:
    """Nothing under it is an error: it restricts. A number without a unit would be over after as many seconds."""
    assert Entry.model_validate({"integration": "slack", "for": "8h"}).for_ == timedelta(hours=8)
    for wrong in ("0s", "8 hours", "-8h", None, 0, 8, "999999d"):
        with pytest.raises(ValidationError):
            Entry.model_validate({"integration": "slack", "for": wrong})
    with pytest.raises(ValidationError, match="a number without a unit: write 8h, or with s, m or d what is meant"):
        Entry.model_validate({"integration": "slack", "for": 8})
