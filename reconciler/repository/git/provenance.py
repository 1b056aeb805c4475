"""Find the commit that gave each part of a revision's files, in one walk back for all parts.

Each part starts at the revision and is handed from a commit to the parent that says the same; where no parent does, the
commit is the one that gave it. Of a merge a part follows the branch that it came from, and the merge is remembered for
what it says of approval. Files that nothing changed are never read: a commit costs the comparison of its folders' raw
entries, whatever number of parts is under way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any
from weakref import finalize

import pygit2
from pygit2.enums import FileMode, SortMode

from reconciler.model.given import Given
from reconciler.repository.git.parts import Part, Version, parse_version

__all__ = ["Provenance", "Traced"]

FOLDERS = ("hires", "config/sequences")
LARGE = 1000
"""Entries of a folder from which on libgit2 compares it."""

_UNREAD = object()
_TRAILER = re.compile(r"^(?:approved-by|reviewed-by):\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True, eq=False)
class Traced:
    """One part of a file, and what was found out of it; `order` is lower for a newer commit."""

    path: str
    part: Part
    name: str | tuple[str, ...]
    value: Any = _UNREAD
    """What it says at the revision, once something was compared with it."""
    commit: str | None = None
    order: int = 0
    merges: tuple[str, ...] = ()
    fixed: tuple[str, int] | None = None
    """The commit that made the file readable again, with its order, while older versions say nothing."""

    @property
    def unread_before(self) -> bool:
        """Whether no version was read that this one could be compared with."""
        return self.commit is None and self.fixed is not None


Pending = dict[str, list[Traced]]
"""The parts that are under way at one commit, by the file's path there."""


@dataclass(slots=True)
class _Difference:
    """The files of a commit that differ from a parent's: their blobs in both, by path."""

    now: dict[str, str] = field(default_factory=dict)
    was: dict[str, str] = field(default_factory=dict)


class Provenance:
    """The commits of a repository, to find out who gave what. Not thread-safe.

    Only files under its `folders` are read; `reads` says what a version of one says, and so many are remembered.
    With `merges_decide` a merge that takes back what one side had changed gave what it brings back.
    """

    def __init__(
        self,
        root: Path,
        folders: Iterable[str] = FOLDERS,
        reads: Callable[[bytes, str], Version | None] = parse_version,
        *,
        versions: int = 1024,
        merges_decide: bool = False,
    ) -> None:
        self._folders = tuple(folders)
        self._merges_decide = merges_decide
        self._repository = pygit2.Repository(str(root))
        self._traced: pygit2.Tree | None = None
        """The files at the revision whose parts are traced."""
        shallow = Path(self._repository.path) / "shallow"
        self._cut_off = set(shallow.read_text().split()) if shallow.is_file() else set()
        # libgit2's cache has one limit for all repositories, and pygit2 leaves each to the garbage collector. So this
        # one is freed with this object. What follows refers to it, or this object would refer to itself.
        finalize(self, self._repository.free)
        self._folder = lru_cache(maxsize=64)(partial(_read_folder, self._repository))
        self.given = lru_cache(maxsize=4096)(partial(_given, self._repository))
        self._parsed = lru_cache(maxsize=versions)(partial(_read_version, self._repository, reads))

    def trace(self, revision: str, parts: Iterable[Traced], known: str | None = None) -> None:
        """Find the commit of each part of files that can be read, as far as the repository has it.

        Parts that are as they were at `known`, whose commits are known already, are left without one.
        """
        pending: Pending = {}
        self._traced = _commit(self._repository, revision).tree
        for item in parts:
            if item.path in self._traced:
                pending.setdefault(item.path, []).append(item)
        waiting = {revision: pending}
        order = self._walk(waiting, 0, known, hidden=known)
        waiting.pop(known or "", None)
        if any(waiting.values()):  # they came past `known`, by a branch that is older
            self._walk(waiting, order, known, hidden=None)

    def changed(self, old: str, new: str) -> set[str]:
        """Return the files that differ between two revisions."""
        found = self._difference(_commit(self._repository, new).tree, _commit(self._repository, old).tree)
        return found.now.keys() | found.was.keys()

    def descends(self, revision: str, known: str) -> bool:
        """Whether a revision has one that was acted on in its history."""
        try:
            return revision == known or self._repository.descendant_of(revision, known)
        except (KeyError, ValueError, pygit2.GitError):
            return False

    def _walk(self, waiting: dict[str, Pending], order: int, known: str | None, *, hidden: str | None) -> int:
        starts = [commit for commit, pending in waiting.items() if pending]
        if not starts:
            return order
        walker = self._repository.walk(pygit2.Oid(hex=starts[0]), SortMode.TOPOLOGICAL)
        for start in starts[1:]:
            walker.push(pygit2.Oid(hex=start))
        if hidden is not None:
            walker.hide(pygit2.Oid(hex=hidden))
        for commit in walker:
            revision = str(commit.id)
            pending = waiting.pop(revision, None)
            order += 1
            if pending and revision != known:
                try:
                    self._hand_on(commit, pending, waiting, order)
                except (KeyError, ValueError, pygit2.GitError):
                    continue  # git does not have its parent: the answer is unknown
            if not any(waiting.values()):
                break
        return order

    def _hand_on(self, commit: pygit2.Commit, pending: Pending, waiting: dict[str, Pending], order: int) -> None:
        """Pass a commit's parts on to the parents that have them unchanged."""
        revision = str(commit.id)
        if revision in self._cut_off:
            return
        parents = commit.parents
        if not parents:
            for item in (each for items in pending.values() for each in items):
                _settle(item, revision, order)
            return
        if self._merges_decide and len(parents) > 1:
            pending = self._not_taken_back(commit, pending, order)
        left: Pending = {}
        difference = self._difference(commit.tree, parents[0].tree)
        first = waiting.setdefault(str(parents[0].id), {})
        for path in difference.now:
            if path in pending:
                left[path] = pending.pop(path)
        _merge(first, pending, waiting, str(parents[0].id))
        first = waiting[str(parents[0].id)]
        left = self._same(left, difference, first, revision=revision, order=order)
        for parent in parents[1:]:
            if not left:
                return
            other = self._difference(commit.tree, parent.tree)
            theirs = waiting.setdefault(str(parent.id), {})
            left = self._same(left, other, theirs, revision=revision, order=order, merge=True)
        for item in (each for items in left.values() for each in items):
            _settle(item, revision, order)

    def _not_taken_back(self, commit: pygit2.Commit, pending: Pending, order: int) -> Pending:
        """Return the parts that a merge took from a side; the others were given by the merge."""
        ids: list[pygit2.Oid | str] = [parent.id for parent in commit.parents]
        base = self._repository.merge_base_many(ids)
        if base is None:
            return pending
        left: Pending = {}
        for path, items in pending.items():
            before = self._version(_commit(self._repository, str(base)), path)
            sides = [self._version(parent, path) for parent in commit.parents]
            for item in items:
                was, *now = (None if each is None else each.value(item.part, item.name) for each in (before, *sides))
                if was == self._value(item) and any(value != was for value in now):
                    _settle(item, str(commit.id), order)
                else:
                    left.setdefault(path, []).append(item)
        return left

    def _value(self, item: Traced) -> Any:
        """Return what a part says at the revision. Of a file that no commit changed it is never read."""
        if item.value is _UNREAD:
            assert self._traced is not None
            version = self._parsed(str(self._traced[item.path].id), item.path)
            item.value = None if version is None else version.value(item.part, item.name)
        return item.value

    def _version(self, commit: pygit2.Commit, path: str) -> Version | None:
        return self._parsed(str(commit.tree[path].id), path) if path in commit.tree else None

    def _same(
        self,
        pending: Pending,
        difference: _Difference,
        target: Pending,
        *,
        revision: str,
        order: int,
        merge: bool = False,
    ) -> Pending:
        """Pass on the parts that a parent has unchanged; the rest is what the commit changed."""
        left: Pending = {}
        emails: dict[str, str] | None = None
        for path, items in pending.items():
            before: str | None = path
            version: Version | None = None
            if path in difference.now:
                if emails is None and path not in difference.was:
                    emails = self._emails(difference)
                before = self._before(path, difference, emails)
                version = self._parsed(difference.was[before], before) if before is not None else None
            for item in items:
                if before is None or (version is not None and version.value(item.part, item.name) != self._value(item)):
                    left.setdefault(path, []).append(item)
                    continue
                item.fixed = (
                    None if version is not None or path not in difference.now else item.fixed or (revision, order)
                )
                if merge:
                    item.merges = (*item.merges, revision)
                target.setdefault(before, []).append(item)
        return left

    def _before(self, path: str, difference: _Difference, emails: dict[str, str] | None) -> str | None:
        """Return a file's path at the parent, following its address, then its name; None for a new file."""
        now, was = difference.now[path], difference.was
        version = self._parsed(now, path)
        hire = path.startswith("hires/")
        if path in was:
            old = self._parsed(was[path], path)
            if not hire or version is None or old is None or version.email == old.email:
                return path
            return self._emails(difference).get(version.email, path)
        gone = [each for each in was if each.startswith("hires/") == hire]
        if hire and version is not None and emails is not None and version.email in emails:
            return emails[version.email]
        stem = PurePosixPath(path).stem
        return next((each for each in gone if each not in difference.now and PurePosixPath(each).stem == stem), None)

    def _emails(self, difference: _Difference) -> dict[str, str]:
        """Return the files that a commit removed or changed, by their person's address."""
        found = {}
        for path, blob in difference.was.items():
            version = self._parsed(blob, path) if path.startswith("hires/") else None
            if version is not None and version.email:
                found[version.email] = path
        return found

    def _difference(self, now: pygit2.Tree, was: pygit2.Tree) -> _Difference:
        found = _Difference()
        for folder in self._folders:
            pairs = [(folder, _folder_id(was, folder), _folder_id(now, folder))]
            while pairs:
                place, old, new = pairs.pop()
                if old == new:
                    continue
                if old is not None and new is not None and self._is_large(new):
                    self._add_deltas(found, place, old, new)
                    continue
                before, after = self._folder(old), self._folder(new)
                olds, news = dict(before - after), dict(after - before)
                for name in olds.keys() | news.keys():
                    left, right = olds.get(name), news.get(name)
                    path = f"{place}/{name}"
                    folders = [entry[1] if entry is not None and entry[0] else None for entry in (left, right)]
                    if any(folders):
                        pairs.append((path, folders[0], folders[1]))
                    for entry, files in ((left, found.was), (right, found.now)):
                        if entry is not None and not entry[0]:
                            files[path] = entry[1]
        return found

    def _is_large(self, folder: str) -> bool:
        tree = self._repository[folder]
        return isinstance(tree, pygit2.Tree) and len(tree) > LARGE

    def _add_deltas(self, found: _Difference, place: str, old: str, new: str) -> None:
        """Compare a folder with many files by libgit2: faster there, and slower in deep trees."""
        was, now = (self._repository[folder].peel(pygit2.Tree) for folder in (old, new))
        for delta in was.diff_to_tree(now).deltas:
            for file, files in ((delta.old_file, found.was), (delta.new_file, found.now)):
                hidden = any(name.startswith(".") for name in file.path.split("/"))
                if file.mode in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE) and not hidden:
                    files[f"{place}/{file.path}"] = str(file.id)


def _commit(repository: pygit2.Repository, revision: str) -> pygit2.Commit:
    return repository[revision].peel(pygit2.Commit)


def _given(repository: pygit2.Repository, commit: str, merges: tuple[str, ...]) -> Given:
    """Return what a commit, and the merges that brought it, say of who gave something."""
    found = _commit(repository, commit)
    messages = [_commit(repository, each).message for each in (commit, *merges)]
    approved = dict.fromkeys(name for message in messages for name in _TRAILER.findall(message))
    at = datetime.fromtimestamp(max(found.commit_time, 0), UTC)
    return Given(commit, _person(found.author), _person(found.committer), at, tuple(approved))


def _read_folder(repository: pygit2.Repository, folder: str | None) -> frozenset[tuple[str, tuple[bool, str]]]:
    """Read a folder as name → (is a folder, id) from the raw object, which is much faster."""
    if folder is None:
        return frozenset()
    raw = repository.read(folder)[1]
    size = len(folder) // 2
    entries = re.findall(rb"(\d+) ([^\0]+)\0(.{%d})" % size, raw, re.DOTALL)
    return frozenset(
        (name.decode(errors="surrogateescape"), (mode == b"40000", identity.hex()))
        for mode, name, identity in entries
        if mode in (b"40000", b"100644", b"100755") and not name.startswith(b".")
    )


def _read_version(
    repository: pygit2.Repository, reads: Callable[[bytes, str], Version | None], blob: str, path: str
) -> Version | None:
    return reads(repository.read(blob)[1], path)


def _settle(item: Traced, revision: str, order: int) -> None:
    item.commit, item.order = item.fixed or (revision, order)


def _merge(first: Pending, pending: Pending, waiting: dict[str, Pending], parent: str) -> None:
    """Add parts to those that wait at a parent, moving the smaller set."""
    small, large = (first, pending) if len(first) < len(pending) else (pending, first)
    for path, items in small.items():
        large.setdefault(path, []).extend(items)
    waiting[parent] = large


def _folder_id(tree: pygit2.Tree, path: str) -> str | None:
    here: pygit2.Object = tree
    for name in path.split("/"):
        if not isinstance(here, pygit2.Tree) or name not in here:
            return None
        here = here[name]
    return str(here.id) if isinstance(here, pygit2.Tree) else None


def _person(signature: pygit2.Signature) -> str:
    name, address = (raw.decode(errors="replace") for raw in (signature.raw_name, signature.raw_email))
    return f"{name} <{address}>"
