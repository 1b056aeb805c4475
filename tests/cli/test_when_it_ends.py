"""When access ends is shown before it does: in plans, in the ledger's rows, and of one grant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.engine.harness import Hands, Machine
from tests.repo import Repo, call_cli
from tests.servers import AccountService

ENDS = {
    "for good": ({}, {}, None),
    "an entry's until": ({"until": "2096-06-30"}, {}, "2096-06-29T22:00:00Z"),
    "the hire's last day": ({}, {"end": "2096-06-30"}, "2096-06-30T22:00:00Z"),
    "the first of both": ({"until": "2096-05-01"}, {"end": "2096-06-30"}, "2096-04-30T22:00:00Z"),
    "counted from the last day": ({"until": "end+7d"}, {"end": "2096-06-30"}, "2096-07-06T22:00:00Z"),
}


@pytest.mark.parametrize(("entry", "hire", "until"), ENDS.values(), ids=ENDS)
def test_end_of_access_is_shown(repo: Repo, accounts: AccountService, entry, hire, until: str | None) -> None:
    repo.settings(timezone="Europe/Amsterdam")
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", {"integration": "tool", **entry}, **hire)
    repo.commit()
    for arguments in (("--dry-run",), (), ("status",)):
        shown = call_cli(repo, *arguments, "--output", "json")
        assert [grant["until"] for grant in shown.json["grants"]] == [until]
    assert call_cli(repo, "explain", "ada", "tool", "--output", "json").json["until"] == until
    for words in (("--dry-run",), ("explain", "ada", "tool")):
        assert (f"ends {until}" in " ".join(call_cli(repo, *words).out.split())) == (until is not None)


def test_end_that_counts_from_when_it_begins_is_not_known_before(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", {"integration": "tool", "for": "8h"}, end="2096-06-30")
    repo.commit()
    begun = datetime.now(UTC).replace(microsecond=0)
    shown = [call_cli(repo, *words, "--output", "json") for words in (("--dry-run",), (), ("status",))]
    before, passed, after = (each.grant("ada", "tool")["until"] for each in shown)
    assert (before, passed) == (None, after)
    assert timedelta() <= datetime.fromisoformat(after) - begun - timedelta(hours=8) < timedelta(minutes=5)


def test_end_that_a_commit_puts_into_the_past_is_shown_before_a_pass(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool", end="2096-06-30")
    repo.commit()
    assert call_cli(repo, "--yes").code == 0
    repo.hire("ada", {"integration": "tool", "until": "2026-11-01"}, end="2096-06-30")
    repo.commit()
    for arguments in (("--dry-run",), (), ("status",)):
        shown = call_cli(repo, *arguments, "--output", "json").grant("ada", "tool")
        assert (shown["until"], shown["due_at"]) == ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z")


def test_who_asks_for_it_once_it_is_over_is_told_how(repo: Repo, accounts: AccountService) -> None:
    """What was made longer too late is not given again, and no pass says so: git seems to want it."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("tool", accounts.manifest(revoke=True))
    machine = Machine(repo, Hands(datetime.now(UTC) - timedelta(days=1)))
    for span in ("8h", "365d"):
        repo.hire("ada", {"integration": "tool", "for": span})
        repo.commit()
        machine.reconcile()
        machine.clock.turn(hours=9)
    assert len(accounts.calls("DELETE")) == 1
    asked = call_cli(repo, "run", "ada", "tool")
    assert (asked.code, asked.out) == (1, "")
    assert asked.err == (
        "error: ada/tool is revoked: its time is over; `reconcile explain ada tool` says what can be done\n"
    )
    assert call_cli(repo, "explain", "ada", "tool", "--output", "json").json["next"] == [
        "nothing",
        "its time is over: to give it again, take the entry out, commit that, and add it again",
    ]
