"""What a reviewer is told of a revision: problems where files meet, hosts, and what a branch changes."""

from __future__ import annotations

import json
import timeit
from datetime import UTC, date, datetime
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from reconciler.repository.desired import Desired
from reconciler.repository.files import Files, Reader
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import Tree
from reconciler.review.causes import ChangeKind
from reconciler.review.consequences import Change
from reconciler.review.difference import changes, compare
from reconciler.review.problems import Side, hosts_of, problems_of
from reconciler.transports.opening import missing_driver
from tests.repo import Repo

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
TODAY = date(2026, 12, 1)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository that needs no key."""
    made = Repo(tmp_path / "repo")
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    return made


def tree_of(repo: Repo) -> Tree:
    return Checkout.open(repo.root).at(repo.commit())


def files_of(repo: Repo) -> Files:
    return Reader().load(tree_of(repo))


def service(host: str = "api.example.com", *, scheme: str = "https", **more: Any) -> dict[str, Any]:
    url = f"{scheme}://{host}/users/{{{{email}}}}"
    return {"exists": {"url": url, "expected": "{{email}}"}, "execute": [{"url": url}], **more}


def problems(repo: Repo) -> list[str]:
    tree = tree_of(repo)
    return [str(problem) for problem in problems_of(Reader().load(tree), NOW, tree)]


# --- hosts -----------------------------------------------------------------------------------------------------------


def test_hosts_are_those_that_are_written_out(repo: Repo) -> None:
    repo.manifest("asana", service("app.asana.com"))
    repo.manifest("asana-team", service("APP.asana.com"))
    repo.manifest("okta", service("{{TENANT}}.okta.com", initial_data_form=[{"id": "TENANT"}]))
    assert [host.as_json() for host in hosts_of(files_of(repo), tree_of(repo))] == [
        {"host": "app.asana.com", "files": ["manifests/asana-team.yaml", "manifests/asana.yaml"], "allowed": True}
    ]


def test_hosts_of_the_settings_are_hosts_too(repo: Repo) -> None:
    repo.write(
        "config/reconciler.yaml",
        {
            "alerts": [{"webhook": "https://chat.example.com/T/{{ KEY }}"}],
            "twilio": {"account_sid": "A", "from_number": "+1"},
        },
    )
    assert [(host.host, host.files) for host in hosts_of(files_of(repo), tree_of(repo))] == [
        ("api.twilio.com", ("config/reconciler.yaml",)),
        ("chat.example.com", ("config/reconciler.yaml",)),
    ]


@pytest.mark.parametrize(
    ("listed", "host", "scheme", "allowed"),
    [
        ([], "api.example.com", "https", True),
        ([], "api.example.com", "http", False),
        ([], "127.0.0.1:8901", "http", True),
        ([], "ldap.example.com", "ldap", False),
        (["api.example.com"], "api.example.com:8443", "https", True),
        (["api.example.com:443"], "api.example.com", "https", True),
        (["api.example.com:443"], "api.example.com:8443", "https", False),
        (["other.example.com"], "api.example.com", "https", False),
    ],
    ids=["written", "http", "loopback", "ldap", "any-port", "its-port", "another-port", "not-listed"],
)
def test_allowed_hosts(repo: Repo, listed: list[str], host: str, scheme: str, allowed: bool) -> None:
    repo.write("config/reconciler.yaml", {"allowed_hosts": listed})
    repo.manifest("one", service(host, scheme=scheme))
    assert [(each.host, each.allowed) for each in hosts_of(files_of(repo), tree_of(repo))] == [(host, allowed)]
    assert bool(problems(repo)) is not allowed


FOUND = {"sql": "select email from people where email = :email", "parameters": {"email": "{{email}}"}}


def test_a_driver_that_is_not_installed_is_named(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning: the machine that acts may have it."""
    monkeypatch.setattr("reconciler.transports.opening.find_spec", lambda name: None)
    missing_driver.cache_clear()
    exists = {"url": "mysql://db.example.com/hr", "data": FOUND, "expected": "x"}
    repo.manifest("hr", {"headers": {"Authorization": "Basic a:b"}, "exists": exists, "execute": []})
    (found,) = problems(repo)
    assert hosts_of(files_of(repo), tree_of(repo))[0].allowed
    missing_driver.cache_clear()
    assert (
        "warning: exists.url: mysql:// needs PyMySQL, which is not installed: pip install 'access-reconciler[sql]'"
        in found
    )


@pytest.mark.parametrize(
    ("url", "data", "said"),
    [
        ("postgresql://db.example.com/hr", FOUND, []),
        (
            "postgresql://db.example.com/hr",
            {**FOUND, "sql": "select '{{email}}', :email"},
            ["{{email}} cannot stand in sql"],
        ),
        ("mysql://db.example.com/hr", {"sql": "select :email"}, ["parameters has no email"]),
        ("mysql://db.example.com/hr", {**FOUND, "sql": "select 'x' -- :email"}, ["the statement does not use :email"]),
        ("postgresql://db.example.com/hr", None, ["one statement"]),
        ("postgresql://db.example.com/hr?options=-c", FOUND, ["one host, no login, no query"]),
        ("postgresql://db.example.com,other.example.com/hr", FOUND, ["one host, no login, no query"]),
    ],
    ids=["right", "variable", "missing", "left-over", "nothing", "query", "two-hosts"],
)
def test_what_a_database_is_asked_is_one_statement(repo: Repo, url: str, data: Any, said: list[str]) -> None:
    manifest = {"exists": {"url": url, "data": data, "expected": "{{email}}"}, "execute": []}
    data_form = [{"id": "USER"}, {"id": "PASSWORD"}]
    login = {"headers": {"authorization": "Basic {{USER}}:{{PASSWORD}}"}, "initial_data_form": data_form}
    repo.manifest("hr", manifest)
    assert any("exists.url: a database needs a login" in each for each in problems(repo))
    repo.manifest("hr", {**manifest, **login})
    found = problems(repo)
    for words in said:
        assert any(words in each and "error" in each for each in found), found
    assert bool(found) is bool(said)


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("ou=people,dc=example?uid?one?(uid={{email}})", None),
        ("uid={{email}},dc=example", None),
        ("{{email}}?uid?{{department}}?(|(a=1)(b=2))", None),
        ("dc=example?uid?all?(uid={{email}})", "ldaps://host/dn?attributes?scope?filter; scope: base, one, sub"),
        ("dc=example?uid?one?(uid={{email}})?!bindname=cn=x", "ldaps://host/dn?attributes?scope?filter"),
        ("dc=example?uid?one?(uid={{email}}", "the brackets of the filter do not match"),
    ],
)
def test_url_of_a_directory_is_one(repo: Repo, rest: str, says: str | None) -> None:
    url = f"ldaps://directory.example.com/{rest}"
    repo.manifest("people", {"exists": {"url": url, "expected": "{{email}}"}, "execute": []})
    found = [each for each in problems(repo) if "error: exists.url: " in each]  # not whether its driver is installed
    assert found if says else not found
    assert all(each.startswith("manifests/people.yaml:2: error: ") and str(says) in each for each in found)


# --- problems --------------------------------------------------------------------------------------------------------


def test_a_host_that_is_not_allowed_is_an_error_at_its_line(repo: Repo) -> None:
    repo.write("config/reconciler.yaml", {"allowed_hosts": ["api.example.com"]})
    repo.write(
        "manifests/evil.yaml",
        "exists:\n  url: https://api.example.com/{{email}}\n  expected: x\n"
        "execute:\n  - url: https://api.example.com/a\n  - url: https://evil.example.com/?next={{email}}\n",
    )
    (found,) = problems(repo)
    assert found == (
        "manifests/evil.yaml:6: error: execute.1.url: host evil.example.com is not allowed: add it to allowed_hosts in "
        "config/reconciler.yaml"
    )


def test_http_is_for_loopback(repo: Repo) -> None:
    repo.manifest("plain", service(scheme="http"))
    assert [line.split(": error: ")[1] for line in problems(repo)] == [
        "exists.url: host api.example.com is to be asked over http: only https is allowed",
        "execute.0.url: host api.example.com is to be asked over http: only https is allowed",
    ]


@pytest.mark.parametrize("url", ["api.example.com/users", "ftp://api.example.com/", "https:///users"])
def test_a_url_that_leads_nowhere(repo: Repo, url: str) -> None:
    repo.manifest("odd", {"execute": [{"url": url}]})
    (found,) = problems(repo)
    assert found.startswith("manifests/odd.yaml:2: error: execute.0.url: a URL does not start with https:// and a host")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"headers": {"X-A": "a\nb"}}, "header X-A: its value has a line break or another control character"),
        ({"data": {"a": {"b": "{{email}}"}}, "cast_data_to_json": True}, "is flat: a holds a map"),
        ({"data": [1], "headers": {"Content-Type": "multipart/form-data"}}, "a map of fields, and this is none"),
    ],
    ids=["header", "nested", "list"],
)  # fmt: skip
def test_a_request_that_no_value_makes_sendable(repo: Repo, request_: dict[str, Any], why: str) -> None:
    url = "https://api.example.com/{{responses.0.id}}"
    signed = {"url": url, "extra_headers": "pritunl", "files": {"f": "saved"}, "headers": {"{{email}}": "{{email}}"}}
    repo.manifest("odd", {"execute": [signed, {"url": url, **request_}]})
    (found,) = problems(repo)
    assert found.startswith("manifests/odd.yaml:8: error: execute.1: ")
    assert why in found


@pytest.mark.parametrize("url", ["{{BASE}}/users", "https://{{HOST}}/users"])
def test_a_url_that_only_initial_data_completes_is_left_alone(repo: Repo, url: str) -> None:
    names = [{"id": "BASE"}, {"id": "HOST"}]
    repo.manifest("own", {"execute": [{"url": url}], "initial_data_form": names})
    assert problems(repo) == []


def test_entries_with_the_same_check_cannot_be_distinguished(repo: Repo) -> None:
    form = [{"id": "CHANNEL", "type": "input"}]
    tokens: dict[str, Any] = {"initial_data_form": [{"id": "TOKEN"}], "headers": {"Authorization": "Bearer {{TOKEN}}"}}
    repo.manifest("slack", service("slack.com", form=form, **tokens))
    repo.write(
        "hires/ada.yaml",
        "email: ada@example.com\nfirst_name: Ada\nlast_name: O\naccess:\n"
        "  - {integration: slack, name: design, values: {CHANNEL: design}}\n"
        "  - {integration: slack, name: sales, values: {CHANNEL: sales}}\n",
    )
    (found,) = problems(repo)
    assert found == (
        "hires/ada.yaml:6: warning: access sales: its exists check asks the same as that of design, so the two cannot "
        "be told apart: use a form value in `exists`, or make them one entry"
    )


@pytest.mark.parametrize("part", ["url", "expected", "headers"])
def test_entries_whose_checks_differ_are_distinguished(repo: Repo, part: str) -> None:
    exists: dict[str, Any] = {"url": "https://slack.com/members", "expected": "{{email}}"}
    exists[part] = {
        "url": "https://slack.com/{{CHANNEL}}",
        "expected": "{{CHANNEL}}",
        "headers": {"X": "{{CHANNEL}}"},
    }[part]
    repo.manifest("slack", {"form": [{"id": "CHANNEL", "type": "input"}], "exists": exists})
    repo.hire(
        "ada", *({"integration": "slack", "name": name, "values": {"CHANNEL": name}} for name in ("design", "sales"))
    )
    assert problems(repo) == []


def test_choices_by_name_are_distinguished_by_their_names(repo: Repo) -> None:
    team = {"id": "TEAM", "type": "choice", "url": "https://t.example.com/teams"}
    exists = {"url": "https://t.example.com/{{TEAM}}/{{email}}", "expected": "{{email}}"}
    repo.manifest("teams", {"form": [team], "exists": exists})
    repo.hire("ada", *({"integration": "teams", "name": n, "values": {"TEAM": {"name": n}}} for n in ("a", "b")))
    assert problems(repo) == []
    repo.hire("ada", *({"integration": "teams", "name": n, "values": {"TEAM": {"name": "a"}}} for n in ("a", "b")))
    assert len(problems(repo)) == 1


def test_initial_data_in_the_clear(repo: Repo) -> None:
    repo.write("config/initial_data/asana.yaml", "TOKEN: invented-token\n")
    (found,) = problems(repo)
    assert found.startswith("config/initial_data/asana.yaml: error: not encrypted")
    assert "invented-token" not in found


def test_secret_that_sops_left_in_the_clear(repo: Repo) -> None:
    fields = [{"id": "TOKEN"}, {"id": "KEY"}, {"id": "EMPTY"}, {"id": "ORG", "secret": False}]
    repo.manifest("asana", service(initial_data_form=fields))
    sealed = "ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]"
    values = {"TOKEN": "invented-token", "KEY": sealed, "EMPTY": "", "ORG": "acme", "UNASKED": "x"}
    sops = {"pgp": [{"fp": "ABCD", "enc": "x"}], "encrypted_regex": "^KEY$", "mac": sealed, "lastmodified": "x"}
    repo.write("config/initial_data/asana.sops.yaml", {**values, "sops": sops})
    (found,) = problems(repo)
    assert found.startswith("config/initial_data/asana.sops.yaml: warning: TOKEN is not encrypted")
    assert "invented-token" not in found


def test_problems_of_files_and_between_files_come_together(repo: Repo) -> None:
    repo.write("hires/bob.yaml", "email: bob\nfirst_name: B\nlast_name: B\n")
    repo.hire("ada", "asna")
    repo.manifest("asana", service())
    assert problems(repo) == [
        "hires/ada.yaml:5: error: access asna: there is no manifests/asna.yaml: did you mean asana?",
        "hires/bob.yaml:1: error: email: not an address",
    ]


# --- changes ---------------------------------------------------------------------------------------------------------


class Branch:
    """What `main` had, and what is written after."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.base = files_of(repo)

    def changes(self) -> list[Change]:
        return changes(Desired(self.base, TODAY), Desired(files_of(self.repo), TODAY))

    def told(self) -> list[tuple[str, str, dict[str, list[Any]]]]:
        found = (change.as_json() for change in self.changes())
        return [(f"{each['hire']}/{each['access']}", each["change"], each["fields"]) for each in found]


@pytest.fixture
def main(repo: Repo) -> Branch:
    """Ada has Slack and a team; everybody in R&D has a VPN."""
    repo.manifest("slack", service("slack.com"))
    repo.manifest("teams", service("t.example.com", form=[{"id": "TEAM", "type": "input"}]))
    repo.manifest("vpn", {"execute": [{"url": "https://vpn.example.com/", "data": {"of": "{{department}}"}}]})
    repo.write("config/sequences/rd.yaml", {"assign": {"department": "R&D"}, "access": ["vpn"]})
    repo.hire("ada", "slack", {"integration": "teams", "values": {"TEAM": "1"}}, department="R&D", position="Engineer")
    return Branch(repo)


TEAMS = {"integration": "teams", "values": {"TEAM": "1"}}


@pytest.mark.parametrize(
    ("access", "fields", "told"),
    [
        (["slack", TEAMS], {}, []),
        (["slack", {**TEAMS, "values": {"TEAM": "2"}}], {}, [("ada/teams", "changed", {"values.TEAM": ["1", "2"]})]),
        (["slack", {**TEAMS, "values": {"TEAM": 1}}], {}, [("ada/teams", "changed", {"values.TEAM": ["1", 1]})]),
        (["slack", {"integration": "teams"}], {}, [("ada/teams", "changed", {"values.TEAM": ["1", None]})]),
        (["slack", {**TEAMS, "at": "start-3d"}], {"start": date(2027, 1, 1)}, [
            ("ada/teams", "changed", {"at": [None, "start-3d"], "start": [None, "2027-01-01"]})
        ]),
        (["slack", {**TEAMS, "until": date(2027, 1, 1)}], {}, [
            ("ada/teams", "changed", {"until": [None, "2027-01-01"]})
        ]),
        (["slack", {**TEAMS, "needs": ["slack"]}], {}, [("ada/teams", "changed", {"needs": [None, ["slack"]]})]),
        (["slack", {"integration": "slack", "name": "teams"}], {}, [
            ("ada/teams", "changed", {"integration": ["teams", "slack"], "values.TEAM": ["1", None]})
        ]),
        ([TEAMS], {}, [("ada/slack", "removed", {})]),
        (["slack"], {}, [("ada/teams", "removed", {"values.TEAM": ["1", None]})]),
        (["slack", {**TEAMS, "until": TODAY}], {}, [("ada/teams", "removed", {"values.TEAM": ["1", None]})]),
        (["slack", TEAMS, {**TEAMS, "name": "second", "at": "start"}], {"start": date(2027, 1, 1)}, [
            ("ada/second", "added", {"values.TEAM": [None, "1"], "at": [None, "start"]})
        ]),
        (["slack", TEAMS], {"position": "Lead"}, []),
        (["slack", TEAMS], {"department": "Design"}, [("ada/vpn", "removed", {})]),
        (["slack", TEAMS, "vpn"], {"department": "Design"}, [
            ("ada/vpn", "changed", {"department": ["R&D", "Design"]})
        ]),
        (["slack", TEAMS, "vpn"], {}, []),
        (["slack", TEAMS], {"email": "ada@b.example"}, [
            (f"ada/{access}", "changed", {"email": ["ada@example.com", "ada@b.example"]})
            for access in ("slack", "teams", "vpn")
        ]),
    ],
    ids=[
        "nothing", "value", "its type", "value taken out", "at", "until", "needs", "integration", "entry removed",
        "another removed", "until reached", "added", "a field nobody uses", "a field that assigns", "a field in use",
        "from a sequence to their own", "address",
    ],
)  # fmt: skip
def test_changes_of_one_hire(main: Branch, access: list[Any], fields: dict[str, Any], told: list[Any]) -> None:
    main.repo.hire("ada", *access, **{"department": "R&D", "position": "Engineer", **fields})
    assert main.told() == told


def test_a_new_hire_and_one_who_leaves(main: Branch) -> None:
    main.repo.remove("hires/ada.yaml")
    main.repo.hire("bob", "slack")
    assert [(name, kind) for name, kind, _ in main.told()] == [
        ("ada/slack", "removed"),
        ("ada/teams", "removed"),
        ("ada/vpn", "removed"),
        ("bob/slack", "added"),
    ]


def test_a_renamed_file_is_the_same_person(main: Branch) -> None:
    (main.repo.root / "hires/ada.yaml").rename(main.repo.root / "hires/ada.okafor.yaml")
    assert main.told() == [
        (f"ada.okafor/{access}", "changed", {"hire": ["ada", "ada.okafor"]}) for access in ("slack", "teams", "vpn")
    ]


@pytest.mark.parametrize("broken", ["hires/ada.yaml", "config/sequences/rd.yaml", "manifests/slack.yaml"])
def test_a_broken_file_takes_nothing_away(main: Branch, broken: str) -> None:
    main.repo.write(broken, "email: [\n")
    assert main.told() == []


def test_changed_sequence_changes_everybody_who_has_it(main: Branch) -> None:
    main.repo.write("config/sequences/rd.yaml", {"assign": {"department": "R&D"}, "access": ["vpn", "slack"]})
    main.repo.hire("bob", department="R&D")
    assert [(name, kind) for name, kind, _ in main.told()] == [("bob/slack", "added"), ("bob/vpn", "added")]


def test_a_managers_new_name_reaches_who_uses_it(repo: Repo) -> None:
    repo.manifest("hr", {"execute": [{"url": "https://hr.example.com/", "data": {"boss": "{{manager}}"}}]})
    repo.hire("grace", first_name="Grace", last_name="Lind")
    repo.hire("ada", "hr", manager={"hire": "grace"})
    branch = Branch(repo)
    repo.hire("grace", first_name="Grace", last_name="Hopper")
    assert branch.told() == [("ada/hr", "changed", {"manager": ["Grace Lind", "Grace Hopper"]})]


def side(repo: Repo) -> Side:
    tree = tree_of(repo)
    files = Reader().load(tree)
    return Side(tree.revision, files, problems_of(files, NOW, tree), hosts_of(files, tree))


@pytest.mark.parametrize("becomes", ["gone", "mended", "renamed", "still broken"])
def test_whose_file_had_an_error_and_is_gone_is_warned_of(main: Branch, becomes: str) -> None:
    main.repo.hire("ada", "slack", {"integration": "slack"})
    base = side(main.repo)
    if becomes == "gone":
        main.repo.remove("hires/ada.yaml")
    elif becomes == "mended":
        main.repo.hire("ada", "slack")
    elif becomes == "renamed":
        main.repo.remove("hires/ada.yaml")
        main.repo.hire("countess", "slack", email="ada@example.com")
    else:
        main.repo.write("hires/ada.yaml", "email: {\n")
    told = [str(problem) for problem in compare(base, side(main.repo), TODAY).problems_added]
    assert any(each.startswith("hires/ada.yaml: warning: had an error in the base") for each in told) == (
        becomes == "gone"
    )


def test_a_problem_that_only_moved_is_neither_added_nor_fixed(main: Branch) -> None:
    main.repo.hire("bob", "slak")
    base = side(main.repo)
    main.repo.write("hires/bob.yaml", "# a line more\n" + (main.repo.root / "hires/bob.yaml").read_text())
    main.repo.hire("carl", "slak")
    found = compare(base, side(main.repo), TODAY)
    assert [problem.file for problem in found.problems_added] == ["hires/carl.yaml"]
    assert found.problems_fixed == []


def test_hosts_manifests_and_settings(main: Branch) -> None:
    base = side(main.repo)
    main.repo.manifest("vpn", service("evil.example.com"))
    main.repo.manifest("wiki", service("wiki.example.com"))
    main.repo.write("config/reconciler.yaml", {"prune": "revoke", "limits": {"timeout": "90s"}})
    found = compare(base, side(main.repo), TODAY)
    assert [host.host for host in found.hosts_added] == ["evil.example.com", "wiki.example.com"]
    assert [host.host for host in found.hosts_removed] == ["vpn.example.com"]
    assert found.manifests == {ChangeKind.ADDED: ["wiki"], ChangeKind.CHANGED: ["vpn"], ChangeKind.REMOVED: []}
    assert found.settings == {"limits.timeout": ("30s", "90s"), "prune": ("report", "revoke")}


def test_a_host_that_another_service_had_is_new_to_this_one(main: Branch) -> None:
    base = side(main.repo)
    main.repo.manifest("vpn", service("slack.com"))
    assert [host.host for host in compare(base, side(main.repo), TODAY).hosts_added] == ["slack.com"]


def test_a_second_manifest_for_a_known_host_is_no_new_host(main: Branch) -> None:
    base = side(main.repo)
    main.repo.manifest("slack-channel", service("slack.com"))
    assert compare(base, side(main.repo), TODAY).hosts_added == []


def test_number_of_the_settings_is_shown_as_it_is_written(repo: Repo) -> None:
    sides = []
    for percent in (25, 100):
        repo.write("config/reconciler.yaml", {"max_change_percent": percent})
        files = files_of(repo)
        sides.append(Side(files.revision, files, [], []))
    before, after = sides
    assert json.dumps(compare(before, after, TODAY).as_json()["settings"]) == '{"max_change_percent": [25, 100]}'


@pytest.mark.no_cover  # the same lines thousands of times
def test_a_hire_of_thousands_of_entries_is_compared_entry_by_entry(repo: Repo) -> None:
    """Each entry is looked up by its name: the time grows with the entries, not with their square."""

    def compared(count: int) -> tuple[int, float]:
        def entries(value: str) -> list[dict[str, Any]]:
            return [{"integration": "tool", "name": f"t{n}", "values": {"TEAM": value}} for n in range(count)]

        repo.manifest("tool", {"execute": [], "form": [{"id": "TEAM", "name": "Team", "type": "input"}]})
        repo.hire("ada", *entries("1"))
        before = files_of(repo)
        repo.hire("ada", *entries("2"))
        after = files_of(repo)
        best = min(
            timeit.repeat(
                lambda: changes(Desired(before, TODAY), Desired(after, TODAY)), number=1, repeat=3, timer=process_time
            )
        )
        return len(changes(Desired(before, TODAY), Desired(after, TODAY))), best

    (few, quick), (many, slow) = compared(400), compared(3200)
    assert (few, many) == (400, 3200)
    assert slow < quick * 8 * 4
