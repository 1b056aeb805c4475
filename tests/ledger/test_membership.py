"""Members of a fleet: who has what, who is over, and what is refused to those."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.lease import EVERYTHING
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.postgres import membership
from reconciler.ledger.postgres import writing as postgres_writing
from reconciler.ledger.postgres.membership import Membership
from reconciler.ledger.schema import NOW
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LeaseLostError, LedgerError, StateLockedError
from reconciler.model.failpoints import Failpoint
from tests.ledger.states import ADA
from tests.postgres import Databases
from tests.servers import eventually


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
        connection.execute(sa.update(schema.shards).where(schema.shards.c.owner == who.owner).values(until=NOW))


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
    with member(ledger, "a") as a, member(ledger, "b") as b:
        lease = a.take(["suite"])
        assert lease is not None
        before = ledger.under(lease)
        with before.session.writing(Failpoint.NOTE) as transaction:
            a.renew()  # writes of a busy member do not make it late
            pass_time(ledger, a)
            b._reap()
            with pytest.raises(LeaseLostError):
                before.notes.put("note", b"began later")
            assert b.take(["suite"]) is None, "at once: renewals do not wait for it"
            assert b.take([EVERYTHING]) is None
            transaction.put(schema.meta, "note", b"began earlier")
        after = b.take(["suite"])
        assert after is not None
        assert ledger.under(after).notes.get("note") == b"began earlier"


def test_member_that_died_in_the_middle_of_a_statement_keeps_no_lock(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that is stopped while it sends several statements at once."""
    monkeypatch.setattr(postgres_writing, "IDLE", timedelta(seconds=0.1))
    with member(ledger, "b") as b, closing(ledger.backend._server.connect()) as dead:  # type: ignore[union-attr]

        def free(*, reap: bool = False) -> bool:
            if reap:
                b._reap()
            lease = b.take(["suite"])
            if lease is not None:
                b.release(lease)
            return lease is not None

        assert free()
        dead.pgconn.enter_pipeline_mode()
        dead.pgconn.send_query_params(b"SELECT epoch FROM shards WHERE service = 'suite' FOR KEY SHARE", None)
        dead.pgconn.send_flush_request()
        dead.pgconn.flush()
        eventually(lambda: not free())
        eventually(lambda: free(reap=True))


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


def test_no_request_is_sent_after_the_lease_term(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
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
