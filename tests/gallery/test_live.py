"""Ready manifests against real servers: one person and a group, made, changed, taken away, and back again.

Here those for SCIM; those for JupyterHub and Kinto are tried in tests/journeys, where the servers run already, and
those for directories in modules of their own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.gallery.catalog import everything
from tests.gallery.live import passed, taken
from tests.journeys.program import Program
from tests.repo import Repo, free_port
from tests.servers import ask

SERVICE = Path(__file__).with_name("scim_service.py")
SCIM_TOKEN = "scim-t0ken-0123456789"


def test_manifest_marked_as_tried_live_is_tried() -> None:
    tried = {"jupyterhub", "jupyterhub-group", "kinto", "kinto-collection", "openldap", "openldap-group", "scim"}
    tried |= {"active-directory", "active-directory-group"}
    assert {name for name, ready in everything().items() if ready.head["verified"] == "live"} == tried


class Scim(Program):
    """The `scim2-server` package with two groups."""

    def __init__(self, folder: Path) -> None:
        shutil.copy(SERVICE, folder)
        port = free_port()
        super().__init__(folder, port, SERVICE.stem, str(port), SCIM_TOKEN)

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Users or groups by their names."""
        _, _, body = ask(self.url, "GET", f"/v2/{kind}", headers={"Authorization": f"Bearer {SCIM_TOKEN}"})
        found = json.loads(body).get("Resources", [])
        return {each.get("userName") or each["displayName"]: each for each in found}

    def members(self, group: str) -> list[str]:
        """The ids of who is in a group."""
        return [each["value"] for each in self.resources("Groups")[group].get("members", [])]


@pytest.fixture
def scim(tmp_path: Path) -> Iterator[Scim]:
    folder = tmp_path / "scim"
    folder.mkdir()
    with Scim(folder) as running:
        yield running


@pytest.fixture
def provisioned(repo: Repo, scim: Scim) -> Repo:
    repo.settings(prune="revoke")
    taken(repo, "scim", "scim-group", host="scim.example.com", url=scim.url)
    repo.initial_data("scim", {"TOKEN": SCIM_TOKEN})
    return repo


def test_scim(provisioned: Repo, scim: Scim) -> None:
    def ada() -> dict[str, Any]:
        return scim.resources("Users")["ada@example.com"]

    provisioned.hire("ada", "scim")
    assert passed(provisioned) == {"scim": "present"}
    assert ada()["active"] is True
    known = ada()["id"]

    provisioned.hire("ada", "scim", last_name="Married")
    assert passed(provisioned) == {"scim": "present"}
    assert (ada()["name"]["familyName"], ada()["displayName"]) == ("Married", "Ada Married")

    provisioned.remove("hires/ada.yaml")
    provisioned.write("hires/README.md", "Nobody works here.")
    assert passed(provisioned) == {"scim": "revoked"}
    assert ada()["active"] is False

    provisioned.hire("ada", "scim")
    assert passed(provisioned) == {"scim": "present"}
    assert (ada()["active"], ada()["id"]) == (True, known), "the same account, not another one"


def test_a_scim_group_of_a_service_that_leaves_groups_out_of_its_accounts(provisioned: Repo, scim: Scim) -> None:
    """As its head says: whoever was added stays unconfirmed."""
    group = {"integration": "scim-group", "values": {"GROUP": {"name": "design"}}, "needs": ["scim"]}
    provisioned.hire("ada", "scim", group)
    assert passed(provisioned) == {"scim": "present", "scim-group": "unconfirmed"}
    assert scim.members("design") == [scim.resources("Users")["ada@example.com"]["id"]]
    assert scim.members("data") == []
