"""`reconcile init`: what it writes is in order, and the README's first steps work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.repo import GnupgHome, Repo

IDA = {"GIT_COMMITTER_NAME": "Ida", "GIT_COMMITTER_EMAIL": "ida@example.com"}
"""Somebody whom git knows."""

FILES = [
    ".gitignore",
    "README.md",
    "config/initial_data/.gitkeep",
    "config/reconciler.yaml",
    "config/sequences/everyone.yaml",
    "hires/ada.yaml",
    "manifests/example.yaml",
]


@pytest.fixture
def beside(tmp_path: Path, gnupg_home: GnupgHome) -> Repo:
    """Where `init` is called: the new folder is made beside whatever is here."""
    return Repo(tmp_path / "here", gnupg_home)


def test_from_nothing_to_the_first_dry_run(beside: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    target = beside.root.parent / "access"
    done = call(beside, "init", str(target), env=IDA)
    assert done.code == 0
    assert done.out.splitlines() == [f"{target}/{name}" for name in FILES]
    assert done.err == (
        f"next, in {target}:\n"
        '  git add . && git commit -m "Access as files"\n'
        "  reconcile validate\n"
        "then README.md: a GnuPG key, a service's secrets, and the first `reconcile --dry-run`\n"
    )
    made = Repo(target, gnupg_home)
    assert made.git("branch", "--show-current") == "main"
    made.commit("Access as files")
    valid = call(made, "validate")
    assert (valid.code, valid.out.splitlines()[0]) == (0, "all files are in order; requests would go to 1 host")
    told = ("initial-data", "set", "example", "--recipient", "it@example.com")
    assert call(made, *told, given="TOKEN: invented-token\n").code == 0
    made.commit("Token of example")
    assert call(made, "initial-data", "check").code == 0
    assert call(made, "--dry-run").out.endswith("begins on 2030-01-04\n")
    assert made.git("status", "--porcelain") == "", "what the program keeps is ignored"


def test_initial_data_in_the_clear_is_not_committed_by_mistake(beside: Repo, call: Call) -> None:
    target = beside.root.parent / "access"
    call(beside, "init", str(target))
    made = Repo(target)
    for name in ("a.yaml", "b.json", "c.sops.yaml", "d.yaml.gpg"):
        made.write(f"config/initial_data/{name}", "x")
    made.commit()
    kept = made.git("ls-files", "config/initial_data").splitlines()
    assert [Path(name).name for name in kept] == [".gitkeep", "c.sops.yaml", "d.yaml.gpg"]


def test_a_folder_with_something_in_it_is_refused(beside: Repo, call: Call) -> None:
    done = call(beside, "init", ".")
    assert (done.code, done.out) == (64, "")
    assert done.err == "error: . is not empty: give the name of a new folder\n"


def test_an_empty_folder_is_fine(beside: Repo, call: Call) -> None:
    (beside.root / "inner").mkdir()
    assert call(beside, "init", "inner", "--output", "json").json == {"folder": "inner", "files": FILES, "git": True}


def test_without_git(beside: Repo, call: Call) -> None:
    done = call(beside, "init", "inner", env={"PATH": "/nowhere"})
    assert done.code == 0
    assert "  git init\n" in done.err
    assert not (beside.root / "inner/.git").exists()


def test_who_commits_is_asked_for_where_git_does_not_know(beside: Repo, call: Call) -> None:
    nobody = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.useConfigOnly", "GIT_CONFIG_VALUE_0": "true"}
    done = call(beside, "init", "inner", env={**nobody, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"})
    assert done.code == 0
    assert '  git config user.name "Your Name" && git config user.email you@example.com\n' in done.err


def test_a_place_that_cannot_be_written(beside: Repo, call: Call) -> None:
    beside.write("file", "")
    done = call(beside, "init", "file/inner")
    assert done.code == 1
    assert "cannot be written" in done.err
