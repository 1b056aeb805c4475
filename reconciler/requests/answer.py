"""What a service answered, and how its bytes are unpacked without letting a small answer become a huge one."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from reconciler.model.scope import walk
from reconciler.model.value import value_class

__all__ = ["LARGE", "LIMIT", "Padding", "Response", "Unpacker", "Unreadable", "joined"]

LIMIT = 1024 * 1024
"""Bytes that are read of an answer, counted after unpacking (docs/design/rules.md, "Limits of input")."""

LARGE = 25 * LIMIT
"""Bytes that are read of an answer which gives everybody at once, as HR systems do."""

PADDING = 128 * 1024
"""Bytes that may come beside an answer's content, and then twice as many as the content has."""

DEEPEST = 100
"""The deepest nesting of an answer's JSON: later code walks it recursively, within Python's recursion limit."""

_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_PYTHONS_OWN = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Codecs that are no charset: they know no replacement characters, or take years over a mebibyte."""


class Unreadable(Exception):
    """An answer came whose bytes cannot be unpacked; the text says why."""


@value_class
class Response:
    """An answer. `headers` have lower-case names; `truncated` says that the content was cut off at the limit."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)
    truncated: bool = False

    @property
    def text(self) -> str:
        """The content as text; bytes that are none become replacement characters."""
        return self._decode("replace")

    @property
    def whole_text(self) -> str | None:
        """The content as text; None where it is not text throughout."""
        try:
            text = self._decode("strict")
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text

    def json(self) -> Any | None:
        """The content as JSON; None where it is none, or nested over 100 deep.

        Half a character, as services leave it where they cut a text, becomes the replacement character.
        """
        try:
            content = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        if _deeper(content, DEEPEST):
            return None
        return _whole(content) if b"\\u" in self.content or not self.content.isascii() else content

    def at(self, path: str) -> Any:
        """What stands at a dotted path of the content, or in a header (`header:Location`); None where nothing does."""
        kind, colon, name = path.partition(":")
        if colon and kind == "header":
            return self.headers.get(name.strip().lower())
        return walk(self.json(), path)

    def _decode(self, errors: str) -> str:
        charset = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            name = codecs.lookup(charset[1]).name if charset else "utf-8"
            return self.content.decode("utf-8" if name in _PYTHONS_OWN else name, errors)
        except LookupError:  # an unknown charset, or a codec that makes no text
            return self.content.decode("utf-8", errors)


def _whole(content: Any) -> Any:
    """Decoded JSON in which every text can be written down."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return content


def _deeper(content: Any, most: int) -> bool:
    """Whether a structure is nested deeper than that; level by level, without recursion."""
    level = [content]
    for _ in range(most + 1):
        level = [
            below
            for item in level
            if isinstance(item, dict | list)
            for below in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


class Padding:
    """Bounds what comes over the wire beside an answer's content: chunks of a byte each, their extensions, trailers."""

    def __init__(self, came: int = 0) -> None:
        """`came` counts the bytes that came before the content."""
        self._room = PADDING - came

    def check(self, came: int, content: int) -> None:
        """Count bytes as they come, and those of them that are content. Raises Unreadable where it is too much."""
        self._room += 3 * content - came
        if self._room < 0:
            raise Unreadable("padded: most of it is no content")


def joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """An answer's headers by their lower-case names; one that comes several times is comma-joined."""
    found: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("latin-1").lower(), _text(value)
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Unpacker:
    """Takes the bytes of an answer as they come and keeps at most `most` of what they unpack to."""

    def __init__(self, encoding: str, most: int) -> None:
        """`encoding` is the Content-Encoding header. Raises Unreadable for one that was not asked for."""
        kind = encoding.strip().lower() or "identity"
        if kind not in ("identity", "gzip", "x-gzip", "deflate"):
            raise Unreadable("packed in a way that was not asked for")
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32) if kind != "identity" else None
        self._most = most
        self._kept = bytearray()
        self._fed = 0
        self.full = False

    def feed(self, data: bytes) -> None:
        """More bytes. Sets `full` once the limit is passed. Raises Unreadable where they cannot be unpacked."""
        room = self._most + 1 - len(self._kept)
        self._kept += data[:room] if self._zlib is None else self._unpacked(data, room)
        self.full = len(self._kept) > self._most

    def _unpacked(self, data: bytes, room: int) -> bytes:
        assert self._zlib is not None
        self._fed += len(data)
        if self._fed > self._most + PADDING:
            raise Unreadable("packed into more than it can have in it")
        try:
            return self._zlib.decompress(data, room)
        except zlib.error:
            if self._kept:
                raise Unreadable("packed, and damaged") from None
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers leave deflate's own header out
        try:
            return self._zlib.decompress(data, room)
        except zlib.error:
            raise Unreadable("packed, and damaged") from None

    def finish(self) -> bytes:
        """What was kept. Raises Unreadable where the packing stops in the middle."""
        if self._zlib is not None and self._kept and not self.full and not self._zlib.eof:
            raise Unreadable("packed, and cut off")
        return bytes(self._kept[: self._most])
