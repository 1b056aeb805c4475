"""Deliver messages: e-mail to the mail server, texts to Twilio.

Secrets are read when there is something to send: a pass that sends nothing needs none. Every failure is `NotSent`, with
a text that says what and where, without secrets.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Protocol
from urllib.parse import quote, urlencode

import aiosmtplib

from reconciler.model.clock import Clock
from reconciler.model.errors import Blocked, LedgerError, ReconcilerError, SecretsError, TransportError
from reconciler.model.failpoints import Failpoint, Reached
from reconciler.model.secret import Redactor
from reconciler.model.settings import OWN, Limits, Settings, loopback
from reconciler.model.template import split
from reconciler.repository.git.checkout import Tree
from reconciler.requests.client import Client
from reconciler.requests.encode import FORM
from reconciler.requests.excerpt import one_line
from reconciler.requests.hosts import AllowedHosts
from reconciler.secrets.initial_data import InitialData
from reconciler.transports.address import parse
from reconciler.transports.request import RenderedRequest

__all__ = ["DeliveryContext", "Messenger", "NotSent", "Post"]

TLS_FROM_THE_START = 465


class DeliveryContext(Protocol):
    """What delivery needs of a process: clock, redactor, clients, and the reader of encrypted files."""

    clock: Clock
    redactor: Redactor
    reached: Reached

    def client(self, service: str, hosts: AllowedHosts, limits: Limits) -> Client:
        """Return a client that goes to these hosts only."""

    def initial_data(self, settings: Settings) -> InitialData:
        """Return the reader of encrypted files."""


class Post:
    """Delivers the messages of a pass over a revision."""

    def __init__(self, context: DeliveryContext, settings: Settings, tree: Tree) -> None:
        self._context = context
        self._settings = settings
        self._tree = tree

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
        try:
            async with asyncio.timeout(seconds):
                refused, _ = await aiosmtplib.send(
                    message,
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
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            raise NotSent(f"{where} took longer than {seconds:g} s") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise NotSent(f"{where}: {self._said(_answered(error.recipients[0]))}") from None
        except aiosmtplib.SMTPResponseException as error:
            raise NotSent(f"{where}: {self._said(_answered(error))}") from None
        except (aiosmtplib.SMTPException, ssl.SSLError, OSError, ValueError) as error:
            raise NotSent(f"{where}: {self._said(error)}") from None
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
        message = EmailMessage(policy=SMTP)
        try:
            message["From"] = sender
            message["To"] = to.strip()
            message["Subject"] = " ".join(subject.split())
            message["Date"] = format_datetime(self._context.clock.now())
            message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
            message["Auto-Submitted"] = "auto-generated"  # so that nobody's vacation message answers
            message.set_content(text)
        except (ValueError, IndexError):
            raise NotSent("the address, the subject or the text cannot be sent as they are") from None
        addresses = message["To"].addresses
        if not addresses or message["To"].defects or not all(item.username and item.domain for item in addresses):
            raise NotSent("`to` is not an address")
        return message

    async def _secret(self, name: str) -> str:
        """Return one of the settings' own secrets. Raises NotSent, with what to do, if it is missing."""
        try:
            values = await asyncio.to_thread(self._context.initial_data(self._settings).read, self._tree, OWN)
        except SecretsError as error:
            raise NotSent(str(error)) from None
        self._context.redactor.learn((values or {}).values())
        value = (values or {}).get(name)
        if not value:
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
