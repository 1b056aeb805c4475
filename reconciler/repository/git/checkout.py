"""The checkout that `--repo` names: the revision that counts, its files, what changed since another, what is ignored.

What the daemon acts on is the newest commit of the branch in force, or the folder as it stands where there is no git
(docs/design/rules.md, "Source of truth"). Objects are read through libgit2; only fetching needs the `git` program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

import pygit2
from pygit2.enums import FileStatus, RepositoryOpenFlag

from reconciler.model.errors import RepositoryError
from reconciler.model.failpoints import Reached, unwatched
from reconciler.model.revision_status import REF
from reconciler.model.text import some
from reconciler.model.value import Frozen
from reconciler.repository.git.extent import UNREADABLE, Extents
from reconciler.repository.git.program import GitFailed, git
from reconciler.repository.git.trees import CommitTree, FolderTree, Stamped, Tree
from reconciler.repository.naming import FOLDERS

HEADS = "refs/heads/"


class Commit(Frozen):
    """Who made a revision, as `Name <address>`, and when, in seconds since 1970."""

    revision: str
    author: str
    committer: str
    time: int = 0

    @property
    def at(self) -> datetime | None:
        """Return when it was committed, as it says; None for a time that there is not."""
        with suppress(ValueError, OverflowError):
            return datetime.fromtimestamp(max(self.time, 0), UTC)
        return None


class Checkout:
    """A user's repository: a git checkout, or a plain folder."""

    def __init__(self, root: Path, repository: pygit2.Repository | None, reached: Reached) -> None:
        self.root = root
        self.repository = repository
        self.reached = reached

    @classmethod
    def open(cls, path: Path, reached: Reached = unwatched) -> Self:
        """Open the checkout whose root is this path. Raises RepositoryError with the next step."""
        root = path.resolve()
        if not root.is_dir():
            raise RepositoryError(
                f"{path} is no folder: give the repository's root with --repo, or run `reconcile init`"
            )
        if (root / ".git").exists():
            return cls(root, _open(root), reached)
        _refuse_inside(root)
        return cls(root, None, reached)

    @property
    def is_git(self) -> bool:
        """Whether commits count; else the folder is read as it is on disk."""
        return self.repository is not None

    def of_git(self, lacking: str) -> pygit2.Repository:
        """Return the repository. Raises RepositoryError, with what it is `lacking`, for a plain folder."""
        if self.repository is None:
            raise RepositoryError(f"{self.root} is no git checkout: {lacking}")
        return self.repository

    @cached_property
    def extents(self) -> Extents:
        """Return how far the trees of the commits reach. Only of a git checkout."""
        return Extents(self.of_git("it has no commits"))

    def head(self) -> Tree:
        """Return the commit at HEAD; without git, the folder itself."""
        if self.repository is None:
            return self.worktree()
        return CommitTree(self.repository, _head_commit(self.root, self.repository))

    def head_id(self) -> str | None:
        """Return the id of the commit at HEAD; None if there is none."""
        try:
            return None if self.repository is None else str(_head_commit(self.root, self.repository).id)
        except RepositoryError:
            return None

    @property
    def is_unborn(self) -> bool:
        """Whether this is a git checkout without a commit."""
        return self.repository is not None and self.repository.head_is_unborn

    @property
    def checked_out(self) -> str | None:
        """Return the branch that HEAD is on, born or not; None if HEAD is detached or cannot be read."""
        try:
            target = None if self.repository is None else self.repository.lookup_reference("HEAD").target
        except UNREADABLE:
            return None
        return target.removeprefix(HEADS) if isinstance(target, str) and target.startswith(HEADS) else None

    def tip_id(self, branch: str, remote: str) -> str | None:
        """Return the id of a branch's newest commit, whether it can be read or not: here, else at the remote.

        None if it is nowhere. Raises RepositoryError if a reference cannot be read.
        """
        repository = self.repository
        for ref in (f"{HEADS}{branch}", f"refs/remotes/{remote}/{branch}"):
            if repository is None or not pygit2.reference_is_valid_name(ref):
                continue
            try:
                return str(repository.lookup_reference(ref).resolve().target)
            except KeyError:
                continue
            except UNREADABLE as error:
                raise RepositoryError(
                    f"{ref} of {self.root} cannot be read ({error}): run `git status` there"
                ) from error
        return None

    def tip(self, branch: str, remote: str) -> CommitTree:
        """Return the newest commit of a branch: here, else at the remote. Raises RepositoryError with the next step."""
        repository, found = self.of_git(f"it has no branch {branch}"), self.tip_id(branch, remote)
        if found is None:
            if branch == self.checked_out and self.is_unborn:
                _head_commit(self.root, repository)  # which says what to do
            raise RepositoryError(
                f"the branch {branch} is neither here nor at {remote}: mend git.branch in config/reconciler.yaml, "
                "fetch it, or give another one with --branch"
            )
        try:
            return CommitTree(repository, repository[found].peel(pygit2.Commit))
        except UNREADABLE as error:
            raise RepositoryError(
                f"the branch {branch} of {self.root} cannot be read ({error}): run `git fsck` there"
            ) from error

    def at(self, rev: str) -> Tree:
        """Return the revision of a branch, tag, id or abbreviated id. Raises RepositoryError if there is none."""
        repository = self.of_git(f"it has no revision {rev!r}")
        return CommitTree(repository, self._commit(repository, rev))

    def worktree(self, known: Mapping[str, Stamped] | None = None) -> FolderTree:
        """Return the files on disk, committed or not. Those that are as `known` are not read for it."""
        return FolderTree(self.root, known)

    def changed(self, old: Tree, new: Tree) -> frozenset[str]:
        """Return the paths of files that differ; folders with the same id are skipped."""
        if isinstance(old, CommitTree) and isinstance(new, CommitTree):
            return new.changed(old)
        before, after = ({file for folder in FOLDERS for file in tree.files(folder)} for tree in (old, new))
        return frozenset(file.path for file in before ^ after)

    def commit(self, revision: str) -> Commit:
        """Return who made a revision. Raises RepositoryError if there is none."""
        commit = self._commit(self.of_git(f"it has no commit {revision!r}"), revision)
        return Commit(str(commit.id), person(commit.author), person(commit.committer), commit.commit_time)

    def commit_if_there(self, revision: str) -> Commit | None:
        """Return who made a revision; None if this checkout does not have it."""
        try:
            return self.commit(revision) if self.may_have(revision) else None
        except (RepositoryError, ValueError):
            return None

    def first_commit(self) -> str | None:
        """Return the id of the first commit, also where a merge brought another beginning; None if it is not here.

        It is that of the last accepted revision; HEAD's, where none was accepted, may be another branch's.
        """
        if self.repository is None or self.repository.is_shallow:
            return None
        start = REF if REF in self.repository.references else self.head_id()
        if start is None:
            return None
        try:
            return git(self.root, "rev-list", "--first-parent", "--max-parents=0", start).split()[-1]
        except (GitFailed, IndexError) as error:
            raise RepositoryError(f"{self.root}: the first commit cannot be told: {error}") from None

    def may_have(self, commit: str) -> bool:
        """Whether there is such a commit; True if a shallow clone, or a plain folder, cannot tell."""
        repository = self.repository
        return repository is None or repository.is_shallow or pygit2.Oid(hex=commit) in repository

    def has(self, revision: str) -> bool:
        """Whether a commit exists here, by its full id; what is no id is none."""
        try:  # not of the repository, which remembers what was read and is gone since
            return self.repository is not None and pygit2.Oid(hex=revision) in self.repository.odb
        except (ValueError, pygit2.GitError):
            return False

    def descends(self, revision: str, earlier: str) -> bool:
        """Whether a commit has another in its history; both exist here."""
        return self.repository is not None and self.repository.descendant_of(revision, earlier)

    def _commit(self, repository: pygit2.Repository, rev: str) -> pygit2.Commit:
        try:
            _refuse_ambiguous(repository, rev)
            return repository.revparse_single(rev).peel(pygit2.Commit)
        except KeyError:
            reason = "there is no such branch, tag or commit; fetch it first"
        except ValueError:
            reason = "it can mean several commits, or none; give more of the id"
        except (pygit2.GitError, OSError) as error:
            reason = f"it names no commit: {error}"
        raise RepositoryError(f"revision {rev!r}: {reason} (a remote's branch is written origin/NAME)")


_FULL_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NAME = re.compile(r"[~^:]|@\{")
"""What ends the name of a branch or a tag within a revision."""


def _head_commit(root: Path, repository: pygit2.Repository) -> pygit2.Commit:
    try:
        if repository.head_is_unborn:
            raise RepositoryError(
                f"{root} has no commit yet: commit the files (`git add -A && git commit`), or plan them "
                "with --dry-run --worktree"
            )
        return repository.head.peel(pygit2.Commit)
    except UNREADABLE as error:
        raise RepositoryError(f"HEAD of {root} cannot be read ({error}): run `git status` there") from error


def _refuse_ambiguous(repository: pygit2.Repository, rev: str) -> None:
    """Refuse a name of both a tag and a branch: git takes the tag, which anybody who can push may set."""
    name = _NAME.split(rev, maxsplit=1)[0]
    if name in ("", "HEAD", "@") or _FULL_ID.fullmatch(name):
        return
    named = [f"{place}{name}" for place in ("refs/heads/", "refs/tags/", "refs/remotes/", "refs/")]
    found = [ref for ref in named if pygit2.reference_is_valid_name(ref) and ref in repository.references]
    if len(found) > 1:
        raise RepositoryError(
            f"revision {rev!r}: {name} is the name of {len(found)} things: write {' or '.join(found)} in full"
        )


def person(signature: pygit2.Signature) -> str:
    """Return an author or committer as `Name <address>`."""
    name, address = (raw.decode(errors="replace") for raw in (signature.raw_name, signature.raw_email))
    return f"{name} <{address}>"


def _open(root: Path) -> pygit2.Repository:
    try:
        return pygit2.Repository(str(root), RepositoryOpenFlag.NO_SEARCH)
    except UNREADABLE as error:
        if "owned by" in str(error):
            raise RepositoryError(
                f"{root} belongs to another user, so git does not trust it: run as that user, or "
                f"`git config --global --add safe.directory {root}`"
            ) from error
        raise RepositoryError(f"the git checkout {root} cannot be opened: {error}; run `git status` there") from error


def _refuse_inside(root: Path) -> None:
    """Refuse a plain folder that belongs to a checkout around it: its uncommitted edits would count."""
    found = pygit2.discover_repository(str(root))
    if found is None:
        return
    try:
        repository = pygit2.Repository(found)
        top = None if repository.is_bare else Path(repository.workdir).resolve()
        if top is None or repository.head_is_unborn:
            return
        tracked = root.relative_to(top).as_posix() in repository.head.peel(pygit2.Commit).tree
    except (pygit2.GitError, KeyError, ValueError):
        return
    if tracked:
        raise RepositoryError(f"{root} is a part of the git checkout {top}: give a repository's root with --repo")


def came_with(tree: Tree, path: str) -> Tree | None:
    """Return the revision since which a file is as a tree has it; None if that is not in this clone."""
    if isinstance(tree, FolderTree):
        with suppress(RepositoryError):  # nothing is committed yet
            head = Checkout.open(tree.root).head()
            tree = head if head.find(path) == tree.find(path) else tree
    return tree.came_with(path) if isinstance(tree, CommitTree) else tree


# --- what is not acted on ---------------------------------------------------------------------------------------------


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


def ignored(checkout: Checkout, branch: str | None, what: str = "acted on") -> list[str]:
    """Say what is here and not acted on while this branch is in force, or `what` else is not done with it."""
    try:
        edits = edits_ignored(ignored_edits(checkout), what)
    except RepositoryError as error:
        edits = str(error)
    return [each for each in (head_ignored(checkout, branch), edits) if each is not None]


def edits_ignored(paths: Sequence[str], what: str = "acted on") -> str | None:
    """Say which uncommitted edits are not acted on; None if there are none."""
    return f"not committed, and so not {what}: {some(paths, 5)}" if paths else None


def _ours(path: str) -> bool:
    folder, *rest = path.split("/")
    return folder in FOLDERS and not any(part.startswith(".") for part in rest)
