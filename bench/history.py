"""The history of years: what a checkpoint over it costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from reconciler.ledger.chain import leaf, root_of
from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Key
from reconciler.model.status import EventType
from reconciler.secrets.checkpoint import Checkpoint, SigningKey

LINES, AT_ONCE = 1_000_000, 20_000


def checkpointed() -> Iterator[tuple[float, float]]:
    """Milliseconds of a signed checkpoint over a million lines, against hashing all of them."""
    key = SigningKey(SigningKey.new("access-reconciler/bench"))
    with (
        tempfile.TemporaryDirectory() as name,
        closing(StateLocation("sqlite:///state.db", Path(name)).writer()) as ledger,
    ):
        line = Event(datetime.now(UTC), Key("ada", "tool"), "tool", EventType.BLOCKED)
        for _ in range(LINES // AT_ONCE):
            ledger.save((), [line] * AT_ONCE)
            ledger.history.keep_tree()
        digests = [found.digest or "" for found in ledger.history.lines()]
        while True:
            began = time.perf_counter()
            lines, root = ledger.history.tree()
            key.sign(Checkpoint("access-reconciler/bench", lines, root).text)
            mine = time.perf_counter() - began
            began = time.perf_counter()
            assert root == root_of(map(leaf, digests))
            yield 1000 * mine, 1000 * (time.perf_counter() - began)
