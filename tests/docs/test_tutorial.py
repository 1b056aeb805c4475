"""What the tutorial and the README tell people to type is typed here, word for word, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo import PROGRAM, free_port, short_folder

ROOT = Path(__file__).parents[2]


def typed(page: str) -> str:
    """The blocks of a page that are marked as a shell's, in order."""
    return "".join(re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL))


def shell(folder: Path, script: str, home: str) -> str:
    """What bash writes; the first command that fails ends it, and the test."""
    path = os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "GNUPGHOME": home, "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def home() -> Iterator[str]:
    """An empty GnuPG home, under a short path as its agent wants it."""
    path = tempfile.mkdtemp(prefix="g-", dir=short_folder())
    yield path
    subprocess.run(["gpgconf", "--homedir", path, "--kill", "all"], check=True, capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


def test_the_tutorial(tmp_path: Path, home: str) -> None:
    out = shell(tmp_path, typed("docs/tutorial.md").replace("8900", str(free_port())), home)
    assert (
        "all files are in order; requests would go to 1 host\nhost api.example.com  (manifests/example.yaml)\n" in out
    )
    assert "  phonebook  missing → execute  exists check: not found\n" in out
    assert re.search(r"^1 grant at .{12}: 1 present; 1 executed in this pass$", out, re.MULTILINE)
    assert re.search(r"^  phonebook  present since \d{4}-\d\d-\d\d  executed; exists check: found$", out, re.MULTILINE)
    assert len(re.findall(r"^\S+Z +grace/phonebook  (?:attempt_started|executed|confirmed) ", out, re.MULTILINE)) == 3


def test_five_minutes_of_the_readme_end_with_an_account(tmp_path: Path, home: str) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/people/grace@example.com"
    asked = (
        "python -c 'from urllib.request import *; "
        f'print(urlopen(Request("{address}", headers={{"Authorization": "Bearer open-sesame"}})).read().decode())\'\n'
    )
    out = shell(tmp_path, typed("README.md").replace("8900", str(port)) + asked, home)
    assert "all files are in order" in out
    assert out.endswith('{"email": "grace@example.com", "name": "Grace Mbeki"}\n')


def test_the_readme_is_the_tutorials_beginning() -> None:
    assert typed("docs/tutorial.md").startswith(typed("README.md"))
