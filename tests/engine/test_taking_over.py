"""Who gave what, written down as a revision is taken over: in pieces, of which a crash may lose the last ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from reconciler.ledger.writer import LedgerWriter
from reconciler.model.given import Given
from reconciler.model.grant import Key
from tests.engine.harness import Machine, dying
from tests.repo import Repo

HIRES = [f"h{number:02}" for number in range(25)]


def test_who_gave_what_is_written_in_pieces(machine: Machine, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.reconcile()
    for hire in HIRES:
        repo.hire(hire, "tool")
    revision = repo.commit()
    monkeypatch.setattr("reconciler.engine.reconciler.GIVEN_AT_A_TIME", 10)
    monkeypatch.setattr("reconciler.requests.tasks.SLICE_SECONDS", 0.0)
    with dying(LedgerWriter, "give", nth=2):
        machine.reconcile()
    with machine.ledger() as ledger:
        assert (len(ledger.given(HIRES)), ledger.given_up_to() == revision) == (10, False)
    give, pieces, turn = LedgerWriter.give, list[tuple[int, int]](), 0

    def given(self: LedgerWriter, some: Iterable[tuple[Key, Given]], *revision: str) -> None:
        pieces.append((turn, len(list(some))))
        give(self, some, *revision)

    async def counting(work: Any) -> Any:
        nonlocal turn
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            turn += 1
        return await task

    run = asyncio.run
    monkeypatch.setattr(LedgerWriter, "give", given)
    monkeypatch.setattr("asyncio.run", lambda work: run(counting(work)))
    machine.reconcile()
    assert [size for _, size in pieces] == [10, 10, 5]
    assert len({turn for turn, _ in pieces}) == 3
    with machine.ledger() as ledger:
        assert ledger.given_up_to() == revision
        assert {each.granted_in for each in ledger.given(HIRES).values()} == {revision}
        assert len(ledger.given(HIRES)) == len(HIRES)
