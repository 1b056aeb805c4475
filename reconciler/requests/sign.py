"""Headers that are made anew for each sending: Pritunl's request signature.

ChiefOnboarding's `extra_headers: pritunl`. Pritunl checks an HMAC over token, time, a nonce, method and path; a nonce
serves once, so a request that is sent again is signed again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.model.scope import Scope
from reconciler.requests.template import written

__all__ = ["SIGNED_WITH", "Pritunl"]

SIGNED_WITH = ("API_TOKEN", "API_SECRET")
"""The initial data that the signature is made of, by ChiefOnboarding's names."""


@dataclass(frozen=True, slots=True)
class Pritunl:
    """Signs requests for one Pritunl server."""

    token: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def of(cls, scope: Scope) -> Pritunl:
        """The signer with the token and the secret that the scope holds. Raises MissingVariable."""
        token, secret = (written(scope.look_up(name).value) for name in SIGNED_WITH)
        return cls(token, secret)

    def headers(self, method: str, path: str, now: datetime) -> list[tuple[str, str]]:
        """The four headers for a request that leaves now; `path` as it is sent, without the query."""
        timestamp, nonce = str(int(now.timestamp())), secrets.token_hex(16)
        signed = f"{self.token}&{timestamp}&{nonce}&{method}&{path}"
        digest = hmac.new(self.secret.encode(), signed.encode(), hashlib.sha256).digest()
        return [
            ("Auth-Token", self.token),
            ("Auth-Timestamp", timestamp),
            ("Auth-Nonce", nonce),
            ("Auth-Signature", base64.b64encode(digest).decode()),
        ]
