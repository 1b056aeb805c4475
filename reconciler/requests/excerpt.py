"""Quote a service's answer: its beginning, on one line, without secrets.

Secrets are redacted before the text is cut, so that no part of one is left, and both before and after invisible
characters are removed, because they may split one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from reconciler.model.secret import Redactor
from reconciler.transports.messages import Response

CHARACTERS = 500
"""Characters of an answer's text that are repeated (docs/design/rules.md, "What a service says")."""

LOOKED_AT = 64 * 1024
"""Characters of it that are redacted first: a secret that begins within what is repeated ends long before."""


def excerpt(answer: Response, redactor: Redactor) -> str:
    """Return the text to append to the reason why an answer is no success: `: ` and a quote, or nothing."""
    text = (answer.readable or "")[:LOOKED_AT]
    if not text:
        return ""
    if answer.status < 400:  # it may hold a token that is not known yet
        text = Redactor([*secrets_of(answer.json()), *secrets_in(text)]).redact(text)
    text = one_line(text, redactor)
    return f": {text}" if text else ""


def one_line(text: str, redactor: Redactor) -> str:
    """Return the beginning of a text, on one line, without control characters and secrets."""
    line = redactor.redact(" ".join("".join(map(_seen, redactor.redact(text))).split()))
    return line if len(line) <= CHARACTERS else f"{line[:CHARACTERS]}…"


def _seen(char: str) -> str:
    """Return a character; a blank for one that ends a line, nothing for an invisible one."""
    if char.isspace():
        return " "
    return "" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} else char


FIELDS = frozenset(
    {
        *("access_token", "refresh_token", "id_token", "code_verifier", "device_code", "assertion", "client_assertion"),
        *("client_secret", "registration_access_token", "password", "token", "secret", "jwt", "api_key"),
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
