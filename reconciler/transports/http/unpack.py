"""Unpack an answer's bytes without letting a small answer become a huge one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

__all__ = ["Padding", "Unpacker", "Unreadable", "joined"]

LINE = 8 * 1024
"""Bytes of an answer's header, name and value."""

PADDING = 128 * 1024
"""Bytes that may come beside an answer's content, and then twice as many as the content has."""


class Unreadable(Exception):
    """An answer came whose bytes cannot be unpacked; the text says why."""


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
    """An answer's headers by their lower-case names; one that comes several times is comma-joined.

    Raises Unreadable for a line that is too long.
    """
    found: dict[str, list[str]] = {}
    for key, value in raw:
        if len(key) + len(value) > LINE:
            raise Unreadable(f"headed by a line of more than {LINE >> 10} KiB")
        found.setdefault(key.decode("latin-1").lower(), []).append(_text(value))
    return {name: ", ".join(texts) for name, texts in found.items()}


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
