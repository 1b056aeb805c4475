"""Batches of values that wait in a temporary file, for there may be millions of them.

The file has no name, so that only this process can read it, and what is in it is gone with the process. What is never
to be written in plain, a token for example, must not be put in.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from os import SEEK_END
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Generic, TypeVar

from reconciler.model.errors import ReconcilerError

T = TypeVar("T")

MAX_BYTES = 1 << 20
"""Up to this size, no file is made."""

LENGTH = 8
"""The bytes before a batch that have its length."""


def packed(batch: object) -> bytes:
    """Return a batch as a spool has it."""
    return zlib.compress(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL), 1)


class Spool(Generic[T]):
    """Batches, compressed, in the order in which they were added; they can be read as often as one likes."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(MAX_BYTES)  # noqa: SIM115  closed on exit

    def __enter__(self) -> Spool[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, batch: T) -> None:
        """Add a batch after the others. Raises ReconcilerError if no file can be made."""
        self.add_packed(packed(batch))

    def add_packed(self, packed: bytes) -> None:
        """Add a batch that was packed elsewhere."""
        try:
            self._file.seek(0, SEEK_END)
            self._file.write(len(packed).to_bytes(LENGTH, "big") + packed)
        except FileNotFoundError as error:  # it is made only once it has to be
            raise ReconcilerError("no temporary file can be made: set TMPDIR to a folder to write to") from error

    def __iter__(self) -> Iterator[T]:
        place = 0
        while True:
            self._file.seek(place)
            length = int.from_bytes(self._file.read(LENGTH), "big")
            if not length:
                return
            content = self._file.read(length)
            place += LENGTH + length
            batch: T = pickle.loads(zlib.decompress(content))  # noqa: S301  nobody else can write to it
            yield batch
