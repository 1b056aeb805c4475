"""Fetching from a real remote on the disk: fast-forwards, and a sentence for everything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.repository.git import branches
from reconciler.repository.git.checkout import Checkout
from tests.repo import Repo
from tests.servers import eventually


@pytest.fixture
def upstream(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "upstream")
    repo.write("hires/ada.yaml", "x: 1\n")
    repo.commit("first")
    return repo


@pytest.fixture
def clone(upstream: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    repo = Repo(tmp_path / "clone")
    repo.git("remote", "add", "origin", str(upstream.root))
    repo.git("pull", "--quiet", "origin", "main")
    return repo


def fetch(repo: Repo, **git: str) -> str | None:
    return branches.fetch(Checkout.open(repo.root), git.get("remote", "origin"), git.get("branch", "main"))


def test_the_branch_checked_out_is_fast_forwarded_with_its_files(upstream: Repo, clone: Repo) -> None:
    upstream.write("hires/bob.yaml", "x: 1\n")
    new = upstream.commit()
    assert fetch(clone) is None
    assert clone.git("rev-parse", "HEAD") == new
    assert (clone.root / "hires/bob.yaml").exists()
    assert fetch(clone) is None


def test_a_local_edit_elsewhere_stays(upstream: Repo, clone: Repo) -> None:
    clone.write("hires/ada.yaml", "mine: 1\n")
    upstream.write("hires/bob.yaml", "x: 1\n")
    new = upstream.commit()
    assert fetch(clone) is None
    assert clone.git("rev-parse", "HEAD") == new
    assert (clone.root / "hires/ada.yaml").read_text() == "mine: 1\n"


def test_a_commit_puts_nothing_in_the_place_of_the_state(upstream: Repo, clone: Repo) -> None:
    (clone.root / ".git/info/exclude").write_text(".reconciler/\n")
    clone.write(".reconciler/state.db", "mine")
    before = clone.git("rev-parse", "HEAD")
    upstream.write(".reconciler/state.db", "theirs")
    upstream.git("add", "--force", ".reconciler/state.db")
    upstream.commit()
    assert "(.reconciler/state.db)" in str(fetch(clone))
    assert clone.git("rev-parse", "HEAD") == before
    assert (clone.root / ".reconciler/state.db").read_text() == "mine"


@pytest.mark.parametrize("path", ["hires/ada.yaml", "hires/new.yaml"])
def test_an_edit_in_the_way_is_never_lost(upstream: Repo, clone: Repo, path: str) -> None:
    before = clone.git("rev-parse", "HEAD")
    clone.write(path, "mine: 1\n")
    upstream.write(path, "theirs: 1\n")
    upstream.commit()
    said = fetch(clone)
    assert said is not None
    assert f"uncommitted edits are in the way ({path})" in said
    assert clone.git("rev-parse", "HEAD") == before
    assert (clone.root / path).read_text() == "mine: 1\n"


def test_branches_that_went_apart(upstream: Repo, clone: Repo) -> None:
    clone.write("hires/mine.yaml", "x: 1\n")
    mine = clone.commit()
    upstream.write("hires/theirs.yaml", "x: 1\n")
    upstream.commit()
    assert "has commits that origin does not have" in str(fetch(clone))
    clone.git("checkout", "--quiet", "-b", "other")
    assert "has commits that origin does not have" in str(fetch(clone))
    assert clone.git("rev-parse", "main") == mine


def test_a_commit_that_the_remote_took_back_is_named(upstream: Repo, clone: Repo) -> None:
    upstream.write("hires/bob.yaml", "x: 1\n")
    taken_back = upstream.commit()
    assert fetch(clone) is None
    upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    for _ in range(2):
        assert "has commits that origin does not have" in str(fetch(clone))
    assert clone.git("rev-parse", "HEAD") == taken_back
    clone.git("reset", "--quiet", "--hard", "origin/main")
    assert fetch(clone) is None


@pytest.mark.parametrize("how", [["-b", "other"], ["--detach"]])
def test_a_branch_that_is_not_checked_out_moves_alone(upstream: Repo, clone: Repo, how: list[str]) -> None:
    before = clone.git("rev-parse", "HEAD")
    clone.git("checkout", "--quiet", *how)
    upstream.write("hires/bob.yaml", "x: 1\n")
    new = upstream.commit()
    assert fetch(clone) is None
    assert clone.git("rev-parse", "main") == new
    assert clone.git("rev-parse", "HEAD") == before
    assert not (clone.root / "hires/bob.yaml").exists()


def test_a_branch_that_another_worktree_has_checked_out(upstream: Repo, clone: Repo, tmp_path: Path) -> None:
    clone.git("checkout", "--quiet", "-b", "other")
    clone.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    upstream.write("hires/bob.yaml", "x: 1\n")
    new = upstream.commit()
    assert "another worktree" in str(fetch(clone))
    assert branches.fetch(Checkout.open(tmp_path / "linked"), "origin", "main") is None
    assert clone.git("rev-parse", "main") == new


@pytest.mark.parametrize(
    ("git", "part"),
    [
        pytest.param({"branch": "gone"}, "no branch gone", id="branch"),
        pytest.param({"branch": "a b"}, "no name of a branch", id="branch-name"),
        pytest.param({"branch": "--upload-pack=touch x"}, "no name of a branch", id="branch-option"),
        pytest.param({"remote": "nowhere"}, "'nowhere' does not appear to be a git repository", id="remote"),
        pytest.param({"remote": "--upload-pack=touch x"}, "cannot be taken over", id="remote-option"),
        pytest.param({"remote": "ext::sh -c 'touch x'"}, "cannot be taken over", id="remote-command"),
        pytest.param({"remote": "http://u:hunter2@127.0.0.1:9/x"}, "cannot be taken over", id="refused"),
    ],
)
def test_failed_fetches_are_reported(clone: Repo, git: dict[str, str], part: str) -> None:
    before = clone.git("rev-parse", "HEAD")
    said = fetch(clone, **git)
    assert said is not None
    assert part in said
    assert "hunter2" not in said
    assert clone.git("rev-parse", "HEAD") == before
    assert not (clone.root / "x").exists()


@pytest.mark.parametrize("lock", ["index.lock", "refs/heads/main.lock"])
def test_stale_lock_after_a_power_cut_is_reported_with_the_next_step(upstream: Repo, clone: Repo, lock: str) -> None:
    before = clone.git("rev-parse", "HEAD")
    upstream.write("hires/bob.yaml", "x: 1\n")
    new = upstream.commit()
    file = clone.root / ".git" / lock
    file.touch()
    said = fetch(clone)
    assert f"{file} is in the way" in str(said)
    assert "delete it" in str(said)
    assert clone.git("rev-parse", "HEAD") == before
    file.unlink()
    if (left := clone.root / "hires/bob.yaml").exists():
        left.unlink()  # git had begun with the files
    assert fetch(clone) is None
    assert clone.git("rev-parse", "HEAD") == new


def running(pid: int) -> bool:
    """Whether a process is more than a name that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_plain_folder_has_nothing_to_fetch(tmp_path: Path) -> None:
    assert "no git checkout" in str(branches.fetch(Checkout.open(tmp_path), "origin", "main"))


def test_without_the_program(clone: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in str(fetch(clone))


def test_a_remote_that_never_answers_is_given_up_with_all_its_processes(
    clone: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = 0

    def now() -> float:
        """An hour later at each look, once it has begun to hang."""
        nonlocal hours
        hours += hangs.exists() and hangs.read_text().endswith("\n")
        return 3600.0 * hours

    script, hangs = clone.root.parent / "hang.sh", clone.root / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > {hangs}\nsleep 600\n")
    script.chmod(0o755)
    clone.git("remote", "add", "slow", "ssh://example.com/x")
    clone.git("config", "core.sshCommand", str(script))
    monkeypatch.setattr("reconciler.repository.git.program.monotonic", now)
    said = branches.fetch(Checkout.open(clone.root), "slow", "main", stopped=lambda: False)
    assert "took longer than 60 s" in str(said)
    eventually(lambda: not running(int(hangs.read_text())))


def test_a_hooks_environment_leads_nowhere(upstream: Repo, clone: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.write("hires/bob.yaml", "x: 1\n")
    new = upstream.commit()
    monkeypatch.setenv("GIT_DIR", str(upstream.root / ".git"))
    assert fetch(clone) is None
    monkeypatch.delenv("GIT_DIR")
    assert clone.git("rev-parse", "HEAD") == new
