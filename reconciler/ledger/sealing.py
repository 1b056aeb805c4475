"""The sealed values of a state and their key, for a pass: read only, or for writing and created if missing.

The key is wrapped to the GnuPG keys that the initial data is encrypted to, so that gpg stays the only root of trust,
and wrapped again when those change (docs/design/architecture.md).

If the key cannot be decrypted (the secret key is gone, the agent is locked), the state can still be read and checks
made. `fault` says why, and attempts and tokens, which need sealed values, are blocked for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.renewal import renewal_lock
from reconciler.ledger.vault import Vault, WritableVault
from reconciler.model.errors import SecretsError
from reconciler.model.failpoints import Failpoint
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["Sealing", "Tokens", "WritableSealing"]

KEY = "sealing_key"
TOKENS = "oauth/"

Stored = Mapping[str, Any]
"""A service's tokens, as `reconciler.oauth` stores them."""


class Sealing:
    """The sealed values of a state that is read, and their sealer if the state has one."""

    def __init__(self, ledger: LedgerReader, sealer: Sealer | SecretsError | None) -> None:
        self._ledger = ledger
        self._sealer = sealer

    @classmethod
    def reading(cls, ledger: LedgerReader, gnupg: Gnupg) -> Sealing:
        """Open the key, changing nothing."""
        wrapped = ledger.note(KEY)
        try:
            return Sealing(ledger, None if wrapped is None else Sealer.unwrap(wrapped, gnupg))
        except SecretsError as error:
            return Sealing(ledger, error)

    @property
    def sealer(self) -> Sealer | None:
        """The sealer; None if there is none, or its key cannot be decrypted."""
        return None if isinstance(self._sealer, SecretsError) else self._sealer

    @property
    def fault(self) -> str | None:
        """Why the key cannot be decrypted; None if it can, or if there is none."""
        return str(self._sealer) if isinstance(self._sealer, SecretsError) else None

    @property
    def vault(self) -> Vault | None:
        """The sealed values; None if there is no key."""
        return None if self._sealer is None else Vault(self._ledger, self._sealer)

    def renews(self, service: str) -> bool:  # noqa: ARG002
        """Whether a service's tokens can be renewed and saved."""
        return False

    def stored(self, hires: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
        """Read the stored values of these hires."""
        return {} if self.vault is None else self.vault.stored(hires)


class WritableSealing(Sealing):
    """The sealed values of a state that is written to."""

    def __init__(self, ledger: LedgerWriter, sealer: Sealer | SecretsError) -> None:
        super().__init__(ledger, sealer)
        self._vault = WritableVault(ledger, sealer)

    @classmethod
    def writing(cls, ledger: LedgerWriter, gnupg: Gnupg, recipients: list[str]) -> WritableSealing:
        """Open the key, or create it, wrapped to these recipients. Raises SecretsError."""
        wrapped = ledger.note(KEY)
        if wrapped is None:
            sealer, mine = Sealer.create(recipients, gnupg)
            ledger.put_note(KEY, lambda there: there or mine, Failpoint.SEALING_KEY)
            wrapped = ledger.note(KEY)
            if wrapped in (None, mine):
                return cls(ledger, sealer)
        assert wrapped is not None  # another process was quicker
        sealer = Sealer.unwrap(wrapped, gnupg)
        if recipients and sealer.recipients != tuple(recipients):
            # Without one of the new keys, this machine cannot decrypt initial data either, which is reported.
            with suppress(SecretsError):
                ledger.put_note(KEY, sealer.rewrap(recipients), Failpoint.SEALING_KEY)
        return cls(ledger, sealer)

    @property
    def vault(self) -> WritableVault:
        """The sealed values."""
        return self._vault

    def renews(self, service: str) -> bool:
        """Whether a service's tokens can be renewed and saved: only by the process that has leased the service."""
        lease = self._vault.lease
        return self.fault is None and (lease is None or lease.covers(service))

    def over(self, ledger: LedgerWriter) -> WritableSealing:
        """Use the same key with the same ledger under another lease."""
        return WritableSealing(ledger, self._vault.sealer)


class Tokens:
    """A service's tokens in the vault, if there is one."""

    def __init__(self, vault: Vault | None, service: str) -> None:
        self._vault = vault
        self._name = f"{TOKENS}{service}"

    def load(self) -> Stored | None:
        """Read the tokens; None if there are none or they cannot be opened: either way, connecting is the next step."""
        if self._vault is None:
            return None
        try:
            found: Stored | None = self._vault.read(self._name)
        except SecretsError:
            return None
        return found

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Exclude other processes that renew the tokens; those of a fleet are excluded by the lease."""
        assert isinstance(self._vault, WritableVault)
        file = self._vault.file
        return nullcontext() if file is None else renewal_lock(file, self._name)

    def change(self, change: Callable[[Stored | None], Stored | None]) -> None:
        """Change the tokens. The state has to be open for writing."""
        assert isinstance(self._vault, WritableVault)
        try:
            self._vault.alter(self._name, change, Failpoint.TOKEN)
        except SecretsError:  # the present ones cannot be opened
            self._vault.write(self._name, change(None), Failpoint.TOKEN)
