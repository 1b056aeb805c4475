from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

from reconciler.model.scope import Layer, Scope
from reconciler.requests.sign import Pritunl


def test_the_signature_is_the_one_that_the_server_computes():
    signer = Pritunl.of(Scope((Layer("x", {"API_TOKEN": "token-1", "API_SECRET": "secret-1"}),)))
    headers = dict(signer.headers("PUT", "/user/1", datetime(2026, 12, 1, tzinfo=UTC)))
    said = "&".join([headers["Auth-Token"], headers["Auth-Timestamp"], headers["Auth-Nonce"], "PUT", "/user/1"])
    assert said.startswith("token-1&1796083200&")
    digest = hmac.new(b"secret-1", said.encode(), hashlib.sha256).digest()
    assert base64.b64decode(headers["Auth-Signature"]) == digest


def test_a_signer_shows_nothing():
    assert repr(Pritunl("token-1", "secret-1")) == "Pritunl()"
