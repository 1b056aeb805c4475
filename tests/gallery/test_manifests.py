"""The ready manifests: heads of one form, files in order, and requests that can be made of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path, PurePath

import pytest

from reconciler.gallery.catalog import IMPORTS, ReadyManifest, everything, head_of
from reconciler.requests.render import render
from tests.gallery import samples
from tests.repo import Repo, call_cli

ROOT = Path(__file__).parents[2]
READY = everything()

REQUIRED = {"service", "plan", "scopes", "revoke", "documentation", "verified"}
KEYS = REQUIRED | {"replace", "cannot", "traps"}
"""What a head may say; `replace` is the host that a self-hosted service's manifest has in place of the user's own."""

VERIFIED = {"live", "description", "reading"}
"""Run against the real server in this project's tests; checked against the vendor's own description of its API, or the
RFC; written after the documentation."""


@pytest.mark.parametrize("name", READY)
def test_is_in_order_in_a_fresh_repository(repo: Repo, name: str) -> None:
    assert call_cli(repo, "add", name).code == 0
    manifest = READY[name].manifest
    entry = {"integration": name, "values": samples.values(manifest)}
    repo.hire("ada", entry, extra=samples.extra(manifest))
    done = call_cli(repo, "validate", "--output", "json")
    lacking = [each["message"] for each in done.json["problems"] if "which is not installed" not in each["message"]]
    assert (done.code, lacking) == (0, [])
    assert all(host["allowed"] for host in done.json["hosts"])
    assert done.json["hosts"], "it writes out the hosts that it asks"


@pytest.mark.parametrize("name", READY)
def test_every_request_can_be_made(name: str) -> None:
    manifest = READY[name].manifest
    for form in samples.choices(manifest):
        scope = samples.scope(manifest, form)
        for place, call in manifest.calls():
            wire = render(call, scope, manifest)
            assert wire.url.startswith(("https://", "ldaps://")), place
            assert "{{" not in wire.url + str(wire.content) + str(wire.headers), place


@pytest.mark.parametrize("ready", [*READY.values(), *everything(IMPORTS).values()], ids=lambda ready: ready.name)
def test_a_head_has_one_form(ready: ReadyManifest) -> None:
    lines = list(takewhile(lambda line: line.startswith("#"), ready.text.splitlines()))[1:]
    keys = [line.removeprefix("# ").partition(":")[0] for line in lines if not line.startswith("#   ")]
    assert all(re.fullmatch(r"#(?: [a-z]+:|  ) \S.*", line) for line in lines)
    assert len(keys) == len(set(keys))
    assert set(keys) >= REQUIRED
    assert set(keys) <= KEYS
    assert ready.head.keys() == set(keys)
    assert ready.head["verified"] in VERIFIED


@pytest.mark.parametrize("name", READY)
def test_manifest_has_a_complete_head(name: str) -> None:
    ready = READY[name]
    title, head = head_of(ready.text)
    assert title
    assert head["service"] == ready.service
    assert ready.manifest.service == ready.service, "so that manifests of one service share their secrets"
    assert max(map(len, ready.text.splitlines())) <= 130
    hosts = set(re.findall(r"(?:https|ldaps)://([^/\s\"]+)", str([call.url for _, call in ready.manifest.calls()])))
    assert {host for host in hosts if "example" in host} == ({head["replace"]} if "replace" in head else set())


@pytest.mark.parametrize("name", READY)
def test_head_describes_revoke_if_there_is_one(name: str) -> None:
    ready = READY[name]
    assert bool(ready.manifest.revoke) != ready.head["revoke"].startswith("nothing")
    assert ready.manifest.revoke_deletes == ready.head["revoke"].startswith("deletes")


@pytest.mark.parametrize("name", [name for name, ready in READY.items() if ready.manifest.lock])
def test_check_can_tell_that_lock_switched_an_account_off(name: str) -> None:
    """Else a lock would never be seen to hold."""
    exists = READY[name].manifest.exists
    assert exists is not None
    assert exists.inactive


def test_they_are_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["reconciler"]
    assert any(PurePath("gallery/manifests/github.yaml").match(pattern) for pattern in patterns)


def test_the_command_names_them_without_a_checkout_of_the_project(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("reconcile")
    done = subprocess.run([program, "add", "--list"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == len(READY) + len(everything(IMPORTS)) + 1
