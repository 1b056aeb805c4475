"""`validate` looks again at what may have changed, and only at that; what it tells is the same as without a memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.repository import parsing
from reconciler.repository.documents.yaml import Document, read
from reconciler.repository.files import Reader
from reconciler.repository.git import trees
from reconciler.repository.git.checkout import Checkout
from reconciler.review.findings import Findings, Inspector
from reconciler.review.problems import problems_of
from reconciler.review.validated import Validated
from tests.repo import Repo, call_cli

pytestmark = pytest.mark.usefixtures("parsed_anew")

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)


@dataclass
class Work:
    """The hires that were looked at, and the files of hires that were parsed and hashed."""

    inspected: list[str] = field(default_factory=list)
    parsed: list[str] = field(default_factory=list)
    hashed: list[str] = field(default_factory=list)

    def clear(self) -> None:
        for each in (self.inspected, self.parsed, self.hashed):
            each.clear()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    done = Work()
    of, hashed = Inspector.of, trees.FolderTree._hashed

    def inspect(self: Inspector, hire: str) -> Findings:
        done.inspected.append(hire)
        return of(self, hire)

    def parse(raw: bytes, file: str) -> Document:
        if file.startswith("hires/"):
            done.parsed.append(file)
        return read(raw, file)

    def hash_file(self: trees.FolderTree, path: str) -> str:
        if path.startswith("hires/"):
            done.hashed.append(path)
        return hashed(self, path)

    monkeypatch.setattr(Inspector, "of", inspect)
    monkeypatch.setattr(parsing, "read", parse)
    monkeypatch.setattr(trees.FolderTree, "_hashed", hash_file)
    return done


@pytest.fixture(autouse=True)
def _few_are_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.review.validated.WORTH_KEEPING", 1)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.settings()
    made.manifest("tool", {"execute": [{"url": "https://tool.example.com/{{email}}/{{manager}}"}]})
    made.hire("ada", "tool", manager={"hire": "bob"})
    made.hire("bob", "tool", manager="Zoe")
    made.hire("cleo", "tool", manager="Zoe")
    made.commit()
    (made.root / ".reconciler").mkdir(mode=0o700, exist_ok=True)
    return made


def validate(repo: Repo) -> str:
    return call_cli(repo, "validate").out


def kept(repo: Repo) -> list[str]:
    return sorted(each.name for each in (repo.root / ".reconciler").glob("validate*"))


def test_unchanged_hire_is_not_inspected_again(repo: Repo, work: Work) -> None:
    first = validate(repo)
    assert sorted(work.inspected) == ["ada", "bob", "cleo"]
    work.clear()
    assert validate(repo) == first
    assert (work.inspected, work.parsed) == ([], [])
    assert kept(repo) == ["validate.cache", "validate.cache.key"]
    assert {(repo.root / ".reconciler" / name).stat().st_mode & 0o777 for name in kept(repo)} == {0o600}


def test_a_changed_file_is_looked_at_with_those_that_name_it(repo: Repo, work: Work) -> None:
    validate(repo)
    work.clear()
    repo.hire("bob", "tool", manager="Yuri")
    validate(repo)
    assert sorted(work.inspected) == ["ada", "bob"]
    work.clear()
    repo.write("hires/bob.yaml", "email: bob\n")
    told = validate(repo)
    assert "hires/bob.yaml:1: error: email: not an address" in told
    assert "hires/ada.yaml" in told, "its manager cannot be read"
    work.clear()
    assert validate(repo) == told
    assert work.inspected == ["ada"], "what has problems is looked at each time"
    repo.remove("hires/bob.yaml")
    assert "there is no hires/bob.yaml" in validate(repo)


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("manifests/tool.yaml", "execute: [{url: 'https://tool.example.com/{{phone}}'}]", "gives no phone"),
        ("manifests/tool.json", "{}", "manifests/tool.json"),
        ("config/sequences/all.yaml", "assign: {email: nobody}\naccess: [tool]", "it matches no hire"),
        ("config/policy.yaml", "- {name: few, integration: tool, at_most: 2}", "is given to 3, at most 2"),
        ("config/policy.yaml", "- {name: many, integration: tool, at_least: 4}", "is given to 3, at least 4"),
        ("config/policy.yaml", "- {name: end, when: {manager: Zoe}, require: until}", "it has no until"),
    ],
)
def test_other_surroundings_are_looked_at_anew(repo: Repo, path: str, text: str, told: str) -> None:
    assert told not in validate(repo)
    repo.write(path, text)
    assert told in validate(repo)
    assert told in validate(repo)


def test_totals_are_the_same_from_cache(repo: Repo, work: Work) -> None:
    repo.write(
        "config/policy.yaml",
        [
            {"name": "few", "integration": "tool", "at_most": 2},
            {"name": "zoe", "when": {"manager": "Zoe"}, "require": "until"},
            {"name": "never", "never_both": ["special", "tool"]},
            {"name": "idle", "when": {"manager": "Xaver"}, "require": "until"},
            {"name": "gone", "never_both": ["nothing", "tool"]},
        ],
    )
    repo.write("config/sequences/dora.yaml", "assign: {email: dora@example.com}\naccess: []")
    repo.write("config/sequences/nobody.yaml", "assign: {email: nobody}\naccess: []")
    repo.hire("dora", {"integration": "tool", "name": "special", "until": "2999-01-01"}, manager="Zoe")
    first = validate(repo)
    for part in (
        "given to 4, at most 2: ada, bob, cleo, dora",
        "policy idle: when matches no hire",
        "access entry nothing",
        "nobody.yaml:1",
    ):
        assert part in first
    assert "access entry special" not in first
    assert "assign: it matches no hire" not in first.partition("sequences/dora.yaml")[2]
    work.clear()
    assert validate(repo) == first
    assert sorted(work.inspected) == ["bob", "cleo"], "who breaks a rule; dora and ada are known"


def test_hires_with_end_dates_are_inspected_again_next_day(repo: Repo, work: Work) -> None:
    repo.hire("bob", "tool", manager="Zoe", end="2026-12-01")
    repo.commit()

    def problems(now: datetime) -> list[str]:
        work.clear()
        checkout = Checkout.open(repo.root)
        validated = Validated(checkout)
        tree = checkout.worktree(validated.stamped)
        validated.begin(tree)
        files = Reader(known=validated.summaries).load(tree)
        found = problems_of(files, now, tree, validated=validated)
        validated.keep(tree, files.hires)
        return [str(problem) for problem in found]

    assert problems(NOW) == []
    problems(NOW)
    assert work.inspected == []
    problems(NOW + timedelta(days=1))
    assert work.inspected == ["bob"]
    repo.write("config/policy.yaml", [{"name": "soon", "when": {"manager": "Zoe"}, "require": "until", "within": "9d"}])
    assert problems(NOW) != []
    problems(NOW + timedelta(days=1))
    assert sorted(work.inspected) == ["ada", "bob", "cleo"]


def test_files_that_stand_as_they_stood_are_not_read(repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "SETTLED_NS", 0)
    first = validate(repo)
    validate(repo)
    work.clear()
    assert validate(repo) == first
    assert work.hashed == []
    ada = repo.root / "hires" / "ada.yaml"
    was = ada.stat()
    ada.write_text(ada.read_text().replace("ada@example.com", "ada@example,com"))
    os.utime(ada, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert "hires/ada.yaml:1: error: email: not an address" in validate(repo)
    assert work.hashed == ["hires/ada.yaml"]


def test_a_file_that_was_just_written_is_read(repo: Repo, work: Work) -> None:
    validate(repo)
    validate(repo)
    work.clear()
    validate(repo)
    assert sorted(work.hashed) == ["hires/ada.yaml", "hires/bob.yaml", "hires/cleo.yaml"]


def _damaged(repo: Repo) -> Iterator[None]:
    file = repo.root / ".reconciler" / "validate.cache"
    file.write_bytes(file.read_bytes().replace(b"ada@example.com", b"eda@example.com"))
    yield


def _writable(repo: Repo) -> Iterator[None]:
    (repo.root / ".reconciler").chmod(0o770)
    yield


def _linked(repo: Repo) -> Iterator[None]:
    folder = repo.root / ".reconciler"
    folder.rename(repo.root.parent / "elsewhere")
    folder.symlink_to(repo.root.parent / "elsewhere")
    yield


def _committed(repo: Repo) -> Iterator[None]:
    """With a umask of 077 the files of a commit are as private as our own."""
    repo.git("add", "--force", ".reconciler")
    repo.git("commit", "--quiet", "--message", "plant")
    yield


@pytest.mark.parametrize("plant", [_damaged, _writable, _linked, _committed], ids=lambda plant: plant.__name__[1:])
def test_cache_writable_by_others_is_not_trusted(repo: Repo, work: Work, plant) -> None:
    first = validate(repo)
    list(plant(repo))
    work.clear()
    assert validate(repo) == first
    assert sorted(work.inspected) == ["ada", "bob", "cleo"]
    assert len(work.parsed) >= 3


def test_no_cache_for_few_hires(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.review.validated.WORTH_KEEPING", 4)
    validate(repo)
    assert kept(repo) == []


def test_no_cache_without_a_state(repo: Repo) -> None:
    (repo.root / ".reconciler").rmdir()
    validate(repo)
    assert not (repo.root / ".reconciler").exists()
    (repo.root / ".reconciler").mkdir(mode=0o700)
    assert call_cli(repo, "validate", "--rev", "HEAD").code == 0
    assert kept(repo) == [], "a revision is no state of the files"


SPREAD = """
import os, signal, sys
from reconciler.repository import parallel
parallel.MANY, parallel.AT_A_TIME = 4, 2
parallel.processes = lambda: 2
parent = os.getpid()
def work(part):
    mine = os.getpid() == parent
    if 5 in part and not mine:
        {what}
    return [(item * item, mine) for item in part]
print(parallel.spread(work, list(range(9))))
print(parallel.spread(work, list(range(3))))
"""


def spread(what: str) -> subprocess.CompletedProcess[str]:
    script = SPREAD.format(what=what)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize("what", ["os.kill(os.getpid(), signal.SIGKILL)", "raise MemoryError", "sys.exit(3)"])
def test_work_of_a_dead_process_is_redone(what: str) -> None:
    done = spread(what)
    assert done.stderr == ""
    many, few = map(eval, done.stdout.splitlines())
    assert [square for square, _ in many] == [number * number for number in range(9)]
    assert [mine for _, mine in many][:2] == [False, False]
    assert [mine for _, mine in many][4:6] == [True, True]
    assert all(mine for _, mine in few)


def test_a_file_that_changes_and_changes_back_meanwhile_is_not_remembered(
    repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.repository.files.MANY", 1)
    monkeypatch.setattr("reconciler.repository.parallel.MANY", 10**9)
    file = repo.root / "hires" / "cleo.yaml"
    stood = file.read_bytes()
    summarize = parsing.summarize

    def change_and_back(tree: trees.Tree, each: trees.File) -> object:
        file.write_bytes(stood.replace(b"Zoe", b"Amy"))
        try:
            return summarize(tree, each)
        finally:
            file.write_bytes(stood)

    monkeypatch.setattr("reconciler.repository.files.summarize", change_and_back)
    validate(repo)
    work.clear()
    validate(repo)
    assert work.inspected == ["cleo"]


def test_very_many_files_are_reported_alike(repo: Repo) -> None:
    for number in range(8):
        repo.hire(f"h{number}", "tool", manager={"hire": f"h{number - 1}"} if number % 2 else "Zoe", phone=str(number))
    repo.write("hires/broken.yaml", "email: [\n")
    repo.hire("h8", "unknown", email="H3@example.com")
    (repo.root / ".reconciler").rmdir()
    first = validate(repo)
    script = (
        "import sys\nfrom reconciler.repository import files, parallel\n"
        "files.MANY = parallel.MANY = 3; parallel.AT_A_TIME = 2; parallel.processes = lambda: 2\n"
        "from reconciler.cli import main\nmain()\n"
    )
    command = [sys.executable, "-c", script, "--repo", str(repo.root), "validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, first, "")


def test_diff_looks_at_the_hires_of_its_base_and_at_those_that_differ(repo: Repo, work: Work) -> None:
    base = repo.git("rev-parse", "HEAD")
    repo.hire("bob", "tool", manager="Yuri")
    repo.hire("dan", "tool", "nothing", manager="Zoe")
    repo.commit()
    told = call_cli(repo, "diff", base).out
    assert sorted(work.inspected) == sorted(["ada", "bob", "cleo", "ada", "bob", "dan"])
    assert "problem added: hires/dan.yaml:7: error" in told
    repo.manifest("tool", {"execute": [{"url": "https://tool.example.com/{{email}}/{{buddy}}"}]})
    repo.commit()
    work.clear()
    told = call_cli(repo, "diff", "HEAD~1").out
    assert len(work.inspected) == 8
    assert "access tool of cleo: the hire gives no buddy" in told
