"""`reconcile state copy`: to a server and back, whole or not at all (docs/how-to/from-one-to-a-fleet.md).

`reconcile state backup`: into a file, beside who has the state (docs/how-to/back-up.md).
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.ledger.vault import Memory
from reconciler.model.grant import Key
from reconciler.model.status import EventType
from reconciler.secrets.gpg import Gnupg
from tests.cli.conftest import Call
from tests.ledger.states import ADA, NOW, attempt, change, other_process, step
from tests.postgres import Databases
from tests.repo import Repo

FILE = "sqlite:///.reconciler/state.db"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.settings(state=FILE)
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    made.commit()
    return made


@pytest.fixture
def server(databases: Databases, tmp_path: Path) -> Iterator[StateLocation]:
    with databases.made("empty") as url:
        yield StateLocation(url, tmp_path)


@pytest.fixture
def state(repo: Repo) -> StateLocation:
    """One grant with an attempt, 1,500 lines of history, an answer that was kept as a file, a command."""
    location = StateLocation(FILE, repo.root)
    with closing(location.writer()) as ledger:
        begun = ledger.attempts.begin(ADA, attempt(), [])
        ledger.attempts.sending(begun, step(0), "POST", "https://example.com/users", NOW)
        lines = (Event(NOW, Key(f"h{number}", "tool"), "tool", EventType.ADOPTED) for number in range(1500))
        ledger.save([ADA], lines)
        ledger.commands.enqueue("retry", now=NOW, by="ida@here", hire="ada")
        vault = open_vault(ledger, Gnupg(None), Trust())
        name = vault.keep(ledger, b"an answer")
        ledger.notes.put("file", name.encode())
        ledger.save((), kept=vault.remember(ADA.key, Memory(files={"it": name})))
    return location


def contents(location: StateLocation) -> object:
    """All that readers are told."""
    with location.reader() as ledger:
        return (
            list(ledger.grants.records()),
            list(ledger.history.lines()),
            ledger.attempts.of(ADA.key),
            ledger.commands.waiting(),
            ledger.history.verify(),
            ledger.notes.get("file"),
        )


def test_backup_beside_a_process_that_writes_is_a_whole_private_state(repo: Repo, call: Call, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with other_process(repo.root):
        done = call(repo, "state", "backup", str(copy))
    assert (done.code, done.out, done.err) == (0, f"copied to {copy}\n", "")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with StateLocation(f"sqlite:///{copy}", repo.root).reader() as ledger:
        assert list(ledger.grants.records()) == [ADA], "which is in the write-ahead log only"
    refused = call(repo, "state", "backup", str(copy))
    assert (refused.code, "is there already, and is not written over" in refused.err) == (1, True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "repo"]


def test_backup_says_what_to_do_where_it_cannot(repo: Repo, call: Call, tmp_path: Path, server: StateLocation) -> None:
    there = str(tmp_path / "copy.db")
    nothing = call(repo, "state", "backup", there)
    assert (nothing.code, "has no state: nothing was copied" in nothing.err) == (1, True)
    repo.state.parent.mkdir(mode=0o700)
    repo.state.write_text("not a database" * 1000)
    damaged = call(repo, "state", "backup", there)
    assert damaged.err.startswith("error: the ledger: file is not a database: restore the state's file from a backup")
    repo.settings(state=server.url)
    repo.commit()
    on_a_server = call(repo, "state", "backup", there)
    assert (on_a_server.code, f"pg_dump --format=custom --schema=reconciler --file={there}" in on_a_server.err) == (
        1,
        True,
    )
    assert not Path(there).exists()


def test_copy_to_a_server_and_back_is_the_same(
    repo: Repo, state: StateLocation, server: StateLocation, call: Call
) -> None:
    before = contents(state)
    done = call(repo, "state", "copy", FILE, server.url)
    assert (done.code, done.err) == (0, "")
    assert f"copied to {server}: 1 grant, 1500 lines of the history, which are whole" in done.out
    assert "Set `state` in config/reconciler.yaml" in done.out
    assert contents(server) == before
    with closing(server.writer()) as ledger:
        vault = open_vault(ledger, Gnupg(None), Trust())
        name = (ledger.notes.get("file") or b"").decode()
        vault.sweep(ledger)
        assert vault.files(ledger, {"it": name}) == {"it": b"an answer"}
        assert ledger.attempts.begin(ADA, attempt(), []).id == 2, "numbers go on where they were"

    back = "sqlite:///.reconciler/back.db"
    done = call(repo, "state", "copy", server.url, back, "--output", "json")
    assert done.code == 0
    assert json.loads(done.out) | {"digest": ""} == {
        "from": server.url,
        "to": str(repo.root / ".reconciler" / "back.db"),
        "grants": 1,
        "lines": 1500,
        "digest": "",
    }
    assert contents(StateLocation(back, repo.root)) == contents(server)
    assert sorted(path.name for path in (repo.root / ".reconciler").glob("*.part*")) == []


def test_place_that_has_a_state_is_not_written_over(
    repo: Repo, state: StateLocation, server: StateLocation, call: Call
) -> None:
    assert call(repo, "state", "copy", FILE, server.url).code == 0
    before = contents(server)
    for there in (server.url, "sqlite:///.reconciler/other.db"):
        if there.startswith("sqlite"):
            StateLocation(there, repo.root).writer().close()
        done = call(repo, "state", "copy", FILE, there)
        assert done.code == 1
        assert "not written over" in done.err
    assert contents(server) == before


def test_history_that_is_not_whole_leaves_nothing(
    repo: Repo, state: StateLocation, server: StateLocation, call: Call
) -> None:
    change(state, "UPDATE events SET detail = 'lost' WHERE id = 1200")
    for there in (server, StateLocation("sqlite:///.reconciler/other.db", repo.root)):
        done = call(repo, "state", "copy", FILE, there.url)
        assert done.code == 1
        assert f"nothing was copied, for the history of {state} is not whole: line 1200" in done.err
        assert not there.exists()


def test_locked_state_is_not_copied(repo: Repo, state: StateLocation, server: StateLocation, call: Call) -> None:
    with other_process(repo.root):
        done = call(repo, "state", "copy", FILE, server.url)
    assert done.code == 1
    assert "is held by `reconcile daemon`" in done.err
    assert not server.exists()


@pytest.mark.parametrize(
    ("source", "target", "code", "told"),
    [
        (FILE, FILE, 64, "FROM and TO are the same"),
        ("sqlite:///none.db", "sqlite:///other.db", 1, "none.db has no state: nothing was copied"),
        (FILE, "mysql://x", 64, "state is sqlite:///path or postgresql://user@host/database"),
        (FILE, "postgresql://me:haddock@db.example.com/x", 64, "a password does not belong here"),
        (FILE, "postgresql://me:had/dock@db.example.com/x", 64, "state names no server"),
    ],
)
def test_places_that_are_none(repo: Repo, call: Call, source: str, target: str, code: int, told: str) -> None:
    done = call(repo, "state", "copy", source, target)
    assert done.code == code
    assert told in done.err
    assert "had" not in done.err
    assert "dock" not in done.err


def test_server_is_refused_if_the_extra_is_not_installed(
    repo: Repo, state: StateLocation, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [each for each in sys.modules if each.startswith("reconciler.ledger.postgres.reading")]:
        monkeypatch.delitem(sys.modules, name)
    done = call(repo, "state", "copy", FILE, "postgresql://me@db.example.com/x")
    assert (done.code, done.out) == (1, "")
    assert "pip install 'access-reconciler[fleet]'" in done.err
