"""Nobody acts on an older revision than the newest one that was acted on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from reconciler.daemon.fleet.single_pass import Newest
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE
from tests.repo import Repo


@pytest.fixture
def ledger(repo: Repo) -> Iterator[LedgerWriter]:
    with closing(StateLocation("sqlite:///.reconciler/state.db", repo.root).writer()) as opened:
        yield opened


def test_older_revision_is_left_to_others(repo: Repo, ledger: LedgerWriter) -> None:
    older = repo.commit("older")
    newer = repo.commit("newer")
    newest = Newest(Checkout.open(repo.root), OpenLedger(ledger))
    assert asyncio.run(newest.act_on(older))
    assert asyncio.run(newest.act_on(newer))
    assert not asyncio.run(newest.act_on(older))
    newest.leads = True
    assert not asyncio.run(newest.act_on(older))
    assert asyncio.run(newest.act_on(newer))


def test_revision_that_this_clone_lacks_is_newer(repo: Repo, ledger: LedgerWriter) -> None:
    mine = repo.commit()
    ledger.notes.put("acted_on", b"0123456789abcdef0123456789abcdef01234567")
    newest = Newest(Checkout.open(repo.root), OpenLedger(ledger))
    newest.leads = True
    assert not asyncio.run(newest.act_on(mine))


def test_rewritten_history_is_as_the_leader_has_it(repo: Repo, ledger: LedgerWriter) -> None:
    repo.commit("first")
    before = repo.commit("before")
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    after = repo.commit("after")
    newest = Newest(Checkout.open(repo.root), OpenLedger(ledger))
    assert asyncio.run(newest.act_on(before))
    assert not asyncio.run(newest.act_on(after))
    newest.leads = True
    assert asyncio.run(newest.act_on(after))
    newest.leads = False
    assert not newest.as_new(before, after)


def test_worktree_counts_as_any_revision(repo: Repo, ledger: LedgerWriter) -> None:
    assert Newest(Checkout.open(repo.root), OpenLedger(ledger)).as_new(WORKTREE, repo.commit())
