"""Sessions of the pages: a cookie that proves knowledge of the token, and a limit on wrong tokens.

The cookie has its expiry and a signature of it, under a key derived from the token. So no session is stored: it
survives a restart, holds on every member of a fleet, and ends with the token. The derivation is slow on purpose, so
that a stolen cookie does not reveal a short token by trial.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from reconciler.model.secret import Secret

__all__ = ["LASTS_SECONDS", "Attempts", "cookie_of", "is_same", "is_signed"]

LASTS_SECONDS = 12 * 3600
"""How long a session lasts."""

WINDOW_SECONDS = 60.0
MAX_OF_ADDRESS = 10
"""The most wrong tokens from one address within the window."""

MAX_ADDRESSES = 10_000
"""Of how many addresses wrong tokens are remembered, so that nobody fills the memory."""

IPV6_PREFIX = 64
"""Addresses of one such network count as one: a client that has one of them has them all."""


def is_same(token: Secret, given: str) -> bool:
    """Whether a given text is the token, compared in constant time."""
    return hmac.compare_digest(_digest(token.reveal()), _digest(given))


def cookie_of(token: Secret, now: float) -> str:
    """Make the value of a cookie for a session that begins now; `now` is in seconds since 1970."""
    ends = str(int(now) + LASTS_SECONDS)
    return f"{ends}.{_signature(token, ends)}"


def is_signed(token: Secret, cookie: str, now: float) -> bool:
    """Whether a cookie was made with this token and has not expired."""
    ends, _, signature = cookie.partition(".")
    signed = hmac.compare_digest(_signature(token, ends).encode(), signature.encode(errors="replace"))
    return signed and now < int(ends)


def _signature(token: Secret, ends: str) -> str:
    return hmac.new(_key(token), ends.encode(errors="replace"), hashlib.sha256).hexdigest()


@lru_cache(maxsize=2)
def _key(token: Secret) -> bytes:
    return hashlib.scrypt(token.reveal().encode(), salt=b"access-reconciler pages", n=2**14, r=8, p=1, dklen=32)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


class Attempts:
    """Counts wrong tokens by address; times are seconds of a monotonic clock.

    There is no limit on all addresses together: a client that reached it would lock out all others.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str, now: float) -> int:
        """Return after how many seconds an address may try a token again; 0 for at once."""
        times = self._wrong.get(_counted(address))
        if times is None or len(times) < MAX_OF_ADDRESS or times[0] <= now - WINDOW_SECONDS:
            return 0
        return int(times[0] + WINDOW_SECONDS - now) + 1

    def wrong(self, address: str, now: float) -> None:
        """Count a wrong token."""
        counted = _counted(address)
        self._wrong.setdefault(counted, deque(maxlen=MAX_OF_ADDRESS)).append(now)
        self._wrong.move_to_end(counted)
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)


def _counted(address: str) -> str:
    """Return what an address is counted as: an IPv6 address as its network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed, IPV6_PREFIX), strict=False))
