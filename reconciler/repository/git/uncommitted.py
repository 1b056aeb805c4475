"""Say what is in the checkout and not acted on: uncommitted edits, and what HEAD is on beside the branch in force."""

from __future__ import annotations

from collections.abc import Sequence

from pygit2.enums import FileStatus

from reconciler.model.errors import RepositoryError
from reconciler.repository.git.checkout import UNREADABLE, Checkout
from reconciler.repository.naming import FOLDERS

__all__ = ["edits_ignored", "head_ignored", "ignored", "ignored_edits"]


def head_ignored(checkout: Checkout, branch: str | None) -> str | None:
    """Say what HEAD is on if that is not the branch in force, and so is not acted on."""
    if checkout.repository is None or (checked_out := checkout.checked_out) == branch:
        return None
    if checked_out is not None:
        return f"{checked_out} is checked out and not acted on: the branch in force is {branch}"
    return f"HEAD is detached and not acted on: the branch in force is {branch}"


def ignored_edits(checkout: Checkout) -> list[str]:
    """Return the sorted paths whose content on disk or in the index is not HEAD's; never ignored files."""
    if checkout.repository is None:
        return []
    head = checkout.head_id()
    try:
        if head is not None and (endless := checkout.extents.endless(head)) is not None:
            raise RepositoryError(f"uncommitted edits cannot be told from commit {head[:12]}: {endless}")
        status = checkout.repository.status(untracked_files="all", ignored=False)
    except UNREADABLE as error:
        raise RepositoryError(f"git cannot tell what is uncommitted in {checkout.root}: {error}") from error
    settled = (FileStatus.CURRENT, FileStatus.IGNORED)
    return sorted(path for path, flags in status.items() if flags not in settled and _ours(path))


def ignored(checkout: Checkout, branch: str | None) -> list[str]:
    """Say what is here and not acted on while this branch is in force."""
    try:
        edits = edits_ignored(ignored_edits(checkout))
    except RepositoryError as error:
        edits = str(error)
    return [each for each in (head_ignored(checkout, branch), edits) if each is not None]


def edits_ignored(paths: Sequence[str]) -> str | None:
    """Say which uncommitted edits are not acted on; None if there are none."""
    if not paths:
        return None
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return f"not committed, and so not acted on: {', '.join(paths[:5])}{more}"


def _ours(path: str) -> bool:
    folder, *rest = path.split("/")
    return folder in FOLDERS and not any(part.startswith(".") for part in rest)
