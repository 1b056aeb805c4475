"""Who approved and merged the pull request that brought a commit, as each kind of forge says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from reconciler.intake.forge import MAX_SHOWN, ApprovalReader, ForgeError, Limited
from reconciler.model.attribution import Merged
from reconciler.model.settings import Forge
from tests.forges import KINDS, TOKEN, Stand
from tests.servers import Reply

COMMIT, MERGE = "c" * 40, "d" * 40


@pytest.fixture(params=KINDS)
def forge(request: pytest.FixtureRequest) -> Iterator[Stand]:
    with Stand(request.param) as running:
        yield running


def read(forge: Stand, timeout: float = 30, branch: str = "main", commits: tuple[str, ...] = (COMMIT, MERGE)) -> object:
    async def asked() -> object:
        async with aclosing(ApprovalReader(Forge.model_validate(forge.settings), TOKEN, timeout)) as reader:
            return await reader.merged(commits, branch)

    return asyncio.run(asked())


@pytest.mark.parametrize("most", [50, 1])
def test_last_word_of_each_reviewer_counts_and_nobody_approves_their_own(forge: Stand, most: int) -> None:
    forge.most = most
    number = forge.opened("request/x", by="ada")
    forge.writers[number] = [("grace", "grace@example.com", 2), ("bob", "bob@example.com", 1)]
    forge.review(number, "ada APPROVED", "Bob APPROVED", "grace CHANGES_REQUESTED", "grace APPROVED")
    if forge.kind != "gitlab":  # which keeps approvals alone
        forge.review(
            number, "grace COMMENTED", "eve APPROVED", "eve CHANGES_REQUESTED", "ida APPROVED", "ida DISMISSED"
        )
    forge.merged(number, MERGE)
    assert read(forge) == Merged(number, ("grace",), "ivy")


@pytest.mark.parametrize("known", [True, False], ids=["by its commit", "by its head, as one that was rebased"])
def test_pull_request_is_found(forge: Stand, known: bool) -> None:
    forge.opened("other")
    number = forge.opened("request/x")
    forge.merged(number, COMMIT, known=known)
    assert read(forge) == Merged(number, (), "ivy")
    assert read(forge, branch="release") is None
    assert read(forge, commits=("e" * 40,)) is None


def test_of_several_pull_requests_the_first_that_was_merged_brought_it(forge: Stand) -> None:
    """A branch that began on another one has its commits, too."""
    later, number = forge.opened("on top of it"), forge.opened("request/x")
    forge.review(number, "grace APPROVED")
    forge.review(later, "eve APPROVED")
    forge.merged(number, COMMIT)
    if forge.kind != "gitea":  # which names one
        forge.merged(later, COMMIT)
        forge.pulls[later - 1]["merged_at"] = "2026-12-02T09:00:00Z"
    assert read(forge) == Merged(number, ("grace",), "ivy")


def test_account_that_was_deleted_holds_up_no_answer(forge: Stand) -> None:
    number = forge.opened("request/x")
    forge.review(number, "ghost APPROVED", "grace APPROVED")
    forge.merged(number, COMMIT)
    assert read(forge) == Merged(number, ("grace",), "ivy")


def test_one_that_is_not_merged_brought_nothing(forge: Stand) -> None:
    number = forge.opened("request/x")
    forge.pulls[number - 1]["merge_commit_sha"] = COMMIT  # what a forge tries out before
    forge.review(number, "grace APPROVED")
    assert read(forge) is None


def test_forge_that_hangs_or_never_ends_is_given_up(forge: Stand) -> None:
    forge.hang(times=None)
    with pytest.raises(ForgeError, match=r"no answer within 0\.2 seconds"):
        read(forge, 0.2)
    forge.clear()
    forge.drip(times=None)
    with pytest.raises(ForgeError, match=r"no answer within 0\.5 seconds"):
        read(forge, 0.5)
    forge.clear()
    forge.flood(times=None)
    with pytest.raises(ForgeError, match="too long"):
        read(forge)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "90"}, 90),
        (429, {}, 60),
        (403, {"X-RateLimit-Remaining": "0"}, 60),
        (403, {"Retry-After": "86400"}, 3600),
    ],
)
def test_forge_that_limits_says_for_how_long(
    forge: Stand, status: int, headers: dict[str, str], seconds: float
) -> None:
    forge.fail_next(None, status, headers=headers, body=f"slow down, {TOKEN}")
    with pytest.raises(Limited) as caught:
        read(forge)
    assert caught.value.seconds == seconds
    assert TOKEN not in str(caught.value)


def test_no_part_of_the_token_is_shown_where_an_answer_is_cut(forge: Stand) -> None:
    forge.fail_next(None, 500, body="x" * (MAX_SHOWN - 8) + TOKEN)
    with pytest.raises(ForgeError) as caught:
        read(forge)
    assert TOKEN[:6] not in str(caught.value)


def test_faults_are_no_answer(forge: Stand) -> None:
    forge.fail_next(1, 500)
    with pytest.raises(ForgeError, match="500"):
        read(forge)
    forge.fail_next(None, 404)
    with pytest.raises(ForgeError, match=r"look at forge\.project"):
        read(forge)
    forge.clear()
    forge.redirect("https://evil.example.com", times=None)
    with pytest.raises(ForgeError, match="no redirect is followed"):
        read(forge)
    forge.clear()
    forge.on(lambda connection, _: connection.answer(Reply(200, [1])), times=None)
    with pytest.raises(ForgeError, match="the forge's answer cannot be read"):
        read(forge)
    forge.clear()
    forge.stop_listening()
    with pytest.raises(ForgeError, match="GET http"):
        read(forge)
