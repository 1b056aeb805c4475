"""Which revision a fleet acts on: no member acts on one older than the newest that any member acted on.

See docs/design/rules.md, "A fleet".
"""

from __future__ import annotations

from reconciler.ledger.writer import LedgerWriter
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE

__all__ = ["Newest"]

ACTED_ON = "acted_on"
"""The name of the note that has the newest revision that any member acted on."""


class Newest:
    """The newest revision that was acted on, as seen from one clone."""

    def __init__(self, checkout: Checkout, ledger: LedgerWriter) -> None:
        self._checkout = checkout
        self._ledger = ledger

    def as_new(self, mine: str, other: str, *, leads: bool) -> bool:
        """Whether revision `mine` is `other` or later; if the history was rewritten, the leader's counts as later."""
        if mine == other or WORKTREE in (mine, other):
            return True
        if not self._checkout.has(other):
            return False
        return self._checkout.descends(mine, other) or (leads and not self._checkout.descends(other, mine))

    def act_on(self, mine: str, *, leads: bool = False) -> bool:
        """Note that revision `mine` is acted on; False, with nothing noted, if a newer one was."""
        noted = self._ledger.note(ACTED_ON)
        if noted is not None and noted.decode() == mine:
            return True

        def newer(before: bytes | None) -> bytes:
            older = before is None or self.as_new(mine, before.decode(), leads=leads)
            return mine.encode() if older or before is None else before

        if newer(noted) != mine.encode():
            return False
        self._ledger.put_note(ACTED_ON, newer)
        return self._ledger.note(ACTED_ON) == mine.encode()
