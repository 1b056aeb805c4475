"""Find the commit that gave each part of a revision's files, in one walk back for all parts.

Each part starts at the revision and is handed from a commit to the parent that says the same; where no parent does, the
commit is the one that gave it. Of a merge a part follows the branch that it came from, and the merge is remembered for
what it says of approval. Files that nothing changed are never read: a commit costs the comparison of its folders,
whatever number of parts is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any
from weakref import finalize

from reconciler.model.attribution import Approval, Attribution, Source
from reconciler.repository.git import pygit2
from reconciler.repository.git.checkout import person
from reconciler.repository.git.extent import MAX_FOLDER, MOST, Endless, Extents
from reconciler.repository.git.parts import FileVersion, Part, parse_version
from reconciler.repository.git.trees import object_at
from reconciler.repository.people import approvers, is_named

FOLDERS = ("hires", "config/sequences", "config/requests")
LARGE = 100
"""Entries of a folder from which on libgit2 compares it."""

WALKED = 100_000
"""The most files and folders that are looked at for what one commit changed."""

_FILES = (pygit2.enums.FileMode.BLOB, pygit2.enums.FileMode.BLOB_EXECUTABLE)

_UNREAD = object()


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


class TooLarge(Exception):
    """What a commit changed is too much to be walked."""


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
    `signer` returns who signed a commit, if anybody did.
    """

    def __init__(
        self,
        root: Path,
        folders: Iterable[str] = FOLDERS,
        reads: Callable[[bytes, str], FileVersion | None] = parse_version,
        *,
        versions: int = 1024,
        signer: Callable[[str], str | None] = lambda _commit: None,
    ) -> None:
        self._folders = tuple(folders)
        self.too_large: set[str] = set()
        """The commits that were met and change too much to be walked: what they may have given has no known giver."""
        self._repository = pygit2.Repository(str(root))
        self._traced: pygit2.Tree | None = None
        """The files at the revision whose parts are traced."""
        shallow = Path(self._repository.path) / "shallow"
        self._cut_off = set(shallow.read_text().split()) if shallow.is_file() else set()
        # libgit2's cache has one limit for all repositories, and pygit2 leaves each to the garbage collector. So this
        # one is freed with this object. What follows refers to it, or this object would refer to itself.
        finalize(self, self._repository.free)
        self._extents = Extents(self._repository)
        self.given = lru_cache(maxsize=4096)(partial(_given, self._repository, signer))
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
        walker = self._repository.walk(pygit2.Oid(hex=starts[0]), pygit2.enums.SortMode.TOPOLOGICAL)
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
        try:
            differences = [self._difference(commit.tree, parent.tree) for parent in parents]
        except TooLarge:
            self.too_large.add(revision)
            return
        if len(parents) > 1:
            pending = self._not_taken_back(commit, pending, differences, order)
        left: Pending = {}
        difference = differences[0]
        first = waiting.setdefault(str(parents[0].id), {})
        for path in difference.now:
            if path in pending:
                left[path] = pending.pop(path)
        _merge(first, pending, waiting, str(parents[0].id))
        first = waiting[str(parents[0].id)]
        left = self._same(left, difference, first, revision=revision, order=order)
        for parent, other in zip(parents[1:], differences[1:], strict=True):
            if not left:
                return
            theirs = waiting.setdefault(str(parent.id), {})
            left = self._same(left, other, theirs, revision=revision, order=order, merge=True)
        for item in (each for items in left.values() for each in items):
            _settle(item, revision, order)

    def _not_taken_back(
        self, commit: pygit2.Commit, pending: Pending, differences: list[_Difference], order: int
    ) -> Pending:
        """Return the parts that a merge took from a side; the others, which one had changed, the merge brought back."""
        changed = pending.keys() & {path for each in differences for path in each.now}
        if not changed:
            return pending
        ids: list[pygit2.Oid | str] = [parent.id for parent in commit.parents]
        base = self._repository.merge_base_many(ids)
        if base is None:
            return pending
        left: Pending = {path: items for path, items in pending.items() if path not in changed}
        for path in changed:
            items = pending[path]
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

    def _version(self, commit: pygit2.Commit, path: str) -> FileVersion | None:
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
            version: FileVersion | None = None
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
        """Compare two trees folder by folder. Raises TooLarge."""
        found, looked_at = _Difference(), 0
        pairs = [(folder, _folder_at(was, folder), _folder_at(now, folder)) for folder in self._folders]
        while pairs:
            place, old, new = pairs.pop()
            if old is not None and new is not None and old.id == new.id:
                continue
            if old is not None and new is not None and _is_large(new):
                self._add_deltas(found, place, old, new)
                continue
            before, after = self._entries(old), self._entries(new)
            olds = {key[0]: before[key] for key in before.keys() - after.keys()}
            news = {key[0]: after[key] for key in after.keys() - before.keys()}
            looked_at += len(olds.keys() | news.keys())
            if looked_at > WALKED:
                raise TooLarge
            for name in olds.keys() | news.keys():
                path, left, right = f"{place}/{name}", olds.get(name), news.get(name)
                folders = [each if isinstance(each, pygit2.Tree) else None for each in (left, right)]
                if folders != [None, None]:
                    pairs.append((path, folders[0], folders[1]))
                for entry, files in ((left, found.was), (right, found.now)):
                    if entry is not None and entry.filemode in _FILES:
                        files[path] = str(entry.id)
        return found

    def _entries(self, folder: pygit2.Tree | None) -> dict[tuple[str, pygit2.Oid, int], pygit2.Object]:
        """Return what is in a folder, without what is hidden, by name, id and mode. Raises TooLarge."""
        if folder is None:
            return {}
        if self._repository.odb.read_header(folder.id)[1] > MAX_FOLDER or len(folder) > MOST:
            raise TooLarge
        named = ((each.name or "", each) for each in folder)
        return {(name, each.id, each.filemode): each for name, each in named if not name.startswith(".")}

    def _add_deltas(self, found: _Difference, place: str, old: pygit2.Tree, new: pygit2.Tree) -> None:
        """Compare a folder with many files by libgit2: faster there, and slower in deep trees. Raises TooLarge."""
        try:
            for folder in (old, new):
                self._extents.refuse(folder.id)
        except Endless:
            raise TooLarge from None
        for count, delta in enumerate(old.diff_to_tree(new).deltas):
            if count > WALKED:
                raise TooLarge
            for file, files in ((delta.old_file, found.was), (delta.new_file, found.now)):
                hidden = any(name.startswith(".") for name in file.path.split("/"))
                if file.mode in _FILES and not hidden:
                    files[f"{place}/{file.path}"] = str(file.id)


def _commit(repository: pygit2.Repository, revision: str) -> pygit2.Commit:
    return repository[revision].peel(pygit2.Commit)


def _given(
    repository: pygit2.Repository, signer: Callable[[str], str | None], commit: str, merges: tuple[str, ...]
) -> Attribution:
    """Return what a commit, and the merges that brought it, say of who gave something."""
    found = _commit(repository, commit)
    author, committer = person(found.author), person(found.committer)
    approvals: dict[str, Approval] = {}
    for each in (commit, *merges):
        names = [name for name in approvers(_commit(repository, each).message) if not is_named(name, author)]
        by = signer(each) if names else None
        for name in names:
            if is_named(name, committer):
                continue
            source = Source.SIGNATURE if by is not None and is_named(name, by) else Source.CLAIMED
            if name not in approvals or source is Source.SIGNATURE:
                approvals[name] = Approval(name, source)
    at = datetime.fromtimestamp(max(found.commit_time, 0), UTC)
    return Attribution(commit, author, committer, at, tuple(approvals.values()), merges=merges)


def _read_version(
    repository: pygit2.Repository, reads: Callable[[bytes, str], FileVersion | None], blob: str, path: str
) -> FileVersion | None:
    return reads(repository.read(blob)[1], path)


def _settle(item: Traced, revision: str, order: int) -> None:
    item.commit, item.order = item.fixed or (revision, order)


def _merge(first: Pending, pending: Pending, waiting: dict[str, Pending], parent: str) -> None:
    """Add parts to those that wait at a parent, moving the smaller set."""
    small, large = (first, pending) if len(first) < len(pending) else (pending, first)
    for path, items in small.items():
        large.setdefault(path, []).extend(items)
    waiting[parent] = large


def _folder_at(tree: pygit2.Tree, path: str) -> pygit2.Tree | None:
    found = object_at(tree, path)
    return found if isinstance(found, pygit2.Tree) else None


def _is_large(folder: pygit2.Tree) -> bool:
    """Whether a folder has many files, and not as many folders; to look at more than one of them takes too long."""
    return len(folder) > LARGE and not isinstance(folder[len(folder) // 2], pygit2.Tree)
