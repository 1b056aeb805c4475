"""The ledger as the event loop has it: a server that hangs holds up who waits for it, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.attribution import Attribution, Unattributed
from reconciler.model.grant import Key
from tests.ledger.states import ADA, NOW
from tests.postgres import Databases
from tests.servers import PATIENCE

BOB = Key("bob", "tool")
GIVEN = Attribution("c0ffee", "Ida <ida@example.com>", "Ida <ida@example.com>", NOW, ())

WRITES: dict[str, Callable[[LedgerWriter], object]] = {
    "save": lambda ledger: ledger.save([ADA]),
    "give": lambda ledger: ledger.given.save([(ADA.key, GIVEN)], {ADA.key.hire: Unattributed(None, "c0ffee")}),
    "drop": lambda ledger: ledger.drop([ADA.key]),
}
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"


@pytest.mark.parametrize("name", sorted(WRITES))
def test_a_write_that_a_server_holds_up_leaves_the_loop_free(databases: Databases, name: str, tmp_path: Path) -> None:
    """Somebody has the rows locked: meanwhile others read, and the loop serves whoever asks."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ok")
        writer.close()
        await writer.wait_closed()

    async def run(url: str) -> None:
        with closing(StateLocation(url, tmp_path).writer()) as writer, psycopg.connect(url) as other:
            ledger = OpenLedger(writer)
            for before in (WRITES["save"], WRITES["give"]):
                await ledger.run(before)
            other.execute("LOCK TABLE reconciler.grants, reconciler.given IN SHARE ROW EXCLUSIVE MODE")
            writing = asyncio.create_task(ledger.run(WRITES[name]))
            waits = WAITS.format(other.info.dbname)
            async with asyncio.timeout(PATIENCE), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
                while not (await asyncio.to_thread(databases.execute, waits))[0][0]:
                    pass
                port = server.sockets[0].getsockname()[1]
                reader, asking = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.read() == b"ok"
                asking.close()
                await asking.wait_closed()
                assert await ledger.run(lambda found: found.grants.record(BOB)) is None
                assert not writing.done()
                other.rollback()
                await writing

    with databases.made() as url:
        asyncio.run(run(url))
