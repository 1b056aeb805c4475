"""The sealed part of a state as a pass meets it: read as it is, or opened for writing and made where it is not there.

The key is wrapped to the GnuPG keys that the initial data is encrypted to, so that gpg stays the only root of trust,
and wrapped again when those change (DESIGN section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.engine.memory import Vault
from reconciler.engine.world import World
from reconciler.ledger.store import Ledger
from reconciler.model.errors import SecretsError
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Scope
from reconciler.requests.client import Client
from reconciler.requests.oauth import Connection
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer

__all__ = ["Sealing", "Tokens"]

KEY = "sealing_key"
STORED = "stored/"
TOKENS = "oauth/"


class Sealing:
    """The sealer, where the state has one, and what is sealed with it."""

    def __init__(self, ledger: Ledger, sealer: Sealer | None, *, renewing: bool) -> None:
        self._ledger = ledger
        self._renewing = renewing
        self.sealer = sealer
        self.vault = Vault(ledger, sealer) if sealer is not None else None

    @classmethod
    def reading(cls, ledger: Ledger, gnupg: Gnupg) -> Sealing:
        """What is there, changing nothing. Raises SecretsError where the key does not open."""
        wrapped = ledger.note(KEY)
        return cls(ledger, Sealer.unwrap(wrapped, gnupg) if wrapped is not None else None, renewing=False)

    @classmethod
    def writing(cls, ledger: Ledger, gnupg: Gnupg, recipients: list[str]) -> Sealing:
        """Ready to be written to: with a key, wrapped to these recipients. Raises SecretsError."""
        wrapped = ledger.note(KEY)
        if wrapped is None:
            sealer, wrapped = Sealer.create(recipients, gnupg)
            ledger.put_note(KEY, wrapped)
            return cls(ledger, sealer, renewing=True)
        sealer = Sealer.unwrap(wrapped, gnupg)
        if recipients and sealer.recipients != tuple(recipients):
            ledger.put_note(KEY, sealer.rewrap(recipients))
        return cls(ledger, sealer, renewing=True)

    def stored(self) -> Mapping[str, Mapping[str, Any]]:
        """What `store_data` saved, by hire."""
        if self.vault is None:
            return {}
        names = [name for name in self._ledger.sealed_names() if name.startswith(STORED)]
        return {name.removeprefix(STORED): self.vault.read(name) for name in names}

    def connection(self, world: World, service: str, manifest: Manifest, client: Client, scope: Scope) -> Connection:
        """A service's OAuth connection; it renews tokens only where this state was opened for writing."""
        return Connection(
            service,
            manifest,
            client,
            scope,
            Tokens(self.vault, service),
            world.turn(service),
            world.clock,
            world.redactor,
            renewing=self._renewing,
        )


class Tokens:
    """A service's tokens in the vault, where there is one."""

    def __init__(self, vault: Vault | None, service: str) -> None:
        self._vault = vault
        self._name = f"{TOKENS}{service}"

    def load(self) -> dict[str, Any] | None:
        """What is stored; tokens that do not open are as good as none, and the next step is the same: connect."""
        if self._vault is None:
            return None
        try:
            found: dict[str, Any] | None = self._vault.read(self._name)
        except SecretsError:
            return None
        return found

    def save(self, record: dict[str, Any]) -> None:
        """Store, on the disk before the call returns. Only a state that is written to can be given tokens."""
        assert self._vault is not None
        self._vault.write(self._name, record)
