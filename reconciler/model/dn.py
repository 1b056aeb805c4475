"""Names and values of directories: distinguished names (RFC 4514), filters (RFC 4515), and how values are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Name = tuple[frozenset[tuple[str, str]], ...]
"""A DN's RDNs; of each the attributes and values, as they are compared."""

_PART = re.compile(
    r"\s*([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)\s*="
    r'((?:#(?:[0-9A-Fa-f]{2})+|(?:\\(?:[0-9A-Fa-f]{2}|[ "#+,;<=>\\])|[^\\",+;<>\0])*+))([,+;]|$)'
)
_ESCAPE = re.compile(rb'\\(?:([0-9A-Fa-f]{2})|([ "#+,;<=>\\]))')
_SPECIAL = re.compile(r'[\\",+;<>=]|^[ #]|(?<!^) $')
_IN_FILTER = re.compile(r"[\\*()\0]")

_NAME_VALUED = frozenset(
    {
        "aliasedobjectname",
        "assistant",
        "directreports",
        "dn",
        "distinguishedname",
        "entrydn",
        "managedby",
        "manager",
        "member",
        "memberof",
        "owner",
        "roleoccupant",
        "secretary",
        "seealso",
        "uniquemember",
    }
)


class Attribute(str):
    """A value in a directory's answer: names are compared as names, and runs of blanks count as one."""

    __slots__ = ()


def as_attributes(value: Any) -> Any:
    """Return decoded JSON with each of its texts as an attribute's value."""
    match value:
        case str():
            return Attribute(value)
        case list():
            return [as_attributes(item) for item in value]
        case Mapping():
            return {key: as_attributes(item) for key, item in value.items()}
        case _:
            return value


def is_of_directory(value: Any) -> bool:
    """Whether a value, or a list's first, is an attribute's."""
    return isinstance(value[0] if isinstance(value, list) and value else value, Attribute)


def name_valued(attribute: str) -> bool:
    """Whether an attribute's values are names."""
    return attribute.partition(";")[0].strip().lower() in _NAME_VALUED


def parsed(text: str) -> Name | None:
    """Return a name as it is compared; None if the text is none. An empty text is the root's."""
    if not text.strip():
        return ()
    found: list[frozenset[tuple[str, str]]] = []
    rdn: list[tuple[str, str]] = []
    place = 0
    while True:
        part = _PART.match(text, place)
        if part is None:
            return None
        try:
            rdn.append((part[1].lower(), _plain(_unescaped(part[2]))))
        except UnicodeDecodeError:
            return None
        if part[3] != "+":
            found.append(frozenset(rdn))
            rdn = []
        if not part[3]:
            return tuple(found)
        place = part.end()


def _unescaped(value: str) -> str:
    end = value.rstrip(" ")
    value = end + " " if end.endswith("\\") and len(end) < len(value) else end
    raw = value.lstrip(" ").encode()
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else match[2], raw).decode()


def _plain(value: str) -> str:
    return " ".join(value.split()).casefold()


def folded(value: Any) -> str | Name:
    """Return what a directory's value is compared by."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if "=" in text and (name := parsed(text)):
        return name
    if text in ("TRUE", "FALSE"):
        return text.lower()
    return " ".join(text.split())


def escaped(value: str) -> str:
    """Return a value as it stands in a name."""
    return _SPECIAL.sub(r"\\\g<0>", value).replace("\0", "\\00")


def filter_escaped(value: str) -> str:
    """Return a value as it stands in a filter."""
    return _IN_FILTER.sub(lambda match: f"\\{ord(match[0]):02x}", value)
