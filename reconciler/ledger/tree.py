"""A Merkle tree over the digests of the history's lines, as RFC 6962 has it.

Its root is what a checkpoint signs. Each line is a leaf: the 32 bytes of its digest. A tree over a million lines is
made of the roots of its whole blocks, which never change and are kept, and of the few lines after them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

__all__ = ["BLOCK", "MerkleTree", "leaf", "root_of"]

BLOCK = 1024
"""The lines of a block whose root is kept: a power of two, so that it is a node of each later tree."""

_EMPTY = hashlib.sha256(b"").digest()


def leaf(digest: str) -> bytes:
    """Return the hash of a line's leaf."""
    return hashlib.sha256(b"\x00" + bytes.fromhex(digest)).digest()


def root_of(nodes: Iterable[bytes]) -> bytes:
    """Return the root over nodes of one level; whole blocks may stand before leaves that are fewer than a block.

    A node at the end that has no other is the same one level up, which is how RFC 6962 splits what is no power of two.
    """
    level = list(nodes)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [_node(left, right) for left, right in pairs] + level[len(level) & ~1 :]
    return level[0] if level else _EMPTY


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A whole tree in memory, which can prove that it has a line."""

    def __init__(self, digests: Iterable[str]) -> None:
        self._levels: list[Sequence[bytes]] = [[leaf(digest) for digest in digests]]
        while len(below := self._levels[-1]) > 1:
            pairs = zip(below[::2], below[1::2], strict=False)
            self._levels.append([_node(left, right) for left, right in pairs] + list(below[len(below) & ~1 :]))

    @property
    def size(self) -> int:
        """The number of lines."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The root."""
        return self._levels[-1][0] if self.size else _EMPTY

    def proof(self, place: int) -> list[bytes]:
        """Return the hashes beside the way from a line, of which the first has place 0, to the root."""
        found = []
        for level in self._levels[:-1]:
            if (beside := place ^ 1) < len(level):
                found.append(level[beside])
            place >>= 1
        return found
