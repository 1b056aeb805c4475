"""One person gets an account in a directory, in a database and in a program, by the same pass."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ldap", reason="no python-ldap: pip install -r requirements-ldap.lock, see .ci/run")

from reconciler.ledger.part_writers import WritableAttempts
from reconciler.model.status import EventType, Status
from tests.engine.harness import Machine, dying, row
from tests.postgres import Databases, Wire
from tests.repo import Daemon, Repo, Result, call_cli
from tests.servers import eventually
from tests.slapd import ADMIN, BASE, MISSING, Slapd

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

CRM = f"""#!{sys.executable}
import json, os, pathlib, sys
kept, method = pathlib.Path({{kept!r}}), os.environ["REQUEST_METHOD"]
who = os.environ["PATH_INFO"].removeprefix("/users/")
account = kept / who
def shown(each):
    return dict(email=each.name, **json.loads(each.read_text()))
if method == "GET" and not who:
    print("X: y\\n\\n" + json.dumps([shown(each) for each in kept.iterdir()]))
elif method == "GET":
    print("X: y\\n\\n" + json.dumps(shown(account)) if account.exists() else "Status: 404\\n")
elif method == "DELETE":
    account.unlink()
    print("Status: 204\\n")
else:  # whole at once, for who reads it meanwhile
    written = kept.with_name(f"{{who}}.{{os.getpid()}}")
    written.write_text(sys.stdin.read())
    written.replace(account)
    print("Status: 204\\n")
"""

FORM = [{"id": "TITLE", "type": "input"}]
LOGIN = {"Authorization": "Basic {{USER}}:{{PASSWORD}}"}
DATA = [{"id": "USER", "secret": False}, {"id": "PASSWORD"}]


def directory(url: str) -> dict[str, Any]:
    people = f"{url}/ou=people,{BASE}"
    account = f"{url}/uid={{{{email}}}},ou=people,{BASE}"
    return {
        "form": FORM,
        "initial_data_form": DATA,
        "headers": LOGIN,
        "exists": {
            "url": f"{people}?uid,title?one?(uid={{{{email}}}})",
            "expected": "{{email}}",
            "record": "",
            "match": "uid",
            "where": {"title": "{{TITLE}}"},
            "list": {"url": f"{people}?uid,title?one?(uid=*)", "data_from": "", "match": "uid"},
        },
        "execute": [
            {
                "url": account,
                "data": {"objectClass": "inetOrgPerson", "cn": "{{first_name}}", "sn": "x", "title": "{{TITLE}}"},
            }
        ],
        "update": [{"url": account, "method": "PATCH", "data": {"replace": {"title": "{{TITLE}}"}}}],
        "revoke": [{"url": account, "method": "DELETE"}],
    }


def database(url: str) -> dict[str, Any]:
    def ask(method: str, sql: str, *names: str) -> dict[str, Any]:
        known = {"email": "{{email}}", "title": "{{TITLE}}"}
        return {"url": url, "method": method, "data": {"sql": sql, "parameters": {name: known[name] for name in names}}}

    everybody = "select email, title, active from people"
    return {
        "form": FORM,
        "initial_data_form": DATA,
        "headers": LOGIN,
        "exists": {
            **ask("GET", f"{everybody} where email = :email", "email"),
            "expected": "{{email}}",
            "record": "",
            "match": "email",
            "where": {"title": "{{TITLE}}"},
            "inactive": {"active": False},
            "list": {"url": url, "data": {"sql": everybody}, "method": "GET", "data_from": "", "match": "email"},
        },
        "execute": [ask("POST", "insert into people (email, title) values (:email, :title)", "email", "title")],
        "update": [
            ask("PATCH", "update people set title = :title, active = true where email = :email", "email", "title")
        ],
        "revoke": [ask("PATCH", "update people set active = false where email = :email", "email")],
    }


def program() -> dict[str, Any]:
    url = "exec:crm/users/{{email}}"
    return {
        "form": FORM,
        "exists": {
            "url": url,
            "expected": "{{email}}",
            "match": "email",
            "where": {"title": "{{TITLE}}"},
            "fail_when_4xx_response_code": False,
            "list": {"url": "exec:crm/users/", "data_from": "", "match": "email"},
        },
        "execute": [{"url": url, "data": {"title": "{{TITLE}}"}}],
        "update": [{"url": url, "method": "PUT", "data": {"title": "{{TITLE}}"}}],
        "revoke": [{"url": url, "method": "DELETE"}],
    }


SYSTEMS = ("directory", "database", "program")


class World:
    """The three systems, and a repository whose people have accounts in each."""

    def __init__(self, repo: Repo, slapd: Slapd, databases: Databases, url: str, folder: Path) -> None:
        self.repo, self._slapd, self._databases, self.name = repo, slapd, databases, url.rpartition("/")[2]
        self._url = url
        self.crm = folder / "crm-people"
        self.crm.mkdir()
        tool = folder / "crm"
        tool.write_text(CRM.replace("{kept!r}", repr(str(self.crm))))
        tool.chmod(0o755)
        self.tool = tool
        self.env = {"RECONCILE_PROGRAM": f"crm={tool}"}
        repo.manifest("directory", directory(slapd.url))
        repo.manifest("database", database(url))
        repo.manifest("program", program())
        user, password = ADMIN.split(":")
        repo.initial_data("directory", {"USER": user, "PASSWORD": password})
        repo.initial_data("database", {"USER": "postgres", "PASSWORD": "some password"})

    def want(self, title: str, *hires: str, **fields: Any) -> None:
        for hire in hires:
            entries = [{"integration": name, "values": {"TITLE": title}} for name in SYSTEMS]
            self.repo.hire(hire, *entries, **fields)
        self.repo.commit()

    def limit(self, **limits: str) -> None:
        """Set limits on requests."""
        assert self.repo.gnupg is not None
        self.repo.settings(gnupg_home=self.repo.gnupg.path, limits=limits, max_new=200)

    def url(self, system: str) -> str:
        """The address of a system."""
        return {"directory": self._slapd.url, "database": self._url}.get(system, "")

    def call(self, *arguments: str) -> Result:
        return call_cli(self.repo, *arguments, env=self.env)

    def accounts(self) -> list[dict[str, str]]:
        """Who has an active account in each system, with the title."""
        people = self._slapd.entries(f"ou=people,{BASE}").values()
        named = {each["uid"][0].decode(): each["title"][0].decode() for each in people if "uid" in each}
        rows = dict(self._databases.execute("select email, title from people where active", self.name))
        kept = {each.name: each.read_text().split('"')[3] for each in self.crm.iterdir()}
        return [named, rows, kept]


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with Slapd() as made:
        yield made


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with Databases() as made:
        yield made


@pytest.fixture
def world(repo, slapd, databases, tmp_path) -> Iterator[World]:
    slapd.clear()
    with databases.made("empty") as url, Wire(databases) as wire:
        name = url.partition("?")[0].rpartition("/")[2]
        databases.execute("create table people (email text primary key, title text, active bool default true)", name)
        repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_new=50, drift="heal")
        yield World(repo, slapd, databases, f"postgresql://127.0.0.1:{wire.port}/{name}", tmp_path)


def test_an_account_in_each_is_made_changed_listed_and_taken_away(world: World) -> None:
    world.want("Engineer", "ada")
    planned = world.call("--dry-run", "--output", "json")
    assert [planned.grant("ada", name)["status"] for name in SYSTEMS] == ["missing"] * 3, planned.out
    assert world.accounts() == [{}] * 3
    made = world.call("--yes")
    assert made.code == 0, made.out
    assert world.accounts() == [{"ada@example.com": "Engineer"}] * 3
    world.want("Head", "ada")
    assert world.call("--yes").code == 0
    assert world.accounts() == [{"ada@example.com": "Head"}] * 3
    assert world.call("unmanaged", "--detailed-exitcode").code == 0
    world.want("Engineer", *(f"p{number}" for number in range(12)))
    assert world.call("--yes").code == 0
    assert [len(each) for each in world.accounts()] == [13] * 3
    settled = world.call("--dry-run", "--output", "json")
    assert {settled.grant(hire, name)["status"] for hire in ("ada", "p3") for name in SYSTEMS} == {"present"}
    world.repo.remove("hires/ada.yaml")
    world.repo.commit()
    gone = world.call("--yes")
    assert gone.code == 0, gone.out
    assert ["ada@example.com" in each for each in world.accounts()] == [False] * 3


@pytest.mark.parametrize("title", ["*", ")(uid=*", "a\\b", "';--", "Größe", "a, ou=x"])
def test_a_hostile_value_is_a_value_in_each(world: World, title: str) -> None:
    world.want("Engineer", "bob")
    world.want(title, "ada")
    done = world.call("--yes")
    assert done.code == 0, done.out
    named, rows, _ = world.accounts()
    expected = {"ada@example.com": title, "bob@example.com": "Engineer"}
    assert [named, rows] == [expected, expected]


def test_a_hostile_address_finds_nobody_else(world: World) -> None:
    world.want("Engineer", "ada")
    assert world.call("--yes").code == 0
    world.want("Engineer", "eve", email="*)(uid=ada@example.com")
    shown = world.call("--dry-run", "--output", "json")
    assert "present" not in {each["status"] for each in shown.json["grants"] if each["hire"] == "eve"}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    ("point", "nth", "after"),
    [("sending", 1, True), ("answered", 1, False), ("sending", 2, True), ("answered", 2, False)],
    ids=["before-the-first", "first-unanswered", "before-the-second", "second-unanswered"],
)
def test_a_kill_makes_no_account_twice_and_leaves_none_half_done(
    world: World, system: str, point: str, nth: int, *, after: bool
) -> None:
    """What is done is not done again: in a directory and in a table the same account cannot be made twice."""
    manifest = {"directory": directory, "database": database}.get(system, lambda _url: program())(world.url(system))
    manifest["execute"] += manifest["update"]
    world.repo.manifest(system, manifest)
    world.repo.hire("ada", {"integration": system, "values": {"TITLE": "Engineer"}})
    world.repo.commit()
    machine = Machine(world.repo, programs={"crm": world.tool})
    with dying(WritableAttempts, point, nth=nth, after=after):
        machine.reconcile()
    made = 0 if (point, nth) == ("sending", 1) else 1
    assert len(world.accounts()[SYSTEMS.index(system)]) == made
    machine.clock.turn(hours=1)
    machine.reconcile()
    machine.clock.turn(hours=1)
    found = row(machine.reconcile(), "ada", system)
    assert found.status is Status.PRESENT, found.reason
    assert world.accounts()[SYSTEMS.index(system)] == {"ada@example.com": "Engineer"}
    sent = [line for line in machine.history("ada") if line.event is EventType.ATTEMPT_STARTED]
    assert len(sent) <= 2


def test_a_program_whose_answer_is_lost_is_asked_before_anything_is_sent_again(world: World) -> None:
    text = world.tool.read_text()
    world.tool.write_text(text + "\nif method == 'POST': sys.exit(3)\n")
    world.repo.hire("ada", {"integration": "program", "values": {"TITLE": "Engineer"}})
    world.repo.commit()
    machine = Machine(world.repo, programs={"crm": world.tool})
    found = row(machine.reconcile(), "ada", "program")
    assert found.status is Status.RETRYING
    assert "the program ended with exit code 3" in str(found.last_error)
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "program").status is Status.PRESENT


def test_a_directory_that_hangs_delays_no_other_service(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as hanging:
        world.repo.manifest("directory", directory(f"ldap://127.0.0.1:{hanging.getsockname()[1]}"))
        world.limit(timeout="300s")
        world.want("Engineer", *(f"p{number}" for number in range(30)))
        with Daemon(world.repo, env=world.env, ready=False) as daemon:
            eventually(lambda: [len(each) for each in world.accounts()] == [0, 30, 30])
            daemon.kill9()


def test_account_of_a_directory_is_whose_address_is_one_of_its_values(world: World, slapd: Slapd) -> None:
    """`mail` has several values where people have aliases: a check finds the account by any of them."""
    for uid, mail in (("ada", ["a.l@example.com", "ADA@example.com"]), ("dan", ["dan@example.com", "d@example.com"])):
        entry = {"objectClass": "inetOrgPerson", "cn": uid, "sn": "x", "mail": mail}
        slapd.add(f"uid={uid},ou=people,{BASE}", entry)
    people = f"{slapd.url}/ou=people,{BASE}?mail,cn?one?"
    listing = {"url": f"{people}(mail=*)", "data_from": "", "match": "mail", "fields": {"email": "mail"}}
    manifest = directory(slapd.url)
    manifest["exists"] = {
        "url": f"{people}(mail={{{{email}}}})",
        "expected": "{{email}}",
        "match": "mail",
        "list": listing,
    }
    world.repo.manifest("directory", manifest)
    world.repo.hire("ada", {"integration": "directory", "values": {"TITLE": "Engineer"}})
    world.repo.commit()
    assert world.call("--dry-run", "--output", "json").grant("ada", "directory")["status"] == "present"
    found = world.call("unmanaged", "--integration", "directory", "--output", "json").json
    assert [each["matched"] for each in found["integrations"]] == [1]
    assert [(each["account"], each["email"]) for each in found["accounts"]] == [("dan@example.com", "dan@example.com")]


def test_group_whose_name_is_written_in_another_way_is_the_same(world: World, slapd: Slapd) -> None:
    """What was revoked as the former group's was the member's place in this one."""
    admin, member = ADMIN.split(":")[0], f"uid=ada,ou=people,{BASE}"
    slapd.add(f"cn=R\\2C D,ou=groups,{BASE}", {"objectClass": "groupOfNames", "cn": "R, D", "member": admin})
    url = f"{slapd.url}/{{{{GROUP}}}}"
    change = {"url": url, "method": "PATCH"}
    manifest = {
        "form": [{"id": "GROUP", "type": "input", "identity": True}],
        "initial_data_form": DATA,
        "headers": LOGIN,
        "exists": {"url": f"{url}?cn?base?(member={member})", "expected": "cn"},
        "execute": [{**change, "data": {"add": {"member": member}}}],
        "revoke": [{**change, "data": {"delete": {"member": member}}}],
    }
    world.repo.manifest("directory", manifest)
    for name in (f"cn=R\\2C D,ou=groups,{BASE}", f"cn=R\\, D, ou=groups, {BASE}"):
        world.repo.hire("ada", {"integration": "directory", "values": {"GROUP": name}})
        world.repo.commit()
        assert world.call("--yes", "--output", "json").grant("ada", "directory")["status"] == "present"
        (group,) = slapd.entries(f"ou=groups,{BASE}").keys() - {f"ou=groups,{BASE}"}
        assert member.encode() in slapd.entries(group)[group]["member"]
