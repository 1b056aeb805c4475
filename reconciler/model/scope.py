"""The variables that a manifest's placeholders see, in layers by origin.

Layers are shared: a hire's by all its grants, initial data by all grants of a service. A name is looked up in the first
layer that has it; a value of None counts as not given. Names that get their value only while requests run
(`responses`, what `store_data` saves, `oauth`, generated values) are deferred until a layer brings them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.model.errors import MissingVariable
from reconciler.model.value import Frozen, Unshown

HIRE_NAMES = (
    "email",
    "manager",
    "manager_email",
    "buddy",
    "buddy_email",
    "position",
    "department",
    "first_name",
    "last_name",
    "start",
)
"""Those of the original format."""

KNOWN_NAMES = frozenset({*HIRE_NAMES, "oauth", "redirect_url", "responses", "access_overview"})
"""Names that mean something already; a form's, initial data's or an `extra`'s id may not repeat one."""

LEDGER = "the ledger"
"""The origin of an orphan's values: git has it no longer."""

DEFERRED = object()
"""What a lookup gives for a name whose value only a running attempt knows."""


class Layer(Frozen):
    """Values and their origin. `secret` names those that must be masked when shown."""

    origin: str
    values: Unshown[Mapping[str, Any]]
    secret: frozenset[str] = frozenset()


class Found(Frozen):
    """A variable's value, whether it is secret, and its origin."""

    value: Unshown[Any]
    secret: bool
    origin: str


class Scope(Frozen):
    """The variables of a placeholder. With `waits` false, a value that only a running attempt knows is missing.

    `saved` is what `store_data` saved: it comes last, so that no answer of a service replaces what git gives.
    """

    layers: tuple[Layer, ...] = ()
    deferred: frozenset[str] = frozenset()
    waits: bool = True
    saved: tuple[Layer, ...] = ()

    def over(self, *layers: Layer) -> Scope:
        """Return a scope in which these layers come first."""
        return Scope((*layers, *self.layers), self.deferred, self.waits, self.saved)

    def now(self) -> Scope:
        """Return a scope for a request that leaves now: no value is deferred."""
        return Scope(self.layers, self.deferred, waits=False, saved=self.saved) if self.waits else self

    def look_up(self, name: str) -> Found:
        """Return a variable's value; `DEFERRED` if only a running attempt knows it.

        Raises MissingVariable where it is unknown or has no value (docs/design/rules.md, "Variables").
        """
        root, _, path = name.partition(".")
        for layer in () if path else self.layers:
            if (value := layer.values.get(name)) is not None:
                return Found(value, name in layer.secret, layer.origin)
        places = ((name, ""), (root, path)) if root != name else ((name, ""),)
        known = False
        for layer in (*self.layers, *self.saved):
            for key, rest in places:
                if key not in layer.values:
                    continue
                known = True
                value = walk(layer.values[key], rest) if rest else layer.values[key]
                if value is not None:
                    return Found(value, key in layer.secret, layer.origin)
        if root in self.deferred:
            if not self.waits:
                raise MissingVariable(name, "has a value only while the requests before it run")
            return Found(DEFERRED, False, "known when it runs")
        raise MissingVariable(name, "has no value" if known or root in KNOWN_NAMES else "is not known")

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        for layer in (*self.layers, *self.saved):
            for name in layer.values:
                if name not in seen:
                    seen.add(name)
                    yield name


_INDEX = re.compile(r"\d{1,6}")
_LAST = "-1"

_DOT = re.compile(r"(?<!\\)\.")


def steps(path: str) -> list[str]:
    """Split a dotted path into keys; a backslash before a dot makes it part of its key."""
    if "\\" not in path:
        return path.split(".") if path else []
    return [step.replace("\\.", ".") for step in _DOT.split(path)]


def walk(value: Any, path: str) -> Any:
    """Return the value at a dotted path (`data.0.id`, `data.-1.id`) in decoded JSON; None if there is none."""
    return follow(value, steps(path))


def follow(value: Any, keys: Iterable[str]) -> Any:
    """Return the value at these keys; None if there is none."""
    for step in keys:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, list) and step == _LAST and value:
            value = value[-1]
        else:
            return None
    return value
