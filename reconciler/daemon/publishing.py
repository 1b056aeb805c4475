"""Publish checkpoints of the history, one each time that `checkpoints.every` is over, if there are new lines.

A checkpoint is noted in the ledger before it leaves, and no longer once it has arrived: one that cannot be pushed is
pushed later, by another member of a fleet if need be, and none is pushed twice (docs/how-to/prove.md). It does not wait
for its timestamp, which follows as soon as it can be had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from reconciler.daemon.runtime import ProblemLog
from reconciler.engine.run.accepted import InForce
from reconciler.ledger.history import tree_of
from reconciler.ledger.ledger import OpenLedger
from reconciler.model.clock import Stopped, stamp
from reconciler.model.errors import LedgerError, RepositoryError, SecretsError, TimestampError
from reconciler.model.settings import Checkpoints
from reconciler.model.value import Frozen
from reconciler.notify.alerts import alert_of
from reconciler.notify.rules import News, NewsKind
from reconciler.repository.git.branches import NOTE, TOKEN, has_another, publish
from reconciler.review.proof import sign, signing_key, token_of

log = structlog.get_logger()

NOTED = "checkpoints"
"""The name of the ledger's note that has when the last checkpoint was made, its lines, and what did not arrive yet."""

AGAIN = timedelta(minutes=1)
"""Between two tries where the one before failed."""


class _Published(msgspec.Struct):
    at: str | None = None
    lines: int = 0
    waiting: dict[str, str] = {}
    """The files that did not arrive yet, by name; their bytes as Latin-1."""
    untimed: dict[str, str] = {}
    """The notes that have no timestamp yet, by the name of its file."""
    since: dict[str, str] = {}
    """Since when something fails, by the kind of the news."""
    told: list[str] = []
    """Of which of these an alert was sent."""


class _Turn(Frozen):
    """What a turn goes by."""

    now: datetime
    force: InForce
    wanted: Checkpoints


class Publishing:
    """Publishes checkpoints for the process that decides what is due. `published` counts those that arrived."""

    def __init__(self, ledger: OpenLedger, problems: ProblemLog, published: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._problems = problems
        self._published = published
        self._tried: datetime | None = None
        self._task: asyncio.Task[None] | None = None
        self._asking = False

    def begin(self, now: datetime, force: InForce) -> None:
        """Begin what is due, as a task; one at a time."""
        wanted = force.settings.checkpoints
        if wanted is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._due(_Turn(now, force, wanted)))

    async def finish(self) -> None:
        """Await what is under way; an authority that is being asked is not waited for."""
        if self._task is None:
            return
        if self._asking:
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _due(self, turn: _Turn) -> None:
        try:
            noted, lines = await self._ledger.run(lambda ledger: (ledger.notes.get(NOTED), ledger.history.end().number))
            state = msgspec.json.decode(noted or b"{}", type=_Published)
            if _is_over(state.at, turn.wanted.every, turn.now) and lines > state.lines:
                await self._sign(state, turn)
            if (state.waiting or (state.untimed and turn.wanted.timestamp is not None)) and self._may_try(turn.now):
                await self._publish(state, turn)
                await self._timestamp(state, turn)
                if not (state.waiting or state.untimed):
                    self._tried = None
        except LedgerError as error:
            self._problems.update(NewsKind.UNPUBLISHED, str(error))
        except Stopped:
            return

    def _may_try(self, now: datetime) -> bool:
        if self._tried is not None and not _is_over(self._tried.isoformat(), AGAIN, now):
            return False
        self._tried = now
        return True

    async def _sign(self, state: _Published, turn: _Turn) -> None:
        try:
            key = signing_key(turn.force.own())
            lines, note = sign(await self._ledger.apart(tree_of), turn.force.context.checkout, key)
        except (RepositoryError, SecretsError) as error:
            if self._may_try(turn.now):
                await self._tell(state, turn, NewsKind.UNPUBLISHED, str(error))
            return
        state.at, state.lines = turn.now.isoformat(), lines
        state.waiting[f"{lines}{NOTE}"] = note.encode().decode("latin-1")
        if turn.wanted.timestamp is not None:
            state.untimed[f"{lines}{TOKEN}"] = note
        await self._save(state)

    async def _publish(self, state: _Published, turn: _Turn) -> None:
        if not state.waiting:
            return
        files = {name: text.encode("latin-1") for name, text in state.waiting.items()}
        why = await asyncio.to_thread(_deliver, turn, files)
        if why is None:
            log.info("checkpoint.published", files=sorted(files))
            self._published(sum(name.endswith(NOTE) for name in files))
            state.waiting = {}
        await self._tell(state, turn, NewsKind.UNPUBLISHED, why)

    async def _timestamp(self, state: _Published, turn: _Turn) -> None:
        """Have notes timestamped, the oldest first, until that fails; publish the tokens."""
        wanted, why = turn.wanted.timestamp, None
        if wanted is None or not state.untimed:
            return
        for name, note in sorted(state.untimed.items(), key=lambda each: int(each[0].removesuffix(TOKEN))):
            try:
                self._asking = True
                token = await token_of(note, wanted, turn.force)
            except TimestampError as error:
                why = str(error)
                break
            finally:
                self._asking = False
            del state.untimed[name]
            state.waiting[name] = token.decode("latin-1")
            await self._save(state)
        await self._tell(state, turn, NewsKind.UNTIMED, why)
        await self._publish(state, turn)

    async def _tell(self, state: _Published, turn: _Turn, kind: NewsKind, why: str | None) -> None:
        """Log what fails or is over, and alert of what has failed for `fail_stale`, once; save the state."""
        self._problems.update(kind, why)
        if why is None:
            state.since.pop(kind, None)
            state.told = [each for each in state.told if each != kind]
        else:
            since = state.since.setdefault(kind, turn.now.isoformat())
            if kind not in state.told and _is_over(since, turn.force.settings.fail_stale, turn.now):
                state.told.append(kind)
                at = stamp(datetime.fromisoformat(since)) or since
                await alert_of(turn.force, News(kind, "", 0, why, since=at))
        await self._save(state)

    async def _save(self, state: _Published) -> None:
        note = msgspec.json.encode(state)
        await self._ledger.run(lambda ledger: ledger.notes.put(NOTED, note))


def _deliver(turn: _Turn, files: Mapping[str, bytes]) -> str | None:
    """Publish files; return why that failed."""
    wanted, root, git = turn.wanted, turn.force.context.root, turn.force.settings.git
    if wanted.directory is not None:
        return _written(root / wanted.directory, files)
    if wanted.branch in (turn.force.branch, git.branch):
        return f"{wanted.branch} is the branch in force: name another one in `checkpoints`"
    return publish(root, wanted.remote or git.remote, wanted.branch, files)


def _is_over(since: str | None, span: timedelta, now: datetime) -> bool:
    """Whether a time is so long ago; one in the future comes from a clock that jumped."""
    return since is None or not timedelta() <= now - datetime.fromisoformat(since) < span


def _written(folder: Path, files: Mapping[str, bytes]) -> str | None:
    """Write files that are not there yet, each completely or not at all; return why that failed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if (folder / name).exists():
                if (folder / name).read_bytes() != content:
                    return f"{folder} {has_another(name)}"
            else:
                part = folder / f".{name}.part"
                part.write_bytes(content)
                part.replace(folder / name)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return None
