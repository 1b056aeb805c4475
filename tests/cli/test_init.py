"""`reconcile init`: what it writes is in order, and the README's first steps work."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from reconciler.repository.documents.schema import KINDS
from tests.cli.conftest import Call
from tests.repo import PROGRAM, GnupgHome, Repo

ROOT = Path(__file__).parents[2]

IDA = {"GIT_COMMITTER_NAME": "Ida", "GIT_COMMITTER_EMAIL": "ida@example.com"}
"""Somebody whom git knows."""

FILES = [
    ".github/workflows/access.yml",
    ".gitignore",
    *(f".schemas/{kind}.json" for kind in sorted(KINDS)),
    "CODEOWNERS",
    "README.md",
    "config/initial_data/.gitkeep",
    "config/reconciler.yaml",
    "config/sequences/everyone.yaml",
    "hires/.gitkeep",
    "hires/ada.yaml",
    "manifests/example.yaml",
]


@pytest.fixture
def beside(tmp_path: Path, gnupg_home: GnupgHome) -> Repo:
    """Where `init` is called: the new folder is made beside whatever is here."""
    return Repo(tmp_path / "here", gnupg_home)


def test_from_nothing_to_the_first_dry_run(beside: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    target = beside.root.parent / "access"
    done = call(beside, "init", str(target), env=IDA)
    assert done.code == 0
    assert done.out.splitlines() == [f"{target}/{name}" for name in FILES]
    assert done.err == (
        f"next, in {target}:\n"
        '  git add . && git commit -m "Access as files"\n'
        "  reconcile validate\n"
        "then README.md: a GnuPG key, a service's secrets, and the first `reconcile --dry-run`\n"
    )
    made = Repo(target, gnupg_home)
    assert made.git("branch", "--show-current") == "main"
    made.commit("Access as files")
    valid = call(made, "validate")
    assert (valid.code, valid.out.splitlines()[0]) == (0, "all files are in order; requests would go to 1 host")
    told = ("initial-data", "set", "example", "--recipient", "it@example.com")
    assert call(made, *told, given="TOKEN: invented-token\n").code == 0
    made.commit("Token of example")
    assert call(made, "initial-data", "check").code == 0
    assert call(made, "--dry-run").out.endswith("begins on 2030-01-04\n")
    assert made.git("status", "--porcelain") == "", "what the program keeps is ignored"


def test_initial_data_in_the_clear_is_not_committed_by_mistake(beside: Repo, call: Call) -> None:
    target = beside.root.parent / "access"
    call(beside, "init", str(target))
    made = Repo(target)
    for name in ("a.yaml", "b.json", "c.sops.yaml", "d.yaml.gpg"):
        made.write(f"config/initial_data/{name}", "x")
    made.commit()
    kept = made.git("ls-files", "config/initial_data").splitlines()
    assert [Path(name).name for name in kept] == [".gitkeep", "c.sops.yaml", "d.yaml.gpg"]


def test_a_folder_with_something_in_it_is_refused(beside: Repo, call: Call) -> None:
    beside.write("notes/today.md", "")
    done = call(beside, "init", ".")
    assert (done.code, done.out) == (64, "")
    has = "error: . has notes in it: "
    assert done.err == f"{has}give the name of a new folder, or of one that has nothing but .git in it\n"


def test_an_empty_folder_is_fine(beside: Repo, call: Call) -> None:
    (beside.root / "inner").mkdir()
    assert call(beside, "init", "inner", "--output", "json").json == {"folder": "inner", "files": FILES, "git": True}


def test_clone_of_an_empty_repository_is_fine(beside: Repo, call: Call, gnupg_home: GnupgHome) -> None:
    beside.git("init", "--quiet", "--bare", "--initial-branch=trunk", str(beside.root.parent / "origin"))
    beside.git("clone", "--quiet", str(beside.root.parent / "origin"), str(beside.root.parent / "clone"))
    cloned = Repo(beside.root.parent / "clone", gnupg_home)
    done = call(beside, "init", str(cloned.root), env=IDA)
    assert done.code == 0, done.err
    assert done.err.splitlines()[1] == '  git add . && git commit -m "Access as files"'
    assert cloned.git("branch", "--show-current") == "trunk", "it is the clone's own repository"
    cloned.commit()
    assert call(cloned, "validate").code == 0
    given = call(cloned, "initial-data", "set", "example", "--recipient", "it@example.com", given="TOKEN: invented\n")
    assert given.code == 0, "the settings name the clone's branch"
    assert "branches: [trunk]" in (cloned.root / ".github/workflows/access.yml").read_text()
    assert call(beside, "init", str(cloned.root)).code == 64, "what is there is never overwritten"


def test_without_git(beside: Repo, call: Call) -> None:
    done = call(beside, "init", "inner", env={"PATH": "/nowhere"})
    assert done.code == 0
    assert "  git init\n" in done.err
    assert "git config" not in done.err, "what it does not say yet may be set"
    assert not (beside.root / "inner/.git").exists()


def test_init_asks_for_git_identity_if_unset(beside: Repo, call: Call) -> None:
    nobody = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.useConfigOnly", "GIT_CONFIG_VALUE_0": "true"}
    done = call(beside, "init", "inner", env={**nobody, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"})
    assert done.code == 0
    assert '  git config user.name "Your Name" && git config user.email you@example.com\n' in done.err


def test_a_place_that_cannot_be_written(beside: Repo, call: Call) -> None:
    beside.write("file", "")
    done = call(beside, "init", "file/inner")
    assert done.code == 1
    assert "cannot be written" in done.err


def modelines(root: Path) -> dict[str, Path]:
    """The files that name a schema, and where that leads."""
    found = {}
    for file in [*root.rglob("*.yaml"), *root.rglob("*.yml")]:
        told = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text())
        if told:
            found[str(file.relative_to(root))] = (file.parent / told[1]).resolve()
    return found


@pytest.mark.parametrize("more", [(), ("--with", "github,slack")], ids=["the sample", "ready manifests"])
def test_an_editor_finds_the_schema_of_each_file(beside: Repo, call: Call, more: tuple[str, ...]) -> None:
    assert call(beside, "init", "inner", *more).code == 0
    root = beside.root / "inner"
    found = modelines(root)
    written = [file for folder in ("config", "hires", "manifests") for file in (root / folder).rglob("*.yaml")]
    assert found.keys() == {str(file.relative_to(root)) for file in written}
    for file, schema in found.items():
        read = json.loads(json.dumps(yaml.safe_load((root / file).read_text()), default=str))
        assert list(Draft7Validator(json.loads(schema.read_text())).iter_errors(read)) == [], file
        assert schema.read_text() == call(beside, "schema", schema.stem).out
    person = (root / "hires/ada.yaml").read_text()
    assert ("TEAM" in person) == (not more), "no value of the sample's form is left where its manifest is not"


def test_the_workflow_is_the_documented_one_and_needs_no_key(beside: Repo, call: Call) -> None:
    assert call(beside, "init", "inner").code == 0
    workflow = (beside.root / "inner/.github/workflows/access.yml").read_text()
    assert workflow == (ROOT / "docs/ci/github.yml").read_text()
    steps = [step.get("run", "") for step in yaml.safe_load(workflow)["jobs"]["review"]["steps"]]
    assert set(re.findall(r"\breconcile (\S+)", "\n".join(steps))) == {"validate", "test", "diff"}


def test_the_readmes_way_to_renew_the_schemas(beside: Repo, call: Call) -> None:
    assert call(beside, "init", "inner").code == 0
    root = beside.root / "inner"
    before = {file: file.read_text() for file in (root / ".schemas").iterdir()}
    (line,) = re.findall(r"`(for kind in .*)`", (root / "README.md").read_text())
    (root / ".schemas/hire.json").write_text("{}")
    path = os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]])
    subprocess.run(["bash", "-euc", line], cwd=root, env=beside.environment({"PATH": path}), check=True)
    assert {file: file.read_text() for file in (root / ".schemas").iterdir()} == before
