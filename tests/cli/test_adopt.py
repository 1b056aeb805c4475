"""`reconcile adopt`: accounts that exist become hires' files, and the next pass has nothing to send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService, Reply

FIELDS = {"email": "email", "first_name": "first", "last_name": "last", "start": "since", "extra.LOGIN": "login"}


@pytest.fixture
def saas() -> Iterator[AccountService]:
    with AccountService() as service:
        yield service


@pytest.fixture
def repo(repo: Repo, saas: AccountService) -> Repo:
    repo.settings()
    manifest = saas.manifest(listing=True)
    manifest["exists"]["list"]["fields"] = FIELDS
    repo.manifest("saas", manifest)
    repo.write("hires/.keep", "")
    return repo


def tree(repo: Repo) -> dict[str, bytes]:
    return {str(file.relative_to(repo.root)): file.read_bytes() for file in (repo.root / "hires").rglob("*.y*ml")}


def person(saas: AccountService, email: str, **fields: Any) -> None:
    saas.add(email)
    saas.people[email.lower()] |= fields


def test_accounts_become_files_and_the_next_pass_sends_nothing(repo: Repo, saas: AccountService, call: Call) -> None:
    person(saas, "grace@example.com", first="Grace", last="Hopper", since="2020-01-02T00:00:00Z", login="012345")
    person(saas, "no@example.com", first="NO", last='O\'Brien "x"\nadmin: true', since="soon", login=None)
    repo.write(
        "hires/ada.yaml", b"# Ada\r\nemail: ada@example.com\r\nfirst_name: 'Ada'\r\nlast_name: L # x\r\naccess: []\r\n"
    )
    person(saas, "ADA@example.com")
    repo.commit()

    shown = call(repo, "adopt", "saas", "--all")

    assert shown.code == 0, shown.err
    assert shown.out == (
        "# hires/grace.yaml\nemail: grace@example.com\nfirst_name: Grace\nlast_name: Hopper\nstart: 2020-01-02\n"
        'extra: {LOGIN: "012345"}\naccess:\n  - saas\n\n'
        '# hires/no.yaml\nemail: no@example.com\nfirst_name: "NO"\nlast_name: "O\'Brien \\"x\\"\\nadmin: true"\n'
        "access:\n  - saas\n\n"
        "# hires/ada.yaml\naccess:\n  - saas\n"
    )
    assert list(tree(repo)) == ["hires/ada.yaml"]
    assert call(repo, "adopt", "saas", "--all", "--write").code == 0
    assert tree(repo)["hires/ada.yaml"].endswith(b"\r\naccess: [saas]\r\n")
    assert tree(repo)["hires/grace.yaml"].decode() in shown.out
    assert call(repo, "validate").code == 0
    repo.commit()
    saas.requests.clear()

    done = call(repo, "--output", "json")

    assert (done.code, done.json["summary"]) == (0, {"present": 3})
    assert {request.method for request in saas.requests} == {"GET"}
    assert call(repo, "unmanaged", "--output", "json").json["accounts"] == []
    again = call(repo, "adopt", "saas", "--all", "--write")
    assert (again.code, again.out) == (0, "")


@pytest.mark.parametrize("asked", ["--all", "bob@example.com"])
def test_account_that_is_listed_twice_is_adopted_once(repo: Repo, saas: AccountService, call: Call, asked: str) -> None:
    repo.commit()
    saas.add("bob@example.com")
    saas.route("GET", "/users", {"users": 2 * [*saas.people.values()]})
    assert call(repo, "adopt", "saas", asked, "--write").code == 0
    repo.commit()
    assert call(repo, "--output", "json").json["summary"] == {"present": 1}


def test_all_leaves_out_ignored_and_orphaned_accounts(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("ada@example.com", "ci-bot@example.com", "eve@example.com")
    repo.hire("ada", "saas")
    repo.write("config/ignore.yaml", [{"integration": "saas", "account": "*-bot*", "reason": "CI"}])
    repo.commit()
    assert call(repo).code == 0
    repo.remove("hires/ada.yaml")
    repo.commit()

    assert call(repo, "adopt", "saas", "--all", "--write").code == 0

    assert list(tree(repo)) == ["hires/eve.yaml"]
    named_twice = call(repo, "adopt", "saas", "Ada@example.com", "ada@example.com")
    assert (named_twice.code, named_twice.out.count("# hires/ada.yaml\n")) == (0, 1)


def test_adoption_takes_no_name_of_an_entry_that_a_sequence_gives(repo: Repo, saas: AccountService, call: Call) -> None:
    """The hire's own entry would win over it: what the sequence gave would be revoked."""
    manifest = saas.manifest(listing=True, team=True, revoke=True)
    one = {"url": f"{saas.url}/groups/{{{{TEAM}}}}/{{{{email}}}}"}
    manifest["exists"] |= one
    manifest["exists"]["list"] |= {"url": f"{saas.url}/groups/{{{{TEAM}}}}", "fields": {"email": "email"}}
    repo.manifest("saas", manifest | {"revoke": [{**one, "method": "DELETE"}]})
    saas.route("GET", "/groups/{team}", lambda _got, team: {"users": [{"email": "eve@example.com"}]})
    saas.route("GET", "/groups/{team}/{email}", lambda _got, team, email: {"email": email})
    entries = {team: {"integration": "saas", "values": {"TEAM": team}} for team in ("ops", "dev")}
    repo.write("config/sequences/base.yaml", {"access": [entries["ops"]]})
    repo.hire("eve", sequences=["base"])
    repo.hire("ida", {**entries["dev"], "name": "dev"})
    repo.commit()
    done = call(repo, "adopt", "saas", "eve@example.com", "--write")
    assert (done.code, done.out) == (1, "")
    assert "config/sequences/base.yaml has an entry named saas already: add one by hand, with a name" in done.err
    repo.hire("eve", sequences=["base"], without=["saas"])
    repo.commit()
    assert "{TEAM: dev}" in call(repo, "adopt", "saas", "eve@example.com").out


BAD: dict[str, tuple[list[str], str]] = {
    "unknown": (["nobody@example.com"], "no such account that git does not know"),
    "no address": (["--all"], "robot: it has no address"),
    "stem taken": (["--all"], "hires/team/eve.yaml is there"),
    "same stem": (["--all"], "its file would be hires/eve.yaml"),
    "twice": (["eve@example.com"], "2 accounts are called so"),
    "name taken": (["--all"], "has an entry named saas already"),
    "broken file": (["eve@example.com"], "not adopted: eve@example.com: hires/eve.yaml"),
    "broken ignore": (["--all"], "config/ignore.yaml"),
    "form": (["--all"], "values.TEAM is missing"),
    "not whole": (["--all"], "page 2 answered 500"),
    "no list": (["--all"], "the manifest has no list"),
    "other account": (["--all"], "a pass would not find it"),
    "bad address": (["--all"], "it has no address"),
}


@pytest.mark.parametrize("what", BAD)
def test_refused_adoption_writes_nothing(repo: Repo, saas: AccountService, call: Call, what: str) -> None:
    saas.add("zoe@example.com", "eve@example.com")
    manifest = saas.manifest(listing=True, team=what == "form")
    manifest["exists"]["list"]["fields"] = {"email": "email"}
    match what:
        case "no address":
            saas.add("robot")
        case "bad address":
            saas.add('"a b"@example.com')
        case "stem taken":
            repo.write("hires/team/eve.yaml", "email: other@example.com\nfirst_name: E\nlast_name: E\n")
        case "same stem":
            saas.add("Eve@example.org")
        case "twice":
            saas.people["other"] = {"email": "EVE@example.com"}
        case "name taken":
            repo.hire("eve", {"integration": "saas", "until": "2020-01-01"})
        case "broken file":
            repo.write("hires/eve.yaml", "email: [\n")
        case "broken ignore":
            repo.write("config/ignore.yaml", "- {integration: saas}\n")
        case "not whole":
            saas.add(*(f"p{number}@example.com" for number in range(150)))
            saas.route("GET", "/users", lambda got: Reply(500) if "page" in got.query else saas._list(got))
        case "no list":
            del manifest["exists"]["list"]
        case "other account":
            manifest["exists"]["list"]["match"] = "id"
        case _:
            pass
    repo.manifest("saas", manifest)
    repo.commit()
    before = tree(repo)

    done = call(repo, "adopt", "saas", *BAD[what][0], "--write")

    assert (done.code, done.out) == (1, "")
    assert BAD[what][1] in done.err
    assert tree(repo) == before


@pytest.mark.parametrize(
    ("path", "text"), [("hires/eve.yaml", "email: ["), ("hires/x.yaml", "email: Eve@Example.com\naccess: [")]
)
def test_a_broken_file_is_in_the_way_of_its_person_alone(
    repo: Repo, saas: AccountService, call: Call, path: str, text: str
) -> None:
    saas.add("zoe@example.com", "eve@example.com")
    repo.write(path, text)
    repo.commit()
    done = call(repo, "adopt", "saas", "--all", "--write")
    assert (done.code, done.err.count("not adopted: eve@example.com: hires/")) == (1, 1)
    assert set(tree(repo)) == {path, "hires/zoe.yaml"}
    assert call(repo, "adopt", "saas", "zoe@example.com").code == 1, "it is matched by now"


def by_login(saas: AccountService) -> dict[str, Any]:
    manifest = saas.manifest(listing=True)
    manifest["exists"] |= {"url": f"{saas.url}/users/{{{{LOGIN}}}}", "expected": "{{LOGIN}}"}
    manifest["exists"]["list"] |= {"match": "login", "account": "login", "fields": {"email": "email"}}
    return manifest


def test_whose_an_account_is_is_told_by_the_login(repo: Repo, saas: AccountService, call: Call) -> None:
    """Without case, whatever address the service has for it."""
    person(saas, "grace@home.example", login="Grace-H")
    person(saas, "ada@home.example", login="ADA")
    repo.manifest("saas", by_login(saas))
    repo.hire("grace", extra={"LOGIN": "grace-h"})
    repo.hire("ada", "saas", extra={"LOGIN": "ada"})
    repo.commit()
    found = call(repo, "unmanaged", "--output", "json").json
    assert [(each["account"], each["near"], each["reason"]) for each in found["accounts"]] == [
        ("Grace-H", "grace", "grace has no entry for it")
    ]
    assert found["integrations"][0]["matched"] == 1
    shown = call(repo, "adopt", "saas", "--all")
    assert (shown.code, shown.out) == (0, "# hires/grace.yaml\naccess:\n  - saas\n")


def test_what_a_pass_revoked_itself_is_not_counted(repo: Repo, saas: AccountService, call: Call) -> None:
    hires = [f"h{number:02}" for number in range(12)]
    repo.settings(prune="revoke")
    repo.manifest("saas", saas.manifest(listing=True, revoke=True))
    for hire in hires:
        repo.hire(hire, "saas")
    saas.add(*(f"{hire}@example.com" for hire in hires))
    repo.commit()
    call(repo)
    repo.remove("hires/h03.yaml")
    repo.commit()
    done = call(repo, "--output", "json")
    assert "h03@example.com" not in saas.people
    assert done.json["unmanaged"] == {"saas": 0}


def test_wrong_usage(repo: Repo, call: Call) -> None:
    repo.commit()
    for arguments in ([], ["x@example.com", "--all"]):
        assert call(repo, "adopt", "saas", *arguments).code == 64
    assert "did you mean saas?" in call(repo, "adopt", "sas", "--all").err


def test_access_that_a_sequence_gives_too_is_noted(repo: Repo, saas: AccountService, call: Call) -> None:
    manifest = saas.manifest(listing=True)
    manifest["exists"]["list"]["fields"] = {"department": "dep"}
    repo.manifest("saas", manifest)
    repo.manifest("other", saas.manifest())
    repo.write("config/sequences/rd.yaml", {"assign": {"department": ["R&D"]}, "access": ["other"]})
    person(saas, "eve@example.com", dep="R&D")
    repo.commit()

    done = call(repo, "adopt", "saas", "--all")

    assert done.code == 0
    assert "eve is given other (config/sequences/rd.yaml:" in done.err


def test_the_form_is_filled_from_the_listing(repo: Repo, saas: AccountService, call: Call) -> None:
    manifest = saas.manifest(listing=True)
    manifest["form"] = [{"id": "LOGIN", "name": "Login", "type": "input"}]
    manifest["exists"] |= {"expected": "{{LOGIN}}", "url": f"{saas.url}/users/{{{{LOGIN}}}}"}
    manifest["exists"]["list"] |= {"match": "login", "fields": {"email": "email"}}
    repo.manifest("saas", manifest)
    person(saas, "eve@example.com", login="012")
    repo.commit()

    done = call(repo, "adopt", "saas", "012")

    assert done.code == 0, done.err
    assert 'access:\n  - integration: saas\n    values: {LOGIN: "012"}\n' in done.out


def test_a_repository_from_a_listing(repo: Repo, saas: AccountService, call: Call) -> None:
    person(saas, "grace@example.com", first="Grace", last="Hopper")
    person(saas, "ada@example.com", first="Ada", last="Lovelace")
    repo.hire("ada", "saas")
    repo.commit()
    assert call(repo).code == 0
    target = repo.root.parent / "new"

    done = call(repo, "init", str(target), "--from", "saas")

    assert done.code == 0, done.err
    new = Repo(target, repo.gnupg)
    assert sorted(tree(new)) == ["hires/ada.yaml", "hires/grace.yaml"]
    assert b"first_name: Grace\n" in tree(new)["hires/grace.yaml"]
    assert (target / "manifests/saas.yaml").read_bytes() == (repo.root / "manifests/saas.yaml").read_bytes()
    readme = (target / "README.md").read_text()
    listed = re.findall(r"^[\w.]+/\S*(?= {2})", readme, re.MULTILINE)
    assert {"manifests/saas.yaml", "config/reconciler.yaml"} < set(listed)
    assert [name for name in listed if not (target / name).exists()] == []
    assert "example" not in readme.split()
    new.commit()
    assert call(new, "validate").code == 0
    saas.requests.clear()
    assert call(new, "--output", "json").json["summary"] == {"present": 2}
    assert {request.method for request in saas.requests} == {"GET"}


def test_init_refuses_an_incomplete_listing_and_a_broken_manifest(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.route("GET", "/users", Reply(500))
    repo.commit()
    target = repo.root.parent / "new"

    done = call(repo, "init", str(target), "--from", "saas")

    assert (done.code, done.out) == (1, "")
    assert not target.exists()

    repo.write("manifests/saas.yaml", "exist: {}\n")
    repo.commit()
    broken = call(repo, "init", str(target), "--from", "saas")
    assert (broken.code, "the manifest of saas has an error: manifests/saas.yaml:1" in broken.err) == (1, True)
    assert not target.exists()
