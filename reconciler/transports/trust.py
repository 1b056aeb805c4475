"""Whom encrypted connections trust: the same certificate authorities over every protocol.

They are certifi's, or those of SSL_CERT_FILE and SSL_CERT_DIR. No configuration file of a library counts.
"""

from __future__ import annotations

import os
import ssl

__all__ = ["authorities", "tls_context"]


def tls_context() -> ssl.SSLContext:
    """Make a TLS context, which takes longer than connecting."""
    import httpx

    return httpx.create_ssl_context()


def authorities() -> tuple[str | None, str | None]:
    """Return the file, or the folder, of the trusted authorities' certificates."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or not folder:
        import certifi

        return file or certifi.where(), None
    return None, folder
