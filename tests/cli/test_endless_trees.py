"""Commits whose tree is walked for years: refused at once, wherever it stands, while what is in force goes on."""

from __future__ import annotations

from time import monotonic

import pygit2
import pytest

from tests.cli.conftest import Call
from tests.daemon.running import running, until
from tests.repo import Repo
from tests.repository.objects import FOLDER, Objects
from tests.servers import PATIENCE, AccountService

PLACES = ["hires", "docs", ".reconciler"]


@pytest.fixture
def company(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings(interval="1d", git={"fetch": None, "branch": "main"})
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    return repo


def merge(repo: Repo, place: str, *, at_the_end: bool = False) -> str:
    """Merge a branch with an endless tree in a commit, at its end or before it; return that commit."""
    git, objects = pygit2.Repository(str(repo.root)), Objects(repo.root)
    repo.hire("bob", "tool")
    git.index.read()
    git.index.add_all()
    who, main, tree = git.default_signature, git.head.target, git.index.write_tree()
    entries = [(entry.filemode, (entry.name or "").encode(), entry.id.raw) for entry in git[tree].peel(pygit2.Tree)]
    kept: list[tuple[int, bytes, bytes]] = [entry for entry in entries if entry[1] != place.encode()]
    kept += [(FOLDER, place.encode(), objects.endless())]
    endless = pygit2.Oid(raw=objects.tree(*sorted(kept, key=lambda entry: entry[1])))
    bomb = git.create_commit(None, who, who, "x\n", endless, [main])
    end = bomb if at_the_end else git.create_commit(None, who, who, "y\n", tree, [bomb])
    new = git.create_commit(None, who, who, "merge\n", git[end].peel(pygit2.Commit).tree_id, [main, end])
    git.references.create("refs/heads/main", new, force=True)
    return str(bomb)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at_the_end", [False, True], ids=["in between", "at the end"])
def test_endless_tree_is_refused_at_once(
    company: Repo, accounts: AccountService, call: Call, place: str, *, at_the_end: bool
) -> None:
    assert call(company).code == 0
    accepted = company.git("rev-parse", "main")
    bomb = merge(company, place, at_the_end=at_the_end)
    accounts.people.clear()
    began = monotonic()
    made = call(company, "--output", "json")
    assert made.code == 1
    assert made.json["revision"] == accepted
    assert "more than 250,000 files and folders" in made.json["problems"][0]["message"]
    assert accounts.created == {"ada@example.com": 2}, "the revision in force goes on"
    assert call(company, "status").code == 1
    assert call(company, "diff", accepted, "main").code == 1
    validated = call(company, "validate", "--rev", bomb)
    assert (validated.code, "250,000" in validated.err) == (1, True)
    assert monotonic() - began < PATIENCE


def test_diff_names_the_commit_that_cannot_be_walked(company: Repo, call: Call) -> None:
    base = company.git("rev-parse", "main")
    bomb = merge(company, "docs")
    (problem,) = call(company, "diff", base, "main", "--output", "json").json["problems"]["added"]
    assert problem["file"] == f"commit {bomb[:12]}"


def test_daemon_goes_on(company: Repo, accounts: AccountService) -> None:
    import asyncio

    async def walk() -> None:
        async with running(company) as now:
            await until(lambda: accounts.created["ada@example.com"])
            merge(company, "docs")
            await until(lambda: now.active.refused)
            assert now.daemon.makes_progress()[0]

    asyncio.run(walk())
    assert "bob@example.com" not in accounts.created


def test_endless_tree_is_not_checked_out_by_a_fetch(company: Repo) -> None:
    from reconciler.repository.git.branches import fetch
    from reconciler.repository.git.checkout import Checkout

    clone = company.root.with_name("clone")
    company.git("clone", "-q", str(company.root), str(clone))
    merge(company, "docs", at_the_end=True)
    said = fetch(Checkout.open(clone), "origin", "main")
    assert "main from origin cannot be taken over: it has more than 250,000 files" in str(said)
