"""A ledger to write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger.opening import open_writer
from reconciler.ledger.writer import LedgerWriter
from tests.ledger.states import STATE


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    with closing(open_writer(STATE, tmp_path)) as opened:
        yield opened
