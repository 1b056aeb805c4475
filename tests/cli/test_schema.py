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
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from reconciler.repository.documents.schema import KINDS, Kind, json_schema
from tests.cli.conftest import Call
from tests.repo import Repo

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "reconciler/cli/template"


def read(path: Path) -> Any:
    return json.loads(json.dumps(yaml.safe_load(path.read_text()) or {}, default=str))


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("settings", "config/reconciler.yaml"),
        ("sequence", "config/sequences/*.yaml"),
        ("hire", "hires/*.yaml"),
        ("manifest", "manifests/*.*"),
    ],
)
def test_the_sample_and_the_template_fit(repo: Repo, call: Call, kind: str, pattern: str) -> None:
    done = call(repo, "schema", kind)
    assert done.code == 0
    Draft7Validator.check_schema(done.json)
    files = [*ROOT.glob(pattern), *TEMPLATE.glob(pattern)]
    assert len(files) >= 2
    for file in files:
        assert list(Draft7Validator(done.json).iter_errors(read(file))) == [], file


def test_an_unknown_kind(repo: Repo, call: Call) -> None:
    done = call(repo, "schema", "hires")
    assert (done.code, done.out) == (64, "")
    assert "'manifest', 'hire', 'sequence', 'settings', 'ignore', 'import'" in done.err


def test_the_schema_of_ignored_accounts(repo: Repo, call: Call) -> None:
    validator = Draft7Validator(call(repo, "schema", "ignore").json)

    assert validator.is_valid([{"integration": "slack", "account": "*-bot@example.com", "reason": "CI"}])
    assert not validator.is_valid([{"integration": "slack", "account": "*-bot@example.com"}])


def patterns(schema: Any) -> Iterator[str]:
    """Every regular expression in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from patterns(item)


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_are_ecmas_as_json_schema_wants_them(kind: Kind) -> None:
    """Editors compile them with JavaScript's engine, whose `u` mode takes no escape that it does not know."""
    found = list(patterns(json_schema(kind)))
    assert found or kind == "sequence"
    pythons_own = re.compile(r"\(\?[aiLmsux-]+[):]|\(\?P|\(\?\(|\(\?>|\\[AZzQE]|[*+?}]\+")
    assert [pattern for pattern in found if pythons_own.search(pattern)] == []
    if (node := shutil.which("node")) is not None:
        program = "for (const each of JSON.parse(process.argv[1])) new RegExp(each, 'u')"
        done = subprocess.run([node, "-e", program, json.dumps(found)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
