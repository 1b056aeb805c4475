"""Lock the state while it is worked on, share it in a fleet, or read it beside the process that has it.

An interrupted attempt succeeded if every request was answered with success; else it failed, at the last time at which
the ledger shows it alive (docs/design/rules.md, "The ledger and the retry").
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from reconciler.engine.apply import attempts
from reconciler.engine.context import Revision
from reconciler.engine.trust import TRACE, leave, state_of, vault_of, vault_read
from reconciler.ledger.entries import Attempt, Event
from reconciler.ledger.lease import EVERYTHING, Lease
from reconciler.ledger.ledger import Ledger, OpenLedger
from reconciler.ledger.opening import HeldLedger
from reconciler.ledger.sealing import ReadState
from reconciler.ledger.vault import Vault, run_name
from reconciler.model.decision_inputs import Policy, complete
from reconciler.model.errors import RepositoryError, SecretsError
from reconciler.model.grant import Key, Record
from reconciler.model.settings import Settings
from reconciler.model.value import replace
from reconciler.repository.desired import Desired
from reconciler.repository.git.trees import WORKTREE

if TYPE_CHECKING:
    from reconciler.ledger.postgres.membership import Membership
    from reconciler.ledger.writer import LedgerWriter

HOMES = "homes"
"""The name of the note that has the service of each integration that a fleet's member acted on."""


class OpenState(Struct):
    """A state that this process may write to."""

    ledger: OpenLedger
    vault: Vault
    member: Membership | None = None
    """This process as a member of a fleet; None if it has the state to itself."""
    connect: Mapping[str, Any] = {}
    """The arguments of a connection to the server."""
    taking_over: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Who finds out who gave what: one pass at a time, for all of them."""

    def under(self, lease: Lease) -> OpenState:
        """Return the same state, to be written to under this lease."""
        return replace(self, ledger=self.ledger.under(lease))

    @property
    def read_only(self) -> ReadState:
        """Return what may be looked at while a pass is planned."""
        return ReadState(self.ledger, self.vault, self.ledger)


@contextmanager
def locking(revision: Revision, command: str) -> Iterator[OpenState]:
    """Lock the state while the block runs, and settle every attempt that a crash interrupted.

    Raises StateLockedError if another process has it, LedgerError if it cannot be opened or was lost.
    """
    context, now = revision.context, revision.context.clock.now()
    with state_of(revision).locked(command, now, context.reached) as held:
        held.ledger.session.redact = context.redactor.redact_all
        _settle(held.ledger, revision.settings, now)
        with _open(revision, held) as state:
            if state.vault.fault is None:
                # If a memory cannot be opened, its files are unknown, so none is swept; only its own grant is blocked.
                with suppress(SecretsError):
                    state.vault.sweep(held.ledger)
            yield state


@contextmanager
def sharing(
    revision: Revision, name: str, lost: Callable[[], None] | None = None, *, acts: bool = True
) -> Iterator[OpenState]:
    """Share a server's state as a member of this name; a pass has to lease the services that it writes for.

    A daemon's `lost` is called, from another thread, once the member is over. Raises StateLockedError where the name is
    another's, LedgerError where the state cannot be opened or was lost, RepositoryError where there are no commits for
    work that `acts` on a revision.
    """
    context = revision.context
    if acts and revision.tree.revision == WORKTREE:
        raise RepositoryError(
            f"{context.root} is no git checkout, and state {revision.location} is shared by several clones, which "
            "agree by their commits on what is newest: `git init`, or mend `state`"
        )
    with state_of(revision).shared(name, lost, context.reached) as held, _open(revision, held) as state:
        yield state


@contextmanager
def _open(revision: Revision, held: HeldLedger) -> Iterator[OpenState]:
    leave(revision, TRACE)
    context = revision.context
    held.ledger.session.redact = context.redactor.redact_all
    if held.member is not None:
        from reconciler.ledger.postgres.limits import SharedLimits

        context.member_may_send = held.member.refuse_to_send
        context.shared = SharedLimits(held.ledger.backend, held.member.owner)
    try:
        yield OpenState(OpenLedger(held.ledger), vault_of(revision, held.ledger), held.member, held.connect)
    finally:
        if context.shared is not None:
            context.shared.close()
        context.reader.keep()


@contextmanager
def reading(revision: Revision) -> Iterator[ReadState]:
    """Open the state for reading, changing nothing. The revision is in force."""
    with revision.location.reader() as ledger:
        yield ReadState(Ledger(ledger), vault_read(revision, ledger))


async def recover(ledger: OpenLedger, settings: Settings, now: datetime, busy: Callable[[Key], bool]) -> None:
    """Settle the attempts that a crash cut off, of the services that the caller has taken.

    Those of older epochs: nobody can write for them any more. Those of the caller's own epoch unless they are `busy`,
    which is under way in this process: of one that was open, and then was not busy, it had ended if it is open still.
    """
    lease = ledger.lease
    assert lease is not None
    found = await ledger.run(lambda reader: reader.attempts.open())
    theirs = [each for each in found if lease.covers(each.service)]
    left = {(each.id, each.key) for each in theirs if each.epoch != lease.epoch(each.service) or not busy(each.key)}
    if left:
        await ledger.run(partial(_settle, settings=settings, now=now, left=left))


def _settle(
    ledger: LedgerWriter, settings: Settings, now: datetime, left: Collection[tuple[int, Key]] | None = None
) -> None:
    """Settle the attempts without an end that are covered by the lease, or of these those that are `left`."""
    policy, lease = Policy(settings, now), ledger.session.lease
    assert lease is not None
    for attempt in ledger.attempts.open():
        if not lease.covers(attempt.service) or (left is not None and (attempt.id, attempt.key) not in left):
            continue
        record = ledger.grants.record(attempt.key)
        if record is None:
            continue
        new, lines = _cut_off(record, attempt, policy)
        done = not new.phase.unsettled or new.unchecked
        ledger.attempts.settle(
            attempt,
            new,
            lines,
            now=attempt.alive_at,
            error=None if done else new.last_error,
            kept={run_name(record.key): None} if done else None,
        )


async def refuse_strayed(ledger: OpenLedger, desired: Desired, services: Collection[str]) -> None:
    """Raise MoreNeeded where what these services have now was another one's, or attempts without an end are.

    Where a manifest goes under another `service`, somebody may still be in a pass over the former one, and nobody takes
    that one any more. So who acts on an integration notes under which service; the next who does so under another one
    has both.
    """
    lease = ledger.lease
    assert lease is not None
    if EVERYTHING in lease.epochs:
        return
    ours = {
        name: service
        for service in services
        if service in desired.services
        for name in desired.services[service].manifests
    }
    open_attempts = await ledger.run(lambda reader: reader.attempts.open())
    began = {each.service for each in open_attempts if desired.service_of(each.integration) in services}

    def noted(before: bytes | None) -> bytes:
        known: dict[str, str] = json.loads(before or b"{}")
        former = {service for name, service in known.items() if desired.service_of(name) in services}
        lease.require(former | began)
        others = {name: service for name, service in known.items() if desired.service_of(name) not in services}
        return json.dumps({**others, **ours}, sort_keys=True).encode()

    before = await ledger.run(lambda reader: reader.notes.get(HOMES))
    if noted(before) != before:
        await ledger.run(lambda writer: writer.notes.put(HOMES, noted))


def as_settled(found: Mapping[Key, Record], left: Iterable[Attempt], policy: Policy) -> dict[Key, Record]:
    """Return the records as they will be after `recover`, which settles what is `left`, for who only reads."""
    settled = dict(found)
    for attempt in left:
        if (record := settled.get(attempt.key)) is not None:
            settled[attempt.key], _ = _cut_off(record, attempt, policy)
    return settled


def _cut_off(record: Record, attempt: Attempt, policy: Policy) -> tuple[Record, list[Event]]:
    retry_at = attempt.alive_at + policy.settings.retry_delay
    if not complete(record.run.steps, attempt.total):
        error = "interrupted: the program ended in mid-attempt"
        return attempts.failed(record, error, now=policy.now, retry_at=retry_at, interrupted=True)
    if record.revoking:
        return attempts.sent(record, "interrupted: the program ended before the check", retry_at), []
    # The ledger does not know whether it is a webhook: the next pass, which has the manifest, makes it `done`.
    heals = record.lost and not record.run.by_hand
    return attempts.succeeded(record, webhook=False, heals=heals, now=attempt.alive_at)
