"""Headers that are computed for each request: Pritunl's signature.

ChiefOnboarding's `extra_headers: pritunl`. Pritunl checks an HMAC over token, time, a nonce, method and path; a nonce
serves once, so a request that is sent again is signed again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from contextlib import suppress
from dataclasses import field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from reconciler.model.errors import MissingVariable
from reconciler.model.scope import Scope
from reconciler.model.value import value_class
from reconciler.requests.template import written

__all__ = ["Pritunl", "credentials"]

SIGNED_WITH = (("API_TOKEN", "PRITUNL_API_TOKEN"), ("API_SECRET", "PRITUNL_API_SECRET"))
"""The initial data that the signature is made of, by either of ChiefOnboarding's names."""


def credentials(scope: Scope) -> list[str]:
    """Return the token and the secret that requests are signed with. Raises MissingVariable."""
    return [written(_first(scope, *known)) for known in SIGNED_WITH]


def _first(scope: Scope, name: str, other: str) -> Any:
    try:
        return scope.look_up(name).value
    except MissingVariable:
        with suppress(MissingVariable):
            return scope.look_up(other).value
        raise


@value_class
class Pritunl:
    """Signs requests for one Pritunl server."""

    token: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def of(cls, scope: Scope) -> Pritunl:
        """Make the signer from the scope's token and secret. Raises MissingVariable."""
        token, secret = credentials(scope)
        return cls(token, secret)

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
