"""Imports as files: ChiefOnboarding's are read unchanged, and what is wrong in one is told with line and next step."""
# ruff: noqa: E501  a table reads best with a line for each case

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from reconciler.repository.files import Files, Reader
from reconciler.repository.git.checkout import Checkout
from tests.repo import Repo, call_cli

ASKED = "execute: [{url: 'https://hr.example.com/people', method: GET}]\n"

AS_THERE = {
    "type": "import_users",
    "form": [],
    "exists": {},
    "execute": [{"url": "https://hr.example.com/{{COMPANY}}/reports/{{REPORT}}", "method": "GET", "data": {}}],
    "headers": {"Accept": "application/json", "Authorization": "Basic {{KEY}}:x"},
    "action": "update",
    "schedule": "0 * * * *",
    "data_from": "employees",
    "data_structure": {"email": "workEmail", "first_name": "firstName", "staff_number": "id"},
    "next_page_token_from": "next",
    "next_page": "https://hr.example.com/{{COMPANY}}/reports?token={{ NEXT_PAGE_TOKEN }}",
    "amount_pages_to_fetch": 3,
    "oauth": {},
    "initial_data_form": [
        {"id": name, "name": name.lower(), "description": "from the settings"} for name in ("KEY", "COMPANY", "REPORT")
    ],
}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    return made


def load(repo: Repo) -> Files:
    return Reader().load(Checkout.open(repo.root).worktree())


def test_import_manifest_of_chiefonboarding_is_read_unchanged(repo: Repo) -> None:
    repo.write("config/imports/staff.json", AS_THERE)
    files = load(repo)
    assert files.problems == []
    model = files.imports["staff"].model
    assert (model.action, model.schedule, model.amount_pages_to_fetch) == ("update", "0 * * * *", 3)
    assert model.fills == {"email": "workEmail", "first_name": "firstName", "extra.staff_number": "id"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("data_structure: {email: a}\n", 1, "nothing says where people come from: write execute, or file for a CSV"),
        (f"{ASKED}data_structure: {{first_name: a}}\n", 1, "data_structure needs email: people are told apart by their addresses"),
        (f"{ASKED}data_structure: {{email: a}}\ndata_fron: b\n", 3, "did you mean data_from?"),
        (f"{ASKED}data_structure: {{email: a}}\naction: sync\n", 3, "is not known; allowed: create, update"),
        (f"{ASKED}data_structure:\n  email: a\n  access: b\n", 4, "data_structure.access: cannot be filled: an import says who people are, not what they may use; a sequence's `assign` does"),
        (f"{ASKED}data_structure:\n  email: a\n  source: b\n", 4, "cannot be filled"),
        (f"{ASKED}data_structure:\n  email: a\n  LOG-IN: b\n", 4, "'LOG-IN' goes to `extra`, and a name has letters A-Z and a-z, digits and underscores only"),
        (f"{ASKED}data_structure:\n  email: a\n  oauth: b\n", 4, "means something already"),
        (f"{ASKED}data_structure:\n  email: a\n  LOGIN: b\n  extra.LOGIN: c\n", 5, "LOGIN fills extra.LOGIN already"),
        (f"{ASKED}data_structure:\n  email: a\n  position: {{hire: b}}\n", 4, "another hire's file can stand only at manager and buddy"),
        (f"{ASKED}data_structure: {{email: a, end: b}}\nleaves: c\n", 1, "leaves fills end already"),
        (f"{ASKED}data_structure: {{email: a, first_name: b}}\nid: '{{{{frist_name}}}}'\n", 3, "did you mean first_name?"),
        (f"{ASKED}data_structure: {{email: a}}\nid: people\n", 3, "the same name for everybody"),
        (f"{ASKED}data_structure: {{email: a}}\nnext_page: https://hr.example.com/\n", 1, "next_page needs next_page_token_from: the path to the token in the answer"),
        (f"{ASKED}data_structure: {{email: a}}\ninitial_data_form: [{{id: email}}]\n", 3, "'email' means something already"),
        (f"{ASKED}data_structure: {{email: a}}\nheaders: {{A: '{{{{ TOKEN|upper }}}}'}}\n", 3, "filters are not supported"),
        ("file: people.csv\ndata_structure: {email: a}\ndata_from: b\n", 1, "file is a CSV on this machine, and asks nobody: take data_from out"),
        ("execute: [{url: 'https://hr.example.com/', polling: {interval: 1, amount: 2}, continue_if: {response_notation: a, value: b}}]\ndata_structure: {email: a}\n", 1, "cannot have polling, continue_if"),
    ],
)  # fmt: skip
def test_problem_names_line_and_next_step(repo: Repo, text: str, line: int, said: str) -> None:
    repo.write("config/imports/hr.yaml", text)
    files = load(repo)
    (problem,) = [each for each in files.problems if each.severity == "error"]
    assert (problem.file, problem.line) == ("config/imports/hr.yaml", line)
    assert said in problem.message
    assert list(files.broken["imports"]) == ["hr"]
    assert files.imports == {}


def test_key_that_looks_like_a_hires_is_asked_about(repo: Repo) -> None:
    repo.write("config/imports/hr.yaml", f"{ASKED}data_structure:\n  email: a\n  frist_name: b\n")
    (problem,) = load(repo).problems
    assert (problem.line, problem.severity) == (4, "warning")
    assert problem.message.endswith("no key of a hire, so it goes to extra.frist_name; did you mean first_name?")


def test_placeholder_that_nothing_fills_is_a_warning(repo: Repo) -> None:
    text = """
        execute: [{url: "https://hr.example.com/{{email}}/{{TOKN}}"}]
        data_structure: {email: a}
        initial_data_form: [{id: TOKEN}]
    """
    repo.write("config/imports/hr.yaml", textwrap.dedent(text).lstrip())
    problems = load(repo).problems
    assert {problem.severity for problem in problems} == {"warning"}
    what = "nothing gives this variable; add it to initial_data_form"
    assert [problem.message for problem in problems] == [
        f"execute.0: {{{{TOKN}}}}: {what}; did you mean TOKEN?",
        f"execute.0: {{{{email}}}}: {what}",
    ]


def test_validate_lists_hosts_of_imports_and_refuses_those_not_allowed(repo: Repo) -> None:
    repo.settings(allowed_hosts=["hr.example.com"])
    repo.write("config/imports/staff.json", AS_THERE)
    repo.write(
        "config/imports/other.yaml", "execute:\n  - url: https://evil.example/people\ndata_structure: {email: a}\n"
    )
    done = call_cli(repo, "validate", "--output", "json")
    assert done.code == 1
    assert done.json["hosts"] == [
        {"host": "evil.example", "files": ["config/imports/other.yaml"], "allowed": False},
        {"host": "hr.example.com", "files": ["config/imports/staff.json"], "allowed": True},
    ]
    (problem,) = done.json["problems"]
    assert (problem["file"], problem["line"]) == ("config/imports/other.yaml", 2)
    assert "execute.0.url: host evil.example is not allowed" in problem["message"]


def test_schema_takes_the_imports_that_the_program_takes(repo: Repo) -> None:
    from jsonschema import Draft7Validator  # type: ignore[import-untyped]

    schema = call_cli(repo, "schema", "import").json
    Draft7Validator.check_schema(schema)
    assert list(Draft7Validator(schema).iter_errors(AS_THERE)) == []
    ours = {"file": "p.csv", "data_structure": {"email": "a", "manager": {"hire": "b"}}, "only": {"status": "Active"}}
    assert list(Draft7Validator(schema).iter_errors(ours)) == []
    assert list(Draft7Validator(schema).iter_errors(json.loads('{"execute": [{"url": "x"}]}'))) != []
