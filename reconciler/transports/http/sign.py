"""Headers that are computed for each request: Pritunl's signature.

ChiefOnboarding's `extra_headers: pritunl`. Pritunl checks an HMAC over token, time, a nonce, method and path; a nonce
serves once, so a request that is sent again is signed again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import field
from datetime import datetime
from urllib.parse import unquote

from reconciler.model.value import value_class

__all__ = ["Pritunl"]


@value_class
class Pritunl:
    """Signs requests for one Pritunl server."""

    token: str = field(repr=False)
    secret: str = field(repr=False)

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
