"""Git: revisions, trees, signatures, fetching and watching. Modules outside take `pygit2` from here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pygit2"]

_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.sep}


@contextmanager
def _without_certificates() -> Iterator[None]:
    """Keep what is imported from the system's certificates: where there are none, pygit2 refuses to be imported.

    They are for its own connections, and here it makes none: the git program fetches. Reading them takes time, too.
    """
    before = {name: os.environ.get(name) for name in _CERTIFICATES}
    os.environ.update(_CERTIFICATES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _without_certificates():
    import pygit2
