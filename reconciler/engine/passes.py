"""One pass: observe → plan → attempt → record.

`look` observes and plans and changes nothing: it has no ledger to write to and nothing that could execute. `reconcile`
takes what `look` found, holds back what the guard holds, writes it down, carries it out, and writes that down.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from reconciler.engine import record as records
from reconciler.engine.attempt import Actor, Job
from reconciler.engine.claims import Claims, InHand
from reconciler.engine.guard import judge_changes
from reconciler.engine.integrations import Integration, integrations_of
from reconciler.engine.memory import Vault, notice_name, run_name, stored_name
from reconciler.engine.notify import Notifier
from reconciler.engine.observe import Checker
from reconciler.engine.observed import Planned, Selection, Walk
from reconciler.engine.plan import Policy
from reconciler.engine.report import Report, Row
from reconciler.engine.sealing import Sealing
from reconciler.engine.together import together
from reconciler.engine.world import World, changed_manifests
from reconciler.ledger.store import Happening, Ledger
from reconciler.model.clock import Stopped, stamp
from reconciler.model.errors import Problem
from reconciler.model.grant import Decision, Key, Phase, Record
from reconciler.model.settings import Settings
from reconciler.model.status import Action, Event, Status
from reconciler.model.verdict import Present
from reconciler.repository.desired import Desired
from reconciler.repository.source import Tree

__all__ = ["LAST", "Look", "begin_resync", "dry_report", "look", "reconcile", "recover"]

RESYNC = "resync"
HELD = "held"
LAST = "last_pass"


@dataclass(slots=True)
class Look:
    """What a walk found: the plan, and what was needed to make it."""

    tree: Tree
    settings: Settings
    desired: Desired
    integrations: dict[str, Integration]
    checker: Checker
    policy: Policy
    selection: Selection
    planned: list[Planned] = field(default_factory=list)
    dropped: list[Record] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    renamed: dict[Key, Key] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


async def look(
    world: World,
    tree: Tree,
    ledger: Ledger,
    sealing: Sealing,
    selection: Selection,
    *,
    in_force: Tree | None = None,
    by_hand: Mapping[Key, str] | None = None,
    released: bool = False,
    in_hand: InHand | None = None,
    progressed: Callable[[], None] = lambda: None,
) -> Look:
    """Observe and plan, and change nothing.

    `in_force` is HEAD's tree where `tree` is somebody's branch: then settings and hosts are HEAD's, and a manifest that
    differs from HEAD's sends nothing (DESIGN section 3, Pull requests).
    """
    files = world.reader.load(tree)
    base = world.reader.load(in_force) if in_force is not None else files
    settings = base.settings
    now = world.clock.now()
    policy = Policy.of(settings, now)
    desired = Desired(files, policy.today)
    trusted = desired if in_force is None else Desired(base, policy.today)
    integrations = {
        item.name: item
        for item in integrations_of(
            trusted,
            in_force or tree,
            settings,
            world.initial_data(settings),
            world.redactor,
            client=lambda service, hosts: world.client(service, hosts, settings.limits),
            sealer=sealing.sealer,
            connection=partial(sealing.connection, world),
        )
    }
    if in_force is not None:
        integrations = _of_branch(integrations, desired, base.manifests)
    found = {record.key: records.remembered(record, now, settings.retry_delay) for record in ledger.records(selection.hires)}
    if ledger.unattended:
        found = _interrupted(found, ledger, policy)
    renamed = _renamed(found, desired)
    for old, new in renamed.items():
        found[new] = replace(found.pop(old), key=new)
    checker = Checker(world.clock, world.redactor, progressed)
    walk = Walk(
        desired,
        integrations,
        found,
        checker,
        policy,
        selection,
        stored=sealing.stored(),
        by_hand=by_hand or {},
        in_hand=in_hand or Claims().begin(),
    )
    planned = await walk.plan()
    result = Look(
        tree, settings, desired, integrations, checker, policy, selection, planned, walk.dropped, renamed=renamed
    )
    result.problems = sorted({*files.problems, *desired.problems(selection.hires)})
    if not released:
        result.held = _guarded(result, ledger)
        result.planned = [_suspended(item, result.held) for item in planned]
    return result


def _of_branch(
    integrations: dict[str, Integration], desired: Desired, in_force: Mapping[str, object]
) -> dict[str, Integration]:
    """The integrations as a branch may use them: what it changes sends nothing."""
    from reconciler.requests.hosts import written_hosts

    ours = {name: loaded.model for name, loaded in in_force.items()}  # type: ignore[attr-defined]
    theirs = {name: loaded for name, loaded in desired.files.manifests.items()}
    changed = changed_manifests(ours, {name: loaded.model for name, loaded in theirs.items()})
    result = {name: item for name, item in integrations.items() if name not in changed}
    if not integrations:
        return result
    template = next(iter(integrations.values()))
    for name in changed:
        loaded = theirs[name]
        known = set(written_hosts(ours[name])) if name in ours else set()
        new = sorted(set(written_hosts(loaded.model)) - known)
        fault = f"{loaded.path} is changed on this branch: nothing is sent" + (f"; new host {', '.join(new)}" if new else "")
        base = integrations.get(name, template)
        result[name] = replace(
            base, name=name, file=loaded.path, manifest=loaded.model, fault=fault, initial=None, connection=None
        )
    return result


def _interrupted(found: dict[Key, Record], ledger: Ledger, policy: Policy) -> dict[Key, Record]:
    """The records as they will count once attempts that a crash cut off are settled."""
    for attempt in ledger.open_attempts():
        record = found.get(attempt.key)
        if record is not None:
            found[attempt.key], _ = _cut_off(record, attempt.total, attempt.alive_at, attempt.kind, policy)
    return found


def _cut_off(
    record: Record, total: int, alive_at: datetime, kind: str, policy: Policy
) -> tuple[Record, list[Happening]]:
    """An attempt without an end: it succeeded if every request was answered with success, else it failed when the
    ledger last shows it alive."""
    if records.complete(record.steps, total):
        if record.revoking:
            return records.revoked(record, policy.now)
        return records.succeeded(record, webhook=False, heals=kind == "heal", now=alive_at)
    error = "interrupted: the program ended in mid-attempt"
    return records.failed(
        record, error, now=policy.now, at=alive_at, retry_delay=policy.retry_delay, interrupted=True
    )


def recover(ledger: Ledger, settings: Settings, now: datetime, *, busy: Callable[[Key], bool] = lambda _key: False) -> None:
    """Settle every attempt that a crash cut off. The caller holds the state; what is `busy` is under way."""
    policy = Policy.of(settings, now)
    for attempt in ledger.open_attempts():
        record = ledger.record(attempt.key)
        if record is None or busy(attempt.key):
            continue
        new, lines = _cut_off(record, attempt.total, attempt.alive_at, attempt.kind, policy)
        done = new.phase in (Phase.EXECUTED, Phase.REVOKED)
        ledger.settle(
            attempt,
            new,
            lines,
            now=attempt.alive_at,
            error=None if done else new.last_error,
            erase=[run_name(record.key)] if done else (),
        )


def _renamed(found: Mapping[Key, Record], desired: Desired) -> dict[Key, Key]:
    """Rows of a hire's id that is gone follow their e-mail address to the id that has it now (STATES.md)."""
    moves = {}
    for key, record in found.items():
        if key.hire in desired.hires or key.hire in desired.broken_hires:
            continue
        hire = desired.owner(record.email)
        if hire is not None and Key(hire, key.access) not in found:
            moves[key] = Key(hire, key.access)
    return moves


def _guarded(result: Look, ledger: Ledger) -> dict[str, str]:
    planned: dict[str, set[Key]] = {}
    for item in result.planned:
        revokes = not item.wanted and item.decision.action in (Action.REVOKE, Action.RETRY)
        if revokes or item.decision.heals:
            planned.setdefault(item.grant.integration, set()).add(item.grant.key)
    if not planned:
        return {}
    done = {} if result.selection.everything else ledger.changes_since(_resync(ledger))
    return judge_changes(planned, done, ledger.confirmed(), result.settings.max_change_percent)


def begin_resync(ledger: Ledger, now: datetime) -> None:
    """A full resync begins: what the guard counts starts again."""
    ledger.put_note(RESYNC, now.isoformat().encode())


def _resync(ledger: Ledger) -> datetime:
    noted = ledger.note(RESYNC)
    return datetime.fromisoformat(noted.decode()) if noted else datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _suspended(item: Planned, held: Mapping[str, str]) -> Planned:
    """A grant of a held integration for which something was to be done is suspended, with the numbers."""
    reason = held.get(item.grant.integration)
    if reason is None or item.decision.action not in (Action.EXECUTE, Action.RETRY, Action.REVOKE):
        return item
    return replace(item, decision=Decision(Status.SUSPENDED, Action.NONE, reason, guarded=True))


def _record_of(item: Planned, result: Look) -> tuple[Record, list[Happening]]:
    record = item.record or records.first(item.grant, result.desired.revision)
    if item.decision.status is Status.INVALID and item.wanted and item.prepared is None and item.record is not None:
        return records.held_where_it_is(record, item.decision.status, item.decision.reason), []
    return records.checked(
        record,
        item.grant,
        item.decision,
        item.verdict,
        now=result.policy.now,
        snapshot=item.prepared.snapshot if item.prepared else None,
        revision=result.desired.revision,
        wanted=item.wanted,
    )


def _row(item: Planned, record: Record) -> Row:
    acting = record.action in (Action.EXECUTE, Action.RETRY, Action.REVOKE)
    outlines = item.prepared.outlines[item.decision.resume :] if item.prepared is not None and acting else ()
    row = Row.of(record, guarded=item.decision.guarded, requests=outlines)
    return replace(row, email=item.grant.email, source=item.grant.source)


def dry_report(result: Look) -> Report:
    """What a dry run shows."""
    report = Report(result.desired.revision, dry_run=True, problems=result.problems)
    report.rows = [_row(item, _record_of(item, result)[0]) for item in result.planned]
    return report


async def reconcile(
    world: World,
    result: Look,
    ledger: Ledger,
    sealing: Sealing,
    notifier: Notifier,
    *,
    author: str | None,
    in_hand: InHand | None = None,
) -> Report:
    """Carry a plan out. The caller holds the state, and everything planned is written down before anything is sent."""
    report = Report(result.desired.revision, dry_run=False, problems=result.problems)
    vault = sealing.vault
    assert vault is not None
    _move(ledger, vault, result.renamed)
    looked: dict[Key, tuple[Planned, Record]] = {}
    lines: list[Happening] = _guard_lines(ledger, result)
    for item in result.planned:
        record, told = _record_of(item, result)
        looked[item.grant.key] = (item, record)
        lines += told
    lines += [Happening(result.policy.now, r.key, r.integration, Event.DROPPED, "", result.desired.revision) for r in result.dropped]
    ledger.drop([record.key for record in result.dropped])
    ledger.save([record for _, record in looked.values()], [replace(line, author=author) for line in lines])
    for item, record in looked.values():
        if record.phase is Phase.CONFIRMED and item.record is not None and item.record.phase in records.UNSETTLED:
            ledger.erase(run_name(record.key))
    if result.selection.everything:
        begin_resync(ledger, result.policy.now)
    actor = Actor(
        ledger,
        vault,
        world.clock,
        world.redactor,
        result.settings.retry_delay,
        author,
        lambda hire: _overview(looked, hire, result.integrations),
    )
    await notifier.deliver_all(ledger, vault, author)
    release = in_hand.release if in_hand is not None else lambda _key: None
    for key, (item, _) in looked.items():
        if not _acts(item):
            release(key)
    after = await _carry_out(result, looked, actor, ledger, notifier, vault, report, author, release)
    report.rows = [_row(item, after.get(key, record)) for key, (item, record) in looked.items()]
    ledger.put_note(LAST, json.dumps({"revision": result.desired.revision, "at": stamp(world.clock.now())}).encode())
    return report


def _move(ledger: Ledger, vault: Vault, renamed: Mapping[Key, Key]) -> None:
    for old, new in renamed.items():
        ledger.rename(old, new)
        for name in (run_name, notice_name):
            if (kept := vault.read(name(old))) is not None:
                vault.write(name(new), kept)
                vault.erase(name(old))
        if (kept := vault.read(stored_name(old.hire))) is not None:
            vault.write(stored_name(new.hire), kept)


def _guard_lines(ledger: Ledger, result: Look) -> list[Happening]:
    """Lines of the history where the guard begins to hold an integration, or lets go of it."""
    noted = ledger.note(HELD)
    before = set(json.loads(noted)) if noted else set()
    seen = {item.grant.integration for item in result.planned}
    now = {*result.held, *(before - seen)}
    if now == before:
        return []
    ledger.put_note(HELD, json.dumps(sorted(now)).encode())
    nobody, moment, revision = Key("", ""), result.policy.now, result.desired.revision
    begun = [Happening(moment, nobody, name, Event.HELD, result.held[name], revision) for name in sorted(now - before)]
    ended = [Happening(moment, nobody, name, Event.RELEASED, "", revision) for name in sorted(before - now)]
    return begun + ended


def _overview(looked: Mapping[Key, tuple[Planned, Record]], hire: str, integrations: Mapping[str, Integration]) -> str:
    """The seed's `access_overview`: what the last checks say of a hire's accounts."""
    words = {Status.PRESENT: "has access", Status.UNKNOWN: "could not be checked"}
    parts = [
        f"{key.access} ({words.get(record.status, 'no access')})"
        for key, (item, record) in looked.items()
        if key.hire == hire
        and (integration := integrations.get(item.grant.integration)) is not None
        and integration.manifest.exists is not None
    ]
    return ", ".join(parts)


def _acts(item: Planned) -> bool:
    """Whether a plan does something about a grant now."""
    return item.prepared is not None and item.decision.action in (Action.EXECUTE, Action.RETRY, Action.REVOKE)


async def _carry_out(
    result: Look,
    looked: Mapping[Key, tuple[Planned, Record]],
    actor: Actor,
    ledger: Ledger,
    notifier: Notifier,
    vault: Vault,
    report: Report,
    author: str | None,
    release: Callable[[Key], None],
) -> dict[Key, Record]:
    """Make every planned attempt: a hire's entries after those that they need, revocations the other way round."""
    after: dict[Key, Record] = {}
    jobs = {key: (item, record) for key, (item, record) in looked.items() if _acts(item)}
    finished = {key: asyncio.Event() for key in jobs}

    def before(key: Key, item: Planned) -> list[Key]:
        if item.wanted:
            return [Key(key.hire, need) for need in item.grant.needs]
        return [
            other for other, (theirs, _) in jobs.items()
            if other.hire == key.hire and not theirs.wanted and key.access in theirs.grant.needs
        ]

    async def one(key: Key, item: Planned, record: Record) -> None:
        with suppress(Stopped):
            await in_turn(key, item, record)

    async def in_turn(key: Key, item: Planned, record: Record) -> None:
        try:
            for other in before(key, item):
                if other in finished:
                    await finished[other].wait()
            await actor.pause()
            if item.wanted and (reason := _unmet(key, item, looked, after)) is not None and not record.settled:
                held = Decision(Status.SCHEDULED, Action.WAIT, reason)
                after[key] = replace(record, status=held.status, action=held.action, reason=reason)
                ledger.save([after[key]])
                return
            after[key] = await _one(item, record)
        finally:
            finished[key].set()
            release(key)

    async def _one(item: Planned, record: Record) -> Record:
        integration, prepared = result.integrations[item.grant.integration], item.prepared
        assert prepared is not None
        job = Job(item.kind, integration, prepared, record, item.decision, item.seen)
        new = await actor.attempt(job)
        if new.phase in records.UNSETTLED:
            report.failures += 1
            return new
        if not item.wanted:
            report.revoked += 1
            return new
        report.executed += 1
        await notifier.deliver(ledger, vault, new, author)
        if integration.manifest.exists is None:
            return new
        verdict = await result.checker.check_alone(integration, prepared)
        if not isinstance(verdict, Present):
            return new
        seen = Decision(Status.PRESENT, Action.NONE, "executed; exists check: found")
        confirmed, lines = records.checked(new, item.grant, seen, verdict, now=actor.now(), snapshot=prepared.snapshot)
        ledger.save([confirmed], [replace(line, author=author) for line in lines])
        return confirmed

    await together(one(key, item, record) for key, (item, record) in jobs.items())
    return after


def _unmet(
    key: Key, item: Planned, looked: Mapping[Key, tuple[Planned, Record]], after: Mapping[Key, Record]
) -> str | None:
    """Which needed entry did not come to be in this pass, or None."""
    for need in item.grant.needs:
        other = Key(key.hire, need)
        record = after.get(other) or (looked[other][1] if other in looked else None)
        if record is not None and record.status not in (Status.PRESENT, Status.DONE):
            return f"needs {need}, which is {record.status}: {record.reason}"
    return None


