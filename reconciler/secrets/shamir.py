"""Combine shares of Shamir's secret sharing, as SOPS has it: bytes in GF(2^8), each share's last byte its x.

Only the data key's parts pass through here, once a file, so it is written to be read, not to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["combine"]


def combine(shares: Sequence[bytes]) -> bytes:
    """Return the secret of these shares. Too few or foreign ones give other bytes.

    Raises ValueError where they cannot be shares of one secret.
    """
    places = [share[-1] for share in shares if len(share) > 1]
    if len(places) < 2 or len(set(places)) < len(shares) or len({len(share) for share in shares}) > 1 or 0 in places:
        raise ValueError("these are not shares of one secret")
    weights = [_weight(place, places) for place in places]
    secret = bytearray(len(shares[0]) - 1)
    for share, weight in zip(shares, weights, strict=True):
        for index in range(len(secret)):
            secret[index] ^= _times(share[index], weight)
    return bytes(secret)


def _weight(place: int, places: Sequence[int]) -> int:
    """Return Lagrange's coefficient of this place at zero; in this field, adding and subtracting are both xor."""
    weight = 1
    for other in places:
        if other != place:
            weight = _times(weight, _times(other, _inverse(other ^ place)))
    return weight


def _times(one: int, other: int) -> int:
    product = 0
    while other:
        if other & 1:
            product ^= one
        one <<= 1
        if one & 0x100:
            one ^= 0x11B
        other >>= 1
    return product


def _inverse(value: int) -> int:
    """Return value^254: the field's non-zero elements are a group of order 255."""
    power = 1
    for _ in range(254):
        power = _times(power, value)
    return power
