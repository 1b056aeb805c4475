"""A few hostile examples of each kind, always the same. `python -m tests.faults.fuzz` plays as many as it may."""

from __future__ import annotations

import time

import pytest
from hypothesis import strategies as st

from tests.faults import fuzz
from tests.faults.fuzz import TARGETS, play
from tests.faults.fuzz_target import Target

EXAMPLES = {"pass": 5, "gpg": 8, "revision": 12, "git": 12}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_hostile_input_is_answered(target: Target) -> None:
    with target.open():
        assert play(target, EXAMPLES.get(target.name, 25)) > 0


class Stumbling(Target):
    name = what = "stumbling"
    examples = st.integers(0, 9)

    def play(self, example: int) -> None:
        match example:
            case 6:
                time.sleep(60)
            case 7:
                while True:
                    pass
            case 8:
                _ = bytearray(2 << 30)
            case 9:
                raise ZeroDivisionError


@pytest.mark.parametrize(
    ("example", "error"),
    [(6, "took longer than 0.1 s"), (7, "took longer than 0.1 s"), (8, "MemoryError"), (9, "ZeroDivisionError")],
)
def test_fuzzer_finds_timeouts_memory_and_unexpected_errors(
    example: int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "LONGEST", 0.1)
    target = Stumbling()
    target.examples = st.just(example)
    with pytest.raises((AssertionError, MemoryError, ZeroDivisionError)) as found:
        play(target, 1)
    assert error in repr(found.value)
