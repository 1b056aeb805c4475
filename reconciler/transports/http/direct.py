"""HTTP/1.1 over a connection of our own, plain or encrypted. The only module that imports httptools.

httptools parses in C and is more lenient than h11. So the strictness is here: each head is cut out and checked before
it is parsed, and bytes beyond an answer's end are noticed. What is not exactly one answer is refused.

What an answer may take is bounded: the bytes of its head with all interim ones, the bytes beside its content, and the
work that is done on it before other tasks run.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from reconciler.transports.http.pipe import CLOSED, Pipe
from reconciler.transports.messages import Response
from reconciler.transports.transport import Watch

HEAD_BYTES = 100 * 1024
"""Bytes that come before an answer's content, interim answers and all."""

INTERIM = 16
"""Answers of 100 to 199 before the one that counts."""

PIECE_BYTES = 16 * 1024
"""Bytes that are parsed before other tasks run."""

LINE = 8 * 1024
"""Bytes of an answer's header, name and value."""

PADDING = 128 * 1024
"""Bytes that may come beside an answer's content, and then twice as many as the content has: chunks of a byte each,
their extensions, trailers."""

Headers = Sequence[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VALUE = re.compile(rb"(?:[^\x00\s]++(?:[ \t]++[^\x00\s]++)*+)?+")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_STATUS = re.compile(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_HEADERS = re.compile(rb"(?:%b:[ \t]*+%b[ \t]*+\r\n)*+\r\n" % (_TOKEN.pattern, _VALUE.pattern))


class Unreadable(Exception):
    """An answer came whose bytes cannot be unpacked; the text says why."""


class StaleConnection(Exception):
    """The connection was no longer fit to send on; nothing left."""


class NotAllowed(Exception):
    """The request is none that HTTP allows; nothing left."""


class Direct:
    """A connection, and one exchange after the other over it."""

    def __init__(self, pipe: Pipe, before: bytes = b"", added: Headers = ()) -> None:
        """A proxy that reads what it passes on has `before` in front of each target, and gets `added` headers."""
        self._pipe = pipe
        self._before = before
        self._added = [*added]
        self._keep = True
        self._used = False

    @property
    def usable(self) -> bool:
        """Whether another exchange can follow, as far as this side knows."""
        return self._keep and not self._pipe.unread and not self._pipe.over

    def close(self) -> None:
        """Close at once."""
        self._pipe.close()

    async def tunnel(self, authority: bytes, headers: Headers) -> None:
        """Have a proxy lead all that follows to a host. Raises like `exchange`, where it does not."""
        await self._pipe.write(self._request(b"CONNECT", authority, [(b"Host", authority), *headers], None))
        answer = _Reading("CONNECT", 0)
        await self._headed(answer)
        if not 200 <= answer.status < 300:
            # Not in the proxy's words, which may repeat what it was sent: its password.
            raise StaleConnection(f"the proxy answered {answer.status}")

    async def exchange(
        self, method: str, target: bytes, headers: Headers, content: bytes | None, watch: Watch, *, most: int
    ) -> Response:
        """Send a request, and read its answer, of which at most so many bytes are kept.

        Raises NotAllowed, StaleConnection, OSError where the connection breaks, and Unreadable for what is no answer.
        """
        request = self._request(method.encode(), self._before + target, [*headers, *self._added], content)
        # What came unasked would be the answer. The system may know of it; of a new connection's it would be TLS's own.
        if self._pipe.over or self._pipe.unread or (self._used and self._pipe.spoiled):
            self._keep = False
            raise StaleConnection(CLOSED)
        self._used, self._keep = True, False
        watch.leaves()
        with suppress(OSError):  # a server may refuse, and close, before it has read all: what it says is the answer
            await self._pipe.write(request)
        watch.has_left()
        answer = _Reading(method, most)
        await self._content(answer, await self._headed(answer))
        self._keep = answer.keep and not self._pipe.unread
        return answer.finish()

    def _request(self, method: bytes, target: bytes, headers: Headers, content: bytes | None) -> bytes:
        """Return a request's bytes. Raises NotAllowed where it could be read as another one, or as two."""
        if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
            raise NotAllowed
        length = b"" if content is None else b"Content-Length: %d\r\n" % len(content)
        return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (method, target, _lines(headers), length, content or b"")

    async def _headed(self, answer: _Reading) -> int:
        """Read up to where the content begins of the answer that counts; return how many bytes these were."""
        sizes = 0
        for _ in range(INTERIM + 1):
            head = await self._head(HEAD_BYTES - sizes)
            sizes += len(head)
            answer.begin(head)
            if answer.status >= 200:
                return sizes
        raise Unreadable(f"preceded by more than {INTERIM} interim ones")

    async def _head(self, most: int) -> bytes:
        """The next head, with the empty line that ends it."""
        unread, searched = self._pipe.unread, 0
        while (end := unread.find(b"\r\n\r\n", max(0, searched - 3), most)) < 0:
            if not b"HTTP/1.".startswith(unread[:7]):
                raise Unreadable("no HTTP/1.1")
            searched = len(unread)
            if searched >= most:
                raise Unreadable(f"headed by more than {HEAD_BYTES // 1024} KiB")
            if self._pipe.over:
                raise ConnectionError(self._pipe.ended)
            await self._pipe.more()
        head = bytes(unread[: end + 4])
        self._pipe.take(len(head))
        return head

    async def _content(self, answer: _Reading, came: int) -> None:
        """Read until the answer is whole, or its limit is passed; so many bytes `came` before its content."""
        room = PADDING - came
        while not answer.whole and not answer.full:
            data = await self._pipe.read(
                PIECE_BYTES if answer.remaining is None else min(PIECE_BYTES, answer.remaining)
            )
            if not data:
                answer.end()
                return
            room += 3 * answer.feed(data) - len(data)
            if room < 0:
                raise Unreadable("padded: most of it is no content")


class _Reading:
    """An answer as it comes. httptools calls the methods whose names begin with `on_`."""

    def __init__(self, method: str, most: int) -> None:
        self._most = most
        self._bodiless = method == "HEAD"
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._last = b""
        self._unpacker: _Unpacker | None = None
        self.status = 0
        self.whole = self.keep = False
        self.remaining: int | None = None
        """Bytes of content to come; None where the content says where it ends."""

    @property
    def full(self) -> bool:
        """Whether more came than is kept."""
        return self._unpacker is not None and self._unpacker.full

    def begin(self, head: bytes) -> None:
        """A head came: of an interim answer, or of the one that counts."""
        line = _STATUS.match(head)
        if line is None:
            raise Unreadable("headed by a status line that is none")
        self.status = int(head[9:12])
        if self.status == 101:
            raise Unreadable("a switch to a protocol that was not asked for")
        self._headers, self.whole, self.keep = [], False, False
        self._parser = HttpResponseParser(self)
        self._parse(head)
        if not _HEADERS.fullmatch(head, line.end()) or len(self._headers) != head.count(b"\r\n") - 2:
            raise Unreadable("headed by a line that is no header")
        if self.status < 200:
            return
        headers = self.headers = _joined(self._headers)
        self._frame(headers)
        self._unpacker = _Unpacker(headers.get("content-encoding", ""), self._most)

    def _frame(self, headers: dict[str, str]) -> None:
        """Find out where the content ends."""
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or length is not None):
            raise Unreadable("transferred in a way that is not clear")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) <= 20):
            raise Unreadable("of a length that is none")
        if self._bodiless or self.status in (204, 304):
            self.keep &= self.whole
            self.whole = True
        elif length is not None:
            self.remaining = int(length)
        self._chunked = coding is not None

    def feed(self, data: bytes) -> int:
        """More of the content; gives how many bytes of it these are, without the framing."""
        if self.remaining is not None:
            self.remaining -= len(data)
        self._parse(data)
        self._last = (self._last + data[-5:])[-5:]
        if self._chunked and self.whole and (self._last[-4:] != b"\r\n\r\n" or self._last[:1] == b"\n"):
            self.keep = False  # more line ends than its own, which the parser skips
        body, self._pieces = b"".join(self._pieces), []
        if body and self._unpacker is not None:
            self._unpacker.feed(body)
        return len(body)

    def end(self) -> None:
        """The connection ended. Raises OSError where that is not how the answer ends."""
        if self._chunked or self.remaining is not None:
            raise ConnectionError(CLOSED)
        self.whole = True

    def finish(self) -> Response:
        """The answer."""
        assert self._unpacker is not None
        del self._parser  # it holds this object's methods: the two would stay until the garbage collector comes
        return Response(self.status, self.headers, self._unpacker.finish(), self.full)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.whole:
                raise Unreadable("none that HTTP allows") from None
            self.keep = False  # what came beyond the end is no answer either

    def on_message_begin(self) -> None:
        """Another answer begins."""
        if self.whole:
            self.keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one that follows chunks."""
        value = value.strip(b" \t")
        if self._unpacker is None:
            self._headers.append((name, value))
        elif not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Unreadable("headed by a line that is no header")

    def on_body(self, body: bytes) -> None:
        """Some content."""
        if not self.whole:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """It is whole. Whether the connection can be kept is known only here."""
        if not self.whole:
            self.whole, self.keep = True, self._parser.should_keep_alive()


def _lines(headers: Headers) -> bytes:
    """Return headers as lines. Raises NotAllowed for what is none, or says where a request goes or ends once more."""
    names = [name.lower() for name, _ in headers]
    if names.count(b"host") != 1 or not _FRAMING.isdisjoint(names):
        raise NotAllowed
    if not all(_TOKEN.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers):
        raise NotAllowed
    return b"".join([b"%b: %b\r\n" % header for header in headers])


# --- unpacking --------------------------------------------------------------------------------------------------------


def _joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
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


class _Unpacker:
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
        unpacked = b""
        while data and len(unpacked) < room:
            if self._zlib.eof:  # a gzip file may have several members
                if data[:1] != b"\x1f":
                    break
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)
            unpacked += self._decompress(data, room - len(unpacked), first=not self._kept and not unpacked)
            data = self._zlib.unused_data
        return unpacked

    def _decompress(self, data: bytes, room: int, *, first: bool) -> bytes:
        assert self._zlib is not None
        try:
            return self._zlib.decompress(data, room)
        except zlib.error:
            if not first:
                raise Unreadable("packed, and damaged") from None
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers leave deflate's own header out
        try:
            return self._zlib.decompress(data, room)
        except zlib.error:
            raise Unreadable("packed, and damaged") from None

    def finish(self) -> bytes:
        """What was kept. Raises Unreadable where the packing stops in the middle."""
        if self._zlib is not None and self._fed and not self.full and not self._zlib.eof:
            raise Unreadable("packed, and cut off")
        return bytes(self._kept[: self._most])
