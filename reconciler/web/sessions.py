"""Sessions of the pages: a cookie that proves knowledge of the token, and a limit on wrong tokens.

The cookie has its expiry and a signature of it, under a key derived from the token. So no session is stored: it
survives a restart, holds on every member of a fleet, and ends with the token. The derivation is slow on purpose, so
that a stolen cookie does not reveal a short token by trial.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from functools import lru_cache

from reconciler.model.secret import Secret

__all__ = ["LASTS_SECONDS", "Attempts", "cookie_of", "is_same", "is_signed"]

LASTS_SECONDS = 12 * 3600
"""How long a session lasts."""

WINDOW_SECONDS = 60.0
MAX_OF_ADDRESS, MAX_OF_ALL = 10, 100
"""The most wrong tokens within the window: from one address, and from all."""


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
    """Counts wrong tokens; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._wrong: deque[tuple[float, str]] = deque(maxlen=MAX_OF_ALL)

    def wait(self, peer: str, now: float) -> int:
        """Return after how many seconds an address may try a token again; 0 for at once."""
        while self._wrong and self._wrong[0][0] <= now - WINDOW_SECONDS:
            self._wrong.popleft()
        times = [at for at, who in self._wrong if who == peer]
        full = [times[-MAX_OF_ADDRESS]] if len(times) >= MAX_OF_ADDRESS else []
        full += [self._wrong[0][0]] if len(self._wrong) >= MAX_OF_ALL else []
        return max((int(at + WINDOW_SECONDS - now) + 1 for at in full), default=0)

    def wrong(self, peer: str, now: float) -> None:
        """Count a wrong token."""
        self._wrong.append((now, peer))
