"""What somebody meets who has only just installed the program: its version, the demo, and what is missing here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.demo import stage, walk
from reconciler.ledger.reading import HEAD
from tests.cli.conftest import Call
from tests.repo import Repo


def test_the_version_names_the_states_schema_too() -> None:
    done = subprocess.run([sys.executable, "-m", "reconciler", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"reconcile {__version__}, schema {HEAD}\n"
    assert version("access-reconciler") == __version__


def test_demo_after_plain_install_names_its_requirements(
    repo: Repo, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stage, "SAMPLE", tmp_path)
    done = call(repo, "demo", "--once")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: the demo needs a checkout of this project, which has the samples: run `make run` there\n"
    )


def test_demo_without_its_server_names_the_extra(repo: Repo, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"scim2_server", *(each for each in sys.modules if each.startswith("scim2_server."))}:
        monkeypatch.setitem(sys.modules, name, None)
    done = call(repo, "demo", "--once")
    assert done.code == 1
    assert done.err.startswith("error: the demo needs scim2_server: run `make run` in ")
    assert len(done.err.splitlines()) == 1


def test_demo_hints_work_without_a_git_identity(tmp_path: Path) -> None:
    nobody = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": ""}
    script = """
        . "$1"
        echo "# changed" >> hires/ines.yaml
        git commit --quiet -am "Another team"
        git log -1 --format=%an
        reconcile status --output json
    """
    with stage.staged() as set_up:
        typed = ["bash", "-euc", script, "bash", str(set_up.go)]
        done = subprocess.run(typed, env=nobody, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert len(f". {set_up.go}") < 30 or "TMPDIR" in os.environ
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Demo\n{")
    assert max(map(len, walk.NEXT.format(go="", asana="", listen="").splitlines())) <= 100


def test_demo_uses_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, taken in ((Path("/var/tmp"), True), (Path("/var/tmp/" + "x" * 80), False)):
        monkeypatch.setattr("tempfile.tempdir", str(place))
        with stage._temporary() as folder:
            assert folder.is_relative_to(place) is taken


def test_a_command_that_is_none_names_the_one_that_is_meant(repo: Repo, call: Call) -> None:
    done = call(repo, "statsu")
    assert (done.code, done.out) == (64, "")
    assert "No such command 'statsu'" in done.err
    assert "did you mean status?" in done.err
    option = call(repo, "--dry-rnu")
    assert (option.code, "--dry-run" in option.err) == (64, True)
