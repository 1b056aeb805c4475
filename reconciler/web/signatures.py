"""Whether a hook's body was signed, or came with a token, by whoever knows a secret; compared in constant time.

GitHub and Gitea sign the body with HMAC-SHA256. Standard Webhooks, which GitLab and many services follow, also sign an
id and a time, so that a hook cannot be sent again later. GitLab can send the secret itself instead.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from typing import Literal

__all__ = ["has_token", "is_signed", "is_signed_by_git", "is_signed_by_the_standard"]

TOLERANCE_SECONDS = 300
"""How old, or how far ahead, the time of a signed hook may be."""


def is_signed_by_git(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float) -> bool:
    """Whether a push is signed as GitHub, Gitea or GitLab sign it."""
    return any(
        is_signed(headers, body, secret, header="x-hub-signature-256", prefix="sha256=")
        or is_signed(headers, body, secret, header="x-gitea-signature")
        or has_token(headers, secret, header="x-gitlab-token")
        or is_signed_by_the_standard(headers, body, secret, now)
        for secret in secrets
    )


def is_signed(
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    *,
    header: str,
    prefix: str = "",
    encoding: Literal["hex", "base64"] = "hex",
) -> bool:
    """Whether a header has the body's HMAC-SHA256, after a prefix."""
    made = hmac.digest(secret.encode(), body, "sha256")
    written = made.hex() if encoding == "hex" else base64.b64encode(made).decode()
    said = headers.get(header, "")
    if not said.startswith(prefix):
        return False
    said = said[len(prefix) :]
    return _same(said.lower() if encoding == "hex" else said, written)


def has_token(headers: Mapping[str, str], secret: str, *, header: str) -> bool:
    """Whether a header is the secret."""
    return _same(headers.get(header, ""), secret)


def is_signed_by_the_standard(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether the id, the time and the body are signed as Standard Webhooks has it, within five minutes."""
    id_, time, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id_ and time.isascii() and time.isdigit() and len(time) < 16 and abs(int(time) - now) <= TOLERANCE_SECONDS):
        return False
    signed = b".".join((id_.encode(), time.encode(), body))
    said = [each.removeprefix("v1,") for each in signatures.split(" ") if each.startswith("v1,")][:10]
    made = [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in _keys(secret)]
    return any(_same(one, other) for one in said for other in made)


def _keys(secret: str) -> Iterable[bytes]:
    """Return the keys that a secret may be written for: `whsec_` and base64, base64 alone, or the text itself."""
    bare = secret.removeprefix("whsec_")
    if bare == secret:
        yield secret.encode()
    try:
        yield base64.b64decode(bare, validate=True)
    except (binascii.Error, ValueError):
        return


def _same(said: str, expected: str) -> bool:
    return bool(expected) and hmac.compare_digest(said.encode(), expected.encode())
