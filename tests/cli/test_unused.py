"""`reconcile unused`, and `last_used` in a review: what services say of when an account was last used."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from reconciler.requests.record import last_used
from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService

NOW = datetime.now(UTC).replace(microsecond=0)
LONG_AGO, LATELY = NOW - timedelta(days=100), NOW - timedelta(days=3)


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def seats(repo: Repo, accounts: AccountService) -> Repo:
    """Ada was here lately, Bob and a stranger not for 100 days, of Cy nobody knows; the chat does not say."""
    manifest = accounts.manifest(listing=True)
    manifest["exists"]["list"]["used"] = "profile.last_login"
    repo.manifest("tool", manifest)
    repo.manifest("chat", accounts.manifest(listing=True))
    for hire in ("ada", "bob", "cy"):
        repo.hire(hire, "tool", "chat")
    repo.commit()
    said: dict[str, Any] = {"ada": written(LATELY), "bob": int(LONG_AGO.timestamp() * 1000), "cy": 0}
    said["stranger"] = LONG_AGO.timestamp()
    for name, used in said.items():
        accounts.add(f"{name}@example.com")
        accounts.people[f"{name}@example.com"]["profile"] = {"last_login": used}
    return repo


def test_unused_accounts_are_listed_and_what_is_not_known_is_named(seats: Repo, call: Call) -> None:
    done = call(seats, "unused", "--for", "90d", "--output", "json")
    last = written(LONG_AGO)
    tool = {"integration": "tool", "last_used": last}
    assert (done.code, done.json) == (
        0,
        {
            "unused": [
                {**tool, "hire": "bob", "account": "bob@example.com"},
                {**tool, "hire": None, "account": "stranger@example.com"},
            ],
            "unknown": ["chat"],
        },
    )
    assert call(seats, "unused", "--for", "90d", "--integration", "tool", "--output", "json").json["unknown"] == []
    assert call(seats, "unused", "--for", "90d", "--detailed-exitcode").code == 2
    assert call(seats, "unused", "--for", "101d", "--detailed-exitcode").code == 0
    table = call(seats, "unused", "--for", "90d").out
    assert "2 accounts not used for 90d; of 1 integration it is not known" in table
    assert "not known, because the listing could not be read or does not say when accounts were used: chat" in table
    rows = list(csv.DictReader(io.StringIO(call(seats, "unused", "--for", "90d", "--output", "csv").out)))
    assert [row["account"] for row in rows] == ["bob@example.com", "stranger@example.com"]
    assert "`chat`" in call(seats, "unused", "--for", "90d", "--output", "markdown").out
    assert not seats.state.exists()


def test_account_that_is_listed_twice_was_used_when_it_was_last(
    seats: Repo, accounts: AccountService, call: Call
) -> None:
    """A page may begin with what the one before ended with, or an address may have two accounts."""
    ada = {"email": "Ada@example.com", "profile": {"last_login": written(LONG_AGO)}}
    accounts.route("GET", "/users", {"users": [*accounts.people.values(), ada]})
    done = call(seats, "unused", "--for", "90d", "--integration", "tool", "--output", "json")
    assert [each["hire"] for each in done.json["unused"]] == ["bob", None]


def test_listing_that_cannot_be_read_is_not_known(seats: Repo, accounts: AccountService, call: Call) -> None:
    accounts.fail_next(9, 500)
    done = call(seats, "unused", "--for", "90d", "--integration", "tool", "--output", "json")
    assert (done.code, done.json) == (0, {"unused": [], "unknown": ["tool"]})


@pytest.mark.parametrize("span", ["90", "0d", "soon", "999999d"])
def test_span_that_is_none_is_wrong_usage(seats: Repo, call: Call, span: str) -> None:
    done = call(seats, "unused", "--for", span)
    assert (done.code, done.out) == (64, "")


def test_review_says_when_accounts_were_last_used(seats: Repo, call: Call) -> None:
    assert call(seats, "review", "start", "2026-Q4").code == 0
    lines = yaml.safe_load((seats.root / "config/reviews/2026-Q4/tool.yaml").read_text())["lines"]
    expected = {"ada": written(LATELY), "bob": written(LONG_AGO), "cy": None, "stranger@example.com": written(LONG_AGO)}
    assert {line["who"]: line["last_used"] for line in lines} == expected
    chat = yaml.safe_load((seats.root / "config/reviews/2026-Q4/chat.yaml").read_text())["lines"]
    assert all("last_used" not in line for line in chat)
    seats.commit()
    rows = csv.DictReader(io.StringIO(call(seats, "review", "check", "2026-Q4", "--output", "csv").out))
    assert {row["last_used"] for row in rows if row["who"] == "bob"} == {written(LONG_AGO), ""}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-11-01T09:00:00Z", datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("2026-11-01T10:00:00+01:00", datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        (1793523600, datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("1793523600", datetime(2026, 11, 1, 9, tzinfo=UTC)),
        (1793523600000, datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("1793523600.5", datetime(2026, 11, 1, 9, 0, 0, 500000, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", None),
        (0, None),
        ("2026-12-03T09:00:00Z", None),
        ("2026-12-02T08:00:00Z", datetime(2026, 12, 2, 8, tzinfo=UTC)),
        ("never", None),
        (None, None),
        (True, None),
        ([1], None),
        (10**40, None),
        ("9" * 400, None),
        (float("nan"), None),
    ],
)
def test_time_of_last_use(value: object, found: datetime | None) -> None:
    assert last_used(value, datetime(2026, 12, 1, 9, tzinfo=UTC)) == found
