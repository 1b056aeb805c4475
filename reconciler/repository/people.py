"""Who a commit, a trailer or a key names, so that one person is one whatever they write."""

from __future__ import annotations

import re

from reconciler.repository.lookalikes import skeleton

__all__ = ["approvers", "identity", "is_named"]

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
