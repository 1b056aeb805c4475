"""A grant on its way through a pass, as values: prepared to be checked, and planned once it is decided on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any, assert_never

from reconciler.ledger.vault import Stored
from reconciler.model.errors import Blocked
from reconciler.model.grant import Decision, Grant, Record
from reconciler.model.lock import Lock
from reconciler.model.manifest import Manifest
from reconciler.model.request import Request
from reconciler.model.run import Kind
from reconciler.model.scope import Layer, Scope
from reconciler.model.value import Frozen, Unshown, replace
from reconciler.model.verdict import Invited, Missing, NoCheck, Present, Verdict
from reconciler.requests.record import NOTHING as NOTHING_COMPARED
from reconciler.requests.record import Compared
from reconciler.requests.render import outline, shown_body
from reconciler.transports.messages import RenderedRequest


def requests_of(manifest: Manifest, kind: Kind) -> tuple[Request, ...]:
    """Return the requests of an attempt of a kind, in order."""
    match kind:
        case Kind.EXECUTE | Kind.HEAL | Kind.RUN:
            return tuple(manifest.execute)
        case Kind.UPDATE | Kind.MEND:
            return tuple(manifest.updates)
        case Kind.REINVITE:
            return (*manifest.withdraw, *manifest.execute)
        case Kind.REVOKE:
            return tuple(manifest.revoke)
        case Kind.WITHDRAW | Kind.LOCK_INVITED:
            return tuple(manifest.withdraw)
        case Kind.LOCK:
            return tuple(manifest.lock or manifest.revoke)
        case _:
            assert_never(kind)


def withdraws_of(manifest: Manifest, kind: Kind) -> int:
    """Return how many of an attempt's requests, the first ones, withdraw an open invitation."""
    return len(manifest.withdraw) if kind is Kind.REINVITE else 0


def stored_at(manifest: Manifest, kind: Kind | None, place: int, stored: Stored) -> Stored:
    """Return what earlier attempts stored, as the request at a place sees it; all of it without a kind.

    What the requests before it store is this attempt's, or not known. What makes an account begins without what was
    stored of the one before.
    """
    if kind is None or not stored.names:
        return stored
    before = {name for request in requests_of(manifest, kind)[:place] for name in request.store_data}
    return stored.without(before, own=not kind.makes or place < withdraws_of(manifest, kind))


class DependencyOutputs(Frozen):
    """The entries of the same service that a grant needs, whose stored values its requests may use; nearest first.

    `names` are those that they store in this very pass.
    """

    entries: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()


NO_OUTPUTS = DependencyOutputs()

NOTHING_STORED = Stored()


class Check(Frozen):
    """A check ready to be sent, what its answer has to contain, and what is compared in it."""

    wire: Unshown[RenderedRequest | None]
    """None where a listing may answer: then it is rendered when it is sent."""
    wanted: Unshown[str | None]
    compared: Compared = NOTHING_COMPARED
    wants: Unshown[Mapping[str, Any]] = {}
    """What `where` asks for, as it may be shown and written down."""


class Prepared(Frozen):
    """A grant with everything that is needed to check it, and, where it has a `kind`, for an attempt of that kind.

    `snapshot` holds the hire's and the form's values that the manifest uses, `found_by` those of them that the check
    uses, and `as_wanted` those that `where` uses: an account that is as git wants it has these, too.
    """

    grant: Grant
    scope: Unshown[Scope]
    snapshot: Unshown[Mapping[str, Any]]
    stored: Unshown[Stored] = NOTHING_STORED
    found_by: Unshown[Mapping[str, Any]] = {}
    as_wanted: Unshown[Mapping[str, Any]] = {}
    removed_with: frozenset[str] = frozenset()
    """The names of the values that take the account away."""
    check: Check | None = None
    kind: Kind | None = None
    dependencies: tuple[str, ...] = ()
    """The hire's entries whose `store_data` this one may use, the nearest first."""

    @property
    def wants(self) -> Mapping[str, Any]:
        """Return the values that `where` expects, as they may be shown and saved."""
        return {} if self.check is None else self.check.wants

    @property
    def manifest(self) -> Manifest:
        """Return the manifest that it is prepared with."""
        assert self.grant.manifest is not None
        return self.grant.manifest

    def shown(self, kind: Kind, seen: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Return an attempt's requests as a plan shows them. `seen` is what the check saved of the account."""
        by_check = (Layer("store_data of the check", seen),) if seen else ()
        scopes = (
            replace(self.scope, saved=(*by_check, *stored_at(self.manifest, kind, place, self.stored).layers()))
            for place in count()
        )
        return tuple(map(self._shown, requests_of(self.manifest, kind), scopes))

    def _shown(self, call: Request, scope: Scope) -> Mapping[str, Any]:
        try:
            return {**outline(call, scope), "body": shown_body(call, scope, self.manifest)}
        except Blocked as error:
            return {"method": call.method, "url": call.url, "body": f"({error})"}


class PlannedGrant(Frozen):
    """A grant, what was observed, and the decision. `wanted` is False for what git no longer wants."""

    grant: Grant
    record: Record | None
    decision: Decision
    verdict: Verdict | None = None
    prepared: Unshown[Prepared | None] = None
    wanted: bool = True
    person: str = ""
    """The full name of whom git no longer wants it for, if git still has the hire."""
    kind: Kind = Kind.EXECUTE
    by_hand: bool = False
    invitation: Invited | None = None
    untouched: bool = False
    """Whether what the ledger remembers is left alone, but for how it is shown."""
    lock: Lock | None = None
    """The lock of its person: then all that is done is to lock the account."""
    leaves: str | None = None
    """Why git no longer wants what is locked."""
    not_locked_yet: str | None = None
    """What another account of its person's waits for, once this one is locked."""
    in_git: bool = True
    """Whether git still has the entry, wanted or not."""
    over: bool = False
    """Whether its time is over."""
    ran_out: datetime | None = None
    """When it was over by a `for` that a commit made shorter, if that is why git no longer wants it."""
    expired: bool = False
    """Whether its time is over, so that it is revoked whatever `prune` says."""
    unanswered: bool = False
    """Whether it is over, and nothing is done about it now for a reason that may pass: it is looked at again soon."""
    maker: str | None = None
    """The hire's entry that makes the same account in this pass: this one does not."""

    @property
    def named(self) -> bool:
        """Whether a person named it, or whom it is for: it is given again once a lock ends."""
        unlocked = self.wanted and self.lock is None and self.record is not None and self.record.locked is not None
        return self.by_hand or unlocked

    @property
    def exempt(self) -> bool:
        """Whether the guard neither counts nor holds it: a person named it, or its time is over by itself."""
        by_itself = self.over and self.record is not None and not self.record.ends_moved
        return self.named or by_itself or self.lock is not None

    @property
    def moved(self) -> bool:
        """Whether the row belonged to another service before."""
        row, grant = self.record, self.grant
        return not self.untouched and row is not None and row.service != grant.service and grant.manifest is not None

    @property
    def finds_nothing(self) -> bool:
        """Whether neither an account nor an invitation was found, or nothing says whether there is one."""
        return isinstance(self.verdict, Missing | NoCheck) and self.invitation is None

    @property
    def seen(self) -> Mapping[str, Any]:
        """Return what the `store_data` of the check and of the open invitations saved."""
        seen = self.verdict.stored if isinstance(self.verdict, Present | Missing) else {}
        return {**seen, **self.invitation.stored} if self.invitation is not None else seen
