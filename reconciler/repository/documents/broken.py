"""The error for a file that cannot be used, and the limits of every reader.

See docs/design/rules.md, "Limits of input".
"""

from __future__ import annotations

from reconciler.model.errors import Problem, ReconcilerError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_EXPANDED", "TOO_DEEP", "BrokenFile", "broken", "too_large"]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 50
TOO_DEEP = f"nested more than {MAX_DEPTH} deep: nothing here needs that, flatten it"
MAX_EXPANDED = 10_000
"""How many values all aliases of a file together may stand for."""


class BrokenFile(ReconcilerError):
    """One file cannot be used; its problem says where and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def broken(file: str, line: int | None, message: str) -> BrokenFile:
    """Make the error for a file that cannot be used, with one problem."""
    return BrokenFile(Problem(file, line, message))


def too_large(file: str, size: int, limit: int = MAX_BYTES) -> BrokenFile:
    """Make the error for a file over its limit; `size` and `limit` count bytes."""
    most = f"{limit // MAX_BYTES} MiB"
    return broken(file, None, f"{size:,} bytes: a file may have {most} at most; take out what does not belong here")
