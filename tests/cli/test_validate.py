"""`reconcile validate`, as people, programs and GitHub's runners read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write("config/reconciler.yaml", {"allowed_hosts": ["slack.com"]})
    made.manifest("slack", {"execute": [{"url": "https://slack.com/"}]})
    made.manifest("evil", {"execute": [{"url": "https://evil.example/"}]})
    made.hire("ada", "slack")
    made.write("hires/bob.yaml", "email: bob\nfirst_name: B\nlast_name: B\n")
    made.commit()
    return made


def test_table(repo: Repo, call: Call) -> None:
    done = call(repo, "validate")
    assert done.code == 1
    assert done.out == (
        "2 errors; requests would go to 2 hosts, of which 1 not allowed\n"
        "hires/bob.yaml:1: error: email: not an address\n"
        "manifests/evil.yaml:2: error: execute.0.url: host evil.example is not allowed: add it to allowed_hosts in "
        "config/reconciler.yaml\n"
        "host evil.example  (manifests/evil.yaml)  NOT ALLOWED\n"
        "host slack.com  (manifests/slack.yaml)\n"
    )


def test_annotations_stand_beside_the_text(repo: Repo, call: Call) -> None:
    plain = call(repo, "validate").out
    on_github = call(repo, "validate", env={"GITHUB_ACTIONS": "true"}).out
    assert on_github == plain + (
        "::error file=hires/bob.yaml,line=1::email: not an address\n"
        "::error file=manifests/evil.yaml,line=2::execute.0.url: host evil.example is not allowed: add it to "
        "allowed_hosts in config/reconciler.yaml\n"
    )


def test_an_annotation_cannot_be_ended_by_a_files_name(repo: Repo, call: Call) -> None:
    repo.write("hires/a,b: 100%.yaml", "email: x\nfirst_name: B\nlast_name: B\n")
    repo.commit()
    out = call(repo, "validate", env={"GITHUB_ACTIONS": "true"}).out
    assert "::error file=hires/a%2Cb%3A 100%25.yaml,line=1::email: not an address\n" in out


def test_json_is_json_on_github_too(repo: Repo, call: Call) -> None:
    done = call(repo, "validate", "--output", "json", env={"GITHUB_ACTIONS": "true"})
    assert [problem["file"] for problem in done.json["problems"]] == ["hires/bob.yaml", "manifests/evil.yaml"]
    assert done.json["hosts"] == [
        {"host": "evil.example", "files": ["manifests/evil.yaml"], "allowed": False},
        {"host": "slack.com", "files": ["manifests/slack.yaml"], "allowed": True},
    ]


def test_markdown(repo: Repo, call: Call) -> None:
    assert call(repo, "validate", "--output", "markdown").out == (
        "**2 errors; requests would go to 2 hosts, of which 1 not allowed**\n\n"
        "- error in `hires/bob.yaml:1`: `email: not an address`\n"
        "- error in `manifests/evil.yaml:2`: `execute.0.url: host evil.example is not allowed: add it to allowed_hosts "
        "in config/reconciler.yaml`\n"
        "- host `evil.example` from `manifests/evil.yaml` **not allowed**\n"
        "- host `slack.com` from `manifests/slack.yaml`\n"
    )


def test_what_is_not_committed_is_looked_at_on_demand(repo: Repo, call: Call) -> None:
    repo.remove("manifests/evil.yaml")
    repo.remove("hires/bob.yaml")
    committed = call(repo, "validate")
    assert committed.code == 1
    assert committed.err == (
        "not committed, and so not looked at: hires/bob.yaml, manifests/evil.yaml (--worktree does)\n"
    )
    here = call(repo, "validate", "--worktree")
    assert (here.code, here.err) == (0, "")
    assert here.out.startswith("all files are in order; requests would go to 1 host\n")


def test_settings_that_cannot_be_read(repo: Repo, call: Call) -> None:
    repo.write("config/reconciler.yaml", "intervall: 1m\n")
    repo.commit()
    done = call(repo, "validate", "--output", "json")
    assert done.code == 1
    assert [(each["file"], each["line"]) for each in done.json["problems"]] == [("config/reconciler.yaml", 1)]
    assert done.json["hosts"] == []
