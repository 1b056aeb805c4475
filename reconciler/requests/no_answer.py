"""An exchange that brought no answer, and what is said of one that broke off."""

from __future__ import annotations

__all__ = ["BROKE", "NoAnswer"]

BROKE = "the connection broke before a whole answer came"


class NoAnswer(Exception):
    """An exchange brought no whole answer: why, and whether the request can have taken effect."""

    def __init__(self, why: str, *, left: bool) -> None:
        super().__init__(why)
        self.left = left
