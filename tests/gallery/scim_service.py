"""The `scim2-server` package with its two groups, as `test_live.py` runs it: `python -m scim_service PORT TOKEN`."""

from __future__ import annotations

import json
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from werkzeug.test import Client

from reconciler.demo.stage import scim


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    port, token = int(sys.argv[1]), sys.argv[2]
    service = scim(token)
    for name in ("design", "data"):
        group = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name}
        made = Client(service).post(
            "/v2/Groups",
            data=json.dumps(group),
            content_type="application/scim+json",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert made.status_code == 201, made.text

    def answer(environ, start_response):
        if environ["PATH_INFO"] == "/":
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        return service(environ, start_response)

    make_server("127.0.0.1", port, answer, server_class=Server).serve_forever()
