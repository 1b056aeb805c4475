"""A few examples of the model test; `python -m tests.faults.model` plays many."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.model import EVERYBODY, Model, play


def test_the_engine_does_what_the_model_asks_for() -> None:
    played: list[int] = []
    play(10, 40, None, played.append)
    assert sum(played) >= 300, "that is hardly anything"


@pytest.fixture
def model() -> Iterator[Model]:
    """Everybody has everything, but that the club's invitations are open."""
    made = Model()
    made.start(EVERYBODY, {}, None, frozenset(), whole=True, needs=False, prune=True, invites=False)
    yield made
    made.teardown()


def changed_seats(model: Model) -> None:
    """Drift is mended once a day, then left to a person, and in numbers it is held."""
    model.pass_after_a_change(frozenset({"ada"}), "3", 0, off=False)
    model.pass_after_a_change(frozenset({"ada"}), "3", 60, off=True)
    model.pass_after_a_change(frozenset({"ada"}), "3", 1440, off=True)
    model.set(25, None, heal=False, prune=True)
    model.pass_after_a_change(EVERYBODY, "2", 1440, off=False)
    model.set(25, None, heal=True, prune=True)
    model.pass_after_a_while(0)


def expiring_invitations(model: Model) -> None:
    """They are sent again once; who accepts in between is there, whatever became of the sending."""
    model.requests_fail("POST club 0", "cut")
    model.pass_after_days(7, None)
    model.services.appear("ada", "club")
    model.requests_recover()
    model.pass_after_a_while(60)
    model.take("bob", "club")
    model.pass_after_days(7, None)
    model.ask("retry", "cy", "club")
    model.pass_after_a_while(0)


def checked_revocations(model: Model) -> None:
    """What a service says of a removal counts only once a check has seen it."""
    for how in ("ignored", "blinded", "ignored and blinded"):
        for what in ("DELETE tool 0", "DELETE seat 0", "DELETE club 0"):
            model.removals_are_ignored(what, how)
        for name in ("ada", "bob"):
            for integration in ("tool", "seat", "club"):
                model.take(name, integration)
        for minutes in (0, 0, 60, 60):
            model.pass_after_a_while(minutes)
        model.requests_recover()
        model.pass_after_a_while(60)
        model.ask("retry", "ada", "tool")
        model.pass_after_a_while(0)
        for name in ("ada", "bob"):
            for integration in ("tool", "seat", "club"):
                model.give(name, integration, "1", None, None, needs=False)
        model.pass_after_a_while(0)
    model.take("ada", "club")
    model.invitations_are_accepted()
    model.pass_after_a_while(0)
    model.pass_after_a_while(60)


def missing_sequence(model: Model) -> None:
    """What it gave is held where it is, and nothing else of its people is revoked."""
    for integration in ("seat", "mail"):
        model.take("ada", integration)
    model.name_the_sequence(frozenset({"ada"}), base=True)
    model.pass_after_a_while(0)
    for sequence in ("gone", "broken"):
        model.change_the_sequence(sequence, "1")
        model.take("ada", "tool")
        model.pass_after_a_while(0)
    model.name_the_sequence(frozenset({"ada"}), base=False)
    model.change_the_sequence("gone", "1")
    model.pass_after_a_while(0)


@pytest.mark.parametrize("events", [changed_seats, checked_revocations, expiring_invitations, missing_sequence])
def test_the_engine_agrees_with_the_model_about_rare_events(model: Model, events: Callable[[Model], None]) -> None:
    events(model)
