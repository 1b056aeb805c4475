"""The ledger where there is no state yet: every statement is without rows, and no table has to be made for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.ledger.reading import Reading

__all__ = ["EmptyBackend"]


class EmptyBackend:
    """A database without rows, for what reads."""

    remote = False

    def __init__(self, *, unattended: bool = True) -> None:
        self.unattended = unattended

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Give a connection that finds nothing."""
        yield Reading(_NoRows())

    snapshot = reading


class _NoRows:
    """A driver's connection, and each statement's cursor."""

    description = ()

    def execute(self, _text: Any, _values: Any, /) -> _NoRows:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())
