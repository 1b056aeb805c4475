"""Values that must not be seen, and the text that could carry them.

A `Secret` reveals itself only when asked by name, at the wire. A `Redactor` knows every secret of the process and
takes them, in every encoding in which they travel, out of any text that leaves the program.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "Redactor", "Secret"]

MASK = "***"
SHORTEST = 6
"""Shorter values are masked only where they were put in (DESIGN section 3): they would stand in half of all text."""


class Secret:
    """A string that never shows itself: `str`, `repr`, `format`, JSON and pickle give the mask or refuse."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; only what writes to the wire or to an encrypted file may call this."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class Redactor:
    """Takes every secret it was told of out of text: as it is, URL- and form-encoded, JSON-escaped and in base64."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._needles: list[str] = []
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Add secrets; values of fewer than six characters are left to the place where they are put in."""
        fresh = {value for value in values if len(value) >= SHORTEST} - self._known
        if not fresh:
            return
        self._known |= fresh
        needles = set(self._needles)
        for value in fresh:
            needles |= _encodings(value)
        # The longest first, so that no part of a secret is left standing beside the mask.
        self._needles = sorted(needles, key=lambda needle: (-len(needle), needle))

    def redact(self, text: str) -> str:
        """The text with every known secret replaced by the mask."""
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, MASK)
        return text

    def redact_all(self, value: Any) -> Any:
        """The same structure with every string in it redacted, keys included."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {self.redact_all(key): self.redact_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_all(item) for item in value]
        return value


def _encodings(value: str) -> set[str]:
    """Every way in which the value is known to travel, and every line of it where it has several."""
    lines = {line for line in value.splitlines() if len(line) >= SHORTEST}
    forms: set[str] = set()
    for text in {value, *lines}:
        forms |= {text, quote(text, safe=""), quote(text), quote_plus(text), quote(text, safe="").lower()}
        forms |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
        forms |= _base64(text.encode())
    return {form for form in forms if len(form) >= SHORTEST}


def _base64(raw: bytes) -> set[str]:
    """What stays of the value in base64 whatever stands before and after it: one form for each of three alignments."""
    forms = {base64.b64encode(raw).decode().rstrip("=")}
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw).decode()
        first = -(-lead * 8 // 6) if lead else 0
        whole = (lead + len(raw)) * 8 // 6
        forms.add(encoded[first:whole])
    return forms | {form.replace("+", "-").replace("/", "_") for form in forms}
