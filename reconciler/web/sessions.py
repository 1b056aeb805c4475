"""Signing in with the token of the pages: a cookie that proves it was known, and a bound on how often one may guess.

The cookie holds when it ends and a signature of that, under a key derived from the token. So there is nothing to keep:
a restart, or another member of a fleet, takes it as well, and a new token ends every session. The derivation is slow on
purpose, for whoever gets hold of a cookie must not find a short token by trial.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from functools import lru_cache

from reconciler.model.secret import Secret

__all__ = ["LASTS_SECONDS", "Attempts", "cookie_of", "is_signed", "same"]

LASTS_SECONDS = 12 * 3600
"""How long a session lasts."""

WINDOW_SECONDS = 60.0
OF_ONE, OF_ALL = 10, 100
"""The most wrong tokens that are taken within the window: from one address, and from all."""


def same(token: Secret, said: str) -> bool:
    """Whether somebody said the token; it takes as long whatever was said."""
    return hmac.compare_digest(_digest(token.reveal()), _digest(said))


def cookie_of(token: Secret, now: float) -> str:
    """The value of a cookie for whoever signs in now; `now` is in seconds since 1970."""
    ends = str(int(now) + LASTS_SECONDS)
    return f"{ends}.{_signature(token, ends)}"


def is_signed(token: Secret, cookie: str, now: float) -> bool:
    """Whether a cookie was made with this token, and has not ended."""
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
    """Counts wrong tokens; moments are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._wrong: deque[tuple[float, str]] = deque(maxlen=OF_ALL)

    def wait(self, peer: str, now: float) -> int:
        """After how many seconds an address may say a token again; 0 for at once."""
        while self._wrong and self._wrong[0][0] <= now - WINDOW_SECONDS:
            self._wrong.popleft()
        times = [at for at, who in self._wrong if who == peer]
        full = [times[-OF_ONE]] if len(times) >= OF_ONE else []
        full += [self._wrong[0][0]] if len(self._wrong) >= OF_ALL else []
        return max((int(at + WINDOW_SECONDS - now) + 1 for at in full), default=0)

    def wrong(self, peer: str, now: float) -> None:
        """Count a wrong token."""
        self._wrong.append((now, peer))
