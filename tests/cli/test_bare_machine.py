"""What a machine lacks: git, gpg, a free port, room, the right to write. Words, a next step, and no traceback."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.cli.conftest import Call
from tests.repo import PROGRAM, Repo, Result, run_cli, start_cli
from tests.servers import AccountService

BASE = {
    "execute": [{"url": "https://api.example.com/u", "headers": {"Authorization": "Bearer {{TOKEN}}"}}],
    "initial_data_form": [{"id": "TOKEN", "name": "Token"}],
}


@pytest.fixture
def team(repo: Repo) -> Repo:
    repo.settings(git={"branch": "main"})
    repo.manifest("tool", BASE)
    repo.hire("ada", {"integration": "tool", "at": "2999-01-01"})
    repo.write("people.csv", "mail\neve@example.com\n")
    repo.write(".gitignore", "people.csv\n")
    repo.write("config/imports/hr.yaml", "file: people.csv\ndata_structure: {email: mail}\n")
    repo.initial_data("tool", {"TOKEN": "invented-token"})
    repo.commit()
    return repo


@pytest.fixture
def no_programs(tmp_path: Path) -> dict[str, str]:
    """A PATH on which there is neither git nor gpg."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin")}


NO_GPG = "gpg is not installed: install GnuPG"


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["initial-data", "set", "tool", "--recipient", "it@example.com"], "TOKEN: invented"),
        (["initial-data", "check"], ""),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_without_gpg(team: Repo, no_programs: dict[str, str], arguments: list[str], given: str) -> None:
    done = run_cli(team, *arguments, env=no_programs, input=given)
    assert done.code == 1
    assert NO_GPG in done.out + done.err


def test_only_a_grant_that_needs_gpg_is_blocked(team: Repo, call: Call, no_programs: dict[str, str]) -> None:
    team.hire("bob", "tool")
    team.commit()
    done = call(team, "--dry-run", "--output", "json", env=no_programs)
    assert (done.code, done.grant("ada", "tool")["status"]) == (1, "scheduled")
    held = done.grant("bob", "tool")
    assert held["status"] == "blocked"
    assert held["reason"].startswith(f"initial data TOKEN: config/initial_data/tool.yaml.gpg: {NO_GPG}")


def test_without_git_everything_but_fetching_and_signatures_goes_on(
    team: Repo, call: Call, no_programs: dict[str, str]
) -> None:
    for arguments in (["validate"], ["diff", "HEAD"], ["status"]):
        done = call(team, *arguments, env=no_programs)
        told = "no pass was made yet" if arguments == ["status"] else ""
        assert (done.code, done.err.partition(":")[0]) == (0, told), arguments


@pytest.mark.parametrize("command", [["status"], ["request", "list"]])
def test_without_certificates_what_speaks_to_nobody_goes_on(team: Repo, command: list[str]) -> None:
    none = dict.fromkeys(("SSL_CERT_FILE", "SSL_CERT_DIR"), "/nonexistent")
    done = begun(team, str(PROGRAM), *command, env=team.environment(none))
    assert done.code == 0, done.err


def test_demo_names_missing_programs(team: Repo, call: Call, no_programs: dict[str, str]) -> None:
    done = call(team, "demo", "--once", env=no_programs)
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: the demo needs git: install it (Debian: apt-get install git gnupg)\n"


def begun(repo: Repo, *command: str, env: dict[str, str], given: str = "") -> Result:
    """The program as its user begins it."""
    done = subprocess.run(command, cwd=repo.root, env=env, input=given, capture_output=True, text=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def test_import_commits_as_the_program_without_a_git_identity(team: Repo) -> None:
    team.git("config", "--unset", "user.name")
    team.git("config", "--unset", "user.email")
    nobody = team.environment({"HOME": "/nowhere", "EMAIL": ""})  # which libgit2 reads as it begins
    done = begun(team, str(PROGRAM), "import", "hr", "--branch", "import/hr", env=nobody)
    assert done.code == 2, done.err
    assert team.git("log", "-1", "--format=%an", "import/hr") == "access-reconciler"


@pytest.fixture
def taken(team: Repo) -> Iterator[str]:
    """A port that another program listens on, which `listen` names."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        team.settings(listen=listen)
        team.commit()
        yield listen


def test_a_port_in_use(team: Repo, taken: str) -> None:
    done = run_cli(team, "daemon")
    assert done.code == 1
    assert f"error: listen {taken}: Address already in use: free it, or set another `listen`\n" in done.err


def test_connect_with_its_port_in_use(team: Repo, taken: str) -> None:
    oauth = {"authenticate_url": "https://api.example.com/a", "access_token": {"url": "https://api.example.com/t"}}
    team.manifest("calendar", {"oauth": oauth, "execute": [{"url": "https://api.example.com/{{oauth.access_token}}"}]})
    team.commit()
    done = run_cli(team, "oauth", "connect", "calendar", "--timeout", "1")
    assert done.code == 1
    assert "if another program has that port, free it, or set another `listen`" in done.err


# --- places that cannot be written -----------------------------------------------------------------------------------

KEPT_OUT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
"""What takes from root the right that makes it no test of rights."""


def as_anybody(repo: Repo, *arguments: str, given: str = "") -> Result:
    """The program as a user whom the modes of files bind."""
    first: Sequence[str] = KEPT_OUT if os.geteuid() == 0 else ()
    if first and shutil.which("setpriv") is None:
        pytest.skip("modes do not bind root, and there is no setpriv that would let them")
    return begun(repo, *first, str(PROGRAM), *arguments, env=repo.environment(), given=given)


@pytest.fixture
def read_only(team: Repo) -> Iterator[Repo]:
    folders = [
        folder for folder in (team.root, *team.root.rglob("*")) if folder.is_dir() and ".git" not in folder.parts
    ]
    for folder in folders:
        folder.chmod(0o555)
    yield team
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init", "new"], "new cannot be written: Permission denied; run this as the user whose folder it is"),
        (["add", "github"], "manifests/github.yaml cannot be written: Permission denied; run this as the user"),
        (["import", "hr", "--write"], "/hires/eve.yaml cannot be written: Permission denied; run this as the user"),
        (
            ["initial-data", "set", "tool"],
            "config/initial_data/tool.yaml.gpg cannot be written: Permission denied; run",
        ),
        (["--yes"], "state.db.lock: Permission denied: the state's folder has to be writable"),
        (["daemon"], "state.db.lock: Permission denied: the state's folder has to be writable"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_folder_that_is_read_only(read_only: Repo, arguments: list[str], told: str) -> None:
    done = as_anybody(read_only, *arguments, given="TOKEN: another-token")
    assert done.code == 1
    assert told in done.err
    assert [line for line in done.err.splitlines() if line.startswith(("Traceback", "  File"))] == []


def test_reading_commands_work_in_a_read_only_folder(read_only: Repo) -> None:
    for arguments in (["status"], ["--dry-run"], ["validate"], ["history"]):
        assert as_anybody(read_only, *arguments).code == 0, arguments


@pytest.fixture
def small(team: Repo) -> Iterator[Path]:
    """The state's folder on a disk without room."""
    folder = team.root / ".reconciler"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("arguments", [["--yes"], ["daemon"]], ids=" ".join)
def test_a_disk_without_room_for_the_state(team: Repo, small: Path, arguments: list[str]) -> None:
    done = run_cli(team, *arguments)
    assert done.code == 1
    assert done.err.startswith("error: the ledger: ")
    assert done.err.endswith(": see to the disk, or to the quota; then try again\n")
    assert run_cli(team, "status").code == 0


@pytest.mark.parametrize("arguments", [["init", "new"], ["add", "github"]], ids=" ".join)
def test_files_that_have_no_room_are_all_left_out(team: Repo, call: Call, arguments: list[str]) -> None:
    """A file of more than a page cannot be written, as on a disk that is full; what was made before it goes again."""
    before = sorted(team.root.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        done = call(team, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (done.code, done.out) == (1, "")
    assert "cannot be written: File too large" in done.err
    assert [path for path in sorted(team.root.rglob("*")) if path not in before] in ([], [team.root / "new"])
    assert call(team, *arguments).code == 0, "nothing is in the way afterwards"


def test_names_of_files_are_utf8_in_every_locale(repo: Repo, accounts: AccountService) -> None:
    repo.settings(prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("zoë", "tool", email="zoe@example.com")
    repo.commit()
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as in one that is not UTF-8
    for env in (other, {}, other):
        done = subprocess.run(
            [PROGRAM, "--output", "json"], cwd=repo.root, env=repo.environment(env), capture_output=True, check=False
        )
        assert (done.returncode, json.loads(done.stdout)["grants"][0]["hire"]) == (0, "zoë"), done.stderr
        for cached in repo.state.parent.glob("hires.cache*"):
            cached.unlink()
    assert (accounts.created.total(), accounts.calls("DELETE")) == (1, [])


def test_a_log_that_cannot_be_written_stops_nothing(repo: Repo, accounts: AccountService) -> None:
    repo.settings()
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.hire("bob", "tool")
    repo.commit()
    accounts.fail_next(1, 500, method="POST")
    reader, left = os.pipe()
    os.close(reader)
    with TemporaryFile() as out, closing(os.fdopen(left, "wb")) as nobody:
        assert start_cli(repo, "--output", "json", streams=(None, out, nobody)).wait() == 1
        out.seek(0)
        assert json.load(out)["summary"] == {"present": 1, "retrying": 1}
    assert accounts.created.total() == 1
