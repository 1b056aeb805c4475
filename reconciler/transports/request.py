"""A request as a transport gets it: complete, with every value in its place."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import datetime
from urllib.parse import unquote

from reconciler.model.value import Frozen, Unshown
from reconciler.transports.answer import LIMIT

__all__ = ["Pritunl", "RenderedRequest", "login_of"]


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


def login_of(request: RenderedRequest) -> tuple[str, str] | None:
    """Return who a request logs in as where the protocol has a login of its own: user and password.

    It is `Authorization: Basic`, decoded. None without the header, or where it is another scheme's.
    """
    for name, value in request.headers:
        scheme, _, encoded = value.partition(" ")
        if name.lower() == "authorization" and scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
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
