"""Quote a service's answer: its beginning, on one line, without secrets.

Secrets are redacted before the text is cut, so that no part of one is left, and both before and after invisible
characters are removed, because they may split one.
"""

from __future__ import annotations

import unicodedata

from reconciler.model.secret import Redactor
from reconciler.requests.token_fields import secrets_in, secrets_of
from reconciler.transports.answer import Response

__all__ = ["CHARACTERS", "excerpt", "one_line"]

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
