"""Git: revisions, trees, signatures, fetching and watching."""

from __future__ import annotations

import os

_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.sep}


def _import_pygit2() -> None:
    """Import pygit2, but do not let it read the system's certificates: that would take a twelfth of a command's start.

    They are for its own connections, and here it makes none: the git program fetches.
    """
    before = {name: os.environ.get(name) for name in _CERTIFICATES}
    os.environ.update(_CERTIFICATES)
    try:
        import pygit2  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_import_pygit2()
