"""How far a commit's tree reaches, told without walking it: a few objects of git can spell a tree of any size.

A tree's extent follows from its folders', so each object is read once, however often it stands in the tree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pygit2
from pygit2.enums import ObjectType, SortMode

from reconciler.model.errors import RepositoryError

MOST = 250_000
"""The most files and folders of a commit."""

UNREADABLE = (pygit2.GitError, KeyError, ValueError, OSError)
"""What libgit2 raises where something of a repository cannot be read: it is damaged, or the system says no just now."""

DEEPEST = 100
"""Folders within one another."""

MAX_FOLDER = 32 << 20
"""The most bytes of one folder's own entries: git has them in one piece."""

REMEMBERED = 50_000
"""Folders whose extent is remembered from one commit to the next."""

_FOLDERS = re.compile(rb"(?=40000 [^\0]+\0(.{20}))", re.DOTALL)
"""The ids of the folders in a tree object; also what only looks like one within an id or a name."""


class Endless(RepositoryError):
    """A commit's tree is larger than any repository of hires."""

    def __init__(self) -> None:
        super().__init__(
            f"it has more than {MOST:,} files and folders, or {DEEPEST} folders within one another: that is no "
            "repository of hires; take out what does not belong here"
        )


class Extents:
    """The extents of a repository's trees."""

    def __init__(self, repository: pygit2.Repository) -> None:
        self._repository = repository
        self._known: dict[bytes, tuple[int, int]] = {}

    def refuse(self, tree: pygit2.Oid) -> None:
        """Raise Endless for a tree that cannot be walked; KeyError or pygit2's errors if an object is missing."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        entries, depth = self._extent(tree.raw, 0)
        if entries > MOST or depth > DEEPEST:
            raise Endless

    def endless(self, revision: str) -> Endless | None:
        """Say why a commit's tree cannot be walked; None if it can. Raises RepositoryError if it cannot be read."""
        try:
            self.refuse(self._repository[revision].peel(pygit2.Commit).tree_id)
        except Endless as error:
            return error
        except UNREADABLE as error:
            raise RepositoryError(f"git has no content for the tree at {revision}: run `git fsck` ({error})") from error
        return None

    def first_endless(self, head: str, base: str) -> tuple[str, Endless] | None:
        """Return the first commit that `head` adds to `base` whose tree cannot be walked, with the reason."""
        try:
            for commit in self._added(head, base):
                try:
                    self.refuse(commit.tree_id)
                except Endless as error:
                    return str(commit.id), error
        except UNREADABLE as error:
            raise RepositoryError(f"the commits up to {head[:12]} cannot be read ({error}): run `git fsck`") from error
        return None

    def _added(self, head: str, base: str) -> Iterator[pygit2.Commit]:
        if head == base:
            return
        if self._repository.is_shallow:  # what lies between may not be here
            yield self._repository[head].peel(pygit2.Commit)
            return
        walker = self._repository.walk(pygit2.Oid(hex=head), SortMode.NONE)
        walker.hide(pygit2.Oid(hex=base))
        yield from walker

    def _extent(self, tree: bytes, above: int) -> tuple[int, int]:
        """Return how many files and folders a tree has, and how many folders stand in one another."""
        known = self._known.get(tree)
        if known is not None:
            return known
        oid = pygit2.Oid(raw=tree)
        kind, size = self._repository.odb.read_header(oid)
        if kind != ObjectType.TREE:
            return 0, 0  # no folder, but bytes that look like one
        if size > MAX_FOLDER or above > DEEPEST:
            raise Endless
        raw = self._repository.odb.read(oid)[1]
        entries, depth = len(self._repository[oid].peel(pygit2.Tree)), 1
        if entries > MOST:
            raise Endless
        for folder, times in Counter(_FOLDERS.findall(raw)).items():
            try:
                inside, deep = self._extent(folder, above + 1)
            except KeyError:
                continue  # as above; where a folder is missing, whoever reads it says so
            entries, depth = entries + inside * times, max(depth, 1 + deep)
            if entries > MOST:
                raise Endless
        self._known[tree] = (entries, depth)
        return entries, depth
