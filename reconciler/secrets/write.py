"""Write initial data: encrypted before it reaches the disk, and atomically."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from reconciler.model.errors import SecretsError, not_written
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import FOLDER, service_of

__all__ = ["encrypt_initial_data", "put_initial_data"]

_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def encrypt_initial_data(
    root: Path, service: str, values: Mapping[str, str], recipients: list[str], gnupg: Gnupg
) -> Path:
    """Write `config/initial_data/SERVICE.yaml.gpg`, encrypted to the recipients, and return its path.

    Mode 0600; a reader meanwhile sees the old file or the new one, and no clear text is ever on the disk.
    Raises SecretsError where there is nobody to encrypt to, where one of the keys cannot be used, where the service's
    data is kept in a file of another form, and where the folder cannot be written.
    """
    if not _SERVICE.fullmatch(service):
        raise SecretsError(f"{service!r} cannot be the name of a file: use letters, digits, _, - and dots")
    keys = [name for name in recipients if not age.is_recipient(name)]
    if not keys:
        raise SecretsError(
            "there is no GnuPG key to encrypt to: name one (its id, fingerprint or address)"
            + ("; a file for age keys is made with `sops encrypt --age`" if recipients else "")
        )
    path = root / FOLDER / f"{service}.yaml.gpg"
    others = sorted(
        file.name for file in _listing(path.parent) if service_of(file.name) == service and file.name != path.name
    )
    if others:
        raise SecretsError(f"{FOLDER}/{others[0]} holds the initial data of {service}: edit that, or delete it first")
    if any("\ud800" <= char <= "\udfff" for pair in values.items() for text in pair for char in text):
        raise SecretsError("a value is not text in UTF-8: paste it again, or give it on standard input")
    text = yaml.safe_dump(dict(values), default_style='"', allow_unicode=True, sort_keys=False, width=float("inf"))
    message = gnupg.encrypt(text.encode(), keys, armor=False)
    put_initial_data(path, message)
    return path


def put_initial_data(path: Path, message: bytes) -> None:
    """Replace an encrypted file atomically. Raises SecretsError if it cannot be written."""
    try:
        _replace(path, message)
    except OSError as error:
        raise SecretsError(not_written(f"{FOLDER}/{path.name}", error)) from None


def _listing(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
