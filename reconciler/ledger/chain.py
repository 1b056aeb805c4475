"""The history as a chain: each line holds the digest of the one before, so that no line is changed or taken out unseen.

A line's `digest` is of the digest before it and of the line's `content`, which is itself a digest of a random salt and
of what the line says. Forgetting a person erases the salt and what was said; both digests stay, and the chain can
still be verified. Without the salt nobody can find out by trial what an erased line said.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.ledger.reading import EPOCH, microseconds
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from reconciler.model.status import EventType

__all__ = ["END", "ERASED", "Chain", "Link", "erased_lines", "linked", "verify"]

END = "history_end"
"""The note that has the last line's number within the chain and its digest: lines cut off at the end are missed."""

ERASED: dict[str, Any] = {
    "salt": None,
    "at": EPOCH,
    "hire": "",
    "access": "",
    "integration": "",
    "event": "",
    "revision": None,
    "author": None,
    "detail": "",
    "was": None,
    "granted_in": None,
    "approved_by": None,
}
"""What is left of a line once its person is forgotten, beside its digests."""

_SAID = ("hire", "access", "integration", "event", "revision", "author", "detail", "granted_in", "approved_by")
_COUNTED = re.compile(r"(\d+) lines? of the history")


@dataclass(frozen=True, slots=True)
class Link:
    """The end of the chain: how many lines it has, and the digest of the last."""

    number: int = 0
    digest: str = ""

    @classmethod
    def of(cls, note: bytes | None) -> Link:
        """The end as it is noted; that of an empty chain where nothing is. Raises LedgerError."""
        if note is None:
            return cls()
        number, _, digest = note.decode(errors="replace").partition(" ")
        if not number.isdecimal():
            raise LedgerError("the note of where the history ends is damaged: restore the state from a copy")
        return cls(int(number), digest)

    def as_note(self) -> bytes:
        """The end, to be noted."""
        return f"{self.number} {self.digest}".encode()


@dataclass(frozen=True, slots=True)
class Chain:
    """What verifying found: how many lines there are, how many of them are erased, the digest of the last.

    `broken` says which line is the first that does not hold, and why; None where all do.
    """

    lines: int
    erased: int
    digest: str
    broken: str | None = None


def erased_lines(count: int) -> str:
    """How many lines a `forgotten` line vouches for; verifying reads it again."""
    return f"{count} line{'' if count == 1 else 's'} of the history"


def linked(rows: Iterable[Mapping[str, Any]], end: Link) -> tuple[list[dict[str, Any]], Link]:
    """Rows with their salts and digests, appended to a chain, and its new end."""
    found = []
    for row in rows:
        salt = secrets.token_bytes(16)
        content = _content(row, salt)
        end = Link(end.number + 1, _next(end.digest, content))
        found.append({**row, "salt": salt, "content": content, "digest": end.digest})
    return found, end


def verify(rows: Iterable[Mapping[str, Any]], noted_end: Callable[[], Link]) -> Chain:
    """Hold every line against its digests, oldest first, and the last against what is noted of it."""
    noted = noted_end()
    end, erased, vouched = Link(), 0, 0
    for row in rows:
        broken = _broken(row, end)
        if broken is not None:
            return Chain(end.number, erased, end.digest, f"line {end.number + 1} ({_named(row)}): {broken}")
        end = Link(end.number + 1, row["digest"])
        if end.number == noted.number and end != noted:
            return Chain(end.number, erased, end.digest, f"line {end.number} ({_named(row)}): another line stood here")
        erased += row["salt"] is None
        vouched += _vouched(row)
    broken = next(_unaccounted(end, noted, noted_end, erased - vouched), None)
    return Chain(end.number, erased, end.digest, broken)


def _unaccounted(end: Link, noted: Link, noted_end: Callable[[], Link], too_many: int) -> Iterator[str]:
    if end.number < noted.number:
        yield f"line {end.number + 1}: it is missing, and so is what followed: {noted.number} lines were written"
    if end.number > (now := noted_end()).number:  # the holder of the state may have written meanwhile
        yield f"line {now.number + 1}: it was not written by this program"
    if too_many > 0:
        yield f"{erased_lines(too_many)} erased that no `forgotten` line vouches for"


def _broken(row: Mapping[str, Any], end: Link) -> str | None:
    if row["salt"] is not None and row["content"] != _content(_as_written(row), row["salt"]):
        return "what it says was changed"
    if row["digest"] != _next(end.digest, row["content"]):
        return "it does not follow the line before: a line was taken out, put in or moved"
    return None


def _as_written(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line that followed its grant to another name, under the name that it was written with."""
    if row["was"] is None:
        return row
    hire, _, access = row["was"].partition("/")
    return {**row, "hire": hire, "access": access}


def _vouched(row: Mapping[str, Any]) -> int:
    told = row["event"] == EventType.FORGOTTEN and row["salt"] is not None  # an erased line vouches for nothing
    counted = _COUNTED.search(row["detail"]) if told else None
    return int(counted[1]) if counted is not None else 0


def _named(row: Mapping[str, Any]) -> str:
    if row["salt"] is None:
        return "of a person who was forgotten"
    whose = Key(row["hire"], row["access"]) if row["hire"] else row["integration"]
    return " ".join(str(part) for part in (row["at"].isoformat(timespec="seconds"), whose, row["event"]) if part)


def _content(row: Mapping[str, Any], salt: bytes) -> str:
    """The digest of what a line says. What it does not say is left out, so that later columns change no digest."""
    said = {name: row[name] for name in _SAID if row.get(name)}
    said["at"] = microseconds(row["at"])
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(salt + text.encode()).hexdigest()


def _next(digest: str, content: str) -> str:
    return hashlib.sha256(f"{digest}\n{content}".encode()).hexdigest()
