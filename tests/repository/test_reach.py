"""No hook, no helper and no settings of git that stand in the checkout: a commit could have put them there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.repository.git.branches import fetch
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.program import committable, git, helper_of_a_commit
from tests.repo import Repo


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A clone with something new to fetch, and a committed script that leaves a mark where it was run."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    upstream = Repo(tmp_path / "upstream")
    upstream.write("hires/ada.yaml", "x: 1\n")
    script = upstream.write("tools/run", f"#!/bin/sh\necho ran >> {tmp_path}/ran\ncat\n")
    script.chmod(0o755)
    for hook in ("post-merge", "reference-transaction", "post-index-change", "fsmonitor"):
        upstream.write(f"hooks/{hook}", script.read_bytes()).chmod(0o755)
    upstream.write(".gitattributes", "*.yaml filter=shape\n")
    upstream.commit("first")
    made = Repo(tmp_path / "repo")
    made.git("remote", "add", "origin", str(upstream.root))
    made.git("pull", "--quiet", "origin", "main")
    upstream.write("hires/bob.yaml", "x: 1\n")
    upstream.commit("second")
    return made


def ran(repo: Repo) -> bool:
    return (repo.root.parent / "ran").exists()


@pytest.mark.parametrize(("name", "value"), [("core.hooksPath", "hooks"), ("core.fsmonitor", "hooks/fsmonitor")])
def test_no_hook_of_the_checkout_runs_in_a_fetch(repo: Repo, name: str, value: str) -> None:
    repo.git("config", name, value)
    assert fetch(Checkout.open(repo.root), "origin", "main") is None
    assert (repo.root / "hires/bob.yaml").exists()
    git(repo.root, "status", "--short")
    assert not ran(repo)


HELPERS = {
    "a filter": ("filter.shape.smudge", "tools/run"),
    "a filter through a shell": ("filter.shape.clean", "sh tools/run"),
    "ssh": ("core.sshCommand", "./tools/run -v"),
    "a credential helper": ("credential.helper", "!sh tools/run"),
    "of one host": ("credential.https://example.com.helper", "{root}/tools/run"),
    "what packs at the remote": ("remote.origin.uploadpack", "{root}/tools/run"),
    "gpg": ("gpg.program", "tools/run"),
    "a merge driver": ("merge.shape.driver", "tools/run %O %A"),
    "settings of the checkout": ("include.path", "../tools/gitconfig"),
}


@pytest.mark.parametrize(("name", "value"), HELPERS.values(), ids=HELPERS)
def test_a_helper_of_the_checkout_is_named_and_not_run(repo: Repo, name: str, value: str) -> None:
    repo.write("tools/gitconfig", "[core]\nabbrev = 9\n")
    repo.git("config", name, value.format(root=repo.root))
    said = fetch(Checkout.open(repo.root), "origin", "main")
    assert said is not None
    assert "which is in the repository, where a commit can change it: move it out" in said
    assert not ran(repo)
    assert not (repo.root / "hires/bob.yaml").exists()


GOOD = {
    "a program on the path": ("filter.lfs.process", "git-lfs filter-process"),
    "ssh with a key": ("core.sshCommand", "ssh -i ~/.ssh/key -oUserKnownHostsFile=/dev/null -F $HOME/.ssh/config"),
    "a helper of git": ("credential.helper", "cache --timeout=3600"),
    "one elsewhere": ("credential.helper", "/usr/local/bin/helper"),
    "a file in the git folder": ("credential.helper", "store --file=.git/credentials"),
}


@pytest.mark.parametrize(("name", "value"), GOOD.values(), ids=GOOD)
def test_configuration_out_of_reach_of_commits_is_accepted(repo: Repo, name: str, value: str) -> None:
    repo.git("config", name, value)
    assert helper_of_a_commit(repo.root) is None


def test_git_takes_no_command_for_a_remote(repo: Repo) -> None:
    repo.git("remote", "set-url", "origin", f"ext::sh {repo.root.parent}/upstream/tools/run")
    repo.git("config", "protocol.ext.allow", "always")
    assert "ext" in str(fetch(Checkout.open(repo.root), "origin", "main"))
    assert not ran(repo)


def by_name(root: Path) -> str:
    return "keys"


def through_a_link(root: Path) -> str:
    link = root.parent / "keys"
    link.symlink_to(root / "keys")
    return str(link)


def through_two(root: Path) -> str:
    (root / "link").symlink_to(root.parent)
    first = root.parent / "first"
    first.symlink_to(root / "link")
    return str(first / "keys")


def round_about(root: Path) -> str:
    return "../elsewhere/../repo/keys"


def as_a_link_in_it(root: Path) -> str:
    (root / "keys").symlink_to(root.parent)
    return "keys"


@pytest.mark.parametrize("path", [by_name, through_a_link, through_two, round_about, as_a_link_in_it])
def test_within_the_reach_of_a_commit(repo: Repo, path: Callable[[Path], str]) -> None:
    assert committable(repo.root, path(repo.root))


@pytest.mark.parametrize("path", ["../keys", "/etc/keys", "~/.gnupg", ".git/keys", "../repository/keys"])
def test_out_of_the_reach_of_a_commit(repo: Repo, path: str) -> None:
    assert not committable(repo.root, path)
