"""A state is opened only where nobody else can write: not for reading either, and not its lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sqlite.lock import StateLock
from reconciler.model.errors import LedgerError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "state.db"
    StateLocation(f"sqlite:///{path}", tmp_path).writer().close()
    with StateLock(path).acquire("test", datetime.now(UTC)):
        pass
    return path


def open_(state: Path) -> None:
    StateLocation(f"sqlite:///{state}", state.parent).writer().close()


def read(state: Path) -> None:
    with StateLocation(f"sqlite:///{state}", state.parent).reader():
        pass


def take(state: Path) -> None:
    with StateLock(state).acquire("test", datetime.now(UTC)):
        pass


def everybodys(state: Path) -> str:
    state.parent.chmod(0o777)
    return "can be written to by others.*chmod 700"


def a_groups(state: Path) -> str:
    state.parent.chmod(0o770)
    return "can be written to by others.*chmod 700"


def a_link(state: Path) -> str:
    there = state.parent.rename(state.parent.with_name("elsewhere"))
    state.parent.symlink_to(there)
    return "is a link to .*rm "


def a_linked_lock(state: Path) -> str:
    lock = state.with_name("state.db.lock")
    lock.rename(lock.with_name("other"))
    lock.symlink_to("other")
    return r"state.db.lock is a link: remove it \(rm "


def a_linked_file(state: Path) -> str:
    there = state.rename(state.with_name("other.db"))
    state.symlink_to(there)
    return "state.db is a link"


def a_linked_log(state: Path) -> str:
    state.with_name("state.db-wal").symlink_to("nowhere")
    return "state.db-wal is a link"


def anothers(state: Path) -> str:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(state.parent, 12345, -1)
    return "belongs to another user.*chown 0"


WRONG = [everybodys, a_groups, a_link, a_linked_lock, a_linked_file, a_linked_log, anothers]


@pytest.mark.parametrize("use", [open_, read, take])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_state_that_others_can_reach_is_refused_with_how_to_mend_it(
    state: Path, wrong: Callable[[Path], str], use: Callable[[Path], None]
) -> None:
    use(state)
    says = wrong(state)
    with pytest.raises(LedgerError, match=says):
        use(state)


def test_linked_lock_file_names_no_owner(state: Path) -> None:
    a_linked_lock(state)
    assert StateLock(state).owner() is None


def test_a_folder_that_others_read_is_only_read_by_them(state: Path) -> None:
    state.parent.chmod(0o755)
    for use in (open_, read, take):
        use(state)
