"""Completion in a shell, through the protocol that the shell's own script speaks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo import PROGRAM, Repo, run_cli

BASE = {"form": [{"id": "TEAM", "name": "Team", "type": "input"}], "execute": [{"url": "https://api.example.com/u"}]}


@pytest.fixture
def team(repo: Repo) -> Repo:
    repo.manifest("slack", BASE)
    repo.manifest("asana", BASE)
    repo.write("hires/rnd/ada.yaml", "email: ada@example.com\naccess: [slack, {integration: asana, name: asana-ops}]\n")
    repo.write("hires/bob.yaml", "email: bob@example.com\nsequences: [everyone]\n")
    repo.write("hires/broken.yaml", "access: [")
    repo.write("config/sequences/everyone.yaml", "access: [wiki]\n")
    repo.write("config/sequences/rnd.yaml", "assign: {department: [R&D]}\naccess: [lab]\n")
    repo.write("config/imports/people.yaml", "file: people.csv\n")
    repo.write("config/reviews/2026-Q4/asana.yaml", "{}\n")
    return repo


def completed(repo: Repo, line: str, **env: str) -> list[str]:
    """What bash would be offered for a line; what is behind the last blank is being typed."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_RECONCILE_COMPLETE": "bash_complete"}
    done = run_cli(repo, env={**words, **env})
    assert (done.code, done.err) == (0, "")
    return [each.partition(",")[2] for each in done.out.splitlines() if each]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("reconcile his", ["history"]),
        ("reconcile initial-data ", ["check", "rekey", "set"]),
        ("reconcile --hire ", ["ada", "bob", "broken"]),
        ("reconcile status --integration s", ["slack"]),
        ("reconcile status --status un", ["unconfirmed", "unknown"]),
        ("reconcile --log-format ", ["console", "json"]),
        ("reconcile status --only", ["--only-changes"]),
        ("reconcile explain a", ["ada"]),
        ("reconcile explain ada ", ["asana-ops", "lab", "slack"]),
        ("reconcile run bob ", ["lab", "wiki"]),
        ("reconcile options asana ", ["TEAM"]),
        ("reconcile import ", ["people"]),
        ("reconcile initial-data set ", ["asana", "people", "reconciler", "slack"]),
        ("reconcile explain nobody ", []),
        ("reconcile explain broken ", ["lab"]),
    ],
)
def test_names_are_completed(team: Repo, line: str, offered: list[str]) -> None:
    assert completed(team, line) == offered


def test_ready_manifests_are_completed(team: Repo) -> None:
    assert {"github", "github-team"} <= set(completed(team, "reconcile add git"))


def test_the_repository_is_the_one_that_is_named(team: Repo, tmp_path: Path) -> None:
    away = Repo(tmp_path / "away", team.gnupg)
    assert completed(away, f"reconcile --repo {team.root} status --hire b") == ["bob", "broken"]
    assert completed(away, "reconcile status --hire b", RECONCILE_REPO=str(team.root)) == ["bob", "broken"]


def test_completion_outside_a_repository_is_silent(team: Repo, tmp_path: Path) -> None:
    empty = Repo(tmp_path / "empty", team.gnupg)
    assert completed(empty, "reconcile explain ") == []
    assert completed(empty, "reconcile status --output xml --hire ") == []


def test_a_name_that_a_shell_would_act_on_is_not_offered(team: Repo) -> None:
    """Names come with a branch that anybody may have opened; bash puts them into the line as they are."""
    for name in ("$(touch pwned)", "a;b", "`id`", "-rf", "a b", "a\nb", "~root", "a|b"):
        team.write(f"hires/{name}.yaml", "email: a@example.com\n")
    team.write("hires/zoë.yaml", "email: a@example.com\naccess: ['$(id)', {integration: slack, name: 'x y'}, fine]\n")
    assert completed(team, "reconcile explain ") == ["ada", "bob", "broken", "zoë"]
    assert completed(team, "reconcile explain zoë ") == ["fine", "lab"]


def test_completion_reads_plain_files_only_and_leaves_nothing(team: Repo) -> None:
    os.mkfifo(team.root / "hires/pipe.yaml")
    (team.root / "hires/link.yaml").symlink_to("/dev/zero")
    (team.root / "hires/large.yaml").write_bytes(b"access: [slack]\n" + b"#" * (1 << 20))
    before = sorted(team.root.rglob("*"))
    for name in ("pipe", "link", "large"):
        assert completed(team, f"reconcile explain {name} ") == ["lab"], "of a sequence"
    assert sorted(team.root.rglob("*")) == before


@pytest.mark.parametrize("typed", ["explain ada ", "lock ", "review start "])
def test_completion_loads_nothing_that_takes_long(team: Repo, typed: str) -> None:
    """No database, no HTTP, no models: a person waits between two keys."""
    program = """
import sys
from reconciler.cli import main
try:
    main()
except SystemExit:
    pass
print(sorted({"sqlalchemy", "httpx", "pydantic", "pygit2"} & sys.modules.keys()))
"""
    place = str(1 + typed.count(" "))
    words = {"COMP_WORDS": f"reconcile {typed}", "COMP_CWORD": place, "_RECONCILE_COMPLETE": "bash_complete"}
    command = [sys.executable, "-c", f"import sys; sys.argv[0] = 'reconcile'\n{program}"]
    done = subprocess.run(
        command, cwd=team.root, env=team.environment(words), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_line_sets_a_shell_up(team: Repo, shell: str, tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash, which click asks for its version")
    env = team.environment({"_RECONCILE_COMPLETE": f"{shell}_source"})
    script = subprocess.run([PROGRAM], env=env, capture_output=True, text=True, check=True).stdout
    assert "_RECONCILE_COMPLETE" in script
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed here; its script was written")
    (tmp_path / "script").write_text(script)
    done = subprocess.run([program, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_what_is_typed(team: Repo) -> None:
    """The function that the script defines, called as bash calls it."""
    typed = """
        eval "$(_RECONCILE_COMPLETE=bash_source reconcile)"
        COMP_WORDS=(reconcile explain ada as) COMP_CWORD=3
        _reconcile_completion reconcile
        echo "${COMPREPLY[@]}"
    """
    env = team.environment({"PATH": os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]])})
    done = subprocess.run(["bash", "-euc", typed], cwd=team.root, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("asana-ops\n", "")
