"""Jobs before all members: none is lost, and none keeps a service for good."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from reconciler.daemon.fleet.jobs import Arguments, Jobs, Requeue, arguments, slice_of
from reconciler.daemon.slices import Lane, Slice
from reconciler.ledger.postgres import reading as postgres
from reconciler.ledger.postgres.reading import SCHEMA, Server
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.value import replace
from tests.postgres import Databases

ADA = PassRequest(Selection(hires=frozenset({"ada"})), "due")
DUE = Slice("asana", ADA, Lane.DUE, datetime(2026, 1, 1, tzinfo=UTC))
FIRST, SECOND = "1" * 40, "2" * 40


@asynccontextmanager
async def idle(url: str) -> AsyncIterator[Jobs]:
    """A member's jobs, of which it makes none."""

    async def make(given: Arguments) -> None:
        raise AssertionError(given)

    jobs = Jobs(Server(url).arguments(), make)
    await jobs.open()
    yield jobs
    await jobs.close()


@asynccontextmanager
async def working(url: str, make: Callable[[Arguments], Awaitable[None]]) -> AsyncIterator[Jobs]:
    """A member's jobs, with a worker for as long as the block runs."""
    jobs = Jobs(Server(url).arguments(), make)
    await jobs.open()
    worker = asyncio.create_task(jobs.work(1))
    try:
        yield jobs
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await jobs.close()


def left(databases: Databases, url: str) -> list[str]:
    """The jobs that are there, by status."""
    query = "select status::text from reconciler.procrastinate_jobs order by status"
    return [row[0] for row in databases.execute(query, name_of(url))]


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def test_job_is_made_again_though_the_same_was_put_meanwhile(databases: Databases) -> None:
    async def run(url: str) -> list[str]:
        made: list[str] = []
        twice = asyncio.Event()

        async def make(given: Arguments) -> None:
            made.append(given["revision"])
            if len(made) == 1:
                assert await jobs.put(DUE, arguments(DUE, FIRST, None))
                raise Requeue
            twice.set()

        async with working(url, make) as jobs:
            assert await jobs.put(DUE, arguments(DUE, FIRST, None))
            await asyncio.wait_for(twice.wait(), 20)
        return made

    with databases.made() as url:
        assert asyncio.run(run(url)) == [FIRST, FIRST]
        assert left(databases, url) == []


def test_job_of_a_dead_member_is_put_back_though_the_same_was_put_meanwhile(databases: Databases) -> None:
    async def run(url: str) -> None:
        async with idle(url) as jobs:
            for item in (DUE, replace(DUE, service="slack")):
                assert await jobs.put(item, arguments(item, FIRST, None))
            begin = "set search_path = reconciler; update procrastinate_jobs set status = 'doing'"  # by nobody alive
            databases.execute(begin, name_of(url))
            assert await jobs.put(DUE, arguments(DUE, FIRST, None))
            await jobs.rescue()

    with databases.made() as url:
        asyncio.run(run(url))
        assert left(databases, url) == ["todo", "todo"]


def test_job_whose_end_cannot_be_written_keeps_no_other_waiting(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK", timedelta(seconds=0.1))
    other = replace(DUE, lane=Lane.NOW)

    async def run(url: str) -> list[str]:
        made: list[str] = []
        tasks: list[asyncio.Task[Any] | None] = []
        with psycopg.connect(url, options=f"-c search_path={SCHEMA}") as holder:

            async def make(given: Arguments) -> None:
                made.append(given["lane"])
                tasks.append(asyncio.current_task())
                if len(made) == 1:
                    holder.execute("select id from procrastinate_jobs for update")

            async with working(url, make) as jobs:
                for item in (other, DUE):
                    assert await jobs.put(item, arguments(item, FIRST, None))
                async with asyncio.timeout(20):
                    while not (tasks and tasks[0] and tasks[0].done()):  # noqa: ASYNC110  it is the worker's own
                        await asyncio.sleep(0.02)
                    holder.rollback()
                    while len(made) < 2:
                        await jobs.rescue()
                        await asyncio.sleep(0.02)
        return made

    with databases.made() as url:
        assert asyncio.run(run(url)) == ["now", "due"], "what was made is not made again"
        assert left(databases, url) == []


@pytest.mark.parametrize("partial", [False, True])
def test_slice_comes_out_of_a_job_as_it_went_in(*, partial: bool) -> None:
    item = replace(DUE, request=replace(DUE.request, partial=partial))
    assert slice_of(json.loads(json.dumps(arguments(item, FIRST, None)))) == item


def test_job_of_a_member_of_an_older_version_is_read() -> None:
    given = {name: value for name, value in arguments(DUE, FIRST, None).items() if name != "partial"}
    assert slice_of(given) == replace(DUE, request=replace(DUE.request, partial=True))


def test_slices_over_other_integrations_of_a_service_wait_beside_each_other(databases: Databases) -> None:
    """`--yes-really --integration mail --integration chat` are two sweeps over the same hires."""

    def over(**chosen: Any) -> Slice:
        selection = replace(ADA.selection, **{name: frozenset(values) for name, values in chosen.items()})
        return replace(DUE, lane=Lane.INTERVAL, request=PassRequest(selection, "released", released="ida@here"))

    async def run(url: str) -> None:
        async with idle(url) as jobs:
            for item in (over(integrations=["mail"]), over(integrations=["chat"]), over(without=["chat"]), over()):
                assert await jobs.put(item, arguments(item, FIRST, None))

    with databases.made() as url:
        asyncio.run(run(url))
        assert left(databases, url) == ["todo"] * 4


def test_part_of_a_sweep_waits_beside_one_of_another_revision_or_released(databases: Databases) -> None:
    part = replace(DUE, lane=Lane.INTERVAL)
    freed = replace(part, request=replace(part.request, released="ida@here"))
    alike = [  # by a checksum
        replace(part, request=replace(part.request, selection=Selection(hires=frozenset({name}))))
        for name in ("aspjwwk", "rnrsgud")
    ]

    async def run(url: str) -> None:
        async with idle(url) as jobs:
            put = ((part, FIRST), (part, FIRST), (part, SECOND), (freed, SECOND), (alike[0], FIRST), (alike[1], FIRST))
            for item, revision in put:
                assert await jobs.put(item, arguments(item, revision, None))

    with databases.made() as url:
        asyncio.run(run(url))
        assert left(databases, url) == ["todo"] * 5
