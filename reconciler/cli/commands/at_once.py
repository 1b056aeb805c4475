"""Act at once, also beside a daemon: `reconcile check`, `lock` and `unlock`.

A lock needs no commit, and holds whatever git says. Its command is enqueued first, so that a crash does not lose it. If
the state is free, a command makes the pass over its grants itself; else it is enqueued for the process that has the
state, and waits for its answer.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.commands.status import rows_of
from reconciler.cli.context import Here, Refused, named_grants, suggest_from_ledger
from reconciler.cli.options import PassOptions, SharedOptions, as_given, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.model.errors import StateLockedError, UsageError
from reconciler.model.grant import APART, Key, Phase
from reconciler.model.selection import PassRequest, Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.report import Report, Row
    from reconciler.model.secret import Redactor

CHECK_SECONDS, LOCK_SECONDS = 600.0, 60.0
"""How long to wait for the process that has the state."""

LOOK_SECONDS = 0.1
"""How often to look how far it is."""


@click.command()
@click.argument("hire", required=False, shell_complete=complete.hires)
@click.argument("access", required=False, shell_complete=complete.accesses)
@option("--integration", metavar="NAME", shell_complete=complete.integrations, help="All grants of this integration.")
@shared()
def check(options: SharedOptions, hire: str | None, access: str | None, integration: str | None) -> int:
    """Check grants now, and act as a pass over them would: one, a person's, a service's, or all.

    Beside a daemon too; the command waits for its answer. A retry that is not due, a suspension and a loss that was
    healed within a day stay as they are.
    """
    from reconciler.cli.commands.one_pass import one_pass

    here = Here.of(options)
    grants = named_grants(here, hire, access, integration)
    chosen = PassOptions(
        hires=(hire,) if hire else (),
        integrations=(integration,) if integration else (),
        grants=grants if access else None,
        yes=True,
    )
    try:
        return one_pass(options, chosen)
    except StateLockedError as error:
        if hire is None:
            here.enqueue("check", integration=integration)
        for key in grants if hire else ():
            here.enqueue("check", hire=key.hire, access=key.access)
        note(f"{error.who}, which was asked to check: waiting for its answer")
        return _beside(options, grants, None if hire else integration)


def _beside(options: SharedOptions, grants: Collection[Key], integration: str | None) -> int:
    """Show what the process that locked the state, which was asked to check the grants, found."""
    from reconciler.cli.output.report import exit_code, show_report

    def checked(ledger: LedgerReader) -> bool:
        """Whether nothing of this is left to check, and no attempt that followed is under way."""
        asked = [command for command in ledger.commands.waiting() if command.kind == "check"]
        waits = any(
            Key(each.hire, each.access) in grants if each.hire and each.access else each.integration == integration
            for each in asked
        )
        return not waits and not any(key in grants for key in _under_way(ledger, {key.hire for key in grants}))

    with _answer(options, {key.hire for key in grants}, checked, CHECK_SECONDS) as (report, rows, late):
        if late:
            raise Refused(f"no answer came within {CHECK_SECONDS:g} s: `reconcile status` shows what is found")
        show_report(report, options, rows=(row for row in rows if Key(row.hire, row.access) in grants))
    return exit_code(report, detailed=False)


def _under_way(ledger: LedgerReader, hires: Collection[str]) -> Iterator[Key]:
    """Yield the grants of which an attempt is under way, and those of hires of which the check after one is."""
    yield from (attempt.key for attempt in ledger.attempts.open())
    yield from (each.key for each in ledger.grants.records(hires) if each.to_be_seen)


@contextmanager
def _answer(
    options: SharedOptions, hires: Collection[str], settled: Callable[[LedgerReader], bool], seconds: float
) -> Iterator[tuple[Report, Iterator[Row], bool]]:
    """Wait for the process that has the state; give what the ledger has of these hires then, and whether it is late."""
    from reconciler.model.last_pass import LAST, LastPass
    from reconciler.model.report import Report

    with Here.of(options).state.reader() as ledger:
        until = monotonic() + seconds
        while (late := not settled(ledger)) and monotonic() < until:
            sleep(LOOK_SECONDS)
        report = Report(LastPass.read(ledger.notes.get(LAST)).revision, dry_run=False)
        now = Here.of(options)  # a commit may have been taken over meanwhile
        yield report, rows_of(options.output, now, ledger, hires), late


@click.command()
@click.argument("hire", shell_complete=complete.hires)
@option("--reason", metavar="TEXT", required=True, help="Why; the history and the pages show it.")
@option(
    "--until",
    envvar="RECONCILE_LOCK_UNTIL",
    metavar="WHEN",
    help="When it ends by itself: a date, a time (2026-12-01T18:00), or a span (8h).",
)
@option("--delete", is_flag=True, help="Revoke accounts also where the manifest says that this deletes them.")
@shared(tolerant=True)
def lock(options: SharedOptions, hire: str, reason: str, until: str | None, *, delete: bool) -> int:
    """Lock somebody out now, without a commit and whatever git says.

    Each account is switched off or, where the manifest has no lock, revoked; nothing of the person is provisioned or
    mended until `reconcile unlock`. Sessions and tokens at a service may outlive it. Exit code 0 says that all is
    locked, 1 that something is not, or not yet.
    """
    if not reason.strip():
        raise UsageError("--reason is empty: say why, for those who see it later")
    person = _Person(options, hire)
    if not (person.in_git or person.rows):
        raise UsageError(f"neither git nor the ledger has {hire}{person.suggestion}")
    data: dict[str, Any] = {"reason": reason.strip(), "addresses": person.addresses, "delete": delete}
    if until is not None:
        data["until"] = person.moment(until).isoformat()
    return _act(options, "lock", person, data)


@click.command()
@click.argument("hire", shell_complete=complete.hires)
@shared()
def unlock(options: SharedOptions, hire: str) -> int:
    """End a lock: git is followed again. What was switched off is updated, what is gone is a new grant."""
    person = _Person(options, hire)
    if not person.locked:
        raise Refused(f"{hire} is not locked{person.suggestion}")
    return _act(options, "unlock", person, None)


class _Person:
    """What git and the ledger know of a person."""

    def __init__(self, options: SharedOptions, hire: str) -> None:
        self.hire, self.here = hire, Here.of(options)
        desired = self.here.desired
        self.in_git = hire in desired.hires.index
        file = desired.hires.file(hire)
        self.addresses = [] if file is None or file.email is None else [file.email]
        with self.here.state.reader() as ledger:
            records = list(ledger.grants.records([hire], self.addresses))
            self.rows = frozenset(record.key for record in records)
            locks = ledger.locks.all()
            mine = [each for each in locks if hire in each.hires]
            if not (mine or self.in_git):  # by the id that the file had
                mine = [each for each in locks if hire == each.hire]
            known = self.in_git or self.rows or mine
            self.suggestion = "" if known else suggest_from_ledger(ledger, hire)
            waits = any(each.kind == "lock" and each.hire == hire for each in ledger.commands.waiting())
        own = (each for each in records if each.key.hire == hire)
        had = {each.email for each in own if not each.key.access.endswith(APART + each.email)}
        owner = desired.hires.index.owner
        # Rows follow the address to a renamed file. Who still has a file may have another address by now.
        self.addresses += [each for each in had if not self.in_git or owner(each) in (None, hire)]
        self.locked = bool(mine) or waits
        theirs = frozenset(key.hire for key in self.rows).union(*(each.hires for each in mine))
        self.hires = theirs | {hire} | {named for each in self.addresses if (named := owner(each)) is not None}
        self.wanted = frozenset(
            grant.key for named in self.hires if named in desired.hires for grant in desired.grants(named)
        )

    def moment(self, text: str) -> datetime:
        """Read when the lock ends. Raises UsageError."""
        from reconciler.model.base import duration
        from reconciler.model.hire import moment

        now = self.here.context.clock.now()

        def read(text: str) -> datetime:
            try:
                return moment(text, self.here.settings.timezone)
            except ValueError:
                return now + duration(text)

        how = "write a date (2026-12-01), a time (2026-12-01T18:00), or a span (8h)"
        if (found := as_given("--until", text, read, how)) <= now:
            raise UsageError(f"--until {text} is over already: a lock without --until holds until `reconcile unlock`")
        return found


def _act(options: SharedOptions, kind: str, person: _Person, data: dict[str, Any] | None) -> int:
    """Enqueue the command, and carry it out, or let the process that has the state do it; show what came of it."""
    import asyncio

    from reconciler.cli.output.report import show_report

    redactor = set_up(options)
    person.here.enqueue(kind, hire=person.hire, data=data)
    late = False
    try:
        report = asyncio.run(_pass(options, redactor, kind, person))
        rows: Sequence[Row] = report.rows
    except StateLockedError as error:
        note(f"{error.who}, which was asked to {kind} {person.hire}: waiting for it")
        settled = partial(_settled, kind=kind, hires=person.hires, wanted=person.wanted)
        with _answer(options, person.hires, settled, LOCK_SECONDS) as (report, found, late):
            rows = list(found)
    show_report(report, options, rows=rows)
    open_ = [row for row in rows if row.unlocked] if kind == "lock" else []
    for row in open_:
        note(f"not locked: {row.hire}/{row.access} ({row.integration}): {row.reason}")
    if late:
        note(f"not done within {LOCK_SECONDS:g} s: `reconcile status --hire {person.hire}` shows how far it is")
    return 1 if open_ or late or report.failures else 0


async def _pass(options: SharedOptions, redactor: Redactor, kind: str, person: _Person) -> Report:
    """Take the command up, and make the pass over the person's grants."""
    from reconciler.cli.commands.acting import passes_by_hand, tell

    async with passes_by_hand(options, redactor, kind) as (force, state, passes):
        commands = await state.ledger.run(lambda ledger: ledger.commands.waiting())
        mine = [command for command in commands if command.kind in ("lock", "unlock")]
        asked = await passes.apply_commands(mine)
        report = await passes.run(PassRequest(Selection(person.hires | asked.hires)))
        await state.ledger.run(partial(tell, revision=force, report=report))
        report.problems = []  # those of all files: nothing that this command is about
        return report


def _settled(ledger: LedgerReader, kind: str, hires: Collection[str], wanted: Collection[Key]) -> bool:
    """Whether the command was taken up, a pass came by all that it is about, and nothing of it is under way."""
    if any(command.kind == kind and command.hire in hires for command in ledger.commands.waiting()):
        return False
    records = {record.key: record for record in ledger.grants.records(hires)}
    acts = any(record.action.acts for record in records.values())
    if acts or any(key in records for key in _under_way(ledger, hires)):
        return False
    if kind == "unlock":
        return all(record.locked is None for record in records.values())
    come_by = (record.phase is Phase.REVOKED or record.locked is not None for record in records.values())
    return all(come_by) and not set(wanted) - records.keys()
