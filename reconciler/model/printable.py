"""Make text from outside safe to print: one line, without control characters or changes of direction."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return a text as one line; unprintable characters become a blank or `�`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "�" for char in text)
