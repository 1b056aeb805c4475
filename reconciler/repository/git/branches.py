"""Move branches: fetch the one in force, and commit files to others, without touching the worktree or its index.

Nothing that a person has at hand is ever lost (docs/design/rules.md, "Source of truth"). What is fetched: where the
branch is checked out git merges with `--ff-only`, which refuses to touch an edited file or an ignored one; elsewhere
the fetch moves the branch itself, which git refuses for anything but a fast-forward and for a branch that another
worktree has checked out. What is committed for a pull request: a branch that has only this program's commits may be
replaced, and one that a person added to may not. What is published goes to a branch that holds nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pygit2

from reconciler.model.errors import RepositoryError
from reconciler.model.failpoints import Failpoint
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.extent import UNREADABLE, Endless, Extents
from reconciler.repository.git.program import CREDENTIALS, TIMEOUT_SECONDS, GitFailed, git, helper_of_a_commit
from reconciler.repository.git.trees import blob_of

NAME, ADDRESS = "access-reconciler", "access-reconciler@localhost"

_NO_BRANCH = "there is no branch to commit to; use --write"

HERE = "refs/reconciler/checkpoints"
"""Where the remote's branch is fetched to."""

NOTE, TOKEN = ".note", ".tsr"
"""The endings of the files of a checkpoint, and of its timestamp."""

_NOT_OF_A_NAME = re.compile(r"[<>\x00-\x1f]")
"""What no author's name or address can have in a commit; git leaves it out, too."""

_LOCK = re.compile(r"nable to create '([^']+\.lock)': File exists")


def remotes(checkout: Checkout) -> list[str]:
    """Return the names of the remotes, as far as git's settings can be read."""
    try:
        return [] if checkout.repository is None else [name for name in checkout.repository.remotes.names() if name]
    except UNREADABLE:
        return []


def has_remote(checkout: Checkout, name: str) -> bool:
    """Whether there is a remote of that name, as far as git's settings can be read."""
    return name in remotes(checkout)


def address_of(checkout: Checkout, remote: str) -> str:
    """Return the address of a remote, without credentials; what is no remote's name is one."""
    address = remote
    if has_remote(checkout, remote) and checkout.repository is not None:
        address = checkout.repository.remotes[remote].url or remote
    return CREDENTIALS.sub("***", address)


# --- fetch ----------------------------------------------------------------------------------------------------------


def fetch(
    checkout: Checkout,
    remote: str,
    name: str,
    timeout: float = TIMEOUT_SECONDS,
    stopped: Callable[[], bool] | None = None,
) -> str | None:
    """Fetch a branch of a remote and fast-forward the branch of that name.

    Gives None where it went well, also where there was nothing new; else a sentence that says why not. The remote is no
    longer waited for once `stopped` says so.
    """
    if checkout.repository is None:
        return f"{checkout.root} is no git checkout: there is nothing to fetch"
    checkout.reached(Failpoint.CHECKOUT, done=False)
    problem = _fetch(checkout.root, remote, name, timeout, stopped)
    checkout.reached(Failpoint.CHECKOUT, done=True)
    return problem


def _fetch(root: Path, remote: str, name: str, timeout: float, stopped: Callable[[], bool] | None) -> str | None:
    branch = f"refs/heads/{name}"
    if not pygit2.reference_is_valid_name(branch):
        return f"{name!r} is no name of a branch: mend git.branch in config/reconciler.yaml"
    where = CREDENTIALS.sub("***", f"{name} from {remote}")
    try:
        if (objection := helper_of_a_commit(root)) is not None:
            return f"{where} is not fetched: {objection}"
        checked_out = git(root, "symbolic-ref", "--quiet", "HEAD", timeout=timeout, ok=(0, 1)) == branch
        target = "" if checked_out else f":{branch}"
        what = ("fetch", "--no-recurse-submodules", "--", remote, f"{branch}{target}")
        git(root, *what, timeout=timeout, stopped=stopped)
        if checked_out:
            fetched = git(root, "rev-parse", "FETCH_HEAD", timeout=timeout)
            repository = pygit2.Repository(str(root))
            Extents(repository).refuse(repository[fetched].peel(pygit2.Commit).tree_id)  # git would write it all out
            # What git ignores may be the state itself: a commit must not put another in its place.
            git(root, "merge", "--quiet", "--ff-only", "--no-overwrite-ignore", "FETCH_HEAD", timeout=timeout)
            if str(repository.head.target) != fetched:  # it was taken back there, which git calls up to date
                return f"{where} cannot be taken over: {_apart(remote, name)}"
    except (Endless, OSError) as error:
        return f"{where} cannot be taken over: {error}"
    except GitFailed as error:
        return f"{where} cannot be taken over: {_why(error, remote, name)}"
    return None


def _apart(remote: str, branch: str) -> str:
    return (
        f"the local branch {branch} has commits that {remote} does not have: push them, or "
        f"`git reset` the branch to {remote}/{branch}"
    )


def _why(failed: GitFailed, remote: str, branch: str) -> str:
    """Return git's own message, or a clearer one if there is one."""
    said = str(failed)
    if "would be overwritten" in said:
        files = ", ".join(line.strip() for line in said.splitlines() if line.startswith("\t"))
        return f"uncommitted edits are in the way ({files}): commit or discard them"
    if "non-fast-forward" in said or "fast-forward" in said:
        return _apart(remote, branch)
    if (lock := _LOCK.search(said)) is not None:
        return f"git's lock {lock[1]} is in the way: where no git is running there, a power cut left it: delete it"
    if "couldn't find remote ref" in said:
        return f"the remote has no branch {branch}: mend git.branch in config/reconciler.yaml"
    if "checked out at" in said:
        return f"another worktree has {branch} checked out: fast-forward it there"
    return failed.gist


# --- commit for a pull request ----------------------------------------------------------------------------------------


def refuse_branch(checkout: Checkout, branch: str, in_force: str | None) -> None:
    """Refuse a branch that must not be written to; `in_force` is the name of the one in force.

    Raises RepositoryError.
    """
    repository = checkout.of_git(_NO_BRANCH)
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
    repository = checkout.of_git(_NO_BRANCH)
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
        name, address = (_NOT_OF_A_NAME.sub("", each) for each in author or ("", ""))
        by = _author(repository) if author is None else pygit2.Signature(name, address)
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


# --- publish ----------------------------------------------------------------------------------------------------------


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
            commit = _checkpoint(repository, base, new)
            git(root, "push", "--quiet", "--", remote, f"{commit}:refs/heads/{branch}")
            repository.references.create(HERE, commit, force=True)
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


def _checkpoint(repository: pygit2.Repository, base: pygit2.Commit | None, files: Mapping[str, bytes]) -> pygit2.Oid:
    builder = repository.TreeBuilder() if base is None else repository.TreeBuilder(base.tree)
    for name, content in files.items():
        builder.insert(name, repository.create_blob(content), pygit2.enums.FileMode.BLOB)
    us = pygit2.Signature(NAME, ADDRESS)
    message = f"Checkpoint of {', '.join(sorted({PurePosixPath(name).stem for name in files}))} lines\n"
    return repository.create_commit(None, us, us, message, builder.write(), [] if base is None else [base.id])
