"""The sealed part of a state as a pass meets it: there to be read, or opened for writing and made where it is not there.

The key is wrapped to the GnuPG keys that the initial data is encrypted to, so that gpg stays the only root of trust, and
wrapped again when those change (DESIGN section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.engine.memory import Vault
from reconciler.ledger.store import Ledger
from reconciler.model.manifest import Manifest
from reconciler.requests.client import Client
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.oauth import Connection
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer

__all__ = ["Sealing"]

KEY = "sealing_key"
STORED = "stored/"

MakeConnection = Callable[[str, Manifest, Client, AllowedHosts], Connection | None]


class Sealing:
    """The sealer, where the state has one, and what is sealed with it."""

    def __init__(self, ledger: Ledger, sealer: Sealer | None) -> None:
        self._ledger = ledger
        self.sealer = sealer
        self.vault = Vault(ledger, sealer) if sealer is not None else None

    @classmethod
    def reading(cls, ledger: Ledger, gnupg: Gnupg) -> Sealing:
        """What is there, changing nothing. Raises SecretsError where the key does not open."""
        wrapped = ledger.note(KEY)
        return cls(ledger, Sealer.unwrap(wrapped, gnupg) if wrapped is not None else None)

    @classmethod
    def writing(cls, ledger: Ledger, gnupg: Gnupg, recipients: list[str]) -> Sealing:
        """Ready to be written to: with a key, wrapped to these recipients. Raises SecretsError."""
        wrapped = ledger.note(KEY)
        if wrapped is None:
            sealer, wrapped = Sealer.create(recipients, gnupg)
            ledger.put_note(KEY, wrapped)
            return cls(ledger, sealer)
        sealer = Sealer.unwrap(wrapped, gnupg)
        if recipients and sealer.recipients != tuple(recipients):
            ledger.put_note(KEY, sealer.rewrap(recipients))
        return cls(ledger, sealer)

    def stored(self) -> Mapping[str, Mapping[str, Any]]:
        """What `store_data` saved, by hire."""
        if self.vault is None:
            return {}
        names = [name for name in self._ledger.sealed_names() if name.startswith(STORED)]
        return {name.removeprefix(STORED): self.vault.read(name) for name in names}

    def connection(self, service: str, manifest: Manifest, client: Client, hosts: AllowedHosts) -> Connection | None:
        """A service's OAuth connection."""
        return None
