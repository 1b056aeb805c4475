"""The child's side: a member of the fleet, which ends or stands still at one of six moments of an attempt."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from reconciler.cli.commands.daemon import serve
from reconciler.cli.options import SharedOptions
from reconciler.cli.output.logs import set_up
from reconciler.model.errors import ReconcilerError
from reconciler.model.failpoints import Failpoint

WRITING = "writing"

MOMENTS: dict[str, tuple[Failpoint, bool]] = {
    WRITING: (Failpoint.PLAN, False),
    "intent": (Failpoint.INTENT, True),
    "recorded": (Failpoint.LEAVING, True),
    "leaving": (Failpoint.REQUEST, False),
    "left": (Failpoint.REQUEST, True),
    "answered": (Failpoint.RESPONSE, True),
}
"""The moments of an attempt, by the point at which a member ends or stands still, before or after it.

With `WRITING` in the middle of what it then sends to the database.
"""


def member(name: str, at: str | None, marker: str, number: int) -> None:
    """The process of a member."""

    def end() -> None:
        with suppress(FileExistsError):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), number)

    def reached(point: Failpoint, *, done: bool) -> None:
        if at is not None and (point, done) == MOMENTS[at]:
            if at == WRITING:
                _end_in_a_pipeline(end)
            else:
                end()

    asked = SharedOptions(program=tuple(filter(None, [os.environ.get("RECONCILE_PROGRAM")])))
    redactor = set_up(asked)
    try:
        asyncio.run(serve(asked, redactor, reached, name))
    except ReconcilerError as error:
        sys.exit(f"error: {error}")


def _end_in_a_pipeline(end: Callable[[], None]) -> None:
    """Call `end` once the database has some of several statements, and waits for more."""
    from psycopg import Pipeline

    sync = Pipeline._enqueue_sync

    def enqueue_sync(pipeline: Pipeline) -> None:
        pipeline.pgconn.send_flush_request()
        pipeline.pgconn.flush()
        end()
        sync(pipeline)

    Pipeline._enqueue_sync = enqueue_sync  # type: ignore[assignment,method-assign]
