"""What travels: a request as a transport gets it, with every value in its place, and what a service answered."""

from __future__ import annotations

import base64
import codecs
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from reconciler.model.dn import as_attributes
from reconciler.model.scope import walk
from reconciler.model.value import Frozen, Unshown

LIMIT = 1024 * 1024
"""Bytes that are read of an answer, counted after unpacking (docs/design/rules.md, "Limits of input")."""

LARGE = 25 * LIMIT
"""Bytes that are read of an answer which gives everybody at once, as HR systems do."""

DEEPEST = 100
"""The deepest nesting of an answer's JSON: later code walks it recursively, within Python's recursion limit."""

_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_PYTHONS_OWN = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Codecs that are no charset: they know no replacement characters, or take years over a mebibyte."""


class RenderedRequest(Frozen):
    """A request, ready to be sent. Only `method` and `shown_url` may be shown.

    `statuses` are those that the manifest lists: the client hands a redirect among them back as an answer. `signer`
    makes new headers each time it is sent. `most` bounds the bytes that are kept of the answer.
    """

    method: str
    url: Unshown[str]
    shown_url: str
    headers: Unshown[tuple[tuple[str, str], ...]] = ()
    content: Unshown[bytes | None] = None
    statuses: frozenset[int] = frozenset()
    signer: Unshown[Pritunl | None] = None
    most: int = LIMIT

    @property
    def reads(self) -> bool:
        """Whether its method says that it changes nothing."""
        return self.method in ("GET", "HEAD", "OPTIONS")


def login_of(headers: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return who a request logs in as where the protocol has a login of its own: user and password.

    It is `Authorization: Basic`, decoded. None without the header, or where it is another scheme's.
    """
    for name, value in headers:
        scheme, _, encoded = value.partition(" ")
        if name.lower() == "authorization" and scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
            except ValueError:
                return None
            return user, password
    return None


class Pritunl(Frozen):
    """Signs requests for one Pritunl server: ChiefOnboarding's `extra_headers: pritunl`.

    It checks an HMAC over token, time, a nonce, method and path. A nonce serves once, so a request that is sent again
    is signed again.
    """

    token: Unshown[str]
    secret: Unshown[str]

    def headers(self, method: str, path: str, now: datetime) -> list[tuple[str, str]]:
        """Return the four headers of a request that leaves now; `path` as it is sent, without the query.

        The server signs the path that it reads, which is decoded.
        """
        path = unquote(path)
        timestamp, nonce = str(int(now.timestamp())), secrets.token_hex(16)
        signed = f"{self.token}&{timestamp}&{nonce}&{method}&{path}"
        digest = hmac.new(self.secret.encode(), signed.encode(), hashlib.sha256).digest()
        return [
            ("Auth-Token", self.token),
            ("Auth-Timestamp", timestamp),
            ("Auth-Nonce", nonce),
            ("Auth-Signature", base64.b64encode(digest).decode()),
        ]


class Response(Frozen):
    """An answer. `headers` have lower-case names; `truncated` says that the content was cut off at the limit.

    `directory` says that its values are a directory's, which are compared in their own way. `decided` says whether it
    answers a check, whatever the manifest says of a 4xx; None where the status tells.
    """

    status: int
    headers: Unshown[Mapping[str, str]] = {}
    content: Unshown[bytes] = b""
    truncated: bool = False
    decided: bool | None = None
    directory: bool = False

    @property
    def text(self) -> str:
        """The content as text; bytes that are none become replacement characters."""
        return self._decode("replace")

    @property
    def whole_text(self) -> str | None:
        """The content as text; None where it is not text throughout."""
        text = self.readable
        return None if text is None or "\0" in text else text

    @property
    def readable(self) -> str | None:
        """The content as text, with any control characters, of which NUL is one; None where it is something else."""
        try:
            return self._decode("strict")
        except UnicodeDecodeError:
            return None

    def json(self) -> Any | None:
        """The content as JSON; None where it is none, or nested over 100 deep.

        Half a character, as services leave it where they cut a text, becomes the replacement character.
        """
        try:
            try:
                content = json.loads(self.content)
            except UnicodeDecodeError:  # in the charset that it names
                content = json.loads(self._decode("strict"))
        except (ValueError, RecursionError):
            return None
        if _deeper(content, DEEPEST):
            return None
        content = _whole(content) if b"\\u" in self.content or not self.content.isascii() else content
        return as_attributes(content) if self.directory else content

    def at(self, path: str) -> Any:
        """What stands at a dotted path of the content, or in a header (`header:Location`); None where nothing does."""
        kind, colon, name = path.partition(":")
        if colon and kind.strip().lower() == "header":
            return self.headers.get(name.strip().lower())
        return walk(self.json(), path)

    def _decode(self, errors: str) -> str:
        charset = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            name = codecs.lookup(charset[1]).name if charset else "utf-8"
            return self.content.decode("utf-8" if name in _PYTHONS_OWN else name, errors)
        except LookupError:  # an unknown charset, or a codec that makes no text
            return self.content.decode("utf-8", errors)


def as_text(raw: bytes) -> str:
    """Return bytes as JSON has them: as text, or in base64 where they are none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


class Items:
    """Items of an answer that is no JSON as they come, written as JSON; at most `most` bytes are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[str] = []
        self._size = 2
        self.full = False

    def keep(self, item: Any, default: Callable[[Any], Any] | None = None) -> None:
        """Add an item. Sets `full` once the limit is passed."""
        text = json.dumps(item, default=default, ensure_ascii=False)
        self._size += len(text.encode(errors="replace")) + 1
        self.full = self._size > self._most
        if not self.full:
            self._kept.append(text)

    def __str__(self) -> str:
        return f"[{','.join(self._kept)}]"


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
