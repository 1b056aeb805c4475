"""The child's side: the daemon, with a loop that stands still for ever at one of the points that it tells of."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from reconciler.cli.commands.daemon import serve
from reconciler.cli.options import SharedOptions
from reconciler.model.failpoints import Failpoint
from reconciler.model.secret import Redactor


def play(at: str, once: str, environment: dict[str, str]) -> int:
    """`reconcile daemon`, until it comes to the point `at` while the file `once` is there; then nothing goes on."""

    def reached(point: Failpoint, *, done: bool) -> None:
        if not done and point.name == at and Path(once).exists():
            threading.Event().wait()

    os.environ.update(environment)
    asyncio.run(serve(SharedOptions(), Redactor(), reached))
    return 0
