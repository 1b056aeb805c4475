"""Only signed commits act: seen from the service, from `reconcile`, from `status` and in the daemon's log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.repo import Daemon, GnupgHome, Repo, call_cli
from tests.repository.signing import PgpSigner, signed, unsigned
from tests.servers import AccountService, eventually


@pytest.fixture(scope="module")
def ida() -> Iterator[PgpSigner]:
    made = PgpSigner("Ida")
    yield made
    made.close()


@pytest.fixture
def signing(repo: Repo, ida: PgpSigner, accounts: AccountService, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Ada is wanted by a signed commit; signatures are wanted from the commit before it on."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    repo.gnupg = ida.home
    repo.write(".gitignore", ".reconciler/\n")
    first = repo.commit("first")
    repo.settings(git={"verify_signatures": True, "trusted_from": first})
    repo.manifest("tool", manifest(accounts))
    repo.hire("ada", "tool")
    signed(repo, ida)
    return repo


def manifest(accounts: AccountService, path: str = "users") -> dict[str, object]:
    return {
        "exists": {
            "url": f"{accounts.url}/{path}/{{{{email}}}}",
            "expected": "{{email}}",
            "fail_when_4xx_response_code": False,
        },
        "execute": [{"url": f"{accounts.url}/users", "data": {"email": "{{email}}"}}],
    }


def eve_hires_herself(repo: Repo) -> str:
    repo.hire("eve", "tool")
    repo.git("add", "--all")
    return unsigned(repo)


def test_pass_acts_on_last_accepted_revision_and_reports_it(signing: Repo, accounts: AccountService) -> None:
    assert call_cli(signing).code == 0
    accepted = signing.git("rev-parse", "HEAD")
    bad = eve_hires_herself(signing)
    for arguments in ((), ("--dry-run",)):
        result = call_cli(signing, *arguments, "--output", "json")
        assert result.code == 1
        assert result.json["revision"] == accepted
        assert result.json["refused"] == {
            "head": bad,
            "commit": bad,
            "author": "Eve <eve@example.com>",
            "why": "it is not signed",
        }
        assert result.json["problems"][0]["file"] == "HEAD"
        assert "git update-ref refs/reconciler/accepted" in result.json["problems"][0]["message"]
        assert [grant["hire"] for grant in result.json["grants"]] == ["ada"]
    assert list(accounts.people) == ["ada@example.com"]

    first_line = call_cli(signing, "status").out.splitlines()[0]
    assert f"commit {bad[:12]} by Eve <eve@example.com> is not accepted: it is not signed" in first_line
    shown = call_cli(signing, "status", "--output", "json")
    assert (shown.code, shown.json["refused"]["commit"]) == (1, bad)
    assert call_cli(signing, "run", "eve", "tool").code != 0
    assert list(accounts.people) == ["ada@example.com"]


def test_nothing_was_accepted_yet(signing: Repo, accounts: AccountService) -> None:
    bad = eve_hires_herself(signing)
    for arguments in ((), ("--dry-run",), ("daemon",)):
        result = call_cli(signing, *arguments)
        assert result.code == 1
        assert f"commit {bad[:12]} by Eve" in result.err
        assert "Traceback" not in result.err
    assert not accounts.requests


def test_uncommitted_files_are_planned_like_a_branch(signing: Repo, accounts: AccountService) -> None:
    assert call_cli(signing).code == 0
    before = len(accounts.requests)
    signing.manifest("tool", manifest(accounts, "elsewhere"))
    result = call_cli(signing, "--dry-run", "--worktree", "--output", "json")
    assert "is changed on this branch" in result.grant("ada", "tool")["reason"]
    assert len(accounts.requests) == before


def test_daemon_stays_at_the_accepted_commit_until_a_person_vouches(
    signing: Repo, accounts: AccountService, ida: PgpSigner, gnupg_home: GnupgHome
) -> None:
    with Daemon(signing) as daemon:
        assert eventually(lambda: "ada@example.com" in accounts.people)
        bad = eve_hires_herself(signing)
        assert eventually(lambda: "about=signatures" in daemon.log)
        assert f"commit {bad[:12]} by Eve <eve@example.com> is not accepted" in daemon.log
        assert eventually(lambda: call_cli(signing, "status", "--output", "json").json["refused"] is not None)
        assert "eve@example.com" not in accounts.people

        signing.git("update-ref", "refs/reconciler/accepted", bad)
        signing.hire("bob", "tool")
        signed(signing, ida)
        assert eventually(lambda: "bob@example.com" in accounts.people)
        assert re.search(r"daemon.recovered .*about=signatures", daemon.log)
        assert daemon.terminate() == 0
    assert call_cli(signing, "status", "--output", "json").json["refused"] is None


def test_a_home_beside_the_repository_counts_wherever_the_command_runs(signing: Repo, ida: PgpSigner) -> None:
    """A relative `gnupg_home` begins at the repository's root, also where `--repo` is relative, too."""
    (home := signing.root.with_name("keys")).symlink_to(ida.home.path)
    git = {"verify_signatures": True, "trusted_from": signing.git("rev-list", "--max-parents=0", "HEAD")}
    signing.settings(git=git, gnupg_home=f"../{home.name}")
    signed(signing, ida)
    command = [sys.executable, "-m", "reconciler", "--repo", signing.root.name, "--output", "json"]
    for words, signer in ((["--dry-run"], None), (["explain", "ada", "tool"], "Test Team <it@example.com>")):
        done = subprocess.run(
            [*command, *words],
            cwd=signing.root.parent,
            env=signing.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout).get("signer") == signer
