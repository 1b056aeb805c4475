"""The repository builder itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.repo import Daemon, GnupgHome, Repo, run_cli


def test_repo_commits_written_files(repo: Repo) -> None:
    repo.hire("ada", "slack", {"integration": "asana", "values": {"TEAM_ID": "1"}}, department="R&D")
    repo.write("manifests/asana.json", {"execute": []})
    revision = repo.commit("Ada joins")
    assert len(revision) == 40
    ada = yaml.safe_load(repo.git("show", "HEAD:hires/ada.yaml"))
    assert (ada["email"], ada["department"], ada["access"][0]) == ("ada@example.com", "R&D", "slack")
    assert json.loads(repo.git("show", "HEAD:manifests/asana.json")) == {"execute": []}
    assert repo.git("log", "-1", "--format=%an <%ae> %s") == "Ida Admin <ida@example.com> Ada joins"
    assert repo.git("status", "--porcelain") == ""


def test_initial_data_can_be_read_with_the_key(repo: Repo, gnupg_home: GnupgHome) -> None:
    file = repo.initial_data("asana", {"TOKEN": "invented-token", "ORG": "12"})
    assert b"invented-token" not in file.read_bytes()
    plain = subprocess.run(
        ["gpg", "--homedir", gnupg_home.path, "--batch", "--quiet", "--decrypt", file],
        capture_output=True,
        check=True,
    ).stdout
    assert yaml.safe_load(plain) == {"ORG": "12", "TOKEN": "invented-token"}
    assert repo.initial_data("slack", {"TOKEN": "x"}, armor=True).read_bytes().startswith(b"-----BEGIN PGP MESSAGE")


class Page(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        Page.asked += 1
        self.send_response(200 if Page.asked > 2 else 503)
        self.end_headers()


def slow_to_be_ready() -> None:
    """A program that is not ready at once."""
    print("called with", *sys.argv[1:], flush=True)
    if sys.argv[1:] == ["daemon", "--break"]:
        sys.exit("no settings")
    host, _, port = yaml.safe_load(Path("config/reconciler.yaml").read_text())["listen"].rpartition(":")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    HTTPServer((host, int(port)), Page).serve_forever()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the place of the real one."""
    monkeypatch.setattr("tests.repo.main", slow_to_be_ready)


@pytest.mark.usefixtures("stand_in")
def test_a_daemon_is_waited_for_and_ended(repo: Repo) -> None:
    with Daemon(repo, "-v") as daemon:
        assert daemon.get("/readyz")[0] == 200
        assert "called with daemon -v" in daemon.log
        assert daemon.terminate() == 0
    assert not daemon.running


@pytest.mark.usefixtures("stand_in")
def test_a_daemon_is_killed(repo: Repo) -> None:
    with Daemon(repo) as daemon:
        daemon.kill9()
        assert daemon.process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("stand_in")
def test_a_daemon_that_ends_at_once_shows_its_log(repo: Repo) -> None:
    with pytest.raises(AssertionError, match=r"ended with 1:\n(.|\n)*no settings"), Daemon(repo, "--break"):
        pass


@pytest.mark.usefixtures("stand_in")
def test_one_call(repo: Repo) -> None:
    result = run_cli(repo, "daemon", "--break")
    assert (result.code, result.out, result.err) == (1, "called with daemon --break\n", "no settings\n")
