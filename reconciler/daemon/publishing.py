"""Publish checkpoints of the history, one each time that `checkpoints.every` is over, if there are new lines.

A checkpoint is noted in the ledger before it leaves, and no longer once it has arrived: one that cannot be pushed is
pushed later, by another member of a fleet if need be, and none is pushed twice (docs/how-to/prove.md).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from reconciler.daemon.health import ProblemLog
from reconciler.engine.context import Context
from reconciler.model.clock import stamp
from reconciler.model.errors import LedgerError, RepositoryError, SecretsError
from reconciler.model.settings import OWN, Checkpoints, Settings
from reconciler.notify.alerts import alert_unpublished
from reconciler.repository.git.publish import publish
from reconciler.repository.git.trees import Tree
from reconciler.review.proof import sign, signing_key

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["Publishing"]

log = structlog.get_logger()

NOTE = "checkpoints"
"""The name of the note that has when the last checkpoint was made, its lines, and those that did not arrive yet."""

AGAIN = timedelta(minutes=1)
"""Between two tries to publish."""


@dataclass(slots=True)
class _Published:
    at: str | None = None
    lines: int = 0
    waiting: dict[str, str] = field(default_factory=dict)
    """The notes that did not arrive yet, by the name of their file."""
    since: str | None = None
    """Since when publishing fails."""
    told: bool = False
    """Whether an alert was sent of that."""


class Publishing:
    """Publishes checkpoints for the process that decides what is due. `published` counts those that arrived."""

    def __init__(
        self, context: Context, ledger: LedgerWriter, problems: ProblemLog, published: Callable[[int], None]
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._problems = problems
        self._published = published
        self._tried: datetime | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, now: datetime, settings: Settings, tree: Tree, branch: str | None) -> None:
        """Begin what is due, as a task; one at a time."""
        if settings.checkpoints is None or (self._task is not None and not self._task.done()):
            return
        self._task = asyncio.create_task(self._due(now, settings, settings.checkpoints, tree, branch))

    async def finish(self) -> None:
        """Await what is under way."""
        if self._task is not None:
            await self._task

    async def _due(
        self, now: datetime, settings: Settings, wanted: Checkpoints, tree: Tree, branch: str | None
    ) -> None:
        try:
            state = _Published(**json.loads(self._ledger.note(NOTE) or b"{}"))
            if self._is_over(state.at, wanted.every, now) and self._ledger.history_end().number > state.lines:
                own = self._context.initial_data(settings).read(tree, OWN) or {}
                lines, note = await asyncio.to_thread(sign, self._ledger, self._context.checkout, signing_key(own))
                state.at, state.lines = now.isoformat(), lines
                state.waiting[f"{lines}.note"] = note
                self._save(state)
            if not state.waiting or (self._tried is not None and now - self._tried < AGAIN):
                return
            self._tried = now
            files = {name: note.encode() for name, note in state.waiting.items()}
            why = await asyncio.to_thread(self._deliver, settings, wanted, files, branch)
            await self._note(state, why, now, settings, tree)
        except (LedgerError, RepositoryError, SecretsError) as error:
            self._problems.update("checkpoints", str(error))

    async def _note(self, state: _Published, why: str | None, now: datetime, settings: Settings, tree: Tree) -> None:
        self._problems.update("checkpoints", why)
        if why is None:
            log.info("checkpoint.published", files=sorted(state.waiting))
            self._published(len(state.waiting))
            state.waiting, state.since, state.told = {}, None, False
        else:
            state.since = state.since or now.isoformat()
            if not state.told and self._is_over(state.since, settings.fail_stale, now):
                state.told = True
                since = stamp(datetime.fromisoformat(state.since)) or state.since
                await alert_unpublished(self._context, settings, tree, why, since)
        self._save(state)

    def _deliver(
        self, settings: Settings, wanted: Checkpoints, files: Mapping[str, bytes], branch: str | None
    ) -> str | None:
        if wanted.directory is not None:
            return _written(self._context.root / wanted.directory, files)
        if wanted.branch in (branch, settings.git.branch):
            return f"{wanted.branch} is the branch in force: name another one in `checkpoints`"
        return publish(self._context.root, wanted.remote or settings.git.remote, wanted.branch, files)

    def _save(self, state: _Published) -> None:
        self._ledger.put_note(NOTE, json.dumps(asdict(state)).encode())

    @staticmethod
    def _is_over(since: str | None, span: timedelta, now: datetime) -> bool:
        """Whether a time is so long ago; one in the future comes from a clock that jumped."""
        return since is None or not timedelta() <= now - datetime.fromisoformat(since) < span


def _written(folder: Path, files: Mapping[str, bytes]) -> str | None:
    """Write files that are not there yet, each completely or not at all; return why that failed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if not (folder / name).exists():
                part = folder / f".{name}.part"
                part.write_bytes(content)
                part.replace(folder / name)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return None
