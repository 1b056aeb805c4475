"""How far reviews are, by what is committed and by what the ledger says of what was to be removed."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import EventType, Status
from reconciler.model.value import replace
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.reviews import review_in
from reconciler.review.reviews import ReviewProgress, Reviews, account_digests
from tests.repo import Repo

AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
PATH = "config/reviews/2026-Q4/saas.yaml"
HEADER = {"read_at": "2026-12-01T09:00:00Z", "listed": 3, "matched": 2, "ignored": 0, "complete": True, "history": None}


def line(who: str, access: str | None = "saas", **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"values": {}, "since": None, "granted_in": None, "author": None, "approved_by": []}
    return {"who": who, "access": access, **told, "decision": None, "reason": None, **more}


def record(
    hire: str, phase: Phase = Phase.CONFIRMED, email: str = "", *, access: str = "saas", team: str = ""
) -> Record:
    return Record(
        key=Key(hire, access),
        snapshot={"TEAM": team},
        email=email or f"{hire}@example.com",
        integration="saas",
        service="saas",
        source=f"hires/{hire}.yaml:4",
        phase=phase,
        status=Status.REVOKED if phase is Phase.REVOKED else Status.PRESENT,
        confirmed_at=AT - timedelta(days=9),
    )


class Office:
    """A repository with one committed review, and a ledger."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        repo.hire("ada", "saas")
        self.revision = repo.commit()
        self.reviews = Reviews()

    def review(self, *lines: dict[str, Any], **header: Any) -> None:
        data = {"revision": self.revision, **HEADER, **header, "digest": "", "lines": list(lines)}
        self.repo.write(PATH, data)
        data["digest"] = review_in((self.repo.root / PATH).read_bytes(), PATH).digest
        self.repo.write(PATH, data)
        self.repo.commit()

    def ledger(self) -> LedgerWriter:
        return StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).writer()

    def remember(self, *records: Record, events: list[Event] | None = None) -> None:
        with closing(self.ledger()) as ledger:
            ledger.save(records, events or [])

    def progress(self) -> ReviewProgress:
        checkout = Checkout.open(self.repo.root)
        with StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).reader() as ledger:
            (found,) = self.reviews.progress(checkout, checkout.head(), ledger)
        return found


@pytest.fixture
def office(repo: Repo) -> Office:
    return Office(repo)


def test_lines_are_counted_by_their_decision(office: Office) -> None:
    office.review(line("ada", decision="keep"), line("bob", decision="remove"), line("cem"), line("dan", decision="no"))
    office.remember(record("bob"))
    found = office.progress()
    assert (found.file.period, found.file.integration, found.file.path) == ("2026-Q4", "saas", PATH)
    assert (found.decisions, found.open) == ({"keep": 1, "remove": 1, None: 2}, 1)
    assert [(each.line, each.message) for each in found.problems] == [
        (44, "lines.3.decision: 'no' is not known; allowed: keep, remove")
    ]


ANOTHER_ADA = record("ada", Phase.REVOKED, email="adam@example.com")
GONE = record("ada", Phase.REVOKED, access="saas~ada@example.com")


@pytest.mark.parametrize(
    ("records", "event", "still"),
    [
        ([GONE, replace(ANOTHER_ADA, phase=Phase.CONFIRMED)], EventType.REVOKED, 1),
        ([record("ada")], None, 1),
        ([record("ada", Phase.REVOKED)], None, 0),
        ([record("ada", Phase.NEW)], EventType.REVOKED, 0),
        ([], EventType.DROPPED, 0),
        ([], None, 1),
        ([record("ada-l", email="ADA@example.com")], None, 1),
        ([record("ada-l", email="ada@example.com"), ANOTHER_ADA], EventType.REVOKED, 1),
        (
            [record("ada-l", Phase.REVOKED, email="ada@example.com"), replace(ANOTHER_ADA, phase=Phase.CONFIRMED)],
            None,
            0,
        ),
    ],
    ids=[
        "gone, and under another address there",
        *("there", "revoked", "given again", "dropped", "never heard of", "renamed"),
        *(
            "renamed, and another with the former id lost it",
            "renamed and revoked, and another with the former id has it",
        ),
    ],
)
def test_removal_is_open_until_revoked_in_the_ledger(
    office: Office, records: list[Record], event: EventType | None, still: int
) -> None:
    office.review(line("ada", decision="remove"))
    of = GONE if GONE in records else record("ada")
    told = [Event(AT + timedelta(days=1), of.key, "saas", event)] if event is not None else []
    office.remember(*records, events=told)
    assert office.progress().open == still


@pytest.mark.parametrize(("name", "still"), [("Ada", 1), ("Adam", 0)])
def test_who_has_the_id_with_another_address_is_somebody_else_by_name_too(
    office: Office, name: str, still: int
) -> None:
    """Her account under the former address is revoked once she has one under the new: she has access all the same."""
    office.review(line("ada", decision="remove"))
    since = replace(ANOTHER_ADA, phase=Phase.CONFIRMED, confirmed_at=AT + timedelta(days=2))
    office.remember(GONE, since, events=[Event(AT + timedelta(days=1), GONE.key, "saas", EventType.REVOKED)])
    office.repo.hire("ada", "saas", email="adam@example.com", first_name=name)
    office.repo.commit()
    assert office.progress().open == still


@pytest.mark.parametrize(
    ("access", "records", "still"),
    [
        ("saas", [record("ada", team="8"), record("ada", Phase.REVOKED, access="saas~7", team="7")], 0),
        ("saas", [record("ada", team="8"), record("ada", access="saas~7", team="7")], 1),
        ("saas", [record("ada", Phase.REVOKED, team="8"), record("ada", access="saas~7", team="7")], 1),
        ("saas~7", [record("ada", team="7"), record("ada", Phase.REVOKED, access="saas~8", team="8")], 1),
        ("saas~7", [record("ada", team="7"), record("ada", Phase.REVOKED, access="saas~7", team="7")], 0),
    ],
    ids=["revoked", "orphaned", "orphaned, the other revoked", "changed back", "given again"],
)
def test_removal_is_about_the_same_thing_under_its_new_name(
    office: Office, access: str, records: list[Record], still: int
) -> None:
    office.review(line("ada", access, decision="remove", values={"TEAM": "7"}, since="2026-11-01T00:00:00Z"))
    office.remember(*records)
    assert office.progress().open == still


FORMER = "saas~ada@old.example"


@pytest.mark.parametrize(("decided", "still"), [([], 1), ([line("ada", FORMER, decision="keep")], 0)])
def test_removal_is_open_while_the_former_account_is_there(
    office: Office, decided: list[dict[str, Any]], still: int
) -> None:
    """The address changed since the review; of a former account that was there at the review it has a line."""
    office.review(line("ada", decision="remove"), *decided)
    office.remember(record("ada", Phase.REVOKED), record("ada", email="ada@old.example", access=FORMER))
    assert office.progress().open == still


def test_lock_that_is_over_is_no_removal(office: Office) -> None:
    office.review(line("ada", decision="remove"))
    key, at = Key("ada", "saas"), AT + timedelta(days=1)
    office.remember(
        record("ada"), events=[Event(at, key, "saas", said) for said in (EventType.REVOKED, EventType.LOCKED)]
    )
    assert office.progress().open == 1


def test_removal_of_whom_the_ledger_knows_under_another_name_is_open(office: Office) -> None:
    office.remember(events=[Event(AT - timedelta(days=1), Key("lovelace", "saas"), "saas", EventType.CONFIRMED)])
    with closing(office.ledger()) as ledger:
        digest = ledger.history.verify().digest
    office.review(line("ada", decision="remove", since="2026-11-01T00:00:00Z"), history=digest)
    assert office.progress().open == 1


def test_removal_of_whom_the_ledger_forgot_is_done(office: Office) -> None:
    granted = Event(AT - timedelta(days=1), Key("ada", "saas"), "saas", EventType.CONFIRMED)
    office.remember(record("ada", Phase.REVOKED), events=[granted])
    with closing(office.ledger()) as ledger:
        digest = ledger.history.verify().digest
        ledger.forget("ada", AT + timedelta(days=1), by="ida@here")
    office.review(line("ada", decision="remove", since="2026-11-01T00:00:00Z"), history=digest)
    assert office.progress().open == 0
    office.review(line("ada", decision="remove", since="2026-11-01T00:00:00Z"), history="another ledger's")
    assert office.progress().open == 1


def test_account_is_open_until_a_later_listing_does_not_show_it(office: Office) -> None:
    zoe = line("U7", None, decision="remove", values={"email": "Zoe@example.com"})
    office.review(zoe)
    known = next(iter(account_digests(review_in((office.repo.root / PATH).read_bytes(), PATH).lines[0])))
    assert office.progress().open == 1
    with closing(office.ledger()) as ledger:
        ledger.accounts.save("saas", {known}, AT - timedelta(days=1))
        ledger.accounts.save("saas", set(), AT - timedelta(hours=1))
        assert office.progress().open == 1, "read before the review"
        ledger.accounts.save("saas", {known}, AT + timedelta(hours=1))
        assert office.progress().open == 1
        ledger.accounts.save("saas", set(), AT + timedelta(hours=2))
    assert office.progress().open == 0


def test_account_whose_name_is_masked_is_never_taken_for_gone(office: Office) -> None:
    office.review(line("U7", None, decision="remove", values={"email": "zoe@***"}))
    with closing(office.ledger()) as ledger:
        ledger.accounts.save("saas", set(), AT + timedelta(hours=2))
    assert office.progress().open == 1


def test_population_that_does_not_match_its_digest_is_reported(office: Office) -> None:
    office.review(line("ada", decision="keep"))
    file = office.repo.root / PATH
    file.write_text(file.read_text().replace("who: ada", "who: eve"))
    office.repo.commit()
    assert "population" in office.progress().problems[0].message
    file.write_text("lines: [\n")
    office.repo.commit()
    assert (office.progress().decisions, len(office.progress().problems)) == ({}, 1)


def test_review_may_be_larger_than_other_files(office: Office) -> None:
    office.review(line("ada", decision="keep", reason="x" * (1 << 20)))
    assert (office.repo.root / PATH).stat().st_size > 1 << 20
    assert (office.progress().decisions.total(), office.progress().problems) == (1, ())


def test_population_is_compared_as_data(office: Office) -> None:
    office.review(line("ada", decision="keep", values={"TEAM": ["a", "b"]}), line("bob"))
    first = review_in((office.repo.root / PATH).read_bytes(), PATH)
    moved = replace(first, lines=first.lines[::-1])
    assert moved.digest == first.digest
    office.repo.write(
        "config/reviews/2026-Q4/saas.json", {**first.header, "lines": [each.data for each in moved.lines]}
    )
    as_json = review_in((office.repo.root / "config/reviews/2026-Q4/saas.json").read_bytes(), "saas.json")
    assert as_json.digest == first.digest
