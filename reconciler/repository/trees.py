"""A revision as a tree of files: a commit's, through libgit2, or a folder's as it stands on the disk.

Both skip what is no plain file of the user's: symbolic links, submodules, and every name that begins with a dot. A
file's `blob` is git's id of its content in both, so that what was parsed from one is not parsed again from the other.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pygit2
from pygit2.enums import FileMode

from reconciler.model.errors import RepositoryError
from reconciler.repository.broken import MAX_BYTES, broken, too_large

__all__ = ["WORKTREE", "CommitTree", "File", "FolderTree", "Tree"]

WORKTREE = "worktree"
"""The revision of a folder that is read as it stands."""

_FILES = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a revision: its path from the repository's root, with `/`, and the id of its content."""

    path: str
    blob: str


class Tree(Protocol):
    """The files of one revision."""

    @property
    def revision(self) -> str:
        """The full commit id, or `worktree`."""

    def files(self, folder: str) -> Iterator[File]:
        """Every file under a folder, sorted by path; nothing where the folder is absent."""

    def find(self, path: str) -> File | None:
        """The file at a path; None where there is none."""

    def has(self, folder: str) -> bool:
        """Whether there is such a folder."""

    def read(self, file: File) -> bytes:
        """A file's content. Raises BrokenFile where it is over 1 MiB, before it is in memory."""


class CommitTree:
    """A commit's tree."""

    def __init__(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        self._repository = repository
        self.root = commit.tree
        self.revision = str(commit.id)

    def files(self, folder: str) -> Iterator[File]:
        """Every file under a folder, sorted by path."""
        top = self._at(folder)
        if not isinstance(top, pygit2.Tree):
            return
        waiting = [(f"{folder}/", iter(top))]
        while waiting:
            prefix, entries = waiting[-1]
            entry = next(entries, None)
            if entry is None:
                waiting.pop()
                continue
            name = entry.name or ""
            if name.startswith("."):
                continue
            if isinstance(entry, pygit2.Tree):
                waiting.append((f"{prefix}{name}/", iter(entry)))
            elif entry.filemode in _FILES:
                yield File(prefix + name, str(entry.id))

    def find(self, path: str) -> File | None:
        """The file at a path."""
        entry = self._at(path)
        return File(path, str(entry.id)) if entry is not None and entry.filemode in _FILES else None

    def has(self, folder: str) -> bool:
        """Whether there is such a folder."""
        return isinstance(self._at(folder), pygit2.Tree)

    def read(self, file: File) -> bytes:
        """A file's content; raises RepositoryError where the object is not there (a partial or damaged clone)."""
        try:
            _kind, size = self._repository.odb.read_header(file.blob)
            if size > MAX_BYTES:
                raise too_large(file.path, size)
            return self._repository.odb.read(file.blob)[1]
        except (KeyError, pygit2.GitError) as error:
            raise RepositoryError(
                f"git has no content for {file.path} at {self.revision}: a partial or damaged clone; run `git fsck`, "
                f"or clone again ({error})"
            ) from error

    def changed(self, other: CommitTree) -> frozenset[str]:
        """The paths of the files that are not the same in both; folders with one id are not looked into."""
        return frozenset(_differing("", other.root, self.root))

    def _at(self, path: str) -> pygit2.Object | None:
        try:
            return self.root[path]
        except KeyError:
            return None


def _differing(prefix: str, old: pygit2.Tree | None, new: pygit2.Tree | None) -> Iterator[str]:
    """Folder by folder, by id: in a large repository libgit2's own difference takes fifty times as long."""
    before = {entry.name: entry for entry in old} if old is not None else {}
    after = {entry.name: entry for entry in new} if new is not None else {}
    for name in before.keys() | after.keys():
        was, now = before.get(name), after.get(name)
        if was is not None and now is not None and (was.id, was.filemode) == (now.id, now.filemode):
            continue
        folders = [entry if isinstance(entry, pygit2.Tree) else None for entry in (was, now)]
        if any(folder is not None for folder in folders):
            yield from _differing(f"{prefix}{name}/", *folders)
        if any(entry is not None and entry.filemode in _FILES for entry in (was, now)):
            yield f"{prefix}{name}"


class FolderTree:
    """A folder as it stands on the disk."""

    revision = WORKTREE

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, folder: str) -> Iterator[File]:
        """Every file under a folder, sorted by path."""
        if not self.has(folder):
            return
        waiting = [iter(self._entries(folder))]
        while waiting:
            entry = next(waiting[-1], None)
            if entry is None:
                waiting.pop()
                continue
            path, is_folder = entry
            if is_folder:
                waiting.append(iter(self._entries(path)))
            else:
                yield File(path, self._blob(path))

    def find(self, path: str) -> File | None:
        """The file at a path."""
        folder, _, _ = path.rpartition("/")
        if (folder and not self.has(folder)) or not stat.S_ISREG(self._mode(path)):
            return None
        return File(path, self._blob(path))

    def has(self, folder: str) -> bool:
        """Whether there is such a folder, without a symbolic link on the way."""
        parts = folder.split("/")
        return all(stat.S_ISDIR(self._mode("/".join(parts[: end + 1]))) for end in range(len(parts)))

    def read(self, file: File) -> bytes:
        """A file's content; raises BrokenFile where it cannot be read."""
        try:
            with (self._root / file.path).open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                if size > MAX_BYTES:
                    raise too_large(file.path, size)
                return opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise broken(file.path, None, f"cannot be read: {error.strerror}; check its name and its rights") from None

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """What is in one folder, in the order in which git has it: a folder sorts as if its name ended in `/`."""
        try:
            with os.scandir(self._root / folder) as entries:
                found = [
                    (f"{folder}/{entry.name}", entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if not entry.name.startswith(".")
                    and (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False))
                ]
        except OSError as error:
            raise RepositoryError(f"the folder {folder} cannot be read: {error.strerror}; check its rights") from error
        return sorted(found, key=lambda entry: entry[0] + "/" * entry[1])

    def _blob(self, path: str) -> str:
        """Git's id of the content; that of the length alone where the content is too large to be read at all."""
        digest = hashlib.sha1(usedforsecurity=False)
        with suppress(OSError), (self._root / path).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            digest.update(b"blob %d\0" % size)
            if size <= MAX_BYTES:
                digest.update(opened.read(MAX_BYTES))
        return digest.hexdigest()

    def _mode(self, path: str) -> int:
        try:
            return (self._root / path).lstat().st_mode
        except OSError:
            return 0
