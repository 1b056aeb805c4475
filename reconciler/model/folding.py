"""Compare values as a service may: two spellings of one login or address are one account.

See docs/design/rules.md, "One account, one hire".
"""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

__all__ = ["folded", "loosely_folded"]

_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters that nobody sees beside those of the categories Cf and Cc: fillers and variation selectors."""


def folded(text: str) -> str:
    """Return what all spellings of a value share.

    Case, blanks at the ends, invisible characters, compatibility forms, percent-encoding, a dot at a domain's end.
    """
    if "%" in text:
        text = unquote(text)
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        text = "".join(char for char in text if char not in _UNSEEN and unicodedata.category(char) not in ("Cf", "Cc"))
    text = text.strip().lower()
    return text.rstrip(".") if text.endswith(".") and ("@" in text or "." in text.rstrip(".")) else text


def loosely_folded(address: str) -> str:
    """Return what addresses share that many providers deliver to one person: without a tag, and dots before the @."""
    local, at, domain = folded(address).rpartition("@")
    return f"{local.partition('+')[0].replace('.', '') or local}{at}{domain}"
