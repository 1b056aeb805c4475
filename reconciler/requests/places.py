"""Where a value stands in what a directory is asked, and how it is escaped there.

A value after `=` in a name is escaped, and one in a filter too. Where whole parts of a name stand, the value is a name
itself. Nowhere else can a value stand, but for attributes and the scope.
"""

from __future__ import annotations

import re

from reconciler.model.dn import escaped, filter_escaped, name_valued, parsed
from reconciler.model.errors import Blocked

__all__ = ["in_name", "in_url"]

_ATTRIBUTES = re.compile(r"[A-Za-z0-9;.*+-]+(?:,[A-Za-z0-9;.*+-]+)*")
_ASSERTION = re.compile(r"\(?([A-Za-z0-9;.-]*)(?:[~<>]|:[^=()]*)?=([^()]*)")
_SCOPES = frozenset({"base", "one", "sub"})


def in_url(before: str, name: str, value: str) -> str:
    """Return a value as it stands in a URL before it is percent-encoded; `before` is the URL's target up to it.

    What came of earlier values is percent-encoded there, so that each sign in it is the manifest's own. Raises Blocked.
    """
    if value == "":
        raise Blocked(f"variable {{{{{name}}}}} is empty, and a directory would be asked for others")
    parts = before.removeprefix("/").split("?")
    match len(parts):
        case 1:
            return in_name(parts[0], name, value)
        case 2 if _ATTRIBUTES.fullmatch(value):
            return value
        case 3 if value in _SCOPES:
            return value
        case 4:
            assertion = _ASSERTION.fullmatch(f"({parts[3].rpartition('(')[2]}")
            if assertion is not None:
                inner = in_name(assertion[2], name, value) if name_valued(assertion[1]) else value
                return filter_escaped(inner)
        case _:
            pass
    raise Blocked(f"variable {{{{{name}}}}} stands where a directory's URL takes no such value")


def in_name(before: str, name: str, value: str) -> str:
    """Return a value as it stands in a name after what is `before`."""
    part = re.split(r"[,+]", before)[-1]
    if "=" in part:
        return escaped(value)
    if part.replace("%20", "").strip() or before.endswith("+"):
        raise Blocked(
            f"variable {{{{{name}}}}} stands for the type of an attribute, which a manifest has to write itself"
        )
    if not parsed(value):
        raise Blocked(f"variable {{{{{name}}}}} stands for a whole DN, and its value is none")
    return value
