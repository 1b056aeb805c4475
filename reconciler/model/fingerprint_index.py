"""An index of prints: texts that two grants share which mean one account."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from hashlib import blake2b

__all__ = ["FingerprintIndex"]

MOST_HIRES = 1 << 24

SORTED_AT_A_TIME = 1 << 16


class FingerprintIndex:
    """An index of which hires may have a print: eight bytes for each, as there may be millions.

    They are the first bits of its digest and its hire's number. A lookup compares the prints themselves.
    """

    def __init__(self) -> None:
        self._hires: list[str] = []
        self.choosing: dict[str, None] = {}
        """The hires of whom entries were left out whose prints can be told in a pass only."""
        self._sorted: list[array[int]] = []
        self._unsorted: array[int] = array("Q")

    def number(self, hire: str) -> int:
        """Return a number for a hire's prints."""
        self._hires.append(hire)
        return len(self._hires) - 1

    def add(self, print_: str, number: int) -> None:
        """Add a print of the hire with this number."""
        self._unsorted.append(_first_bits(print_) | number)
        if len(self._unsorted) == SORTED_AT_A_TIME:
            self._sort()

    def _sort(self) -> None:
        self._sorted.append(array("Q", sorted(self._unsorted)))
        self._unsorted = array("Q")

    def with_print(self, print_: str) -> set[str]:
        """Return the hires that may have a print."""
        if self._unsorted:
            self._sort()
        first, found = _first_bits(print_), set[str]()
        for some in self._sorted:
            place = bisect_left(some, first)
            while place < len(some) and some[place] < first + MOST_HIRES:
                found.add(self._hires[some[place] - first])
                place += 1
        return found


def _first_bits(print_: str) -> int:
    """Return the first bits of a digest, shifted to precede a hire's number."""
    digest = int.from_bytes(blake2b(print_.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
    return digest - digest % MOST_HIRES
