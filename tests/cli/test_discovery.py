"""Which repository a command is about: the one that `--repo` names, or that the current folder is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo

READING = (["status"], ["history"], ["--dry-run"], ["validate"], ["explain", "ada", "saas"], ["diff", "HEAD"])
NEXT = "give the repository's root with --repo, or run `reconcile init` for a new one\n"


class Elsewhere(Repo):
    """A folder that is no repository, or a part of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gnupg = None
        root.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_reading_command_outside_a_repository_is_refused(tmp_path: Path, call: Call, words: list[str]) -> None:
    done = call(Elsewhere(tmp_path / "out"), *words)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"error: there is no repository in {tmp_path / 'out'} or above it: {NEXT}"


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_a_checkout_of_something_else_is_no_repository(tmp_path: Path, call: Call, words: list[str]) -> None:
    other = Repo(tmp_path / "other")
    other.write("src/main.py", "")
    other.commit()
    done = call(Elsewhere(other.root / "src"), *words)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"error: the git checkout {other.root} has no hires/ and no manifests/: {NEXT}"
    given = call(Elsewhere(tmp_path), "--repo", "other", *words)
    assert given.err == f"error: other is no repository: it has no hires/ and no manifests/; {NEXT}"


@pytest.fixture
def small(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.manifest("saas", {"execute": [{"url": "https://saas.example.com/"}]})
    made.hire("ada", {"integration": "saas", "at": "2999-01-01"})
    return made


def test_everything_can_be_added_to_git_beside_the_state(small: Repo, call: Call) -> None:
    small.write(".git/info/exclude", "")
    small.commit()
    assert call(small, "status").code == 0
    assert not small.state.parent.exists()
    assert call(small).code == 0
    assert small.state.is_file()
    assert small.git("status", "--porcelain") == ""
    small.commit()
    assert call(small).code == 0


@pytest.mark.parametrize("folder", ["hires", "manifests", ".", "docs/deep"])
def test_any_folder_within_a_checkout_will_do(small: Repo, call: Call, folder: str) -> None:
    small.commit()
    done = call(Elsewhere(small.root / folder), "--dry-run", "--output", "json")
    assert (done.code, done.err) == (0, "")
    assert done.grant("ada", "saas")["status"] == "scheduled"
    assert call(Elsewhere(small.root / folder), "status").code == 0
    assert call(Elsewhere(small.root / folder), "validate").code == 0


def test_files_can_be_planned_before_the_first_commit(small: Repo, call: Call) -> None:
    refused = call(small, "--dry-run")
    assert (refused.code, refused.out) == (1, "")
    assert "or plan them with --dry-run --worktree" in refused.err
    done = call(small, "--dry-run", "--worktree", "--output", "json")
    assert (done.code, done.json["revision"]) == (0, "worktree")
    assert done.grant("ada", "saas")["status"] == "scheduled"
    assert call(small, "--dry-run", "--worktree", "--hire", "bob").code == 64

    small.settings(git={"verify_signatures": True})
    unsigned = call(small, "--dry-run", "--worktree")
    assert (unsigned.code, "git.verify_signatures has none to look at" in unsigned.err) == (1, True)


def test_a_plain_folder_is_a_repository_as_it_stands(tmp_path: Path, call: Call) -> None:
    plain = Elsewhere(tmp_path / "plain")
    plain.manifest("saas", {"execute": [{"url": "https://saas.example.com/"}]})
    plain.hire("ada", {"integration": "saas", "at": "2999-01-01"})
    done = call(Elsewhere(plain.root / "hires"), "--dry-run", "--output", "json")
    assert done.code == 0
    assert done.json["revision"] == "worktree"
    assert done.grant("ada", "saas")["status"] == "scheduled"


def test_commands_that_need_no_repository_ask_for_none(tmp_path: Path, call: Call) -> None:
    nowhere = Elsewhere(tmp_path / "out")
    assert call(nowhere, "schema", "hire").code == 0
    assert call(nowhere, "init", "new").code == 0
