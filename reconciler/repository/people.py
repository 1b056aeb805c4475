"""Tell whom a text names, so that one person is one whatever they write, and what only looks like another text.

A person who reviews a pull request takes Ada's address with a Cyrillic letter in it for Ada's. This is a small part of
Unicode's rules for identifiers (UTS 39): mixed scripts within a part of an address, a part entirely of letters that
look like Latin ones, and what compatibility folding changes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from reconciler.model.text import some

_NOBODY = ("noreply", "no-reply")
"""The local parts of addresses that a forge commits under for everybody."""


def identity(person: object) -> str:
    """Return the address of `Name <address>`, or of an address alone, the same for all that mean one mailbox.

    Case, a `+tag`, invisible characters and letters that look alike make no difference. Empty for whoever has no
    address, or a forge's for everybody.
    """
    if not isinstance(person, str):
        return ""
    address = person.rpartition("<")[2].rstrip("> ")
    local, at, domain = skeleton(address).rpartition("@")
    local = local.partition("+")[0]
    return f"{local}@{domain}" if at and local not in _NOBODY else ""


def is_named(text: str, person: str) -> bool:
    """Whether a text, which may be a name alone, names this person."""
    if (address := identity(text)) or "@" in text:
        return address != "" and address == identity(person)
    return skeleton(text) == skeleton(person.rpartition("<")[0])


_TRAILER = re.compile(r"([A-Za-z0-9-]+)[ \t]*:(.*)")
_OF_GIT = re.compile(r"Signed-off-by: |\(cherry picked from commit ")
_APPROVING = ("approved-by", "reviewed-by")


def approvers(message: str) -> list[str]:
    """Return whom the `Approved-by:` and `Reviewed-by:` trailers of a message name."""
    return [value for name, value in _trailers(message) if name.lower() in _APPROVING and value]


def _trailers(message: str) -> list[tuple[str, str]]:
    """Return the trailers, each with its value on one line.

    The last paragraph is a block of trailers if all its lines are; or a quarter of them, if git itself wrote one. The
    first paragraph is the subject, and no block.
    """
    paragraphs = re.split(r"\n[ \t]*(?:\n[ \t]*)*\n", message.strip("\n \t"))
    if len(paragraphs) < 2:
        return []
    found: list[tuple[str, str]] = []
    others, by_git = 0, False
    for line in paragraphs[-1].splitlines():
        by_git |= _OF_GIT.match(line) is not None
        if line[:1] in (" ", "\t") and found:
            name, value = found[-1]
            found[-1] = name, f"{value} {line.strip()}".strip()
        elif (match := _TRAILER.fullmatch(line)) is not None:
            found.append((match[1], match[2].strip()))
        elif not line.startswith("(cherry picked from commit "):
            others += 1
    return found if not others or (by_git and len(found) * 3 >= others) else []


# --- lookalikes -------------------------------------------------------------------------------------------------------

_LATIN_OF = dict(
    zip(
        "аеорсухіјѕһԁԛԝӏвкмнтгпАВЕКМНОРСТУХІЈЅԚԜҺονρυαικτχγωηΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոհցզ",
        "aeopcyxijshdqwlbkmhtrnabekmhopctyxijsqwhovpuaiktxywnabezhikmnoptyxounhgq",
        strict=True,
    )
)
"""Cyrillic, Greek and Armenian letters that are drawn as Latin ones, or nearly so."""

_NEARLY = dict(zip("ıȷɑɡɩʏʟɴǃ", "ijagiyln!", strict=True))
"""Latin letters that are drawn as others of Latin."""

_DRAWN_AS = str.maketrans(_LATIN_OF | _NEARLY)
_LIKE_LATIN = _LATIN_OF.keys()

_WITH_LATIN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"})
"""Scripts that are written beside Latin letters, and look like none."""

_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {chr(code) for code in range(0xFE00, 0xFE10)}
"""Letters and marks that Unicode lists as invisible: joiners, fillers, variation selectors."""

_MOST = 3
"""The most characters that are named."""


@lru_cache(maxsize=4096)
def skeleton(text: str) -> str:
    """Return what all texts share that a reader, or a service, may take for this one.

    They are equal without case, blanks at the ends and invisible characters, with letters that look alike as one.
    """
    plain = unicodedata.normalize("NFKC", text)
    shown = "".join(char for char in plain if not _hidden(char))
    return shown.translate(_DRAWN_AS).casefold().translate(_DRAWN_AS).strip()


def suspicious(address: str) -> str | None:
    """Name the characters of an address that a reader may take for something else; None if there are none."""
    local, _, domain = address.rpartition("@")
    labels = domain.split(".")
    shown = [_decoded(label) for label in labels]
    odd = dict.fromkeys(char for part in (local, *shown) for char in _odd(part))
    if not odd:
        return None
    reads = "" if shown == labels else f"; its domain reads {_visible('.'.join(shown))}"
    named = some([*map(_named, odd)], _MOST)
    return f"it can be taken for another address: {named}{reads}; write it anew, or see that it is meant"


def _decoded(label: str) -> str:
    if not label.lower().startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError):
        return label


def _odd(part: str) -> Iterator[str]:
    """Return the characters of one part of an address that are not what they seem."""
    scripts = {char: unicodedata.name(char, "").partition(" ")[0] for char in part if char.isalpha()}
    others = {char for char, script in scripts.items() if script != "LATIN" and script not in _WITH_LATIN}
    mixed = len({scripts[char] for char in others}) > 1 or (others and "LATIN" in scripts.values())
    for char in part:
        if char.isascii():
            continue
        hidden = _hidden(char) or unicodedata.category(char) == "Zs"
        hidden = hidden or (unicodedata.category(char) == "Mn" and not others)
        folded = unicodedata.normalize("NFKC", char) != char
        if hidden or folded or char in _NEARLY or (char in others and (mixed or others <= _LIKE_LATIN)):
            yield char


def _hidden(char: str) -> bool:
    """Whether a character leaves no mark of its own."""
    return unicodedata.category(char) in ("Cc", "Cf", "Me", "Co", "Cn") or char in _FILLERS


def _named(char: str) -> str:
    return f"{_visible(char)} is {unicodedata.name(char, f'U+{ord(char):04X}')}"


def _visible(text: str) -> str:
    """Return a text with invisible characters written out."""
    shown = (char if char.isprintable() and not unicodedata.combining(char) else f"\\u{ord(char):04x}" for char in text)
    return f"'{''.join(shown)}'"
