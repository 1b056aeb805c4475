"""Which commit changed files last: the one with which access left git, when several were taken over at once."""

from __future__ import annotations

from collections.abc import Collection

import pygit2

from reconciler.repository.git.checkout import Checkout

__all__ = ["changed_in"]

MOST = 1000
"""The most commits that are looked at; as many are not taken over at once."""


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
    return [_blob(commit.tree, path) for path in paths]


def _blob(tree: pygit2.Tree, path: str) -> pygit2.Oid | None:
    here: pygit2.Object = tree
    for name in path.split("/"):
        if not isinstance(here, pygit2.Tree) or name not in here:
            return None
        here = here[name]
    return here.id
