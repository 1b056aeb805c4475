"""A request in the words of its protocol."""

from __future__ import annotations

import pytest

from reconciler.model.text import described


@pytest.mark.parametrize(
    ("method", "url", "words"),
    [
        ("GET", "https://api.example.com/x", "GET https://api.example.com/x"),
        ("GET", "ldaps://dir.example.com/ou=p??sub?(uid=ada)", "search ldaps://dir.example.com/ou=p??sub?(uid=ada)"),
        ("PATCH", "LDAP://127.0.0.1/uid=ada", "modify LDAP://127.0.0.1/uid=ada"),
        ("GET", "postgresql://db.example.com/app", "query postgresql://db.example.com/app"),
        ("POST", "mysql://db.example.com/app", "statement mysql://db.example.com/app"),
        ("DELETE", "exec:badge/ada", "run DELETE exec:badge/ada"),
    ],
)
def test_requests_are_named_as_their_protocol_does(method: str, url: str, words: str) -> None:
    assert described(method, url) == words
