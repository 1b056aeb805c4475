from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from reconciler.model.scope import Layer, Scope
from reconciler.requests.render import credentials
from reconciler.transports.messages import Pritunl


@pytest.mark.parametrize("prefix", ["", "PRITUNL_"])
def test_the_signature_is_the_one_that_the_server_computes(prefix):
    """Over the path as the server reads it, decoded."""
    scope = Scope((Layer("x", {f"{prefix}API_TOKEN": "token-1", f"{prefix}API_SECRET": "secret-1"}),))
    headers = dict(Pritunl(*credentials(scope)).headers("PUT", "/user/ada%40x.com", datetime(2026, 12, 1, tzinfo=UTC)))
    said = "&".join([headers["Auth-Token"], headers["Auth-Timestamp"], headers["Auth-Nonce"], "PUT", "/user/ada@x.com"])
    assert said.startswith("token-1&1796083200&")
    digest = hmac.new(b"secret-1", said.encode(), hashlib.sha256).digest()
    assert base64.b64decode(headers["Auth-Signature"]) == digest


def test_a_signer_shows_nothing():
    assert repr(Pritunl("token-1", "secret-1")) == "Pritunl()"
