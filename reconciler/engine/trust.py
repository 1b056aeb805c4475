"""What vouches for a state, and for the key that seals its values: the checkout and the initial data, not itself.

Who can write to the state, such as a role of the database, could put a key of their own there, and read all that is
sealed from then on. So the key in use is compared with `SEALING_KEY` in the program's initial data, where that is set;
and one in the clear is refused where this checkout has seen it wrapped (docs/design/rules.md, "Secrets").

A ref of the checkout, which no commit, fetch or clone carries, shows that there was a state: a lost state must not look
like a first start, or every webhook would run again, nor like one in which nothing happened. A fresh clone, as in CI,
does not have the ref.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.engine.context import Revision
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.ledger.vault import Vault
from reconciler.model.errors import LedgerError, SecretsError
from reconciler.model.log import event_log
from reconciler.model.settings import OWN
from reconciler.repository.git import pygit2
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

TRACE = "refs/reconciler/state"
"""The ref that shows that this checkout was acted on with a state."""

WRAPPED = "refs/reconciler/sealed"
"""The ref that shows that the state's key was wrapped: from then on one in the clear was put there by somebody else."""

SEALING_KEY = "SEALING_KEY"
"""The name, in the program's own initial data, of the fingerprint of the state's key."""

SAID = "sealing_key_said"
"""The name of the note of the key that was said not to be vouched for."""


def vault_of(revision: Revision, ledger: LedgerWriter) -> Vault:
    """Open the sealed values of a state, wrapped to the keys that this revision's initial data is encrypted to.

    If the key cannot be decrypted, `fault` says why, and the pass goes on without it.
    """
    return _noted(revision, _opening(revision)(ledger))


async def reopened(revision: Revision, ledger: OpenLedger) -> Vault:
    """Open the sealed values anew, in the event loop."""
    return _noted(revision, await ledger.run(_opening(revision)))


def _opening(revision: Revision) -> Callable[[LedgerWriter], Vault]:
    """Read what git and the files say of the key, and return what opens it by that."""
    gnupg = revision.gnupg
    trust: Trust | SecretsError
    try:
        trust, own = trust_of(revision), revision.initial_data.read(revision.tree, OWN)
    except SecretsError as error:
        trust, own = error, None

    def opened(ledger: LedgerWriter) -> Vault:
        vault = open_vault(ledger, gnupg, trust)
        if own is not None and not own.get(SEALING_KEY, "").strip() and vault.sealer is not None:
            _say_unvouched(ledger, vault.sealer.fingerprint)
        return vault

    return opened


def _noted(revision: Revision, vault: Vault) -> Vault:
    """Note in the checkout that the key is wrapped."""
    if vault.sealer is not None and vault.sealer.recipients:
        leave(revision, WRAPPED)
    return vault


def trust_of(revision: Revision) -> Trust:
    """Find what vouches for the key of the state. Raises SecretsError if that is encrypted and cannot be read.

    Damaged initial data blocks its own integration's grants and nothing else (docs/design/rules.md, "Faults and load"):
    a key that is there stays wrapped as it is, and one that is made now is wrapped as soon as the files are mended.
    """
    fingerprint, recipients = revision.own().get(SEALING_KEY, "").strip().lower() or None, list[str]()
    with suppress(SecretsError):
        recipients = revision.initial_data.recipients(revision.tree)
    return Trust(tuple(recipients), fingerprint, wrapped=left(revision.context.checkout, WRAPPED))


def _say_unvouched(ledger: LedgerWriter, fingerprint: str) -> None:
    """Say once that nothing outside the state vouches for its key, where the program has initial data of its own."""
    if ledger.notes.get(SAID) != (said := fingerprint.encode()):
        ledger.notes.put(SAID, said)
        event_log().warning(
            "sealing_key.unvouched",
            fingerprint=fingerprint,
            next=f"store it as {SEALING_KEY} (`reconcile initial-data set {OWN}`), so that another key is refused",
        )


def vault_read(revision: Revision, ledger: LedgerReader) -> Vault:
    """Open the sealed values of a state that is read; if the key is no good, `fault` says why."""
    try:
        return Vault(trust_of(revision).sealer(ledger, revision.gnupg)[0])
    except SecretsError as error:
        return Vault(error)


def leave(revision: Revision, ref: str) -> None:
    """Note something of the state in the checkout, if that can be written to."""
    checkout, commit = revision.context.checkout, revision.tree.revision
    repository = checkout.repository
    if repository is not None and not left(checkout, ref):
        with suppress(pygit2.GitError, KeyError, ValueError, OSError):
            repository.references.create(ref, repository.head.target if commit == WORKTREE else commit)


def left(checkout: Checkout, ref: str) -> bool:
    """Whether it was noted there; True if the ref is damaged."""
    repository = checkout.repository
    try:
        return repository is not None and ref in repository.references
    except (pygit2.GitError, ValueError, OSError):
        return True  # it exists, but is damaged or cannot be read now


def lost(revision: Revision) -> str | None:
    """Say that the state is missing although this checkout was acted on with one; None if it is not."""
    if not left(revision.context.checkout, TRACE) or (location := revision.location).exists():
        return None
    return (
        f"the state {location} is not there, and this checkout was acted on with one before: nothing is done, for "
        "webhooks would all run again. Restore it from a backup, or mend `state` in the settings. To begin anew on "
        f"purpose: `git update-ref -d {TRACE}`"
    )


def state_of(revision: Revision) -> StateLocation:
    """Return where the state is. Raises LedgerError if it was lost."""
    if (why := lost(revision)) is not None:
        raise LedgerError(why)
    return revision.location
