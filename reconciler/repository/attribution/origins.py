"""Find the commits that first had the files of a folder, and the one that changed last what gives access."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from reconciler.model.errors import RepositoryError
from reconciler.repository.git import pygit2
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import object_at

MOST = 1000
"""The most commits that are looked at for a change; as many are not taken over at once."""

SEQUENCES = "config/sequences/"


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

    for commit in repository.walk(
        pygit2.Oid(hex=revision), pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE
    ):
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


class LastChanges:
    """Finds the commits that changed last what gives access. Not thread-safe."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._changed = lru_cache(maxsize=1024)(self._changed_files)
        self.changed_in = lru_cache(maxsize=1024)(self._changed_in)

    def _changed_in(self, revision: str, source: str, hire: str) -> str:
        """Return the last commit up to a revision that changed a hire's file, or the `source` of an entry of theirs.

        Of a sequence, the files that include it count too. Commits are those of the first parents: what a branch
        changed counts from its merge on. The revision itself is returned where no such commit is near.
        """
        repository = self._checkout.repository
        if repository is None or not self._checkout.has(revision):
            return revision
        try:
            commit = repository[revision].peel(pygit2.Commit)
            for _ in range(MOST):
                before = commit.parents[0] if commit.parents else None
                if before is None or self._is_of(self._changed(commit.id, before.id), before, source, hire):
                    return str(commit.id)
                commit = before
        except (KeyError, pygit2.GitError, RepositoryError):  # a shallow clone ends here
            pass
        return revision

    def _changed_files(self, commit: pygit2.Oid, before: pygit2.Oid) -> frozenset[str]:
        return self._checkout.changed(self._checkout.at(str(before)), self._checkout.at(str(commit)))

    def _is_of(self, changed: frozenset[str], before: pygit2.Commit, source: str, hire: str) -> bool:
        """Whether one of the changed files is a hire's, or gave what an entry of the `source` gives."""
        if source in changed or any(path.startswith("hires/") and PurePosixPath(path).stem == hire for path in changed):
            return True
        sequences = {path for path in changed if path.startswith(SEQUENCES)}
        return bool(sequences) and not sequences.isdisjoint(_including(before.tree, source))


def _including(tree: pygit2.Tree, source: str) -> set[str]:
    """Return the files of the sequences that include one, also by others."""
    from reconciler.repository.git.parts import parse_version

    folder = object_at(tree, SEQUENCES.removesuffix("/"))
    blobs = [each for each in folder if isinstance(each, pygit2.Blob)] if isinstance(folder, pygit2.Tree) else []
    read = ((f"{SEQUENCES}{each.name}", parse_version(each.data, f"{SEQUENCES}{each.name}")) for each in blobs)
    included = {path: version.included for path, version in read if version is not None}
    found, names = set[str](), {PurePosixPath(source).stem}
    while more := {path for path in included.keys() - found if not names.isdisjoint(included[path])}:
        found |= more
        names = {PurePosixPath(path).stem for path in more}
    return found
