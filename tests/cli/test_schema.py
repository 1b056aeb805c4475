"""`reconcile schema`: what editors are given fits the files that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]
from pydantic import ValidationError

from reconciler.repository.documents.problems import validated
from reconciler.repository.documents.schema import KINDS, json_schema
from reconciler.repository.naming import Kind, is_cases
from tests.cli.conftest import Call
from tests.repo import Repo

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "reconciler/cli/template"


def read(path: Path) -> Any:
    return json.loads(json.dumps(yaml.load(path.read_text(), yaml.CSafeLoader) or {}, default=str))


FILES = {
    "settings": ["config/reconciler.yaml"],
    "sequence": ["config/sequences/*.yaml"],
    "hire": ["hires/*.yaml"],
    "manifest": ["manifests/*.*", "reconciler/gallery/manifests/*.yaml"],
    "test": ["manifests/*.test.yaml", "reconciler/gallery/manifests/*.test.yaml"],
    "import": ["reconciler/gallery/imports/*.yaml"],
}

DIALECTS = (Draft7Validator, Draft202012Validator)
"""What the schemas say they are, and what a newer validator takes them for."""


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize("kind", FILES)
def test_the_samples_and_the_ready_files_fit(kind: Kind) -> None:
    schema = json_schema(kind)
    matching = [file for pattern in FILES[kind] for root in (ROOT, TEMPLATE) for file in root.glob(pattern)]
    files = {file: read(file) for file in matching if is_cases(file.name) is (kind == "test")}
    assert len(files) >= 2
    for dialect in DIALECTS:
        dialect.check_schema(schema)
        validator = dialect(schema)
        assert {file: found for file, content in files.items() if (found := [*validator.iter_errors(content)])} == {}


REVIEW = "revision: a\nread_at: b\nlisted: 1\nmatched: 1\nignored: 0\ncomplete: true\nhistory: null\ndigest: c\n"

BROKEN: list[tuple[Kind, str]] = [
    ("settings", "interval: soon"),
    ("settings", "drift: fight"),
    ("settings", "intervall: 10m"),
    ("sequence", "access: slack"),
    ("sequence", "assign: {}"),
    ("hire", "first_name: Ada\nlast_name: Okafor"),
    ("hire", "email: ada\nfirst_name: Ada\nlast_name: Okafor"),
    ("hire", "email: ada@example.com\nfirst_name: Ada\nlast_name: O\naccess: [{integration: slack, at: soon}]"),
    ("manifest", "execute: [{data: {}}]"),
    ("manifest", "exists: {url: https://api.example.com/}\nexecute: []"),
    ("manifest", "form: [{id: TEAM, name: Team, type: choice}]\nexecute: [{url: https://api.example.com/}]"),
    ("ignore", "- {integration: slack, account: bot}"),
    ("import", "data_structure: {email: mail}"),
    ("policy", "- {name: keys, never_both: [deploy]}"),
    ("policy", "- {name: keys, never_both: [deploy, approve], require: until}"),
    ("policy", "- {name: owners, at_most: 5}"),
    ("policy", "- {name: owners, integration: github, values: {ROLE: admin}}"),
    ("review", f"{REVIEW}lines: [{{who: ada, decision: kep}}]"),
    ("review", f"{REVIEW}lines: [{{decision: keep}}]"),
]


@pytest.mark.parametrize(("kind", "text"), BROKEN, ids=[f"{kind}-{text[:24]}" for kind, text in BROKEN])
def test_schema_rejects_files_that_the_program_refuses(kind: Kind, text: str) -> None:
    data, schema = yaml.safe_load(text), json_schema(kind)
    assert [dialect for dialect in DIALECTS if dialect(schema).is_valid(data)] == []
    with pytest.raises(ValidationError):
        KINDS[kind][0].model_validate(data)


def test_a_policy_that_is_in_order_fits() -> None:
    text = """
    - {name: two-keys, never_both: [prod-deploy, code-approve], reason: four eyes}
    - {name: contractors, when: {position: Contractor}, require: until, within: 90d}
    - {name: owners, integration: github-org, values: {ROLE: admin}, at_least: 2, at_most: 5}
    """
    assert [*Draft7Validator(json_schema("policy")).iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("hire", "{email: a@example.com, first_name: A, last_name: B, start: , extra: , sequences: , access: }"),
        ("hire", "{email: a@example.com, first_name: A, last_name: B, access: [{integration: x, values: , keep: }]}"),
        ("settings", "{interval: , drift: , limits: {timeout: }, git: , suspend: , max_new: }"),
        ("manifest", "{execute: [{url: https://example.com/, method: , headers: }], oauth: , form: }"),
    ],
)
def test_a_key_with_nothing_under_it_fits(kind: Kind, text: str) -> None:
    data = yaml.safe_load(text)
    assert [*Draft7Validator(json_schema(kind)).iter_errors(data)] == []
    validated(KINDS[kind][0], data)


@pytest.mark.parametrize("kind", KINDS)
def test_an_editor_shows_no_path_of_this_repository(kind: Kind) -> None:
    """The descriptions are docstrings: what they cite is not in a user's repository."""
    assert re.findall(r"\S*\bdocs/\S*", json.dumps(json_schema(kind))) == []


def test_an_unknown_kind(repo: Repo, call: Call) -> None:
    done = call(repo, "schema", "hires")
    assert (done.code, done.out) == (64, "")
    assert "'manifest', 'hire', 'sequence', 'settings', 'ignore', 'import', 'policy', 'review'" in done.err


def test_the_schema_of_ignored_accounts(repo: Repo, call: Call) -> None:
    validator = Draft7Validator(call(repo, "schema", "ignore").json)

    assert validator.is_valid([{"integration": "slack", "account": "*-bot@example.com", "reason": "CI"}])
    assert not validator.is_valid([{"integration": "slack", "account": "*-bot@example.com"}])


def patterns(schema: Any) -> Iterator[str]:
    """Every regular expression in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), dict):
            yield from schema["patternProperties"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from patterns(item)


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_are_ecmas_as_json_schema_wants_them(kind: Kind) -> None:
    """Editors compile them with JavaScript's engine, whose `u` mode takes no escape that it does not know."""
    found = list(patterns(json_schema(kind)))
    assert found or kind in ("sequence", "review")
    pythons_own = re.compile(r"\(\?[aiLmsux-]+[):]|\(\?[P(>#]|\\[AZzQEaGN]|[*+?}]\+|\[:|\{,")
    assert [pattern for pattern in found if pythons_own.search(pattern)] == []
    if (node := shutil.which("node")) is not None:
        program = "for (const each of JSON.parse(process.argv[1])) new RegExp(each, 'u')"
        done = subprocess.run([node, "-e", program, json.dumps(found)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
