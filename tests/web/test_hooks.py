"""`POST /hooks/git`: who may call, what it costs, and that what was pushed is acted on at once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from reconciler.web.hooks import is_signed, is_signed_by_git
from tests.repo import Daemon, Repo
from tests.servers import PATIENCE, AccountService, ask, eventually

SECRET = "correct horse"
BODY = b'{"ref": "refs/heads/main"}'


def digest(body: bytes = BODY, secret: bytes = SECRET.encode()) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def standard(body: bytes, key: bytes, at: float, id_: str = "msg_1") -> dict[str, str]:
    signed = b".".join((id_.encode(), str(int(at)).encode(), body))
    made = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": id_, "webhook-timestamp": str(int(at)), "webhook-signature": f"v1,bm90aGluZw== v1,{made}"}


NOW = 1_800_000_000.0
KEY = b"0123456789abcdef01234567"
WHSEC = f"whsec_{base64.b64encode(KEY).decode()}"


@pytest.mark.parametrize(
    ("headers", "secret", "signed"),
    [
        ({"x-hub-signature-256": f"sha256={digest()}"}, SECRET, True),
        ({"x-hub-signature-256": f"sha256={digest().upper()}"}, SECRET, True),
        ({"x-hub-signature-256": digest()}, SECRET, False),
        ({"x-hub-signature-256": f"sha256={digest(b'other')}"}, SECRET, False),
        ({"x-hub-signature-256": "sha256="}, SECRET, False),
        ({"x-hub-signature-256": "sha256=\u00e9"}, SECRET, False),
        ({"x-gitea-signature": digest()}, SECRET, True),
        ({"x-gitlab-token": SECRET}, SECRET, True),
        ({"x-gitlab-token": "schl\u00fcssel".encode().decode("latin-1")}, "schl\u00fcssel", True),
        ({"x-gitlab-token": "wrong"}, SECRET, False),
        ({"x-gitlab-token": ""}, "", False),
        (standard(BODY, KEY, NOW - 200), WHSEC, True),
        (standard(BODY, KEY, NOW - 301), WHSEC, False),
        (standard(BODY, KEY, NOW + 301), WHSEC, False),
        (standard(b"other", KEY, NOW), WHSEC, False),
        (standard(BODY, SECRET.encode(), NOW), SECRET, True),
        (standard(BODY, WHSEC.encode(), NOW), WHSEC, False),
        (standard(BODY, b"", NOW), "whsec_", False),
        ({**standard(BODY, KEY, NOW), "webhook-timestamp": "1" * 400}, WHSEC, False),
        ({}, SECRET, False),
    ],
)
def test_how_a_push_is_signed(headers: dict[str, str], secret: str, signed: bool) -> None:
    assert is_signed_by_git(headers, BODY, [secret], NOW) is signed
    assert is_signed_by_git(headers, BODY, ["the one before", secret], NOW) is signed


def test_a_signature_in_base64() -> None:
    made = base64.b64encode(hmac.new(b"s", BODY, hashlib.sha256).digest()).decode()
    assert is_signed({"x": made}, BODY, "s", header="x", encoding="base64")
    assert not is_signed({"x": made.lower()}, BODY, "s", header="x", encoding="base64")


@pytest.fixture
def remote(repo: Repo, accounts: AccountService, tmp_path: Path) -> Path:
    """Where the repository is fetched from, by polling once an hour."""
    repo.settings(interval="1d", git={"fetch": "1h"})
    repo.initial_data("reconciler", {"HOOK_SECRET": f"{SECRET}\nthe one before\n"})
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    bare = tmp_path / "remote.git"
    repo.git("clone", "--quiet", "--bare", ".", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    return bare


@pytest.fixture
def daemon(repo: Repo, remote: Path) -> Iterator[Daemon]:
    with Daemon(repo) as running:
        eventually(lambda: fetches(running) is not None)
        yield running


def fetches(daemon: Daemon) -> str | None:
    """When a fetch last succeeded, as the metrics have it."""
    line = next(each for each in daemon.get("/metrics")[1].splitlines() if each.startswith("reconciler_git_last_fetch"))
    return None if line.endswith("NaN") else line


def hook(daemon: Daemon, secret: str = SECRET, body: bytes = BODY, name: str = "git") -> int:
    return post(daemon, name, body, {"X-Hub-Signature-256": f"sha256={digest(body, secret.encode())}"})


def post(daemon: Daemon, name: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(f"{daemon.url}/hooks/{name}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def pushed(remote: Path, tmp_path: Path, name: str) -> None:
    """Somebody merges a hire at the git server."""
    clone = tmp_path / "clone"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", str(remote), str(clone)], check=True)
    theirs = Repo(clone)
    theirs.hire(name, "tool")
    theirs.commit()
    theirs.git("push", "--quiet", "origin", "HEAD:main")


def test_a_push_is_acted_on_within_a_second(
    daemon: Daemon, remote: Path, accounts: AccountService, tmp_path: Path
) -> None:
    eventually(lambda: accounts.calls("POST"))
    took: list[float] = []
    for number in range(3):
        pushed(remote, tmp_path, f"new{number}")
        began = time.monotonic()
        assert hook(daemon) == 204
        eventually(lambda: len(accounts.calls("POST")) == 2 + len(took))
        took.append(time.monotonic() - began)
        time.sleep(max(0.0, 1 - took[-1]))
    assert median(took) < 2  # on a machine that does nothing else, a tenth of that


def test_who_is_refused_causes_nothing(daemon: Daemon) -> None:
    before = fetches(daemon)
    assert hook(daemon, "wrong") == hook(daemon, "") == 401, "nor does an empty last line let anybody in"
    assert post(daemon, "git", BODY, {}) == 401
    huge = b" " * (24 << 20)  # not sent to its end when the first MiB has come
    assert hook(daemon, body=b" " * (1024 * 1024 + 1)) == post(daemon, "git", huge, {}) == 413
    assert post(daemon, "nothing", huge, {}) == 404
    assert hook(daemon, name="tool") == hook(daemon, name="nothing") == 404
    assert ask(daemon.url, "GET", "/hooks/git")[0] == 404
    assert fetches(daemon) == before
    assert hook(daemon, "the one before", b" " * 1024 * 1024) == 204
    eventually(lambda: fetches(daemon) != before)
    text = daemon.get("/metrics")[1]
    counts = (("git", "unsigned", 3), ("git", "too_large", 2), ("git", "accepted", 1), ("", "unknown", 3))
    for name, outcome, count in counts:
        assert f'reconciler_hooks_total{{hook="{name}",outcome="{outcome}"}} {count}.0' in text


def test_without_a_secret_or_without_fetching_there_is_no_hook(repo: Repo, remote: Path) -> None:
    repo.settings(interval="1d", git={"fetch": None})
    repo.commit()
    with Daemon(repo) as running:
        assert hook(running) == 404
        repo.settings(interval="1d", git={"fetch": "1h"})
        repo.remove("config/initial_data/reconciler.yaml.gpg")
        repo.commit()
        eventually(lambda: running.get("/readyz")[0] == 200)
        assert hook(running) == 404
        repo.write("config/initial_data/reconciler.yaml.gpg", b"no such thing")
        repo.commit()
        eventually(lambda: hook(running) == 503)
