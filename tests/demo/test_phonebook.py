"""The phonebook of the README and the tutorial."""

from __future__ import annotations

from reconciler.demo.phonebook import Loopback, Phonebook
from tests.servers import ask

GRACE = {"email": "grace@example.com", "name": "Grace"}


def test_it_knows_who_was_added_and_wants_its_token() -> None:
    with Loopback(Phonebook()) as service:

        def asked(method: str, path: str, token: str = "open-sesame") -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return ask(service.url, method, path, GRACE if method == "POST" else None, headers)[0]

        assert asked("GET", "/people/grace@example.com") == 404
        assert asked("POST", "/people", "guessed") == 401
        assert asked("POST", "/people") == 201
        assert asked("GET", "/people/grace@example.com") == 200
        assert asked("DELETE", "/people/grace@example.com") == 200
        assert asked("GET", "/people/grace@example.com") == 404
