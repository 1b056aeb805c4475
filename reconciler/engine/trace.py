"""A trace outside the state that there was one: a state that was lost must not look like one that never was.

Without its ledger every webhook would run again. The trace is a ref of the checkout, which neither a commit nor a fetch
nor a clone carries: a fresh clone, as in CI, begins with none.
"""

from __future__ import annotations

from contextlib import suppress

import pygit2

from reconciler.ledger.opening import state_path
from reconciler.model.errors import LedgerError
from reconciler.model.settings import Settings
from reconciler.repository.git.checkout import Checkout

__all__ = ["TRACE", "leave_trace", "refuse_fresh_start"]

TRACE = "refs/reconciler/state"


def refuse_fresh_start(checkout: Checkout, settings: Settings) -> None:
    """Raise LedgerError where the state is not there, and this checkout was acted on with one."""
    path = state_path(settings.state, checkout.root)
    if _traced(checkout) and not (path.exists() and path.stat().st_size):
        raise LedgerError(
            f"the state {path} is not there, and this checkout was acted on with one before: nothing is done, for "
            "webhooks would all run again. Restore it from a backup, or mend `state` in the settings. To begin anew on "
            f"purpose: `git update-ref -d {TRACE}`"
        )


def leave_trace(checkout: Checkout) -> None:
    """Remember in the checkout that there is a state; one that cannot be written to goes without."""
    repository = checkout.repository
    if repository is not None and not _traced(checkout):
        with suppress(pygit2.GitError, KeyError, ValueError, OSError):
            repository.references.create(TRACE, repository.head.peel(pygit2.Commit).id)


def _traced(checkout: Checkout) -> bool:
    repository = checkout.repository
    try:
        return repository is not None and TRACE in repository.references
    except (pygit2.GitError, ValueError, OSError):
        return True  # it is there, and torn or not to be read just now
