"""States for the tests of the ledger, and another process that holds one."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from reconciler.ledger import schema
from reconciler.ledger.entries import Attempt
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sqlite.lock import StateLock
from reconciler.model.grant import Key, Record
from reconciler.model.run import Outcome, Step
from tests.forked import Process, nursery

NOW = datetime(2026, 12, 1, 9, 0, 0, 123456, tzinfo=UTC)
ADA = Record(
    key=Key("ada", "tool"), email="ada@example.com", integration="tool", service="suite", source="hires/ada.yaml:9"
)
STATE = "sqlite:///.reconciler/state.db"


def change(location: StateLocation, *statements: str) -> None:
    """Change a state by SQL, past the program."""
    if location.file is not None:
        with closing(sqlite3.connect(location.file)) as state:
            for statement in statements:
                state.execute(statement)
            state.commit()
        return
    import psycopg

    with psycopg.connect(location.url, options="-c search_path=reconciler") as server:
        for statement in statements:
            server.execute(statement)


def state_file(root: Path) -> Path:
    """The file that STATE names."""
    return root / ".reconciler" / "state.db"


EARLIER = sorted(Path(__file__).with_name("schemas").glob("*.sql"))
"""States as the programs of these schemas made them, each with one grant and one line of history."""


def of_schema(version: str) -> Path:
    """The recipe of a state of this schema."""
    return next(recipe for recipe in EARLIER if recipe.stem == version)


def earlier(recipe: Path, root: Path) -> Path:
    """Make the state of a recipe, and return its file."""
    file = state_file(root)
    file.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(file)) as database:
        database.executescript(recipe.read_text())
        database.execute("pragma journal_mode = wal")
    return file


OLDER = EARLIER[-1].stem


def as_older(root: Path) -> Iterator[str]:
    """The statements that make the newest tables those of the schema before, by its recipe."""
    with closing(sqlite3.connect(earlier(EARLIER[-1], root))) as older:
        for name, table in schema.metadata.tables.items():
            had = {column: kind for _, column, kind, *_ in older.execute(f"pragma table_info({name})")}
            indexes = {index for _, index, *_ in older.execute(f"pragma index_list({name})")}
            if had:
                yield from (f"drop index {index.name}" for index in table.indexes if index.name not in indexes)
            gone = [f'drop column "{column.name}"' for column in table.columns if column.name not in had]
            gone += [f'add column "{column}" {kind}' for column, kind in had.items() if column not in table.columns]
            if not had:
                yield f"drop table {name}"
            elif gone:
                yield f"alter table {name} {', '.join(gone)}"
    yield f"update alembic_version set version_num = '{OLDER}'"


def attempt(record: Record = ADA, *, run: int = 0, number: int = 1) -> Attempt:
    return Attempt(0, record.key, record.integration, run, "execute", number, 2, NOW, NOW, None, None, "abc")


def step(index: int, outcome: Outcome = Outcome.SENT, status: int | None = None) -> Step:
    return Step(index, f"text{index}", mutates=True, outcome=outcome, status=status)


def hold() -> None:
    """Hold the state of this folder with ada in its write-ahead log, until stdin ends."""
    here = StateLock(state_file(Path())).acquire("reconcile daemon", datetime.now(UTC))
    with here, closing(StateLocation(STATE, Path()).writer()) as ledger:
        ledger.save([ADA])
        print("held", flush=True)
        sys.stdin.read()


@contextmanager
def other_process(root: Path) -> Iterator[Process]:
    """Holds the state, has written ada and leaves her in the write-ahead log, until it is told to end."""
    ours, theirs = socket.socketpair()
    with ours, ours.makefile() as told:
        with theirs:
            process = nursery().start(hold, cwd=root, env={}, streams=(theirs.fileno(), theirs.fileno(), 2))
        try:
            assert told.readline() == "held\n"
            yield process
        finally:
            ours.shutdown(socket.SHUT_WR)
            process.wait()


def bytes_in(folder: Path) -> dict[str, str]:
    """The index of the log is left out where somebody writes: it is where SQLite's processes meet, not the ledger."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def read_all(root: Path) -> list[Record]:
    with StateLocation(STATE, root).reader() as ledger:
        return list(ledger.grants.records())
