"""PostgreSQL as a transport, against a real server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from reconciler.transports.messages import Response
from reconciler.transports.sql.postgres import _HARMLESS, Postgres
from tests.postgres import Databases, Wire
from tests.repo import free_port
from tests.servers import PATIENCE, eventually
from tests.transports.watching import Progress, exchange, refused

pytestmark = pytest.mark.anyio

TABLE = """create table people (email text primary key, name text, admin boolean not null default false, since date);
insert into people values ('ada@example.com', 'Ada', true, '2026-12-01')"""


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with Databases() as made:
        yield made


@pytest.fixture
def base(databases: Databases) -> Iterator[str]:
    with databases.made("empty") as url:
        name = url.partition("?")[0].rpartition("/")[2]
        for statement in TABLE.split(";\n"):
            databases.execute(statement, name)
        yield name


@pytest.fixture
def wire(databases: Databases) -> Iterator[Wire]:
    with Wire(databases) as made:
        yield made


@pytest.fixture
async def postgres():
    made = Postgres(30)
    yield made
    await made.aclose()


class Ask:
    """Sends statements to one database."""

    def __init__(self, postgres: Postgres, url: str) -> None:
        self.postgres, self.url = postgres, url

    async def __call__(self, method: str, sql: str, user: str = "postgres:", **parameters: Any) -> Response:
        return await exchange(self.postgres, method, self.url, _login(user), _body(sql, parameters))


def _login(user: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def _body(sql: str, parameters: dict[str, Any]) -> bytes:
    return json.dumps({"sql": sql, "parameters": parameters}).encode()


@pytest.fixture
def ask(postgres, wire, base) -> Ask:
    return Ask(postgres, f"postgresql://127.0.0.1:{wire.port}/{base}")


FIND = "select email, admin, since from people where email = :email"


async def test_a_get_answers_rows_and_changes_nothing(ask):
    answer = await ask("GET", FIND, email="ada@example.com")
    assert answer.status == 200
    assert answer.json() == [{"email": "ada@example.com", "admin": True, "since": "2026-12-01"}]
    assert (await ask("GET", FIND, email="bob@example.com")).json() == []
    refused = await ask("GET", "delete from people")
    assert (refused.status, refused.decided) == (400, False)
    assert len((await ask("GET", "select * from people")).json()) == 1


async def test_other_methods_change_in_a_transaction_of_their_own(ask):
    made = await ask(
        "POST", "insert into people (email, name) values (:email, :name) returning name", email="b", name=None
    )
    assert made.json() == {"rowcount": 1, "rows": [{"name": None}]}
    changed = await ask("PATCH", "update people set admin = :admin where email = :email", admin=True, email="b")
    assert changed.json() == {"rowcount": 1, "rows": []}
    assert (await ask("GET", FIND, email="b")).json()[0]["admin"] is True


@pytest.mark.parametrize(
    "value",
    ["'; delete from people; --", "\\'; delete from people; --", "a*b)(", "Größe", "$1", "%s", ":email"],
)
async def test_values_are_values(ask, value):
    await ask("POST", "insert into people (email) values (:email)", email=value)
    assert [row["email"] for row in (await ask("GET", FIND, email=value)).json()] == [value]
    assert len((await ask("GET", "select email from people")).json()) == 2


async def test_a_parameter_may_stand_several_times(ask):
    sql = "select email from people where (name = :name or :name is null) and email = :email"
    for name, found in ((None, 1), ("Ada", 1), ("Bob", 0)):
        assert len((await ask("GET", sql, name=name, email="ada@example.com")).json()) == found


async def test_two_columns_of_one_name_answer_no_check(ask):
    sql = "select p.email, q.email from people p left join people q on q.name is null"
    answer = await ask("GET", sql)
    assert (answer.status, answer.decided) == (400, False)
    assert "two columns are called email" in answer.text


async def test_what_json_or_python_has_no_form_for_is_text(ask):
    """`rolvaliduntil` of a login that lasts is infinity."""
    found = await ask(
        "GET",
        "select 'infinity'::timestamptz as until, '0044-03-15 BC'::date as born, '24:00'::time as at,"
        " 'Infinity'::numeric as most, 1e400::numeric as many, array[date '-infinity', date '2026-12-01'] as days",
    )
    (row,) = found.json()
    assert len(row.pop("many")) == 401
    assert row == {
        "until": "infinity",
        "born": "0044-03-15 BC",
        "at": "24:00:00",
        "most": "Infinity",
        "days": ["-infinity", "2026-12-01"],
    }


async def test_a_text_is_never_two_statements(ask):
    for method in ("GET", "POST"):
        answer = await ask(method, "select 1; delete from people")
        assert (answer.status, "multiple commands" in answer.text) == (400, True)
        assert (await ask(method, "commit; delete from people")).status == 400
    await ask("GET", "commit")
    assert len((await ask("GET", "select email from people")).json()) == 1


async def test_a_nul_is_an_error_of_the_statement(ask):
    assert (await ask("GET", FIND, email="a\0b")).status == 400
    assert (await ask("GET", FIND, email="ada@example.com")).status == 200


@pytest.mark.parametrize(
    ("sql", "user", "status"),
    [
        ("insert into people (email) values ('ada@example.com')", "postgres:", 409),
        ("select nothing from nowhere", "postgres:", 400),
        ("delete from people", "reader:", 403),
        ("do $$ begin raise serialization_failure; end $$", "postgres:", 503),
        ("do $$ begin raise deadlock_detected; end $$", "postgres:", 503),
        ("do $$ begin raise exclusion_violation; end $$", "postgres:", 409),
    ],
    ids=["unique", "no-table", "right", "serialization", "deadlock", "exclusion"],
)
async def test_errors_have_a_status(ask, databases, base, sql, user, status):
    databases.execute("do $$ begin create role reader login; exception when duplicate_object then end $$")
    answer = await ask("POST", sql, user)
    assert answer.status == status, answer.text
    assert len(databases.execute("select * from people", base)) == 1


async def test_a_connection_that_never_opened_has_no_effect(postgres):
    url = f"postgresql://127.0.0.1:{free_port()}/x"
    error = await refused(postgres, "POST", url, headers=_login("postgres:"), content=_body("select 1", {}))
    assert not error.left
    assert "no connection" in str(error)


async def test_a_login_that_is_none_has_no_effect(postgres, ask):
    login = {"Authorization": "Basic clé"}
    error = await refused(postgres, "GET", ask.url, headers=login, content=_body("select 1", {}))
    assert not error.left
    assert "needs a login" in str(error)


async def test_an_answer_that_never_came_is_in_doubt(postgres, ask, wire):
    progress = Progress()
    sql = _body("select pg_sleep(60)", {})
    task = asyncio.create_task(
        refused(postgres, "POST", ask.url, headers=_login("postgres:"), content=sql, progress=progress)
    )
    await progress.leaving.wait()
    await asyncio.sleep(0.1)
    wire.cut()
    assert (await task).left


@pytest.mark.parametrize("code", ["40003", "08006", "08007", "57P01"])
async def test_an_error_that_does_not_tell_the_outcome_is_in_doubt(postgres, ask, code):
    """Databases that speak PostgreSQL's protocol answer so where another node was lost."""
    sql = _body(f"do $$ begin raise sqlstate '{code}'; end $$", {})
    assert (await refused(postgres, "POST", ask.url, headers=_login("postgres:"), content=sql)).left


async def test_a_timeout_cancels_the_statement_at_the_server(ask, databases):
    task = asyncio.create_task(ask("POST", "select pg_sleep(600)"))
    running = "select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    await asyncio.to_thread(eventually, lambda: databases.execute(running))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(eventually, lambda: not databases.execute(running))


async def test_an_idle_connection_that_the_server_ended_is_not_used(ask, databases):
    assert (await ask("GET", "select 1")).status == 200
    of_ours = "from pg_stat_activity where application_name = 'access-reconciler'"
    databases.execute(f"select pg_terminate_backend(pid) {of_ours}")
    await asyncio.to_thread(eventually, lambda: not databases.execute(f"select 1 {of_ours}"))
    made = await ask("POST", "insert into people (email) values ('b')")
    assert made.status == 200


async def test_a_server_that_hangs_is_left_at_the_timeout(ask, wire, databases, monkeypatch):
    """It is told to cancel the statement, and nobody waits for that."""
    over = asyncio.Event()

    async def hangs(*_: object, **__: object) -> None:
        await over.wait()

    monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", hangs)
    task = asyncio.create_task(ask("POST", "select pg_sleep(600)"))
    running = "select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    await asyncio.to_thread(eventually, lambda: databases.execute(running))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    over.set()
    wire.cut()


async def test_a_long_answer_is_cut_off_and_the_rest_is_not_read(ask):
    """The rest would fill any memory, and the connection is good for another."""
    body = _body("select generate_series(1, 1000000000000000) as n", {})
    few = Progress(most=100)
    answer = await exchange(ask.postgres, "GET", ask.url, _login("postgres:"), body, progress=few, most=few.most)
    assert (answer.truncated, answer.content[:19]) == (True, b'[{"n": 1},{"n": 2},')
    assert (await ask("GET", FIND, email="ada@example.com")).json()


async def test_a_statement_without_rows_answers_no_check(ask):
    answer = await ask("GET", "set local work_mem = '1MB'")
    assert (answer.status, answer.decided) == (400, False)


async def test_nothing_of_libpqs_environment_counts(ask, monkeypatch):
    """Every parameter that could come from it is given."""
    with_variable = {each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults() if each.envvar}
    given = {"host", "hostaddr", "port", "dbname", "user", "password", "connect_timeout", "sslmode", "sslrootcert"}
    assert with_variable - {*_HARMLESS, *given} == {"service"}
    for name, value in {"PGHOSTADDR": "192.0.2.1", "PGOPTIONS": "-c search_path=none", "PGREQUIREAUTH": "gss"}.items():
        monkeypatch.setenv(name, value)
    assert (await ask("GET", FIND, email="ada@example.com")).json()


async def test_off_loopback_only_tls_with_a_known_certificate(postgres, monkeypatch, ask):
    monkeypatch.setattr("reconciler.transports.sql.postgres.loopback", lambda host: False)
    error = await refused(postgres, "GET", ask.url, headers=_login("postgres:"), content=_body("select 1", {}))
    assert "SSL" in str(error)
    assert not error.left
