"""`reconcile validate`, as people, programs and GitHub's runners read it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write("config/reconciler.yaml", {"allowed_hosts": ["slack.com"]})
    made.manifest("slack", {"execute": [{"url": "https://slack.com/"}]})
    made.manifest("evil", {"execute": [{"url": "https://evil.example/"}]})
    made.hire("ada", "slack")
    made.write("hires/bob.yaml", "email: bob\nfirst_name: B\nlast_name: B\n")
    made.commit()
    return made


def test_table(repo: Repo, call: Call) -> None:
    done = call(repo, "validate")
    assert done.code == 1
    assert done.out == (
        "2 errors; requests would go to 2 hosts, of which 1 not allowed\n"
        "hires/bob.yaml:1: error: email: not an address\n"
        "manifests/evil.yaml:2: error: execute.0.url: host evil.example is not allowed: add it to allowed_hosts in "
        "config/reconciler.yaml\n"
        "host evil.example  (manifests/evil.yaml)  NOT ALLOWED\n"
        "host slack.com  (manifests/slack.yaml)\n"
    )


def test_annotations_stand_beside_the_text(repo: Repo, call: Call) -> None:
    plain = call(repo, "validate").out
    on_github = call(repo, "validate", env={"GITHUB_ACTIONS": "true"}).out
    assert on_github == plain + (
        "::error file=hires/bob.yaml,line=1::email: not an address\n"
        "::error file=manifests/evil.yaml,line=2::execute.0.url: host evil.example is not allowed: add it to "
        "allowed_hosts in config/reconciler.yaml\n"
    )


def test_an_annotation_cannot_be_ended_by_a_files_name(repo: Repo, call: Call) -> None:
    repo.write("hires/a,b: 100%.yaml", "email: x\nfirst_name: B\nlast_name: B\n")
    repo.commit()
    out = call(repo, "validate", env={"GITHUB_ACTIONS": "true"}).out
    assert "::error file=hires/a%2Cb%3A 100%25.yaml,line=1::email: not an address\n" in out


def test_json_is_json_on_github_too(repo: Repo, call: Call) -> None:
    done = call(repo, "validate", "--output", "json", env={"GITHUB_ACTIONS": "true"})
    assert [problem["file"] for problem in done.json["problems"]] == ["hires/bob.yaml", "manifests/evil.yaml"]
    assert done.json["hosts"] == [
        {"host": "evil.example", "files": ["manifests/evil.yaml"], "allowed": False},
        {"host": "slack.com", "files": ["manifests/slack.yaml"], "allowed": True},
    ]


def test_markdown(repo: Repo, call: Call) -> None:
    assert call(repo, "validate", "--output", "markdown").out == (
        "**2 errors; requests would go to 2 hosts, of which 1 not allowed**\n\n"
        "- error in `hires/bob.yaml:1`: `email: not an address`\n"
        "- error in `manifests/evil.yaml:2`: `execute.0.url: host evil.example is not allowed: add it to allowed_hosts "
        "in config/reconciler.yaml`\n"
        "- host `evil.example` from `manifests/evil.yaml` **not allowed**\n"
        "- host `slack.com` from `manifests/slack.yaml`\n"
    )


def test_files_are_read_as_they_stand(repo: Repo, call: Call) -> None:
    repo.remove("manifests/evil.yaml")
    repo.remove("hires/bob.yaml")
    here = call(repo, "validate")
    assert (here.code, here.err) == (0, "")
    assert here.out.startswith("all files are in order; requests would go to 1 host\n")
    assert call(repo, "validate", "--rev", "HEAD").code == 1


def test_a_repository_without_a_commit_is_read(tmp_path: Path, call: Call) -> None:
    fresh = Repo(tmp_path / "fresh")
    fresh.manifest("slack", {"execute": [{"url": "https://slack.com/"}]})
    fresh.hire("ada", "slack")
    done = call(fresh, "validate")
    assert (done.code, done.err) == (0, "")


def test_settings_that_cannot_be_read(repo: Repo, call: Call) -> None:
    repo.write("config/reconciler.yaml", "intervall: 1m\n")
    repo.commit()
    done = call(repo, "validate", "--output", "json")
    assert done.code == 1
    assert [(each["file"], each["line"]) for each in done.json["problems"]] == [("config/reconciler.yaml", 1)]
    assert done.json["hosts"] == []


TEAM_IS_MISSING = "values.TEAM is missing: manifests/slack.yaml has it in its form and uses it"

NEEDY = {
    "form": [{"id": "TEAM", "name": "Team", "type": "input"}],
    "extra_user_info": [{"id": "LOGIN"}],
    "initial_data_form": [{"id": "TOKEN"}, {"id": "PASSWORD", "name": "generate"}],
    "headers": {"Authorization": "Bearer {{TOKEN}}"},
    "execute": [
        {
            "url": "https://slack.com/{{TEAM}}",
            "data": {
                "x": "{{LOGIN}} {{start}} {{department}} {{manager}} {{COLOUR}} {{PASSWORD}} {{SAVED}}",
                "y": "{{responses.0.id}} {{redirect_url}}",
            },
            "store_data": {"SAVED": "id"},
        }
    ],
}


@pytest.fixture
def needy(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "needy")
    made.manifest("slack", NEEDY)
    return made


def errors(repo: Repo, call: Call) -> list[str]:
    return [
        f"{each['file']}:{each['line']}: {each['severity']}: {each['message']}"
        for each in call(repo, "validate", "--output", "json").json["problems"]
        if "nothing gives this variable" not in each["message"]
    ]


def test_missing_value_of_an_entry_is_an_error(needy: Repo, call: Call) -> None:
    needy.hire("ada", "slack", manager={"hire": "grace"})
    whose = "hires/ada.yaml:7: error: access slack of ada: "
    assert errors(needy, call) == [
        "hires/ada.yaml:4: warning: manager: there is no hires/grace.yaml",
        f"{whose}manager has no value: manager is {{hire: grace}}, and there is no hires/grace.yaml",
        f"{whose}the hire gives no department, which manifests/slack.yaml uses",
        f"{whose}the hire gives no extra.COLOUR, which manifests/slack.yaml uses",
        f"{whose}the hire gives no extra.LOGIN, which manifests/slack.yaml uses",
        f"{whose}the hire gives no start, which manifests/slack.yaml uses",
        f"{whose}{TEAM_IS_MISSING}",
    ]
    assert call(needy, "validate").code == 1


GIVEN = {"start": "2026-12-01", "department": "R&D", "manager": "Grace", "extra": {"LOGIN": "a", "COLOUR": "red"}}


def test_an_entry_that_is_given_everything_is_in_order(needy: Repo, call: Call) -> None:
    needy.hire("ada", {"integration": "slack", "values": {"TEAM": "1"}}, **GIVEN)
    assert errors(needy, call) == []


@pytest.mark.parametrize("requests", ["update", "revoke", "lock"])
def test_a_value_that_only_later_requests_use_is_needed_too(needy: Repo, call: Call, requests: str) -> None:
    """Without it nobody's role could be changed, and nobody's account be taken away."""
    call_with_grade = {"url": "https://slack.example.com/users/{{email}}", "data": {"grade": "{{GRADE}}"}}
    needy.manifest("slack", {**NEEDY, requests: [call_with_grade]})
    needy.hire("ada", {"integration": "slack", "values": {"TEAM": "1"}}, **GIVEN)
    (problem,) = errors(needy, call)
    assert problem.endswith("access slack of ada: the hire gives no extra.GRADE, which manifests/slack.yaml uses")


def test_missing_value_is_reported_at_the_file_that_lacks_it(needy: Repo, call: Call) -> None:
    needy.write("config/sequences/all.yaml", "access:\n  - slack\n")
    needy.hire("ada", sequences=["all"], **{**GIVEN, "start": None})
    assert errors(needy, call) == [
        f"config/sequences/all.yaml:2: error: access slack of ada: {TEAM_IS_MISSING}",
        "hires/ada.yaml:4: error: access slack of ada: the hire gives no start, which manifests/slack.yaml uses",
    ]


def test_name_that_initial_data_may_have_is_no_problem(needy: Repo, call: Call) -> None:
    needy.hire("ada", {"integration": "slack", "values": {"TEAM": "1"}}, **{**GIVEN, "extra": {"LOGIN": "a"}})
    assert [each.rpartition(": ")[2] for each in errors(needy, call)] == [
        "the hire gives no extra.COLOUR, which manifests/slack.yaml uses"
    ]
    needy.write("config/initial_data/slack.yaml.gpg", b"sealed")
    assert errors(needy, call) == []


def test_sequence_without_hires_is_read_too(repo: Repo, call: Call) -> None:
    entries = "access:\n  - slak\n  - {integration: slack, values: {TEAM: '1'}}\n"
    repo.write("config/sequences/design.yaml", entries)
    wrong = [
        "config/sequences/design.yaml:2: error: access slak: there is no manifests/slak.yaml: did you mean slack?",
        "config/sequences/design.yaml:3: error: access slack: values.TEAM: the manifest's form has no such field",
    ]
    assert errors(repo, call)[:2] == wrong
    repo.hire("ada", sequences=["design"])
    assert errors(repo, call)[:2] == wrong, "told once"


def test_assign_that_matches_no_hire_is_a_warning(repo: Repo, call: Call) -> None:
    repo.remove("manifests/evil.yaml")
    repo.remove("hires/bob.yaml")
    repo.write("config/sequences/design.yaml", "access: [slack]\nassign: {department: Desing}\n")
    done = call(repo, "validate")
    assert done.code == 0
    warned = "config/sequences/design.yaml:2: warning: assign: "
    assert f"{warned}it matches no hire, so nobody is given it\n" in done.out
    assert f"{warned}no hire has department Desing\n" in done.out
    repo.hire("cyd", department="Desing")
    assert "warning" not in call(repo, "validate").out


def test_a_value_that_no_hire_has_and_a_field_that_hires_lack_are_warnings(repo: Repo, call: Call) -> None:
    repo.remove("manifests/evil.yaml")
    repo.remove("hires/bob.yaml")
    repo.hire("cyd", department="Design", extra={"OFFICE": "Bonn"})
    repo.write("config/sequences/d.yaml", "access: [slack]\nassign: {department: [design, Desing]}\n")
    repo.write("config/sequences/o.yaml", "access: [slack]\nassign: {any: [{extra.OFFICE: {not: bonn}}]}\n")
    rule = "{name: c, when: {position: Contractor, department: Design}, require: until}"
    repo.write("config/policy.yaml", f"- {rule}\n")
    for _ in ("read", "known from before"):
        lines = [line for line in call(repo, "validate").out.splitlines() if ": warning: " in line]
        assert lines == [
            "config/policy.yaml:1: warning: policy c: when matches no hire",
            "config/policy.yaml:1: warning: policy c: when: no hire has position Contractor",
            "config/sequences/d.yaml:2: warning: assign: no hire has department Desing; did you mean design?",
            "config/sequences/o.yaml:2: warning: assign: it holds for ada only because no extra.OFFICE is given",
        ]


def test_a_state_that_cannot_be_served_is_an_error(repo: Repo, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where the extra is not installed
    repo.remove("manifests/evil.yaml")
    repo.remove("hires/bob.yaml")
    repo.write("config/reconciler.yaml", "interval: 10m\nstate: postgresql://me@db.example.com/x\n")
    done = call(repo, "validate")
    assert done.code == 1
    assert "config/reconciler.yaml:2: error: state: postgresql:// needs the extra `fleet`" in done.out
    assert "pip install 'access-reconciler[fleet]'" in done.out


def test_the_host_that_a_persons_browser_is_sent_to_is_listed(tmp_path: Path, call: Call) -> None:
    made = Repo(tmp_path / "cloud")
    oauth = {"authenticate_url": "https://login.example.com/a", "access_token": {"url": "https://api.example.com/t"}}
    made.manifest("cloud", {"oauth": oauth})
    made.hire("ada")
    before = made.commit()
    names = ("api.example.com", "login.example.com")
    hosts = [{"host": name, "files": ["manifests/cloud.yaml"], "allowed": True} for name in names]
    assert call(made, "validate", "--output", "json").json["hosts"] == hosts
    made.manifest("cloud", {"oauth": oauth | {"authenticate_url": "https://evil.example/a"}})
    made.commit()
    changed = call(made, "diff", before, "--output", "json").json["hosts"]
    assert changed == {"added": ["evil.example"], "removed": ["login.example.com"]}


def test_host_of_a_checks_further_pages_is_listed_and_has_to_be_allowed(repo: Repo, call: Call) -> None:
    pages = {"next_page_token_from": "next", "next_page": "https://pages.example/?after={{NEXT_PAGE_TOKEN}}"}
    exists = {"url": "https://slack.com/members", "expected": "{{email}}", "pages": pages}
    repo.manifest("evil", {"exists": exists, "execute": [{"url": "https://slack.com/"}]})
    done = call(repo, "validate")
    assert "error: exists.pages.next_page: host pages.example is not allowed" in done.out
    assert "host pages.example  (manifests/evil.yaml)  NOT ALLOWED" in done.out


def test_a_host_with_letters_of_its_own_is_named_as_the_dns_spells_it(repo: Repo, call: Call) -> None:
    repo.remove("manifests/evil.yaml")
    repo.remove("hires/bob.yaml")
    repo.write("config/reconciler.yaml", {"allowed_hosts": ["slack.com", "bücher.example"]})
    repo.manifest("books", {"execute": [{"url": "https://BÜCHER.example/users"}]})
    done = call(repo, "validate", "--output", "json")
    books = {"host": "xn--bcher-kva.example", "files": ["manifests/books.yaml"], "allowed": True}
    assert (done.json["problems"], done.json["hosts"][1]) == ([], books)


def test_missing_value_without_which_access_could_not_be_taken_away_is_an_error(needy: Repo, call: Call) -> None:
    saved = {"url": "https://slack.com/{{SAVED}}?{{responses.0.id}}", "method": "DELETE"}
    execute = [{"url": "https://slack.com/{{email}}", "store_data": {"SAVED": "id"}}]
    leave = [saved, {"url": "https://slack.com/{{TEAM}}/{{buddy}}", "method": "DELETE"}]
    needy.manifest("slack", {"form": NEEDY["form"], "execute": execute, "revoke": leave})
    needy.hire("ada", "slack")
    whose = "hires/ada.yaml:5: error: access slack of ada: "
    assert errors(needy, call) == [
        f"{whose}the hire gives no buddy, which manifests/slack.yaml uses",
        f"{whose}{TEAM_IS_MISSING}",
    ]
