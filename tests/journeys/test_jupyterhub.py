"""A real JupyterHub and manifests/jupyterhub.yaml: an account in a group, from the first day to the last."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.gallery.live import passed, taken
from tests.journeys.program import Program
from tests.journeys.test_adoption import adopted
from tests.repo import Repo, call_cli, free_port
from tests.servers import PATIENCE, ask, eventually

CONFIG = Path(__file__).with_name("jupyterhub_config.py")
MANIFEST = Path(__file__).parents[2] / "manifests" / "jupyterhub.yaml"
TOKEN = "hub-t0ken-0123456789abcdef"
AUTHORIZED = {"Authorization": f"token {TOKEN}"}


class Hub(Program):
    """JupyterHub, asked beside the program that is under test."""

    health = "/hub/api/"

    def __init__(self, folder: Path) -> None:
        shutil.copy(CONFIG, folder)
        port = free_port()
        env = {"PORT": str(port), "PROXY_PORT": str(free_port()), "TOKEN": TOKEN}
        super().__init__(folder, port, "jupyterhub", f"--config={CONFIG.name}", env=env)
        self._before = 0

    def people(self) -> dict[str, list[str]]:
        """Who is there, and in which groups."""
        _, _, body = ask(self.url, "GET", "/hub/api/users", headers=AUTHORIZED)
        return {person["name"]: sorted(person["groups"]) for person in json.loads(body)}

    def admins(self) -> list[str]:
        """Who of them is an administrator."""
        _, _, body = ask(self.url, "GET", "/hub/api/users", headers=AUTHORIZED)
        return [person["name"] for person in json.loads(body) if person["admin"]]

    def asked(self, what: str) -> list[str]:
        """The test's requests so far as the hub's own log has them, `404 GET /hub/api/users/ada%40example.com`."""
        lines = re.findall(r"\] (\d{3} [A-Z]+ \S+) \((?:reconciler|administrator)@", self.log[self._before :])
        return [line for line in lines if re.search(what, line)]

    def empty(self) -> None:
        """Nobody is there, and nothing was asked."""
        for name in self.people():
            assert ask(self.url, "DELETE", f"/hub/api/users/{quote(name)}", headers=AUTHORIZED)[0] == 204
        assert self.people() == {}  # by this answer, those before it are in the log
        self._before = len(self.log)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("jupyterhub")) as running:
        yield running


@pytest.fixture
def hub(running: Hub) -> Hub:
    running.empty()
    return running


@pytest.fixture
def joined(repo: Repo, hub: Hub) -> Repo:
    """A repository with the sample's manifest for this hub, not committed yet."""
    repo.write("manifests/jupyterhub.yaml", MANIFEST.read_text().replace("127.0.0.1:8000", hub.host))
    repo.initial_data("jupyterhub", {"TOKEN": TOKEN})
    return repo


def entry(group: Any) -> dict[str, Any]:
    return {"integration": "jupyterhub", "values": {"GROUP": group}}


def test_from_the_first_day_to_the_last(joined: Repo, hub: Hub) -> None:
    joined.settings(prune="revoke")
    joined.hire("ada", entry({"name": "data-science"}))
    joined.commit()

    groups = call_cli(joined, "options", "jupyterhub", "GROUP", "--output", "json")
    assert groups.code == 0, groups.err
    assert "R&D (Wien)" in groups.out, "which is on the second page"

    planned = call_cli(joined, "--dry-run", "--output", "json", "--detailed-exitcode")
    assert (planned.code, planned.grant("ada", "jupyterhub")["status"]) == (2, "missing")
    assert [
        f"{r['method']} {r['url'].removeprefix(hub.url)}" for r in planned.grant("ada", "jupyterhub")["requests"]
    ] == [
        "POST /hub/api/users",
        "POST /hub/api/groups/data-science/users",
    ]
    assert hub.people() == {}

    done = call_cli(joined, "--output", "json")
    assert (done.code, done.grant("ada", "jupyterhub")["status"]) == (0, "present"), done.err
    assert hub.people() == {"ada@example.com": ["data-science"]}

    # A second person, whose address holds the first one's, in a group that a URL cannot hold as it stands.
    joined.hire("dada", entry("R&D (Wien)"), email="d'ada+x@example.com")
    joined.commit("One more")
    done = call_cli(joined, "--output", "json")
    assert (done.code, done.json["summary"]) == (0, {"present": 2}), done.out + done.err
    assert hub.people() == {"ada@example.com": ["data-science"], "d'ada+x@example.com": ["R&D (Wien)"]}
    assert len(hub.asked("POST /hub/api/users$")) == 2

    joined.remove("hires/ada.yaml")
    joined.commit("Ada leaves")
    done = call_cli(joined, "--output", "json")
    assert (done.code, done.grant("ada", "jupyterhub")["status"]) == (0, "revoked"), done.out + done.err
    assert hub.people() == {"d'ada+x@example.com": ["R&D (Wien)"]}
    assert hub.asked("DELETE") == ["204 DELETE /hub/api/users/ada%40example.com"]
    assert TOKEN not in done.out + done.err


def test_the_hub_dies_of_a_new_person_and_no_grant_stays_half_done(joined: Repo, hub: Hub) -> None:
    """The account is made, the answer never comes; the retry finds it, and goes on with the group."""
    joined.settings(retry_delay="1s")
    joined.hire("ada", entry("design"))
    joined.commit()
    (hub.folder / "dies").touch()
    failed = call_cli(joined, "--output", "json")
    shown = failed.grant("ada", "jupyterhub")
    assert (failed.code, shown["status"], shown["attempts"]) == (1, "retrying", 1), failed.err
    assert hub.process.wait(PATIENCE) != 0

    # While it is down its check says nothing, and the retry is not used up.
    due = datetime.fromisoformat(shown["retry_at"])
    eventually(lambda: datetime.now(UTC) > due + timedelta(seconds=1))  # it is shown without its fractions
    down = call_cli(joined, "--output", "json").grant("ada", "jupyterhub")
    assert (down["status"], down["attempts"]) == ("retrying", 1)
    assert "exists check failed" in down["reason"]

    hub.start()
    assert hub.people() == {"ada@example.com": []}
    done = call_cli(joined, "--output", "json")
    assert (done.code, done.grant("ada", "jupyterhub")["status"]) == (0, "present"), done.out + done.err
    assert hub.people() == {"ada@example.com": ["design"]}
    assert hub.asked("POST") == ["200 POST /hub/api/groups/design/users"], "the one that made her is not sent again"


def test_many_people_are_read_from_the_listing(joined: Repo, hub: Hub) -> None:
    file = joined.root / "manifests/jupyterhub.yaml"
    file.write_text(file.read_text().replace("limit=200", "limit=4"))
    hires = [f"hire{number:02}" for number in range(12)]
    for hire in hires:
        joined.hire(hire, entry("design"))
    joined.commit()
    assert call_cli(joined).code == 0
    before = len(hub.asked("GET"))
    again = call_cli(joined, "--output", "json")
    assert (again.code, again.json["summary"]) == (0, {"present": 12})
    assert [line.partition("?")[2] for line in hub.asked("GET")[before:]] == [
        "limit=4",
        "limit=4&offset=4",
        "limit=4&offset=8",
    ]


def test_a_token_that_the_hub_does_not_know(joined: Repo, hub: Hub) -> None:
    joined.initial_data("jupyterhub", {"TOKEN": "n0body-knows-this-one"})
    joined.hire("ada", entry("design"))
    joined.commit()
    refused = call_cli(joined, "--output", "json")
    shown = refused.grant("ada", "jupyterhub")
    assert (refused.code, shown["status"]) == (1, "unknown")
    assert "403" in shown["reason"]
    assert hub.people() == {}


def test_rights_follow_git_and_manual_changes_are_reported(repo: Repo, hub: Hub) -> None:
    api = f"{hub.url}/hub/api/users"
    repo.settings()
    repo.manifest(
        "hub",
        {
            "form": [
                {
                    "id": "ADMIN",
                    "name": "Administrator",
                    "type": "choice",
                    "items": [{"id": True, "name": "yes"}, {"id": False, "name": "no"}],
                }
            ],
            "exists": {
                "url": f"{api}/{{{{email}}}}",
                "expected": "{{email}}",
                "fail_when_4xx_response_code": False,
                "match": "name",
                "where": {"admin": "{{ADMIN}}"},
            },
            "execute": [{"url": f"{api}/{{{{email}}}}"}],
            "update": [{"url": f"{api}/{{{{email}}}}", "method": "PATCH", "data": {"admin": "{{ADMIN}}"}}],
            "headers": {"Content-Type": "application/json", "Authorization": "token {{TOKEN}}"},
            "initial_data_form": [{"id": "TOKEN", "name": "Token"}],
        },
    )
    repo.initial_data("hub", {"TOKEN": f"admin-{TOKEN}"})
    repo.hire("ada", {"integration": "hub", "values": {"ADMIN": {"name": "no"}}})
    repo.commit()
    made = call_cli(repo, "--output", "json")
    assert (made.code, made.grant("ada", "hub")["status"]) == (0, "present"), made.err
    assert hub.admins() == []

    repo.hire("ada", {"integration": "hub", "values": {"ADMIN": {"name": "yes"}}})
    repo.commit("Ada becomes an administrator")
    planned = call_cli(repo, "--dry-run", "--output", "json").grant("ada", "hub")
    assert (planned["status"], planned["action"]) == ("differs", "update")
    assert planned["reason"] == "admin: false, git wants true"
    changed = call_cli(repo, "--output", "json")
    assert (changed.code, changed.grant("ada", "hub")["status"]) == (0, "present"), changed.err
    assert hub.admins() == ["ada@example.com"]
    assert hub.asked("PATCH") == ["200 PATCH /hub/api/users/ada%40example.com"]

    repo.settings(drift="report")
    repo.commit("What is changed by hand is told")
    by_hand = {"Authorization": f"token admin-{TOKEN}"}
    assert ask(hub.url, "PATCH", "/hub/api/users/ada%40example.com", {"admin": False}, by_hand)[0] == 200
    told = call_cli(repo, "--output", "json").grant("ada", "hub")
    assert (told["status"], told["action"], told["differs"]) == ("differs", "none", {"admin": [False, True]})
    assert hub.admins() == []

    repo.settings(drift="heal")
    repo.commit("And mended")
    healed = call_cli(repo, "--output", "json")
    assert (healed.code, healed.grant("ada", "hub")["status"]) == (0, "present"), healed.err
    assert hub.admins() == ["ada@example.com"]


def test_people_are_adopted(repo: Repo, hub: Hub) -> None:
    api = f"{hub.url}/hub/api/users"
    repo.settings()
    repo.manifest(
        "hub",
        {
            "exists": {
                "url": f"{api}/{{{{email}}}}",
                "expected": "{{email}}",
                "fail_when_4xx_response_code": False,
                "list": {
                    "url": f"{api}?limit=2",
                    "data_from": "items",
                    "match": "name",
                    "only": {"admin": False},
                    "next_page_from": "_pagination.next.url",
                },
            },
            "execute": [{"url": api, "data": {"usernames": ["{{email}}"]}}],
            "headers": {"Authorization": "token {{TOKEN}}", "Accept": "application/jupyterhub-pagination+json"},
            "initial_data_form": [{"id": "TOKEN", "name": "Token"}],
        },
    )
    repo.initial_data("hub", {"TOKEN": TOKEN})
    repo.write("hires/.keep", "")
    people = ["ann@example.com", "bob@example.com", "o'brien@example.com", "zoe@example.com"]
    assert ask(hub.url, "POST", "/hub/api/users", {"usernames": people}, AUTHORIZED)[0] == 201
    repo.commit()

    listed = call_cli(repo, "unmanaged", "--output", "json").json
    assert [each["account"] for each in listed["accounts"]] == people
    done = adopted(repo, "hub")

    assert (done.code, done.json["summary"]) == (0, {"present": 4})
    assert hub.asked("POST|DELETE|PUT") == ["201 POST /hub/api/users"]  # the test's own
    assert sorted(file.name for file in (repo.root / "hires").glob("*.yaml")) == [
        "ann.yaml",
        "bob.yaml",
        "o-brien.yaml",
        "zoe.yaml",
    ]


def of_hub(group: str) -> tuple[Any, ...]:
    group_entry = {"integration": "jupyterhub-group", "values": {"GROUP": {"name": group}}, "needs": ["jupyterhub"]}
    return ("jupyterhub", group_entry)


def test_ready_manifests(repo: Repo, hub: Hub) -> None:
    repo.settings(prune="revoke")
    taken(repo, "jupyterhub", "jupyterhub-group", host="hub.example.com", url=hub.url)
    repo.initial_data("jupyterhub", {"TOKEN": TOKEN})

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
