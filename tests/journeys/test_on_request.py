"""Somebody asks for access for seconds, at each kind of forge: pull request, approval, merge, given, and gone."""

from __future__ import annotations

import hashlib
import hmac
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.forges import KINDS, TOKEN, Stand
from tests.repo import Daemon, Repo, Result, run_cli
from tests.servers import PATIENCE, AccountService, eventually

SECRET = "correct horse"
ENV = {"RECONCILE_FORGE_TOKEN": TOKEN}
GIVEN_WITHIN, GONE_WITHIN = 2.0, 5.0


@pytest.fixture(params=KINDS)
def forge(request: pytest.FixtureRequest) -> Iterator[Stand]:
    with Stand(request.param) as running:
        yield running


@pytest.fixture
def company(repo: Repo, accounts: AccountService, forge: Stand, tmp_path: Path) -> Repo:
    """The daemon's clone. It hears of commits by the forge's hook alone, and sweeps once a day."""
    repo.settings(interval="1d", git={"fetch": "1h"}, forge=forge.settings)
    repo.initial_data("reconciler", {"HOOK_SECRET": SECRET})
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", department="R&D")
    repo.write("config/requestable.yaml", [{"integration": "tool", "longest": "1h", "approvers": ["grace"]}])
    repo.commit()
    repo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "forge.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "forge.git"))
    return repo


@pytest.fixture
def hers(company: Repo, tmp_path: Path) -> Repo:
    """Ada's own clone."""
    company.git("clone", "--quiet", str(tmp_path / "forge.git"), str(tmp_path / "hers"))
    made = Repo(tmp_path / "hers", company.gnupg)
    made.git("config", "user.email", "ada@example.com")
    return made


def merge(hers: Repo, forge: Stand, branch: str) -> None:
    """Merge a pull request at the forge, as Ivy does."""
    hers.git("merge", "--quiet", "--no-ff", "--message", f"Merge {branch}", branch)
    hers.git("push", "--quiet", "origin", "main")
    forge.merged(1, hers.git("rev-parse", "HEAD"))


def tell(daemon: Daemon, kind: str) -> None:
    """Call the daemon's hook as the forge does."""
    body = b'{"ref": "refs/heads/main"}'
    code = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "github": {"X-Hub-Signature-256": f"sha256={code}"},
        "gitlab": {"X-Gitlab-Token": SECRET},
        "gitea": {"X-Gitea-Signature": code},
    }
    request = urllib.request.Request(f"{daemon.url}/hooks/git", body, headers[kind])
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.status == 204


def listed(hers: Repo) -> list[tuple[str, str]]:
    return [(each["integration"], each["state"]) for each in run_cli(hers, "request", "list", "--output", "json").json]


def test_asked_approved_merged_given_and_gone(
    company: Repo, hers: Repo, accounts: AccountService, forge: Stand
) -> None:
    with Daemon(company, env=ENV) as daemon:
        asked = run_cli(
            hers, "request", "tool", "--for", "4s", "--reason", "INC-12, the queue is stuck", "--open", env=ENV
        )
        assert (asked.code, asked.out.strip()) == (0, f"{forge.url}/acme/access/pulls/1"), asked.err
        assert (forge.asked, listed(hers)) == (["grace"], [("tool", "waits")])
        [branch] = hers.git("for-each-ref", "--format=%(refname:short)", "refs/heads/request").split()
        stem = branch.removeprefix("request/")
        assert accounts.calls() == []

        forge.review(1, "ada APPROVED", "grace APPROVED")
        merge(hers, forge, branch)
        merged = time.time()
        tell(daemon, forge.kind)
        made = eventually(lambda: accounts.calls("POST"))[0].at
        assert made - merged < GIVEN_WITHIN
        (gone,) = eventually(lambda: accounts.calls("DELETE"))
        eventually(lambda: company.has("ada", stem, "revoked"))
        status = run_cli(company, "status", "--output", "json")
        over = datetime.fromisoformat(status.grant("ada", stem)["until"]).timestamp()
        assert 0 <= gone.at - over < GONE_WITHIN
        assert accounts.created == {"ada@example.com": 1}
        eventually(lambda: _said(company, stem) == ([{"name": "grace", "source": "forge"}], "ivy"))
        daemon.terminate()
    lines: Result = run_cli(company, "history", "--hire", "ada", "--output", "json")
    events = [line["event"] for line in lines.json if line["access"] == stem]
    assert {"approved", "executed", "confirmed", "expired", "revoked"} <= {*events}
    assert run_cli(company, "history", "--verify").code == 0
    hers.git("push", "--quiet", "origin", f":{branch}")
    hers.git("branch", "--quiet", "--delete", "--force", branch)
    assert listed(hers) == [("tool", "ended")]
    assert run_cli(hers, "request", "tidy").out.strip() == f"config/requests/{stem}.yaml"


def _said(company: Repo, stem: str) -> tuple[object, object]:
    grant = run_cli(company, "status", "--output", "json").grant("ada", stem)
    return grant["approvals"], grant["merged_by"]
