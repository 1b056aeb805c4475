"""Text: on one line, in the words of a protocol, compared as a service may, and what was probably meant.

How spellings of one login or address compare: docs/design/rules.md, "One account, one hire".
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import islice
from typing import Self
from urllib.parse import unquote


class Spoken(StrEnum):
    """A closed set of words, each with the `text` that people read in its place."""

    text: str

    def __new__(cls, word: str, text: str = "") -> Self:
        """Make a member of a word and its text."""
        member = str.__new__(cls, word)
        member._value_, member.text = word, text
        return member


def printable(text: str) -> str:
    """Return a text as one line; unprintable characters become a blank or `�`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "�" for char in text)


KNOWN, LONGEST = 1000, 100
"""The most known names, and letters of an unknown one, that are compared: each pair takes a while."""


def hint(word: str, known: Iterable[str], before: str = "; ") -> str:
    """Return `; did you mean X?` if a known name is close, in any case; else an empty text."""
    by_lower = {name.lower(): name for name in islice(known, KNOWN)} if len(word) <= LONGEST else {}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"{before}did you mean {by_lower[close[0]]}?" if close else ""


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; `…` marks a cut."""
    return text if len(text) <= most else f"{text[:most]}…"


def some(names: Sequence[str], most: int = 10) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


_OF_DIRECTORIES = {"GET": "search", "POST": "add", "PATCH": "modify", "PUT": "rename", "DELETE": "delete"}


def verb(method: str, scheme: str) -> str:
    """Return what a request does, as its protocol calls it; over HTTP that is the method."""
    match scheme:
        case "ldap" | "ldaps":
            return _OF_DIRECTORIES.get(method, method)
        case "postgresql" | "mysql":
            return "query" if method == "GET" else "statement"
        case "exec":
            return f"run {method}"
        case _:
            return method


def described(method: str, url: str) -> str:
    """Return a request on one line."""
    return f"{verb(method, url.partition(':')[0].lower())} {url}"


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


def same_text(one: str, other: str) -> bool:
    """Whether two texts are spellings of the same value."""
    return one == other or folded(one) == folded(other)


def loosely_folded(address: str) -> str:
    """Return what addresses share that many providers deliver to one person: without a tag, and dots before the @."""
    local, at, domain = folded(address).rpartition("@")
    return f"{local.partition('+')[0].replace('.', '') or local}{at}{domain}"
