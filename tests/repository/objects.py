"""Git's objects byte by byte, as git itself would never write them."""

from __future__ import annotations

from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

FOLDER = 0o40000
KINDS = {"tree": ObjectType.TREE, "blob": ObjectType.BLOB, "commit": ObjectType.COMMIT}


class Objects:
    """Writes objects into the repository at `root`; a tree and a blob are known by the 20 bytes of their id."""

    def __init__(self, root: Path) -> None:
        self._odb = pygit2.Repository(str(root)).odb

    def put(self, kind: str, content: bytes) -> bytes:
        """Any content as an object of a kind."""
        return self._odb.write(KINDS[kind], content).raw

    def tree(self, *entries: tuple[int, bytes, bytes]) -> bytes:
        """A tree of entries: mode, name, id; in the order in which they are given."""
        return self.put("tree", b"".join(b"%o %s\0%s" % entry for entry in entries))

    def root(self, hires: bytes, *more: tuple[int, bytes, bytes]) -> bytes:
        """The tree of a repository: `hires/` with this tree, an empty `manifests/`, and what else is given."""
        return self.tree((FOLDER, b"hires", hires), (FOLDER, b"manifests", self.tree()), *more)

    def endless(self, *more: bytes) -> bytes:
        """A folder with the trees of `more` and one that is walked for years: 30 levels of ten folders each."""
        within = self.tree()
        for _ in range(30):
            within = self.tree(*((FOLDER, b"f%d" % number, within) for number in range(10)))
        return self.tree((FOLDER, b"deep", within), *((FOLDER, b"more%d" % at, each) for at, each in enumerate(more)))

    def commit(
        self, tree: bytes, when: bytes = b"1700000000 +0000", author: bytes = b"Ida Admin <ida@example.com>"
    ) -> str:
        """A commit without parents; its full id."""
        text = b"tree %s\nauthor %s %s\ncommitter %s %s\n\nx\n" % (tree.hex().encode(), author, when, author, when)
        return self.put("commit", text).hex()
