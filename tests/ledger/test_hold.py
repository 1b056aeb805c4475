"""Who holds the state, and reading it beside them without changing a byte."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.ledger.hold import hold, holder
from reconciler.ledger.store import Ledger
from reconciler.model.errors import HeldError
from reconciler.model.grant import Key, Record

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
STATE = "sqlite:///.reconciler/state.db"


def record(stem: str) -> Record:
    return Record(key=Key(stem, "tool"), email=f"{stem}@example.com", integration="tool", service="tool", source="x:1")


@contextmanager
def other_process(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Holds the state, has written ada and leaves her in the write-ahead log, until it is told to end."""
    program = f"""
        import sys
        from datetime import UTC, datetime
        from pathlib import Path
        from reconciler.ledger.hold import hold
        from reconciler.ledger.store import Ledger
        from reconciler.model.grant import Key, Record

        root = Path({str(root)!r})
        with hold(root / ".reconciler" / "state.db", "reconcile daemon", datetime.now(UTC)):
            ledger = Ledger.open({STATE!r}, root)
            ledger.save([Record(Key("ada", "tool"), "ada@example.com", "tool", "tool", "x:1")])
            print("held", flush=True)
            sys.stdin.readline()
            ledger.close()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def bytes_in(folder: Path) -> dict[str, str]:
    """The index of the log is left out where somebody writes: it is where SQLite's processes meet, not the ledger."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def read(root: Path) -> list[str]:
    with Ledger.reading(STATE, root) as ledger:
        return [found.key.hire for found in ledger.records()]


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


def test_reading_beside_a_holder(tmp_path: Path) -> None:
    with other_process(tmp_path):
        before = bytes_in(tmp_path / ".reconciler")
        assert (tmp_path / ".reconciler" / "state.db-wal").stat().st_size > 0
        assert read(tmp_path) == ["ada"], "what stands in the log counts"
        after = bytes_in(tmp_path / ".reconciler")
        assert {**after, "state.db-shm": ""} == {**before, "state.db-shm": ""}


def test_reading_what_was_closed(tmp_path: Path) -> None:
    with other_process(tmp_path):
        pass
    before = bytes_in(tmp_path / ".reconciler")
    assert set(before) == {"state.db", "state.db.lock"}
    assert read(tmp_path) == ["ada"]
    assert bytes_in(tmp_path / ".reconciler") == before


def test_reading_what_a_crash_left(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    before = bytes_in(tmp_path / ".reconciler")
    assert "state.db-wal" in before
    assert read(tmp_path) == ["ada"]
    assert bytes_in(tmp_path / ".reconciler") == before
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        assert [found.key.hire for found in ledger.records()] == ["ada"]


def test_reading_where_there_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_reading_says_whether_somebody_is_at_it(tmp_path: Path) -> None:
    with other_process(tmp_path), Ledger.reading(STATE, tmp_path) as ledger:
        assert not ledger.unattended
    with Ledger.reading(STATE, tmp_path) as ledger:
        assert ledger.unattended
