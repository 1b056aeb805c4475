"""Take over a new revision: read it, compare it with the one before, and sweep over what it touches."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial

import structlog

from reconciler.daemon.dispatcher import Dispatcher
from reconciler.daemon.runtime import ActiveRevision, Runtime
from reconciler.daemon.schedule import Schedule
from reconciler.engine.run.accepted import ASSUMED, InForce, from_ledger, in_force, keep
from reconciler.engine.trust import reopened
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, RepositoryError, SettingsError
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.value import replace
from reconciler.repository.desired import touched
from reconciler.repository.git.checkout import head_ignored
from reconciler.repository.git.trees import WORKTREE, CommitTree, File, Tree
from reconciler.repository.naming import FOLDERS
from reconciler.requests.tasks import FEW
from reconciler.secrets.initial_data import FOLDER

log = structlog.get_logger()

READ_AGAIN = timedelta(minutes=1)
"""After how long a commit that is not in force is read again: its key may be known by then, or the fault gone."""


class Revisions:
    """Takes over commits, one at a time, and replaces what the dispatcher acts on."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, schedule: Schedule) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._clock = runtime.clock
        self._health = runtime.health
        self._dispatcher = dispatcher
        self._schedule = schedule
        self._taking = asyncio.Lock()
        self._read_at = self._clock.now()
        self._files: frozenset[File] | None = None
        """With `source: worktree`, the files as last read: git does not know them."""
        self._behind = False
        """Whether the ledger failed while the newest commit was taken over."""
        self._unswept = list[PassRequest]()
        """The passes over what commits in force touched that are not begun yet."""

    def is_due(self, now: datetime) -> bool:
        """Whether to read the newest commit although the watch reported none."""
        active = self._runtime.active
        not_in_force = active.refused is not None or active.fault is not None
        return not active.taken_over or self._behind or (not_in_force and abs(now - self._read_at) >= READ_AGAIN)

    async def take_over(self) -> None:
        """Act on the newest commit, if it is new, and make passes over what it touches.

        If the ledger fails, this is repeated at the next tick. If the commit cannot be read, or this program fails over
        it, the revision and the settings before it stay in force, and it is read again after `READ_AGAIN`.
        """
        async with self._taking:
            try:
                await self._act_on_newest()
            except Stopped:
                pass
            except LedgerError as error:
                self._behind = True
                self._health.stuck("commit", str(error))
            except (RepositoryError, SettingsError) as error:
                self._keep_before(str(error))
                self._health.problems.update("repository", str(error))
            except Exception as error:
                # The outermost boundary for commits.
                before = self._runtime.active
                acting_on = (before.acted_on or "none")[:12]
                fault = f"a fault of this program over the newest commit: {type(error).__name__}; acting on {acting_on}"
                if before.fault != fault:
                    log.exception("commit.broken")
                self._keep_before(fault)
                self._health.stuck("commit", fault)
            else:
                self._behind = False
                self._health.problems.update("commit", None)

    def _keep_before(self, fault: str) -> None:
        """Keep the revision before in force, and note since when and why the newest commit is not."""
        self._runtime.active = replace(self._runtime.active, fault=fault)
        self._behind, self._read_at = False, self._clock.now()
        self._runtime.freshness.refuse(self._read_at, fault)

    async def _act_on_newest(self) -> None:
        before = self._runtime.active
        active = await self._newest(before)
        files = _worktree_files(active.tree)
        selections = await self._touched(before, active, files)
        if selections:
            passes, known = self._dispatcher.passes, None if files is None else selections  # git knows of commits
            await passes.count(self._runtime.state, active, known)
        self._runtime.active, self._files = active, files  # passes that are begun from here on act on it
        why = "commit" if before.taken_over else "start"
        leads = self._dispatcher.runner.leads
        self._unswept += [PassRequest(selection, why) for selection in selections if leads]
        swept = False
        while self._unswept:
            swept |= await self._schedule.sweep(self._unswept[0])
            del self._unswept[0]
        if leads and not swept and active.tree.revision != before.acted_on:
            await self._runtime.ledger.run(partial(_note, active=active, now=self._clock.now()))

    async def _touched(
        self, before: ActiveRevision, active: ActiveRevision, files: frozenset[File] | None
    ) -> list[Selection]:
        """Select what differs from the revision before; everything if there was none."""
        if not before.taken_over:
            return [Selection()]
        if before.tree.revision == active.tree.revision and files is None:
            return []
        if self._files is not None and files is not None:
            paths = frozenset(file.path for file in self._files ^ files)
        else:
            paths = self._context.checkout.changed(before.tree, active.tree)
        if any(path.startswith(f"{FOLDER}/") for path in paths):
            # It may be encrypted to other keys now, and the old ones soon be gone: wrap the key of the state again.
            former = self._runtime.state.vault
            found = await reopened(active, self._runtime.state.ledger)
            former.follow(found)
            self._runtime.state.vault = found
            self._health.problems.update("sealed", self._runtime.state.vault.fault)
        return touched(paths, active.desired, before.tree)

    async def _newest(self, before: ActiveRevision) -> ActiveRevision:
        """Read what to act on from now on; raise RepositoryError or SettingsError if it cannot be read."""
        starts = not before.taken_over
        if before.settings.git.verify_signatures:
            # In a thread: to check the signatures of many commits takes a while.
            found = await asyncio.to_thread(partial(in_force, self._context, starts=starts))
        else:
            found = in_force(self._context, await self._runtime.ledger.run(from_ledger), starts=starts)
        if isinstance(found.tree, CommitTree) and self._many_differ(before, found.tree):
            # In a thread, too, as each of them is parsed. A few are read sooner than a busy loop gives way to a thread.
            await asyncio.to_thread(self._context.reader.read_ahead, found.tree)
        self._context.reader.load(found.tree)  # raises what is wrong before anything goes by it
        self._health.problems.update("repository", None)
        await keep(self._runtime.state.ledger if self._dispatcher.runner.leads else None, found)
        self._read_at = self._clock.now()
        self._log_changes(found, before)
        self._health.ready = True
        ignored = None if found.branch is None else head_ignored(self._context.checkout, found.branch)
        self._health.problems.update("checked_out", ignored)
        return ActiveRevision(
            self._context,
            found.tree,
            found.settings,
            found.branch,
            found.refused,
            taken_over=True,
            head_ignored=ignored,
        )

    def _many_differ(self, before: ActiveRevision, tree: CommitTree) -> bool:
        """Whether more files differ from the revision before than are read while other tasks wait."""
        return not before.taken_over or len(self._context.checkout.changed(before.tree, tree)) > FEW

    def _log_changes(self, found: InForce, before: ActiveRevision) -> None:
        """Log why the newest commit is not in force, and which settings need a restart."""
        update, refused = self._health.problems.update, found.refused
        acting_on = f"acting on {found.tree.revision[:12]}"
        update("signatures", None if refused is None else f"{refused.advice}; {acting_on}")
        update("branch", ASSUMED.format(branch=found.branch) if found.assumed else None, "warning")
        self._runtime.freshness.refuse(self._read_at, None if refused is None else str(refused))
        for name in ("state", "listen"):
            changed = getattr(found.settings, name) != getattr(before.settings, name)
            update(name, f"{name} was changed: restart the daemon to take it over" if changed else None)


def _note(ledger: LedgerWriter, active: ActiveRevision, now: datetime) -> None:
    """Note a revision that no grant follows from, such as one that changes a manual, as a pass over nothing does."""
    nothing, found, interval = Selection(hires=frozenset()), active.desired.files.problems, active.settings.interval

    def followed(noted: bytes | None) -> bytes:
        revision, before = active.tree.revision, LastPass.read(noted)
        return before.followed(revision, now, nothing, of_files=found, found=found, interval=interval).written()

    ledger.notes.put(LAST, followed)


def _worktree_files(tree: Tree) -> frozenset[File] | None:
    """List the files of a worktree; None for a commit."""
    if tree.revision != WORKTREE:
        return None
    return frozenset(file for folder in FOLDERS for file in tree.files(folder))
