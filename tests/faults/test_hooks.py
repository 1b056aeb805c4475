"""A short choice of what hooks are put through (tests.faults.hooks); how soon they are acted on is the command's."""

from __future__ import annotations

from tests.faults.hooks import deleted, flooded, merged, staged


def test_hooks_are_acted_on_and_a_flood_costs_little() -> None:
    with staged(120) as stage:
        assert len(deleted(stage, 2)) == len(merged(stage, 2)) == 2
        flood = flooded(stage, 100, quiet=0.5)
        flood.judge()
        assert flood.answers == {204: 200, 401: 100}
        assert flood.meanwhile > 0, "passes go on"
