"""The page about webhooks, typed: what it says to enter at a forge or service is taken, and what is forged is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.repository.documents.yaml import read
from tests.repo import PROGRAM, Daemon, Repo, call_cli
from tests.servers import AccountService, eventually
from tests.web.test_hooks import post, standard

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "webhooks.md").read_text()
SECRET = "long and random"
PUSH = b'{"ref": "refs/heads/main"}'


def under(heading: str) -> str:
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert text, f"the page has no part {heading!r}"
    return text


def github(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"}


@pytest.fixture
def repo(repo: Repo, accounts: AccountService, tmp_path: Path) -> Repo:
    repo.settings(interval="1d", git={"fetch": "1h"}, public_url="https://access.example.com")
    manifest = accounts.manifest()
    manifest["initial_data_form"] = []
    (block,) = re.findall(r"```yaml\n# manifests/github.yaml\n(.*?)```", under("Of a service"), re.DOTALL)
    repo.manifest("github", {**manifest, **read(block.encode(), "page").data})
    repo.hire("ada", "github")
    accounts.add("ada@example.com")
    for name in re.findall(r"^reconcile initial-data set (\S+)", PAGE, re.MULTILINE):
        assert name in ("reconciler", "github")
        assert repo.gnupg is not None
        given = ("initial-data", "set", name, "--recipient", repo.gnupg.fingerprint)
        set_ = call_cli(repo, *given, given=f"HOOK_SECRET: {SECRET}\n")
        assert set_.code == 0, set_.err
    repo.commit()
    repo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "remote.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    return repo


def test_what_the_page_says_is_taken(repo: Repo, accounts: AccountService) -> None:
    form = urllib.parse.urlencode({"payload": PUSH.decode()}).encode()
    proxied = {"Host": "access.example.com"}
    said = set(re.findall(r"https://access\.example\.com(/\S+?)`", PAGE))
    assert said == {"/hooks/git", "/hooks/<integration>"}
    with Daemon(repo) as daemon:
        eventually(lambda: accounts.calls("GET"))

        def takes(headers: Mapping[str, str], body: bytes = PUSH, name: str = "git") -> bool:
            return post(daemon, name, body, {"Content-Type": "application/json", **headers}) == 204

        assert under("At GitHub")
        assert takes(github(PUSH))
        assert takes({**github(form), "Content-Type": "application/x-www-form-urlencoded"}, form), "either"
        assert takes({"X-Gitea-Signature": github(PUSH)["X-Hub-Signature-256"].removeprefix("sha256=")})
        assert under("At GitLab")
        assert takes({"X-Gitlab-Token": SECRET})
        assert "proxy_set_header Host $host" in under("Behind a reverse proxy")
        assert takes({**github(PUSH), **proxied})

        body = json.dumps({"membership": {"user": {"login": "ada@example.com"}}}).encode()
        before = len(accounts.calls("GET"))
        assert takes({**github(body), **proxied}, body, "github")
        eventually(lambda: len(accounts.calls("GET")) == before + 1)

        assert under("If somebody forges one")
        forged = [
            ("git", PUSH, {}),
            ("git", PUSH, github(PUSH, "guessed")),
            ("git", PUSH, {"X-Gitlab-Token": "guessed"}),
            ("github", body, github(body, "guessed")),
        ]
        assert [post(daemon, name, text, headers) for name, text, headers in forged] == [401] * 4
        assert len(accounts.calls("GET")) == before + 1


def test_the_secret_is_changed_as_the_page_says(repo: Repo) -> None:
    (command,) = re.findall(r"```sh\n(printf .*?)```", under("Change the secret"), re.DOTALL)
    with Daemon(repo) as daemon:
        eventually(lambda: post(daemon, "git", PUSH, github(PUSH)) == 204)
        typed = command.replace("reconcile ", f"{PROGRAM} ")
        subprocess.run(["bash", "-euc", typed], cwd=repo.root, env=repo.environment(), check=True, capture_output=True)
        repo.commit()
        eventually(lambda: post(daemon, "git", PUSH, github(PUSH, "the-new-one")) == 204)
        assert post(daemon, "git", PUSH, github(PUSH, "the-old-one")) == 204
        assert post(daemon, "git", PUSH, github(PUSH)) == 401


def test_a_signing_token_of_gitlab(repo: Repo) -> None:
    assert "begins with `whsec_`" in under("At GitLab")
    key = b"0123456789abcdef01234567"
    repo.initial_data("reconciler", {"HOOK_SECRET": f"whsec_{base64.b64encode(key).decode()}"})
    repo.commit()
    with Daemon(repo) as daemon:
        eventually(lambda: post(daemon, "git", PUSH, standard(PUSH, key, time.time())) == 204)
