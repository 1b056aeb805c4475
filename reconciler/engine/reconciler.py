"""One pass: observe → plan → attempt → record.

`look` observes and plans and changes nothing: it has no ledger to write to and nothing that could execute. `reconcile`
takes what `look` found, writes it down, carries it out, and writes that down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from reconciler.engine import guard
from reconciler.engine import transitions as records
from reconciler.engine.checker import Checker
from reconciler.engine.claims import Claims, ClaimSet
from reconciler.engine.commands import Waiting
from reconciler.engine.commands import told as asked_for
from reconciler.engine.context import Context
from reconciler.engine.decide import Policy
from reconciler.engine.everybody import Listings
from reconciler.engine.executor import Executor
from reconciler.engine.integrations import Integration
from reconciler.engine.planner import PlannedGrant, Planner, Selection, Watched, unwatched
from reconciler.engine.recovery import as_settled, recover
from reconciler.engine.renames import follow, move, rows_of
from reconciler.engine.scheduler import Scheduler, acts
from reconciler.engine.wiring import as_branch_may, integrations_of
from reconciler.ledger.entries import Event
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import Sealing, WritableSealing
from reconciler.ledger.vault import WritableVault, run_name
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import stamp
from reconciler.model.errors import Problem
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Decision, Key, Record
from reconciler.model.report import Report, Row
from reconciler.model.settings import Settings
from reconciler.model.status import Action, EventType, Status
from reconciler.notify.alerts import alert
from reconciler.notify.notifications import Notifier
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Tree
from reconciler.requests.shown import shown_body

__all__ = ["LAST", "Plan", "dry_report", "look", "reconcile", "recover"]

LAST = "last_pass"
TOLD = 100
"""So many problems of files are noted; `reconcile validate` tells all."""


@dataclass(slots=True)
class Plan:
    """What a walk found: the plan, and what was needed to make it."""

    tree: Tree
    settings: Settings
    desired: Desired
    integrations: dict[str, Integration]
    checker: Checker
    policy: Policy
    selection: Selection
    rows: Mapping[Key, Record]
    """What was read of the ledger, as it stood there."""
    planned: list[PlannedGrant] = field(default_factory=list)
    dropped: list[Record] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    released: bool = False
    commands: Waiting = field(default_factory=dict)
    renamed: dict[Key, Key] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


async def look(
    context: Context,
    tree: Tree,
    ledger: LedgerReader,
    sealing: Sealing,
    selection: Selection,
    *,
    in_force: Tree | None = None,
    by_hand: Mapping[Key, str] | None = None,
    commands: Waiting | None = None,
    released: bool = False,
    removals: bool = True,
    claim_set: ClaimSet | None = None,
    progressed: Callable[[], None] = lambda: None,
    listings: Listings | None = None,
    watched: Watched = unwatched,
) -> Plan:
    """Observe and plan, and change nothing.

    `in_force` is HEAD's tree where `tree` is somebody's branch: then settings and hosts are HEAD's, and a manifest that
    differs from HEAD's sends nothing (docs/design/rules.md, "Pull requests"). `by_hand` has `run` or `revoke` for what
    somebody asks of this pass, `commands` what was left for any pass that comes to those grants. `listings` are those
    that were read for the slices of an interval. With `removals` false nothing is revoked.
    """
    files = context.reader.load(tree)
    base = context.reader.load(in_force) if in_force is not None else files
    settings = base.settings
    now = context.clock.now()
    policy = Policy.of(settings, now, removals=removals)
    desired = context.desired(files, policy.today)
    trusted = desired if in_force is None else Desired(base, policy.today)
    integrations = {item.name: item for item in integrations_of(context, trusted, in_force or tree, settings, sealing)}
    if sealing.fault is not None:
        integrations = {name: _without_tokens(item, sealing.fault) for name, item in integrations.items()}
    if in_force is not None:
        integrations = as_branch_may(integrations, base.manifests, files.manifests, context, settings)
    rows = rows_of(ledger, selection, desired)
    found = {key: records.remembered(record, now, settings.retry_delay) for key, record in rows.items()}
    if ledger.unattended:
        found = as_settled(found, ledger, policy)
    renamed = follow(found, desired)
    found = {
        renamed.get(key, key): replace(record, key=renamed[key]) if key in renamed else record
        for key, record in found.items()
    }
    commands = commands or {}
    checker = Checker(context.clock, context.redactor, progressed, listings)
    walk = Planner(
        desired,
        integrations,
        found,
        checker,
        policy,
        selection,
        stored=sealing.stored(),
        by_hand={**{key: theirs[-1].kind for key, theirs in commands.items()}, **(by_hand or {})},
        claim_set=claim_set or Claims().begin(),
    )
    planned = await walk.plan(watched)
    result = Plan(
        tree, settings, desired, integrations, checker, policy, selection, rows, planned, walk.dropped, renamed=renamed
    )
    result.commands = commands
    problems = {*files.problems, *walk.problems}
    result.problems = sorted(problems, key=lambda each: (each.file, each.line or 0, each.severity, each.message))
    result.released = released and selection.grants is None  # who names one grant lets nothing else through
    if not result.released:
        everything = selection.everything
        result.held = guard.holds(planned, ledger, settings, everything=everything, renamed=renamed)
        result.planned = guard.hold_back(planned, result.held)
    if sealing.fault is not None:
        result.planned = [_locked(item, sealing.fault) for item in result.planned]
    return result


def _without_tokens(item: Integration, fault: str) -> Integration:
    """An integration whose tokens cannot be read: its grants are blocked for that reason, not for want of tokens."""
    return item if item.connection is None or item.fault is not None else replace(item, fault=fault)


def _locked(item: PlannedGrant, fault: str) -> PlannedGrant:
    """A grant for which something was to be done, and nothing can be: an attempt keeps sealed what it has to know."""
    if not item.decision.action.acts:
        return item
    return replace(item, decision=Decision(Status.BLOCKED, Action.NONE, fault))


def _record_of(item: PlannedGrant, result: Plan) -> tuple[Record, list[Event]]:
    record = item.record or records.first(item.grant, result.desired.revision)
    if item.as_it_is:
        return records.held_where_it_is(record, item.decision, result.policy.now)
    return records.checked(
        record,
        item.grant,
        item.decision,
        item.verdict,
        now=result.policy.now,
        snapshot=item.prepared.snapshot if item.prepared else None,
        found_by=item.prepared.found_by if item.prepared else None,
        revision=result.desired.revision,
        wants=item.prepared.wants if item.prepared else None,
        wanted=item.wanted,
    )


def _row(item: PlannedGrant, record: Record, result: Plan) -> Row:
    integration = result.integrations.get(item.grant.integration)
    form = () if integration is None else [field.id for field in integration.manifest.form]
    asks = partial(_asks, item, result) if record.action.acts and item.prepared is not None else tuple
    return Row.of(record, grant=item.grant, guarded=item.decision.guarded, form=form, asks=asks)


def _asks(item: PlannedGrant, result: Plan) -> tuple[Mapping[str, Any], ...]:
    """What a plan would send for a grant, from the request on at which it would begin."""
    prepared, integration = item.prepared, result.integrations[item.grant.integration]
    assert prepared is not None
    manifest = integration.manifest
    calls = list(zip(prepared.outlines, integration.requests(item.kind), strict=False))
    bodies = ((outline, shown_body(call, prepared.scope, manifest)) for outline, call in calls[item.decision.resume :])
    return tuple({**outline, "body": result.checker.redactor.redact_all(body)} for outline, body in bodies)


def dry_report(result: Plan) -> Report:
    """What a dry run shows."""
    report = Report(result.desired.revision, dry_run=True, problems=result.problems)
    report.rows = [_row(item, _record_of(item, result)[0], result) for item in result.planned]
    return report


async def reconcile(
    context: Context,
    result: Plan,
    ledger: LedgerWriter,
    sealing: WritableSealing,
    notifier: Notifier,
    *,
    author: str | None,
    claim_set: ClaimSet | None = None,
    progressed: Callable[[], None] = lambda: None,
) -> Report:
    """Carry a plan out. The caller holds the state, and everything planned is written down before anything is sent.

    `progressed` is told of each request that is written down.
    """
    report = Report(result.desired.revision, dry_run=False, problems=result.problems)
    vault = sealing.vault
    move(ledger, vault, result.renamed)
    held, noted = guard.tell(ledger, result.planned, result.held, result.policy.now, result.desired.revision)
    looked = _write_down(result, ledger, vault, author, held, noted)
    if result.selection.everything:
        ledger.begin_resync()
    executor = Executor(
        ledger,
        vault,
        context.clock,
        context.redactor,
        result.settings.retry_delay,
        author,
        lambda hire: _overview(ledger.records([hire]), result.integrations),
        progressed,
    )
    if sealing.fault is None:
        await notifier.deliver_all(ledger, vault, looked.keys(), author)
    release = claim_set.release if claim_set is not None else lambda _key: None
    for key, (item, _) in looked.items():
        if not acts(item):
            release(key)
    turns = Scheduler(
        looked,
        result.integrations,
        result.checker,
        executor,
        ledger,
        notifier,
        vault,
        report,
        author,
        result.commands,
        release,
    )
    after = await turns.take()
    if result.released:
        ledger.begin_resync()  # once: what was let through no longer counts
    report.rows = [_row(item, after.get(key, record), result) for key, (item, record) in looked.items()]
    _note(result, ledger, stamp(context.clock.now()))
    if result.settings.alerts:
        lines = [line for line in ledger.history(since=result.policy.now) if line.key in looked]
        await alert(context, result.settings, result.tree, ledger, report.rows, [*held, *lines])
    return report


def _note(result: Plan, ledger: LedgerWriter, at: str | None) -> None:
    """Note what `status` tells of the last pass: its revision, and what is wrong with that revision's files."""
    problems = [problem.as_json() for problem in result.desired.files.problems[:TOLD]]
    noted = {"revision": result.desired.revision, "at": at, "problems": problems}
    ledger.put_note(LAST, json.dumps(noted).encode())


def _write_down(
    result: Plan,
    ledger: LedgerWriter,
    vault: WritableVault,
    author: str | None,
    held: list[Event],
    noted: Mapping[str, bytes],
) -> dict[Key, tuple[PlannedGrant, Record]]:
    """Write down what was found and decided, and erase what no longer has to be remembered."""
    now, revision = result.policy.now, result.desired.revision
    lines = list(held)
    answered = [
        command for key, commands in result.commands.items() if _is_nobodys(key, result, ledger) for command in commands
    ]
    looked: dict[Key, tuple[PlannedGrant, Record]] = {}
    for item in result.planned:
        record, told = _record_of(item, result)
        looked[item.grant.key] = (item, record)
        lines += told
        if not acts(item):
            answered += result.commands.get(item.grant.key, ())
    gone = [record.key for record in result.dropped]
    ends = [Event(now, item.key, item.integration, EventType.DROPPED, "", revision, author) for item in result.dropped]
    ledger.drop(gone, ends, kept={**{run_name(key): None for key in gone}, **vault.without_stored(gone)})
    # What a row's former service answered is nothing that its new one may be asked with.
    moved = [item.grant.key for item, _ in looked.values() if item.moved]
    settled: dict[str, bytes | None] = {
        run_name(record.key): None
        for item, record in looked.values()
        if record.run is None and item.record is not None and item.record.run is not None
    }
    settled |= vault.without_stored(moved) if moved else {}
    found = [record for _, record in looked.values()]
    lines = [*asked_for(answered, now), *(replace(line, author=author) for line in lines)]
    before = {} if result.renamed else result.rows
    ledger.save(found, lines, Failpoint.PLAN, before=before, kept=settled, noted=noted, heard=answered)
    return looked


def _is_nobodys(key: Key, result: Plan, ledger: LedgerReader) -> bool:
    """Whether neither git nor the ledger has a grant that a command names: no pass will ever come to it."""
    hires = result.selection.hires
    if hires is not None and key.hire not in hires:
        return False
    return ledger.record(key) is None and all(grant.key != key for grant in result.desired.grants(key.hire))


def _overview(found: Iterable[Record], integrations: Mapping[str, Integration]) -> str:
    """`access_overview` of the original format: what the last checks say of a hire's accounts."""
    words = {Status.PRESENT: "has access", Status.UNKNOWN: "could not be checked"}
    return ", ".join(
        f"{record.key.access} ({words.get(record.status, 'no access')})"
        for record in found
        if (integration := integrations.get(record.integration)) is not None
        and integration.manifest.exists is not None
        and record.status is not Status.REVOKED
    )
