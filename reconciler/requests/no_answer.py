"""The error of an exchange without an answer, and the messages for broken connections."""

from __future__ import annotations

__all__ = ["BROKE", "NoAnswer"]

BROKE = "the connection broke before a whole answer came"


class NoAnswer(Exception):
    """An exchange brought no complete answer: why, and whether the request can have taken effect."""

    def __init__(self, why: str, *, left: bool) -> None:
        super().__init__(why)
        self.left = left
