"""Send notifications after an attempt: each once, and never a reason to run anything again.

They are rendered and sealed together with the last answer of the attempt, so that a crash loses none. Before one is
sent, that is recorded; one that a crash left in doubt is not sent again, but reported (docs/design/states.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.ledger.entries import Event, ValueChanges
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.vault import Vault, notice_name
from reconciler.model.clock import Clock
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.secret import Redactor
from reconciler.model.settings import Settings
from reconciler.model.status import EventType, ReasonCode
from reconciler.notify.delivery import DeliveryContext, Messenger, NotSent, Post
from reconciler.repository.git.checkout import Tree

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["Notifications", "Notifier"]

NOTICE = "notice/"


class Notifier:
    """Makes the notifications of each pass, with the settings and secrets of its revision."""

    def __init__(
        self,
        context: DeliveryContext,
        messenger_of: Callable[[DeliveryContext, Settings, Tree], Messenger] = Post,
    ) -> None:
        self._context = context
        self._messenger_of = messenger_of

    def over(self, settings: Settings, tree: Tree) -> Notifications:
        """Return the notifications of a pass over this revision."""
        post = self._messenger_of(self._context, settings, tree)
        return Notifications(post, self._context.clock, self._context.redactor)


class Notifications:
    """Sends notifications that attempts left to be sent."""

    def __init__(self, messenger: Messenger, clock: Clock, redactor: Redactor) -> None:
        self._messenger = messenger
        self._clock = clock
        self._redactor = redactor

    async def deliver_all(self, ledger: OpenLedger, vault: Vault, mine: Collection[Key], author: str | None) -> None:
        """Send what an earlier pass left unsent, for the grants that this pass has claimed.

        Those of others may be under way at this moment, in a pass beside this one.
        """
        for record in await ledger.run(partial(_with_notices, mine=mine)):
            await self.deliver(ledger, vault, record, author)

    async def deliver(self, ledger: OpenLedger, vault: Vault, record: Record, author: str | None) -> None:
        """Send a grant's notifications, and erase each once it is settled."""
        name = notice_name(record.key)
        notices: list[dict[str, Any]] = await ledger.run(partial(vault.read, name=name)) or []
        for notice in notices:
            self._redactor.learn(notice.get("secrets", ()))
        while notices:
            notice, *rest = notices
            detail, event, code = f"{notice['type']} to {notice['to']}", EventType.NOTIFIED, None
            if "error" in notice:
                event, detail = EventType.NOTIFICATION_FAILED, f"{detail}: {notice['error']}"
            elif notice["sending"]:
                event, code = EventType.NOTIFICATION_FAILED, ReasonCode.IN_DOUBT
                detail += ": in doubt: the program ended while it was being sent; it is not sent again"
            else:
                begun = vault.sealed(name, [{**notice, "sending": True}, *rest])
                await ledger.run(partial(_put, name=name, value=begun))
                try:
                    await self._send(notice)
                except NotSent as error:
                    event, detail = EventType.NOTIFICATION_FAILED, f"{detail}: {error}"
            line = Event.of(record, event, self._redactor.redact(detail), self._clock.now(), author=author, code=code)
            kept = {name: vault.sealed(name, rest) if rest else None}
            await ledger.run(partial(_settle, line=line, kept=kept))
            notices = rest

    async def _send(self, notice: dict[str, Any]) -> None:
        match notice["type"]:
            case "email":
                await self._messenger.email(notice["to"], notice["subject"], notice["message"])
            case _:
                await self._messenger.text(notice["to"], notice["message"])


def _with_notices(ledger: LedgerWriter, mine: Collection[Key]) -> list[Record]:
    """Read whose notifications are unsent; those of a run that has not ended are rendered again when it does."""
    keys = (Key(*name.removeprefix(NOTICE).split("/", 1)) for name in ledger.sealed.names(NOTICE))
    records = [ledger.grants.record(key) for key in keys if key in mine]
    return [record for record in records if record is not None and not record.phase.unsettled]


def _put(ledger: LedgerWriter, name: str, value: bytes) -> None:
    ledger.sealed.put(name, value, Failpoint.NOTICE)


def _settle(ledger: LedgerWriter, line: Event, kept: ValueChanges) -> None:
    ledger.save((), [line], Failpoint.NOTIFIED, kept=kept)
