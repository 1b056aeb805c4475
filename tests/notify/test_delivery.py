"""E-mail through a real mail server, texts through a Twilio that listens on loopback."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import socket
import ssl
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from reconciler.engine.context import Context, Revision
from reconciler.model.secret import Redactor
from reconciler.notify.delivery import Messenger, NotSent, Post
from tests.certificates import self_signed
from tests.engine.harness import Hands
from tests.repo import Repo, free_port
from tests.servers import PATIENCE, Service

# The server on loopback is asked to take passwords without TLS, and says what it thinks of that.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

PASSWORD = "pa55-w0rd-of-mail"
TOKEN = "t0ken-of-twilio"


class Mailbox:
    """Takes mail. `answers` may replace the 250 to a recipient or to the data."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.envelopes: list[Any] = []
        self.encrypted: list[bool] = []
        self.recipient_answer = "250 OK"
        self.data_answer = "250 OK"
        self.parts = True

    async def handle_QUIT(self, *_: Any) -> str:  # noqa: N802
        if not self.parts:
            await asyncio.sleep(PATIENCE)
        return "221 Bye"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        self.encrypted.append(session.ssl is not None)
        self.messages.append(message_from_bytes(envelope.content.replace(b"\r\n", b"\n"), policy=policy.default))
        return self.data_answer

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"mailer", PASSWORD.encode())
        return AuthResult(success=good, handled=False)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


Start = Callable[..., int]


@pytest.fixture
def start(mailbox: Mailbox) -> Iterator[Start]:
    """Starts a mail server and gives its port."""
    running: list[Controller] = []

    def start(**options: Any) -> int:
        port = free_port()
        controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
        controller.start()
        running.append(controller)
        return port

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Loop(asyncio.SelectorEventLoop):
    """A loop that waits for its connections to end: a TLS connection takes leave before it closes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[asyncio.BaseTransport] = []

    async def create_connection(self, *arguments: Any, **keys: Any) -> Any:
        made = await super().create_connection(*arguments, **keys)
        self.made.append(made[0])
        return made

    async def rest(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not all(transport.is_closing() for transport in self.made):  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.005)


class Office:
    """A repository whose messages are sent; `redactor` is the process's."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.redactor = Redactor()

    def run(self, act: Callable[[Messenger], Any], **settings: Any) -> None:
        assert self.repo.gnupg is not None
        self.repo.settings(gnupg_home=self.repo.gnupg.path, **settings)
        self.repo.commit()

        async def go() -> None:
            context = Context(self.repo.root, Hands(), self.redactor)
            try:
                await act(Post(Revision.at(context, context.checkout.head())))
            finally:
                await context.aclose()
                await loop.rest()

        loop = Loop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(go())

    def mail(
        self,
        port: int,
        to: str = "ada@example.com",
        subject: str = "Welcome",
        text: str = "Hello Ada\n",
        *,
        limits: Any = None,
        **smtp: Any,
    ) -> None:
        keys = {"host": "127.0.0.1", "port": port, "sender": "it@example.com", **smtp}
        self.run(lambda post: post.email(to, subject, text), smtp=keys, limits=limits or {})

    def mail_refused(self, port: int, **more: Any) -> str:
        with pytest.raises(NotSent) as caught:
            self.mail(port, **more)
        return str(caught.value)

    def secrets(self, **values: str) -> None:
        self.repo.initial_data("reconciler", values)


@pytest.fixture
def office(repo: Repo) -> Office:
    return Office(repo)


class TestEmail:
    def test_email_arrives_with_headers_and_text(self, office: Office, start: Start, mailbox: Mailbox) -> None:
        office.mail(start(), subject="Welkom, Ada ✓", text="Dag Ada,\n\n.eerste punt\nje wachtwoord: p@ss “1”\n")
        (message,) = mailbox.messages
        assert message["From"] == "it@example.com"
        assert message["To"] == "ada@example.com"
        assert message["Subject"] == "Welkom, Ada ✓"
        assert message["Date"].datetime == dt.datetime(2026, 12, 1, 9, tzinfo=dt.UTC)
        assert message["Message-ID"].endswith("@example.com>")
        assert message["Auto-Submitted"] == "auto-generated"
        assert message.get_content_type() == "text/plain"
        assert message.get_content() == "Dag Ada,\n\n.eerste punt\nje wachtwoord: p@ss “1”\n"
        (envelope,) = mailbox.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("it@example.com", ["ada@example.com"])

    def test_a_name_beside_the_address(self, office: Office, start: Start, mailbox: Mailbox) -> None:
        office.mail(start(), to=" Ada Lovelace <ada@example.com> ")
        assert mailbox.envelopes[0].rcpt_tos == ["ada@example.com"]

    def test_an_address_of_any_letters(self, office: Office, start: Start, mailbox: Mailbox) -> None:
        office.mail(start(), to="Zo\u00eb <ada@b\u00fccher.example>")
        office.mail(start(enable_SMTPUTF8=True), to="zo\u00eb@example.com")
        assert [envelope.rcpt_tos for envelope in mailbox.envelopes] == [
            ["ada@xn--bcher-kva.example"],
            ["zo\u00eb@example.com"],
        ]
        assert "SMTPUTF8 is not supported by this server" in office.mail_refused(
            start(enable_SMTPUTF8=False), to="zo\u00eb@example.com"
        )

    @pytest.mark.parametrize(
        "subject",
        ["Hello\nBcc: eve@example.com", "Hello\r\n\r\nbody", "Hello\u2028Bcc: eve@example.com", "Hello\x0b\x0cthere\n"],
        ids=["LF", "CRLF", "a line separator", "form feeds"],
    )
    def test_a_subject_stays_one_line(self, office: Office, start: Start, mailbox: Mailbox, subject: str) -> None:
        office.mail(start(), subject=subject)
        (message,) = mailbox.messages
        assert message["Subject"] == " ".join(subject.split())
        assert message["Bcc"] is None
        assert message.get_content() == "Hello Ada\n"
        assert mailbox.envelopes[0].rcpt_tos == ["ada@example.com"]

    @pytest.mark.parametrize(
        ("to", "said"),
        [
            ("ada@example.com\nBcc: eve@example.com", "cannot be sent as they are"),
            ("", "`to` is not an address"),
            ("ada", "`to` is not an address"),
            ("ada@example.com <", "`to` is not an address"),
        ],
    )
    def test_an_address_that_is_none(self, office: Office, start: Start, mailbox: Mailbox, to: str, said: str) -> None:
        assert said in office.mail_refused(start(), to=to)
        assert mailbox.messages == []

    def test_half_a_character(self, office: Office, start: Start, mailbox: Mailbox) -> None:
        assert "cannot be sent as they are" in office.mail_refused(start(), text="\ud800")
        assert mailbox.messages == []

    def test_delivery_without_a_listener_fails(self, office: Office) -> None:
        port = free_port()
        assert office.mail_refused(port).startswith(f"127.0.0.1:{port}: ")

    def test_a_recipient_that_is_refused(self, office: Office, start: Start, mailbox: Mailbox) -> None:
        mailbox.recipient_answer = "550 no such user here"
        port = start()
        assert office.mail_refused(port) == f"127.0.0.1:{port}: answered 550 no such user here"

    def test_a_message_that_is_refused(self, office: Office, start: Start, mailbox: Mailbox) -> None:
        mailbox.data_answer = "554 looks like spam"
        port = start()
        assert office.mail_refused(port) == f"127.0.0.1:{port}: answered 554 looks like spam"

    def test_a_server_that_has_the_message_and_does_not_part(
        self, office: Office, start: Start, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("reconciler.notify.delivery.GOODBYE_SECONDS", 0.1)
        mailbox.parts = False
        office.mail(start(), limits={"timeout": "2s"})
        assert len(mailbox.messages) == 1

    def test_silent_mail_server(self, office: Office) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody takes them
            port = silent.getsockname()[1]
            assert office.mail_refused(port, limits={"timeout": 0.3}).endswith("took longer than 0.3 s")


class TestEncryption:
    def test_starttls_auto_accepts_any_certificate(
        self, office: Office, start: Start, mailbox: Mailbox, tls: ssl.SSLContext
    ) -> None:
        office.mail(start(tls_context=tls))
        office.mail(start())
        assert mailbox.encrypted == [True, False]

    def test_never_leaves_it(self, office: Office, start: Start, mailbox: Mailbox, tls: ssl.SSLContext) -> None:
        office.mail(start(tls_context=tls), starttls="never")
        assert mailbox.encrypted == [False]

    def test_always_insists(
        self,
        office: Office,
        start: Start,
        mailbox: Mailbox,
        tls: ssl.SSLContext,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert "STARTTLS" in office.mail_refused(start(), starttls="always")
        port = start(tls_context=tls, require_starttls=True)
        assert "certificate" in office.mail_refused(port, starttls="always").lower()
        assert mailbox.messages == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        office.mail(port, starttls="always")
        assert mailbox.encrypted == [True]


class TestLogin:
    @pytest.fixture
    def port(self, start: Start, mailbox: Mailbox) -> int:
        return start(authenticator=mailbox.authenticate, auth_require_tls=False, auth_required=True)

    def test_the_password_comes_from_the_initial_data(self, office: Office, port: int, mailbox: Mailbox) -> None:
        office.secrets(SMTP_PASSWORD=PASSWORD)
        office.mail(port, username="mailer")
        assert len(mailbox.messages) == 1
        assert office.redactor.redact(f"it was {PASSWORD}") == "it was ***"

    def test_a_wrong_password(self, office: Office, port: int, mailbox: Mailbox) -> None:
        office.secrets(SMTP_PASSWORD="not-the-pa55word")
        said = office.mail_refused(port, username="mailer")
        assert said.startswith(f"127.0.0.1:{port}: answered 535")
        assert "not-the-pa55word" not in said
        assert mailbox.messages == []

    def test_no_password(self, office: Office, port: int) -> None:
        said = "SMTP_PASSWORD is missing: `reconcile initial-data set reconciler` asks for it"
        assert office.mail_refused(port, username="mailer") == said
        office.secrets(TWILIO_AUTH_TOKEN=TOKEN)
        assert office.mail_refused(port, username="mailer") == said

    def test_initial_data_that_does_not_open(self, office: Office, port: int) -> None:
        office.repo.write("config/initial_data/reconciler.yaml.gpg", b"not a message")
        assert "config/initial_data/reconciler.yaml.gpg" in office.mail_refused(port, username="mailer")


class TestText:
    @pytest.fixture
    def twilio(self, service: Service) -> Service:
        service.route("POST", "/2010-04-01/Accounts/AC7/Messages.json", lambda _: (201, {"sid": "SM1"}))
        return service

    def send(self, office: Office, url: str, text: str = "Hello & welcome ✓") -> None:
        keys = {"account_sid": "AC7", "from_number": "+15005550006", "url": url}
        office.run(lambda post: post.text("+31201234567", text), twilio=keys)

    def refused(self, office: Office, url: str) -> str:
        with pytest.raises(NotSent) as caught:
            self.send(office, url)
        return str(caught.value)

    def test_text_message_request(self, office: Office, twilio: Service) -> None:
        office.secrets(TWILIO_AUTH_TOKEN=TOKEN)
        self.send(office, f"{twilio.url}/")
        (sent,) = twilio.requests
        assert sent.form() == {"To": ["+31201234567"], "From": ["+15005550006"], "Body": ["Hello & welcome ✓"]}
        assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert base64.b64decode(sent.headers["Authorization"].removeprefix("Basic ")).decode() == f"AC7:{TOKEN}"
        credentials = base64.b64encode(f"AC7:{TOKEN}".encode()).decode()
        assert TOKEN not in office.redactor.redact(f"{TOKEN} {credentials}")

    def test_a_refusal(self, office: Office, twilio: Service) -> None:
        office.secrets(TWILIO_AUTH_TOKEN=TOKEN)
        twilio.fail_next(1, 400, body={"code": 21211, "message": f"The 'To' number\nis not valid, {TOKEN}"})
        said = """Twilio answered 400: {"code": 21211, "message": "The 'To' number\\nis not valid, ***"}"""
        assert self.refused(office, twilio.url) == said

    def test_it_is_down(self, office: Office) -> None:
        office.secrets(TWILIO_AUTH_TOKEN=TOKEN)
        port = free_port()
        assert self.refused(office, f"http://127.0.0.1:{port}").startswith(f"POST 127.0.0.1:{port}: no connection")

    def test_only_https_off_this_machine(self, office: Office) -> None:
        office.secrets(TWILIO_AUTH_TOKEN=TOKEN)
        assert "only https is allowed" in self.refused(office, "http://twilio.example.com")

    def test_no_token(self, office: Office, twilio: Service) -> None:
        assert self.refused(office, twilio.url).startswith("TWILIO_AUTH_TOKEN is missing")
        assert twilio.requests == []

    def test_no_twilio(self, office: Office) -> None:
        with pytest.raises(NotSent, match=r"texts need `twilio` in config/reconciler\.yaml"):
            office.run(lambda post: post.text("+31201234567", "Hello"))
