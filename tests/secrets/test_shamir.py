from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.secrets.sops_keys import combine


def times(one: int, other: int) -> int:
    """The field's product from its definition: of polynomials, reduced by x^8 + x^4 + x^3 + x + 1."""
    product = 0
    for bit in range(8):
        if other >> bit & 1:
            product ^= one << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def split(secret: bytes, places: list[int], coefficients: list[bytes]) -> list[bytes]:
    shares = []
    for place in places:
        share = bytearray()
        for index, byte in enumerate(secret):
            value, power = byte, 1
            for row in coefficients:
                power = times(power, place)
                value ^= times(row[index], power)
            share.append(value)
        shares.append(bytes(share) + bytes([place]))
    return shares


@given(st.data())
def test_enough_shares_give_the_secret(data: st.DataObject):
    secret = data.draw(st.binary(min_size=1, max_size=32))
    threshold = data.draw(st.integers(2, 5))
    row = st.binary(min_size=len(secret), max_size=len(secret))
    coefficients = data.draw(st.lists(row, min_size=threshold - 1, max_size=threshold - 1))
    places = data.draw(st.lists(st.integers(1, 255), min_size=threshold, max_size=7, unique=True))
    shares = split(secret, places, coefficients)
    chosen = data.draw(st.lists(st.sampled_from(shares), min_size=threshold, max_size=len(shares), unique=True))
    assert combine(chosen) == secret


@pytest.mark.parametrize(
    "shares",
    [[], [b"ab"], [b"ab", b"ab"], [b"ab", b"abc"], [b"a", b"b"], [b"a\0", b"ab"]],
    ids=["none", "one", "twice-one", "of-two-lengths", "empty", "at-zero"],
)
def test_invalid_shares_are_refused(shares: list[bytes]):
    with pytest.raises(ValueError, match="not shares"):
        combine(shares)
