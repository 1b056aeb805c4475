"""Ready manifests against real servers: one person and a group, made, changed, taken away, and back again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from reconciler.gallery.catalog import everything
from tests.journeys.program import Program
from tests.journeys.test_jupyterhub import TOKEN as HUB_TOKEN
from tests.journeys.test_jupyterhub import Hub
from tests.journeys.test_kinto import ADMIN, ADMIN_PASSWORD, Kinto, Post
from tests.repo import Repo, call_cli, free_port
from tests.servers import ask

SERVICE = Path(__file__).with_name("scim_service.py")
SCIM_TOKEN = "scim-t0ken-0123456789"


def taken(repo: Repo, *names: str, host: str, url: str) -> None:
    """Ready manifests in a repository that revokes, with a server's own address in them."""
    for name in names:
        added = call_cli(repo, "add", name)
        assert added.code == 0, added.err
        file = repo.root / "manifests" / f"{name}.yaml"
        assert f"https://{host}" in file.read_text()
        file.write_text(file.read_text().replace(f"https://{host}", url))


def passed(repo: Repo) -> dict[str, str]:
    """The statuses after a pass over what is committed now; after it there is nothing left to do."""
    repo.commit()
    done = call_cli(repo, "--output", "json")
    assert done.code == 0, done.out + done.err
    again = call_cli(repo, "--dry-run", "--output", "json", "--detailed-exitcode")
    assert again.code == 0, again.out
    return {grant["access"]: grant["status"] for grant in done.json["grants"]}


def test_manifest_marked_as_tried_live_is_tried_here() -> None:
    tried = {"jupyterhub", "jupyterhub-group", "kinto", "kinto-collection", "scim"}
    assert {name for name, ready in everything().items() if ready.head["verified"] == "live"} == tried


# JupyterHub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "jupyterhub"
    folder.mkdir()
    with Hub(folder) as running:
        yield running


def of_hub(group: str) -> tuple[Any, ...]:
    group_entry = {"integration": "jupyterhub-group", "values": {"GROUP": {"name": group}}, "needs": ["jupyterhub"]}
    return ("jupyterhub", group_entry)


def test_jupyterhub(repo: Repo, hub: Hub) -> None:
    repo.settings(prune="revoke")
    taken(repo, "jupyterhub", "jupyterhub-group", host="hub.example.com", url=hub.url)
    repo.initial_data("jupyterhub", {"TOKEN": HUB_TOKEN})

    repo.hire("ada", *of_hub("R&D (Wien)"))
    assert passed(repo) == {"jupyterhub": "present", "jupyterhub-group": "present"}
    assert hub.people() == {"ada@example.com": ["R&D (Wien)"]}

    repo.hire("ada", *of_hub("design"))
    passed(repo)
    assert hub.people() == {"ada@example.com": ["design"]}, "out of the one, into the other"

    repo.remove("hires/ada.yaml")
    repo.write("hires/README.md", "Nobody works here.")
    passed(repo)
    assert hub.people() == {}

    repo.hire("ada", *of_hub("data-science"))
    assert passed(repo)["jupyterhub-group"] == "present"
    assert hub.people() == {"ada@example.com": ["data-science"]}


# Kinto


@pytest.fixture
def kinto(tmp_path: Path) -> Iterator[Kinto]:
    folder = tmp_path / "kinto"
    folder.mkdir()
    with Kinto(folder) as running:
        running.begin()
        yield running


@pytest.fixture
def post() -> Iterator[Post]:
    box = Post()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


def of_kinto(collection: str) -> tuple[Any, ...]:
    shared = {"integration": "kinto-collection", "values": {"COLLECTION": {"name": collection}}, "needs": ["kinto"]}
    return ("kinto", shared)


def test_kinto(repo: Repo, kinto: Kinto, post: Post) -> None:
    smtp = {"host": "127.0.0.1", "port": post.port, "sender": "it@example.com"}
    repo.settings(prune="revoke", smtp=smtp)
    taken(repo, "kinto", "kinto-collection", host="kinto.example.com", url=kinto.url)
    repo.initial_data("kinto", {"ADMIN": ADMIN, "ADMIN_PASSWORD": ADMIN_PASSWORD, "BUCKET": "team"})

    repo.hire("ada", *of_kinto("handbook"))
    assert passed(repo) == {"kinto": "present", "kinto-collection": "present"}
    ada = ("ada@example.com", post.password("ada@example.com"))
    assert kinto.may(ada, "handbook") == (200, 201)
    assert kinto.may(ada, "minutes") == (403, 403)

    repo.hire("ada", *of_kinto("minutes"), last_name="Married")
    passed(repo)
    assert kinto.ask("GET", "/accounts/ada@example.com")[1]["data"]["name"] == "Ada Married"
    assert kinto.may(ada, "handbook") == (200, 403), "she still reads what she wrote there herself"
    assert kinto.may(ada, "minutes") == (200, 201), "with the password that she has"

    repo.remove("hires/ada.yaml")
    repo.write("hires/README.md", "Nobody works here.")
    passed(repo)
    assert kinto.may(ada, "minutes") == (401, 401)
    assert kinto.ask("GET", "/accounts/ada@example.com")[0] == 404

    post.mails.clear()
    repo.hire("ada", *of_kinto("handbook"))
    passed(repo)
    again = ("ada@example.com", post.password("ada@example.com"))
    assert again[1] != ada[1]
    assert kinto.may(again, "handbook") == (200, 201)
    assert kinto.may(again, "minutes") == (200, 403), "the right to write to it did not come back with her"


# SCIM


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
