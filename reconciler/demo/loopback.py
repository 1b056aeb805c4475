"""Serve a WSGI application on loopback, in threads, until it is closed."""

from __future__ import annotations

import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Loopback"]


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
    """A running service. `port` 0 takes a free port; a taken one raises OSError."""

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
