"""Find the commits that first had the files of a folder, and the one that changed some files last."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pygit2
from pygit2.enums import SortMode

from reconciler.model.errors import RepositoryError
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import object_at

__all__ = ["Origins", "changed_in", "origins_of"]

MOST = 1000
"""The most commits that are looked at for a change; as many are not taken over at once."""


@dataclass(slots=True)
class Origins:
    """By path, the commits that have a file while none before them had it: several if branches added it twice.

    `cut_off` are the files whose first commit a shallow clone does not have.
    """

    commits: dict[str, list[str]] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)


def origins_of(root: Path, revision: str, folder: str) -> Origins:
    """Find the first commits of all files that a folder ever had, up to a revision. Raises RepositoryError."""
    try:
        return _origins(pygit2.Repository(str(root)), revision, folder)
    except (KeyError, ValueError, OSError, pygit2.GitError) as error:
        raise RepositoryError(
            f"git has not all commits up to {revision}: a partial or damaged clone; run `git fsck`, or clone again "
            f"({error})"
        ) from error


def _origins(repository: pygit2.Repository, revision: str, folder: str) -> Origins:
    shallow = Path(repository.path) / "shallow"
    ends = set(shallow.read_text().split()) if shallow.is_file() else set()
    found = Origins()
    had: dict[pygit2.Oid, frozenset[str]] = {}

    @lru_cache(maxsize=256)  # few commits change the folder
    def names(inside: pygit2.Oid) -> frozenset[str]:
        return frozenset(_below(repository[inside].peel(pygit2.Tree)))

    for commit in repository.walk(pygit2.Oid(hex=revision), SortMode.TOPOLOGICAL | SortMode.REVERSE):
        before = frozenset[str]().union(*(had.get(parent, frozenset()) for parent in commit.parent_ids))
        tree = commit.tree
        inside = tree[folder] if folder in tree else None  # noqa: SIM401  only `[]` takes a path
        here = names(inside.id) if isinstance(inside, pygit2.Tree) else frozenset()
        for name in here - before:
            if str(commit.id) in ends:
                found.cut_off.add(f"{folder}/{name}")
            found.commits.setdefault(f"{folder}/{name}", []).append(str(commit.id))
        had[commit.id] = before if here <= before else before | here
    return found


def _below(folder: pygit2.Tree) -> Iterator[str]:
    """Yield what is in a folder, and in its own folders."""
    for each in folder:
        yield each.name or ""
        if isinstance(each, pygit2.Tree):
            yield from (f"{each.name}/{inner.name}" for inner in each)


def changed_in(checkout: Checkout, revision: str, paths: Collection[str]) -> str:
    """Return the last commit up to a revision that changed one of these files, by its first parents.

    What a branch changed counts from its merge on. The revision itself is returned where no such commit is near.
    """
    repository = checkout.repository
    if repository is None or not checkout.has(revision):
        return revision
    try:
        commit = repository[revision].peel(pygit2.Commit)
        there = _blobs(commit, paths)
        for _ in range(MOST):
            before = commit.parents[0] if commit.parents else None
            if before is None or _blobs(before, paths) != there:
                return str(commit.id)
            commit = before
    except (KeyError, pygit2.GitError):  # a shallow clone ends here
        pass
    return revision


def _blobs(commit: pygit2.Commit, paths: Collection[str]) -> list[pygit2.Oid | None]:
    found = (object_at(commit.tree, path) for path in paths)
    return [None if each is None else each.id for each in found]
