"""A few examples of the model test; `python -m tests.faults.model` plays many."""

from __future__ import annotations

from tests.faults.model import play


def test_the_engine_does_what_the_model_asks_for() -> None:
    played: list[int] = []
    play(10, 40, None, played.append)
    assert sum(played) >= 300, "that is hardly anything"
