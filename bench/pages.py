"""The status pages over many people: how long one takes, and how long the daemon's own loop waits because of it."""

from __future__ import annotations

import asyncio
import http.client
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.world import folder
from reconciler.cli import many_objects
from reconciler.daemon.loop import Daemon
from reconciler.daemon.runtime import ActiveRevision, Runtime
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.run.accepted import in_force
from reconciler.engine.state import locking
from reconciler.ledger.entries import Event
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.secret import Redactor
from reconciler.model.status import EventType, Status
from reconciler.web.metrics import Metrics
from reconciler.web.pages import pages_of
from reconciler.web.serve import serving

PEOPLE, INTEGRATIONS = 10_000, 5
PAGES = (
    "/",
    "/people",
    "/people?page=200",
    "/people?status=failed&hire=99",
    "/people/p77",
    "/services/tool",
    "/services/tool?page=190",
    "/history",
    "/history?hire=p77&since=7d",
    "/history?page=900",
    "/privileged",
    "/reviews",
)
TIMES = 3
"""So often is each page asked for in a round."""

TICK = 0.001


def shown() -> Iterator[tuple[float, float]]:
    """Milliseconds of the slowest page, medians of a few; of a health check, which is a request and no page."""
    for slowest, health, _, _ in _rounds():
        yield 1000 * slowest, 1000 * health


def held_up() -> Iterator[tuple[float, float]]:
    """Milliseconds that the daemon's loop waited at most while pages were made; and while none was."""
    for _, _, waited, alone in _rounds():
        yield 1000 * waited, 1000 * alone


def _rounds() -> Iterator[tuple[float, float, float, float]]:
    many_objects()
    with tempfile.TemporaryDirectory() as name, closing(asyncio.new_event_loop()) as loop:
        root = folder(Path(name), "http://127.0.0.1:1", PEOPLE, settings=SETTINGS, integrations=INTEGRATIONS)
        rounds = _asked(root)
        try:
            while True:
                yield loop.run_until_complete(anext(rounds))
        finally:
            loop.run_until_complete(rounds.aclose())


SETTINGS = "interval: 1d\nlisten: 127.0.0.1:0\n"


async def _asked(root: Path) -> AsyncGenerator[tuple[float, float, float, float]]:
    async with _served(root) as address:
        while True:
            alone = await _longest(asyncio.sleep(1))
            took: dict[str, list[float]] = {}
            waited = await _longest(asyncio.to_thread(_ask, address, PAGES, took))
            await asyncio.to_thread(_ask, address, ("/healthz",), took)
            (health,) = (sorted(each)[TIMES // 2] for each in [took.pop("/healthz")])
            yield max(sorted(each)[TIMES // 2] for each in took.values()), health, waited, alone


async def _longest(work: object) -> float:
    """By how much the longest of many short waits of this loop was too long while something was done."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    longest = 0.0
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(TICK)
        longest = max(longest, time.perf_counter() - began - TICK)
    await task
    return longest


def _ask(address: str, paths: tuple[str, ...], took: dict[str, list[float]]) -> None:
    for path in paths * TIMES:
        connection = http.client.HTTPConnection(address, timeout=60)
        began = time.perf_counter()
        connection.request("GET", path)
        with closing(connection), connection.getresponse() as answer:
            answer.read()
            if answer.status != 200:
                raise AssertionError(f"{path}: {answer.status}")
        took.setdefault(path, []).append(time.perf_counter() - began)


@asynccontextmanager
async def _served(root: Path) -> AsyncIterator[str]:
    """The pages of a daemon that has nothing to do, over a ledger with everybody in it."""
    clock = SystemClock()
    context = Context(root, clock, Redactor())
    force = in_force(context)
    with locking(force, "bench") as held:
        await held.ledger.run(_fill)
        _ = force.desired  # as its first pass would have
        active = ActiveRevision(context, force.tree, force.settings, taken_over=True)
        daemon = Daemon(Runtime(clock, held, active), lambda *_: None)
        async with serving(pages_of(daemon, Metrics()), force.settings.listen) as address:
            yield address
    await context.aclose()


def _fill(ledger: LedgerWriter) -> None:
    now = datetime.now(UTC)
    names = ["tool", *(f"tool{number}" for number in range(1, INTEGRATIONS))]
    for name in names:
        records = [_record(number, name, now) for number in range(PEOPLE)]
        events = [Event(now - timedelta(days=8), record.key, name, EventType.ADOPTED, "found") for record in records]
        ledger.save(records, events)


def _record(number: int, name: str, now: datetime) -> Record:
    wrong = number % 100 == 99
    return Record(
        Key(f"p{number}", name),
        f"p{number}@example.com",
        name,
        name,
        f"hires/{number % 256:02x}/p{number}.yaml:5",
        phase=Phase.FAILED if wrong else Phase.CONFIRMED,
        status=Status.FAILED if wrong else Status.PRESENT,
        reason="request 1 of 1 (POST): answered 500" if wrong else "exists check: found",
        checked_at=now,
        confirmed_at=now,
    )
