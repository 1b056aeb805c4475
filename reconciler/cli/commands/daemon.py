"""`reconcile daemon`: run until stopped, and serve the pages."""

from __future__ import annotations

import gc
import os
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.context import context_of, until_stopped
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import set_up
from reconciler.model.clock import Stopped
from reconciler.model.errors import RepositoryError
from reconciler.model.failpoints import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from reconciler.daemon.loop import Daemon
    from reconciler.daemon.runtime import Runtime
    from reconciler.engine.context import Revision, SystemClock
    from reconciler.engine.state import OpenState
    from reconciler.model.failpoints import Reached
    from reconciler.model.report import Report
    from reconciler.model.secret import Redactor

EDITS_SECONDS = 3.0
"""How long after its start the daemon looks for uncommitted edits."""


@click.command()
@option("--member", metavar="NAME", help="The name of this member of a fleet.  [default: host and process]")
@shared()
def daemon(options: SharedOptions, member: str | None) -> int:
    """Run until stopped: a pass on every commit, on every due retry, and once in an interval.

    On SIGTERM, start nothing new, finish the attempts in flight (up to 30 s), record them, and exit with 0. With a
    postgresql:// state, daemons share the work; one whose work another daemon has taken over exits with 1.
    """
    import asyncio

    asyncio.run(serve(options, set_up(options), unwatched, member))
    return 0


class _FileProblems:
    """Logs problems in files once: a hire whose file is set aside is in no row of the ledger."""

    def __init__(self) -> None:
        self._revision: str | None = None
        self._problems = set[str]()

    def log_new(self, log: Any, report: Report) -> None:
        """Log the new problems of a pass; one that a commit resolved is new when it comes back."""
        problems = {str(problem) for problem in report.problems}
        if report.revision != self._revision:
            self._revision = report.revision
            self._problems &= problems
        if added := sorted(problems - self._problems):
            self._problems |= problems
            log.warning("daemon.file_problems", problems=added[:10], count=len(added))


async def serve(options: SharedOptions, redactor: Redactor, reached: Reached, member: str | None = None) -> None:
    """Run a daemon, and what `listen` serves, until it is stopped.

    Raises ReconcilerError where it cannot begin, and where another daemon has taken over its work.
    """
    import structlog

    from reconciler.daemon.loop import Daemon
    from reconciler.daemon.runtime import ActiveRevision, Runtime
    from reconciler.engine.context import SystemClock
    from reconciler.engine.run.accepted import in_force
    from reconciler.web.metrics import Metrics
    from reconciler.web.pages import pages_of
    from reconciler.web.serve import serving

    log = structlog.get_logger()
    clock = SystemClock()
    metrics, logged = Metrics(), _FileProblems()
    async with aclosing(context_of(options, redactor, clock, reached)) as context:
        context.answered = metrics.count_request
        force = in_force(context, starts=True)
        with until_stopped(clock), _opened(force, clock, member) as state:

            def on_pass(report: Report, took: timedelta, why: str) -> None:
                now = clock.now().timestamp()
                metrics.count_pass(report, took, why, now)
                logged.log_new(log, report)

            active = ActiveRevision(context, force.tree, force.settings, force.branch)
            running = Daemon(Runtime(clock, state, active), on_pass, on_checkpoint=metrics.count_checkpoints)
            async with serving(pages_of(running, metrics), force.settings.listen) as address:
                log.info(
                    "daemon.started",
                    repo=str(options.repo),
                    listen=address,
                    revision=force.tree.revision,
                    branch=force.branch,
                )
                with _beside(running):
                    gc.freeze()  # it stays, and no collection has to look at it
                    await running.run()
            if state.member is not None and state.member.over is not None:
                raise state.member.over
        log.info("daemon.stopped")


@contextmanager
def _beside(running: Daemon) -> Iterator[None]:
    """While the block runs, tell systemd about the daemon, and log which edits passes ignore."""
    import asyncio

    from reconciler.daemon.systemd import Systemd

    stopping = running.runtime.clock.stopping
    tasks = [
        asyncio.create_task(Systemd.of(os.environ).notify(stopping, running.makes_progress)),
        asyncio.create_task(_log_ignored_edits(running.runtime, running.edits)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _log_ignored_edits(runtime: Runtime, known: list[str]) -> None:
    """Log which edits passes ignore: once the first pass has begun, and where they are others an interval later.

    All files have to be looked at for it. `known` is kept up to date, for the pages.
    """
    import structlog

    from reconciler.repository.git.checkout import ignored_edits

    log = structlog.get_logger()
    with suppress(Stopped):
        await runtime.clock.sleep(EDITS_SECONDS)
        while True:
            try:
                committed = runtime.active.settings.source == "commit"
                edits = ignored_edits(runtime.context.checkout) if committed else []
            except RepositoryError as error:
                log.warning("daemon.edits_unknown", error=str(error))
            else:
                if edits and edits != known:
                    log.warning("daemon.edits_ignored", paths=edits[:10], count=len(edits))
                known[:] = edits
            await runtime.clock.sleep(runtime.active.settings.interval.total_seconds())


def _opened(revision: Revision, clock: SystemClock, member: str | None) -> AbstractContextManager[OpenState]:
    """Open the state: locked if it is a file, shared as a member of a fleet if a server has it."""
    import asyncio
    import socket

    from reconciler.engine.state import locking, sharing

    if revision.location.file is not None:
        return locking(revision, "reconcile daemon")
    loop = asyncio.get_running_loop()

    def lost() -> None:
        loop.call_soon_threadsafe(clock.stopping.set)

    return sharing(revision, member or f"{socket.gethostname()}-{os.getpid()}", lost)
