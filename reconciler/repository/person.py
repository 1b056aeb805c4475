"""Who a commit, a trailer or a key names, so that one person is one whatever they write."""

from __future__ import annotations

from reconciler.repository.lookalikes import skeleton

__all__ = ["identity", "is_named"]

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
