"""Who a request logs in as where the protocol has a login of its own: `Authorization: Basic`, decoded."""

from __future__ import annotations

import base64
import binascii

from reconciler.transports.request import RenderedRequest

__all__ = ["login_of"]


def login_of(request: RenderedRequest) -> tuple[str, str] | None:
    """Return a request's user and password; None without the header, or where it is another scheme's."""
    for name, value in request.headers:
        scheme, _, encoded = value.partition(" ")
        if name.lower() == "authorization" and scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return user, password
    return None
