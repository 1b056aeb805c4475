"""The sealed part of a state as a pass meets it: read as it is, or opened for writing and made where it is not there.

The key is wrapped to the GnuPG keys that the initial data is encrypted to, so that gpg stays the only root of trust,
and wrapped again when those change (DESIGN section 7).

A key that does not open (its secret key is gone, the agent is locked) leaves the state to be read and checks to be
made: `fault` says why, and whatever has to be kept sealed, an attempt or a token, is blocked for that reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from reconciler.engine.memory import Vault
from reconciler.engine.world import World
from reconciler.ledger.store import Ledger
from reconciler.model.errors import SecretsError
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key
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

    def __init__(self, ledger: Ledger, sealer: Sealer | None, *, renewing: bool, fault: str | None = None) -> None:
        self._ledger = ledger
        self._renewing = renewing
        self.sealer = sealer
        self.fault = fault
        """Why the key does not open; None where it does, or where there is none."""
        self.vault: Vault | None = None
        if sealer is not None:
            self.vault = Vault(ledger, sealer)
        elif fault is not None:
            self.vault = _Locked(ledger, fault)

    @classmethod
    def reading(cls, ledger: Ledger, gnupg: Gnupg) -> Sealing:
        """What is there, changing nothing."""
        wrapped = ledger.note(KEY)
        try:
            return cls(ledger, Sealer.unwrap(wrapped, gnupg) if wrapped is not None else None, renewing=False)
        except SecretsError as error:
            return cls.locked(ledger, str(error))

    @classmethod
    def locked(cls, ledger: Ledger, fault: str) -> Sealing:
        """What does not open, and why."""
        return cls(ledger, None, renewing=False, fault=fault)

    @classmethod
    def writing(cls, ledger: Ledger, gnupg: Gnupg, recipients: list[str]) -> Sealing:
        """Ready to be written to: with a key, wrapped to these recipients. Raises SecretsError."""
        wrapped = ledger.note(KEY)
        if wrapped is None:
            sealer, wrapped = Sealer.create(recipients, gnupg)
            ledger.put_note(KEY, wrapped, Failpoint.SEALING_KEY)
            return cls(ledger, sealer, renewing=True)
        sealer = Sealer.unwrap(wrapped, gnupg)
        if recipients and sealer.recipients != tuple(recipients):
            # Where this machine has none of the new keys, its initial data does not open either, and says so.
            with suppress(SecretsError):
                ledger.put_note(KEY, sealer.rewrap(recipients), Failpoint.SEALING_KEY)
        return cls(ledger, sealer, renewing=True)

    def stored(self) -> Mapping[str, Mapping[str, Any]]:
        """What `store_data` saved, by hire."""
        if self.vault is None:
            return {}
        found: dict[str, Mapping[str, Any]] = {}
        for name in self._ledger.sealed_names():
            if name.startswith(STORED):
                # What was tampered with is as good as not there: the grants that need it are blocked by name.
                with suppress(SecretsError):
                    found[name.removeprefix(STORED)] = self.vault.read(name)
        return found

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


class _Locked(Vault):
    """The sealed part of a state whose key does not open: nothing can be read from it, nothing put into it."""

    def __init__(self, ledger: Ledger, fault: str) -> None:
        self._ledger = ledger
        self._fault = fault

    def read(self, name: str) -> None:
        """Nothing, where nothing is kept under this name. Raises SecretsError where something is."""
        if self._ledger.sealed(name) is not None:
            raise SecretsError(self._fault)

    def sealed(self, name: str, value: Any) -> NoReturn:  # noqa: ARG002
        """Raises SecretsError."""
        raise SecretsError(self._fault)

    def without_stored(self, keys: Collection[Key]) -> dict[str, bytes | None]:  # noqa: ARG002
        """It is left as it is: it is nobody's any more, and nobody can read it."""
        return {}


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
        self._vault.write(self._name, record, Failpoint.TOKEN)
