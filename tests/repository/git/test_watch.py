"""Word of commits, from the system and from the poll, in checkouts of every shape."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from reconciler.repository.git import watch
from reconciler.repository.git.checkout import Checkout
from tests.repo import Repo

SLOW = 3600.0
"""A poll that no test waits for: what is told came from the system."""
POLL = 1.0
"""For tests on what is told; a change in the instant in which a watch begins is found by the poll."""


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    repo.write("hires/ada.yaml", "x: 1\n")
    repo.write("manifests/m.yaml", "x: 1\n")
    repo.commit()
    return repo


@contextlib.asynccontextmanager
async def told(root: Path, poll: float = POLL, *, exact: bool = True, **more: Any) -> AsyncIterator[Callable[[], Any]]:
    """`await next_one()` waits for the next word; where `exact`, there may be no further one at the end."""
    stop = asyncio.Event()
    words: asyncio.Queue[None] = asyncio.Queue()

    async def listen() -> None:
        async for _ in watch.commits(Checkout.open(root), stop, poll, **more):
            words.put_nowait(None)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.1)
    yield words.get
    stop.set()
    await task
    assert words.empty() or not exact


async def change(call: Callable[[], object]) -> None:
    await asyncio.to_thread(call)


def test_word_comes_from_the_system_and_the_end_is_prompt(repo: Repo) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        watched = watch.commits(Checkout.open(repo.root), stop, SLOW)

        async def commit_until_told(word: asyncio.Future[None]) -> None:
            while not word.done():
                await change(lambda: write(repo))
                await asyncio.wait({word}, timeout=2)

        for _ in range(2):
            word = asyncio.ensure_future(anext(watched))
            await commit_until_told(word)
        last = asyncio.ensure_future(anext(watched, None))
        await asyncio.sleep(0.05)
        stop.set()
        await last

    asyncio.run(run())


def write(repo: Repo) -> None:
    repo.write("hires/ada.yaml", f"x: {time.monotonic_ns()}\n")
    repo.commit()


def test_commit_is_reported_at_once_and_once(repo: Repo) -> None:
    async def run() -> None:
        async with told(repo.root) as next_one:
            for _ in range(3):
                await change(lambda: write(repo))
                await next_one()
            repo.write("hires/ada.yaml", "an edit: 1\n")
            await change(lambda: repo.git("add", "--all"))
            await change(lambda: repo.git("branch", "elsewhere"))
            await asyncio.sleep(0.2)

    asyncio.run(run())


@pytest.mark.parametrize("packed", [False, True])
def test_a_branch_in_folders_of_its_own(repo: Repo, packed: bool) -> None:
    repo.git("checkout", "--quiet", "-b", "feature/one/two")
    if packed:
        repo.git("pack-refs", "--all", "--prune")

    async def run() -> None:
        async with told(repo.root, poll=0.5) as next_one:
            await change(lambda: write(repo))
            await next_one()
            await change(lambda: write(repo))
            await next_one()

    asyncio.run(run())


def test_another_branch_and_a_detached_head(repo: Repo) -> None:
    first = repo.git("rev-parse", "HEAD")
    write(repo)

    async def run() -> None:
        async with told(repo.root) as next_one:
            await change(lambda: repo.git("checkout", "--quiet", "--detach", first))
            await next_one()
            await change(lambda: repo.git("checkout", "--quiet", "main"))
            await next_one()
            await change(lambda: write(repo))
            await next_one()

    asyncio.run(run())


def test_a_linked_worktree(repo: Repo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked"))
    linked = Repo.__new__(Repo)
    linked.root, linked.gnupg = tmp_path / "linked", None

    async def run() -> None:
        async with told(linked.root) as next_one:
            await change(lambda: write(linked))
            await next_one()
            await change(lambda: write(repo))
            await asyncio.sleep(0.2)

    asyncio.run(run())


def test_the_first_commit(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fresh")

    async def run() -> None:
        async with told(repo.root) as next_one:
            await change(lambda: write(repo))
            await next_one()

    asyncio.run(run())


async def told_of(next_one: Callable[[], Any], file: Path) -> None:
    """Change a file until word comes: a folder's poll does not look into files, so a watch has to have begun."""
    word = asyncio.ensure_future(next_one())
    while not word.done():
        await change(lambda: file.write_text(f"x: {time.monotonic_ns()}\n"))
        await asyncio.wait({word}, timeout=2)
    await word


def test_a_plain_folder_and_a_folder_that_comes_later(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()

    async def run() -> None:
        async with told(tmp_path, poll=0.2, exact=False) as next_one:
            await told_of(next_one, tmp_path / "manifests/a.yaml")
            (tmp_path / "manifests/.a.yaml.swp").write_text("x: 1\n")
            (tmp_path / "elsewhere").mkdir()
            await asyncio.sleep(0.2)
            (tmp_path / "hires").mkdir()
            await next_one()
            await told_of(next_one, tmp_path / "hires/a.yaml")

    asyncio.run(run())


def test_worktree_files_are_watched_with_source_worktree(repo: Repo) -> None:
    async def run() -> None:
        async with told(repo.root, source="worktree", exact=False) as next_one:
            await told_of(next_one, repo.root / "hires/ada.yaml")
            await change(lambda: repo.git("commit", "--all", "--quiet", "--message", "x"))
            await asyncio.sleep(0.2)

    asyncio.run(run())


@pytest.mark.parametrize(
    "error",
    [
        OSError("OS file watch limit reached"),
        WatchfilesRustInternalError("Error creating recommended watcher: Too many open files (os error 24)"),
    ],
    ids=["no watch left", "no watcher left"],
)
def test_without_watches_the_poll_finds_it(repo: Repo, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def none_left(*_paths: Path, **_options: Any) -> AsyncGenerator[set[Any], None]:
        for nothing in list[set[Any]]():
            yield nothing
        raise error

    monkeypatch.setattr(watch, "awatch", none_left)

    async def run() -> None:
        async with told(repo.root, poll=0.05) as next_one:
            await change(lambda: write(repo))
            await next_one()
            await asyncio.sleep(0.2)

    asyncio.run(run())


def test_commit_during_work_is_reported_afterwards(repo: Repo) -> None:
    async def run() -> int:
        stop, words = asyncio.Event(), 0
        checkout = Checkout.open(repo.root)
        asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(change(lambda: write(repo))))
        async for _ in watch.commits(checkout, stop, POLL):
            words += 1
            if words == 2:
                return words
            await change(lambda: write(repo))
        return words

    assert asyncio.run(run()) == 2


def test_cancelled_watch_ends_no_other(repo: Repo) -> None:
    async def run() -> bool:
        stop = asyncio.Event()

        async def listen() -> None:
            async for _ in watch.commits(Checkout.open(repo.root), stop, SLOW):
                pass

        task = asyncio.create_task(listen())
        await asyncio.sleep(0.15)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return stop.is_set()

    assert asyncio.run(run()) is False
