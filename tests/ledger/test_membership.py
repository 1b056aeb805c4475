"""Members of a fleet: who has what, who is over, and what is refused to those."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.ledger import membership, schema
from reconciler.ledger.backend import within
from reconciler.ledger.lease import EVERYTHING
from reconciler.ledger.membership import Membership
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.schema import NOW
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LeaseLostError, LedgerError, StateLockedError
from tests.ledger.states import ADA
from tests.postgres import Databases


@pytest.fixture
def ledger(databases: Databases, tmp_path: Path) -> Iterator[LedgerWriter]:
    with databases.made() as url, closing(StateLocation(url, tmp_path).writer()) as opened:
        yield opened


@contextmanager
def member(ledger: LedgerWriter, name: str) -> Iterator[Membership]:
    found = Membership(ledger.backend, name)
    found.join()
    try:
        yield found
    finally:
        found.leave()


def pass_time(ledger: LedgerWriter, who: Membership) -> None:
    """Let a member's term pass, as if it had been stopped."""
    with ledger.backend.writing() as connection:
        connection.execute(sa.update(schema.shards).where(schema.shards.c.owner == who._owner).values(until=NOW))


def test_service_is_one_members_at_a_time(ledger: LedgerWriter) -> None:
    with member(ledger, "a") as a, member(ledger, "b") as b:
        lease = a.take(["suite"])
        assert lease is not None
        assert b.take(["suite"]) is None
        assert b.take(["other", "suite"]) is None, "all or none"
        assert a.take(["suite"]) is None, "two passes of one member are two"
        assert b.take([EVERYTHING]) is None
        other = b.take(["other"])
        assert other is not None
        a.release(lease)
        again = b.take(["suite"])
        assert again is not None
        assert again.epochs["suite"] > lease.epochs["suite"]


def test_everything_keeps_every_service_from_being_taken(ledger: LedgerWriter) -> None:
    with member(ledger, "a") as a, member(ledger, "b") as b:
        everything = a.take([EVERYTHING])
        assert everything is not None
        assert b.take(["suite"]) is None
        a.release(everything)
        assert b.take(["suite"]) is not None


def test_member_whose_term_passed_writes_and_sends_nothing_more(ledger: LedgerWriter) -> None:
    with member(ledger, "a") as a, member(ledger, "b") as b:
        lease = a.take(["suite"])
        assert lease is not None
        before = ledger.under(lease)
        before.save([ADA])
        a.refuse_to_send()
        pass_time(ledger, a)
        b._reap()
        after = b.take(["suite"])
        assert after is not None
        with pytest.raises(LeaseLostError, match="suite"):
            before.save([ADA])
        with pytest.raises(LeaseLostError, match="suite"):
            a.renew()
        with pytest.raises(LeaseLostError, match="another process has taken over"):
            a.refuse_to_send()
        with pytest.raises(LeaseLostError):
            a.take(["other"])
        ledger.under(after).save([ADA])


def test_service_is_taken_over_once_what_was_being_written_is(ledger: LedgerWriter) -> None:
    with member(ledger, "a") as a, member(ledger, "b") as b, ThreadPoolExecutor(1) as threads:
        lease = a.take(["suite"])
        assert lease is not None
        with ledger.backend.writing() as connection:
            lease.lock(within(connection))
            a.renew()  # writes of a busy member do not make it late
            pass_time(ledger, a)
            b._reap()
            taking = threads.submit(b.take, ["suite"])
            assert wait([taking], 0.3).not_done
        assert taking.result(5) is not None


def test_released_lease_writes_nothing_more(ledger: LedgerWriter) -> None:
    with member(ledger, "a") as a:
        lease = a.take(["suite"])
        assert lease is not None
        a.release(lease)
        with pytest.raises(LeaseLostError):
            ledger.under(lease).save([ADA])


def test_term_that_expired_for_all_ends_no_member(ledger: LedgerWriter) -> None:
    with member(ledger, "a") as a:
        lease = a.take(["suite"])
        assert lease is not None
        pass_time(ledger, a)
        a.renew()
        ledger.under(lease).save([ADA])
        a.refuse_to_send()


def test_nothing_is_sent_once_the_boot_clock_is_past_the_term(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with member(ledger, "a") as a:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(membership, "_boot", lambda: now + 60)
        with pytest.raises(LedgerError, match="out of reach for too long"):
            a.refuse_to_send()


def test_name_is_one_members(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "BEAT_SECONDS", 0.05)
    with member(ledger, "a"), pytest.raises(StateLockedError, match="a member of the name a is running already"):
        Membership(ledger.backend, "a").join()


def test_name_that_a_dead_member_left_is_taken(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(membership, "STALL_SECONDS", 0.1)
    dead = Membership(ledger.backend, "a")
    assert dead.take([dead.place]) is not None
    pass_time(ledger, dead)
    with member(ledger, "a"):
        assert [each.name for each in ledger.members()] == ["a"]


def test_members_are_listed_with_what_they_have(ledger: LedgerWriter) -> None:
    with member(ledger, "b") as b, member(ledger, "a"):
        b.take(["suite"])
        assert [(each.name, each.services) for each in ledger.members()] == [("a", ()), ("b", ("suite",))]
        pass_time(ledger, b)
        assert [each.name for each in ledger.members()] == ["a"], "who is late is not there"
    assert ledger.members() == []
