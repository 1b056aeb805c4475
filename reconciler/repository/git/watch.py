"""Watch for new commits: within milliseconds if the system reports changes, else within seconds.

Watched are the folders in which a commit can show: those of the branch's file, here and of the remote, that of
`packed-refs`, and that of `HEAD`, which may move to another branch; they differ in a linked worktree. A change there is
only a hint: what counts is whether the branch's newest commit or what HEAD is on differs. A slow poll checks that too,
for network disks and missed events. In a folder without git, every change of a file counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Literal

from watchfiles import Change, awatch

from reconciler.model.errors import RepositoryError
from reconciler.repository.git.checkout import HEADS, Checkout
from reconciler.repository.naming import FOLDERS

STEP_MILLISECONDS = 2
"""Milliseconds between two polls of the system's notifications. The library's default of 50 would be most of the delay;
polling takes 1.6 % of a processor at 2, and 2.7 % at 1."""
DEBOUNCE_MILLISECONDS = 20
"""Milliseconds that changes which follow on each other are gathered for."""


class _Ended(asyncio.Event):
    """Set when `stop` is. The library sets its event when it is cancelled, and must not end more than itself."""

    def __init__(self, stop: asyncio.Event) -> None:
        super().__init__()
        self._stop = stop

    def is_set(self) -> bool:
        return super().is_set() or self._stop.is_set()


On = Callable[[], tuple[str | None, str]]
"""Returns the branch to watch, None for HEAD itself, and the remote that may have it."""


async def commits(
    checkout: Checkout,
    stop: asyncio.Event,
    poll: float = 5.0,
    source: Literal["commit", "worktree"] = "commit",
    *,
    on: On = lambda: (None, "origin"),
) -> AsyncGenerator[None, None]:
    """Yield whenever the branch has another newest commit or HEAD moves, or a file changed if the worktree counts.

    `poll` is in seconds. It counts from what is there at the first step, so begin before the branch is read. Changes in
    the time that the caller takes are not lost: they are yielded when it comes back. Ends promptly once `stop` is set.
    """
    by_commit = checkout.is_git and source == "commit"
    seen = _newest(checkout, on)
    while not stop.is_set():
        paths = _git_folders(checkout, on) if by_commit else _folders(checkout)
        async with aclosing(_hints(checkout, paths, stop, poll, recursive=not by_commit)) as hints:
            async for changed in hints:
                now = _newest(checkout, on)
                others = (_git_folders(checkout, on) if by_commit else _folders(checkout)) != paths
                if (now != seen) if by_commit else (changed or others):
                    yield
                seen = now
                if others:
                    break


async def _hints(
    checkout: Checkout, paths: frozenset[Path], stop: asyncio.Event, poll: float, *, recursive: bool
) -> AsyncGenerator[bool, None]:
    """Yield True when something happened in a folder, and False after `poll` seconds without."""
    hidden = len(checkout.root.parts)

    def ours(_change: Change, path: str) -> bool:
        return not recursive or not any(part.startswith(".") for part in Path(path).parts[hidden:])

    # No watches or no watchers left (the library has a RuntimeError for what it knows no other error for), or a folder
    # that went away: then the poll is enough.
    with suppress(OSError, RuntimeError):
        if paths:
            watch = awatch(
                *paths,
                watch_filter=ours,
                debounce=DEBOUNCE_MILLISECONDS,
                step=STEP_MILLISECONDS,
                stop_event=_Ended(stop),
                rust_timeout=max(1, round(poll * 1000)),
                yield_on_timeout=True,
                recursive=recursive,
                ignore_permission_denied=True,
            )
            async with aclosing(watch):
                async for changes in watch:
                    yield bool(changes)
            return
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), poll)
        except TimeoutError:
            yield False


def _folders(checkout: Checkout) -> frozenset[Path]:
    return frozenset(folder for name in FOLDERS if (folder := checkout.root / name).is_dir())


def _newest(checkout: Checkout, on: On) -> object:
    """Return what a new commit changes, and another branch that is checked out."""
    branch, remote = on()
    if branch is None:
        return checkout.head_id()
    try:
        return checkout.tip_id(branch, remote), checkout.checked_out
    except RepositoryError as error:
        return str(error)


def _git_folders(checkout: Checkout, on: On) -> frozenset[Path]:
    """Return the folders of HEAD, of `packed-refs`, and of the files of the branch."""
    repository = checkout.repository
    if repository is None:
        return frozenset()
    own = Path(repository.path)
    common = own
    with suppress(OSError):
        # A linked worktree has a folder of its own, which says where the rest is.
        common = (own / (own / "commondir").read_text().strip()).resolve()
    branch, remote = on()
    branch = branch or checkout.checked_out
    refs = [] if branch is None else [f"{HEADS}{branch}", f"refs/remotes/{remote}/{branch}"]
    return frozenset({own, common, *(_existing((common / ref).parent) for ref in refs)})


def _existing(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder
