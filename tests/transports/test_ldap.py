"""LDAP as a transport, against a real slapd."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("ldap", reason="no python-ldap: pip install -r requirements-ldap.lock, see .ci/run")

from reconciler.model.errors import TransportError
from reconciler.transports.ldap.transport import Ldap
from reconciler.transports.messages import Response
from tests.repo import free_port
from tests.slapd import ADMIN, BASE, MISSING, Slapd
from tests.transports.watching import Progress, exchange, refused

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

ADA = {"objectClass": "inetOrgPerson", "cn": "Ada", "sn": "Lovelace", "mail": ["ada@example.com", "al@example.com"]}


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with Slapd() as made:
        yield made


@pytest.fixture(autouse=True)
def empty(slapd: Slapd) -> None:
    slapd.clear()


@pytest.fixture
async def directory():
    made = Ldap(30)
    yield made
    await made.aclose()


@pytest.fixture
def ask(slapd: Slapd, directory: Ldap) -> Any:
    async def ask(method: str, dn: str, query: str = "", data: Any = None, login: str = ADMIN) -> Response:
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        content = None if data is None else json.dumps(data).encode()
        return await exchange(directory, method, f"{slapd.url}/{quote(dn)}{query}", headers, content)

    return ask


PERSON = f"uid=ada,ou=people,{BASE}"


async def test_entries_are_added_found_modified_renamed_and_deleted(ask, slapd):
    added = await ask("POST", PERSON, data={**ADA, "description": None})
    assert (added.status, added.json()) == (200, {"result": 0, "message": ""})
    found = await ask("GET", f"ou=people,{BASE}", "?mail,cn?one?(uid=ada)")
    assert found.json() == [{"dn": PERSON, "cn": "Ada", "mail": ["ada@example.com", "al@example.com"]}]
    assert (await ask("GET", f"ou=people,{BASE}", "??one?uid=nobody")).json() == []
    change = {"add": {"title": "Countess"}, "replace": {"mail": "ada@example.com", "cn": ["Ada L"]}, "delete": {}}
    assert (await ask("PATCH", PERSON, data=change)).status == 200
    assert slapd.entries()[PERSON]["mail"] == [b"ada@example.com"]
    assert (await ask("PATCH", PERSON, data={"replace": {"title": None}, "delete": {"mail": []}})).status == 200
    assert {"title", "mail"}.isdisjoint(slapd.entries()[PERSON])
    moved = await ask("PUT", PERSON, data={"rdn": "uid=ada2", "superior": f"ou=groups,{BASE}"})
    assert moved.status == 200
    assert slapd.entries()[f"uid=ada2,ou=groups,{BASE}"]["uid"] == [b"ada2"]
    assert (await ask("DELETE", f"uid=ada2,ou=groups,{BASE}")).status == 200
    gone = await ask("GET", PERSON)
    assert (gone.status, gone.decided, gone.json()["result"]) == (404, True, 32)


async def test_results_have_a_status(ask):
    await ask("POST", PERSON, data=ADA)
    assert (await ask("POST", PERSON, data=ADA)).status == 409
    assert (await ask("PATCH", PERSON, data={"add": {"mail": "ada@example.com"}})).status == 409
    assert (await ask("DELETE", PERSON, login=f"cn=reader,{BASE}:read")).status == 403
    assert (await ask("POST", f"uid=b,ou=people,{BASE}", data={"objectClass": "nothing"})).status == 400
    wrong = await ask("GET", PERSON, login=f"cn=reader,{BASE}:wrong")
    assert (wrong.status, wrong.decided) == (401, False)
    broken = await ask("GET", PERSON, "??base?((uid=ada)")
    assert (broken.status, broken.decided) == (400, False)
    assert (await ask("GET", PERSON, login="")).status == 200


async def test_bytes_are_base64(ask, slapd):
    await ask("POST", PERSON, data={**ADA, "jpegPhoto": {"base64": "/9j/"}})
    assert slapd.entries()[PERSON]["jpegPhoto"] == [b"\xff\xd8\xff"]
    assert (await ask("GET", PERSON, "?jpegPhoto")).json() == [{"dn": PERSON, "jpegPhoto": "/9j/"}]
    with pytest.raises(TransportError, match="the base64 of jpegPhoto is none"):
        await ask("PATCH", PERSON, data={"replace": {"jpegPhoto": {"base64": "***"}}})


async def test_a_search_reads_all_its_pages(ask, slapd):
    """The server hands out five hundred at a time."""
    connection = slapd.connected()
    for number in range(1100):
        values = {"objectClass": [b"inetOrgPerson"], "cn": [b"x"], "sn": [b"x"]}
        connection.add_s(f"uid=p{number},ou=people,{BASE}", list(values.items()))
    found = await ask("GET", f"ou=people,{BASE}", "?uid?one?(objectClass=person)", login=f"cn=reader,{BASE}:read")
    assert len({each["uid"] for each in found.json()}) == 1100


async def test_a_connection_that_never_opened_has_no_effect(directory):
    error = await refused(directory, "DELETE", f"ldap://127.0.0.1:{free_port()}/{quote(PERSON)}")
    assert not error.left
    empty = {"Authorization": f"Basic {base64.b64encode(b'cn=admin:').decode()}"}
    assert "password is empty" in str(await refused(directory, "GET", "ldap://127.0.0.1/x", headers=empty))


@pytest.fixture
def hanging() -> Iterator[socket.socket]:
    """Takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_a_server_that_hangs_is_left_at_the_timeout_and_delays_no_other(ask, directory, hanging):
    url = f"ldap://127.0.0.1:{hanging.getsockname()[1]}/{BASE}"
    waiting = [asyncio.create_task(exchange(directory, "GET", url, progress=(each := Progress()))) for _ in range(30)]
    await ask("POST", PERSON, data=ADA)
    assert (await ask("GET", PERSON)).status == 200
    assert not any(task.done() for task in waiting)
    assert not each.left
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_answer_that_never_came_is_in_doubt(slapd, directory):
    """A relay passes the login on, and hangs up when the change comes."""
    changes = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal changes
        there, back = await asyncio.open_connection("127.0.0.1", slapd.port)
        back.write(await reader.read(1000))
        writer.write(await there.read(1000))
        changes += bool(await reader.read(1000))
        writer.close()
        back.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    url = f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}/{quote(PERSON)}"
    error = await refused(directory, "DELETE", url)
    assert error.left
    assert changes == 1
    server.close()


def part(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


def said(message: int, tag: int, code: int, *, more: bytes = b"", controls: bytes = b"") -> bytes:
    """An answer of one result code, as it travels (RFC 4511, 4.1.9)."""
    result = bytes([0x0A, 1, code, 4, 0, 4, 0]) + more
    return part(0x30, bytes([2, 1, message]) + part(tag, result) + controls)


DISCONNECTED = said(0, 0x78, 52, more=b"\x8a\x161.3.6.1.4.1.1466.20036")
"""A notice of disconnection, as a server sends it that is shut down."""

UNREADABLE = bytes([0x30, 8, 2, 1, 2, 0x69, 3, 0x0A, 1, 0])
"""An answer to the second message, as which it ends too early."""

LOGGED_IN = said(1, 0x61, 0)


@pytest.fixture
async def scripted(directory):
    """Ask a directory that says one thing to a login, and another to the request."""
    servers: list[asyncio.Server] = []
    serving: list[asyncio.Task[Any] | None] = []
    over = asyncio.Event()

    async def ask(method: str, *answers: bytes) -> Response | TransportError:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.append(asyncio.current_task())
            for answer in answers:
                if await reader.read(1000):
                    writer.write(answer)
            await over.wait()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        url = f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}/{quote(PERSON)}"
        headers = {"Authorization": f"Basic {base64.b64encode(ADMIN.encode()).decode()}"}
        content = json.dumps(ADA).encode() if method == "POST" else None
        try:
            return await exchange(directory, method, url, headers, content)
        except TransportError as error:
            return error

    yield ask
    over.set()
    await asyncio.gather(*filter(None, serving))
    for server in servers:
        server.close()


async def test_a_login_that_is_not_known_is_no_absent_person(scripted):
    """Some directories answer "no such object" to a login that they have no entry of."""
    found = await scripted("GET", said(1, 0x61, 32))
    assert (found.status, found.decided) == (401, False)
    assert (await scripted("DELETE", said(1, 0x61, 32))).status == 401
    found = await scripted("GET", LOGGED_IN, said(2, 0x65, 32))
    assert (found.status, found.decided) == (404, True)


@pytest.mark.parametrize("answer", [DISCONNECTED, UNREADABLE], ids=["disconnected", "cannot be read"])
async def test_what_is_no_answer_to_a_change_leaves_it_in_doubt(scripted, answer):
    error = await scripted("POST", LOGGED_IN, answer)
    assert isinstance(error, TransportError)
    assert error.left
    busy = await scripted("POST", LOGGED_IN, said(2, 0x69, 51))
    assert busy.status == 503


NO_NAME = part(0x30, bytes([2, 1, 2]) + part(0x64, part(4, b"\xff") + part(0x30, b""))) + said(2, 0x65, 0)
"""An entry whose DN is not UTF-8."""

HALF = part(0x30, bytes([2, 1, 2]) + part(0x64, part(4, b"cn=a") + bytes([0x30, 9, 0x30]))) + said(2, 0x65, 0)
"""An entry whose first attribute ends too early."""

NO_PAGE = said(2, 0x65, 0, controls=part(0xA0, part(0x30, part(4, b"1.2.840.113556.1.4.319") + part(4, b""))))
"""The last answer of a search, which speaks of pages and does not say where the next one begins."""


@pytest.mark.parametrize("answer", [NO_NAME, HALF, NO_PAGE], ids=["a name", "an entry", "a page"])
async def test_an_answer_to_a_search_that_cannot_be_read(scripted, answer):
    error = await scripted("GET", LOGGED_IN, answer)
    assert isinstance(error, TransportError)


async def test_a_certificate_is_verified_whatever_an_ldaprc_says(slapd, directory, monkeypatch, tmp_path):
    url = f"ldaps://127.0.0.1:{slapd.tls_port}/{BASE}"
    (tmp_path / "ldaprc").write_text("TLS_REQCERT never\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDAPTLS_REQCERT", "never")
    error = await refused(directory, "GET", url)
    assert not error.left
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert "none.pem cannot be read" in str(await refused(directory, "GET", url))
    monkeypatch.setenv("SSL_CERT_FILE", str(slapd.authority))
    assert (await exchange(directory, "GET", url)).status == 200
