"""The conditions of a revision, and what is doubtful about them over all hires."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from reconciler.model.condition import Condition, plain, value_of
from reconciler.model.errors import Problem, Severity
from reconciler.model.near import near, some
from reconciler.repository.desired import Desired
from reconciler.repository.requestable import REQUESTABLE
from reconciler.repository.rules import POLICY

__all__ = ["PlacedCondition", "conditions_of", "doubtful_conditions"]


class PlacedCondition(NamedTuple):
    """A condition, and what it is called where it stands."""

    path: str
    line: int | None
    name: str
    condition: Condition

    def warning(self, message: str) -> Problem:
        """Make a warning about it."""
        return Problem(self.path, self.line, f"{self.name}: {message}", Severity.WARNING)


def conditions_of(desired: Desired) -> list[PlacedCondition]:
    """List every condition of a revision."""
    found = [
        PlacedCondition(loaded.path, loaded.document.line(("assign",)), "assign", loaded.model.assign)
        for loaded in desired.files.sequences.values()
        if loaded.model.assign is not None
    ]
    rules = desired.files.policy.rules
    found += [
        PlacedCondition(REQUESTABLE, line, f"{offer.integration}: who", offer.who)
        for offer, line in desired.files.offers.entries
        if offer.who is not None
    ]
    return found + [
        PlacedCondition(POLICY, line, f"policy {rule.name}: when", rule.when)
        for rule, line in rules
        if rule.when is not None
    ]


def doubtful_conditions(
    desired: Desired,
    conditions: Collection[PlacedCondition],
    had: Collection[tuple[str, str]],
    lacking: set[tuple[int, str, str]],
) -> Iterator[Problem]:
    """Warn of values that no hire has, and of who is meant only for lacking a field.

    `had` are fields with values that hires have, `lacking` the number of a condition, a hire and the field.
    """
    if desired.broken_hires:
        return  # they may be the ones who have it
    for number, placed in enumerate(conditions):
        for name, value in placed.condition.values:
            if (name, plain(value)) not in had:
                yield placed.warning(f"no hire has {name} {value}{near(value, _values(desired, name))}")
        for name in placed.condition.fields:
            hires = sorted(hire for place, hire, field in lacking if (place, field) == (number, name))
            if hires:
                yield placed.warning(f"it holds for {some(hires)} only because no {name} is given")


def _values(desired: Desired, name: str) -> Iterator[str]:
    """Yield the values of a field that hires have."""
    values = (value_of(desired.hires[hire].model, name) for hire in desired.hires)
    return (value for value in dict.fromkeys(values) if value is not None)
