"""Find the hire that an account resembles: by address, by name, or by a name that differs in one letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain

from reconciler.repository.desired import Desired

_MIN_LETTERS = 5
"""The fewest letters of a name that may differ in one: shorter names resemble too many others."""

_PARTS = re.compile(r"[\W_]+")


class PeopleIndex:
    """Hires, by addresses and names that an account may have."""

    def __init__(self, desired: Desired) -> None:
        """Index everybody whose file can be read."""
        self._by_address: dict[str, str] = {}
        self._by_name: dict[str, str] = {}
        self._nearly: dict[str, str] = {}
        for hire, loaded in desired.hires.items():
            email = loaded.model.email
            self._by_address.setdefault(email.lower(), hire)
            for key in {_key(_local(email)), _key(loaded.model.full_name)} - {""}:
                self._by_name.setdefault(key, hire)
                for slip in _slips(key):
                    self._nearly.setdefault(slip, hire)

    def near(self, addresses: Iterable[str], names: Iterable[str]) -> str | None:
        """Find the hire who has one of these addresses, or resembles one of the addresses or names."""
        addresses = list(addresses)
        for address in addresses:
            if (hire := self._by_address.get(address.lower())) is not None:
                return hire
        keys = [key for text in (*map(_local, addresses), *names) if (key := _key(text))]
        found = (self._by_name.get(key) for key in keys)
        nearly = (self._nearly.get(form) for key in keys for form in _slips(key))
        return next((hire for hire in chain(found, nearly) if hire is not None), None)


def _local(text: str) -> str:
    """Return the part before the @, without a `+tag`."""
    local = text.partition("@")[0]
    return local.partition("+")[0] or local


def _key(text: str) -> str:
    """Normalize a name: no accents, case, dots or order. `Lovelace, Ada` is `adalovelace`."""
    plain = text[:200].casefold()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain).casefold() if not unicodedata.combining(c))
    return "".join(sorted(part for part in _PARTS.split(plain) if part))


def _slips(key: str) -> Iterator[str]:
    """Yield the name, and the name without each one letter: names that share a form differ in one letter."""
    if len(key) >= _MIN_LETTERS:
        yield key
        for at in range(min(len(key), 40)):
            yield key[:at] + key[at + 1 :]
