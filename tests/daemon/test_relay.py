"""A member of a fleet tells the leader of pushes: at once, and however many come, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.daemon import fetching
from reconciler.daemon.fetching import PushRelay
from reconciler.daemon.runtime import ProblemLog
from reconciler.engine.context import SystemClock
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LedgerError
from tests.daemon.running import until


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    with closing(StateLocation("sqlite:///state.db", tmp_path).writer()) as made:
        yield made


class Members:
    """A leader and another member, on one state; `fetched` counts what the leader fetches."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self.fetched = 0
        self.clock = SystemClock()
        self.problems = ProblemLog()
        self._tasks: set[asyncio.Task[None]] = set()
        self.leader, self.other = (self._relay(ledger, leads=leads) for leads in (True, False))

    def _relay(self, ledger: LedgerWriter, *, leads: bool) -> PushRelay:
        runner = SimpleNamespace(exclusive=False, leads=leads)
        runtime = SimpleNamespace(
            ledger=OpenLedger(ledger), clock=self.clock, problems=self.problems, spawn=self._spawn
        )
        return PushRelay(cast("Any", runtime), cast("Any", runner), self._fetch)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    def _fetch(self) -> None:
        self.fetched += 1

    async def stop(self) -> None:
        self.clock.stopping.set()
        await asyncio.gather(*self._tasks)


def test_a_flood_is_told_to_the_leader_twice(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TELL_SECONDS", 0.1)
    written: list[bytes] = []
    put = ledger.notes.put

    def put_note(name: str, value: bytes) -> None:
        written.append(value)
        put(name, value)

    monkeypatch.setattr(ledger.notes, "put", put_note)

    async def walk() -> None:
        now = Members(ledger)
        await now.leader.look()
        now.leader.tell()
        for _ in range(10_000):
            now.other.tell()
        await until(lambda: written)
        await now.leader.look()
        await now.leader.look()
        assert now.fetched == 1
        for _ in range(10_000):
            now.other.tell()
        await until(lambda: len(written) == 2)
        await now.leader.look()
        assert now.fetched == 2
        await now.stop()
        assert len(written) == 2

    asyncio.run(walk())


def test_what_was_told_before_a_member_leads_is_not_fetched_again(ledger: LedgerWriter) -> None:
    async def walk() -> None:
        now = Members(ledger)
        now.other.tell()
        await until(lambda: ledger.notes.get(fetching.PUSHED))
        await now.leader.look()
        assert now.fetched == 0
        await now.stop()

    asyncio.run(walk())


def test_a_state_that_is_away_is_a_problem_and_the_next_push_is_told(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, failing = ledger.notes.put, [LedgerError("away")]

    def put_note(name: str, value: bytes) -> None:
        if failing:
            raise failing.pop()
        put(name, value)

    monkeypatch.setattr(ledger.notes, "put", put_note)

    async def walk() -> None:
        now = Members(ledger)
        await now.leader.look()
        now.other.tell()
        await until(lambda: not failing)
        now.other.tell()
        await until(lambda: ledger.notes.get(fetching.PUSHED))
        await now.leader.look()
        assert now.fetched == 1
        await now.stop()

    asyncio.run(walk())
