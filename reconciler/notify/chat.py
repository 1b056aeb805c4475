"""Escape a text for chats, so that it mentions nobody and links to nothing.

A webhook says nothing of the chat behind it, and all take the same message, `{"text": …}`. So the text is written as
all of them read it: those with Slack's markup (`<!channel>`, `<url|text>`) decode `&lt;`, and so does Markdown; a
character without width separates what would become a mention or a link.
"""

from __future__ import annotations

import re

__all__ = ["for_chat"]

_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

_BEGINS = re.compile(
    r"(?<=@)(?=\w)"  # @channel, a person, an address
    r"|(?<=\])(?=[(\[:])"  # [text](url), [text][reference], [reference]: url
    r"|(?<=:)(?=//)"  # https://
    r"|(?<=\w)(?=\.(?!(?:asc|csv|gpg|json|md|py|ya?ml)\b)[^\W\d_]{2,})"  # example.com, and no file's name
)
"""Where a mention or a link would begin, or an address go on."""

NO_WIDTH = "\u200b"


def for_chat(text: str) -> str:
    """Return a text that a chat shows as it stands."""
    return _BEGINS.sub(NO_WIDTH, text).translate(_MARKUP)
