"""Commit files to a branch for a pull request, without touching the worktree, its index or the branch in force.

The commit's committer is this program: a branch that has only its commits may be replaced, and one that a person added
to may not.
"""

from __future__ import annotations

from collections.abc import Mapping

import pygit2

from reconciler.model.errors import RepositoryError
from reconciler.repository.git.checkout import UNREADABLE, Checkout

__all__ = ["commit_to_branch", "refuse_branch"]

NAME, ADDRESS = "access-reconciler", "access-reconciler@localhost"


def refuse_branch(checkout: Checkout, branch: str, in_force: str | None) -> None:
    """Refuse a branch that must not be written to; `in_force` is the name of the one in force.

    Raises RepositoryError.
    """
    repository = _repository(checkout)
    ref = f"refs/heads/{branch}"
    if not pygit2.reference_is_valid_name(ref) or branch.startswith(("-", "refs/")) or branch in ("HEAD", "@"):
        raise RepositoryError(f"{branch!r} cannot be the name of a branch: give one such as import/NAME")
    if branch == in_force:
        raise RepositoryError(f"{branch} is the branch in force: give another one, for a pull request")
    if ref in repository.references and repository.branches.local[branch].is_checked_out():
        raise RepositoryError(f"{branch} is checked out, and its files are left alone: give another branch")
    if not repository.head_is_detached and repository.lookup_reference("HEAD").target == ref:
        raise RepositoryError(f"{branch} is checked out, and its files are left alone: give another branch")


def commit_to_branch(
    checkout: Checkout,
    base: str,
    branch: str,
    files: Mapping[str, bytes | None],
    message: str,
    *,
    author: tuple[str, str] | None = None,
) -> str:
    """Make the branch: one commit on top of `base` with these files, less those of None. Returns its id.

    Without an `author`, a name and an address, it is git's. An existing branch is replaced if only this program has
    committed to it. Raises RepositoryError.
    """
    repository = _repository(checkout)
    ref = f"refs/heads/{branch}"
    try:
        parent = repository[base].peel(pygit2.Commit)
        there = repository.references.get(ref)
        old = None if there is None else there.peel(pygit2.Commit)
        if old is not None:
            _refuse_others(repository, branch, old, parent)
        tree = _with_files(repository, parent.tree, files)
        if old is not None and old.tree.id == tree and [each.id for each in old.parents] == [parent.id]:
            return str(old.id)
        us = pygit2.Signature(NAME, ADDRESS)
        by = _author(repository) if author is None else pygit2.Signature(*author)
        commit = repository.create_commit(None, by, us, message, tree, [parent.id])
        if there is None:
            repository.references.create(ref, commit)
        else:
            there.set_target(commit, f"reconcile: {message.splitlines()[0]}")
    except UNREADABLE as error:
        raise RepositoryError(f"branch {branch} cannot be made: {error}") from error
    return str(commit)


def _refuse_others(repository: pygit2.Repository, branch: str, old: pygit2.Commit, base: pygit2.Commit) -> None:
    """Refuse to replace other people's commits on the branch."""
    walker = repository.walk(old.id)
    walker.hide(base.id)
    for commit in walker:
        if (commit.committer.name, commit.committer.email) != (NAME, ADDRESS):
            raise RepositoryError(
                f"branch {branch} has commit {str(commit.id)[:12]} of {commit.committer.name}: merge it, or delete the "
                "branch, and run this again"
            )


def _author(repository: pygit2.Repository) -> pygit2.Signature:
    """Return the author git is configured with, like for any commit; else this program."""
    try:
        return repository.default_signature
    except (KeyError, ValueError, pygit2.GitError):
        return pygit2.Signature(NAME, ADDRESS)


def _with_files(repository: pygit2.Repository, tree: pygit2.Tree, files: Mapping[str, bytes | None]) -> pygit2.Oid:
    """Return a tree with these files, and everything else unchanged."""
    index = pygit2.Index()
    index.read_tree(tree)
    for path, content in files.items():
        if content is None:
            index.remove(path)
            continue
        mode = index[path].mode if path in index else pygit2.enums.FileMode.BLOB
        index.add(pygit2.IndexEntry(path, repository.create_blob(content), mode))
    return index.write_tree(repository)


def _repository(checkout: Checkout) -> pygit2.Repository:
    if checkout.repository is None:
        raise RepositoryError(f"{checkout.root} is no git checkout: there is no branch to commit to; use --write")
    return checkout.repository
