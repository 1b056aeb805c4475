"""`validate` and `diff` report two hires who mean one account, and addresses that are one person's in two spellings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.repo import Repo, call_cli

BASE = "https://api.example.com"


@pytest.fixture
def logins(repo: Repo) -> Repo:
    """Two manifests of one service, and one of another, tell accounts by a login."""
    for name, service in (("tool", "house"), ("admin", "house"), ("elsewhere", "elsewhere")):
        exists = {"url": f"{BASE}/users/{{{{LOGIN}}}}", "expected": '"{{LOGIN}}"'}
        repo.manifest(name, {"service": service, "exists": exists, "execute": [{"url": f"{BASE}/users"}]})
    by_address = {"url": f"{BASE}/mail/{{{{email}}}}", "expected": "{{email}}"}
    repo.manifest("mail", {"exists": by_address, "execute": [{"url": f"{BASE}/mail"}]})
    repo.hire("ada", "tool", "mail", extra={"LOGIN": "ceo"})
    repo.commit()
    return repo


def problems(repo: Repo, *arguments: str) -> list[tuple[Any, ...]]:
    done = call_cli(repo, *(arguments or ("validate",)), "--output", "json")
    found = json.loads(done.out)["problems"]
    listed = found["added"] if isinstance(found, dict) else found
    hires = [each for each in listed if each["file"].startswith("hires/")]
    return [(each["file"], each["line"], each["severity"], each["message"]) for each in hires]


@pytest.mark.parametrize("login", ["ceo", "CEO", " ceo", "c\u2060eo", "c%65o", "\uff23EO"])
def test_one_account_of_two_hires_is_an_error_on_both(logins: Repo, login: str) -> None:
    logins.hire("bob", "admin", "mail", extra={"LOGIN": login})
    logins.hire("eve", "elsewhere", extra={"LOGIN": login})
    logins.commit()
    said = "its check means the same account as that of {}: an account belongs to one hire"
    expected = [
        ("hires/ada.yaml", 7, "error", f"access tool: {said.format('bob/admin')}"),
        ("hires/bob.yaml", 7, "error", f"access admin: {said.format('ada/tool')}"),
    ]
    assert problems(logins) == expected
    assert problems(logins, "diff", "HEAD~1") == expected
    assert call_cli(logins, "validate").code == 1


def test_entries_of_a_sequence_are_reported_where_the_hire_names_it(logins: Repo) -> None:
    logins.write("config/sequences/all.yaml", {"access": ["admin"]})
    logins.hire("bob", sequences=["all"], extra={"LOGIN": "Ceo"})
    assert [found[:2] for found in problems(logins)] == [("hires/ada.yaml", 7), ("hires/bob.yaml", 4)]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ada@example.com.", "email: not an address (no dot at its end, and no part `.` or `..` between slashes)"),
        ("x/../ada@example.com", "email: not an address (no dot at its end"),
        ("./ada@example.com", "email: not an address (no dot at its end"),
        ("\uff41da@example.com", "email: hires/ada.yaml has this address too"),
        ("a\u200bda@example.com", "email: hires/ada.yaml has this address too"),
        ("%61da@example.com", "email: hires/ada.yaml has this address too"),
    ],
)
def test_address_in_another_spelling_is_an_error(logins: Repo, address: str, says: str) -> None:
    logins.hire("bob", email=address)
    assert any(
        file == "hires/bob.yaml" and severity == "error" and message.startswith(says)
        for file, _, severity, message in problems(logins)
    )


@pytest.mark.parametrize("address", ["ada+x@example.com", "a.da@example.com", "A.D.A+y@Example.com"])
def test_address_with_a_tag_or_other_dots_is_a_warning(logins: Repo, address: str) -> None:
    logins.hire("bob", email=address)
    logins.hire("eve", email="e.ve@other.example")
    logins.hire("eve2", email="eve@example.com")
    assert [found[:3] for found in problems(logins)] == [
        ("hires/ada.yaml", 1, "warning"),
        ("hires/bob.yaml", 1, "warning"),
    ]
    assert call_cli(logins, "validate").code == 0


@pytest.mark.parametrize("login", ["x/../ceo", "ceo/", "..", ""])
def test_a_value_that_would_climb_in_a_path_is_an_error(logins: Repo, login: str) -> None:
    logins.hire("ada", "tool", extra={"LOGIN": login})
    ((file, line, severity, message),) = problems(logins)
    assert (file, line, severity) == ("hires/ada.yaml", 7, "error")
    assert message.startswith("access tool of ada: exists: variable {{LOGIN}} ")
