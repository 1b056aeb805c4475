"""Long work in pieces: other tasks of the loop have their turn in between, and a crash may lose the last ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from reconciler.ledger.part_writers import WritableGivers
from reconciler.ledger.reader import Grants
from reconciler.model.attribution import Attribution, Unattributed
from reconciler.model.grant import Key
from tests.engine.harness import Machine, dying
from tests.repo import Repo

HIRES = [f"h{number:02}" for number in range(25)]


class Turns:
    """The turns of the loop in which pieces of work were done, with their sizes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pieces: list[tuple[int, int]] = []
        self._now = 0
        self._run = asyncio.run
        monkeypatch.setattr("reconciler.requests.tasks.SLICE_SECONDS", 0.0)
        monkeypatch.setattr("asyncio.run", lambda work: self._run(self._counting(work)))

    def piece(self, size: int) -> None:
        """Note a piece that is done now."""
        self.pieces.append((self._now, size))

    def sizes(self) -> list[int]:
        """The sizes of the pieces, of which no two were done in one turn."""
        assert len({turn for turn, _ in self.pieces}) == len(self.pieces)
        return [size for _, size in self.pieces]

    async def _counting(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            self._now += 1
        return await task


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


@pytest.fixture
def many(machine: Machine, repo: Repo) -> Machine:
    for hire in HIRES:
        repo.hire(hire, {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    return machine


def test_givers_are_written_in_pieces(many: Machine, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.engine.run.reconciler.LINES_AT_A_TIME", 10)
    with dying(WritableGivers, "save", nth=2):
        many.reconcile()
    revision = many.repo.git("rev-parse", "HEAD").strip()
    with many.ledger() as ledger:
        assert (len(ledger.given.of()), len(ledger.given.untraced()), ledger.given.up_to()) == (5, 21, revision)
    give = WritableGivers.save

    def given(self: WritableGivers, some: list[tuple[Key, Attribution]], traced: dict[str, Unattributed]) -> None:
        turns.piece(len(some) + len(traced))
        give(self, some, traced)

    monkeypatch.setattr(WritableGivers, "save", given)
    many.reconcile()
    assert turns.sizes() == [10, 10, 10, 10, 2]
    with many.ledger() as ledger:
        assert ledger.given.untraced() == {}
        assert {key.hire: each.granted_in for key, each in ledger.given.of(HIRES).items()} == dict.fromkeys(
            HIRES, revision
        )


def test_rows_of_a_slice_are_read_in_pieces(many: Machine, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    many.reconcile()
    monkeypatch.setattr("reconciler.engine.run.planning.FEW", 10)
    records = Grants.records

    def read(self: Grants, hires: Iterable[str] | None = None, *given: Any) -> Any:
        if given:
            turns.piece(len(set(hires or ())))
        return records(self, hires, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Grants, "records", read)
    report = many.reconcile(hires=HIRES, integrations=["tool"])
    assert turns.sizes() == [10, 10, 5]
    assert [(row.hire, row.reason) for row in report.rows] == [(hire, "exists check: found") for hire in HIRES]
