"""Real HTTP services on loopback, for tests that would learn nothing from a mock.

A `Service` runs in threads of its own on a port of its own, so that sync and async tests and other processes use it
alike. It writes down every request in the order of arrival and answers from its routes, unless a rule that the test
set before says otherwise: fail, drop, hang, drip, flood, redirect. Rules are looked at in the order they were set.
`AccountService` is a small SaaS tool on top: people, teams, a paged listing.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

PATIENCE = 60.0
"""Seconds after which a test gives up on what never comes: many times what it takes on a machine that is slow. What
must not be waited for takes longer than this, or for ever; so no test has to tell a slow machine from a wrong program.
"""

SO_TIMESTAMPNS = 35
"""Linux's option of a socket by which the kernel says when the bytes arrived that are read."""


@dataclass(frozen=True)
class Received:
    """One request as it came: `path` decoded, `target` as on the wire, `headers` in any case.

    `at` is the time when its first byte arrived, in seconds since 1970: the kernel's, where that tells, however late
    the service's thread comes to its turn.
    """

    method: str
    path: str
    target: str
    query: dict[str, list[str]]
    headers: Message[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode(), keep_blank_values=True)


@dataclass
class Reply:
    """What to answer. `body` is bytes, text, or anything that JSON can hold."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, dict[str, str]]:
        if isinstance(self.body, bytes):
            return self.body, self.headers
        if isinstance(self.body, str):
            return self.body.encode(), {"Content-Type": "text/plain; charset=utf-8", **self.headers}
        return json.dumps(self.body).encode(), {"Content-Type": "application/json", **self.headers}


Handler = Callable[..., Any]
"""Takes the request and the path's parameters; gives a Reply, a (status, body) pair, a bare status or a body."""

Act = Callable[["Connection", Received], None]


class Crowd:
    """The requests whose answer somebody waits for, at one service or at several together.

    What a client has given up is none of them: its connection is closed, and another request may have its place.
    """

    def __init__(self) -> None:
        self.most = 0
        """The most at one time."""
        self._waiting: set[socket.socket] = set()
        self._lock = threading.Lock()

    def join(self, client: socket.socket) -> None:
        with self._lock:
            self._waiting.add(client)
            self.most = max(self.most, sum(map(_waits, self._waiting)))

    def leave(self, client: socket.socket) -> None:
        """To be called before an answer is whole: whoever has it may send the next request at once."""
        with self._lock:
            self._waiting.discard(client)


def _waits(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@dataclass
class _Rule:
    method: str | None
    prefix: str
    left: int | None
    act: Act

    def takes(self, received: Received) -> bool:
        fits = self.method in (None, received.method) and received.path.startswith(self.prefix)
        if not fits or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Service:
    """A scripted HTTP service. Use it as a context manager, or call `close`; both take a second at most.

    Its requests are counted by themselves, and in the `crowds` that it shares with other services.
    """

    def __init__(self, *, crowds: Iterable[Crowd] = ()) -> None:
        self.requests: list[Received] = []
        self.errors: list[str] = []
        self.delay = 0.0
        """Seconds that every routed answer takes, for tests that count what runs side by side."""
        self._crowds = (Crowd(), *crowds)
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._closing = threading.Event()
        self._server = _Server(self)
        self.port: int = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, cut every connection, and tell of handlers that broke."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._server.socket.shutdown(socket.SHUT_RDWR)  # which wakes whoever waits for a connection
        self._thread.join(1)
        self._server.server_close()
        self._server.cut()
        assert not self.errors, "\n".join(self.errors)

    def stop_listening(self) -> None:
        """From now on connections are refused and open ones are cut, as if the service were down."""
        self.close()

    # What the service does

    def route(self, method: str, path: str, handler: Handler | Reply | dict[str, Any] | list[Any]) -> None:
        """Answer `method path` with a handler or a fixed answer; `{name}` in the path is a segment, passed by name."""
        pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
        call: Handler = handler if callable(handler) else lambda _received, **_: handler
        self._routes.insert(0, (method, pattern, call))

    def on(self, act: Act, *, times: int | None = 1, method: str | None = None, prefix: str = "/") -> None:
        """Set a rule: the next `times` requests that fit are left to `act`; None is for ever."""
        with self._lock:
            self._rules.append(_Rule(method, prefix, times, act))

    def clear(self) -> None:
        """Forget all rules; routes stay."""
        with self._lock:
            self._rules.clear()

    def fail_next(
        self,
        times: int | None,
        status: int,
        *,
        method: str | None = None,
        prefix: str = "/",
        headers: dict[str, str] | None = None,
        body: Any = b"",
    ) -> None:
        """Answer the next requests with a status and do nothing; `headers` may hold a Retry-After."""
        reply = Reply(status, body, headers or {})
        self.on(lambda connection, _: connection.answer(reply), times=times, method=method, prefix=prefix)

    def redirect(self, to: str, *, status: int = 302, times: int | None = 1, prefix: str = "/") -> None:
        """Send the next requests elsewhere."""
        self.fail_next(times, status, prefix=prefix, headers={"Location": to})

    def drop_after_commit(self, times: int | None = 1, *, method: str | None = None, prefix: str = "/") -> None:
        """Handle the next requests, so that what they ask for happens, and hang up without an answer."""

        def act(connection: Connection, received: Received) -> None:
            self.handle(received)
            connection.drop()

        self.on(act, times=times, method=method, prefix=prefix)

    def drop(self, times: int | None = 1, *, method: str | None = None, prefix: str = "/") -> None:
        """Hang up on the next requests, and do nothing."""
        self.on(lambda connection, _: connection.drop(), times=times, method=method, prefix=prefix)

    def hang(self, times: int | None = 1, *, method: str | None = None, prefix: str = "/") -> threading.Event:
        """Hold the next requests until the event that this returns is set, then handle them and answer."""
        release = threading.Event()

        def act(connection: Connection, received: Received) -> None:
            while not release.is_set() and not self._closing.wait(0.01):
                pass
            if release.is_set():
                connection.answer(self.handle(received))
            else:
                connection.drop()

        self.on(act, times=times, method=method, prefix=prefix)
        return release

    def drip(self, pause: float = 0.05, *, times: int | None = 1, method: str | None = None, prefix: str = "/") -> None:
        """Answer byte by byte and never come to an end: `pause` seconds between two."""

        def act(connection: Connection, _received: Received) -> None:
            connection.begin(200, {"Content-Type": "text/plain", "Connection": "close"})
            while not self._closing.wait(pause):
                connection.send(b".")
            connection.drop()

        self.on(act, times=times, method=method, prefix=prefix)

    def flood(
        self, size: int = 64 << 20, *, times: int | None = 1, method: str | None = None, prefix: str = "/"
    ) -> None:
        """Answer with `size` bytes, 64 KiB at a time, for as long as somebody reads them."""

        def act(connection: Connection, _received: Received) -> None:
            connection.begin(200, {"Content-Type": "text/plain", "Content-Length": str(size)})
            piece = b"x" * (64 << 10)
            for _ in range(size // len(piece)):
                if self._closing.is_set():
                    break
                connection.send(piece)
            connection.drop()

        self.on(act, times=times, method=method, prefix=prefix)

    # What happened

    @property
    def busiest(self) -> int:
        """The most requests at one time whose answer somebody waited for."""
        return self._crowds[0].most

    def calls(self, method: str | None = None, prefix: str = "/") -> list[Received]:
        """The requests so far that fit, in the order of arrival."""
        return [r for r in list(self.requests) if method in (None, r.method) and r.path.startswith(prefix)]

    def lines(self) -> list[str]:
        """`GET /users/ada@example.com` and so on, for short assertions."""
        return [f"{r.method} {r.path}" for r in list(self.requests)]

    # Under the hood

    def _listen(self) -> None:
        while not self._closing.is_set():
            self._server.handle_request()

    def handle(self, received: Received) -> Reply:
        """The routed answer, state changes and all."""
        if self.delay:
            self._closing.wait(self.delay)
        for method, pattern, handler in self._routes:
            found = pattern.fullmatch(received.path)
            if found and method == received.method:
                return _reply(handler(received, **found.groupdict()))
        return Reply(404, {"error": f"no route for {received.method} {received.path}"})

    def arrived(self, connection: Connection, received: Received) -> None:
        """Write a request down and answer it."""
        for crowd in self._crowds:
            crowd.join(connection.connection)
        with self._lock:
            self.requests.append(received)
            rule = next((rule for rule in self._rules if rule.takes(received)), None)
        try:
            if rule is not None:
                rule.act(connection, received)
            else:
                connection.answer(self.handle(received))
        except OSError:
            connection.drop()
        except Exception:  # noqa: BLE001  a broken handler has to fail the test, not end a thread unseen
            self.errors.append(traceback.format_exc())
            connection.answer(Reply(500, "the test's handler broke"))

    def over(self, connection: Connection) -> None:
        """Nobody waits for this request's answer from now on."""
        for crowd in self._crowds:
            crowd.leave(connection.connection)


def _reply(answer: Any) -> Reply:
    match answer:
        case Reply():
            return answer
        case int():
            return Reply(answer)
        case (int() as status, body):
            return Reply(status, body)
        case _:
            return Reply(200, answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, service: Service) -> None:
        self.service = service
        self._open: set[socket.socket] = set()
        self._guard = threading.Condition()
        super().__init__(("127.0.0.1", 0), Connection)
        if sys.platform == "linux":
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # which each connection has of it

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._open.discard(request)
                self._guard.notify_all()

    def cut(self) -> None:
        """Shut every connection and give the threads that serve them a second to notice."""
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with self._guard:
                for connection in self._open:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                if not self._open:
                    return
                self._guard.wait(0.005)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up on us is part of the test."""


class Connection(BaseHTTPRequestHandler):
    """One connection to a service, as an `Act` has it."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            _, told, _, _ = self.connection.recvmsg(1, 64, socket.MSG_PEEK)
            self._at = next((_seconds(data) for _, kind, data in told if kind == SO_TIMESTAMPNS), time.time())
            super().handle_one_request()
            return
        self.close_connection = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # whatever the method, it is the service's to answer
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # whoever sent it died in the middle: that was no request
            self.drop()
            return
        parts = urlsplit(self.path)
        received = Received(
            method=self.command,
            path=unquote(parts.path),
            target=self.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=self.headers,
            body=body,
            at=self._at,
        )
        self.server.service.arrived(self, received)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer."""
        self.send(self._head(status, headers))

    def answer(self, reply: Reply) -> None:
        """A whole answer, in one packet where it fits."""
        body, headers = reply.encoded()
        bare = self.command == "HEAD" or reply.status in (204, 304) or reply.status < 200
        length = {} if reply.status == 204 else {"Content-Length": str(len(body))}
        self.server.service.over(self)
        self.send(self._head(reply.status, {**length, **headers}) + (b"" if bare else body))

    def send(self, piece: bytes) -> None:
        """Bytes, at once. OSError where nobody reads them any more."""
        self.wfile.write(piece)

    def drop(self) -> None:
        """Hang up."""
        self.server.service.over(self)
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        reason = self.responses.get(status, ("",))[0]
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        """Say nothing: `requests` has it all."""


def _seconds(timespec: bytes) -> float:
    seconds, nanoseconds = struct.unpack("ll", timespec)
    return float(seconds + nanoseconds / 1e9)


class AccountService(Service):
    """A SaaS tool as most have it: people by address, teams, a paged listing.

    `created` counts how often somebody was made, whatever happened to them since. With a `token`, every request needs
    `Authorization: Bearer <token>`.
    """

    def __init__(self, token: str | None = None, *, crowds: Iterable[Crowd] = ()) -> None:
        self.token = token
        self.people: dict[str, dict[str, Any]] = {}
        self.created: Counter[str] = Counter()
        self.teams: dict[str, list[str]] = {}
        self._made = 0
        self._state = threading.RLock()
        super().__init__(crowds=crowds)
        self.route("GET", "/users", self._list)
        self.route("POST", "/users", self._create)
        self.route("GET", "/users/{email}", self._show)
        self.route("DELETE", "/users/{email}", self._delete)
        self.route("PATCH", "/users/{email}", self._change)
        self.route("GET", "/teams", self._teams)
        self.route("POST", "/teams/{team}/members", self._join)

    def handle(self, received: Received) -> Reply:
        if self.token is not None and received.headers.get("Authorization") != f"Bearer {self.token}":
            return Reply(401, {"error": "not authorized"})
        return super().handle(received)

    def add(self, *emails: str) -> None:
        """People whom somebody else made; they are not counted in `created`."""
        with self._state:
            for email in emails:
                self._made += 1
                self.people[email.lower()] = {"id": str(self._made), "email": email}

    def manifest(self, *, listing: bool = False, team: bool = False, revoke: bool = False) -> dict[str, Any]:
        """A manifest for this service, as plain data; `team` adds a form and a second request."""
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = "Bearer {{TOKEN}}"
        whole: dict[str, Any] = {
            "exists": {"url": f"{self.url}/users/{{{{email}}}}", "expected": "{{email}}"},
            "execute": [
                {"url": f"{self.url}/users", "data": {"email": "{{email}}", "name": "{{first_name}} {{last_name}}"}}
            ],
            "headers": headers,
        }
        whole["exists"]["fail_when_4xx_response_code"] = False
        if self.token is not None:
            whole["initial_data_form"] = [{"id": "TOKEN", "name": "Token", "description": "From the settings page"}]
        if listing:
            whole["exists"]["list"] = {
                "url": f"{self.url}/users?limit=100",
                "data_from": "users",
                "match": "email",
                "next_page_from": "next_page.uri",
            }
        if team:
            whole["form"] = [{"id": "TEAM", "name": "Team", "type": "input"}]
            whole["execute"].append({"url": f"{self.url}/teams/{{{{TEAM}}}}/members", "data": {"email": "{{email}}"}})
        if revoke:
            whole["revoke"] = [{"url": f"{self.url}/users/{{{{email}}}}", "method": "DELETE"}]
        return whole

    def lockable(self) -> dict[str, Any]:
        """A manifest that can switch an account off and on, and delete it."""
        url = f"{self.url}/users/{{{{email}}}}"
        whole = self.manifest(revoke=True)
        whole["exists"]["inactive"] = {"active": False}
        whole["update"] = [{"url": url, "method": "PATCH", "data": {"active": True}}]
        whole["lock"] = [{"url": url, "method": "PATCH", "data": {"active": False}}]
        whole["revoke_deletes"] = True
        return whole

    def _list(self, received: Received) -> Any:
        limit = int(received.query.get("limit", ["50"])[0])
        page = int(received.query.get("page", ["1"])[0])
        with self._state:
            everyone = list(self.people.values())
        shown = everyone[(page - 1) * limit : page * limit]
        more = page * limit < len(everyone)
        following = {"uri": f"{self.url}/users?limit={limit}&page={page + 1}"} if more else None
        return {"users": shown, "next_page": following}

    def _create(self, received: Received) -> Any:
        person = received.json()
        email = person["email"].lower()
        with self._state:
            if email in self.people:
                return 409, {"error": "there is one already"}
            self._made += 1
            self.created[email] += 1
            self.people[email] = {**person, "id": str(self._made)}
            return 201, self.people[email]

    def _show(self, _received: Received, email: str) -> Any:
        with self._state:
            person = self.people.get(email.lower())
        return (404, {"error": "no such person"}) if person is None else person

    def _delete(self, _received: Received, email: str) -> Any:
        with self._state:
            gone = self.people.pop(email.lower(), None)
        return 404 if gone is None else 204

    def _change(self, received: Received, email: str) -> Any:
        with self._state:
            person = self.people.get(email.lower())
            if person is None:
                return 404, {"error": "no such person"}
            person |= received.json()
            return person

    def _teams(self, _received: Received) -> Any:
        with self._state:
            return {"data": [{"id": team, "name": f"Team {team}"} for team in self.teams]}

    def _join(self, received: Received, team: str) -> Any:
        with self._state:
            self.teams.setdefault(team, []).append(received.json()["email"].lower())
        return {"team": team}


def eventually(condition: Callable[[], Any]) -> Any:
    """Look at a condition until it holds, and give what it gave; for what another process or thread does."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < until, f"did not happen within {PATIENCE:g} seconds"
        time.sleep(0.02)
    return value


def listens(server: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Whether a server that was started takes connections by now; it must not have ended."""
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        assert server.poll() is None, f"{server.args!r} ended"
        return False
    return True


def ask(
    url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Message[str, str], bytes]:
    """One request over a connection of its own, nothing followed and nothing retried: (status, headers, bytes)."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
