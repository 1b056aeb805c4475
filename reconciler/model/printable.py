"""Text from outside as one line that nothing acts on: no terminal, and no page that its direction would turn around."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """One line without control characters: what cannot be printed becomes a blank or `�`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "�" for char in text)
