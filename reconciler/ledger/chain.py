"""The history as a chain: each line has the digest of the one before, so that changed or removed lines are detected.

A line's `digest` covers the digest before it and the line's `content`, which is itself a digest of a random salt and
the line's fields. Forgetting a person erases salt and fields; both digests stay, and the chain can still be verified.
Without the salt, the fields of an erased line cannot be found by trial.

Lines of a renamed grant are shown under its new name. That name is covered, too: each rename is a line of its own, and
a line may only be shown under the name that the renames after it lead to.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.ledger.reading import EPOCH, UnreadableError, microseconds
from reconciler.model.clock import stamp
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from reconciler.model.status import EventType
from reconciler.model.value import Frozen

BLOCK = 1024
"""The lines of a block whose root is kept: a power of two, so that it is a node of each later tree."""

_EMPTY = hashlib.sha256(b"").digest()

END = "history_end"
"""The name of the note that has the last line's number and digest, so that lines missing at the end are detected."""

ERASED: dict[str, Any] = {
    **dict.fromkeys(("hire", "access", "integration", "event", "detail"), ""),
    **dict.fromkeys(("salt", "revision", "author", "was", "granted_in", "approved_by", "data", "code")),
    "at": EPOCH,
}
"""The columns of a line whose person was forgotten, besides its digests."""

_SAID = ("hire", "access", "integration", "event", "revision", "author", "detail", "granted_in", "approved_by", "data")
_COUNTED = re.compile(r"(\d+) lines? of the history")


class Link(Frozen):
    """The end of the chain: how many lines it has, and the digest of the last."""

    number: int = 0
    digest: str = ""

    @classmethod
    def of(cls, note: object) -> Link:
        """Read the end from its note; without a note the chain is empty. Raises LedgerError."""
        if note is None:
            return cls()
        number, _, digest = note.decode(errors="replace").partition(" ") if isinstance(note, bytes) else ("", "", "")
        if not number.isdecimal():
            raise LedgerError("the note of where the history ends is damaged: restore the state from a copy")
        return cls(int(number), digest)

    def as_note(self) -> bytes:
        """Write the end as a note."""
        return f"{self.number} {self.digest}".encode()


class Chain(Frozen):
    """The result of verifying: the number of lines, of erased lines, and the digest of the last.

    `broken` says which line breaks the chain first, and why; None if none does.
    """

    lines: int
    erased: int
    digest: str
    broken: str | None = None


def erased_lines(count: int) -> str:
    """Write how many lines a `forgotten` event erased; `verify` reads it again."""
    return f"{count} line{'' if count == 1 else 's'} of the history"


def salted(row: Mapping[str, Any]) -> dict[str, Any]:
    """Add a salt and the digest of its content to a row, which is all that its place in the chain depends on."""
    salt = secrets.token_bytes(16)
    return {**row, "salt": salt, "content": _content(row, salt)}


def linked(rows: Iterable[Mapping[str, Any]], end: Link) -> tuple[list[dict[str, Any]], Link]:
    """Append salted rows to a chain: add their digests, and return its new end, too."""
    found = []
    for row in rows:
        end = Link(end.number + 1, _next(end.digest, row["content"]))
        found.append({**row, "digest": end.digest})
    return found, end


class Names:
    """Under which name each line is shown, by the lines of renames, oldest first, each with its number.

    A rename is of the lines before the first one of its transaction, `place` lines before its own: two grants may swap
    their names.
    """

    def __init__(self, renames: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        self._steps: dict[str, list[tuple[int, int, str]]] = {}
        for number, row in renames:
            match row["data"]:
                case {"was": str(was), "place": int(place)} if place >= 0:
                    self._steps.setdefault(was, []).append((number - place, number, _name(as_written(row))))

    def shown(self, number: int, name: str) -> str:
        """Return under which name the line of this number is shown that was written under this one."""
        while (step := next((each for each in self._steps.get(name, ()) if each[0] > number), None)) is not None:
            _, number, name = step
        return name


def verify(rows: Iterable[Mapping[str, Any]], noted: Link, names: Names) -> Chain:
    """Verify every line by its digests, oldest first, and the last by the noted end."""
    end, erased, vouched = Link(), 0, 0
    try:
        for row in rows:
            broken = _broken(row, end, names)
            if broken is not None:
                return Chain(end.number, erased, end.digest, f"line {end.number + 1} ({_named(row)}): {broken}")
            end = Link(end.number + 1, row["digest"])
            if end.number == noted.number and end != noted:
                broken = f"line {end.number} ({_named(row)}): another line stood here"
                return Chain(end.number, erased, end.digest, broken)
            erased += row["salt"] is None
            vouched += _vouched(row)
    except (UnreadableError, TypeError):
        broken = f"line {end.number + 1}: it has a value that this program does not write"
        return Chain(end.number, erased, end.digest, broken)
    return Chain(end.number, erased, end.digest, next(_unaccounted(end, noted, erased - vouched), None))


def _unaccounted(end: Link, noted: Link, too_many: int) -> Iterator[str]:
    if end.number < noted.number:
        yield f"line {end.number + 1}: it is missing, and so is what followed: {noted.number} lines were written"
    if end.number > noted.number:
        yield f"line {noted.number + 1}: it was not written by this program"
    if too_many > 0:
        yield f"{erased_lines(too_many)} erased that no `forgotten` line vouches for"


def _broken(row: Mapping[str, Any], end: Link, names: Names) -> str | None:
    if row["salt"] is not None and row["content"] != _content(as_written(row), row["salt"]):
        return "what it says was changed"
    if row["digest"] != _next(end.digest, row["content"]):
        return "it does not follow the line before: a line was taken out, put in or moved"
    if row["salt"] is not None and _name(row) != (shown := names.shown(end.number + 1, _name(as_written(row)))):
        return f"it was moved to another name: it is about {shown}"
    return None


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['hire']}/{row['access']}"


def as_written(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a line of a renamed grant the name that it was written with."""
    if row["was"] is None:
        return row
    hire, _, access = row["was"].partition("/")
    return {**row, "hire": hire, "access": access}


def _vouched(row: Mapping[str, Any]) -> int:
    forgotten = row["event"] == EventType.FORGOTTEN and row["salt"] is not None  # an erased line accounts for none
    counted = _COUNTED.search(row["detail"]) if forgotten else None
    return int(counted[1]) if counted is not None else 0


def _named(row: Mapping[str, Any]) -> str:
    if row["salt"] is None:
        return "of a person who was forgotten"
    whose = Key(row["hire"], row["access"]) if row["hire"] else row["integration"]
    return " ".join(str(part) for part in (stamp(row["at"]), whose, row["event"]) if part)


def _content(row: Mapping[str, Any], salt: bytes) -> str:
    """Digest a line's fields."""
    text = json.dumps(said(row), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(salt + text.encode()).hexdigest()


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a line's digest covers. Empty ones are left out, so that new columns change no digest."""
    return {**{name: row[name] for name in _SAID if row.get(name)}, "at": microseconds(row["at"])}


def _next(digest: str, content: str) -> str:
    return hashlib.sha256(f"{digest}\n{content}".encode()).hexdigest()


def leaf(digest: str) -> bytes:
    """Return the hash of a line's leaf. Raises LedgerError."""
    try:
        return hashlib.sha256(b"\x00" + bytes.fromhex(digest)).digest()
    except (ValueError, TypeError):
        raise LedgerError("a line of the history has no digest: `reconcile history --verify` says which") from None


def root_of(nodes: Iterable[bytes]) -> bytes:
    """Return the root over nodes of one level; whole blocks may stand before leaves that are fewer than a block.

    A node at the end that has no other is the same one level up, which is how RFC 6962 splits what is no power of two.
    """
    level = list(nodes)
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else _EMPTY


def _above(level: list[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    return [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + level[len(level) & ~1 :]


class MerkleTree:
    """A whole Merkle tree in memory over the digests of the history's lines, which can prove that it has a line.

    It is as RFC 6962 has it, and its root is what a checkpoint signs. Each line is a leaf: the 32 bytes of its digest.
    A tree over a million lines is made of the roots of its whole blocks, which never change and are kept, and of the
    few lines after them.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self._levels = [[leaf(digest) for digest in digests]]
        while len(below := self._levels[-1]) > 1:
            self._levels.append(_above(below))

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
