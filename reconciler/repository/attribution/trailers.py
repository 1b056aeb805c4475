"""Read the trailers of a commit's message as git does: those of its last paragraph, and of no other."""

from __future__ import annotations

import re

__all__ = ["approvers"]

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
