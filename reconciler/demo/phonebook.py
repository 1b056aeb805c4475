"""A service of a few lines for a first try: `python -m reconciler.demo.phonebook PORT`, until it is stopped.

It knows people by address, in memory, and wants a token: `Authorization: Bearer open-sesame`.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

__all__ = ["Phonebook"]


class Phonebook(BaseHTTPRequestHandler):
    """`GET /people/ADDRESS` is 200 or 404; `POST /people` adds a person, `DELETE /people/ADDRESS` removes one."""

    people: dict[str, object] = {}

    def do_GET(self) -> None:
        """Look somebody up."""
        self._answer(200 if self._asked in self.people else 404, self.people.get(self._asked, {}))

    def do_POST(self) -> None:
        """Add somebody."""
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._allowed:
            self.people[sent["email"]] = sent
        self._answer(201, sent)

    def do_DELETE(self) -> None:
        """Remove somebody."""
        known = self._asked in self.people
        if self._allowed:
            self.people.pop(self._asked, None)
        self._answer(200 if known else 404, {})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the library's
        """Log nothing: it runs beside a shell."""

    @property
    def _asked(self) -> str:
        return unquote(self.path.removeprefix("/people/"))

    @property
    def _allowed(self) -> bool:
        return self.headers["Authorization"] == "Bearer open-sesame"

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body if self._allowed else {"error": "the token is not open-sesame"}).encode()
        self.send_response(status if self._allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Phonebook).serve_forever()
