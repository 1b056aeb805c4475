"""Who holds the state: one process at a time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from reconciler.ledger.hold import hold, holder
from reconciler.model.errors import HeldError
from tests.ledger.states import NOW, other_process


def test_one_at_a_time_and_who_it_is(tmp_path: Path) -> None:
    state = tmp_path / ".reconciler" / "state.db"
    assert holder(state) is None
    with other_process(tmp_path) as process:
        assert f"`reconcile daemon` (process {process.pid} on " in (holder(state) or "")
        with pytest.raises(HeldError, match=rf"process {process.pid} on .*, since 20"), hold(state, "second", NOW):
            pytest.fail("two hold it")
    assert holder(state) is None
    with hold(state, "third", NOW):
        pass


@pytest.mark.parametrize("content", [b"", b'{"pid": 12, "ho', b"\x00" * 64, b"[]", b"\xff"])
def test_a_torn_line_of_who_holds_it_neither_lets_a_second_in_nor_stops_the_next(
    tmp_path: Path, content: bytes
) -> None:
    state = tmp_path / ".reconciler" / "state.db"
    with other_process(tmp_path):
        state.with_name("state.db.lock").write_bytes(content)
        assert holder(state) == "another process"
        with pytest.raises(HeldError, match="held by another process"), hold(state, "second", NOW):
            pytest.fail("two hold it")
    assert holder(state) is None
    with hold(state, "next", NOW):
        assert f"(process {os.getpid()} on" in str(holder(state))


def test_the_kernel_frees_it_when_the_holder_dies(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        with hold(tmp_path / ".reconciler" / "state.db", "next", NOW):
            assert str(os.getpid()) in (holder(tmp_path / ".reconciler" / "state.db") or "")


def test_looking_who_holds_it_changes_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path / ".reconciler" / "state.db") is None
    assert list(tmp_path.iterdir()) == []
