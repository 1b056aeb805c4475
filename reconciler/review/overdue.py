"""Alert of access reviews whose day is over while lines are undecided, once for each file."""

from __future__ import annotations

import asyncio
import json

from reconciler.engine.context import Context
from reconciler.ledger.ledger import OpenLedger
from reconciler.model.decision_inputs import Policy
from reconciler.model.settings import Settings
from reconciler.notify.alerts import alert_of
from reconciler.notify.rules import News, NewsKind
from reconciler.repository.git.checkout import Checkout, Tree
from reconciler.repository.git.trees import WORKTREE
from reconciler.review.reviews import Reviews, files_of

__all__ = ["alert_overdue"]

NOTE = "reviews_overdue"
"""The name of the note that has the files of which an alert was sent."""


async def alert_overdue(context: Context, settings: Settings, tree: Tree, ledger: OpenLedger) -> None:
    """Send an alert of each review that is overdue, if none was sent of it."""
    if not settings.alerts or not files_of(tree):
        return
    known: set[str] = set(json.loads(await ledger.run(lambda reader: reader.notes.get(NOTE) or b"[]")))
    today = Policy.of(settings, context.clock.now()).today

    def read() -> list[tuple[str, str, int]]:
        checkout = Checkout.open(context.root)  # the pass's own may only be used in its thread
        own = checkout.worktree() if tree.revision == WORKTREE else checkout.at(tree.revision)
        reviews = [review for review in Reviews().read(own) if review.path not in known and review.overdue(today)]
        return [(each.path, each.due or "", sum(not line.decision for line in each.lines)) for each in reviews]

    found = await asyncio.to_thread(read)
    if not found:
        return
    note = json.dumps(sorted(known | {path for path, _, _ in found})).encode()
    await ledger.run(lambda writer: writer.notes.put(NOTE, note))
    said = "; ".join(f"{path}: {left} undecided, due {due}" for path, due, left in found)
    await alert_of(context, settings, tree, News(NewsKind.REVIEW_OVERDUE, "", len(found), said))
