"""A ledger to write to, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from tests.ledger.states import STATE


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateLocation]:
    """A state that is there, with nothing in it."""
    if request.param == "sqlite":
        made = StateLocation(STATE, tmp_path)
        made.writer().close()
        yield made
        return
    with request.getfixturevalue("databases").made() as url:
        yield StateLocation(url, tmp_path)


@pytest.fixture
def ledger(location: StateLocation) -> Iterator[LedgerWriter]:
    with closing(location.writer()) as opened:
        yield opened
