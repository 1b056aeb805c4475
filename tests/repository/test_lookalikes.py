"""Addresses that look like another's are a warning that names the characters; those of one script are none."""

from __future__ import annotations

import json

import pytest

from reconciler.repository.people import suspicious
from tests.repo import Repo, call_cli

ODD = {
    "a letter of another script": ("\u0430da@example.com", "'\u0430' is CYRILLIC SMALL LETTER A"),
    "in the domain": ("ada@ex\u0430mple.com", "'\u0430' is CYRILLIC SMALL LETTER A"),
    "all of another script, drawn as Latin": ("\u0440\u0430\u0445\u0430@x.com", "'\u0440' is CYRILLIC SMALL LETTER ER"),
    "Greek": ("ada@\u03bf.com", "GREEK SMALL LETTER OMICRON"),
    "nothing to be seen": ("a\u200bda@example.com", "'\\u200b' is ZERO WIDTH SPACE"),
    "read from right to left": ("\u202eada@example.com", "'\\u202e' is RIGHT-TO-LEFT OVERRIDE"),
    "full width": ("\uff41da@example.com", "FULLWIDTH LATIN SMALL LETTER A"),
    "an accent on its own": ("d\u0307a@example.com", "'\\u0307' is COMBINING DOT ABOVE"),
    "without its dot": ("\u0131da@example.com", "LATIN SMALL LETTER DOTLESS I"),
    "punycode of two scripts": ("ada@xn--pypal-4ve.com", "its domain reads 'p\u0430ypal.com'"),
    "punycode, drawn as Latin": (
        "ada@XN--80ak6aa92e.com",
        "and 1 more; its domain reads '\u0430\u0440\u0440\u04cf\u0435.com'",
    ),
}


@pytest.mark.parametrize(("address", "says"), ODD.values(), ids=ODD)
def test_lookalike_addresses_are_reported(address: str, says: str) -> None:
    assert says in str(suspicious(address))


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com",
        "j\u00fcrgen@m\u00fcller.de",
        "\u0438\u0432\u0430\u043d@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
        "\u0438\u0432\u0430\u043d2@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
        "\u0939\u093f\u0928\u094d\u0926\u0940@example.com",
        "\u5c71\u7530taro@\u4f8b\u3048.jp",
        "\u0930\u093e\u092e@example.com",
        "x@xn--mnchen-3ya.de",
        "x@xn--zzzz--.com",
    ],
)
def test_ordinary_addresses_are_not_reported(address: str) -> None:
    assert suspicious(address) is None


def test_lookalike_is_a_warning_only(repo: Repo) -> None:
    repo.hire("ada", email="\u0430da@example.com", manager_email="bo\u200bb@example.com")
    repo.commit()
    done = call_cli(repo, "validate", "--output", "json")
    problems = json.loads(done.out)["problems"]
    assert [(each["file"], each["line"], each["severity"]) for each in problems] == [
        ("hires/ada.yaml", 1, "warning"),
        ("hires/ada.yaml", 4, "warning"),
    ]
    assert problems[0]["message"].startswith("email: it can be taken for another address: '\u0430' is CYRILLIC")
    assert done.code == 0
