"""What `save_as_file` keeps of answers until its run is settled: sealed files beside the ledger, not rows in it.

A run's memory names its files. One that no memory names is left of a crash or of a run that a person ended; it is
erased when the state is held the next time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.ledger.vault import WritableVault
from reconciler.model.errors import LedgerError, SecretsError

__all__ = ["Attachments"]

FOLDER = "files"


class Attachments:
    """The files in a state's folder."""

    def __init__(self, state_folder: Path, vault: WritableVault) -> None:
        self._folder = state_folder / FOLDER
        self._vault = vault

    def keep(self, content: bytes) -> str:
        """Write a file, on the disk before the call returns, and give its name. Raises LedgerError and SecretsError."""
        name = secrets.token_hex(16)
        sealed = self._vault.seal(content, _place(name))
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self.erase([name])
            raise LedgerError(
                f"{self._folder}: {error.strerror}; an answer that is to be a file was not kept"
            ) from error
        return name

    def read(self, files: Mapping[str, str]) -> dict[str, bytes]:
        """The contents of files, by what the manifest calls them. Raises SecretsError where one is gone or altered."""
        try:
            return {
                called: self._vault.open((self._folder / name).read_bytes(), _place(name))
                for called, name in files.items()
            }
        except OSError:
            raise SecretsError("a file of the earlier attempt is gone: `reconcile accept` or `reconcile run`") from None

    def erase(self, names: Iterable[str]) -> None:
        """Erase files, as far as they are there."""
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink()

    def sweep(self, named: Collection[str]) -> None:
        """Erase every file that no run's memory names. The caller holds the state, and no attempt is under way."""
        if self._folder.is_dir():
            self.erase(path.name for path in self._folder.iterdir() if path.name not in named)


def _place(name: str) -> str:
    return f"files/{name}"
