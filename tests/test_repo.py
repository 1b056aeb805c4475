"""The repository builder itself."""

from __future__ import annotations

import json
import subprocess

import yaml

from tests.repo import GnupgHome, Repo


def test_what_is_committed(repo: Repo) -> None:
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
        timeout=30,
    ).stdout
    assert yaml.safe_load(plain) == {"ORG": "12", "TOKEN": "invented-token"}
    assert repo.initial_data("slack", {"TOKEN": "x"}, armor=True).read_bytes().startswith(b"-----BEGIN PGP MESSAGE")
