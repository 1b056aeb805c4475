"""The key by which a state's values are sealed: opened for a pass, and created if it is missing and may be.

The key is wrapped to the GnuPG keys that the initial data is encrypted to, so that gpg stays the only root of trust,
and another one takes its place when those change (docs/design/architecture.md). Who can write to the state can put a
key there, too; so `Trust` says what vouches for it from outside.

If the key cannot be decrypted (the secret key is gone, the agent is locked), the state can still be read and checks
made. `fault` says why, and attempts and tokens, which need sealed values, are blocked for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from reconciler.ledger.lease import Lease
from reconciler.ledger.ledger import Ledger, OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sqlite.lock import renewal_lock
from reconciler.ledger.vault import FILES, Vault, value_place
from reconciler.model.errors import SecretsError
from reconciler.model.failpoints import Failpoint
from reconciler.model.value import Frozen
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer, in_the_clear, wrapped_to

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

KEY = "sealing_key"
NEXT = "sealing_key_next"
"""The name of the note that has the successor of the key, until it is vouched for."""

TOKENS = "oauth/"

Stored = Mapping[str, Any]
"""A service's tokens, as `reconciler.oauth` stores them."""


class Trust(Frozen):
    """What vouches for the key of a state: the keys that the initial data is encrypted to, and `SEALING_KEY`.

    `wrapped` says that the key of this state was wrapped before, so that none in the clear can be its.
    """

    recipients: tuple[str, ...] = ()
    fingerprint: str | None = None
    wrapped: bool = False

    def sealer(self, ledger: LedgerReader, gnupg: Gnupg) -> tuple[Sealer | None, Sealer | None]:
        """Open the key, and the successor that is to take its place, if any. Raises SecretsError if it is no good."""
        wrapped = ledger.notes.get(KEY)
        if wrapped is None:
            if self.fingerprint is not None:
                raise SecretsError(f"the state has no sealing key, and {VOUCHED} names one: {_MEND}")
            return None, None
        if self.wrapped and self.recipients and in_the_clear(wrapped):
            raise SecretsError(
                "the state's sealing key is in the clear, though initial data has keys to encrypt it to: somebody put "
                f"it there, and nothing is opened or sealed with it. {_MEND}"
            )
        sealer = Sealer.unwrap(wrapped, gnupg)
        successor = _waiting(ledger, sealer, gnupg)
        if successor is not None and self.fingerprint not in (None, successor.fingerprint):
            successor = None
        if self.fingerprint not in (None, sealer.fingerprint) and successor is None:
            raise SecretsError(
                f"the state's sealing key, {sealer.fingerprint}, is not the one that {VOUCHED} names: somebody put it "
                f"there, or replaced it, and nothing is opened or sealed with it. {_MEND}"
            )
        return sealer, successor


VOUCHED = "SEALING_KEY in config/initial_data/reconciler"
_MEND = "Restore the state from a backup; docs/security.md says how to go on with another key"


def open_vault(ledger: LedgerWriter, gnupg: Gnupg, trust: Trust | SecretsError) -> Vault:
    """Open the key, or create it, wrapped to the recipients; a successor takes its place.

    Without it, for its `fault` or because what vouches for it cannot be read, no command of the ledger counts: none can
    be verified.
    """
    try:
        if isinstance(trust, SecretsError):
            raise trust
        vault = Vault(_opened(ledger, gnupg, trust))
    except SecretsError as error:
        vault = Vault(error)
    ledger.session.mac = vault.mac
    return vault


def _opened(ledger: LedgerWriter, gnupg: Gnupg, trust: Trust) -> Sealer:
    sealer, successor = trust.sealer(ledger, gnupg)
    if sealer is None:
        made, mine = Sealer.create(trust.recipients, gnupg)
        ledger.notes.put(KEY, lambda there: there or mine, Failpoint.SEALING_KEY)
        if ledger.notes.get(KEY) == mine:
            return made
        sealer, successor = trust.sealer(ledger, gnupg)  # another process was quicker
        assert sealer is not None
    others = trust.recipients and sealer.recipients != trust.recipients
    if others or successor is not None:
        # Without one of the new keys, this machine cannot decrypt initial data either, which is reported.
        with suppress(SecretsError):
            if successor is None and trust.fingerprint is not None:
                ledger.notes.put(KEY, sealer.rewrap(trust.recipients), Failpoint.SEALING_KEY)
            else:
                sealer = _replaced(ledger, sealer, successor, trust, gnupg)
    return sealer


def stage(
    ledger: LedgerWriter, sealer: Sealer, recipients: Iterable[str], *, known: Iterable[str], gnupg: Gnupg
) -> Sealer:
    """Make a successor of the key, which takes its place when it is vouched for. Raises SecretsError.

    One that waits stays: a file may name it already. Unless a key can open it that is not `known`, none of those that
    initial data is encrypted to.
    """
    made, staged = _waiting(ledger, sealer, gnupg), ledger.notes.get(NEXT)
    if made is None or staged is None or not {*wrapped_to(staged, gnupg)} <= {*known}:
        made, wrapped = sealer.successor(recipients)
    else:
        wrapped = made.rewrap({*made.recipients, *recipients})
    ledger.notes.put(NEXT, wrapped, Failpoint.SEALING_KEY)
    return made


def _waiting(ledger: LedgerReader, sealer: Sealer, gnupg: Gnupg) -> Sealer | None:
    """Return the successor of a key that waits for its place; None for one that is for a machine with another key."""
    if (staged := ledger.notes.get(NEXT)) is not None:
        with suppress(SecretsError):
            found = Sealer.unwrap(staged, gnupg)
            return found if found.previous == sealer.fingerprint else None
    return None


def _replaced(ledger: LedgerWriter, sealer: Sealer, successor: Sealer | None, trust: Trust, gnupg: Gnupg) -> Sealer:
    """Put a successor in the place of the key, and seal everything anew; return the one that is there then."""
    if successor is None:
        successor, wrapped = sealer.successor(trust.recipients)
    else:
        wrapped = successor.rewrap(trust.recipients or successor.recipients)

    def anew(name: str, blob: bytes) -> bytes:
        place = name if name.startswith(FILES) else value_place(name)
        try:
            return successor.seal(sealer.open(blob, place), place)
        except SecretsError:  # it did not open before, either
            return blob

    ledger.session.mac = sealer.mac
    locks, commands = ledger.locks.all(), ledger.commands.waiting()
    ledger.sealed.reseal(KEY, ledger.notes.get(KEY), {KEY: wrapped, NEXT: None}, anew)
    found, _ = trust.sealer(ledger, gnupg)
    assert found is not None  # another process may have been quicker
    ledger.commands.vouch(found.mac, commands)
    ledger.locks.put(locks)
    return found


class Tokens:
    """A service's tokens, sealed in a state."""

    def __init__(self, vault: Vault, service: str, ledger: Ledger[LedgerReader]) -> None:
        self._vault = vault
        self._name = f"{TOKENS}{service}"
        self._ledger = ledger

    def read(self, ledger: LedgerReader) -> Stored | None:
        """Read the tokens; None if there are none or they cannot be opened: either way, connecting is the next step."""
        try:
            found: Stored | None = self._vault.read(ledger, self._name)
        except SecretsError:
            return None
        return found

    async def load(self) -> Stored | None:
        """Read the tokens, in the event loop."""
        return await self._ledger.run(self.read)


class WritableTokens(Tokens):
    """A service's tokens, to be changed."""

    def __init__(self, vault: Vault, service: str, ledger: OpenLedger) -> None:
        super().__init__(vault, service, ledger)
        self._writer = ledger

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Exclude other processes that renew the tokens; those of a fleet are excluded by the lease."""
        file = self._writer.file
        return nullcontext() if file is None else renewal_lock(file, self._name)

    async def change(self, change: Callable[[Stored | None], Stored | None]) -> None:
        """Change the tokens, excluding other writers."""

        def write(ledger: LedgerWriter) -> None:
            try:
                ledger.sealed.put(self._name, self._vault.changed(self._name, change), Failpoint.TOKEN)
            except SecretsError:  # the present ones cannot be opened
                ledger.sealed.put(self._name, self._vault.sealed(self._name, change(None)), Failpoint.TOKEN)

        await self._writer.run(write)


class ReadState(Frozen):
    """A state that is read, whether it is locked or not. `writer` is the same ledger, for who may write to it, too."""

    ledger: Ledger[LedgerReader]
    vault: Vault
    writer: OpenLedger | None = None

    @property
    def lease(self) -> Lease | None:
        """Return the lease under which it may be written to."""
        return None if self.writer is None else self.writer.lease

    def store_of(self, service: str) -> WritableTokens | None:
        """Return where a service's tokens are saved when they are renewed; None if this process may not renew them.

        A dry run may not, and of a fleet only the member that has leased the service may.
        """
        covered = self.lease is None or self.lease.covers(service)
        if self.writer is None or self.vault.fault is not None or not covered:
            return None
        return WritableTokens(self.vault, service, self.writer)
