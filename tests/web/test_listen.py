"""What strangers may do to `listen`: open connections and leave them, drip, ask under a foreign name."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from threading import Event, Thread

import pytest

from reconciler.web.serve import MAX_CONNECTIONS
from tests.repo import Daemon, Repo
from tests.servers import PATIENCE, ask, eventually

ATTACKERS = 300
DESCRIPTORS = 160
"""What the daemon may have open: its own, the connections that it bounds, and fewer than the attackers'."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all: what one stranger does must not change what the next is answered."""
    repo = Repo(tmp_path_factory.mktemp("listen") / "repo")
    for folder in ("hires", "manifests"):
        repo.write(f"{folder}/.gitkeep", "")
    repo.settings(interval="1d", public_url="https://access.example.com")
    repo.commit()
    with Daemon(repo, "--log-format", "json") as running:
        yield running


def address(daemon: Daemon) -> tuple[str, int]:
    host, _, port = daemon.repo.listen.rpartition(":")
    return host, int(port)


def exchange(daemon: Daemon, request: bytes) -> bytes:
    """All that is answered, up to the end of the connection."""
    with socket.create_connection(address(daemon), timeout=PATIENCE) as line:
        line.sendall(request)
        return b"".join(iter(lambda: line.recv(65536), b""))


def test_connections_that_are_opened_and_left_do_not_use_up_descriptors(daemon: Daemon) -> None:
    """Some strangers say nothing, others half a request."""
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    with ExitStack() as open_lines:
        lines = []
        for _, said in zip(range(ATTACKERS), cycle((b"", b"GET /healthz HTTP/1.1\r\nHost: loc")), strict=False):
            line = open_lines.enter_context(socket.socket())
            line.settimeout(PATIENCE)
            line.connect(address(daemon))
            line.setblocking(False)
            lines.append(line)
            with suppress(OSError):  # one over the number is closed already
                line.send(said)
        # The attackers stay: those that were let in are closed when their time is over.
        eventually(lambda: healthy(daemon))
        eventually(lambda: all(closed(line) for line in lines))
    assert daemon.running
    assert daemon.get("/healthz")[0] == 200
    assert "out of system resource" not in daemon.log
    assert "Too many open files" not in daemon.log


def test_health_is_answered_while_connections_come_without_end(daemon: Daemon) -> None:
    over, opened = Event(), list[socket.socket]()

    def flood() -> None:
        """Open connections, and leave them; every other one has sent half a form."""
        form = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\ntoken="
        with ExitStack() as open_lines:
            for said in cycle((b"", form)):
                if over.wait(0.002 if len(opened) < MAX_CONNECTIONS else 0.02):
                    break
                with suppress(OSError):
                    line = open_lines.enter_context(socket.create_connection(address(daemon), timeout=PATIENCE))
                    opened.append(line)
                    line.sendall(said)

    floods = [Thread(target=flood) for _ in range(2)]
    for each in floods:
        each.start()
    try:
        eventually(lambda: len(opened) > MAX_CONNECTIONS)
        answers = [daemon.get(path)[0] for path in ("/healthz", "/readyz") * 20]
    finally:
        over.set()
        for each in floods:
            each.join()
    assert answers == [200] * 40


def healthy(daemon: Daemon) -> bool:
    try:
        return daemon.get("/healthz")[0] == 200
    except OSError:
        return False


def closed(line: socket.socket) -> bool:
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_request_that_drips_is_closed(daemon: Daemon) -> None:
    form = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\ntoken="
    with ExitStack() as open_lines:
        lines = [
            open_lines.enter_context(socket.create_connection(address(daemon), timeout=PATIENCE)) for _ in range(2)
        ]
        for line, said in zip(lines, (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ", form), strict=True):
            line.sendall(said)
            line.setblocking(False)

        def dripped(line: socket.socket) -> bool:
            try:
                line.send(b"a")
                while line.recv(1000):
                    pass
            except BlockingIOError:
                return False
            except OSError:
                return True
            return True

        eventually(lambda: [dripped(line) for line in lines] == [True, True])


def test_a_connection_carries_one_request(daemon: Daemon) -> None:
    request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = exchange(daemon, request + request)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer.lower()


def test_an_unknown_host_is_refused_on_every_path_and_its_own_names_are_answered(daemon: Daemon) -> None:
    def asked(path: str, host: str) -> bytes:
        return exchange(daemon, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    for path in ("/healthz", "/readyz", "/metrics", "/oauth/callback/tool", "/", "/nowhere"):
        for host in ("evil.example.com", "evil.example.com:80", "127.0.0.1.evil.example.com", "", "["):
            answer = asked(path, host)
            assert answer.startswith(b"HTTP/1.1 421 "), (path, host, answer)
    for path, status in (("/healthz", b"200"), ("/readyz", b"200"), ("/metrics", b"403")):
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9", "[::1]:80", "access.example.com"):
            answer = asked(path, host)
            assert answer.startswith(b"HTTP/1.1 %b " % status), (path, host, answer)


def test_off_loopback_a_health_check_by_address_is_answered(repo: Repo) -> None:
    """As from Kubernetes, which asks the address that it knows, whatever `listen` says."""
    repo.settings(interval="1d", listen=f"0.0.0.0:{repo.listen.rpartition(':')[2]}")
    repo.commit()
    with Daemon(repo) as running:
        for host, status in (("127.0.0.1", 200), ("10.9.8.7", 421), ("0.0.0.0", 200)):
            answer = exchange(running, f"GET /healthz HTTP/1.1\r\nHost: {host}:80\r\n\r\n".encode())
            assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


def test_all_that_is_logged_is_json_where_that_was_asked_for(daemon: Daemon) -> None:
    for request in (b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\x00 HTTP/9\r\n\r\n"):
        exchange(daemon, request)
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    exchange(daemon, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
    assert ask(daemon.url, "GET", "/healthz")[0] == 200
    lines = daemon.log.splitlines()
    assert next(json.loads(line)["event"] for line in lines) == "daemon.started"
    assert all(json.loads(line) for line in lines)


def test_off_loopback_no_header_opens_the_pages_but_that_of_a_trusted_proxy(repo: Repo) -> None:
    port = repo.listen.rpartition(":")[2]

    def trust(network: str) -> None:
        pages = {"trusted_header": "X-Forwarded-User", "trusted_proxies": [network]}
        repo.settings(interval="1d", listen=f"0.0.0.0:{port}", pages=pages)
        repo.commit()

    repo.settings(interval="1d", listen=f"0.0.0.0:{port}")
    repo.commit()
    with Daemon(repo) as running:

        def asked(path: str, *headers: str) -> bytes:
            lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
            return exchange(running, "\r\n".join(lines).encode()).partition(b"\r\n")[0].split()[1]

        said = ("X-Forwarded-User: grace", "X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https")
        assert {
            path: asked(path, *said) for path in ("/", "/people", "/history", "/metrics", "/nowhere")
        } == dict.fromkeys(("/", "/people", "/history", "/metrics", "/nowhere"), b"403")
        assert asked("/healthz") == asked("/readyz") == b"200"
        trust("10.0.0.0/8")
        eventually(lambda: asked("/", *said) == b"401")
        assert asked("/metrics", *said) == b"401"
        trust("127.0.0.0/8")
        eventually(lambda: asked("/", *said) == b"200")
        assert asked("/metrics", *said) == b"200"
        assert asked("/", "X-Forwarded-For: 127.0.0.1") == b"401"
