"""`make run` on a machine that lacks something: it says what, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGET = ".venv/.run"
"""What `make run` needs first: the installation."""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def make(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Install in a folder with what the installation is made of, without any package index."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    given = {"PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", **variables}
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "MAKE"))}
    command = ["make", TARGET, *(f"{key}={value}" for key, value in given.items())]
    done = subprocess.run(
        command, cwd=folder, env=env | given | {"PIP_NO_CACHE_DIR": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    return done


def python(folder: Path, version: str) -> str:
    """A Python that says it is of another version, as the recipe's one question reads it."""
    program = folder / "python-of-old"
    told = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    program.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{told}" "$1"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("version", ["(3, 10, 12)", "(2, 7, 18)"])
def test_an_old_python(tmp_path: Path, version: str) -> None:
    old = python(tmp_path, version)
    done = make(tmp_path, PYTHON=old)
    major, minor, _ = version.strip("()").split(", ")
    assert done.stderr.splitlines()[0] == (
        f"{old} is Python {major}.{minor}, and 3.11 or newer is needed: install one and name it, as `make run "
        "PYTHON=python3.12`."
    )
    assert not (tmp_path / ".venv").exists()


def test_no_python(tmp_path: Path) -> None:
    assert make(tmp_path, PYTHON="python-of-nowhere").stdout == (
        "python-of-nowhere was not found: install Python 3.11 or newer.\n"
    )


UNFINISHED = "The installation failed: fix the error above and run make again; it continues from there.\n"


def test_no_package_index(tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)  # as where the environment itself was cut off: it is created again
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    done = make(tmp_path)
    assert done.stdout.startswith("Installing the program and its demo into .venv, once.")
    assert UNFINISHED in done.stdout
    assert "No matching distribution found" in done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk without room."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes the right to mount one")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_no_room(small: Path) -> None:
    assert f"{UNFINISHED}It needs 200 MB of disk space here" in make(small).stdout
