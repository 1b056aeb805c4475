"""A revision as a tree of files: a commit's, through libgit2, or a folder's on disk.

Both skip submodules, and names that begin with a dot. A symbolic link is a file that cannot be read: if it were
skipped, it would look like a removed file. A file's `blob` is git's id of its content in both, so that content parsed
from one is not parsed again from the other.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import pygit2
from pygit2.enums import DeltaStatus, DiffFind, FileMode, ObjectType

from reconciler.model.errors import RepositoryError
from reconciler.repository.documents.events import MAX_BYTES, broken, too_large
from reconciler.repository.git.extent import DEEPEST, MOST, Endless

WORKTREE = "worktree"
"""The revision of a folder that is read as it stands."""

SETTLED_NS = 2_000_000_000
"""Nanoseconds after which the times of a file show every further change, on any file system."""

# A commit looks at a folder several times; one of 10,000 hires is far above what libgit2 keeps of a tree by default.
pygit2.settings.cache_object_limit(ObjectType.TREE, 4 << 20)
pygit2.settings.cache_max_size(16 << 20)

_FILES = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE, FileMode.LINK, FileMode.COMMIT)

_LINK = "link "
"""Begins the `blob` of a link and of a submodule, so that none is taken for a file whose content is what it names."""


class File(NamedTuple):
    """A file of a revision: its path from the repository's root, with `/`, and its blob id."""

    path: str
    blob: str


Stamp = tuple[int, int, int, int]
"""The size of a file, the nanoseconds of its two times, and its inode."""

Stamped = tuple[Stamp, str]
"""How a file stood, and git's id of what it held."""


def blob_of(content: bytes, size: int | None = None) -> str:
    """Return git's id of a content; `size` is its length if the content itself is left out."""
    digest = hashlib.sha1(b"blob %d\0" % (len(content) if size is None else size), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def _refuse_link(file: File) -> None:
    if file.blob.startswith(_LINK):
        why = "is a symbolic link or a submodule, which is not followed; commit the file itself in its place"
        raise broken(file.path, None, why)


class CommitTree:
    """A commit's tree. All methods raise RepositoryError if git's objects are damaged or missing."""

    def __init__(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        self._repository = repository
        self.revision = str(commit.id)
        self._changed: tuple[str, frozenset[str]] | None = None
        with self._whole("tree"):
            self._root = commit.tree

    def files(self, folder: str) -> Iterator[File]:
        """Return every file under a folder, sorted by path; all are known to exist before the first is returned."""
        with self._whole(folder):
            top = object_at(self._root, folder)
            return iter(list(self._walk(f"{folder}/", top)) if isinstance(top, pygit2.Tree) else [])

    def find(self, path: str) -> File | None:
        """Return the file at a path."""
        with self._whole(path):
            entry = object_at(self._root, path)
            return _file(path, entry, entry.filemode) if entry is not None and entry.filemode in _FILES else None

    def has(self, folder: str) -> bool:
        """Whether there is such a folder."""
        with self._whole(folder):
            return isinstance(object_at(self._root, folder), pygit2.Tree)

    def below(self, path: str) -> Iterator[str]:
        """Return the path itself unless it is a folder, else every path in it, hidden ones too."""
        with self._whole(path):
            top = object_at(self._root, path)
            if isinstance(top, pygit2.Tree):
                yield from (file.path for file in self._walk(f"{path}/", top, hidden=True))
            elif top is not None:
                yield path

    def read(self, file: File, limit: int | None = None) -> bytes:
        """Read a file. Raises BrokenFile if it has more than `limit` bytes, before it is in memory."""
        _refuse_link(file)
        with self._whole(file.path):
            _kind, size = self._repository.odb.read_header(file.blob)
            if size > (limit or MAX_BYTES):
                raise too_large(file.path, size, limit or MAX_BYTES)
            return self._repository.odb.read(file.blob)[1]

    def other(self, revision: str) -> CommitTree | None:
        """Return another commit's tree, by its full id; None if there is no such commit here."""
        with suppress(KeyError, ValueError, pygit2.GitError):
            return CommitTree(self._repository, self._repository[revision].peel(pygit2.Commit))
        return None

    def came_with(self, path: str) -> CommitTree | None:
        """Return the commit since which, by first parents, a file is as it is; None if this clone does not have it.

        In a clone of one commit it is that one.
        """
        file, found = self.find(path), self
        with suppress(KeyError):
            commit = self._repository[self.revision].peel(pygit2.Commit)
            while commit.parent_ids:
                commit = self._repository[commit.parent_ids[0]].peel(pygit2.Commit)
                before = CommitTree(self._repository, commit)
                if before.find(path) != file:
                    return found
                found = before
        return found if found is self or not self._repository.is_shallow else None

    def changed(self, other: CommitTree) -> frozenset[str]:
        """Return the paths of files that differ; folders with the same id are skipped.

        The last answer is kept: who reads a new commit and who acts on it both ask.
        """
        if self._changed is None or self._changed[0] != other.revision:
            with self._whole("tree"):
                self._changed = other.revision, frozenset(_differing(other._root, self._root))
        return self._changed[1]

    def renamed(self, other: CommitTree, folder: str) -> dict[str, str]:
        """Return the paths in a folder that git sees as renamed since another commit, by the path of before."""
        with self._whole(folder):
            then, now = object_at(other._root, folder), object_at(self._root, folder)
            if not isinstance(then, pygit2.Tree) or not isinstance(now, pygit2.Tree):
                return {}
            diff = then.diff_to_tree(now)
            diff.find_similar(flags=DiffFind.FIND_RENAMES)
            return {
                f"{folder}/{delta.old_file.path}": f"{folder}/{delta.new_file.path}"
                for delta in diff.deltas
                if delta.status is DeltaStatus.RENAMED
            }

    def _walk(self, folder: str, top: pygit2.Tree, *, hidden: bool = False) -> Iterator[File]:
        looked_at = 0
        waiting = [(folder, iter(top))]
        while waiting:
            prefix, entries = waiting[-1]
            entry = next(entries, None)
            if entry is None:
                waiting.pop()
                continue
            name = entry.name or ""
            if name.startswith(".") and not hidden:
                continue
            looked_at += 1
            _refuse_endless(looked_at, len(waiting))
            if isinstance(entry, pygit2.Tree):
                waiting.append((f"{prefix}{name}/", iter(entry)))
            elif (mode := entry.filemode) in _FILES:
                yield _file(prefix + name, entry, mode)

    @contextmanager
    def _whole(self, what: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, pygit2.GitError, OSError) as error:
            raise RepositoryError(
                f"git has no content for {what} at {self.revision}: a partial or damaged clone; run `git fsck`, "
                f"or clone again ({error})"
            ) from error


def object_at(tree: pygit2.Tree, path: str) -> pygit2.Object | None:
    """Return what is at a path of a tree. Raises KeyError if it stands there, and git has no such object."""
    here: pygit2.Object = tree
    for name in path.split("/"):
        if not isinstance(here, pygit2.Tree) or name not in here:
            return None
        here = here[name]
    return here


def _file(path: str, entry: pygit2.Object, mode: FileMode) -> File:
    """Return an entry as a file; it is asked for its mode once, which takes as long as all else of it."""
    return File(path, f"{_LINK}{entry.id}" if mode in (FileMode.LINK, FileMode.COMMIT) else str(entry.id))


def _differing(old: pygit2.Tree, new: pygit2.Tree) -> Iterator[str]:
    """Compare folder by folder, by id: in a large repository 50 times as fast as libgit2's own difference."""
    looked_at = 0
    waiting: list[tuple[str, pygit2.Tree | None, pygit2.Tree | None]] = [("", old, new)]
    while waiting:
        prefix, was_tree, now_tree = waiting.pop()
        before = {entry.name: entry for entry in was_tree} if was_tree is not None else {}
        after = {entry.name: entry for entry in now_tree} if now_tree is not None else {}
        for name in before.keys() | after.keys():
            was, now = before.get(name), after.get(name)
            if was is not None and now is not None and (was.id, was.filemode) == (now.id, now.filemode):
                continue
            looked_at += 1
            _refuse_endless(looked_at, prefix.count("/"))
            left, right = (entry if isinstance(entry, pygit2.Tree) else None for entry in (was, now))
            if left is not None or right is not None:
                waiting.append((f"{prefix}{name}/", left, right))
            if any(entry is not None and entry.filemode in _FILES for entry in (was, now)):
                yield f"{prefix}{name}"


def _refuse_endless(looked_at: int, depth: int) -> None:
    if looked_at > MOST or depth > DEEPEST:
        raise Endless


class FolderTree:
    """A folder on disk."""

    revision = WORKTREE

    def __init__(self, root: Path, known: Mapping[str, Stamped] | None = None) -> None:
        """With `known`, files that are unchanged since they were hashed are not hashed again."""
        self.root = root
        self._known = known
        self._began = time.time_ns()
        self.stamped: dict[str, Stamped] = {}
        """The files that were hashed, and those that were not, by path; none without `known`."""

    def files(self, folder: str) -> Iterator[File]:
        """Return every file under a folder, sorted by path."""
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
        """Return the file at a path."""
        folder, _, _ = path.rpartition("/")
        if (folder and not self.has(folder)) or stat.S_IFMT(self._mode(path)) not in (stat.S_IFREG, stat.S_IFLNK):
            return None
        return File(path, self._blob(path))

    def has(self, folder: str) -> bool:
        """Whether there is such a folder, without a symbolic link on the way."""
        parts = folder.split("/")
        return all(stat.S_ISDIR(self._mode("/".join(parts[: end + 1]))) for end in range(len(parts)))

    def read(self, file: File, limit: int | None = None) -> bytes:
        """Read a file. Raises BrokenFile if it cannot be read, or has more than `limit` bytes."""
        _refuse_link(file)
        try:
            with self._opened(file.path) as opened:
                size = os.fstat(opened.fileno()).st_size
                if size > (limit or MAX_BYTES):
                    raise too_large(file.path, size, limit or MAX_BYTES)
                return opened.read((limit or MAX_BYTES) + 1)
        except OSError as error:
            raise broken(file.path, None, f"cannot be read: {error.strerror}; check its name and its rights") from None

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """List a folder in git's order: a folder sorts as if its name ended in `/`."""
        try:
            with os.scandir(self.root / folder) as entries:
                found = [
                    (f"{folder}/{entry.name}", entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if not entry.name.startswith(".")
                    and (entry.is_symlink() or entry.is_dir(follow_symlinks=False) or entry.is_file())
                ]
        except OSError as error:
            raise RepositoryError(f"the folder {folder} cannot be read: {error.strerror}; check its rights") from error
        return sorted(found, key=lambda entry: entry[0] + "/" * entry[1])

    def _blob(self, path: str) -> str:
        """Return git's id of the content; of its length alone if it is too large to be read."""
        if self._known is None:
            return self._hashed(path)
        stamp = self._stamp(path)
        known = self._known.get(path)
        blob = known[1] if known is not None and known[0] == stamp is not None else self._hashed(path)
        if stamp is not None:
            self.stamped[path] = (stamp, blob)
        return blob

    def _hashed(self, path: str) -> str:
        with suppress(OSError), self._opened(path) as opened:
            size = os.fstat(opened.fileno()).st_size
            return blob_of(opened.read(MAX_BYTES) if size <= MAX_BYTES else b"", size)
        with suppress(OSError):  # as it says of what is no link
            return _LINK + blob_of(os.fsencode((self.root / path).readlink()))
        return hashlib.sha1(usedforsecurity=False).hexdigest()

    def _opened(self, path: str) -> BinaryIO:
        """Open a file, not what it links to; by its path as text, for there may be very many. Raises OSError."""
        return os.fdopen(os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_NOFOLLOW), "rb")

    def _stamp(self, path: str) -> Stamp | None:
        """Return a file's stat; None if it is so new that a later change might not show, like in git's index."""
        try:
            found = os.lstat(f"{self.root}/{path}")
        except OSError:
            return None
        if max(found.st_mtime_ns, found.st_ctime_ns) > self._began - SETTLED_NS:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def _mode(self, path: str) -> int:
        try:
            return os.lstat(f"{self.root}/{path}").st_mode
        except OSError:
            return 0


class OverlayTree:
    """A revision with some files added or replaced; without a `tree`, these files alone, and every folder."""

    revision = WORKTREE

    def __init__(self, files: Mapping[str, bytes], tree: Tree | None = None) -> None:
        self._tree = tree
        self._contents = files
        self._new = {path: File(path, blob_of(content)) for path, content in files.items()}

    def files(self, folder: str) -> Iterator[File]:
        """Yield every file under a folder, sorted by path."""
        there = {} if self._tree is None else {file.path: file for file in self._tree.files(folder)}
        there |= {path: file for path, file in self._new.items() if path.startswith(f"{folder}/")}
        return iter(there[path] for path in sorted(there))

    def find(self, path: str) -> File | None:
        """Return the file at a path; None if there is none."""
        return self._new.get(path) or (None if self._tree is None else self._tree.find(path))

    def has(self, folder: str) -> bool:
        """Whether there is such a folder."""
        within = any(path.startswith(f"{folder}/") for path in self._new)
        return within or self._tree is None or self._tree.has(folder)

    def read(self, file: File, limit: int | None = None) -> bytes:
        """Read a file."""
        if file.path in self._new or self._tree is None:
            return self._contents[file.path]
        return self._tree.read(file, limit)


Tree: TypeAlias = CommitTree | FolderTree | OverlayTree
"""The files of one revision, by its full commit id, or `worktree`."""


def lacks_folder(tree: Tree, *, hires: bool = True) -> str | None:
    """Return that a folder is missing from a revision, which refuses it, with what to do; None if it is not.

    Git keeps no empty folder: when the last hire's file goes, so does the folder. Without `hires`, it may be.
    """
    needed = ("hires", "manifests") if hires else ("manifests",)
    missing = next((folder for folder in needed if not tree.has(folder)), None)
    if missing is None:
        return None
    return (
        f"there is no {missing}/ folder at {tree.revision}: where its last file went on purpose, commit an empty "
        f"{missing}/.gitkeep; else give the repository's root with --repo, or run `reconcile init` for a new one"
    )
