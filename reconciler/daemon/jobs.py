"""Slices as jobs of procrastinate, before all members of a fleet. The only module that imports procrastinate.

A job only says what has to be looked at: losing one, or making it twice, costs checks. Who may act, the leases say. The
jobs of a service have one lock, so that one of them is made at a time; those of a member that died are put back by the
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from zlib import crc32

import procrastinate
import psycopg
import psycopg_pool
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, ProcrastinateException, UniqueViolation
from procrastinate.jobs import Status as JobStatus
from procrastinate.utils import utcnow

from reconciler.daemon.slices import Lane, PassRequest, Slice
from reconciler.ledger.membership import STALL_SECONDS
from reconciler.model.grant import Key
from reconciler.model.selection import Selection

__all__ = ["FAULTS", "Again", "Arguments", "Jobs", "arguments", "slice_of"]

FAULTS = (ProcrastinateException, psycopg.Error, psycopg_pool.PoolTimeout, OSError)
"""What goes wrong where the server is away."""

Arguments = Mapping[str, Any]
"""A slice as JSON can hold it."""

QUEUE = "slices"
PRIORITIES = {Lane.NOW: 2, Lane.DUE: 1, Lane.INTERVAL: 0}
BEAT_SECONDS = 1.0
POLL_SECONDS = 0.5
AGAIN_SECONDS = 1
"""Whatever ends a job, it is made again, so much later: nothing that it asks for is lost."""

AGAIN = procrastinate.RetryStrategy(wait=AGAIN_SECONDS)
"""The same where it cannot be put again, because the server is away."""

WAIT_SECONDS = 5.0

for _name in ("procrastinate", "psycopg.pool"):  # what goes wrong is told once, by whoever meets it here
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Again(Exception):
    """A job has to be made again: by a member that can, or when the state is back."""


class Jobs:
    """The jobs of one fleet. `connect` is how the server is reached, `make` makes one, and raises `Again`."""

    def __init__(self, connect: Mapping[str, Any], make: Callable[[Arguments], Awaitable[None]]) -> None:
        url, kwargs = connect["conninfo"], {name: value for name, value in connect.items() if name != "conninfo"}
        connector = procrastinate.PsycopgConnector(
            conninfo=url, kwargs=kwargs, min_size=1, max_size=4, timeout=WAIT_SECONDS, reconnect_timeout=WAIT_SECONDS
        )
        self._app = procrastinate.App(connector=connector)

        async def made(**given: Any) -> None:
            try:
                await make(given)
            except Again:  # not by a retry: that fails, and the job is under way for good, where the same one waits
                if not await self.put(slice_of(given), given, after=AGAIN_SECONDS):
                    raise

        self._task = self._app.task(name="slice", queue=QUEUE, retry=AGAIN)(made)
        self._open = False

    async def open(self) -> None:
        """Connect, and make the tables where they are not there. Raises one of `FAULTS`."""
        await asyncio.wait_for(self._app.open_async(), 2 * WAIT_SECONDS)
        if not await self._made():
            try:
                await self._app.schema_manager.apply_schema_async()
            except FAULTS:
                if not await self._made():  # members that start together: another was quicker
                    raise
        self._open = True

    async def _made(self) -> bool:
        there = await self._app.connector.execute_query_one_async(
            "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS there"
        )
        return bool(there["there"])

    async def close(self) -> None:
        """Disconnect."""
        self._open = False
        with suppress(*FAULTS):
            await self._app.close_async()

    async def put(self, item: Slice, given: Arguments, *, after: int = 0) -> bool:
        """Put a slice before all members, to be made after so many seconds; False where the server is away.

        One that waits already is not put again.
        """
        if not self._open:
            return False
        job = self._task.configure(
            lock=f"service:{item.service}",
            queueing_lock=_same(item, given["revision"]),
            priority=PRIORITIES[item.lane],
            schedule_in={"seconds": after} if after else None,
        )
        try:
            await job.defer_async(**given)
        except AlreadyEnqueued:
            return True
        except FAULTS:
            return False
        return True

    async def work(self, at_once: int) -> None:
        """Make jobs, so many at once, until cancelled; then end those under way, however long they take.

        Raises one of `FAULTS`.
        """
        await self._app.run_worker_async(
            queues=[QUEUE],
            concurrency=at_once,
            fetch_job_polling_interval=POLL_SECONDS,
            delete_jobs="always",
            install_signal_handlers=False,
            update_heartbeat_interval=BEAT_SECONDS,
            stalled_worker_timeout=STALL_SECONDS,
        )

    async def rescue(self) -> None:
        """Put back the jobs of members that died. Raises one of `FAULTS`."""
        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALL_SECONDS):
            assert job.id is not None
            with suppress(ConnectorException):  # another member was quicker, or the next look says that it is away
                try:
                    await manager.retry_job_by_id_async(job.id, utcnow())
                except UniqueViolation:  # the same one waits, and is enough
                    await manager.finish_job_by_id_async(job.id, JobStatus.FAILED, delete_job=True)


def arguments(item: Slice, revision: str, reading: str | None) -> Arguments:
    """A slice as the arguments of a job; `reading` names the listings that it shares with others."""
    chosen = item.request.selection
    return {
        "service": item.service,
        "lane": item.lane,
        "why": item.request.why,
        "released": item.request.released,
        "revision": revision,
        "reading": reading,
        "queued_at": item.queued_at.isoformat(),
        "hires": None if chosen.hires is None else sorted(chosen.hires),
        "integrations": None if chosen.integrations is None else sorted(chosen.integrations),
        "grants": None if chosen.grants is None else sorted([key.hire, key.access] for key in chosen.grants),
        "without": sorted(chosen.without),
    }


def slice_of(given: Arguments) -> Slice:
    """The slice that a job's arguments mean, without listings."""
    grants = given["grants"]
    selection = Selection(
        hires=None if given["hires"] is None else frozenset(given["hires"]),
        integrations=None if given["integrations"] is None else frozenset(given["integrations"]),
        grants=None if grants is None else frozenset(Key(hire, access) for hire, access in grants),
        without=frozenset(given["without"]),
    )
    request = PassRequest(selection, given["why"], given["released"])
    return Slice(given["service"], request, Lane(given["lane"]), datetime.fromisoformat(given["queued_at"]))


def _same(item: Slice, revision: str) -> str | None:
    """What two slices have in common of which one is enough, while it waits; None where both are needed.

    What waits of the interval's lane may be of a sweep, for a revision, or for what the guard held.
    """
    match item.lane:
        case Lane.NOW:
            return None
        case Lane.DUE:
            return f"due/{item.service}"
        case Lane.INTERVAL:
            hires = crc32(" ".join(sorted(item.request.selection.hires or ())).encode())
            return f"interval/{item.service}/{revision}/{item.request.released}/{hires}"
