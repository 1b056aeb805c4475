"""Deliver messages: e-mail to the mail server, texts to Twilio; and notifications after an attempt.

Secrets are read when there is something to send: a pass that sends nothing needs none. Every failure is `NotSent`, with
a text that says what and where, without secrets.

A notification is sent once, and is never a reason to run anything again. It is rendered and sealed together with the
last answer of the attempt, so that a crash loses none. Before one is sent, that is recorded; one that a crash left in
doubt is not sent again, but reported (docs/design/states.md).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from email.errors import NonASCIILocalPartDefect
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, make_msgid
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode

import aiosmtplib

from reconciler.ledger.entries import Event
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.vault import Vault, notice_name
from reconciler.model.addresses import loopback
from reconciler.model.clock import Clock
from reconciler.model.errors import Blocked, LedgerError, ReconcilerError, SecretsError, TransportError
from reconciler.model.failpoints import Failpoint, Reached
from reconciler.model.grant import Key, Record
from reconciler.model.secret import Redactor
from reconciler.model.settings import OWN, Limits, Settings
from reconciler.model.status import EventType, ReasonCode
from reconciler.model.template import split
from reconciler.model.value import Frozen
from reconciler.repository.git.trees import Tree
from reconciler.requests.client import Client
from reconciler.requests.encode import FORM
from reconciler.requests.excerpt import one_line
from reconciler.requests.hosts import AllowedHosts
from reconciler.transports.address import parse
from reconciler.transports.messages import RenderedRequest

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

TLS_FROM_THE_START = 465

GOODBYE_SECONDS = 1.0
"""Seconds that a mail server may take to part once it has a message."""


class DeliveryContext(Protocol):
    """What delivery needs of a process: clock, redactor and clients."""

    clock: Clock
    redactor: Redactor
    reached: Reached

    def client(self, service: str, hosts: AllowedHosts, limits: Limits) -> Client:
        """Return a client that goes to these hosts only."""


class DeliveryRevision(Protocol):
    """What delivery needs of a revision: its process, its settings, and the program's own secrets."""

    @property
    def context(self) -> DeliveryContext:
        """What lasts longer."""

    @property
    def tree(self) -> Tree:
        """Its files."""

    @property
    def settings(self) -> Settings:
        """Its settings."""

    def own(self) -> dict[str, str]:
        """Decrypt the program's own initial data. Raises SecretsError."""


class Post:
    """Delivers the messages of a pass over a revision."""

    def __init__(self, revision: DeliveryRevision) -> None:
        self._own = revision.own
        self._context = revision.context
        self._settings = revision.settings

    async def email(self, to: str, subject: str, text: str) -> None:
        """Send an e-mail in plain text. Raises NotSent.

        `starttls: auto` encrypts where the server offers it. Where a password is sent to another machine it insists,
        for an attacker on the network could strip the offer.
        """
        smtp = self._settings.smtp
        message = self._message(to, subject, text)
        password = await self._secret("SMTP_PASSWORD") if smtp.username is not None else None
        strict = password is not None and not loopback(smtp.host)
        wanted = {"always": True, "never": False, "auto": True if strict else None}[smtp.starttls]
        implicit = smtp.port == TLS_FROM_THE_START
        where = f"{smtp.host}:{smtp.port}"
        seconds = self._settings.limits.timeout.total_seconds()
        self._context.reached(Failpoint.MESSAGE, done=False)
        server = aiosmtplib.SMTP(
            hostname=smtp.host,
            port=smtp.port,
            username=smtp.username,
            password=password,
            use_tls=implicit,
            start_tls=False if implicit else wanted,
            # Encryption that nobody asked for is worth having whatever the certificate says.
            validate_certs=implicit or wanted is True,
            timeout=seconds,
        )
        try:
            async with asyncio.timeout(seconds):
                await server.connect()
                refused, _ = await server.send_message(message)
            with suppress(aiosmtplib.SMTPException, OSError):  # it has the message, whatever it says to that
                await server.quit(timeout=GOODBYE_SECONDS)
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            raise NotSent(f"{where} took longer than {seconds:g} s") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise NotSent(f"{where}: {self._said(_answered(error.recipients[0]))}") from None
        except aiosmtplib.SMTPResponseException as error:
            raise NotSent(f"{where}: {self._said(_answered(error))}") from None
        except (aiosmtplib.SMTPException, ssl.SSLError, OSError, ValueError) as error:
            raise NotSent(f"{where}: {self._said(error)}") from None
        finally:
            server.close()
        self._context.reached(Failpoint.MESSAGE, done=True)
        if refused:
            raise NotSent(f"{where} refused {self._said(', '.join(refused))}")

    async def text(self, to: str, text: str) -> None:
        """Send a text message through Twilio's API. Raises NotSent."""
        twilio = self._settings.twilio
        if twilio is None:
            raise NotSent("texts need `twilio` in config/reconciler.yaml")
        token = await self._secret("TWILIO_AUTH_TOKEN")
        url = f"{twilio.url.rstrip('/')}/2010-04-01/Accounts/{quote(twilio.account_sid, safe='')}/Messages.json"
        credentials = base64.b64encode(f"{twilio.account_sid}:{token}".encode()).decode()
        wire = RenderedRequest(
            method="POST",
            url=url,
            shown_url=url,
            headers=(("Authorization", f"Basic {credentials}"), ("Content-Type", FORM)),
            content=urlencode({"To": to, "From": twilio.from_number, "Body": text}, errors="replace").encode(),
        )
        address = parse(url)
        hosts = AllowedHosts(frozenset({f"{address.host}:{address.port}"} if address is not None else ()))
        # No manifest's service can have this name, so that it shares no limits and connections.
        client = self._context.client("(twilio)", hosts, self._settings.limits)
        try:
            answer = await client.send(wire)
        except (TransportError, LedgerError, Blocked) as error:
            raise NotSent(self._said(error)) from None
        if not 200 <= answer.status < 300:
            raise NotSent(f"Twilio answered {answer.status}{client.excerpt(answer)}")

    async def filled(self, text: str) -> str:
        """Replace each `{{NAME}}` in a text by the program's own secret of that name. Raises NotSent."""
        parts = list(split(text))
        parts[1::2] = [await self._secret(name) for name in parts[1::2]]
        return "".join(parts)

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        """Make the message. Raises NotSent for what it cannot hold: a line break in an address, a lone surrogate."""
        sender = self._settings.smtp.sender
        before, at, domain = to.strip().rpartition("@")
        message = EmailMessage(policy=SMTP if before.rpartition("<")[2].isascii() else SMTPUTF8)
        try:
            message["From"] = sender
            message["To"] = f"{before}{at}{domain.encode('idna').decode()}"  # as every server takes it
            message["Subject"] = " ".join(subject.split())
            message["Date"] = format_datetime(self._context.clock.now())
            message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
            message["Auto-Submitted"] = "auto-generated"  # so that nobody's vacation message answers
            message.set_content(text)
        except (ValueError, IndexError):
            raise NotSent("the address, the subject or the text cannot be sent as they are") from None
        addresses = message["To"].addresses
        defects = [each for each in message["To"].defects if not isinstance(each, NonASCIILocalPartDefect)]
        if not addresses or defects or not all(item.username and item.domain for item in addresses):
            raise NotSent("`to` is not an address")
        return message

    async def _secret(self, name: str) -> str:
        """Return one of the settings' own secrets. Raises NotSent, with what to do, if it is missing."""
        try:
            values = await asyncio.to_thread(self._own)
        except SecretsError as error:
            raise NotSent(str(error)) from None
        self._context.redactor.learn(values.values())
        if not (value := values.get(name)):
            raise NotSent(f"{name} is missing: `reconcile initial-data set {OWN}` asks for it")
        return value

    def _said(self, what: object) -> str:
        """Format an error to be shown: on one line, shortened, without secrets."""
        text = str(what) if str(what).strip() else type(what).__name__
        return one_line(text, self._context.redactor)


def _answered(error: aiosmtplib.SMTPResponseException) -> str:
    return f"answered {error.code} {error.message}"


class NotSent(ReconcilerError):
    """A message could not be delivered; the text says why."""


class Messenger(Protocol):
    """Delivers messages. Raises NotSent."""

    async def email(self, to: str, subject: str, text: str) -> None:
        """Send an e-mail in plain text."""

    async def text(self, to: str, text: str) -> None:
        """Send a text message."""


NOTICE = "notice/"


class Notifier:
    """Makes the notifications of each pass, with the settings and secrets of its revision."""

    def __init__(self, messenger_of: Callable[[DeliveryRevision], Messenger] = Post) -> None:
        self._messenger_of = messenger_of
        self._under_way: set[str] = set()

    def over(self, revision: DeliveryRevision) -> Notifications:
        """Return the notifications of a pass over this revision."""
        return Notifications(self._messenger_of(revision), revision.context, self._under_way)


class Notifications(Frozen):
    """Sends notifications that attempts left to be sent.

    No grant is held while its are sent. `under_way` are the names of those that this process is sending: no other pass
    sends them, or takes them for what a crash left.
    """

    messenger: Messenger
    context: DeliveryContext
    under_way: set[str]

    async def deliver_all(self, ledger: OpenLedger, vault: Vault, mine: Collection[Key], author: str | None) -> None:
        """Send what an earlier pass left unsent, for the grants that this pass has claimed.

        Those of others may be under way at this moment, in a pass beside this one.
        """
        for record in await ledger.run(partial(_with_notices, mine=mine, under_way=self.under_way)):
            await self.deliver(ledger, vault, record, author)

    async def deliver(self, ledger: OpenLedger, vault: Vault, record: Record, author: str | None) -> None:
        """Send a grant's notifications, and erase each once it is settled; those too that come while they are sent."""
        name = notice_name(record.key)
        if name in self.under_way:
            return
        self.under_way.add(name)
        try:
            while (blob := await ledger.run(lambda reader: reader.sealed.get(name))) is not None:
                await self._deliver_first(ledger, vault, record, author, blob)
        finally:
            self.under_way.discard(name)

    async def _deliver_first(
        self, ledger: OpenLedger, vault: Vault, record: Record, author: str | None, blob: bytes
    ) -> None:
        name = notice_name(record.key)
        notice, *rest = vault.decoded(name, blob)
        self.context.redactor.learn(secret for each in (notice, *rest) for secret in each.get("secrets", ()))
        detail, event, code = f"{notice['type']} to {notice['to']}", EventType.NOTIFIED, None
        if "error" in notice:
            event, detail = EventType.NOTIFICATION_FAILED, f"{detail}: {notice['error']}"
        elif notice["sending"]:
            event, code = EventType.NOTIFICATION_FAILED, ReasonCode.IN_DOUBT
            detail += ": in doubt: the program ended while it was being sent; it is not sent again"
        else:
            sending = blob = vault.sealed(name, [{**notice, "sending": True}, *rest])
            await ledger.run(lambda writer: writer.sealed.put(name, sending, Failpoint.NOTICE))
            try:
                if notice["type"] == "email":
                    await self.messenger.email(notice["to"], notice["subject"], notice["message"])
                else:
                    await self.messenger.text(notice["to"], notice["message"])
            except NotSent as error:
                event, detail = EventType.NOTIFICATION_FAILED, f"{detail}: {error}"
        line = Event.of(
            record, event, self.context.redactor.redact(detail), self.context.clock.now(), author=author, code=code
        )
        left = vault.sealed(name, rest) if rest else None
        await ledger.run(partial(_settle, line=line, name=name, sent=blob, left=left))


def _with_notices(ledger: LedgerWriter, mine: Collection[Key], under_way: Collection[str]) -> list[Record]:
    """Read whose notifications are unsent; those of a run that has not ended are rendered again when it does."""
    names = (name for name in ledger.sealed.names(NOTICE) if name not in under_way)
    keys = (Key(*name.removeprefix(NOTICE).split("/", 1)) for name in names)
    records = [ledger.grants.record(key) for key in keys if key in mine]
    return [record for record in records if record is not None and not record.phase.unsettled]


def _settle(ledger: LedgerWriter, line: Event, name: str, sent: bytes, left: bytes | None) -> None:
    """Write what became of a notification; of a grant that was forgotten, or renamed, meanwhile nothing is written."""
    found = ledger.sealed.get(name)
    if found is not None:
        ledger.save((), [line], Failpoint.NOTIFIED, kept={name: left} if found == sent else {})
