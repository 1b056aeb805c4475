"""Add files to a branch of a remote that holds nothing else, and that nobody rewrites; no worktree is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pygit2

from reconciler.repository.git.branches import ADDRESS, NAME
from reconciler.repository.git.program import CREDENTIALS, GitFailed, git
from reconciler.repository.git.trees import blob_of
from reconciler.repository.reach import helper_of_a_commit

__all__ = ["NOTE", "TOKEN", "has_another", "newest", "publish"]

HERE = "refs/reconciler/checkpoints"
"""Where the remote's branch is fetched to."""

NOTE, TOKEN = ".note", ".tsr"
"""The endings of the files of a checkpoint, and of its timestamp."""


def has_another(name: str) -> str:
    """Say that another file of this name was published before."""
    return (
        f"has another {name}: somebody wrote there, or the state was made anew; find out which, and name another place "
        "in `checkpoints`"
    )


def publish(root: Path, remote: str, branch: str, files: Mapping[str, bytes]) -> str | None:
    """Add files to the branch, those that are there stay; return why that failed, None if it went well."""
    where = CREDENTIALS.sub("***", f"{branch} of {remote}")
    if not pygit2.reference_is_valid_name(f"refs/heads/{branch}"):
        return f"{branch!r} is no name of a branch: mend `checkpoints` in config/reconciler.yaml"
    try:
        if (objection := helper_of_a_commit(root)) is not None:
            return f"{where} is not pushed to: {objection}"
        repository = pygit2.Repository(str(root))
        base = _fetched(repository, root, remote, branch)
        tree = {} if base is None else {entry.name or "": entry for entry in base.tree}
        if others := sorted(name for name in tree if PurePosixPath(name).suffix not in (NOTE, TOKEN)):
            return f"{where} holds something else than checkpoints ({others[0]}): name a branch of its own"
        if others := sorted(
            name for name, content in files.items() if name in tree and str(tree[name].id) != blob_of(content)
        ):
            return f"{where} {has_another(others[0])}"
        new = {name: content for name, content in files.items() if name not in tree}
        if new:
            commit = _commit(repository, base, new)
            git(root, "push", "--quiet", "--", remote, f"{commit}:refs/heads/{branch}")
            repository.references.create(HERE, commit, force=True)
    except FileNotFoundError:
        return "git is not installed, so nothing can be pushed"
    except subprocess.TimeoutExpired:
        return f"pushing to {where} took too long and was given up"
    except (GitFailed, pygit2.GitError, OSError) as error:
        return f"{where} cannot be pushed to: {error.gist if isinstance(error, GitFailed) else error}"
    return None


def newest(root: Path, remote: str, branch: str) -> dict[str, bytes]:
    """Return the files of the checkpoint on the branch that covers most lines, by ending. Raises GitFailed."""
    repository = pygit2.Repository(str(root))
    base = _fetched(repository, root, remote, branch)
    files = {} if base is None else {each.name or "": each for each in base.tree if isinstance(each, pygit2.Blob)}
    numbers = [int(stem) for name in files if (stem := name.removesuffix(NOTE)).isdecimal() and stem != name]
    if not numbers:
        return {}
    return {ending: each.data for ending in (NOTE, TOKEN) if (each := files.get(f"{max(numbers)}{ending}")) is not None}


def _fetched(repository: pygit2.Repository, root: Path, remote: str, branch: str) -> pygit2.Commit | None:
    """Fetch the branch, and return its newest commit; None if the remote does not have it."""
    there = git(root, "ls-remote", "--", remote, f"refs/heads/{branch}")
    if not there:
        return None
    git(root, "fetch", "--quiet", "--no-recurse-submodules", "--", remote, f"+refs/heads/{branch}:{HERE}")
    return repository.references[HERE].peel(pygit2.Commit)


def _commit(repository: pygit2.Repository, base: pygit2.Commit | None, files: Mapping[str, bytes]) -> pygit2.Oid:
    builder = repository.TreeBuilder() if base is None else repository.TreeBuilder(base.tree)
    for name, content in files.items():
        builder.insert(name, repository.create_blob(content), pygit2.enums.FileMode.BLOB)
    us = pygit2.Signature(NAME, ADDRESS)
    message = f"Checkpoint of {', '.join(sorted({PurePosixPath(name).stem for name in files}))} lines\n"
    return repository.create_commit(None, us, us, message, builder.write(), [] if base is None else [base.id])
