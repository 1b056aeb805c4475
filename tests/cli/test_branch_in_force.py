"""Which branch counts, whatever is checked out: for a pass, a dry run, `status`, the daemon and its pages."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.daemon.running import running, until
from tests.repo import Daemon, Repo
from tests.servers import AccountService, eventually


@pytest.fixture
def company(repo: Repo, accounts: AccountService) -> Repo:
    """`main` with ada, and `feature` with eve, too."""
    repo.settings(interval="1d", git={"fetch": None})
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    repo.git("checkout", "-q", "-b", "feature")
    repo.hire("eve", "tool")
    repo.commit()
    repo.git("checkout", "-q", "main")
    return repo


def named(repo: Repo, branch: str) -> None:
    """Name the branch in the settings."""
    repo.settings(interval="1d", git={"fetch": None, "branch": branch})


@pytest.mark.parametrize("names_it", [True, False], ids=["git.branch", "nobody names it"])
def test_pass_acts_on_the_branch_in_force(
    company: Repo, accounts: AccountService, call: Call, *, names_it: bool
) -> None:
    if names_it:
        named(company, "main")
        company.commit()
    made = call(company)
    assert made.code == 0, made.err
    assert ("no branch is named: main counts" in made.err) is not names_it
    company.git("checkout", "-q", "feature")
    made = call(company, "--output", "json")
    assert made.code == 0, made.err
    assert made.json["branch"] == "main"
    assert made.json["revision"] == company.git("rev-parse", "main")
    assert "feature is checked out and not acted on: the branch in force is main" in made.err
    company.git("checkout", "-q", "--detach", "feature")
    company.hire("bob", "tool")
    dry = call(company, "--dry-run", "--output", "json")
    assert [row["hire"] for row in dry.json["grants"]] == ["ada"]
    assert dry.json["ignored"] == [
        "HEAD is detached and not acted on: the branch in force is main",
        "not committed, and so not acted on: hires/bob.yaml",
    ]
    shown = call(company, "status")
    assert shown.code == 0
    assert "branch: main" in shown.out
    assert "HEAD is detached" in shown.err
    assert accounts.created.keys() == {"ada@example.com"}


def test_branch_without_a_repositorys_folders_is_checked_out(company: Repo, call: Call) -> None:
    named(company, "main")
    company.commit()
    assert call(company).code == 0
    company.git("checkout", "-q", "--orphan", "checkpoints")
    company.git("rm", "-rqf", ".")
    company.write("9.note", "x\n")
    company.commit()
    assert not (company.root / "hires").exists()
    for arguments in ((), ("--dry-run",), ("status",)):
        done = call(company, *arguments, "--output", "json")
        assert done.code == 0, done.err
        assert done.json["revision"] == company.git("rev-parse", "main")
        assert "checkpoints is checked out and not acted on: the branch in force is main" in done.err


@pytest.mark.parametrize("where", ["before", "after", "environment"])
def test_the_machine_has_the_first_word(company: Repo, accounts: AccountService, call: Call, where: str) -> None:
    named(company, "main")
    company.commit()
    arguments = {"before": ["--branch", "feature", "status"], "after": ["status", "--branch", "feature"]}
    env = {"RECONCILE_BRANCH": "feature"} if where == "environment" else {}
    assert "branch: feature" in call(company, *arguments.get(where, ["status"]), env=env).out
    made = call(company, *(["--branch", "feature"] if not env else []), env=env)
    assert "no branch is named" not in made.err
    assert made.code == 0, made.err
    assert accounts.created.keys() == {"ada@example.com", "eve@example.com"}


def test_head_says_at_first_which_branch_counts(company: Repo, accounts: AccountService, call: Call) -> None:
    company.git("checkout", "-q", "feature")
    named(company, "main")
    company.commit()
    assert call(company, "--output", "json").json["revision"] == company.git("rev-parse", "main")
    assert accounts.created.keys() == {"ada@example.com"}


def test_commit_in_force_leads_to_another_branch(company: Repo, accounts: AccountService, call: Call) -> None:
    assert call(company).code == 0
    named(company, "feature")
    company.commit()
    assert call(company, "--output", "json").json["branch"] == "feature"
    assert accounts.created.keys() == {"ada@example.com", "eve@example.com"}


def test_remote_s_branch_counts_where_it_is_not_here(
    company: Repo, accounts: AccountService, call: Call, tmp_path: Path
) -> None:
    named(company, "feature")
    company.commit()
    clone = tmp_path / "clone"
    company.git("clone", "-q", str(company.root), str(clone))
    shutil.rmtree(company.root)
    clone.rename(company.root)
    (company.root / ".git/info/exclude").write_text(".reconciler/\n")
    made = call(company)
    assert made.code == 0, made.err
    assert accounts.created.keys() == {"ada@example.com", "eve@example.com"}


@pytest.mark.parametrize("how", ["deleted", "named", "damaged"])
def test_the_last_accepted_revision_goes_on_where_the_branch_cannot_be_read(
    company: Repo, accounts: AccountService, call: Call, how: str
) -> None:
    assert call(company).code == 0
    accepted = company.git("rev-parse", "main")
    company.hire("bob", "tool")
    match how:
        case "deleted":
            company.git("checkout", "-q", "--detach")
            company.git("branch", "-q", "-D", "main")
            says = "the branch main is neither here nor at origin"
        case "named":
            named(company, "nowhere")
            new = company.commit()
            says = f"commit {new[:12]} by Ida Admin <ida@example.com> is not accepted, for it names a branch"
        case _:
            new = company.commit()
            (company.root / ".git/objects" / new[:2] / new[2:]).unlink()
            says = "the branch main of"
    accounts.clear()
    accounts.people.clear()
    made = call(company, "--output", "json")
    assert made.code == 1
    assert made.json["revision"] == accepted
    assert says in made.json["problems"][0]["message"]
    assert accounts.created["ada@example.com"] == 2, "it is healed by the revision that goes on"
    assert accounts.created.keys() == {"ada@example.com"}
    shown = call(company, "status")
    assert shown.code == 1
    assert says in shown.out


def test_state_of_an_earlier_release_takes_heads_branch_or_asks(
    company: Repo, accounts: AccountService, call: Call
) -> None:
    assert call(company).code == 0
    forget_branch(company)
    company.git("checkout", "-q", "--orphan", "other")
    company.commit("of another history")
    refused = call(company)
    assert refused.code == 1
    assert "it is not known which branch counts: HEAD is on other, which does not contain" in refused.err
    assert call(company, "--branch", "main", "status").code == 0
    company.git("checkout", "-q", "-f", "feature")
    assert call(company, "--output", "json").json["branch"] == "feature"


def forget_branch(repo: Repo) -> None:
    """Leave what an earlier release left: no ref, and a note of the last pass alone."""
    from reconciler.engine.run.accepted import BRANCH, NOTE
    from reconciler.ledger.opening import StateLocation
    from reconciler.model.revision_status import REF

    repo.git("symbolic-ref", "--delete", BRANCH)
    repo.git("update-ref", "-d", REF)
    ledger = StateLocation(repo.state_url, repo.root).writer()
    try:
        ledger.notes.put(NOTE, b"null")
    finally:
        ledger.close()


def test_detached_head_asks_which_branch_counts(company: Repo, call: Call) -> None:
    company.git("checkout", "-q", "--detach")
    refused = call(company)
    assert refused.code == 1
    assert "is detached, and no branch is named that counts: name it with git.branch" in refused.err


def test_folder_without_git_is_read_as_it_stands(company: Repo, accounts: AccountService, call: Call) -> None:
    shutil.rmtree(company.root / ".git")
    assert call(company, "--branch", "feature").code == 0
    assert accounts.created.keys() == {"ada@example.com"}


def test_daemon_acts_on_no_other_branch(company: Repo, accounts: AccountService) -> None:
    async def walk() -> None:
        async with running(company) as now:
            await until(lambda: accounts.created["ada@example.com"])
            company.git("checkout", "-q", "feature")
            await until(lambda: now.daemon.ignored)
            company.git("checkout", "-q", "main")
            await until(lambda: not now.daemon.ignored)
            company.hire("bob", "tool")
            company.commit()
            await until(lambda: accounts.created["bob@example.com"])

    asyncio.run(walk())
    assert "eve@example.com" not in accounts.created


def test_daemon_starts_beside_a_branch_that_cannot_be_read(company: Repo, accounts: AccountService, call: Call) -> None:
    named(company, "main")
    company.commit()
    assert call(company).code == 0
    company.git("checkout", "-q", "feature")
    company.git("branch", "-q", "-D", "main")
    with Daemon(company) as daemon:
        eventually(lambda: "the branch main is neither here nor at origin" in daemon.get("/")[1])
        page = daemon.get("/")[1]
        assert "feature is checked out and not acted on: the branch in force is main" in page
    assert accounts.created.keys() == {"ada@example.com"}
