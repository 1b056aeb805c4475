"""The fence: what is written under a lease is taken only while the lease is the newest."""

from __future__ import annotations

import pytest

from reconciler.ledger.lease import EVERYTHING, Lease, MoreNeeded
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LeaseLostError
from reconciler.model.selection import Selection
from tests.ledger.states import ADA, NOW, attempt, step

WRITES = {
    "save": lambda ledger: ledger.save([ADA]),
    "drop": lambda ledger: ledger.drop([ADA.key]),
    "intent": lambda ledger: ledger.attempts.begin(ADA, attempt(), []),
    "request": lambda ledger: ledger.attempts.sending(attempt(), step(0), "POST", "https://a.example.com", NOW),
    "note": lambda ledger: ledger.notes.put("last_pass", b"{}"),
    "seal": lambda ledger: ledger.sealed.put("oauth/suite", b"x"),
    "resync": lambda ledger: ledger.guard.begin_resync(),
    "let through": lambda ledger: ledger.guard.let_through(Selection(frozenset({"ada"}), frozenset({"suite"}))),
}


@pytest.mark.parametrize("write", WRITES)
def test_write_is_refused_once_another_has_taken_over(ledger: LedgerWriter, write: str) -> None:
    before = ledger.take_everything()
    after = ledger.take_everything()
    with pytest.raises(LeaseLostError, match=r"another process has taken over \*"):
        WRITES[write](before)
    assert [*ledger.grants.records()] == []
    assert ledger.attempts.open() == []
    assert ledger.notes.get("last_pass") is None
    assert ledger.sealed.names() == []
    after.save([ADA])
    assert [*ledger.grants.records()] == [ADA]


def test_each_taking_has_a_higher_number(ledger: LedgerWriter, location: StateLocation) -> None:
    first = ledger.take_everything().session.lease
    again = location.writer()
    second = again.take_everything().session.lease
    again.close()
    assert (first, second) == (Lease({EVERYTHING: 1}), Lease({EVERYTHING: 2}))


def test_attempt_remembers_the_epoch_that_it_was_begun_at(ledger: LedgerWriter) -> None:
    ledger.take_everything()
    ledger.take_everything().attempts.begin(ADA, attempt(), [])
    (found,) = ledger.attempts.open()
    assert (found.service, found.epoch) == ("suite", 2)


def test_lease_of_other_services_writes_nothing(ledger: LedgerWriter) -> None:
    with pytest.raises(LeaseLostError, match="other"):
        ledger.under(Lease({"other": 1})).attempts.begin(ADA, attempt(), [])
    with pytest.raises(LeaseLostError, match="nobody, other"):
        ledger.under(Lease({"other": 1, "nobody": 1})).save([ADA])


def test_lease_is_for_its_services_or_for_everything() -> None:
    some, everything = Lease({"tool": 3, "mail": 2}), Lease({EVERYTHING: 7})
    assert [some.covers(name) for name in ("tool", "mail", "other")] == [True, True, False]
    assert everything.covers("other")
    some.require({"tool", "mail"})
    everything.require({"other"})
    with pytest.raises(MoreNeeded) as needed:
        some.require({"tool", "other"})
    assert (needed.value.services, str(needed.value)) == ({"tool", "other"}, "other, tool")
    assert [some.of("tool"), everything.of("tool")] == [("tool", 3), ("tool", 7)]
    assert some.of("moved") == ("mail", 2), "under its first one"
