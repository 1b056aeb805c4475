"""`reconcile add` and `init --with`: a ready manifest is copied, whole, and what it asks for is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.gallery.catalog import IMPORTS, everything
from tests.cli.conftest import Call
from tests.repo import GnupgHome, Repo


def test_add_copies_manifest_and_lists_requirements(repo: Repo, call: Call) -> None:
    done = call(repo, "add", "github")
    assert (done.code, done.out) == (0, "manifests/github.yaml\n")
    assert done.err == (
        "its tests, for `reconcile test github`: manifests/github.test.yaml\n"
        "in initial data of github: TOKEN, ORG\n"
        "in each hire's extra: GITHUB_LOGIN\n"
        "in each access entry's values: ROLE\n"
        "next: reconcile initial-data set github --recipient KEY\n"
    )
    text = (repo.root / "manifests/github.yaml").read_text()
    assert text == everything()["github"].text
    assert call(repo, "test").out.startswith("8 cases of 1 manifest passed")
    assert text.startswith("# GitHub organization: members\n# service: github\n")


def test_existing_file_is_not_overwritten(repo: Repo, call: Call) -> None:
    repo.write("manifests/tools/github.json", "{}")
    done = call(repo, "add", "github")
    assert (done.code, done.out) == (64, "")
    assert done.err == (
        "error: manifests/tools/github.json is there already: give another name with --as, or delete it first\n"
    )
    assert not (repo.root / "manifests/github.yaml").exists()


def test_under_another_name_the_service_stays(repo: Repo, call: Call) -> None:
    repo.initial_data("github", {"TOKEN": "invented-token", "ORG": "acme"})
    done = call(repo, "add", "github", "--as", "code", "--output", "json")
    assert done.json == {"file": "manifests/code.yaml", "service": "github", "initial_data": ["TOKEN", "ORG"]}
    assert "next: reconcile initial-data set github\n" in done.err
    assert (repo.root / "manifests/code.yaml").exists()


def test_import_under_another_name_has_its_own_initial_data(repo: Repo, call: Call) -> None:
    done = call(repo, "add", "bamboohr", "--as", "hr")
    assert done.err.startswith("in initial data of hr: ")
    assert done.err.endswith("next: reconcile initial-data set hr --recipient KEY\n")


@pytest.mark.parametrize("stem", ["../hires/ada", "a/b", ".hidden"])
def test_as_takes_no_path(repo: Repo, call: Call, stem: str) -> None:
    before = sorted(repo.root.rglob("*.yaml"))
    assert call(repo, "add", "github", "--as", stem).code == 64
    assert sorted(repo.root.rglob("*.yaml")) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["githb"], "there is no ready manifest githb; did you mean github?; `reconcile add --list` names them all"),
        ([], "say which ready manifest, as `reconcile add github`; `reconcile add --list` names them all"),
        (["github", "--list"], "--list names every ready manifest: leave the other words out"),
    ],
)
def test_wrong_usage(repo: Repo, call: Call, arguments: list[str], told: str) -> None:
    done = call(repo, "add", *arguments)
    assert (done.code, done.out, done.err) == (64, "", f"error: {told}\n")


def test_list_names_each_with_what_it_can_do(tmp_path: Path, call: Call) -> None:
    nowhere = Repo(tmp_path)
    lines = call(nowhere, "add", "--list").out.splitlines()
    assert lines[0].split() == ["name", "service", "what", "can", "verified"]
    github = next(line for line in lines if line.startswith("github "))
    assert "GitHub organization: members" in github
    assert "list, update, revoke, invite" in github
    assert len(lines) == len({**everything(), **everything(IMPORTS)}) + 1
    markdown = call(nowhere, "add", "--list", "--output", "markdown").out
    assert markdown.count("\n") == len({**everything(), **everything(IMPORTS)}) + 2


def test_list_as_json(tmp_path: Path, call: Call) -> None:
    told = call(Repo(tmp_path), "add", "--list", "--output", "json").json
    assert [each["name"] for each in told] == sorted({**everything(), **everything(IMPORTS)})
    github = next(each for each in told if each["name"] == "github")
    assert github.keys() == {"name", "service", "verified", "revoke", "plan", "scopes"}
    assert github["verified"] == "description"


@pytest.mark.parametrize("name", everything(IMPORTS))
def test_import_goes_where_imports_are(repo: Repo, call: Call, name: str) -> None:
    done = call(repo, "add", name)
    assert (done.code, done.out) == (0, f"config/imports/{name}.yaml\n")
    fields = ", ".join(field.id for field in everything(IMPORTS)[name].manifest.asks_for)
    host = everything(IMPORTS)[name].head.get("replace")
    assert done.err == (
        f"in the import: replace {host} with your own host\n" * (host is not None)
        + f"in initial data of {name}: {fields}\nnext: reconcile initial-data set {name} --recipient KEY\n"
    )
    valid = call(repo, "validate", "--output", "json")
    assert (valid.code, valid.json["problems"]) == (0, [])
    assert [host["files"] for host in valid.json["hosts"]] == [[f"config/imports/{name}.yaml"]]
    assert call(repo, "add", name).code == 64
    wanted = call(repo, "initial-data", "check", name, "--output", "json")
    assert (wanted.code, wanted.json[0]["missing"]) == (1, fields.split(", "))


def test_init_with_ready_manifests_is_in_order(tmp_path: Path, gnupg_home: GnupgHome, call: Call) -> None:
    beside = Repo(tmp_path / "here", gnupg_home)
    done = call(beside, "init", "../access", "--with", "github, github", "--with", "slack")
    assert done.code == 0
    made = Repo(tmp_path / "access", gnupg_home)
    manifests = sorted(path.name for path in (made.root / "manifests").iterdir())
    assert manifests == ["github.yaml", "slack.yaml"]
    assert "github asks for\n  in initial data of github: TOKEN, ORG\n" in done.err
    assert "write your own values in place of FILL-IN in config/sequences/everyone.yaml, hires/ada.yaml\n" in done.err
    made.commit()
    valid = call(made, "validate")
    assert valid.code == 1
    assert [re.sub(r":\d+: error", "", line) for line in valid.out.splitlines() if "FILL-IN" in line] == [
        (
            "config/sequences/everyone.yaml: access slack of ada: values.CHANNELS is still FILL-IN, "
            "and manifests/slack.yaml uses it"
        ),
        "hires/ada.yaml: extra.GITHUB_LOGIN is still FILL-IN, and manifests/github.yaml uses it",
    ]
    for name in ("config/sequences/everyone.yaml", "hires/ada.yaml"):
        file = made.root / name
        file.write_text(file.read_text().replace("FILL-IN", "written"))
    made.commit()
    valid = call(made, "validate")
    assert (valid.code, valid.out.splitlines()[0]) == (0, "all files are in order; requests would go to 2 hosts")
    grants = call(made, "--dry-run", "--output", "json").json["grants"]
    assert {(each["access"], each["status"]) for each in grants} == {("github", "blocked"), ("slack", "blocked")}
    words = [*(made.root / "README.md").read_text().split(), *(made.root / "hires/ada.yaml").read_text().split()]
    assert "example" not in words


def test_init_with_an_unknown_name_makes_nothing(tmp_path: Path, call: Call) -> None:
    done = call(Repo(tmp_path / "here"), "init", "../access", "--with", "github,slak")
    assert done.code == 64
    assert "did you mean slack?" in done.err
    assert not (tmp_path / "access").exists()
