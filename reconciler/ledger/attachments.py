"""Answers that `save_as_file` saves until the run is settled: sealed files beside the ledger.

On a server they are rows instead, so that any member can continue the run.

A run's memory names its files. A file without a name in any memory is left from a crash, or from a run that a person
ended; it is erased when the state is locked the next time.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.ledger.vault import FILES, Vault
from reconciler.model.errors import LedgerError, SecretsError

if TYPE_CHECKING:
    from reconciler.ledger.reader import LedgerReader
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["Attachments", "FileAttachments", "RowAttachments"]

FOLDER = "files"

YOUNG = 3600
"""Seconds for which a row may belong to another member's attempt that has not named it yet."""

_GONE = "a file of the earlier attempt is gone: `reconcile accept` or `reconcile run`"


class FileAttachments:
    """The files in a state's folder."""

    def __init__(self, state_folder: Path, vault: Vault) -> None:
        self._folder = state_folder / FOLDER
        self._vault = vault

    def keep(self, ledger: LedgerWriter, content: bytes) -> str:
        """Write a file, sync it and return its name. Raises LedgerError and SecretsError."""
        name = secrets.token_hex(16)
        sealed = self._vault.seal(content, _place(name))
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self.erase(ledger, [name])
            raise LedgerError(
                f"{self._folder}: {error.strerror}; an answer that is to be a file was not kept"
            ) from error
        return name

    def read(self, ledger: LedgerReader, files: Mapping[str, str]) -> dict[str, bytes]:  # noqa: ARG002
        """Read files, by their names in the manifest. Raises SecretsError if one is gone or altered."""
        try:
            return {
                called: self._vault.open((self._folder / name).read_bytes(), _place(name))
                for called, name in files.items()
            }
        except OSError:
            raise SecretsError(_GONE) from None

    def erase(self, ledger: LedgerWriter, names: Iterable[str]) -> None:  # noqa: ARG002
        """Unlink the files that exist."""
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink()

    def sweep(self, ledger: LedgerWriter) -> None:
        """Unlink every file that no memory names. The caller has the state locked: no attempt is under way."""
        named = self._vault.attached(ledger)
        if self._folder.is_dir():
            self.erase(ledger, (path.name for path in self._folder.iterdir() if path.name not in named))


class RowAttachments:
    """The files as sealed rows; a name begins with the second of its creation."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def keep(self, ledger: LedgerWriter, content: bytes) -> str:
        """Insert a row."""
        name = f"{int(time.time()):010d}{secrets.token_hex(11)}"
        ledger.sealed.put(_place(name), self._vault.seal(content, _place(name)))
        return name

    def read(self, ledger: LedgerReader, files: Mapping[str, str]) -> dict[str, bytes]:
        """Open rows."""
        found = {}
        for called, name in files.items():
            sealed = ledger.sealed.get(_place(name))
            if sealed is None:
                raise SecretsError(_GONE)
            found[called] = self._vault.open(sealed, _place(name))
        return found

    def erase(self, ledger: LedgerWriter, names: Iterable[str]) -> None:
        """Delete rows."""
        for name in names:
            ledger.sealed.erase(_place(name))

    def sweep(self, ledger: LedgerWriter) -> None:
        """Delete unnamed rows that are older than `YOUNG`."""
        named = self._vault.attached(ledger)
        names = (place.removeprefix(FILES) for place in ledger.sealed.names(FILES))
        self.erase(ledger, [name for name in names if name not in named and not _young(name)])


Attachments = FileAttachments | RowAttachments
"""Saves answers as files, in a state or beside it."""


def _young(name: str) -> bool:
    return name[:10].isdecimal() and int(name[:10]) >= time.time() - YOUNG


def _place(name: str) -> str:
    return f"{FILES}{name}"
