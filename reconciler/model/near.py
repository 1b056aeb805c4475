"""Names in messages: what was probably meant by one that does not exist, and the first of many."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from itertools import islice

__all__ = ["near", "some"]

KNOWN, LONGEST = 1000, 100
"""The most known names, and letters of an unknown one, that are compared: each pair takes a while."""


def near(word: str, known: Iterable[str], before: str = "; ") -> str:
    """Return `; did you mean X?` if a known name is close, in any case; else an empty text."""
    by_lower = {name.lower(): name for name in islice(known, KNOWN)} if len(word) <= LONGEST else {}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"{before}did you mean {by_lower[close[0]]}?" if close else ""


def some(names: Sequence[str], most: int = 10) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
