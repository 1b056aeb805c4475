"""A ledger to write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger.store import Ledger
from tests.ledger.states import STATE


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(STATE, tmp_path)) as opened:
        yield opened
