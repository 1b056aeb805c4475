"""Who gave it, as a dry run, a pass, `status`, `explain` and `history` show it."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime

import pygit2
import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.model.clock import stamp
from reconciler.model.grant import Key
from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService

GRACE = "Grace Chief <grace@example.com>"


@pytest.fixture
def given(repo: Repo, accounts: AccountService) -> Repo:
    """Ida gave ada the tool, Grace approved; afterwards Tim mended a typo elsewhere in the file."""
    repo.settings(prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", "tool")
    repo.commit(f"Give ada the tool\n\nApproved-by: {GRACE}")
    repo.hire("ada", "tool", phone="12")
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--author", "Tim Typo <tim@example.com>", "--message", "Fix a typo")
    return repo


def test_dry_run_without_a_state_finds_it_in_git(given: Repo, call: Call) -> None:
    grant = call(given, "--dry-run", "--output", "json").grant("ada", "tool")
    assert grant["granted_in"] == given.git("rev-parse", "HEAD^")
    assert grant["author"] == grant["committer"] == "Ida Admin <ida@example.com>"
    assert grant["approved_by"] == [GRACE]
    assert grant["revision"] == given.git("rev-parse", "HEAD")
    assert grant["due_at"] is not None
    assert grant["done_at"] is None
    assert not given.state.exists()


def test_ledger_keeps_it(given: Repo, call: Call) -> None:
    first = given.git("rev-parse", "HEAD^")
    done = call(given, "--output", "json", "--yes")
    assert done.grant("ada", "tool")["granted_in"] == first
    assert call(given, "status", "--output", "json").grant("ada", "tool")["granted_in"] == first
    (line,) = csv.DictReader(io.StringIO(call(given, "status", "--output", "csv").out))
    assert (line["granted_in"], line["author"]) == (first, "Ida Admin <ida@example.com>")
    assert (line["approved_by"], bool(line["due_at"]), bool(line["done_at"])) == (GRACE, True, True)
    explained = call(given, "explain", "ada", "tool", "--output", "json").json
    assert (explained["granted_in"], explained["approved_by"], explained["signer"]) == (first, [GRACE], None)
    says = f"granted in {first[:12]} by Ida Admin <ida@example.com>, approved by {GRACE}"
    assert says in call(given, "explain", "ada", "tool").out
    for row in call(given, "history", "--output", "json").json:
        assert (row["granted_in"], row["author"], row["approved_by"]) == (first, "Ida Admin <ida@example.com>", [GRACE])
    assert call(given, "history", "--verify").code == 0


def test_manual_steps_show_it(given: Repo, call: Call) -> None:
    first = given.git("rev-parse", "HEAD^")
    assert call(given, "run", "ada", "tool", "--output", "json").grant("ada", "tool")["granted_in"] == first
    given.remove("hires/ada.yaml")
    given.commit()
    assert call(given, "revoke", "ada", "--output", "json").grant("ada", "tool")["granted_in"] == first


def test_removal_is_due_with_its_commit_and_done_when_it_was_answered(
    given: Repo, accounts: AccountService, call: Call
) -> None:
    call(given, "--yes")
    given.remove("hires/ada.yaml")
    git = pygit2.Repository(str(given.root))
    git.index.add_all()
    ida = pygit2.Signature("Ida", "ida@example.com", int(datetime(2026, 11, 1, 9, tzinfo=UTC).timestamp()), 0)
    git.create_commit("HEAD", ida, ida, "Ada left", git.index.write_tree(), [git.head.target])
    accounts.fail_next(1, 500, method="DELETE")
    (row,) = csv.DictReader(io.StringIO(call(given, "--yes", "--output", "csv").out))
    assert (row["due_at"], row["done_at"]) == ("2026-11-01T09:00:00Z", "")
    call(given, "retry", "ada")
    call(given, "--yes")
    (row,) = csv.DictReader(io.StringIO(call(given, "status", "--output", "csv").out))
    with StateLocation(given.state_url, given.root).reader() as ledger:
        answered = [sent.answered_at for _, requests in ledger.attempts.of(Key("ada", "tool")) for sent in requests]
    assert (row["status"], row["due_at"]) == ("revoked", "2026-11-01T09:00:00Z")
    assert row["done_at"] == stamp(answered[-1])


def commit_at(repo: Repo, when: datetime, message: str) -> str:
    """Commit what the work tree has, at this time."""
    git = pygit2.Repository(str(repo.root))
    git.index.add_all()
    git.index.write()
    ida = pygit2.Signature("Ida", "ida@example.com", int(when.timestamp()), 0)
    return str(git.create_commit("HEAD", ida, ida, message, git.index.write_tree(), [git.head.target]))


@pytest.mark.parametrize("state_kind", ["sqlite", "postgresql"])
def test_removal_is_due_with_its_own_commit_where_several_are_taken_over_at_once(given: Repo, call: Call) -> None:
    call(given, "--yes")
    given.remove("hires/ada.yaml")
    left = commit_at(given, datetime(2026, 11, 1, 9, tzinfo=UTC), "Ada left")
    given.hire("bob")
    commit_at(given, datetime(2026, 11, 3, 9, tzinfo=UTC), "Bob comes")
    assert call(given, "--dry-run", "--worktree", "--output", "json").grant("ada", "tool")["removed_in"] is None
    for arguments in (["--dry-run"], ["--yes"], ["status"]):
        row = call(given, *arguments, "--output", "json").grant("ada", "tool")
        assert (row["due_at"], row["removed_in"]) == ("2026-11-01T09:00:00Z", left)
        gone = {"--dry-run": None, "--yes": row["done_at"], "status": row["done_at"]}[arguments[0]]
        assert (row["done_at"], row["status"] == "revoked") == (gone, gone is not None)


def test_removal_is_due_with_the_commit_that_changed_what_gave_it(given: Repo, call: Call) -> None:
    """An include that is taken out, or a field of a file in a folder: not the commit that gave the access."""
    given.write("config/sequences/base.yaml", {"access": [{"integration": "tool", "name": "base"}]})
    given.write("config/sequences/wide.yaml", {"include": ["base"], "access": []})
    given.write("config/sequences/all.yaml", {"include": ["wide"], "access": []})
    tool = {"integration": "tool", "name": "sales"}
    given.write("config/sequences/sales.yaml", {"assign": {"department": "Sales"}, "access": [tool]})
    given.hire("bob", sequences=["all"])
    eva = {"email": "eva@example.com", "first_name": "Eva", "last_name": "Example"}
    given.write("hires/team/eva.yaml", {**eva, "department": "Sales"})
    commit_at(given, datetime(2026, 2, 1, tzinfo=UTC), "Give by sequences")
    call(given, "--yes")
    given.write("config/sequences/all.yaml", {"access": []})
    bobs = commit_at(given, datetime(2026, 11, 1, tzinfo=UTC), "Include nothing")
    given.write("hires/team/eva.yaml", {**eva, "department": "Design"})
    evas = commit_at(given, datetime(2026, 11, 2, tzinfo=UTC), "Eva moves")
    given.write("config/sequences/other.yaml", {"include": ["sales"], "access": []})
    commit_at(given, datetime(2026, 11, 3, tzinfo=UTC), "Something else")
    left = {("bob", "base"): ("2026-11-01T00:00:00Z", bobs), ("eva", "sales"): ("2026-11-02T00:00:00Z", evas)}
    for arguments in (["--dry-run"], ["--yes"], ["status"]):
        shown = call(given, *arguments, "--output", "json")
        assert {key: tuple(shown.grant(*key)[name] for name in ("due_at", "removed_in")) for key in left} == left
    (given.root / "hires/team/eva.yaml").rename(given.root / "hires/eve.yaml")
    given.commit("Eva is called Eve")
    call(given, "--yes")
    assert call(given, "status", "--output", "json").grant("eve", "sales")["removed_in"] == evas


def test_dry_run_dates_by_the_end_that_the_file_says(given: Repo, call: Call) -> None:
    call(given, "--yes")
    given.hire("ada", "tool", end="2026-06-30")
    given.commit()
    row = call(given, "--dry-run", "--output", "json").grant("ada", "tool")
    assert (row["due_at"], row["done_at"], row["end"]) == ("2026-07-01T00:00:00Z", None, "2026-06-30")


def test_what_left_comes_back_and_leaves_again_is_due_by_the_last_time(given: Repo, call: Call) -> None:
    call(given, "--yes")
    given.hire("ada")
    commit_at(given, datetime(2026, 9, 1, tzinfo=UTC), "Ada's tool goes")
    call(given, "--yes")
    given.hire("ada", "tool")
    given.commit("Ada's tool comes")
    call(given, "--yes")
    given.hire("ada")
    again = commit_at(given, datetime(2026, 11, 1, tzinfo=UTC), "Ada's tool goes again")
    row = call(given, "--dry-run", "--output", "json").grant("ada", "tool")
    assert (row["due_at"], row["done_at"], row["removed_in"]) == ("2026-11-01T00:00:00Z", None, again)


def test_removal_is_due_at_the_end_that_the_file_says(given: Repo, call: Call) -> None:
    call(given, "--yes")
    given.hire("ada", "tool", end="2026-06-30")
    given.commit()
    call(given, "--yes")
    (row,) = csv.DictReader(io.StringIO(call(given, "status", "--output", "csv").out))
    assert (row["status"], row["due_at"], row["end"]) == ("revoked", "2026-07-01T00:00:00Z", "2026-06-30")


def test_leaver_keeps_it_with_when_access_went(given: Repo, call: Call) -> None:
    first = given.git("rev-parse", "HEAD^")
    call(given, "--yes")
    given.hire("ada", phone="12")
    given.commit("Take the tool away")
    grant = call(given, "--output", "json", "--yes").grant("ada", "tool")
    assert (grant["status"], grant["granted_in"]) == ("revoked", first)
    assert grant["due_at"] is not None
    assert grant["done_at"] >= grant["due_at"]
    given.remove("hires/ada.yaml")
    given.commit()
    call(given, "--yes")
    assert call(given, "forget", "ada").code == 0
    assert all(b"grace@example.com" not in file.read_bytes() for file in given.state.parent.iterdir())


def test_branch_is_planned_with_who_gave_it_there(given: Repo, call: Call) -> None:
    call(given, "--yes")
    given.git("checkout", "--quiet", "-b", "branch")
    given.hire("bob", "tool")
    theirs = given.commit()
    given.git("checkout", "--quiet", "main")
    done = call(given, "--dry-run", "--rev", "branch", "--output", "json")
    assert done.grant("bob", "tool")["granted_in"] == theirs
    assert done.grant("ada", "tool")["granted_in"] == given.git("rev-parse", "HEAD^")
    assert call(given, "status", "--output", "json").json["summary"] == {"present": 1}


@pytest.mark.parametrize("many", [1, 3], ids=["each part alone", "parts together"])
def test_dry_run_in_parts_prints_what_one_part_does(
    given: Repo, accounts: AccountService, call: Call, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    given.hire("cyd", "tool")
    before_cyd, cyds = given.git("rev-parse", "HEAD^"), given.commit()
    call(given, "--yes")
    given.settings(prune="revoke", max_new=1)
    given.remove("hires/cyd.yaml")
    given.hire("bob", "tool", {"integration": "tool", "name": "again", "needs": ["tool"]})
    given.hire("dan", "nothing")
    given.commit()
    whole = {output: call(given, "--dry-run", "--output", output) for output in ("json", "csv", "table", "markdown")}
    monkeypatch.setattr("reconciler.cli.commands.one_pass.MAX_HIRES", 1)
    monkeypatch.setattr("reconciler.repository.attribution.given.MANY_GRANTS", many)
    for output, before in whole.items():
        after = call(given, "--dry-run", "--output", output)
        same_time = re.sub(r"T[0-9:]+Z", "", before.out), re.sub(r"T[0-9:]+Z", "", after.out)
        assert same_time[0] == same_time[1]
        assert (after.code, after.err) == (before.code, before.err)
    newest = given.git("rev-parse", "HEAD")
    assert whole["json"].json["summary"] == {"present": 1, "invalid": 1, "suspended": 3}
    found = {grant["hire"]: grant["granted_in"] for grant in whole["json"].json["grants"]}
    assert found == {"ada": before_cyd, "bob": newest, "cyd": cyds, "dan": newest}
