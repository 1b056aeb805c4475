"""Observing and planning: what is wanted, what the ledger remembers and what the services answer, made into a `Plan`.

Nothing here can execute or write: `plan_pass` is given a state to read, and a `Checker`, which only asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.engine import guard
from reconciler.engine import transitions as records
from reconciler.engine.checker import Checker
from reconciler.engine.claims import Claims, ClaimSet
from reconciler.engine.context import Context
from reconciler.engine.everybody import Listings
from reconciler.engine.integrations import Integration
from reconciler.engine.planned import PlannedGrant, PlanningInputs, Written
from reconciler.engine.planner import Planner, Watched, listed_grants, unwatched
from reconciler.engine.renames import moved, rows_of, stored_under
from reconciler.engine.state import OpenState, ReadState, as_settled
from reconciler.engine.wiring import as_branch_may, integrations_of
from reconciler.ledger.entries import Event
from reconciler.model.clock import first_moment
from reconciler.model.deciding import Policy
from reconciler.model.errors import Problem
from reconciler.model.grant import Decision, Key, Record
from reconciler.model.report import Report, Row
from reconciler.model.selection import Selection
from reconciler.model.settings import Settings
from reconciler.model.status import Action, Status
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Tree
from reconciler.repository.policy import Judge
from reconciler.requests.shown import shown_body

if TYPE_CHECKING:
    from reconciler.engine.commands import CommandsByGrant

__all__ = ["Plan", "plan_pass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done about each grant of a selection, and what was needed to say so.

    `rows` are the ledger's as they were read, `written` what becomes of them, `renamed` those that are to go under
    another name, `dropped` those that nothing was ever done for. `tripped` names the integrations that the guard holds,
    with the reason; `released` says that a person lets them through. `commands` are those that the grants were asked
    for with.
    """

    tree: Tree
    settings: Settings
    desired: Desired
    integrations: Mapping[str, Integration]
    checker: Checker
    policy: Policy
    selection: Selection
    rows: Mapping[Key, Record]
    grants: tuple[PlannedGrant, ...]
    written: Mapping[Key, Written]
    dropped: tuple[Record, ...]
    renamed: Mapping[Key, Key]
    commands: CommandsByGrant
    claims: ClaimSet
    tripped: Mapping[str, str]
    released: bool
    problems: tuple[Problem, ...]

    @property
    def revision(self) -> str:
        """The revision that is planned."""
        return self.desired.revision

    def record_of(self, item: PlannedGrant) -> tuple[Record, list[Event]]:
        """The record of a grant once what was observed and decided is written down, and the history's lines for it."""
        known = self.written.get(item.grant.key)
        if known is not None and known[0] is item:  # what was held back afterwards is another
            return known[1:]
        return item.written(self.policy.now, self.revision)

    def row(self, item: PlannedGrant, record: Record) -> Row:
        """How a planned grant is shown; with the requests that are to be sent, where some are."""
        integration = self.integrations.get(item.grant.integration)
        form = () if integration is None else [field.id for field in integration.manifest.form]
        asks = partial(self._asks, item) if record.action.acts and item.prepared is not None else tuple
        begins = first_moment(item.grant.begins, self.settings.timezone)
        hire = None if item.wanted else self.desired.hires.get(record.key.hire)
        return Row.of(
            record,
            grant=item.grant,
            guarded=item.decision.guarded,
            form=form,
            person="" if hire is None else hire.model.full_name,
            begins=begins,
            asks=asks,
        )

    def _asks(self, item: PlannedGrant) -> tuple[Mapping[str, Any], ...]:
        """What would be sent for a grant, from the request on at which it would begin."""
        prepared, integration = item.prepared, self.integrations[item.grant.integration]
        assert prepared is not None
        calls = list(zip(prepared.outlines, integration.requests(item.kind), strict=False))[item.decision.resume :]
        bodies = ((outline, shown_body(call, prepared.scope, integration.manifest)) for outline, call in calls)
        redact = self.checker.redactor.redact_all
        return tuple({**outline, "body": redact(body)} for outline, body in bodies)

    def report(self) -> Report:
        """What a dry run shows."""
        report = Report(self.revision, dry_run=True, problems=list(self.problems))
        report.rows = [self.row(item, self.record_of(item)[0]) for item in self.grants]
        return report


async def plan_pass(
    context: Context,
    state: OpenState | ReadState,
    selection: Selection,
    tree: Tree,
    *,
    in_force: Tree | None = None,
    by_hand: Mapping[Key, str] | None = None,
    commands: CommandsByGrant | None = None,
    released: bool = False,
    removals: bool = True,
    claims: ClaimSet | None = None,
    listings: Listings | None = None,
    progressed: Callable[[], None] = lambda: None,
    watched: Watched = unwatched,
) -> Plan:
    """Observe and plan, and change nothing.

    `in_force` is HEAD's tree where `tree` is somebody's branch: then settings and hosts are HEAD's, and a manifest that
    differs from HEAD's sends nothing (docs/design/rules.md, "Pull requests"). `by_hand` has `run` or `revoke` for what
    somebody asks of this pass, `commands` what was left for any pass that comes to those grants. `listings` are those
    that were read for the slices of an interval. With `removals` false nothing is revoked. `progressed` is told of each
    request, `watched` of each hire.
    """
    files = context.reader.load(tree)
    base = context.reader.load(in_force) if in_force is not None else files
    settings, ledger, sealing = base.settings, state.ledger, state.sealing
    policy = Policy.of(settings, context.clock.now(), removals=removals)
    desired = context.desired(files, policy.today)
    trusted = desired if in_force is None else Desired(base, policy.today)
    integrations = {item.name: item for item in integrations_of(context, trusted, in_force or tree, settings, sealing)}
    if sealing.fault is not None:
        integrations = {name: _without_tokens(item, sealing.fault) for name, item in integrations.items()}
    if in_force is not None:
        integrations = as_branch_may(integrations, base.manifests, files.manifests, context, settings)
    pace = context.pace.among(len(desired.hires if selection.hires is None else selection.hires))
    await pace.keep()
    rows = rows_of(ledger, selection, desired)
    await pace.keep()
    known = {key: records.remembered(record, policy.now, settings.retry_delay) for key, record in rows.items()}
    if ledger.unattended:
        known = as_settled(known, ledger, policy)
    if listings is None:  # no reading serves the pass already: one of its own does, if it has enough grants
        listings = Listings()
        chosen = selection.hires
        listings.expect(listed_grants(desired, None if chosen is None else [h for h in chosen if h in desired.hires]))
    checker = Checker(context.clock, context.redactor, progressed, listings, pace)
    await pace.keep()
    known, renamed = await moved(known, desired, integrations, checker)
    if isinstance(state, OpenState):
        _refuse_uncovered(state, {desired.home(rows[key].integration) for key in renamed if key in rows})
    commands, claims = commands or {}, claims or Claims().begin()
    renamed = claims.take_moves(renamed)
    judge = context.judge(desired) if in_force is None else Judge(desired, files.policy, base.policy)
    inputs = PlanningInputs(
        desired=desired,
        integrations=integrations,
        records=known,
        rows_of=lambda hire: ledger.records([hire]),
        checker=checker,
        policy=policy,
        stored=stored_under(renamed, sealing.stored()),
        judge=judge,
        pace=pace,
        by_hand={**{key: theirs[-1].kind for key, theirs in commands.items()}, **(by_hand or {})},
    )
    planner = Planner(inputs, selection, claims)
    planned = await planner.plan(watched)
    if isinstance(state, OpenState):  # who acted on an entry for its former service may still do so
        _refuse_uncovered(state, {item.record.service for item in planned if item.record is not None})
    await pace.keep()
    released = released and selection.grants is None  # who names one grant lets nothing else through
    tripped: Mapping[str, str] = {}
    if not released:
        tripped = guard.judge(planned, ledger, settings, everything=selection.everything, renamed=renamed)
        planned = guard.suspend(planned, tripped)
    if sealing.fault is not None:
        planned = [_locked(item, sealing.fault) for item in planned]
    return Plan(
        tree=tree,
        settings=settings,
        desired=desired,
        integrations=integrations,
        checker=checker,
        policy=policy,
        selection=selection,
        rows=rows,
        grants=tuple(planned),
        written=planner.written,
        dropped=tuple(planner.dropped),
        renamed=renamed,
        commands=commands,
        claims=claims,
        tripped=tripped,
        released=released,
        problems=_sorted({*files.problems, *planner.problems, *(judge.counted() if selection.everything else ())}),
    )


def _refuse_uncovered(state: OpenState, services: set[str]) -> None:
    """Raise MoreNeeded where rows are another service's, which this pass may not write for."""
    if state.ledger.lease is not None:
        state.ledger.lease.require(services)


def _sorted(problems: set[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.order))


def _without_tokens(item: Integration, fault: str) -> Integration:
    """An integration whose tokens cannot be read: its grants are blocked for that reason, not for want of tokens."""
    return item if item.connection is None or item.fault is not None else replace(item, fault=fault)


def _locked(item: PlannedGrant, fault: str) -> PlannedGrant:
    """A grant for which something was to be done, and nothing can be: an attempt keeps sealed what it has to know."""
    if not item.decision.action.acts:
        return item
    return replace(item, decision=Decision(Status.BLOCKED, Action.NONE, fault))
