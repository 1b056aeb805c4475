"""One repository's passes: `plan` observes and decides, `apply` carries a plan out.

The daemon, the commands and the tests all make a `Reconciler` and call these two. What only reads calls `plan_pass`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from reconciler.engine import guard
from reconciler.engine.claims import ClaimSet
from reconciler.engine.commands import CommandsByGrant, request_events
from reconciler.engine.context import Context
from reconciler.engine.everybody import Listings
from reconciler.engine.executor import Executor
from reconciler.engine.integrations import Integration
from reconciler.engine.planned import PlannedGrant
from reconciler.engine.planner import Watched, unwatched
from reconciler.engine.planning import Plan, plan_pass
from reconciler.engine.renames import move
from reconciler.engine.scheduler import Recorded, Scheduler, acts
from reconciler.engine.state import OpenState
from reconciler.ledger.entries import Event, Kept
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import WritableVault, run_name
from reconciler.model.clock import stamp
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.report import LAST, Report
from reconciler.model.selection import Selection
from reconciler.model.status import EventType, Status
from reconciler.notify.alerts import alert
from reconciler.notify.notifications import Notifier
from reconciler.repository.git.checkout import WORKTREE, Tree
from reconciler.repository.given import who_gave

__all__ = ["Reconciler"]

NOTED_PROBLEMS = 100
"""The most problems of files that are noted; `reconcile validate` shows all."""


class Reconciler:
    """Plans passes and applies them, over the open state. `progressed` is called for each request."""

    def __init__(
        self,
        context: Context,
        state: OpenState,
        notifier: Notifier,
        *,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        self._context = context
        self._state = state
        self._notifier = notifier
        self._progressed = progressed

    async def plan(
        self,
        selection: Selection,
        tree: Tree,
        *,
        by_hand: Mapping[Key, str] | None = None,
        commands: CommandsByGrant | None = None,
        released: bool = False,
        removals: bool = True,
        claims: ClaimSet | None = None,
        listings: Listings | None = None,
        watched: Watched = unwatched,
    ) -> Plan:
        """Observe and plan, and change nothing: `plan_pass` over the open state."""
        return await plan_pass(
            self._context,
            self._state,
            selection,
            tree,
            by_hand=by_hand,
            commands=commands,
            released=released,
            removals=removals,
            claims=claims,
            listings=listings,
            progressed=self._progressed,
            watched=watched,
        )

    async def apply(self, plan: Plan) -> Report:
        """Carry a plan out: write intent, execute, confirm, record, tell."""
        report = Report(plan.revision, dry_run=False, problems=list(plan.problems))
        author, pace = self._context.author(plan.tree), self._context.pace.among(len(plan.grants))
        move(self._state.ledger, self._vault, plan.renamed)
        await self._take_over(plan)
        found = [(item, *plan.record_of(item)) async for some in pace.over(plan.grants) for item in some]
        recorded, tripped = self._write_down(plan, found, author)
        await pace.keep()
        notifications = self._notifier.over(plan.settings, plan.tree)
        if self._state.sealing.fault is None:
            await notifications.deliver_all(self._state.ledger, self._vault, recorded.keys(), author)
        scheduler = Scheduler(
            plan=plan,
            recorded=recorded,
            executor=self._executor(plan, author),
            state=self._state,
            notifications=notifications,
            report=report,
            author=author,
        )
        after = await scheduler.run()
        report.rows = [
            plan.row(item, after.get(key, record))
            async for some in pace.over(recorded.items())
            for key, (item, record) in some
        ]
        await self._close(plan, recorded, report, tripped)
        return report

    async def _take_over(self, plan: Plan) -> None:
        """Find out who gave what, where that is not yet known of the plan's revision."""
        ledger = self._state.ledger
        async with self._state.taking_over:
            known = ledger.given_up_to()
            if plan.revision not in (known, WORKTREE):
                found = await who_gave(self._context.checkout, plan.desired, known, ledger.given)
                ledger.give(found, plan.revision)

    @property
    def _vault(self) -> WritableVault:
        return self._state.sealing.vault

    def _executor(self, plan: Plan, author: str | None) -> Executor:
        ledger = self._state.ledger
        return Executor(
            self._context,
            ledger=ledger,
            vault=self._vault,
            attachments=self._state.attachments,
            retry_delay=plan.settings.retry_delay,
            author=author,
            overview=lambda hire: _overview(ledger.records([hire]), plan.integrations),
            progressed=self._progressed,
        )

    def _write_down(
        self, plan: Plan, found: Iterable[tuple[PlannedGrant, Record, list[Event]]], author: str | None
    ) -> tuple[Recorded, list[Event]]:
        """Record what was found and decided, and erase what no longer has to be remembered.

        `found` has each grant's record with its events. Gives each grant with its record, and the events of the guard
        that tripped or was released.
        """
        ledger, vault, now, revision = self._state.ledger, self._vault, plan.policy.now, plan.revision
        tripped, noted = guard.events_of(ledger, plan.grants, plan.tripped, now, revision)
        lines = list(tripped)
        answered = [
            command for key, commands in plan.commands.items() if _is_unknown(key, plan, ledger) for command in commands
        ]
        recorded: Recorded = {}
        for item, record, told in found:
            recorded[item.grant.key] = (item, record)
            lines += told
            if not acts(item):
                answered += plan.commands.get(item.grant.key, ())
        if gone := [record.key for record in plan.dropped]:
            ends = [
                Event(now, item.key, item.integration, EventType.DROPPED, "", revision=revision, author=author)
                for item in plan.dropped
            ]
            ledger.drop(gone, ends, kept={**{run_name(key): None for key in gone}, **vault.without_stored(gone)})
        # What a row's former service answered is nothing that its new one may be asked with.
        moved = [item.grant.key for item, _ in recorded.values() if item.moved]
        settled: Kept = {
            run_name(record.key): None
            for item, record in recorded.values()
            if record.open is None and item.record is not None and item.record.open is not None
        }
        settled = {**settled, **(vault.without_stored(moved) if moved else {})}
        written = [record for _, record in recorded.values()]
        lines = [*request_events(answered, now), *(replace(line, author=author) for line in lines)]
        before = {} if plan.renamed else plan.rows
        ledger.save(written, lines, Failpoint.PLAN, before=before, kept=settled, noted=noted, answered=answered)
        if plan.selection.everything:
            ledger.begin_resync()
        for key, (item, _) in recorded.items():
            if not acts(item):
                plan.claims.release(key)
        return recorded, tripped

    async def _close(self, plan: Plan, recorded: Recorded, report: Report, tripped: list[Event]) -> None:
        """Note the pass for `status`, and send alerts."""
        ledger, settings = self._state.ledger, plan.settings
        if plan.released:
            ledger.begin_resync()  # once: what was let through no longer counts
        problems = [problem.as_json() for problem in plan.desired.files.problems[:NOTED_PROBLEMS]]
        noted = {"revision": plan.revision, "at": stamp(self._context.clock.now()), "problems": problems}
        ledger.put_note(LAST, json.dumps(noted).encode())
        if settings.alerts:
            lines = [line for line in ledger.history(since=plan.policy.now) if line.key in recorded]
            await alert(self._context, settings, plan.tree, ledger=ledger, rows=report.rows, events=[*tripped, *lines])


def _is_unknown(key: Key, plan: Plan, ledger: LedgerReader) -> bool:
    """Whether neither git nor the ledger has a grant that a command names: no pass will act on it."""
    hires = plan.selection.hires
    if hires is not None and key.hire not in hires:
        return False
    return ledger.record(key) is None and all(grant.key != key for grant in plan.desired.grants(key.hire))


def _overview(found: Iterable[Record], integrations: Mapping[str, Integration]) -> str:
    """`access_overview` of the original format: what the last checks say of a hire's accounts."""
    shown = {Status.PRESENT: "has access", Status.UNKNOWN: "could not be checked"}
    return ", ".join(
        f"{record.key.access} ({shown.get(record.status, 'no access')})"
        for record in found
        if (integration := integrations.get(record.integration)) is not None
        and integration.manifest.exists is not None
        and record.status is not Status.REVOKED
    )
