"""When access ends is shown before it does: in plans, in the ledger's rows, and of one grant."""

from __future__ import annotations

import pytest

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
