"""A program of this machine as a service, from `--program` to the report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo

TOOL = f"""#!{sys.executable}
import json, os, pathlib, sys
kept = pathlib.Path({{kept!r}})
method, who = os.environ["REQUEST_METHOD"], os.environ["PATH_INFO"].removeprefix("/users/")
account = kept / who
if method == "GET" and not who:
    print("Content-Type: application/json\\n")
    print(json.dumps([dict(login=each.name, role=each.read_text()) for each in kept.iterdir()]))
elif method == "GET" and not account.exists():
    print("Status: 404\\n")
elif method == "GET":
    print("Content-Type: application/json\\n")
    print(json.dumps(dict(login=who, role=account.read_text())))
else:
    account.unlink() if method == "DELETE" else account.write_text(json.load(sys.stdin)["role"])
    print("Status: 204\\n")
"""

MANIFEST = {
    "form": [{"id": "ROLE", "type": "input"}],
    "exists": {
        "url": "exec:crm/users/{{email}}",
        "expected": "{{email}}",
        "match": "login",
        "fail_when_4xx_response_code": False,
        "where": {"role": "{{ROLE}}"},
        "list": {"url": "exec:crm/users/", "data_from": "", "match": "login"},
    },
    "execute": [{"url": "exec:crm/users/{{email}}", "data": {"role": "{{ROLE}}"}}],
    "update": [{"url": "exec:crm/users/{{email}}", "method": "PUT", "data": {"role": "{{ROLE}}"}}],
    "revoke": [{"url": "exec:crm/users/{{email}}", "method": "DELETE"}],
}


@pytest.fixture
def crm(tmp_path, repo):
    kept = tmp_path / "people"
    kept.mkdir()
    tool = tmp_path / "crm"
    tool.write_text(TOOL.replace("{kept!r}", repr(str(kept))))
    tool.chmod(0o755)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_new=50)
    repo.manifest("crm", MANIFEST)
    return tool


def people(crm: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in (crm.parent / "people").iterdir()}


def wants(repo: Repo, role: str, *hires: str) -> None:
    for hire in hires:
        repo.hire(hire, {"integration": "crm", "values": {"ROLE": role}})
    repo.commit()


def test_accounts_in_a_program_are_kept_like_those_of_a_service(repo: Repo, crm: Path, call: Call) -> None:
    env = {"RECONCILE_PROGRAM": f"crm={crm} other=/bin/true"}
    wants(repo, "member", "ada")
    planned = call(repo, "--dry-run", "--output", "json", env=env)
    assert (planned.code, planned.grant("ada", "crm")["status"]) == (0, "missing")
    assert people(crm) == {}
    assert call(repo, "--program", f"crm={crm}", "--yes").code == 0
    assert people(crm) == {"ada@example.com": "member"}
    wants(repo, "owner", "ada")
    assert call(repo, "--yes", env=env).code == 0
    assert people(crm) == {"ada@example.com": "owner"}
    assert call(repo, "unmanaged", "--detailed-exitcode", env=env).code == 0
    wants(repo, "member", *(f"hire{number}" for number in range(12)))
    assert call(repo, "--yes", env=env).code == 0
    assert len(people(crm)) == 13
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert call(repo, "--yes", env=env).code == 0
    assert "ada@example.com" not in people(crm)


def test_a_program_that_this_machine_lacks_blocks_its_grants_only(repo: Repo, crm: Path, call: Call) -> None:
    wants(repo, "member", "ada")
    result = call(repo, "--dry-run", "--output", "json", "--program", f"other={crm}")
    grant = result.grant("ada", "crm")
    assert (result.code, grant["status"]) == (1, "blocked")
    assert "exec:crm is no program of this machine: name it with --program crm=PATH" in grant["reason"]
    (host,) = call(repo, "validate", "--output", "json").json["hosts"]
    assert host == {"host": "exec:crm", "files": ["manifests/crm.yaml"], "allowed": False}
    validated = call(repo, "validate", "--output", "json", "--program", f"crm={crm}")
    assert validated.json["hosts"] == [{**host, "allowed": True}]
    assert validated.code == 0


@pytest.mark.parametrize("command", [["--dry-run"], ["unmanaged"], ["--yes"]], ids=["dry", "unmanaged", "pass"])
def test_what_a_program_says_beside_its_answer_goes_to_the_log(
    repo: Repo, crm: Path, call: Call, command: list[str]
) -> None:
    crm.write_text(crm.read_text().replace("kept =", "print('a note', file=sys.stderr)\nkept =", 1))
    wants(repo, "member", "ada")
    env = {"RECONCILE_PROGRAM": f"crm={crm}"}
    done = call(repo, *command, "--output", "json", "--log-format", "json", env=env)
    assert "revision" in done.json
    noted = [line for line in map(json.loads, done.err.splitlines()) if line["event"] == "program.stderr"]
    assert {(line["level"], line["program"], line["text"]) for line in noted} == {("warning", "crm", "a note")}


def test_a_manifests_own_tests_need_no_program(repo: Repo, crm: Path, call: Call) -> None:
    answer = {"url": "exec:crm/users/ada%40example.com", "body": {"login": "ada@example.com", "role": "member"}}
    repo.write(
        "manifests/crm.test.yaml",
        [{"name": "there", "values": {"ROLE": "member"}, "answers": [answer], "expect": "present"}],
    )
    done = call(repo, "test")
    assert done.code == 0, done.out
    assert people(crm) == {}


def test_a_program_in_the_checkout_is_refused(repo: Repo, crm: Path, call: Call) -> None:
    repo.write("tools/crm", "#!/bin/sh\n")
    repo.commit()
    refused = call(repo, "--dry-run", "--program", f"crm={repo.root}/tools/crm")
    assert refused.code == 64
    assert "is within the checkout, where a commit could change it" in refused.err


@pytest.mark.parametrize(
    "url", ["{{BASE}}/users", "exec:{{BASE}}/users", "EXEC:crm/users"], ids=["all", "name", "case"]
)
def test_no_value_chooses_a_program(repo: Repo, crm: Path, call: Call, url: str) -> None:
    repo.manifest("crm", {"exists": {"url": url, "expected": "{{email}}"}, "execute": []})
    repo.hire("ada", "crm", extra={"BASE": "exec:crm" if url.startswith("{{") else "crm"})
    repo.commit()
    grant = call(repo, "--dry-run", "--output", "json", "--program", f"crm={crm}").grant("ada", "crm")
    assert grant["status"] == "blocked"
