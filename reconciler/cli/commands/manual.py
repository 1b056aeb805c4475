"""The commands `retry`, `accept`, `run`, `revoke` and `forget`.

The command acts itself if the state is free. If a daemon has locked it, the command is enqueued for the daemon, and the
user is informed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import (
    Here,
    Refused,
    named_grants,
    no_such_grant,
    requester,
    run_in_context,
    show_handed_over,
    show_outcome,
    suggest_from_ledger,
)
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import count
from reconciler.model.errors import SecretsError, StateLockedError, UsageError
from reconciler.model.grant import Key
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from reconciler.engine.apply.plan import Plan
    from reconciler.engine.context import Context
    from reconciler.ledger.writer import LedgerWriter
    from reconciler.model.grant import Record
    from reconciler.model.report import Report
    from reconciler.model.secret import Redactor
    from reconciler.repository.desired import Desired


def _records(here: Here, hire: str | None, access: str | None, integration: str | None = None) -> list[Record]:
    """Find the records that the arguments name."""
    with here.state.reader() as ledger:
        return [
            record
            for record in ledger.grants.records([hire] if hire else None)
            if access in (None, record.key.access) and integration in (None, record.integration)
        ]


def _known(here: Here, hire: str, access: str | None) -> list[Record]:
    """Find a person's records, or one of them. Raises UsageError if there are none."""
    if records := _records(here, hire, access):
        return records
    what = f"{hire} {access}" if access else f"of {hire}"
    with here.state.reader() as ledger:
        meant = suggest_from_ledger(ledger, hire, access)
    raise UsageError(f"the ledger has no grant {what}: `reconcile status` shows what it has{meant}")


def _act(options: SharedOptions, here: Here, kind: str, grants: list[Key], *, said: str, **about: Any) -> int:
    """Change the ledger, or enqueue a command for the process that locked it; `grants` are those that it means."""
    from reconciler.engine.apply.commands import apply_commands

    now = datetime.now(UTC)
    here.enqueue(kind, **about)
    try:
        with here.state.locked(f"reconcile {kind}", now) as locked:
            here.use_key(locked.ledger)
            _learn(here, locked.ledger, {key.hire for key in grants})
            mine = [command for command in locked.ledger.commands.waiting() if command.kind in ("retry", "accept")]
            apply_commands(locked.ledger, mine, now)
    except StateLockedError as error:
        show_handed_over(options, kind, grants, error)
    else:
        show_outcome(options, kind, grants, said)
    return 0


def _learn(here: Here, ledger: LedgerWriter, hires: Collection[str]) -> None:
    """Let lines of the history have the values of hires' grants: learn what is masked in them, if that can be read."""
    from reconciler.engine.observe.wiring import initial_layer

    context, services = here.context, here.desired.services
    names = {record.service for record in ledger.grants.records(hires)} & services.keys()
    for name, values in here.force.initial_data.read_all(here.force.tree, names).items():
        if isinstance(values, SecretsError):
            return
        if values is not None:
            initial_layer(services[name], values, context.redactor)
    ledger.session.redact = context.redactor.redact_all


@click.command()
@click.argument("hire", required=False, shell_complete=complete.hires)
@click.argument("access", required=False, shell_complete=complete.accesses)
@option(
    "--integration", metavar="NAME", shell_complete=complete.integrations, help="All failed grants of this integration."
)
@shared(csv=False)
def retry(options: SharedOptions, hire: str | None, access: str | None, integration: str | None) -> int:
    """Retry failed grants at the next pass, with two attempts: one, a person's, a service's, or all.

    The next pass checks first, so no account is created twice.
    """
    from reconciler.engine.apply.commands import may_retry

    here = Here.of(options)
    known = _records(here, hire, access, integration)
    if not known and (hire or integration):
        untried = sorted(named_grants(here, hire, access, integration))
        again = "; ".join(f"`reconcile run {key.hire} {key.access}`" for key in untried)
        never = f"{', '.join(map(str, untried)) if hire else integration}: never tried, so there is nothing to retry"
        if hire is None:
            raise Refused(never)
        raise Refused(f"{never}; to send it now, whatever a check says: {again}")
    meant = [record.key for record in known if may_retry(record)]
    if not meant:
        by = f"--integration {integration}" if integration else ""
        again = " ".join(part for part in ("reconcile check", hire, access, by) if part)
        said = f"nothing to start afresh: no grant is retrying or failed; to check now: `{again}`"
        show_outcome(options, "retry", meant, said)
        return 0
    said = f"at the next pass, afresh: {', '.join(map(str, meant))}"
    return _act(options, here, "retry", meant, said=said, hire=hire, access=access, integration=integration)


@click.command()
@click.argument("hire", shell_complete=complete.hires)
@click.argument("access", shell_complete=complete.accesses)
@shared(csv=False)
def accept(options: SharedOptions, hire: str, access: str) -> int:
    """Accept a grant that you fixed by hand, or that differs on purpose. It is checked like any other from then on."""
    from reconciler.engine.decide.existing import reason_not_to_accept

    here = Here.of(options)
    (known,) = _known(here, hire, access)
    if (why := reason_not_to_accept(known)) is not None:
        raise Refused(why)
    said = f"accepted: {known.key}, by {requester()}"
    return _act(options, here, "accept", [known.key], said=said, hire=hire, access=access)


@click.command()
@click.argument("hire", shell_complete=complete.hires)
@click.argument("access", shell_complete=complete.accesses)
@shared()
def run(options: SharedOptions, hire: str, access: str) -> int:
    """Run one access entry now, whatever the check says. A failure is retried like any other."""
    return _by_hand(options, "run", [Key(hire, access)])


@click.command()
@click.argument("hire", shell_complete=complete.hires)
@click.argument("access", required=False, shell_complete=complete.accesses)
@shared(tolerant=True)
def revoke(options: SharedOptions, hire: str, access: str | None) -> int:
    """Revoke by hand what is in the ledger and no longer in git: one orphan, or all of a person's."""
    here = Here.of(options)
    if here.force.refused is not None:
        note(f"what is not accepted is not counted: {here.force.refused}", "warning")
    known = _known(here, hire, access)
    keys = [record.key for record in known] if access is not None else _orphans(here, hire, known)
    if not keys:
        raise Refused(f"nothing of {hire} is left to revoke: git wants the rest, or it was revoked before")
    return _by_hand(options, "revoke", keys)


def _orphans(here: Here, hire: str, known: list[Record]) -> list[Key]:
    """Find a hire's grants that git no longer wants and that are not revoked yet."""
    from reconciler.model.decision_inputs import still_wanted

    desired = here.desired
    rows, now = {record.key: record for record in known}, here.context.clock.now()
    wanted = {grant.key for grant in desired.grants(hire) if still_wanted(grant, rows.get(grant.key), now)}
    return [
        record.key
        for record in known
        if record.key not in wanted and record.may_remain and desired.holds(record) is None
    ]


def _by_hand(options: SharedOptions, kind: str, keys: list[Key]) -> int:
    """Run or revoke grants in their own pass, or enqueue commands for the process that locked the state."""
    import asyncio

    from reconciler.cli.output.report import exit_code, show_report

    redactor = set_up(options)
    try:
        report = asyncio.run(_pass_by_hand(options, redactor, kind, keys))
    except StateLockedError as error:
        run_in_context(options, redactor, lambda context: _refuse_impossible(context, kind, keys))
        here = Here.of(options)
        for key in keys:
            here.enqueue(kind, hire=key.hire, access=key.access)
        show_handed_over(options, kind, keys, error)
        return 0
    show_report(report, options)
    left = kind == "revoke" and any(row.status is Status.ORPHANED for row in report.rows)
    return 1 if left else exit_code(report, detailed=False)


async def _pass_by_hand(options: SharedOptions, redactor: Redactor, kind: str, keys: list[Key]) -> Report:
    from reconciler.cli.commands.acting import passes_by_hand, tell
    from reconciler.engine.apply.commands import REQUESTED
    from reconciler.ledger.entries import Event

    async with passes_by_hand(options, redactor, kind) as (force, state, passes):

        async def approve(plan: Plan) -> bool:
            able = _refuse(plan, force.context.last_desired, kind, keys)
            asked = [item.grant for item in plan.grants if item.grant.key in able]
            now, event, by = passes.clock.now(), REQUESTED[kind], requester()
            lines = [Event(now, each.key, each.integration, event, revision=plan.revision).asked(by) for each in asked]
            await state.ledger.run(lambda ledger: ledger.save((), lines))
            return True

        passes.approve = approve
        report = await passes.run(PassRequest(Selection.of(keys), by_hand=dict.fromkeys(keys, kind)))
        await state.ledger.run(partial(tell, revision=force, report=report))
        report.refuse(force.refused)
        return report


async def _refuse_impossible(context: Context, kind: str, keys: list[Key]) -> None:
    """Refuse what the process that locked the state could not do, because nobody would see its refusal."""
    from reconciler.engine.run.planning import Planning
    from reconciler.engine.state import reading

    force = Here(context).force
    with reading(force) as state:
        request = PassRequest(Selection.of(keys), by_hand=dict.fromkeys(keys, kind))
        plan = await (await Planning(force, state, request).begin()).whole()
        _refuse(plan, context.last_desired, kind, keys)


def _refuse(plan: Plan, desired: Desired | None, kind: str, keys: list[Key]) -> list[Key]:
    """Return for which of the grants it can be done. Raises the reason where it is none."""
    faults = {key: _fault(plan, desired, kind, key) for key in keys}
    able = [key for key, fault in faults.items() if fault is None]
    if not able:
        raise next(fault for fault in faults.values() if fault is not None)
    return able


def _fault(plan: Plan, desired: Desired | None, kind: str, key: Key) -> Exception | None:
    """Return why it cannot be done for a grant, or None."""
    item = next((item for item in plan.grants if item.grant.key == key), None)
    if item is None:
        assert desired is not None  # it was planned
        return no_such_grant(key, desired, ())
    decision, next_step = item.decision, f"`reconcile explain {key.hire} {key.access}` says what can be done"
    if kind == "revoke" and item.wanted:
        return Refused(f"{key} is still wanted in git: remove it there first")
    if kind == "run" and not item.wanted:
        why = "its time is over" if item.in_git else "it is no longer wanted in git"
        return Refused(f"{key} is {decision.status}: {why}; {next_step}")
    if not decision.action.acts and decision.status is not Status.REVOKED:
        return Refused(f"{key} is {decision.status}: {decision.reason}; {next_step}")
    return None


@click.command()
@click.argument("hire")
@shared(csv=False)
def forget(options: SharedOptions, hire: str) -> int:
    """Erase a person who is no longer in git from the ledger and its history; counts remain.

    Refused as long as git still has the person, one of their grants is orphaned, or they are locked.
    """
    from reconciler.engine.apply.commands import erase, reason_to_remember

    here = Here.of(options)
    with here.state.reader() as ledger:
        records, locks = list(ledger.grants.records([hire])), ledger.locks.all()
        if not records and not any(True for _ in ledger.history.lines(hires=[hire])):
            meant = suggest_from_ledger(ledger, hire)
            raise UsageError(f"the ledger knows nobody of the id {hire}: `reconcile status` shows whom it knows{meant}")
    if (why := reason_to_remember(hire, records, here.files, locks)) is not None:
        raise Refused(why)
    now, grants = datetime.now(UTC), [record.key for record in records]
    try:
        with here.state.locked("reconcile forget", now) as locked:
            erased = erase(locked.ledger, hire, now, options.repo, by=requester())
    except StateLockedError as error:
        here.enqueue("forget", hire=hire)
        show_handed_over(options, "forget", grants, error, f"forget {hire}")
    else:
        show_outcome(options, "forget", grants, f"forgotten: a person with {count(erased, 'grant')}")
    return 0
