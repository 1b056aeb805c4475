"""A few examples of what `python -m tests.faults.former` and `parts` play many of, and two that are rarely met."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.former import FormerAccounts, play
from tests.faults.parts import Parts


def test_no_account_is_forgotten_made_twice_or_taken_from_anybody() -> None:
    play(6, 25)


def test_passes_over_parts_end_where_a_pass_over_everybody_does() -> None:
    play(3, 25, machine=Parts)


@pytest.fixture
def former() -> Iterator[FormerAccounts]:
    made = FormerAccounts()
    made.start()
    yield made
    made.teardown()


def test_a_login_that_somebody_has_is_nobody_elses(former: FormerAccounts) -> None:
    former.change_login("bob", "Ann")
    former.whole_pass()
    former.leave("bob")
    former.whole_pass()
    former.leave("ada")
    former.come("bob", "dan@example.com", "ann ")
    former.whole_pass()
    assert former.desks.accounts["desk"].keys() == {"ann", "cat"}, "who leaves has had an account of their own"


def test_a_stem_that_somebody_else_has_now(former: FormerAccounts) -> None:
    former.change_prune(prune=False)
    former.leave("ada")
    former.whole_pass()
    former.come("ada", "dan@example.com", "ben")
    former.whole_pass()
    former.change_login("ada", "ann")
    former.change_prune(prune=True)
    former.whole_pass()
    assert former.desks.accounts["post"].keys() == {"bob@example.com", "cy@example.com", "dan@example.com"}
    assert "ann" in former.desks.accounts["desk"]
