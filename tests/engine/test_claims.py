"""Which pass gets a grant, where passes run side by side."""

import tracemalloc

from reconciler.engine.claims import Claims, ClaimSet
from reconciler.model.grant import Key

ADA = Key("ada", "tool")


def test_a_grant_that_another_pass_had_since_this_one_began_is_postponed():
    claims = Claims()
    early, other = claims.begin(), claims.begin()
    assert other.take(ADA)
    assert not early.take(ADA)
    assert claims.postponed() == {}
    other.close()
    assert not early.take(ADA)
    assert claims.begin().take(ADA)


def test_postponed_grant_is_returned_once():
    claims = Claims()
    first, second = claims.begin(), claims.begin()
    assert first.take(ADA)
    assert not second.take(ADA)
    first.close()
    assert claims.postponed() == {ADA: False}
    assert claims.postponed() == {}


def test_grant_is_postponed_to_a_pass_that_overrides_the_guard_as_the_one_that_left_it_out_does():
    claims = Claims()
    first, released, other = claims.begin(), claims.begin(overrides=True), claims.begin()
    assert first.take(ADA)
    assert not released.take(ADA)
    assert not other.take(ADA)
    assert claims.overriding
    first.close()
    assert claims.postponed() == {ADA: True}
    assert not claims.overriding


def test_a_pass_that_ends_lets_older_ones_know_still():
    claims = Claims()
    oldest, younger, last = claims.begin(), claims.begin(), claims.begin()
    assert younger.take(ADA)
    younger.close()
    last.close()
    assert not oldest.take(ADA)


def test_passes_that_overlap_for_ever_take_no_more_and_more_memory():
    claims = Claims()

    def overlapping(passes: range) -> None:
        before: ClaimSet = claims.begin()
        for number in passes:
            following = claims.begin()
            for grant in range(100):
                assert before.take(Key(f"h{number}", str(grant)))
            before.close()
            before = following
        before.close()

    overlapping(range(10))
    tracemalloc.start()
    try:
        overlapping(range(10, 500))
        assert tracemalloc.get_traced_memory()[1] < 200 * 1024
    finally:
        tracemalloc.stop()


def test_rows_move_only_where_no_other_pass_has_either_name():
    """Bob and Cleo swap names while Ada, whose name Dan takes, is being worked on."""
    bob, cleo, dan, eve = (Key(name, "tool") for name in ("bob", "cleo", "dan", "eve"))
    claims = Claims()
    busy, mine = claims.begin(), claims.begin()
    assert busy.take(ADA)
    assert mine.take_moves({bob: cleo, cleo: bob, dan: ADA, ADA: eve}) == {bob: cleo, cleo: bob}
    assert [mine.take(key) for key in (bob, cleo, ADA, dan, eve)] == [True, True, False, False, False]
    assert not claims.begin().take(bob)
    assert claims.postponed() == {}
    busy.close()
    assert claims.postponed().keys() == {ADA, dan, eve}
