"""Manual commands on the state: retry, accept, run, revoke, release, forget, lock, unlock.

`retry`, `accept` and `forget` only change the ledger; `run`, `revoke` and `release` (`--yes-really`) are part of the
next pass. If another process has locked the state, they are enqueued for it (docs/design/rules.md, "The ledger and the
retry").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from reconciler.engine.apply.transitions import accepted
from reconciler.engine.decide.existing import reason_not_to_accept
from reconciler.engine.decide.revision_count import NOTE, forget, let_through
from reconciler.ledger.entries import Command, Event
from reconciler.ledger.ledger import Ledger, OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import run_name
from reconciler.model.clock import stamp
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import APART, Key, Record
from reconciler.model.lock import Lock
from reconciler.model.selection import Selection
from reconciler.model.status import EventType, Status
from reconciler.model.value import Frozen, replace
from reconciler.repository.files import Files
from reconciler.repository.private_file import HIRES_CACHE, VALIDATE_CACHE, PrivateFile

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

log = structlog.get_logger()

CHANGES = frozenset({"retry", "accept", "forget"})
"""The commands that change records when they are taken up."""

REQUESTED = {"run": EventType.RUN_REQUESTED, "revoke": EventType.REVOKE_REQUESTED}
"""The events of the commands that a pass acts on: the requests that it sends are of whoever asked for them."""

HIRES = 50
"""The most hires whose records are changed in one piece, where a command is about everybody."""


@dataclass(slots=True)
class CommandEffects:
    """What commands ask of the next pass: check the `touched` grants."""

    touched: set[Key] = field(default_factory=set)
    hires: set[str] = field(default_factory=set)
    """Of whom everything is to be checked: they were locked, or are no longer."""
    waiting: set[Command] = field(default_factory=set)
    """Those that a pass under way stands in the way of: to be taken up again."""


Take = Callable[[Key], bool]
"""Claims a grant; False if a pass under way has it, which would write its own record over the changed one."""


class Erasing(Frozen):
    """What erasing a person takes: the caches beside the state, and the files in git."""

    root: Path
    files: Files


class _Piece(Frozen):
    """A part of what a command is about: some hires, and the grants of theirs that no pass under way has."""

    command: Command
    hires: Sequence[str]
    free: Container[Key]
    erasing: Erasing | None = None
    last: bool = True
    """Whether the command is answered with it."""


def matching(records: Iterable[Record], command: Command) -> list[Record]:
    """List the records that a command is about."""
    return [
        record
        for record in records
        if command.hire in (None, record.key.hire)
        and command.access in (None, record.key.access)
        and command.integration in (None, record.integration)
    ]


def apply_commands(ledger: LedgerWriter, commands: Iterable[Command], now: datetime) -> None:
    """Act on commands as far as the ledger alone can, where no pass is under way; see `apply_in_pieces`."""
    for command in commands:
        hires = _about_whom(ledger, command)
        piece = _Piece(command, hires, {record.key for record in ledger.grants.records(hires)})
        _apply(ledger, piece, now, CommandEffects())


async def apply_in_pieces(
    ledger: OpenLedger,
    commands: Iterable[Command],
    now: datetime,
    effects: CommandEffects,
    *,
    erasing: Callable[[], Erasing],
    take: Take,
) -> AsyncIterator[None]:
    """Act on commands as far as the ledger alone can; each is removed from the list with the last that it changes.

    Others may write after each piece. A `run` or `revoke` stays on the list until a pass records the attempt for it, or
    that there is none. Until then no crash loses it, and from then on none repeats it. A change to a grant that `take`
    refuses waits: a `forget` for all of the person's grants, a command about several for those alone.
    Raises MoreNeeded where a grant to be changed is a service's that the ledger is not leased for.
    """
    for command in commands:
        left = await ledger.run(partial(_about_whom, command=command))
        erases = erasing() if command.kind == "forget" else None
        while True:
            some, left = left[:HIRES], left[HIRES:]
            keys = await ledger.run(partial(_to_be_changed, command=command, hires=some))
            free = {key for key in keys if take(key)}  # before its record is read that is to be changed
            piece = _Piece(command, some, free, erases, last=not left)
            await ledger.run(partial(_apply, piece=piece, now=now, effects=effects))
            yield
            if not left:
                break


def _about_whom(ledger: LedgerReader, command: Command) -> list[str]:
    """List the hires whose grants a command is about."""
    about_all = command.kind in CHANGES or command.kind == "check"
    return [command.hire] if command.hire else sorted(ledger.grants.hires()) if about_all else []


def _to_be_changed(ledger: LedgerReader, command: Command, hires: Sequence[str]) -> list[Key]:
    """List the grants whose records a command changes."""
    if command.kind not in CHANGES or not hires:
        return []
    may_be = {"retry": may_retry, "accept": lambda record: reason_not_to_accept(record) is None}
    changed = filter(may_be.get(command.kind, lambda _: True), ledger.grants.records(hires))
    return [record.key for record in matching(changed, command)]


def _apply(ledger: LedgerWriter, piece: _Piece, now: datetime, effects: CommandEffects) -> None:
    """Act on a command for a part of what it is about."""
    command, hires = piece.command, piece.hires
    records = matching(ledger.grants.records(hires), command) if hires else []
    if ledger.session.lease is not None and command.kind in CHANGES:
        ledger.session.lease.require({record.service for record in records})
    lines: list[Event] = []
    kept: dict[str, None] = {}
    match command.kind:
        case "retry":
            found = _free(ledger, piece, filter(may_retry, records), effects)
            records = [replace(record, fresh=True) for record in found]
            lines = [Event.of(record, EventType.RETRY_REQUESTED, "", now).asked(command.by) for record in records]
        case "accept":
            found = _free(ledger, piece, filter(_may_accept, records), effects)
            records = [accepted(record, now) for record in found]
            lines = [Event.of(record, EventType.ACCEPTED, "", now).asked(command.by) for record in records]
            kept = {run_name(record.key): None for record in records}
        case "run" | "revoke" | "check" if command.hire and command.access:
            effects.touched.add(Key(command.hire, command.access))
            return
        case "check":  # one command for each grant: a pass answers it
            for record in records:
                hire, access = record.key
                ledger.commands.enqueue("check", now=command.at, by=command.by, hire=hire, access=access)
            records = []
        case "forget" if command.hire:
            erasing = piece.erasing
            if erasing is None or not all(record.key in piece.free for record in records):
                effects.waiting.add(command)
                return
            if _erased(ledger, command, records, now, erasing):
                return
            records = []
        case "lock" | "unlock" if command.hire:
            _lock_or_unlock(ledger, command, records, now, effects)
            return
        case _:
            records = []
    last = piece.last and command not in effects.waiting
    if records or last:
        ledger.save(records, lines, Failpoint.TAKEN_UP, kept=kept, answered=[command] if last else [])
    effects.touched |= {record.key for record in records}


def _lock_or_unlock(
    ledger: LedgerWriter, command: Command, records: Iterable[Record], now: datetime, effects: CommandEffects
) -> None:
    """Write a lock, or end it; the pass that follows locks the accounts, or follows git again."""
    hire, said = command.hire or "", command.data or {}
    locks = ledger.locks.all()
    if command.kind == "unlock":
        found = [lock for lock in locks if hire in lock.hires]
        found = found or [lock for lock in locks if lock.hire == hire]  # by the id that the file had
        _end(ledger, found, now, effects, by=command.by, answered=[command])
        return
    theirs = [record.email for record in records if not record.key.access.endswith(APART + record.email)]
    addresses = {each.lower() for each in said.get("addresses", theirs)}
    before = [lock for lock in locks if hire in lock.hires or not lock.addresses.isdisjoint(addresses)]
    name = before[0].hire if before else hire
    while not before and name in {lock.hire for lock in locks}:  # of somebody else, who had that id then
        name += APART
    until = datetime.fromisoformat(said["until"]) if said.get("until") else None
    holding = [each for each in before if not each.over(now)]  # no lock ends another one
    ends = [until, *(each.until for each in holding)]
    lock = Lock(
        hire=name,
        at=command.at,
        by=command.by,
        reason=str(said.get("reason", "")),
        until=None if None in ends else max(filter(None, ends)),
        deletes=bool(said.get("delete")) or any(each.deletes for each in holding),
        hires=frozenset({hire}),
        addresses=frozenset(addresses).union(*(each.addresses for each in before)),
    )
    event = Event(now, Key(lock.hire, ""), "", EventType.LOCKED).asked(lock.by)
    time = "" if lock.until is None else f"; until {stamp(lock.until)}"
    event = replace(event, detail=f"{event.detail}: {lock.reason}{time}")
    ledger.locks.put([lock], events=[event], answered=[command])
    effects.hires |= {hire, *lock.hires}


def end_locks(ledger: LedgerWriter, now: datetime) -> set[str]:
    """End the locks whose time is over, and return whose they were."""
    effects = CommandEffects()
    if over := [lock for lock in ledger.locks.all() if lock.over(now)]:
        _end(ledger, over, now, effects)
    return effects.hires


def _end(
    ledger: LedgerWriter,
    locks: Sequence[Lock],
    now: datetime,
    effects: CommandEffects,
    *,
    by: str | None = None,
    answered: Sequence[Command] = (),
) -> None:
    events = [Event(now, Key(lock.hire, ""), "", EventType.UNLOCKED, "its time is over") for lock in locks]
    events = events if by is None else [each.asked(by) for each in events]
    ledger.locks.put((), gone=locks, events=events, answered=answered)
    effects.hires |= {hire for lock in locks for hire in (lock.hire, *lock.hires)}


def _free(ledger: LedgerWriter, piece: _Piece, records: Iterable[Record], effects: CommandEffects) -> list[Record]:
    """Return the records that no pass under way has.

    For each other, the command waits, or a command about that grant alone where it is about several.
    """
    found, command = list[Record](), piece.command
    for record in records:
        if record.key in piece.free:
            found.append(record)
        elif command.access is not None:
            effects.waiting.add(command)
        else:
            hire, access = record.key
            ledger.commands.enqueue(command.kind, now=command.at, by=command.by, hire=hire, access=access)
    return found


async def changes_of(
    ledger: Ledger[LedgerReader], command: Command, service_of: Callable[[str], str]
) -> dict[str, list[str]]:
    """Return the services that taking up a command writes to, each with the integrations it is about."""
    found: dict[str, list[str]] = {}
    for integration in sorted(await ledger.run(partial(_about, command=command))):
        found.setdefault(service_of(integration), []).append(integration)
    return found


def _about(ledger: LedgerReader, command: Command) -> set[str]:
    """Return the integrations whose records a command changes."""
    if command.kind not in CHANGES:
        return set()
    if command.hire:
        return {record.integration for record in matching(ledger.grants.records([command.hire]), command)}
    return {name for name, _ in ledger.grants.counts() if command.integration in (None, name)}


def enqueue_release(ledger: LedgerWriter, selection: Selection, now: datetime, *, by: str) -> None:
    """Enqueue that the guard be overridden for what it has counted: until a pass does so, commits may add to it."""
    ledger.notes.put(NOTE, partial(let_through, selection=selection))
    for hire, integration in product(selection.hires or (None,), selection.integrations or (None,)):
        ledger.commands.enqueue("release", now=now, by=by, hire=hire, integration=integration)


def scope_of(command: Command) -> Selection:
    """Return what a command to override the guard covers: what the pass was to cover that could not be made."""
    return Selection(
        hires=None if command.hire is None else frozenset({command.hire}),
        integrations=None if command.integration is None else frozenset({command.integration}),
    )


def releases_of(commands: Iterable[Command], selection: Selection) -> list[Command]:
    """List the commands to override the guard that a pass over a selection acts on; others wait for another pass."""
    return [each for each in commands if each.kind == "release" and scope_of(each) in (Selection(), selection)]


def reason_to_remember(hire: str, records: Sequence[Record], files: Files, locks: Iterable[Lock]) -> str | None:
    """Return why a person must not be erased; None if they may be."""
    if any(hire in (lock.hire, *lock.hires) for lock in locks):
        return f"{hire} is locked, which the state remembers by name: `reconcile unlock {hire}` first"
    if hire in files.hires or hire in files.broken["hires"]:
        return f"{hire} is still in git: remove the hire's file first"
    left = [str(record.key) for record in records if record.may_remain]
    if not left:
        return None
    where = "where the manifest has no revoke, remove the account at the service"
    return f"still orphaned: {', '.join(left)}: revoke them first (`reconcile revoke {hire}`); {where}"


def erase(ledger: LedgerWriter, hire: str, now: datetime, root: Path, *, by: str) -> int:
    """Erase a person, and return the number of their grants. Only the process that locked the state may."""
    from reconciler.notify import alerts

    for cache in (HIRES_CACHE, VALIDATE_CACHE):  # they are rebuilt from git
        PrivateFile(root / cache).remove()
    alerts.forget(ledger, hire)
    ledger.notes.put(NOTE, partial(forget, hire=hire))
    return ledger.forget(hire, now, by=by)


def _erased(ledger: LedgerWriter, command: Command, records: list[Record], now: datetime, erasing: Erasing) -> bool:
    """Erase a person and their commands; False if that is refused, as it would be without a daemon."""
    hire = command.hire or ""
    if (why := reason_to_remember(hire, records, erasing.files, ledger.locks.all())) is not None:
        log.warning("command.refused", command="forget", reason=why)
        return False
    log.info("person.forgotten", grants=erase(ledger, hire, now, erasing.root, by=command.by))
    return True


def by_grant(commands: Iterable[Command]) -> dict[Key, list[Command]]:
    """Return the commands that a pass acts on, by grant."""
    found: dict[Key, list[Command]] = {}
    for command in commands:
        if command.kind in ("run", "revoke", "check") and command.hire and command.access:
            found.setdefault(Key(command.hire, command.access), []).append(command)
    return found


def request_events(commands: Iterable[Command], now: datetime, records: Iterable[Record]) -> list[Event]:
    """Make the events of manual runs and revocations that are removed from the list; `records` are of their grants."""
    known = {record.key: record for record in records}
    lines: list[Event] = []
    for command in commands:
        if command.kind in REQUESTED:
            key = Key(command.hire or "", command.access or "")
            integration, revision = (known[key].integration, known[key].revision) if key in known else ("", None)
            event = REQUESTED[command.kind]
            lines.append(Event(now, key, integration, event, revision=revision).asked(command.by))
    return lines


def may_retry(record: Record) -> bool:
    """Whether `retry` applies to a grant: it failed, or an update or invitation of it had no effect."""
    return record.phase.unsettled or record.unseen or record.status is Status.FAILED


def _may_accept(record: Record) -> bool:
    """Whether a person may vouch for a grant; the record may have changed since the command was given."""
    why = reason_not_to_accept(record)
    if why is not None:
        log.warning("command.refused", command="accept", reason=why)
    return why is None
