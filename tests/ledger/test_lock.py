"""Who holds the state: one process at a time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from reconciler.ledger.sqlite.lock import StateLock
from reconciler.model.errors import StateLockedError
from tests.ledger.states import NOW, other_process


def test_lock_is_exclusive_and_names_its_owner(tmp_path: Path) -> None:
    state = tmp_path / ".reconciler" / "state.db"
    assert StateLock(state).owner() is None
    with other_process(tmp_path) as process:
        assert f"`reconcile daemon` (process {process.pid} on " in (StateLock(state).owner() or "")
        told = rf"process {process.pid} on .*, since 20"
        with pytest.raises(StateLockedError, match=told), StateLock(state).acquire("second", NOW):
            pytest.fail("two hold it")
    assert StateLock(state).owner() is None
    with StateLock(state).acquire("third", NOW):
        pass


@pytest.mark.parametrize("content", [b"", b'{"pid": 12, "ho', b"\x00" * 64, b"[]", b"\xff"])
def test_a_torn_line_of_who_holds_it_neither_lets_a_second_in_nor_stops_the_next(
    tmp_path: Path, content: bytes
) -> None:
    state = tmp_path / ".reconciler" / "state.db"
    with other_process(tmp_path):
        state.with_name("state.db.lock").write_bytes(content)
        assert StateLock(state).owner() == "another process"
        with pytest.raises(StateLockedError, match="held by another process"), StateLock(state).acquire("second", NOW):
            pytest.fail("two hold it")
    assert StateLock(state).owner() is None
    with StateLock(state).acquire("next", NOW):
        assert f"(process {os.getpid()} on" in str(StateLock(state).owner())


def test_the_kernel_frees_it_when_the_holder_dies(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with StateLock(tmp_path / ".reconciler" / "state.db").acquire("next", NOW):
            assert str(os.getpid()) in (StateLock(tmp_path / ".reconciler" / "state.db").owner() or "")


def test_looking_who_holds_it_changes_nothing(tmp_path: Path) -> None:
    assert StateLock(tmp_path / ".reconciler" / "state.db").owner() is None
    assert list(tmp_path.iterdir()) == []
