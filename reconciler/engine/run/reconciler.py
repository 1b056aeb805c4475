"""Passes over one repository: `plan` observes and decides, `apply` carries a plan out.

The daemon, the commands and the tests all make a `Reconciler` and call these two. Commands that only read use
`Planning`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice

import structlog

from reconciler.engine.apply.claims import ClaimSet
from reconciler.engine.apply.commands import request_events
from reconciler.engine.apply.executor import Executor
from reconciler.engine.apply.plan import Plan, PlannedRecord
from reconciler.engine.apply.scheduler import Recorded, Scheduler, acts
from reconciler.engine.context import Context, Revision
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.observe.checker import Services
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.planner import OnPlanned, no_progress
from reconciler.engine.run.planning import ASSIGNED, Planning
from reconciler.engine.state import OpenState
from reconciler.ledger.entries import Command, CommandsByGrant, Event, ValueChanges
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import run_name
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.attribution import Attribution, Unattributed
from reconciler.model.errors import Problem
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.report import STATE, Report
from reconciler.model.selection import PassRequest
from reconciler.model.status import EventType
from reconciler.model.value import replace
from reconciler.notify.alerts import alert_due
from reconciler.notify.delivery import Notifier
from reconciler.notify.rules import Message
from reconciler.repository.attribution.given import OFTEN, Givers, changed_since
from reconciler.repository.git.trees import WORKTREE
from reconciler.requests.tasks import CHANGED_ROW, LINES_AT_A_TIME, ROWS_AT_A_TIME, Yielder

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """Plans a pass over a revision, and applies the plan that it made last, over the open state.

    `listings` may have been read for other passes, too.
    """

    revision: Revision
    state: OpenState
    notifier: Notifier
    claims: ClaimSet
    listings: Listings | None = None
    on_planned: OnPlanned = no_progress
    services: Services = field(init=False)
    """What was asked for the plan, and with what it is applied."""
    alert: Message | None = field(init=False, default=None)
    """What is to be told of the pass once it is over; it was noted that it was."""

    async def plan(self, request: PassRequest, commands: CommandsByGrant) -> Plan:
        """Observe and plan, and change nothing: see `Planning`, over the open state.

        `commands` are those that were enqueued for any pass over their grants.
        """
        kinds = ((key, each.kind) for key, theirs in commands.items() for each in theirs)
        by_hand = {key: kind for key, kind in kinds if kind != "check"}
        request = replace(request, by_hand={**by_hand, **request.by_hand})
        planning = Planning(self.revision, self.state.read_only, request, listings=self.listings)
        self.services = (await planning.begin()).services
        return replace(await planning.whole(self.claims, self.on_planned), commands=commands)

    async def apply(self, plan: Plan) -> Report:
        """Carry a plan out: write intent, execute, confirm, record, notify."""
        report = Report(plan.revision, dry_run=False, problems=list(plan.problems))
        author, yielder = self.revision.author, self.context.yielder.among(len(plan.grants))
        async with self.state.taking_over:
            await self._note_revision(plan)
            if plan.renamed:
                lines = list(_renames(plan, author))
                await self.state.ledger.run(lambda ledger: self.state.vault.move(ledger, plan.renamed, lines))
                # Where git goes on to want what a row was set apart from, who gave that went with the row.
                names = {item.grant.key for item in plan.grants if item.wanted} & plan.renamed.keys()
                if names and plan.revision != WORKTREE:
                    await self._retrace({key.hire for key in names}, plan.revision, plan.revision)
            await self._trace(plan)
        found = [(item, *plan.record_of(item)) async for some in yielder.over(plan.grants) for item in some]
        recorded, tripped = await self._write_down(plan, found, author, yielder)
        _log_guard(tripped)
        notifications = self.notifier.over(replace(self.revision, settings=plan.policy.settings))
        if self.state.vault.fault is None:
            await notifications.deliver_all(self.state.ledger, self.state.vault, recorded.keys(), author)
        executor = Executor(
            context=self.context,
            ledger=self.state.ledger,
            vault=self.state.vault,
            services=self.services,
            plan=plan,
            author=author,
        )
        scheduler = Scheduler(
            claims=self.claims,
            recorded=recorded,
            executor=executor,
            notifications=notifications,
            report=report,
        )
        after = await scheduler.run()
        report.rows = [
            plan.row(item, after.get(key, record), self.context.redactor)
            async for some in yielder.over(recorded.items())
            for key, (item, record) in some
        ]
        await self._close(plan, recorded, report, tripped)
        return report

    async def _note_revision(self, plan: Plan) -> None:
        """Note of which hires a commit may have given grants since the revision that was taken over last."""
        ledger, revision, desired = self.state.ledger, plan.revision, self.services.desired
        if plan.followed:
            await ledger.run(lambda writer: writer.locks.follow(plan.followed))
        if (assigned := desired.assigned) != desired.once_assigned:
            note = json.dumps(sorted(assigned)).encode()
            await ledger.run(lambda writer: writer.notes.put(ASSIGNED, note))
        known = await ledger.given_up_to()
        if revision in (known, WORKTREE):
            return
        changed = await asyncio.to_thread(changed_since, self.context.checkout, desired, known)
        left = iter(changed)
        while len(some := list(islice(left, LINES_AT_A_TIME))) == LINES_AT_A_TIME:
            await self._retrace(some, known, revision)
            await self.context.yielder.pause()
        await self._retrace(some, known, revision, ended=True)

    async def _retrace(self, hires: Collection[str], known: str | None, revision: str, *, ended: bool = False) -> None:
        await self.state.ledger.run(lambda ledger: ledger.given.retrace(hires, known, revision, ended=ended))

    async def _trace(self, plan: Plan) -> None:
        """Determine who gave the grants of a plan's hires, as far as that is not yet known."""
        ledger, desired = self.state.ledger, self.services.desired
        broken = desired.broken_hires
        hires = plan.selection.hires
        waiting = {} if plan.revision == WORKTREE else await ledger.run(lambda reader: reader.given.untraced(hires))
        asked = waiting.keys() - broken.keys()
        if not asked:
            return
        givers = Givers(self.context.checkout, desired, ledger)
        added: dict[str, Unattributed] = {}
        async for some in self._in_turn({hire: waiting[hire] for hire in sorted(asked)}):
            new = {hire: each for hire, each in some.items() if hire not in broken}
            added |= new
            givers.add({hire: each.since for hire, each in new.items()})
            await self.context.yielder.pause()
            if givers.full:
                await self._give(await givers.found(), added)
                asked -= added.keys()
                if not asked:
                    return
                added = {}
        await self._give(await givers.found(), added)

    async def _in_turn(self, asked: Mapping[str, Unattributed]) -> AsyncIterator[Mapping[str, Unattributed]]:
        """Yield untraced hires, some at a time: those of a pass, and then others.

        All commits are walked for each batch, so that one with few hires is filled with those of later passes, in the
        order of a sweep; unless it is a pass that somebody waits for.
        """
        left = iter(asked.items())
        while some := dict(islice(left, OFTEN)):
            yield some
        last = max(asked) if self.context.yielder.among(len(asked)).yields else None
        while last is not None and (some := await self.state.ledger.run(partial(_untraced_after, last=last))):
            yield some
            last = max(some)

    async def _give(self, found: Mapping[str, Mapping[Key, Attribution]], untraced: Mapping[str, Unattributed]) -> None:
        """Write down who gave what, some hires at a time."""
        given: list[tuple[Key, Attribution]] = []
        traced: dict[str, Unattributed] = {}

        def save(ledger: LedgerWriter) -> None:
            ledger.given.save(given, traced)

        for hire, of_hire in found.items():
            given += of_hire.items()
            traced[hire] = untraced[hire]
            if len(given) + len(traced) >= LINES_AT_A_TIME:
                await self.state.ledger.run(save)
                given, traced = [], {}
                await self.context.yielder.pause()
        await self.state.ledger.run(save)

    @property
    def context(self) -> Context:
        """What lasts from pass to pass."""
        return self.revision.context

    async def _write_down(
        self, plan: Plan, found: Sequence[PlannedRecord], author: str | None, yielder: Yielder
    ) -> tuple[Recorded, list[Event]]:
        """Record what was observed and decided, and erase what no longer has to be remembered.

        Gives each grant with its record, and the events of the guard that tripped or was released. What is over many
        hires is written in pieces, with others' turns between them: a crash between two leaves the rest to the next
        pass, which finds and decides the same.
        """
        ledger, now, revision = self.state.ledger, plan.policy.now, plan.revision
        tripped, noted = await ledger.run(
            lambda reader: plan.judgement.events(reader, plan.grants, plan.dropped, now=now, revision=revision)
        )
        if plan.judgement.released is None:  # what a person did is no commit's
            tripped = [replace(line, author=author) for line in tripped]
        unwanted = [key for key in plan.commands if self._is_unwanted(key, plan)]
        unknown = await ledger.run(lambda reader: [key for key in unwanted if reader.grants.record(key) is None])
        answered = [command for key in unknown for command in plan.commands[key]]
        if gone := [record.key for record in plan.dropped]:
            ends = [
                Event(now, item.key, item.integration, EventType.DROPPED, "", revision=revision, author=author)
                for item in plan.dropped
            ]
            await ledger.run(lambda writer: self._drop(writer, gone, ends))
        pieces = list(_pieces(found)) if yielder.yields else [found]
        first, *others = pieces or [()]
        await self._write(plan, first, author, lines=tripped, noted=noted, answered=answered)
        for piece in others:
            await yielder.pause()
            await self._write(plan, piece, author)
        if plan.selection.everything:
            await ledger.run(lambda writer: writer.guard.begin_resync())
        await yielder.pause()
        return {item.grant.key: (item, record) for item, record, _ in found}, tripped

    def _drop(self, ledger: LedgerWriter, gone: Sequence[Key], ends: Sequence[Event]) -> None:
        kept = {**{run_name(key): None for key in gone}, **self.state.vault.without_stored(ledger, gone)}
        ledger.drop(gone, ends, kept=kept)

    async def _write(
        self,
        plan: Plan,
        found: Sequence[PlannedRecord],
        author: str | None,
        *,
        lines: Iterable[Event] = (),
        noted: ValueChanges | None = None,
        answered: Iterable[Command] = (),
    ) -> None:
        """Write some grants' records with all that belongs to them, and release those without a request to send.

        `lines`, `noted` and `answered` are written with them.
        """
        over = [item.grant.key for item, _, _ in found if not acts(item)]
        answered = [*answered, *(command for key in over for command in plan.commands.get(key, ()))]
        events = [line for _, _, lines_of in found for line in lines_of]
        # What a row's former service answered is nothing that its new one may be asked with.
        moved = [item.grant.key for item, _, _ in found if item.moved]
        gone = [record.key for item, record, _ in found if _found_gone(item, record)]
        settled: ValueChanges = {
            run_name(record.key): None
            for item, record, _ in found
            if record.open is None and item.record is not None and item.record.open is not None
        }
        records = [record for _, record, _ in found]
        asked = request_events(answered, plan.policy.now, records)
        authored = [*asked, *lines, *(replace(line, author=author) for line in events)]

        def save(ledger: LedgerWriter) -> None:
            ledger.save(
                records,
                authored,
                Failpoint.PLAN,
                before={} if plan.renamed else plan.rows,
                kept={
                    **settled,
                    **(self.state.vault.without_stored(ledger, moved) if moved else {}),
                    **(self.state.vault.handed_on(ledger, gone) if gone else {}),
                },
                noted=noted,
                answered=answered,
            )

        await self.state.ledger.together(save)
        for key in over:
            self.claims.release(key)

    def _is_unwanted(self, key: Key, plan: Plan) -> bool:
        """Whether git has no grant that a command names: if the ledger has none either, no pass will act on it."""
        hires = plan.selection.hires
        if hires is not None and key.hire not in hires:
            return False
        return self.services.desired.grant(key) is None

    async def _close(self, plan: Plan, recorded: Recorded, report: Report, tripped: list[Event]) -> None:
        """Save the pass's summary for `status`, and note what alerts are due."""
        ledger, settings = self.state.ledger, plan.policy.settings
        if plan.judgement.released:
            await ledger.run(lambda writer: writer.guard.let_through(plan.selection))
        newest = self.context.last_desired or self.services.desired
        problems, now = self.services.desired.files.problems, self.context.clock.now()
        followed = partial(_followed, plan=plan, of_files=problems, newest=newest.revision, now=now)
        await ledger.run(lambda writer: writer.notes.put(LAST, followed))
        await ledger.run(lambda writer: writer.history.keep_tree())
        if settings.alerts:
            news = await ledger.run(partial(_news, since=plan.policy.now, about=recorded.keys()))
            events = [*tripped, *news]
            self.alert = await alert_due(self.context, ledger, report.rows, events)


def _followed(noted: bytes | None, plan: Plan, of_files: Collection[Problem], newest: str, now: datetime) -> bytes:
    """Return the note of the last pass after this one; where one of the newest revision ended before it, of that."""
    found = [problem for problem in plan.problems if problem.file != STATE]
    last, revision, interval = LastPass.read(noted), plan.revision, plan.policy.settings.interval
    if last.revision == newest != revision:
        found = [problem for problem in found if problem not in of_files]
        revision, of_files = newest, last.of_files
    return last.followed(revision, now, plan.selection, of_files=of_files, found=found, interval=interval).written()


def _news(ledger: LedgerWriter, since: datetime, about: Container[Key]) -> list[Event]:
    """Return what was refused and no alert was sent of yet, and the history's lines about some grants since a time."""
    refused = [*ledger.session.refused]
    ledger.session.refused.clear()
    return [*refused, *(line for line in ledger.history.lines(since=since) if line.key in about)]


def _untraced_after(ledger: LedgerReader, last: str) -> dict[str, Unattributed]:
    return ledger.given.untraced_after(last, OFTEN)


def _pieces(found: Iterable[PlannedRecord]) -> Iterator[list[PlannedRecord]]:
    """Split what was found into pieces that take about as long to write as one turn of the event loop may."""
    piece: list[PlannedRecord] = []
    room = ROWS_AT_A_TIME
    for item, record, lines in found:
        piece.append((item, record, lines))
        before = item.record
        room -= CHANGED_ROW if before is None or lines or before.revision != record.revision else 1
        if room <= 0:
            yield piece
            piece, room = [], ROWS_AT_A_TIME
    if piece:
        yield piece


def _renames(plan: Plan, author: str | None) -> Iterator[Event]:
    for old, new in plan.renamed.items():
        record = replace(plan.rows[old], key=new, revision=plan.revision)
        yield Event.of(record, EventType.RENAMED, f"was {old}", plan.policy.now, author=author)


def _log_guard(events: Iterable[Event]) -> None:
    for line in events:
        if line.event is EventType.HELD:
            log.warning("guard.tripped", integration=line.integration, reason=line.detail)
        else:
            log.info("guard.released", integration=line.integration)


def _found_gone(item: PlannedGrant, record: Record) -> bool:
    """Whether an account was found to be gone: what was stored of it is nothing that another one is asked with."""
    return record.phase is Phase.REVOKED and item.record is not None and item.record.phase is not Phase.REVOKED
