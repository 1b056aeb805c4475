"""A service of a few lines for a first try: `python -m reconciler.demo.phonebook PORT`, until it is stopped.

It knows people by address, in memory, and wants a token: `Authorization: Bearer open-sesame`. `Loopback` serves it, and
the demo's other services.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind, without the name look-up that the base class makes: it can take seconds and is of no use here."""
        super(WSGIServer, self).server_bind()
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        """Log nothing: the demo's output is the program's."""


class Loopback:
    """A WSGI application, served on loopback in threads until it is closed.

    `port` 0 takes a free port; a taken one raises OSError.
    """

    def __init__(self, application: WSGIApplication, port: int = 0) -> None:
        self._server = make_server("127.0.0.1", port, application, _Server, _Handler)
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; answers in flight end with the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)


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
        threading.Event().wait()
