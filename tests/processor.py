"""A bound on work: the processor's time, which other programs on the machine do not lengthen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time

__all__ = ["at_most"]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail where the block takes more of this process's own time."""
    began = process_time()
    yield
    assert (took := process_time() - began) < seconds, f"{took:.1f} s of processor time"
