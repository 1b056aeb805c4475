"""A repository with every kind of secret in it, the services that it speaks of, and the program run on it.

The services give back all that they are sent, head and body, and say what else they do: `mode` is the status that they
answer with, or what goes wrong. The mail server does the same.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import yaml

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.oauth.connection import stored_record
from reconciler.secrets.gpg import Gnupg
from tests.canary.canaries import INITIAL, value
from tests.engine.harness import Hands
from tests.repo import Repo, store_tokens
from tests.servers import Received, Reply, Service


class Echo(Service):
    """A service that answers with what it was asked, and remembers the generated values that it was sent."""

    def __init__(self) -> None:
        self.mode: int | str = 200
        self.token_mode: int = 200
        self.options_mode: int = 200
        self.generated: dict[str, str] = {}
        self.webhooks: list[bytes] = []
        super().__init__()
        self.on(lambda connection, received: connection.answer(self._webhook(received)), times=None, prefix="/webhook")
        self.on(lambda connection, received: connection.answer(self._token(received)), times=None, prefix="/oauth")
        self.on(lambda connection, received: connection.answer(self._options(received)), times=None, prefix="/teams")
        self.on(self._act, times=None)

    def _act(self, connection: Any, received: Received) -> None:
        with suppress(ValueError, KeyError, TypeError):
            self.generated[f"generated {len(self.generated)}"] = received.json()["password"]
        if received.method == "GET" and self.mode != "exists":
            connection.answer(Reply(404, _echoed(received)))
            return
        match self.mode:
            case int():
                connection.answer(Reply(self.mode, _echoed(received)))
            case "redirect":
                secret = received.headers["X-Key"]
                connection.answer(Reply(302, _echoed(received), {"Location": f"{self.url}/{secret}?{secret}"}))
            case "hang":
                while not self._closing.wait(0.01):
                    pass
            case "garbage":
                connection.send(b"HTTP/1.1 2xx " + received.headers["Authorization"].encode() + b"\r\n\r\n")
                connection.drop()
            case _:
                connection.answer(Reply(200, _echoed(received)))

    def _webhook(self, received: Received) -> Reply:
        self.webhooks.append(received.body)
        return Reply(200)

    def _token(self, received: Received) -> Reply:
        said = received.form().get("refresh_token", ["?"])[0]
        if self.token_mode == 200:
            return Reply(200, {**tokens(), "expires_in": 3600})
        return Reply(self.token_mode, {"error": said, "error_description": said, "echo": _echoed(received)})

    def _options(self, received: Received) -> Reply:
        options = [{"gid": "7", "name": f"team of {received.target} {received.headers['Authorization']}"}]
        return Reply(self.options_mode, {"data": options, "echo": _echoed(received)})


def _echoed(received: Received) -> dict[str, Any]:
    return {
        "target": received.target,
        "headers": dict(received.headers.items()),
        "body": received.body.decode("utf-8", "replace"),
    }


class Mail:
    """A mail server that refuses every message, and gives back what it heard, the password included."""

    def __init__(self) -> None:
        self.refuse_login = False
        mail = self
        self.alerts: list[bytes] = []

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 mail\r\n")
                heard: list[bytes] = []
                while line := self.rfile.readline():
                    heard.append(line.strip())
                    word = line[:4].upper()
                    if word == b"EHLO":
                        self.wfile.write(b"250-mail\r\n250 AUTH PLAIN LOGIN\r\n")
                    elif word == b"AUTH":
                        self.wfile.write((b"535 no: " + line.strip() if mail.refuse_login else b"235 ok") + b"\r\n")
                    elif word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b""
                        while (part := self.rfile.readline()) != b".\r\n":
                            text += part
                        if b"Subject: Access:" in text:
                            mail.alerts.append(text)
                        body = text.partition(b"\r\n\r\n")[2].splitlines()
                        said = [b"spam:", *body, *b" ".join(heard)[:500].splitlines()]
                        self.wfile.writelines(b"554-" + line + b"\r\n" for line in said)
                        self.wfile.write(b"554 end\r\n")
                    elif word == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    else:
                        self.wfile.write(b"250 ok\r\n")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Session)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1)


def tokens() -> dict[str, Any]:
    names = ("access_token", "refresh_token", "id_token")
    return {**{name: value(name) for name in names}, "team": {"bot": {"token": value("bot")}}}


def stage(repo: Repo, echo: Echo, mail: Mail, **changes: Mapping[str, Any]) -> Repo:
    """The repository, committed; `changes` replace parts of the tool's manifest."""
    repo.write(".gitignore", ".reconciler/\n")
    repo.settings(
        smtp={"host": "127.0.0.1", "port": mail.port, "username": "bot"},
        twilio={"account_sid": "AC1", "from_number": "+1", "url": f"{echo.url}/twilio"},
        alerts=[{"email": "it@example.com"}, {"webhook": f"{echo.url}/webhook"}],
        retry_delay=0,
    )
    repo.manifest("tool", {**_tool(echo), **changes})
    repo.manifest("cloud", _cloud(echo))
    repo.initial_data("tool", {**{name: value(name) for name in INITIAL}, "PEM": value("PEM"), "OPEN": "plain-to-see"})
    repo.initial_data("cloud", {name: value(name) for name in ("CLIENT_ID", "CLIENT_SECRET")})
    repo.initial_data("reconciler", {name: value(name) for name in ("SMTP_PASSWORD", "TWILIO_AUTH_TOKEN")})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, "cloud", phone="+2")
    repo.commit()
    return repo


def settings_of(repo: Repo) -> dict[str, Any]:
    """What the repository's settings say."""
    found: dict[str, Any] = yaml.safe_load((repo.root / "config/reconciler.yaml").read_text())
    return found


def _tool(echo: Echo) -> dict[str, Any]:
    url = echo.url
    return {
        "form": [
            {
                "id": "TEAM",
                "name": "Team",
                "type": "choice",
                "url": f"{url}/teams?key={{{{URL_KEY}}}}",
                "method": "GET",
                "data_from": "data",
                "choice_value": "gid",
            }
        ],
        "exists": {
            "url": f"{url}/people/{{{{email}}}}?k={{{{URL_KEY}}}}",
            "expected": "{{email}}",
            "fail_when_4xx_response_code": False,
        },
        "execute": [
            {
                "url": f"{url}/json/{{{{URL_KEY}}}}/{{{{OPEN}}}}",
                "data": {"token": "{{BODY}}", "pem": "{{PEM}}", "password": "{{PASSWORD}}"},
                "store_data": {"SEEN": "headers.Authorization"},
            },
            {
                "url": f"{url}/form?{{{{KEY}}}}={{{{PASSWORD}}}}&seen={{{{SEEN}}}}&again={{{{responses.0.body}}}}",
                "headers": {
                    "Authorization": "Basic {{USER}}:{{KEY}}",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "X-Key": "{{HEADER_KEY}}",
                },
                "data": {"token": "{{BODY}}", "pem": "{{PEM}}"},
            },
        ],
        "headers": {"Authorization": "Bearer {{TOKEN}}", "X-Key": "{{HEADER_KEY}}"},
        "initial_data_form": [
            *({"id": name, "name": name} for name in (*INITIAL, "PEM")),
            {"id": "OPEN", "name": "Open", "secret": False},
            {"id": "PASSWORD", "name": "generate"},
        ],
        "post_execute_notification": [
            {
                "type": "email",
                "to": "{{email}}",
                "subject": "Hello",
                "message": "Your password: {{PASSWORD}} {{TOKEN}}",
            },
            {"type": "text", "to": "+2", "message": "{{PASSWORD}} {{KEY}}"},
        ],
    }


def _cloud(echo: Echo) -> dict[str, Any]:
    url = echo.url
    refresh = {"refresh_token": "{{oauth.refresh_token}}", "client_secret": "{{CLIENT_SECRET}}"}
    return {
        "oauth": {
            "authenticate_url": f"{url}/oauth/authorize?client_id={{{{CLIENT_ID}}}}",
            "access_token": {"url": f"{url}/oauth/token", "data": {"client_secret": "{{CLIENT_SECRET}}"}},
            "refresh": {"url": f"{url}/oauth/refresh?{{{{CLIENT_ID}}}}", "data": refresh},
        },
        "exists": {
            "url": f"{url}/cloud/{{{{email}}}}/{{{{oauth.team.bot.token}}}}",
            "expected": "{{email}}",
            "fail_when_4xx_response_code": False,
        },
        "execute": [
            {
                "url": f"{url}/cloud?token={{{{oauth.access_token}}}}",
                "data": {"id": "{{oauth.id_token}}", "all": "{{oauth.team}}"},
                "store_data": {"ECHO": "body"},
            },
            {"url": f"{url}/cloud/{{{{ECHO}}}}/{{{{oauth.id_token}}}}"},
        ],
        "headers": {"Authorization": "Bearer {{oauth.access_token}}", "X-Key": "{{CLIENT_SECRET}}"},
        "initial_data_form": [{"id": name, "name": name} for name in ("CLIENT_ID", "CLIENT_SECRET")],
    }


def connect(repo: Repo, *, expired: bool = False) -> None:
    """Have tokens in the state, as after `oauth connect`."""
    assert repo.gnupg is not None
    gnupg = Gnupg(repo.gnupg.path)
    ledger = StateLocation(f"sqlite:///{repo.state}", repo.root).writer()
    try:
        vault = open_vault(ledger, gnupg, Trust((repo.gnupg.fingerprint,)))
        lifetime = {"expires_in": 1 if expired else 10**8}
        store_tokens(ledger, vault, "cloud", stored_record({**tokens(), **lifetime}, None, Hands().now()))
    finally:
        ledger.close()


def state_bytes(repo: Repo) -> dict[str, bytes]:
    """Every file of the state, with whatever SQLite left beside it."""
    return {path.name: path.read_bytes() for path in repo.state.parent.iterdir()}


def as_text(content: Any) -> str:
    return json.dumps(content)
