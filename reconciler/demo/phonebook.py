"""A service of a few lines for a first try: `python -m reconciler.demo.phonebook PORT`, until it is stopped.

It knows people by address, in memory, and wants a token: `Authorization: Bearer open-sesame`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from threading import Event
from typing import TYPE_CHECKING, Any

from reconciler.demo.loopback import Loopback

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Phonebook"]


class Phonebook:
    """`GET /people/ADDRESS` is 200 or 404, `POST /people` adds a person and `DELETE /people/ADDRESS` removes one."""

    def __init__(self) -> None:
        self._people: dict[str, Any] = {}

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Handle one request, as WSGI calls it."""
        status, answer = self._answer(environ)
        body = json.dumps(answer).encode()
        start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, Any]:
        if environ.get("HTTP_AUTHORIZATION") != "Bearer open-sesame":
            return "401 Unauthorized", {"error": "the token is not open-sesame"}
        address = environ["PATH_INFO"].removeprefix("/people/")
        match environ["REQUEST_METHOD"]:
            case "POST":
                sent = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                self._people[sent["email"]] = sent
                return "201 Created", sent
            case "DELETE" if address in self._people:
                return "200 OK", self._people.pop(address)
            case _ if address in self._people:
                return "200 OK", self._people[address]
        return "404 Not Found", {"error": "there is nobody of this address"}


if __name__ == "__main__":
    with Loopback(Phonebook(), int(sys.argv[1])):
        Event().wait()
