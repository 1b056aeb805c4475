"""Which pass gets a grant, where passes run side by side."""

import asyncio
import tracemalloc

import pytest

from reconciler.engine.apply.claims import Claims, ClaimSet
from reconciler.engine.context import Revision
from reconciler.engine.run.reconciler import Reconciler
from reconciler.engine.state import locking
from reconciler.model.grant import Key
from reconciler.model.selection import PassRequest
from reconciler.model.status import Status
from reconciler.notify.delivery import Notifier

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


def test_a_grant_that_an_older_pass_released_since_this_one_began_is_postponed():
    """This pass may have read the ledger before the older one saved what it did: both would make the account."""
    claims = Claims()
    older, newest = claims.begin(), claims.begin()
    assert older.take(ADA)
    older.close()
    assert not newest.take(ADA)
    assert claims.begin().take(ADA)


def test_postponed_grant_is_returned_once():
    claims = Claims()
    first, second = claims.begin(), claims.begin()
    assert first.take(ADA)
    assert not second.take(ADA)
    first.close()
    assert claims.postponed() == {ADA: None}
    assert claims.postponed() == {}


def test_grant_is_postponed_to_a_pass_that_overrides_the_guard_as_the_one_that_left_it_out_does():
    claims = Claims()
    first, released, other = claims.begin(), claims.begin(overrides="ida@here"), claims.begin()
    assert first.take(ADA)
    assert not released.take(ADA)
    assert not other.take(ADA)
    assert claims.overriding
    first.close()
    assert claims.postponed() == {ADA: "ida@here"}
    assert not claims.overriding


def test_grant_that_a_pass_leaves_is_postponed_until_it_is_released_and_overrides_no_guard():
    claims = Claims()
    released = claims.begin(overrides="ida@here")
    assert released.take(ADA)
    released.leave(ADA)
    assert claims.postponed() == {}
    released.close()
    assert claims.postponed() == {ADA: None}


def test_a_pass_that_ends_lets_older_ones_know_still():
    claims = Claims()
    oldest, younger, last = claims.begin(), claims.begin(), claims.begin()
    assert younger.take(ADA)
    younger.close()
    last.close()
    assert not oldest.take(ADA)


def test_new_grant_waits_for_its_address_in_another_pass_over_the_same_service_only():
    claims = Claims()
    tool, other, both = claims.begin(["tool"]), claims.begin(["other"]), claims.begin(["tool", "other"])
    again, mail, chat = (Key("ada", name) for name in ("again", "mail", "chat"))
    assert tool.take_new(ADA, "ada@example.com", ())
    assert tool.take_new(again, "Ada@example.com", ()), "its own"
    assert other.take_new(mail, "ada@example.com", ()), "an account elsewhere"
    assert not both.take_new(chat, "ADA@example.com", ())
    assert both.take_new(chat, "ada@example.com", (ADA, again, mail)), "git has them all: they are others"
    tool.close()
    assert claims.postponed().keys() == {ADA, again, chat}


@pytest.mark.no_cover  # the same lines thousands of times
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


def test_entry_is_postponed_with_the_one_that_it_needs_and_another_pass_has(machine, repo):
    tool = {"integration": "tool", "values": {"TEAM": "7"}}
    repo.hire("ada", tool, tool | {"name": "next", "needs": ["tool"]})
    repo.commit()
    claims = Claims()
    other = claims.begin()
    assert other.take(ADA)
    (plan,) = machine.plan_side_by_side(["ada"], claims=claims)
    assert [(item.grant.key.access, item.decision.status) for item in plan.grants] == [("next", Status.SCHEDULED)]
    other.close()
    assert claims.postponed().keys() == {ADA, Key("ada", "next")}


@pytest.mark.parametrize("renamed", ["entry", "file", "copied"])
def test_account_is_made_once_if_it_is_renamed_while_a_pass_is_about_to_make_it(machine, accounts, repo, renamed):
    """A pass over the newer revision begins when the older one's check has not found the account."""
    tool = {"integration": "tool", "values": {"TEAM": "7"}}
    repo.hire("ada", tool)
    repo.commit()
    claims = Claims()

    async def passes():
        context = machine._context()
        with locking(Revision.at(context, context.checkout.head()), "test") as held:
            notifier = Notifier(lambda _: machine.outbox)

            def begin():
                claimed, newest = claims.begin(["tool"]), Revision.at(context, context.checkout.head())
                return claimed, Reconciler(revision=newest, state=held, notifier=notifier, claims=claimed)

            older, first = begin()
            planned = await first.plan(PassRequest(), {})
            if renamed == "entry":
                repo.hire("ada", tool | {"name": "again"})
            elif renamed == "copied":
                repo.hire("ada", tool, tool | {"name": "again"})
            else:
                repo.remove("hires/ada.yaml")
                repo.hire("countess", tool, email="Ada@example.com", first_name="Ada")
            repo.commit()
            newer, second = begin()
            await second.apply(await second.plan(PassRequest(), {}))
            assert accounts.calls("POST") == []
            await first.apply(planned)
            older.close()
            newer.close()
            last, third = begin()
            assert claims.postponed().keys() >= {Key("countess", "tool") if renamed == "file" else Key("ada", "again")}
            report = await third.apply(await third.plan(PassRequest(), {}))
            last.close()
        await context.aclose()
        return report

    report = asyncio.run(passes())
    assert accounts.created == {"ada@example.com": 1}
    assert len(accounts.calls("POST", "/users")) == 1
    assert "present" in {item.status for item in report.rows}
