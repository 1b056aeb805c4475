"""Which services wait until the guard can count what the parts of a sweep suspended, and which sweeps that puts off.

A commit that concerns all of a service begins its sweep anew: one revision judges everybody. Where such commits come
faster than a sweep takes, somebody who leaves would keep their accounts for as long. So once a count has waited for an
interval, the sweep goes on to its end, and the next one comes after the count. Its later parts are made at newer
revisions, of which not everybody is counted: what is judged is what was suspended before the sweep began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.model.grant import Key
from reconciler.model.selection import Selection

__all__ = ["PendingCounts"]


@dataclass
class _Pending:
    """The count of a service: since when it waits, and which grants were suspended when the sweep began."""

    since: datetime
    held: AbstractSet[Key]
    put_off: set[str] = field(default_factory=set)
    """The integrations of which another sweep comes after it."""
    counted: tuple[datetime, AbstractSet[Key]] | None = None
    """Which grants are judged, and since when; None while parts of the sweep are left."""


class PendingCounts:
    """The counts that are not over, by service."""

    def __init__(self) -> None:
        self._of: dict[str, _Pending] = {}

    def __contains__(self, service: str) -> bool:
        """Whether the count of a service is not over."""
        return service in self._of

    @property
    def waiting(self) -> set[str]:
        """The services whose sweep is not over."""
        return {service for service, each in self._of.items() if each.counted is None}

    @property
    def judged(self) -> dict[str, tuple[datetime, AbstractSet[Key]]]:
        """The services whose grants are judged: since when, and which grants."""
        return {service: each.counted for service, each in self._of.items() if each.counted is not None}

    def begin(self, services: Iterable[str], held: AbstractSet[Key], now: datetime) -> None:
        """Let services wait for a sweep over all of them. `held` are the grants that were suspended before it."""
        for service in services:
            before = self._of.get(service)
            self._of[service] = _Pending(now if before is None else before.since, held)

    def join(self, services: Iterable[str], now: datetime) -> None:
        """Let services wait for a sweep over some hires, and for the one before it, if that is not over."""
        for service in services:
            self._of.setdefault(service, _Pending(now, frozenset()))

    def put_off(self, manifests: Mapping[str, Iterable[str]], selection: Selection, since: datetime) -> set[str]:
        """Return the integrations of a selection whose sweep has to come after a count.

        `manifests` are the integrations of each service. A count goes first if it waits since that moment, or is made.
        """
        found = set[str]()
        for service, each in self._of.items():
            if each.counted is not None or each.since <= since:
                mine = {name for name in manifests.get(service, ()) if selection.covers_some_of(name)}
                each.put_off |= mine
                found |= mine
        return found

    def judge(self, service: str, held: AbstractSet[Key], now: datetime) -> AbstractSet[Key]:
        """Return which of a service's suspended grants are judged now that its sweep is over."""
        each = self._of[service]
        chosen = held & each.held if each.put_off else held
        each.counted = now, chosen
        return chosen

    def wait_again(self, services: Iterable[str]) -> None:
        """Let services wait whose grants could not be judged."""
        for service in services:
            self._of[service].counted = None

    def end(self, service: str) -> set[str]:
        """End a count, and return the integrations whose sweep it has put off."""
        return self._of.pop(service).put_off
