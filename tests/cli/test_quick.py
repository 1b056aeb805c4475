"""What a command that reads leaves unloaded: most of its time would go into imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger.opening import StateLocation
from tests.ledger.states import ADA
from tests.repo import Repo

PROGRAM = """
import json, sys
from reconciler.cli import run
found = {}
for command, unneeded in json.loads(sys.argv[1]).items():
    found[command] = [run(command.split()), sorted(set(unneeded.split()) & sys.modules.keys())]
print(json.dumps(found))
"""

WRITING = "sqlalchemy alembic structlog httpx cryptography multiprocessing"
WAITING = "asyncio"
SENDING = "reconciler.requests.client http.client"
FILES = "reconciler.repository.files reconciler.model.hire reconciler.model.manifest"


# Those that need least come first: what one loads, the next still has.
READING = {
    "--help": f"{WRITING} {WAITING} {SENDING} {FILES} reconciler.model.grant zoneinfo tempfile csv yaml",
    "status": f"{WRITING} {WAITING} {SENDING} {FILES}",
    "history": f"{WRITING} {WAITING} {SENDING} {FILES}",
    "status --output json": f"{WRITING} {WAITING} {SENDING}",
    "validate": f"{WRITING} {WAITING} {SENDING}",
    "explain ada tool": WRITING,
    "--dry-run": WRITING,
}


def nothing_unneeded(repo: Repo, commands: Mapping[str, str]) -> None:
    """Run the commands in one new process: each succeeds, and what it does not need is not loaded after it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        cwd=repo.root,
        env=repo.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {command: [0, []] for command in commands}


@pytest.mark.parametrize("state", ["of a pass", "none"])
def test_command_that_reads_loads_nothing_that_it_does_not_need(repo: Repo, state: str) -> None:
    repo.settings()
    repo.manifest("tool", {"execute": [{"url": "http://127.0.0.1:9/users"}]})
    repo.hire("ada", "tool")
    repo.commit()
    if state != "none":
        with closing(StateLocation(repo.state_url, repo.root).writer()) as ledger:
            ledger.save([ADA])
    nothing_unneeded(repo, READING)


def test_daemon_over_a_state_in_a_file_needs_nothing_of_the_extra_for_fleets() -> None:
    program = (
        "import sys; sys.modules.update(psycopg=None, procrastinate=None);"
        "from reconciler.daemon import authorize, loop; from reconciler.web import serve"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_program_loads_no_plugin_of_pydantic(repo: Repo, tmp_path: Path) -> None:
    """One would see every value that is validated, and looking for one reads about every installed package."""
    (tmp_path / "spy.py").write_text("raise SystemExit('loaded')")
    about = tmp_path / "spy-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nspy = spy:plugin\n")
    repo.settings()
    repo.commit()
    command = [sys.executable, "-m", "reconciler", "status"]
    environment = repo.environment({"PYTHONPATH": str(tmp_path)})
    done = subprocess.run(command, cwd=repo.root, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("no pass was made yet")) == (0, 1), done.stderr
