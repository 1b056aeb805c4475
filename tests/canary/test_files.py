"""What is left on the disk: modes whatever the umask, and no clear text in any file, after a kill either."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canary.canaries import leaks, value
from tests.repo import PROGRAM, Daemon, Repo, run_cli
from tests.servers import PATIENCE, AccountService, eventually


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    repo.write(".gitignore", ".reconciler/\n")
    repo.manifest("tool", accounts.manifest())
    asks = {"initial_data_form": [{"id": "TOKEN", "name": "Token"}], "headers": {"Authorization": "Bearer {{TOKEN}}"}}
    repo.manifest("tool", {**accounts.manifest(), **asks})
    repo.hire("ada", "tool")
    repo.initial_data("tool", {"TOKEN": value("TOKEN")})
    repo.commit()
    return repo


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


def test_state_is_private_with_any_umask(tool: Repo, umask: int) -> None:
    with Daemon(tool) as daemon:
        assert eventually((tool.root / ".reconciler/state.db-wal").exists)
        assert set(modes(tool.state.parent).values()) == {0o700, 0o600}
        daemon.terminate()
        found = modes(tool.state.parent)
        assert found.pop(".reconciler") == 0o700
        assert {"state.db", "state.db.lock"} <= found.keys()
        assert set(found.values()) == {0o600}


def test_a_state_that_came_from_a_backup_is_its_owners_again(tool: Repo) -> None:
    run_cli(tool)
    for name in ("state.db", "state.db.lock"):
        (tool.state.parent / name).chmod(0o644)
    run_cli(tool)
    assert set(modes(tool.state.parent).values()) <= {0o700, 0o600}


def test_encrypted_file_is_private_to_its_owner(tool: Repo, umask: int) -> None:
    (tool.root / "config/initial_data/tool.yaml.gpg").unlink()
    assert tool.gnupg is not None
    arguments = ("initial-data", "set", "tool", "--recipient", tool.gnupg.fingerprint)
    assert run_cli(tool, *arguments, input=json.dumps({"TOKEN": value("TOKEN")})).code == 0
    assert modes(tool.root / "config/initial_data")["tool.yaml.gpg"] == 0o600


# No clear text


def clear_text_in(*folders: Path) -> list[str]:
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found += [f"{path}: {leak}" for leak in leaks(path.read_bytes())]
    return found


@pytest.fixture
def slow_gpg(tmp_path: Path) -> Path:
    """A gpg that reads what it is given and then takes its time: the moment to end the program in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "gpg"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--version*|*--list-*) exec /usr/bin/env PATH="{os.environ["PATH"]}" gpg "$@";; esac\n'
        f'cat >/dev/null; touch "{folder}/busy"; exec sleep 20\n'
    )
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_kill_while_it_encrypts_leaves_no_clear_text(
    tool: Repo, slow_gpg: Path, tmp_path: Path, number: signal.Signals
) -> None:
    assert tool.gnupg is not None
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tool.root / "config/initial_data/tool.yaml.gpg").unlink()
    process = subprocess.Popen(
        [PROGRAM, "initial-data", "set", "tool", "--recipient", tool.gnupg.fingerprint],
        cwd=tool.root,
        env=tool.environment({"TMPDIR": str(temporary), "PATH": f"{slow_gpg}:{os.environ['PATH']}"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"TOKEN": value("TOKEN")}).encode())
    process.stdin.close()
    assert eventually((slow_gpg / "busy").exists)
    assert clear_text_in(tool.root, temporary) == []
    os.killpg(process.pid, number)
    process.wait(PATIENCE)
    assert clear_text_in(tool.root, temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_pass_and_a_crash_leave_no_clear_text(tool: Repo, accounts: AccountService, tmp_path: Path) -> None:
    assert tool.gnupg is not None
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary)}
    accounts.hang(None, method="POST")
    with Daemon(tool, env=env) as daemon:
        assert eventually(lambda: accounts.calls("POST"))
        daemon.kill9()
    for arguments in (("status",), ("explain", "ada", "tool"), ("--dry-run",)):
        run_cli(tool, *arguments, env=env)
    folders = [tool.root, temporary, Path(tool.gnupg.path)]
    assert clear_text_in(*folders) == []
    assert list(temporary.iterdir()) == []
