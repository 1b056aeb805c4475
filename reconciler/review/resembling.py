"""Whom an account resembles: the hire of its address, of its name, or of a name that is a slip away."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["People"]

_SHORTEST = 5
"""Names of fewer letters resemble too many others to be compared but as a whole."""

_PARTS = re.compile(r"[\W_]+")


class People:
    """Hires by what an account may be called."""

    def __init__(self, people: Iterable[tuple[str, str, str]]) -> None:
        """Each with an id, an address and a full name."""
        self._by_address: dict[str, str] = {}
        self._by_name: dict[str, str] = {}
        self._nearly: dict[str, str] = {}
        for hire, email, name in people:
            self._by_address.setdefault(email.casefold(), hire)
            for key in {_key(_local(email)), _key(name)} - {""}:
                self._by_name.setdefault(key, hire)
                for slip in _slips(key):
                    self._nearly.setdefault(slip, hire)

    def near(self, addresses: Iterable[str], names: Iterable[str]) -> str | None:
        """The hire whose address one of these is, or whose address or name one resembles; None for nobody."""
        addresses = list(addresses)
        for address in addresses:
            if (hire := self._by_address.get(address.casefold())) is not None:
                return hire
        keys = [key for text in (*map(_local, addresses), *names) if (key := _key(text))]
        for known, forms in ((self._by_name, _same), (self._nearly, _slips)):
            for key in keys:
                for form in forms(key):
                    if (hire := known.get(form)) is not None:
                        return hire
        return None


def _local(text: str) -> str:
    """What stands before the @, without a `+tag`."""
    local = text.partition("@")[0]
    return local.partition("+")[0] or local


def _key(text: str) -> str:
    """A name without accents, case, dots and order: `Lovelace, Ada` is `adalovelace`."""
    plain = text[:200].casefold()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain).casefold() if not unicodedata.combining(c))
    return "".join(sorted(part for part in _PARTS.split(plain) if part))


def _same(key: str) -> Iterator[str]:
    yield key


def _slips(key: str) -> Iterator[str]:
    """The name, and it with a letter left out: two that share one are a letter apart."""
    if len(key) >= _SHORTEST:
        yield key
        for at in range(min(len(key), 40)):
            yield key[:at] + key[at + 1 :]
