"""Which part of the desired state a pass covers, and how a pass is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.value import Frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reconciler.model.grant import Key  # which `--help` and completion do without


class Selection(Frozen):
    """The part that a pass covers: hires, integrations, single grants; None for all of them.

    `without` are integrations that it leaves out.
    """

    hires: frozenset[str] | None = None
    integrations: frozenset[str] | None = None
    grants: frozenset[Key] | None = None
    without: frozenset[str] = frozenset()

    @classmethod
    def of(cls, keys: Iterable[Key]) -> Selection:
        """Select single grants."""
        grants = frozenset(keys)
        return cls(hires=frozenset(key.hire for key in grants), grants=grants)

    def covers(self, key: Key, integration: str) -> bool:
        """Whether a grant is part of the pass."""
        return (
            (self.hires is None or key.hire in self.hires)
            and self.covers_some_of(integration)
            and (self.grants is None or key in self.grants)
        )

    def covers_some_of(self, integration: str) -> bool:
        """Whether grants of an integration may be part of the pass."""
        return (self.integrations is None or integration in self.integrations) and integration not in self.without

    def parts(self, most: int) -> Iterator[Selection]:
        """Cut it into parts of at most so many hires and their grants, in the order of the hires."""
        if self.hires is None or 0 < len(self.hires) <= most:
            yield self
            return
        hires = sorted(self.hires)
        grants: dict[str, list[Key]] = {}
        for key in self.grants or ():
            grants.setdefault(key.hire, []).append(key)
        for place in range(0, len(hires), most):
            some = hires[place : place + most]
            theirs = None if self.grants is None else frozenset(key for hire in some for key in grants.get(hire, ()))
            yield replace(self, hires=frozenset(some), grants=theirs)

    @property
    def everything(self) -> bool:
        """Whether it covers everything."""
        return self == Selection()


class PassRequest(Frozen):
    """A pass to be made: over what, and why.

    `released` says who overrides the guard, if somebody does. A `partial` one does not see all that the guard counts.
    Without `removals` it revokes nothing. `by_hand` has `run` or `revoke` for single grants.
    """

    selection: Selection = Selection()
    why: str = "asked"
    released: str | None = None
    partial: bool = False
    removals: bool = True
    by_hand: Mapping[Key, str] = {}

    def __hash__(self) -> int:
        return hash((self.selection, self.why))
