"""`reconcile test`: the cases of a manifest are planned as a pass plans, with their answers in place of the service."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.gallery.catalog import everything
from tests.cli.conftest import Call
from tests.repo import Repo

MEMBER = "https://api.github.com/orgs/acme/memberships/ada"
ADA: dict[str, Any] = {"hire": {"extra": {"GITHUB_LOGIN": "ada"}}, "data": {"ORG": "acme"}}


def answered(role: str = "member", login: str = "ada", **more: Any) -> dict[str, Any]:
    return {"url": MEMBER, "body": {"state": "active", "role": role, "user": {"login": login}, **more}}


def case(*answers: dict[str, Any], expect: str, role: str = "member", **more: Any) -> dict[str, Any]:
    return {"name": "a case", **ADA, "values": {"ROLE": role}, "answers": list(answers), "expect": expect, **more}


ABSENT = {"url": MEMBER, "status": 404, "body": {"message": "Not Found"}}
NOBODY = {"url": "https://api.github.com/orgs/acme/invitations?per_page=100", "body": []}
PUT = [{"method": "PUT", "url": MEMBER, "data": {"role": "member"}}]
DELETE = [{"method": "DELETE", "url": MEMBER}]
LISTED = {"url": "https://api.github.com/orgs/acme/members?per_page=100", "body": [{"login": "ada"}]}
PASSING = {
    "present": case(answered(), expect="present", sends=[]),
    "case of letters": case(answered(login="Ada"), expect="present"),
    "missing": case(ABSENT, NOBODY, expect="missing", sends=PUT),
    "invited": case(ABSENT, {**NOBODY, "body": [{"login": "ada"}]}, expect="unconfirmed", sends=[]),
    "refused": case({"url": MEMBER, "status": 401, "body": "Bad credentials"}, expect="unknown", reason="credentials"),
    "differs": case(answered("admin"), expect="differs", reason="role: admin, git wants member", sends=PUT),
    "changed by a commit": case(answered("admin"), expect="differs", sends=PUT, before={"values": {"ROLE": "admin"}}),
    "drift is mended": case(answered("admin"), expect="differs", sends=PUT, before={"values": {"ROLE": "member"}}),
    "who left": case(answered(), expect="orphaned", sends=DELETE, orphan=True),
    "who left, without a value that only where uses": case(
        answered(), expect="orphaned", sends=DELETE, orphan=True, values={}
    ),
    "who left and is gone": case(ABSENT, NOBODY, expect="revoked", sends=[], orphan=True),
    "by the listing, and then alone": case(LISTED, answered(), expect="present", list=True),
    "an answer that is not used": case(answered(), NOBODY, expect="present"),
}
FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "another status": (
        case(answered("admin"), expect="present"),
        "expect: the case says present, the program finds differs: role: admin",
    ),
    "another reason": (
        case(ABSENT, NOBODY, expect="missing", reason="gone"),
        "reason: the case says 'gone', and the program's has no such part: ",
    ),
    "no answer": (case(expect="unknown"), f"GET {MEMBER}: no answer of the case fits it"),
    "the listing is not answered": (case(answered(), expect="present", list=True), "/members?per_page=100: no answer"),
    "sends nothing": (
        case(answered(), expect="present", sends=PUT),
        "sends: the case lists 1, the program would send 0",
    ),
    "sends something else": (
        case(ABSENT, NOBODY, expect="missing", sends=[{**PUT[0], "data": {"role": "admin"}}]),
        'sends, request 1: data: the case says {"role": "admin"}, the program would send {"role": "member"}',
    ),
    "another url": (
        case(answered(), expect="orphaned", orphan=True, sends=[{"url": f"{MEMBER}a"}]),
        f"sends, request 1: url: the case says {MEMBER}a, the program would send {MEMBER}",
    ),
    "a value that does not fit": (case(answered(), expect="present", role="boss"), "the program finds invalid: "),
}


@pytest.fixture
def github(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write("manifests/github.yaml", everything()["github"].text)
    made.write("hires/.gitkeep", "")
    return made


def with_cases(repo: Repo, *cases: dict[str, Any]) -> None:
    repo.write("manifests/github.test.yaml", yaml.safe_dump(list(cases), sort_keys=False))


def test_cases_that_pass(github: Repo, call: Call) -> None:
    with_cases(github, *({**each, "name": name} for name, each in PASSING.items()))
    done = call(github, "test")
    assert done.out == f"{len(PASSING)} cases of 1 manifest passed\n"
    assert done.code == 0


@pytest.mark.parametrize(("failing", "says"), FAILING.values(), ids=FAILING)
def test_case_that_fails(github: Repo, call: Call, failing: dict[str, Any], says: str) -> None:
    with_cases(github, failing)
    done = call(github, "test", "github", "--output", "json")
    assert done.code == 1
    assert any(says in each for each in done.json["cases"][0]["failures"]), done.json["cases"]


def test_failure_shows_request_answer_and_rules(github: Repo, call: Call) -> None:
    failing = case(answered("admin"), expect="present", sends=[{**PUT[0], "data": {"role": "owner"}}])
    with_cases(github, case(ABSENT, NOBODY, expect="missing"), {**failing, "name": "b"})
    assert call(github, "test").out == (
        "FAILED github, line 17: b\n"
        "  expect: the case says present, the program finds differs: role: admin, git wants member\n"
        '  sends, request 1: data: the case says {"role": "owner"}, the program would send {"role": "member"}\n'
        f"    request   GET {MEMBER}  (exists)\n"
        '    answer    200 {"state": "active", "role": "admin", "user": {"login": "ada"}}\n'
        '    rule      absent message is "Not Found": nothing: no\n'
        '    rule      expected "ada": yes\n'
        '    rule      match user.login: "ada": yes\n'
        '    rule      where role wants "member": "admin": no\n'
        '    rule      invited state is "pending": "active": no\n'
        f'    the case lists           PUT {MEMBER} {{"role": "owner"}}\n'
        f'    the program would send   PUT {MEMBER} {{"role": "member"}}\n'
        "1 case of 1 manifest passed, 1 failed\n"
    )


def test_path_that_no_item_has_is_said_of_a_case_that_fails(github: Repo, call: Call) -> None:
    people = {"url": "https://api.example.com/people", "body": {"people": [{"mail": "ada@example.com", "id": 7}]}}
    exists = {"url": people["url"], "expected": "{{email}}", "record": "people", "match": "email"}
    github.manifest("tool", {"exists": exists, "execute": [{"url": people["url"]}]})
    github.write("manifests/tool.test.yaml", json.dumps([{"name": "a", "answers": [people], "expect": "present"}]))
    assert "no item has email; items have: mail, id; ada@example.com stands at mail" in call(github, "test", "tool").out


def test_path_that_no_item_has_is_said_of_a_case_that_passes(github: Repo, call: Call) -> None:
    people = {"url": "https://api.example.com/people", "body": {"people": [{"mail": "bob@example.com", "id": 7}]}}
    exists = {"url": people["url"], "expected": "{{email}}", "record": "people", "match": "email"}
    github.manifest("tool", {"exists": exists, "execute": [{"url": people["url"]}]})
    github.write("manifests/tool.test.yaml", json.dumps([{"name": "a", "answers": [people], "expect": "missing"}]))
    done = call(github, "test", "tool")
    assert done.code == 0
    assert done.out == (
        "tool, line 1: a: match: no item has email; items have: mail, id; did you mean mail?\n"
        "1 case of 1 manifest passed\n"
    )


def test_requests_of_one_url_are_told_apart_by_what_they_send(github: Repo, call: Call) -> None:
    url, day = "https://api.example.com/graphql", date(2026, 12, 1)  # a day without quotes is the text that is sent
    data = {"who": "{{email}}", "from": "{{start}}"}
    exists = {"url": url, "method": "POST", "data": data, "expected": "{{email}}"}
    listing = {"url": url, "method": "POST", "data": {"all": True}, "match": "email", "data_from": "users"}
    execute = [{"url": url, "data": {"new": "{{ID}}", "from": "{{start}}"}}]
    github.manifest("chat", {"exists": {**exists, "list": listing}, "execute": execute})
    answers = [
        {"url": url, "method": "POST", "data": {"all": True}, "body": {"users": []}},
        {"url": url, "method": "POST", "data": {"who": "ada@example.com", "from": day}, "body": {}},
    ]
    extra = {"hire": {"start": day, "extra": {"ID": "7"}}}
    cases = [
        {
            "name": "new",
            **extra,
            "answers": answers,
            "list": True,
            "expect": "missing",
            "sends": [{"data": {"new": "7", "from": day}}],
        }
    ]
    github.write("manifests/chat.test.yaml", cases)
    assert call(github, "test", "chat").out == "1 case of 1 manifest passed\n"


@pytest.mark.parametrize(
    ("rules", "expect"),
    [
        ({"inactive": {"employeeType": True}}, "differs"),
        ({"where": {"manager": "CN=boss, dc=example,dc=com"}}, "present"),
        ({"where": {"manager": {"not": "CN=boss, dc=example,dc=com"}}}, "differs"),
        ({"where": {"memberOf": {"contains": "cn=staff,dc=example,dc=com"}}}, "present"),
        ({"where": {"memberOf": {"not": {"contains": "cn=staff,dc=example,dc=com"}}}}, "differs"),
    ],
)
def test_listing_of_a_directory_compares_as_its_checks_do(
    github: Repo, call: Call, rules: dict[str, Any], expect: str
) -> None:
    """A listing that finds the account as wanted is all that is asked."""
    entry = {"mail": "ada@example.com", "employeeType": "TRUE", "manager": "cn=Boss,dc=example,dc=com"}
    entry["memberOf"] = "cn=staff,dc=example,dc=com"
    people = "ldaps://ldap.example.com/dc=example,dc=com?*?one?(mail="
    listing = {"url": f"{people}*)", "data_from": "", "match": "mail"}
    exists = {"url": f"{people}{{{{email}}}})", "expected": "{{email}}", "match": "mail", **rules, "list": listing}
    github.manifest("directory", {"exists": exists})
    answers = [{"url": f"{people}*)", "body": [entry]}]
    if expect == "differs":
        answers.append({"url": f"{people}ada@example.com)", "body": [entry]})
    github.write("manifests/directory.test.yaml", [{"name": "a", "answers": answers, "expect": expect, "list": True}])
    assert call(github, "test", "directory").out == "1 case of 1 manifest passed\n"


@pytest.mark.parametrize("match", [{"match": "email"}, {}], ids=["match", "text"])
@pytest.mark.parametrize(
    ("active", "expect", "sends"),
    [([False, True], "orphaned", 1), ([True, False], "orphaned", 1), ([False, False], "revoked", 0)],
    ids=["second", "first", "none"],
)
def test_account_in_use_is_revoked_although_another_was_switched_off(
    github: Repo, call: Call, match: dict[str, Any], active: list[bool], expect: str, sends: int
) -> None:
    found, gone = "https://api.example.com/users?q=ada", {"method": "DELETE", "url": "https://api.example.com/ada"}
    exists = {"url": found, "expected": "{{email}}", "record": "", "inactive": {"active": False}, **match}
    github.manifest("tool", {"exists": exists, "execute": [], "revoke": [gone]})
    items = [{"email": "ada@example.com", "active": each} for each in active]
    answers = [{"url": found, "body": [{"email": "al@example.com", "active": True}, *items]}]
    case = {"name": "left", "orphan": True, "answers": answers, "expect": expect, "sends": [gone] * sends}
    github.write("manifests/tool.test.yaml", [case])
    done = call(github, "test", "tool")
    assert done.out == "1 case of 1 manifest passed\n", done.out


@pytest.mark.parametrize(
    ("active", "expect", "sends"), [([False, True], "orphaned", 1), ([False, False], "revoked", 0)], ids=["used", "off"]
)
def test_account_in_use_is_revoked_although_a_page_before_has_one_switched_off(
    github: Repo, call: Call, active: list[bool], expect: str, sends: int
) -> None:
    url, gone = "https://api.example.com/users", {"method": "DELETE", "url": "https://api.example.com/ada"}
    rules = {"expected": "{{email}}", "record": "users", "match": "email", "inactive": {"active": False}}
    exists = {"url": url, **rules, "pages": {"next_page_from": "next"}}
    github.manifest("tool", {"exists": exists, "execute": [], "revoke": [gone]})
    urls, lists = (url, f"{url}?page=2"), [[{"email": "ada@example.com", "active": each}] for each in active]
    answers = [
        {"url": at, "body": {"users": users, "next": following}}
        for at, users, following in zip(urls, lists, (urls[1], None), strict=True)
    ]
    case = {"name": "left", "orphan": True, "answers": answers, "expect": expect, "sends": [gone] * sends}
    github.write("manifests/tool.test.yaml", [case])
    done = call(github, "test", "tool")
    assert done.out == "1 case of 1 manifest passed\n", done.out


@pytest.mark.parametrize("rules", [{"match": "member"}, {"record": ""}, {}], ids=["match", "record", "text"])
@pytest.mark.parametrize(
    ("login", "there", "expect"),
    [("a,b", "UID=A\\2Cb", "present"), ("ada", "uid=Ada", "present"), ("a,b", "uid=a", "missing")],
)
def test_value_in_an_expected_name_of_a_directory_is_escaped(
    github: Repo, call: Call, rules: dict[str, Any], login: str, there: str, expect: str
) -> None:
    """An account that is not found is never taken away."""
    group = "ldaps://ldap.example.com/cn=ops,dc=example,dc=com?member"
    name = "uid={{LOGIN}},ou=people,dc=example,dc=com"
    github.manifest("directory", {"exists": {"url": group, "expected": name, **rules}})
    entry = {"dn": "cn=ops,dc=example,dc=com", "member": ["cn=a", f"{there},ou=people,dc=example,dc=com"]}
    hire = {"email": "ada@example.com", "extra": {"LOGIN": login}}
    case = {"name": "a", "hire": hire, "answers": [{"url": group, "body": [entry]}], "expect": expect}
    github.write("manifests/directory.test.yaml", [case])
    assert call(github, "test", "directory").out == "1 case of 1 manifest passed\n"


@pytest.mark.parametrize(("there", "expect"), [("a=1, of ada", "present"), ("a=1, of bob", "missing")])
def test_expected_text_of_a_directory_that_is_no_name_is_compared_as_text(
    github: Repo, call: Call, there: str, expect: str
) -> None:
    url = "ldaps://ldap.example.com/cn=ops,dc=example,dc=com?description"
    github.manifest("directory", {"exists": {"url": url, "expected": "a=1, of {{LOGIN}}"}})
    entry = {"dn": "cn=ops,dc=example,dc=com", "description": there}
    hire = {"email": "ada@example.com", "extra": {"LOGIN": "ada"}}
    case = {"name": "a", "hire": hire, "answers": [{"url": url, "body": [entry]}], "expect": expect}
    github.write("manifests/directory.test.yaml", [case])
    assert call(github, "test", "directory").out == "1 case of 1 manifest passed\n"


def test_stored_value_and_oauth_token_are_put_in(github: Repo, call: Call) -> None:
    user = "https://api.example.com/users/{{email}}"
    oauth = {"authenticate_url": "https://api.example.com/a", "access_token": {"url": "https://api.example.com/t"}}
    exists = {"url": user, "expected": "{{email}}", "store_data": {"ID": "id"}, "where": {"role": "admin"}}
    place = "https://api.example.com/ids"
    update = [{"url": f"{place}/{{{{ID}}}}", "method": "PUT", "data": {"token": "{{oauth.access_token}}"}}]
    github.manifest("tool", {"exists": exists, "execute": [{"url": user}], "update": update, "oauth": oauth})
    answers = [{"url": "https://api.example.com/users/ada@example.com", "body": {"email": "ada@example.com", "id": 7}}]
    sends = [{"url": f"{place}/7", "data": {"token": "made-up-token"}}]
    differs = {"name": "another role", "answers": answers, "expect": "differs", "sends": sends}
    github.write("manifests/tool.test.yaml", json.dumps([differs]))
    assert call(github, "test", "tool").out == "1 case of 1 manifest passed\n"


def test_manifest_without_a_check_is_executed_once(github: Repo, call: Call) -> None:
    hook = {"url": "https://hooks.example.com/x", "data": {"text": "{{first_name}} {{PASSWORD}}"}}
    github.manifest("hook", {"execute": [hook], "initial_data_form": [{"id": "PASSWORD", "name": "generate"}]})
    sends = [{"method": "POST", "url": hook["url"], "data": {"text": "Ada (generated)"}}]
    github.write("manifests/hook.test.yaml", json.dumps([{"name": "new", "expect": "missing", "sends": sends}]))
    done = call(github, "test", "hook")
    assert (done.code, done.out) == (0, "1 case of 1 manifest passed\n")


BROKEN = {
    "an unknown key": ("- {name: a, expect: present, answer: []}", "'a'.answer: unknown key; allowed: "),
    "no status": ("- {name: a, expect: here}", "'a'.expect: 'here' is not known; allowed: present, "),
    "one name twice": (
        "- {name: a, expect: missing}\n- expect: missing\n  name: a",
        "github.test.yaml:3: error: 1.name: 'a' stands twice: give each a name of its own",
    ),
    "no list": ("name: a", "must be a list"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("command", ["validate", "test"])
def test_file_with_an_error(github: Repo, call: Call, command: str, text: str, says: str) -> None:
    github.write("manifests/github.test.yaml", text)
    done = call(github, command)
    assert done.code == 1
    assert says in done.out
    assert "manifests/github.test.yaml:" in done.out


def test_file_without_its_manifest_is_an_error(github: Repo, call: Call) -> None:
    github.write("manifests/gihtub.test.yaml", "[]")
    done = call(github, "validate")
    assert done.code == 1
    assert "gihtub.test.yaml: error: there is no manifest gihtub that this could test; did you mean github?" in done.out


def test_tests_are_no_manifest(github: Repo, call: Call) -> None:
    with_cases(github, case(answered(), expect="present"))
    assert call(github, "validate").code == 0


@pytest.mark.parametrize("name", ["github", "slack"])
def test_named_manifest_without_tests_is_wrong_usage(github: Repo, call: Call, name: str) -> None:
    assert call(github, "test", name).code == 64
    assert call(github, "test").out == "0 cases of 0 manifests passed\n"
