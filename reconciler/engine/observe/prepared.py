"""A grant, ready to be checked, and for an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from reconciler.ledger.vault import Stored
from reconciler.model.grant import Grant, Kind
from reconciler.model.scope import Scope
from reconciler.model.value import value_class
from reconciler.requests.record import NOTHING as NOTHING_COMPARED
from reconciler.requests.record import Compared
from reconciler.transports.request import RenderedRequest

__all__ = ["NOTHING", "NOTHING_STORED", "Check", "Lending", "Prepared"]


@value_class
class Lending:
    """The entries of the same service that a grant needs, whose stored values its requests may use; nearest first.

    `names` are those that they store in this very pass.
    """

    entries: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()


NOTHING = Lending()

NOTHING_STORED = Stored()


@value_class
class Check:
    """A check ready to be sent, what its answer has to contain, and what is compared in it."""

    wire: RenderedRequest | None = field(repr=False)
    """None where a listing may answer: then it is rendered when it is sent."""
    wanted: str | None = field(repr=False)
    compared: Compared = NOTHING_COMPARED
    wants: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What `where` asks for, as it may be shown and written down."""


@value_class
class Prepared:
    """A grant with everything that is needed to check it, and, where it has a `kind`, for an attempt of that kind.

    `snapshot` holds the hire's and the form's values that the manifest uses, `found_by` those of them that the check
    uses. Only with a kind it has `digest`, keyed, of what would be sent.
    """

    grant: Grant
    scope: Scope = field(repr=False)
    snapshot: Mapping[str, Any] = field(repr=False)
    digest: str | None = None
    stored: Stored = field(default=NOTHING_STORED, repr=False)
    found_by: Mapping[str, Any] = field(default_factory=dict, repr=False)
    check: Check | None = None
    kind: Kind | None = None
    lenders: tuple[str, ...] = ()
    """The hire's entries whose `store_data` this one may use, the nearest first."""

    @property
    def wants(self) -> Mapping[str, Any]:
        """Return the values that `where` expects, as they may be shown and saved."""
        return {} if self.check is None else self.check.wants
