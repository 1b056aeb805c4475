"""Which revision a fleet acts on: no member acts on one older than the newest that any member acted on.

See docs/design/rules.md, "A fleet".
"""

from __future__ import annotations

from functools import partial

from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.writer import LedgerWriter
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE

__all__ = ["Newest"]

ACTED_ON = "acted_on"
"""The name of the note that has the newest revision that any member acted on."""


class Newest:
    """The newest revision that was acted on, as seen from one clone."""

    def __init__(self, checkout: Checkout, ledger: OpenLedger) -> None:
        self._checkout = checkout
        self._ledger = ledger

    def as_new(self, mine: str, other: str, *, leads: bool) -> bool:
        """Whether revision `mine` is `other` or later; if the history was rewritten, the leader's counts as later."""
        if mine == other or WORKTREE in (mine, other):
            return True
        if not self._checkout.has(other):
            return False
        return self._checkout.descends(mine, other) or (leads and not self._checkout.descends(other, mine))

    async def act_on(self, mine: str, *, leads: bool = False) -> bool:
        """Note that revision `mine` is acted on; False, with nothing noted, if a newer one was."""
        while (noted := await self._ledger.run(_acted_on)) != mine:
            if noted is not None and not self.as_new(mine, noted, leads=leads):
                return False
            await self._ledger.run(partial(_note, revision=mine, after=noted))
        return True


def _acted_on(ledger: LedgerReader) -> str | None:
    noted = ledger.note(ACTED_ON)
    return None if noted is None else noted.decode()


def _note(ledger: LedgerWriter, revision: str, after: str | None) -> None:
    """Note a revision, unless another member noted one meanwhile."""
    before = None if after is None else after.encode()
    ledger.put_note(ACTED_ON, lambda there: revision.encode() if there == before else there)
