"""The sample SCIM manifest against a real SCIM server: deactivated, hired again, renamed, switched off by somebody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from reconciler.demo.phonebook import Loopback
from reconciler.demo.stage import scim
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import ask

SAMPLE = Path(__file__).parents[2] / "manifests" / "scim.yaml"
TOKEN = "sample-token"
PATCH = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}


@pytest.fixture
def url() -> Iterator[str]:
    with Loopback(scim(TOKEN)) as running:
        yield running.url


@pytest.fixture
def machine(repo: Repo, url: str) -> Machine:
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.write("manifests/scim.yaml", SAMPLE.read_text().replace("http://127.0.0.1:8902", url))
    repo.initial_data("scim", {"TOKEN": TOKEN})
    repo.hire("ada", "scim")
    repo.commit()
    return Machine(repo)


def users(url: str, method: str = "GET", path: str = "", body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/scim+json"}
    status, _, raw = ask(url, method, f"/v2/Users{path}", body, headers)
    assert status < 300, raw
    return json.loads(raw) if raw else None


def ada(url: str) -> Any:
    (found,) = users(url, path="?filter=" + quote('userName eq "ada@example.com"'))["Resources"]
    return found


def switch_off(url: str) -> None:
    operations = [{"op": "replace", "path": "active", "value": False}]
    users(url, "PATCH", f"/{ada(url)['id']}", {**PATCH, "Operations": operations})


def test_inactive_account_is_reactivated_not_duplicated(machine: Machine, url: str) -> None:
    users(
        url,
        "POST",
        body={"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada@example.com"},
    )
    switch_off(url)
    before = ada(url)["id"]
    planned = row(machine.plan(), "ada", "scim")
    assert (planned.status, planned.action, planned.reason) == (Status.DIFFERS, Action.UPDATE, "switched off")
    assert row(machine.reconcile(), "ada", "scim").status is Status.PRESENT
    assert (ada(url)["id"], ada(url)["active"]) == (before, True)
    assert EventType.EXECUTED not in machine.events("ada")


def test_a_new_name_reaches_the_account(machine: Machine, url: str, repo: Repo) -> None:
    assert row(machine.reconcile(), "ada", "scim").status is Status.PRESENT
    repo.hire("ada", "scim", last_name="Okafor")
    repo.commit()
    assert row(machine.plan(), "ada", "scim").reason == "changed since: last_name Example → Okafor"
    assert row(machine.reconcile(), "ada", "scim").status is Status.PRESENT
    assert ada(url)["name"]["familyName"] == "Okafor"
    assert row(machine.reconcile(), "ada", "scim").status is Status.PRESENT
    assert machine.events("ada").count(EventType.UPDATED) == 1


def test_switched_off_there_is_drift_and_healed_once_a_day(machine: Machine, url: str, repo: Repo) -> None:
    machine.reconcile()
    switch_off(url)
    reported = row(machine.reconcile(), "ada", "scim")
    assert (reported.status, reported.action) == (Status.DIFFERS, Action.NONE)
    assert "switched off there" in reported.reason
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", drift={"inactive": "heal"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "scim").status is Status.PRESENT
    assert ada(url)["active"] is True
    switch_off(url)
    left = row(machine.reconcile(), "ada", "scim")
    assert (left.status, left.action) == (Status.DIFFERS, Action.NONE)
    assert ada(url)["active"] is False


def test_rehired_person_is_present(machine: Machine, url: str, repo: Repo) -> None:
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(machine.reconcile(), "ada", "scim").status is Status.REVOKED
    assert users(url)["totalResults"] == 0
    repo.hire("ada", "scim")
    repo.commit()
    assert row(machine.reconcile(), "ada", "scim").status is Status.PRESENT
    assert ada(url)["active"] is True
