"""MariaDB as a transport, against a real server; what both databases have in common is in `test_postgres.py`."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pymysql", reason="no PyMySQL: pip install 'access-reconciler[sql]'")

from reconciler.transports.messages import Response
from reconciler.transports.sql.mysql import MySql
from tests.mariadb import MISSING, MariaDb
from tests.repo import free_port
from tests.servers import eventually
from tests.transports.watching import Progress, exchange, refused

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    with MariaDb() as made:
        made.execute("create user reader identified by 'read'")
        made.execute("create database app character set utf8mb4 collate utf8mb4_unicode_ci")
        made.execute("grant select on app.* to reader")
        yield made


@pytest.fixture(autouse=True)
def people(server: MariaDb) -> None:
    server.execute("create or replace table people (email varchar(200) primary key, name text, since date)", "app")
    server.execute("insert into people values ('ada@example.com', 'Ada', '2026-12-01')", "app")


@pytest.fixture
def ask(server: MariaDb) -> Any:
    mysql = MySql(30)

    async def ask(method: str, sql: str, user: str = "root:", **parameters: Any) -> Response:
        login = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
        url = f"mysql://127.0.0.1:{server.port}/app"
        return await exchange(mysql, method, url, login, json.dumps({"sql": sql, "parameters": parameters}).encode())

    return ask


FIND = "select email, since from people where email = :email"


async def test_a_get_answers_rows_and_changes_nothing(ask):
    found = await ask("GET", FIND, email="ada@example.com")
    assert found.json() == [{"email": "ada@example.com", "since": "2026-12-01"}]
    assert (await ask("GET", FIND, email="bob@example.com")).json() == []
    for statement in ("delete from people", "drop table people"):
        refused = await ask("GET", statement)
        assert (refused.status, refused.decided) == (400, False)
    without_rows = await ask("GET", "set @x = 1")
    assert (without_rows.status, without_rows.decided) == (400, False)
    assert len((await ask("GET", "select * from people")).json()) == 1


async def test_other_methods_change(ask):
    made = await ask("POST", "insert into people (email, name) values (:email, :name)", email="b", name=None)
    assert made.json() == {"rowcount": 1, "rows": []}
    assert len((await ask("GET", FIND, email="b")).json()) == 1


@pytest.mark.parametrize(
    "value", ["'; delete from people; -- ", "\\'; delete from people; -- ", "Größe", "a\0b", "?", "@p0"]
)
async def test_values_are_values(ask, value):
    await ask("POST", "insert into people (email) values (:email)", email=value)
    assert [row["email"] for row in (await ask("GET", FIND, email=value)).json()] == [value]
    assert len((await ask("GET", "select email from people")).json()) == 2


async def test_a_text_is_never_two_statements(ask):
    for method in ("GET", "POST"):
        assert (await ask(method, "select 1; delete from people")).status == 400
        assert (await ask(method, "commit; delete from people")).status == 400
    assert len((await ask("GET", "select email from people")).json()) == 1


@pytest.mark.parametrize(
    ("sql", "user", "status"),
    [
        ("insert into people (email) values ('ada@example.com')", "root:", 409),
        ("select nothing from nowhere", "root:", 400),
        ("delete from people", "reader:read", 403),
        ("select 1", "reader:wrong", 401),
    ],
    ids=["unique", "no-table", "right", "login"],
)
async def test_errors_have_a_status(ask, sql, user, status):
    answer = await ask("POST", sql, user)
    assert answer.status == status, answer.text


async def test_a_connection_that_never_opened_has_no_effect():
    url = f"mysql://127.0.0.1:{free_port()}/app"
    content = b'{"sql": "select 1"}'
    error = await refused(MySql(30), "POST", url, headers={"Authorization": "Basic cm9vdDo="}, content=content)
    assert not error.left


GREETING = b"\x0a8.0\0" + b"\7\0\0\0abcdefgh\0\xff\xf7\x21\2\0\xff\x81\x15" + bytes(10) + b"abcdefghijkl\0"


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", GREETING[:9], GREETING[:22]], ids=["HTTP", "early", "late"]
)
async def test_what_is_no_database_is_no_connection(greeting):
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"mysql://127.0.0.1:{server.sockets[0].getsockname()[1]}/app"
    content = b'{"sql": "select 1"}'
    error = await refused(MySql(30), "POST", url, headers={"Authorization": "Basic cm9vdDo="}, content=content)
    assert str(error).startswith("no connection: ")
    assert not error.left
    server.close()


async def given_up(server, asking, part):
    """Give a request up while its statement, which has this in it, runs; return what tells whether it does."""
    running = f"select 1 from information_schema.processlist where info like '%{part}%' and id <> connection_id()"
    task = asyncio.create_task(asking)
    await asyncio.to_thread(eventually, lambda: server.execute(running))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return running


async def test_a_timeout_cancels_the_statement_at_the_server(server):
    progress = Progress()
    url, content = f"mysql://127.0.0.1:{server.port}/app", b'{"sql": "insert into people select sleep(600), 1, null"}'
    login = {"Authorization": "Basic cm9vdDo="}
    asking = exchange(MySql(30), "POST", url, login, content, progress=progress)
    running = await given_up(server, asking, "sleep(600)")
    assert progress.left
    await asyncio.to_thread(eventually, lambda: not server.execute(running))


async def test_a_long_answer_is_cut_off_and_the_rest_is_not_read(server):
    """The rest would take longer than any limit."""
    progress = Progress(most=100)
    url, login = f"mysql://127.0.0.1:{server.port}/app", {"Authorization": "Basic cm9vdDo="}
    content = b'{"sql": "select seq from seq_1_to_1000000000000000"}'
    answer = await exchange(MySql(30), "GET", url, login, content, progress=progress, most=100)
    assert (answer.truncated, answer.content[:20]) == (True, b'[{"seq": 1},{"seq": ')


async def test_an_answer_that_is_given_up_leaves_no_noise(server, monkeypatch):
    noise: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    progress = Progress(most=1 << 40)
    url, login = f"mysql://127.0.0.1:{server.port}/app", {"Authorization": "Basic cm9vdDo="}
    content = b'{"sql": "select seq from seq_1_to_1000000000000000"}'
    await given_up(server, exchange(MySql(30), "GET", url, login, content, progress=progress), "seq_1_to_")
    await asyncio.to_thread(eventually, lambda: "transport" not in {each.name for each in threading.enumerate()})
    gc.collect()
    assert noise == []
