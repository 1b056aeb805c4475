"""One secret for every field that holds one, and the search for any piece of any of them in whatever was written.

Each is a core of 24 letters and digits that stands nowhere else, between signs that every encoding changes. The core is
what is searched for: eight of its characters in a row, in any case, as they are or in one of base64's alignments, are a
leak, so that a secret that was cut, escaped or wrapped on its way is found as well.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import re2

INITIAL = ("TOKEN", "HEADER_KEY", "URL_KEY", "BODY", "USER", "KEY", "BASE")
FIELDS = (
    *INITIAL,
    "PEM",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "access_token",
    "refresh_token",
    "id_token",
    "bot",
    "SMTP_PASSWORD",
    "TWILIO_AUTH_TOKEN",
)
PIECE = 8


@cache
def core(field: str) -> str:
    return base64.b32encode(hashlib.sha256(field.encode()).digest()).decode()[:24]


def value(field: str) -> str:
    """The secret of a field."""
    if field == "PEM":
        return f"-----BEGIN KEY-----\n{core(field)}\n-----END KEY-----\n"
    return f"+/{core(field)}\"\\ %41&é='"


@cache
def _pieces(secret: str) -> frozenset[bytes]:
    found = {secret[at : at + PIECE].lower().encode() for at in range(len(secret) - PIECE + 1)}
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + secret.encode() + b"\0" * 3)
        whole = encoded[-(-lead * 8 // 6) : (lead + len(secret)) * 8 // 6].lower()
        found |= {whole[at : at + PIECE + 2] for at in range(len(whole) - PIECE - 1)}
    return frozenset(found)


@cache
def _any_piece(secrets: frozenset[str]) -> Any:
    """One expression for all pieces: what is searched is long, and is gone through once."""
    return re2.compile(b"|".join(re2.escape(piece) for secret in secrets for piece in sorted(_pieces(secret))))


def leaks(written: bytes, more: dict[str, str] | None = None) -> Iterator[str]:
    """The fields of which a piece stands in what was written, and where; `more` are secrets made on the way."""
    folded = written.lower()
    secrets = {**{field: core(field) for field in FIELDS}, **(more or {})}
    if not _any_piece(frozenset(secrets.values())).search(folded):
        return
    for field, secret in secrets.items():
        places = [folded.index(piece) for piece in _pieces(secret) if piece in folded]
        if places:
            around = written[max(0, min(places) - 120) : min(places) + 60]
            yield f"{field} in …{around.decode('utf-8', 'replace')}…"
