"""Slices as jobs of procrastinate, which any member of a fleet may take. The only module that imports procrastinate.

A job only says what to check: to lose one, or to make it twice, costs checks. Leases decide who may act. The jobs of a
service share one lock, so that one of them is made at a time; the other members requeue those of a member that died.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any

import procrastinate
import psycopg
import psycopg_pool
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, ProcrastinateException, UniqueViolation
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.jobs import Status as JobStatus
from procrastinate.utils import utcnow

from reconciler.daemon.slices import Lane, Slice
from reconciler.ledger.postgres.membership import STALL_SECONDS
from reconciler.ledger.vault import Vault
from reconciler.model.grant import Key
from reconciler.model.selection import PassRequest, Selection

FAULTS = (ProcrastinateException, psycopg.Error, psycopg_pool.PoolTimeout, OSError)
"""The errors of a server that cannot be reached."""

Arguments = Mapping[str, Any]
"""A slice as JSON values."""

QUEUE = "slices"
SERVICE = "service:"
"""How the lock begins that the jobs of a service share."""

PRIORITIES = {Lane.NOW: 2, Lane.DUE: 1, Lane.INTERVAL: 0}
BEAT_SECONDS = 1.0
POLL_SECONDS = 0.5
AGAIN_SECONDS = 1
"""After how long a job that was not made is made again."""

AGAIN = procrastinate.RetryStrategy(wait=AGAIN_SECONDS)
"""The same for a job that cannot be requeued because the server is away."""

WAIT_SECONDS = 5.0

for _name in ("procrastinate", "psycopg.pool"):  # their errors are reported once, by the callers here
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Ended:
    """A job that ended; `again` if it has to be made again."""

    job: Job
    again: bool = False


class Requeue(Exception):
    """A job has to be made again: by another member, or when the state can be written to."""


class Jobs:
    """The jobs of one fleet. `connect` has arguments of a connection; `make` makes a job, and may raise `Requeue`."""

    def __init__(self, connect: Mapping[str, Any], make: Callable[[Arguments], Awaitable[None]]) -> None:
        url, kwargs = connect["conninfo"], {name: value for name, value in connect.items() if name != "conninfo"}
        connector = procrastinate.PsycopgConnector(
            conninfo=url, kwargs=kwargs, min_size=1, max_size=4, timeout=WAIT_SECONDS, reconnect_timeout=WAIT_SECONDS
        )
        self._app = procrastinate.App(connector=connector)

        async def run(context: JobContext, /, **given: Any) -> None:
            ended = _Ended(context.job)
            if (task := asyncio.current_task()) is not None:
                task.add_done_callback(partial(self._note_unwritten, ended))
            try:
                await make(given)
            except Requeue:  # not by retry: if the same job waits, that fails and leaves this one "doing"
                if not await self.put(slice_of(given), given, after=AGAIN_SECONDS):
                    ended.again = True
                    raise

        self._task = self._app.task(name="slice", queue=QUEUE, retry=AGAIN, pass_context=True)(run)
        self._open = False
        self._unwritten: list[_Ended] = []
        """Jobs that ended here and may still stand as `doing`. Their worker lives, so no other member requeues them."""

    async def open(self) -> None:
        """Connect, and create the tables if they are missing. Raises one of `FAULTS`."""
        await asyncio.wait_for(self._app.open_async(), 2 * WAIT_SECONDS)
        if not await self._has_tables():
            try:
                await self._app.schema_manager.apply_schema_async()
            except FAULTS:
                if not await self._has_tables():  # another member that started at the same time was quicker
                    raise
        self._open = True

    async def _has_tables(self) -> bool:
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
        """Queue a slice, to be made in `after` seconds or later; False if the server is away.

        One that waits already is not queued again.
        """
        if not self._open:
            return False
        job = self._task.configure(
            lock=f"{SERVICE}{item.service}",
            queueing_lock=_queueing_lock(item, given),
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

    async def work(self, concurrency: int) -> None:
        """Make jobs, `concurrency` at a time, until cancelled; then await those under way, however long they take.

        Raises one of `FAULTS`.
        """
        await self._app.run_worker_async(
            queues=[QUEUE],
            concurrency=concurrency,
            fetch_job_polling_interval=POLL_SECONDS,
            delete_jobs="always",
            install_signal_handlers=False,
            update_heartbeat_interval=BEAT_SECONDS,
            stalled_worker_timeout=STALL_SECONDS,
        )

    async def rescue(self) -> None:
        """Requeue the jobs of members that died, and write how jobs ended where that failed. Raises one of `FAULTS`."""
        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALL_SECONDS):
            await self._end(job, again=True)
        for each in tuple(self._unwritten):
            if await manager.list_jobs_async(id=each.job.id, status="doing", worker_id=each.job.worker_id):
                await self._end(each.job, again=each.again)  # and look again the next time
            else:
                self._unwritten.remove(each)

    async def _end(self, job: Job, *, again: bool) -> None:
        """Requeue a job, unless the same one waits; delete it if it need not be made again."""
        assert job.id is not None
        manager = self._app.job_manager
        with suppress(ConnectorException):  # another member was quicker, or the server is away
            if again:
                with suppress(UniqueViolation):
                    await manager.retry_job_by_id_async(job.id, utcnow())
                    return
            await manager.finish_job_by_id_async(job.id, JobStatus.FAILED, delete_job=True)

    def _note_unwritten(self, ended: _Ended, task: asyncio.Task[Any]) -> None:
        """Note a job whose task failed: procrastinate could not write how it ended."""
        if not task.cancelled() and task.exception() is not None:
            self._unwritten.append(ended)


def arguments(item: Slice, revision: str, reading: str | None) -> Arguments:
    """Write a slice as the arguments of a job; `reading` names the listings that it shares with others."""
    chosen = item.request.selection
    return {
        "service": item.service,
        "lane": item.lane,
        "why": item.request.why,
        "released": item.request.released,
        "partial": item.request.partial,
        "revision": revision,
        "reading": reading,
        "queued_at": item.queued_at.isoformat(),
        "hires": None if chosen.hires is None else sorted(chosen.hires),
        "integrations": None if chosen.integrations is None else sorted(chosen.integrations),
        "grants": None if chosen.grants is None else sorted([key.hire, key.access] for key in chosen.grants),
        "without": sorted(chosen.without),
    }


def signed(given: Arguments, vault: Vault) -> Arguments:
    """Sign a job by the state's key."""
    return {**given, "mac": vault.mac(_as_said(given))}


def is_signed(given: Arguments, vault: Vault) -> bool:
    """Whether a member made a job: a role of the database can insert one."""
    code, made = vault.mac(_as_said(given)), given.get("mac")
    return code is not None and isinstance(made, str) and hmac.compare_digest(code, made)


def _as_said(given: Arguments) -> bytes:
    """Return what the code of a job is of: all of its arguments."""
    return json.dumps({name: value for name, value in given.items() if name != "mac"}, sort_keys=True).encode()


def slice_of(given: Arguments) -> Slice:
    """Read a slice from a job's arguments, without its listings."""
    grants = given["grants"]
    selection = Selection(
        hires=None if given["hires"] is None else frozenset(given["hires"]),
        integrations=None if given["integrations"] is None else frozenset(given["integrations"]),
        grants=None if grants is None else frozenset(Key(hire, access) for hire, access in grants),
        without=frozenset(given["without"]),
    )
    partial = given.get("partial", True)  # a job of a member of an older version does not have it
    released = str(given["released"]) if given["released"] else None  # such a one does not say who
    request = PassRequest(selection, given["why"], released, partial)
    return Slice(given["service"], request, Lane(given["lane"]), datetime.fromisoformat(given["queued_at"]))


def _queueing_lock(item: Slice, given: Arguments) -> str | None:
    """Return a key that slices share if one waiting slice is enough for all; None if each is needed.

    A slice of the interval's lane may be a part of a sweep over a revision, or of one that overrides the guard.
    """
    match item.lane:
        case Lane.NOW:
            return None
        case Lane.DUE:
            return f"due/{item.service}"
        case Lane.INTERVAL:
            chosen = json.dumps([given[name] for name in ("hires", "integrations", "grants", "without")])
            digest = sha256(chosen.encode()).hexdigest()
            asked = f"{item.request.released}/{item.request.partial}"
            return f"interval/{item.service}/{given['revision']}/{asked}/{digest}"
