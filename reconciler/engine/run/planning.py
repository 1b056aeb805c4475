"""Observe and plan: desired state, ledger and the services' answers become a `Plan`.

Nothing here can execute or write: `Planning` gets a state for reading, and a `Checker`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from reconciler.engine.apply import transitions as records
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Context
from reconciler.engine.decide import guard
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.observe.checker import BlindChecker, Checker
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import Listings, listed_grants
from reconciler.engine.observe.same_account import Rivals, SameAccounts
from reconciler.engine.observe.wiring import Services, as_branch_may, integrations_of
from reconciler.engine.run.claims import Claims, ClaimSet
from reconciler.engine.run.inputs import PlanningInputs
from reconciler.engine.run.locking import not_yet
from reconciler.engine.run.planner import Planner, Watched, unwatched
from reconciler.engine.run.renames import Told, moved, rows_of, stored_under
from reconciler.engine.state import ReadState, as_settled
from reconciler.model.decision_inputs import Policy
from reconciler.model.ending import is_over
from reconciler.model.errors import Blocked, Problem, RepositoryError
from reconciler.model.grant import Decision, Key, Record
from reconciler.model.selection import Selection
from reconciler.model.status import Action, Status
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import WORKTREE, Tree
from reconciler.repository.git.parts import parse_version
from reconciler.repository.hire_index import stem_of
from reconciler.repository.policy import Judge

if TYPE_CHECKING:
    from reconciler.engine.apply.commands import CommandsByGrant

__all__ = ["ASSIGNED", "HIRES", "Planning"]

ASSIGNED = "assigned"
"""The name of the note that has the sequences which were assigned by a revision that was acted on."""

HIRES = 200
"""The most hires that are planned at a time in a pass over all of them."""

READ_AT_A_TIME = 25
"""The most hires whose records are read before other tasks run."""


class Planning:
    """Plans a pass over a selection, as a whole or in parts, with what is the same for all parts.

    `in_force` is HEAD's tree if `tree` is a branch: then settings and hosts are HEAD's, and a manifest that differs
    from HEAD's sends nothing (docs/design/rules.md, "Pull requests"). `by_hand` has `run` or `revoke` by grant, for
    this pass, `commands` those that were enqueued for any pass over their grants. `listings` are those that were read
    for the slices of an interval. With `removals` false nothing is revoked. `progressed` is called for each request.
    """

    def __init__(
        self,
        context: Context,
        state: ReadState,
        selection: Selection,
        tree: Tree,
        *,
        in_force: Tree | None = None,
        by_hand: Mapping[Key, str] | None = None,
        commands: CommandsByGrant | None = None,
        removals: bool = True,
        listings: Listings | None = None,
        progressed: Callable[[], None] = lambda: None,
        asks: bool = True,
    ) -> None:
        self.state = state
        self.selection = selection
        files = context.reader.load(tree)
        base = context.reader.load(in_force) if in_force is not None else files
        self.settings, sealing = base.settings, state.sealing
        self.policy = Policy.of(self.settings, context.clock.now(), removals=removals)
        self.desired = context.desired(files, self.policy.today)
        self.desired.once_assigned = frozenset(json.loads(self.state.ledger.note(ASSIGNED) or b"[]"))
        trusted = self.desired if in_force is None else Desired(base, self.policy.today)
        built = integrations_of(context, trusted, in_force or tree, self.settings, sealing, store_of=state.store_of)
        integrations = {item.name: item for item in built}
        if sealing.fault is not None:
            integrations = {name: _without_tokens(item, sealing.fault) for name, item in integrations.items()}
        if in_force is not None:
            integrations = as_branch_may(integrations, base.manifests, files.manifests, context, self.settings)
        self.integrations: Mapping[str, Integration] = integrations
        hires = self.desired.hires if selection.hires is None else selection.hires
        self.pace = context.pace.among(len(hires))
        if listings is None:
            listings = Listings(self.policy.now)
            listings.expect(listed_grants(self.desired, selection.hires))
        self.listings = listings
        self.locks = self.desired.locks(self.state.ledger.locks(), self.policy.now)
        self.checker = (Checker if asks else BlindChecker)(context.redactor, listings, progressed, self.pace)
        self.judge = context.judge(self.desired) if in_force is None else Judge(self.desired, files.policy, base.policy)
        self.services = Services(desired=self.desired, integrations=integrations, checker=self.checker)
        self._same_accounts = SameAccounts(self.desired, integrations, self.checker, context.wanted_prints)
        self._rivals = Rivals(self.desired, integrations, context.wanted_accounts)
        self._checkout = context.checkout
        self._last_addresses: dict[tuple[str, str], str] = {}
        self._stems_at: dict[str, frozenset[str]] = {}
        self._unread: asyncio.Task[list[Record]] | None = None
        self._untold: set[Key] = set()
        self._commands = commands or {}
        asked = ((key, each.kind) for key, theirs in self._commands.items() for each in theirs)
        self._by_hand = {**{key: kind for key, kind in asked if kind != "check"}, **(by_hand or {})}

    def rows(self, selection: Selection) -> dict[Key, Record]:
        """Read a part's rows, without those that the history does not know: somebody else wrote them."""
        found = rows_of(self.state.ledger, selection, self.desired)
        untold = self.state.ledger.untold(found.values())
        self._untold |= untold
        return {key: record for key, record in found.items() if key not in untold} if untold else found

    async def _rows(self) -> dict[Key, Record]:
        """Read the selection's rows, of some hires at a time."""
        if self.selection.hires is None:
            return self.rows(self.selection)
        found: dict[Key, Record] = {}
        for some in self.parts(READ_AT_A_TIME):
            await self.pace.keep()
            found |= self.rows(some)
        return found

    async def whole(
        self,
        claims: ClaimSet | None = None,
        *,
        released: bool = False,
        partial: bool = False,
        watched: Watched = unwatched,
    ) -> Plan:
        """Observe and plan in one piece, and change nothing. `watched` is called for each hire."""
        claims = claims or Claims().begin()
        plan = await self.part(self.selection, await self._rows(), claims, watched)
        planned: Iterable[PlannedGrant] = plan.grants
        if released and self.selection.grants is None:  # who names one grant lets nothing else through
            judgement = guard.Judgement(released=True)
        else:
            changes = self.changes()
            changes.add(planned, plan.renamed, plan.dropped)
            changes.add_beside(claims.acted_on_beside())
            planned, judgement = changes.judged(planned, partial=partial)
            claims.act_on(planned)
        return replace(
            plan,
            grants=tuple(map(self.locked, planned)),
            judgement=judgement,
            problems=self.problems(plan.problems),
            followed=tuple(self.locks.followed()),
        )

    async def part(
        self, selection: Selection, rows: Mapping[Key, Record], claims: ClaimSet, watched: Watched = unwatched
    ) -> Plan:
        """Observe and plan a part of the selection, which the guard has not judged yet."""
        sealing, policy = self.state.sealing, self.policy
        known, renamed = await self._known(rows, selection, asks=True)
        _refuse_uncovered(
            self.state, {self.desired.service_of(rows[key].integration) for key in renamed if key in rows}
        )
        renamed = claims.take_moves(renamed)
        if selection.grants is not None:  # what an entry was about before is planned with it
            more = {new for old, new in renamed.items() if old in selection.grants}
            selection = replace(selection, grants=selection.grants | more)
        inputs = PlanningInputs(
            desired=self.desired,
            integrations=self.integrations,
            records=known,
            rows_of=lambda hire: self.state.ledger.records([hire]),
            rows_of_others=self._rows_of_others,
            checker=self.checker,
            policy=policy,
            stored=stored_under(renamed, sealing.stored({key.hire for key in rows})),
            judge=self.judge,
            pace=self.pace,
            by_hand=self._by_hand,
            same_accounts=self._same_accounts,
            rivals=self._rivals,
            unreadable=self._unreadable,
            locks=self.locks,
        )
        planner = Planner(inputs, selection, claims)
        planned = await planner.plan(watched)
        # Who acted on an entry for its former service may still do so.
        _refuse_uncovered(self.state, {item.record.service for item in planned if item.record is not None})
        await self.pace.keep()
        return Plan(
            revision=self.desired.revision,
            settings=self.settings,
            policy=policy,
            manifests={name: each.manifest for name, each in self.integrations.items()},
            selection=selection,
            rows=rows,
            grants=tuple(planned),
            written=planner.written,
            dropped=tuple(planner.dropped),
            renamed=renamed,
            commands=self._commands,
            problems=tuple(planner.problems),
        )

    async def _known(
        self, rows: Mapping[Key, Record], selection: Selection, *, asks: bool = False
    ) -> tuple[dict[Key, Record], dict[Key, Key]]:
        """Return the rows under their current names, and where each moved row was.

        With `asks` it may be asked what is there under an address of before.
        """
        ledger, policy = self.state.ledger, self.policy
        await self.pace.keep()
        known = {key: records.remembered(row, policy.now, self.settings.retry_delay) for key, row in rows.items()}
        if ledger.unattended:
            known = as_settled(known, ledger, policy)
        await self.pace.keep()

        def renamed_to(record: Record) -> str | None:
            owner = self.desired.owner(self._last_address(record))
            return owner if selection.hires is None or owner in selection.hires else None

        told = Told(
            renamed_to=renamed_to,
            was_gone=self._was_gone,
            asks=lambda key, integration: asks and self._may_ask(selection, key, integration),
            runs=lambda key, _integration: self._by_hand.get(key) == "run",
        )
        return await moved(known, self.desired, self.integrations, self.checker, told)

    def _may_ask(self, selection: Selection, key: Key, integration: str) -> bool:
        return selection.covers(key, integration) and self.policy.suspended(key.hire, integration) is None

    def _was_gone(self, record: Record) -> bool:
        """Whether a row's hire had no file at the revision of the row's last pass; False if that is not known."""
        revision = record.revision or WORKTREE
        if revision == WORKTREE:
            return False
        stems = self._stems_at.get(revision)
        if stems is None:
            try:
                stems = frozenset(stem_of(file.path) for file in self._checkout.at(revision).files("hires"))
            except RepositoryError:
                stems = frozenset((record.key.hire,))
            self._stems_at[revision] = stems
        return record.key.hire not in stems

    def _last_address(self, record: Record) -> str:
        """Return the address of a row's hire at the revision of its last pass; empty if that is not known."""
        path, _, _ = record.source.rpartition(":")
        if PurePosixPath(path).stem != record.key.hire:
            path = f"hires/{record.key.hire}.yaml"  # the source is a sequence
        place = record.revision or WORKTREE, path
        if place not in self._last_addresses:
            self._last_addresses[place] = self._address_at(*place)
        return self._last_addresses[place]

    def _address_at(self, revision: str, path: str) -> str:
        if revision == WORKTREE:
            return ""
        try:
            tree = self._checkout.at(revision)
            file = tree.find(path)
            version = parse_version(tree.read(file), path) if file is not None else None
        except RepositoryError:
            return ""
        return "" if version is None else version.email

    @cached_property
    def places(self) -> list[str]:
        """Return the selection's hires in their order, including those that only the ledger has."""
        chosen = self.selection.hires
        return sorted({*self.desired.hires, *self.state.ledger.hires()} if chosen is None else chosen)

    def parts(self, hires: int) -> Iterator[Selection]:
        """Split the selection into parts of so many hires, in their order."""
        for place in range(0, len(self.places), hires):
            yield replace(self.selection, hires=frozenset(self.places[place : place + hires]))

    async def _rows_of_others(self, hires: frozenset[str]) -> Iterable[Record]:
        """Read the records of some hires, whether the pass is about them or not."""
        some = Selection(hires=hires)
        return (await self._known(self.rows(some), some))[0].values()

    async def _unreadable(self) -> list[Record]:
        """Return the records of all hires whose files cannot be read; they are read once."""
        if not self.desired.unreadable_files:
            return []
        if self._unread is None:
            self._unread = asyncio.create_task(self._read_unreadable())
        return await asyncio.shield(self._unread)

    async def _read_unreadable(self) -> list[Record]:
        candidates = set[str]()
        for rows in self.state.ledger.origins():
            await self.pace.keep()
            candidates.update(hire for hire, email, origin in rows if self._may_be_unreadable(hire, email, origin))
        hires = sorted(candidates)
        found: dict[Key, Record] = {}
        for place in range(0, len(hires), READ_AT_A_TIME):
            some = Selection(hires=frozenset(hires[place : place + READ_AT_A_TIME]))
            known, _ = await self._known(self.rows(some), some)
            found |= {
                key: record
                for key, record in known.items()
                if self.desired.unreadable(key, record.email, record.origin, record.revision) is not None
                and not is_over(record, self.policy.now)
            }
        return list(found.values())

    def _may_be_unreadable(self, hire: str, email: str, origin: str | None) -> bool:
        """Whether the file of a row's hire cannot be read, or that of whom the row may move to."""
        owner = self.desired.owner(email) or hire
        if self.desired.broken_hires and self.desired.vanished(hire):
            return True  # its file may be one of those
        return any(self.desired.unreadable(Key(each, ""), email, origin) is not None for each in {hire, owner})

    def changes(self) -> guard.Changes:
        """Return the counts that the guard judges."""
        everything, revision = self.selection.everything, self.desired.revision
        return guard.Changes(self.state.ledger, self.settings, revision, everything=everything)

    def locked(self, item: PlannedGrant) -> PlannedGrant:
        """Block a grant with an action pending if the key that seals its memory is missing."""
        fault = self.state.sealing.fault
        if fault is None or not item.decision.action.acts:
            return item
        if item.lock is not None:
            return replace(item, decision=not_yet(item.lock, fault))
        return replace(item, decision=Decision(Status.BLOCKED, Action.NONE, fault))

    def problems(self, found: Iterable[Problem]) -> tuple[Problem, ...]:
        """Sort the problems of the files; `found` are those of all parts."""
        counted = self.judge.counted() if self.selection.everything else ()
        fault = self.state.sealing.fault
        untold = {Problem("state", None, f"{key}: {UNTOLD}") for key in self._untold}
        sealed = untold if fault is None else {*untold, Problem("state", None, fault)}
        return tuple(
            sorted({*self.desired.files.problems, *found, *counted, *sealed}, key=lambda problem: problem.order)
        )


UNTOLD = (
    "the ledger has an account that the history does not know: somebody else wrote it there, and nothing is done about "
    "it. See `reconcile history --verify`, and restore the state from a backup"
)


def _refuse_uncovered(state: ReadState, services: set[str]) -> None:
    """Raise MoreNeeded if rows belong to another service, which this pass may not write for."""
    if state.lease is not None:
        state.lease.require(services)


def _without_tokens(item: Integration, fault: str) -> Integration:
    """Return an integration whose tokens cannot be read, so that its grants are blocked for that reason."""
    return item if item.connection is None or item.fault is not None else replace(item, fault=Blocked(fault))
