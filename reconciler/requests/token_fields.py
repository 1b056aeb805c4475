"""Find secrets in a service's reply: fields that hold tokens, and values that look like one.

Services name their fields freely, and a word like `failed` under `b_token` is no token: taken for a secret, it would be
masked in every text of the program. So only the standard names make a value a secret (RFC 6749, 7591, 7636, 8628,
OpenID Connect), or else its form. `code` is none of them: a browser brings one, and in a reply it is an error's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

__all__ = ["secrets_in", "secrets_of"]

FIELDS = frozenset(
    {
        "access_token",
        "refresh_token",
        "id_token",
        "code_verifier",
        "client_secret",
        "registration_access_token",
        "device_code",
        "assertion",
        "client_assertion",
        "password",
    }
)

_TELLING = re.compile(r"token|secret|password|passwd|key|jwt|assertion|cookie|session|code", re.IGNORECASE)
TELLS = 16
"""From so many characters on, what is random is a secret under a name that tells, blanks or not."""

_OPAQUE = re.compile(r"(?!https?://|[a-z0-9-]+(?:\.[a-z0-9-]+)+$)[^\s@]{20,}")
"""Long and without blanks, and neither a URL, a host name nor an address."""


_BETWEEN = re.compile(r"[\s\"'<>&=?:;,{}\[\]()\\]+")
"""What stands between the words of a form, of markup, of a URL's query, or of JSON that is damaged."""


def secrets_in(text: str) -> Iterator[str]:
    """Return the words of a text that look like secrets, alone or after a name that indicates one."""
    words = _BETWEEN.split(text)
    return (word for name, word in pairwise(["", *words]) if _looks_secret(name, word))


def secrets_of(reply: Any, name: str = "") -> Iterator[str]:
    """Return the secrets of a reply, whatever its nesting."""
    match reply:
        case dict():
            for key, value in reply.items():
                yield from secrets_of(value, str(key))
        case list():
            for item in reply:
                yield from secrets_of(item, name)
        case str() if name.lower() in FIELDS or _looks_secret(name, reply):
            yield reply
        case _:
            return


def _looks_secret(name: str, value: str) -> bool:
    """Whether a value is long and random."""
    long = _OPAQUE.fullmatch(value) or (len(value) >= TELLS and _TELLING.search(name))
    return bool(long) and _random(value)


def _random(value: str) -> bool:
    """Whether a value has letters and digits, or changes its case repeatedly, unlike a word."""
    if any(map(str.isalpha, value)) and sum(map(str.isdigit, value)) >= 2:
        return True
    pairs = pairwise(value)
    return sum(one.islower() and other.isupper() for one, other in pairs) >= 3
