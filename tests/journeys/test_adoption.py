"""Accounts of a SCIM directory become files, and the next pass has nothing to send; test_jupyterhub.py has a hub's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.demo.phonebook import Loopback
from reconciler.demo.stage import scim
from tests.repo import Repo, Result, call_cli
from tests.servers import ask

SCIM = Path(__file__).parents[2] / "manifests" / "scim.yaml"
SCIM_TOKEN = "sample-token"
HEADERS = {"Authorization": f"Bearer {SCIM_TOKEN}", "Content-Type": "application/scim+json"}
LISTED: dict[str, Any] = {
    "data_from": "Resources",
    "match": "userName",
    "account": "id",
    "fields": {"email": "userName", "first_name": "name.givenName", "last_name": "name.familyName"},
    "only": {"active": True},
    "count_up": {"parameter": "startIndex", "first": 1, "step": 2, "total_from": "totalResults"},
}


@pytest.fixture
def directory() -> Iterator[str]:
    with Loopback(scim(SCIM_TOKEN)) as running:
        yield running.url


def person(name: str, given: str, family: str, *, active: bool = True) -> dict[str, Any]:
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": name,
        "name": {"givenName": given, "familyName": family},
        "emails": [{"value": name, "type": "work", "primary": True}],
        "active": active,
    }


def adopted(repo: Repo, integration: str) -> Result:
    """Adopt everybody, commit, and make a pass."""
    written = call_cli(repo, "adopt", integration, "--all", "--write")
    assert written.code == 0, written.err
    assert call_cli(repo, "validate").code == 0
    repo.commit("adopt")
    return call_cli(repo, "--output", "json")


def test_people_of_a_scim_directory(repo: Repo, directory: str) -> None:
    manifest = yaml.safe_load(SCIM.read_text().replace("http://127.0.0.1:8902", directory))
    manifest["exists"]["list"] = {**LISTED, "url": f"{directory}/v2/Users?count=2"}
    repo.settings()
    repo.manifest("scim", manifest)
    repo.initial_data("scim", {manifest["initial_data_form"][0]["id"]: SCIM_TOKEN})
    repo.hire("ada", last_name="Okafor")
    for body in (
        person("ada@example.com", "Ada", "Okafor"),
        person("bob@example.com", 'Bob "NO"', "O'Neill\nx: y"),
        person("gone@example.com", "Gone", "", active=False),
        person("zed@example.com", "Zed", "012345"),
    ):
        assert ask(directory, "POST", "/v2/Users", body, HEADERS)[0] == 201
    repo.commit()

    found = call_cli(repo, "unmanaged", "--output", "json").json
    assert found["integrations"] == [{"integration": "scim", "listed": 3, "matched": 0, "ignored": 0, "complete": True}]
    assert {each["email"]: each["near"] for each in found["accounts"]} == {
        "ada@example.com": "ada",
        "bob@example.com": None,
        "zed@example.com": None,
    }
    done = adopted(repo, "scim")

    assert (done.code, done.json["summary"]) == (0, {"present": 3})
    history = {line["event"] for line in call_cli(repo, "history", "--output", "json").json}
    assert history == {"adopted"}
    assert call_cli(repo, "unmanaged", "--output", "json").json["accounts"] == []
    assert yaml.safe_load((repo.root / "hires/ada.yaml").read_text())["access"] == ["scim"]
