"""The figures, by name. Each yields rounds of (ours, baseline)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.audits import asked, audited, divided
from bench.checks import bare, ours, passed, with_aiohttp, with_requests
from bench.daemons import (
    MANY,
    PARSED,
    acted,
    acted_meanwhile,
    grown,
    idle,
    paced,
    spread,
    started,
    started_again,
    weight,
    widened,
)
from bench.fleet import joined, shared
from bench.history import checkpointed
from bench.pages import held_up, shown
from bench.provisioning import limited, made, provisioned
from bench.server import serving
from bench.world import commit, folder, reconcile_twice, took

CHECKS = 3000
NOBODY = "http://127.0.0.1:9"
"""A service that nothing is sent to."""

LOADED = """
import sys
from pathlib import Path
from reconciler.repository.files import Reader
from reconciler.repository.git.checkout import Checkout
Reader().load(Checkout.open(Path(sys.argv[1])).head())
"""

SWEPT = 10_000
"""Hires of a pass that remembers none of them from the one before: it loads each one's file again."""


@dataclass(frozen=True)
class Figure:
    """How a figure is measured, its unit, what it is to reach, and in how many rounds."""

    run: Callable[[], Iterator[tuple[float, float]]]
    unit: str
    reach: str
    rounds: int = 5


@contextmanager
def one_core() -> Iterator[str]:
    """A server that answers at once, and this process on one core, beside the server's, where the system can."""
    with serving() as url:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        if len(cores) < 2:
            yield url
            return
        os.sched_setaffinity(0, {min(cores)})
        try:
            yield url
        finally:
            os.sched_setaffinity(0, cores)


def checks_against_bare() -> Iterator[tuple[float, float]]:
    """Checks a second against a bare httpx loop with ten connections."""
    with one_core() as url:
        while True:
            yield ours(url, CHECKS), asyncio.run(bare(url, CHECKS))


def checks_against_shared() -> Iterator[tuple[float, float]]:
    """Checks a second against one shared httpx client with fifty connections."""
    with one_core() as url:
        while True:
            yield ours(url, CHECKS), asyncio.run(bare(url, CHECKS // 3, 50))


def checks_against_requests() -> Iterator[tuple[float, float]]:
    """Checks a second against `requests` in 32 threads."""
    with one_core() as url:
        while True:
            yield ours(url, CHECKS), with_requests(url, CHECKS)


def checks_against_aiohttp() -> Iterator[tuple[float, float]]:
    """Checks a second against a bare aiohttp loop with twenty connections."""
    with one_core() as url:
        while True:
            yield ours(url, CHECKS), asyncio.run(with_aiohttp(url, CHECKS))


def cpu_of_a_check() -> Iterator[tuple[float, float]]:
    """Microseconds of processor time a check, the hire's file loaded and its row written; of aiohttp's loop."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, SWEPT)
        while True:
            mine = passed(root, SWEPT).cpu / SWEPT
            cpu = time.process_time()
            asyncio.run(with_aiohttp(url, CHECKS))
            yield 1e6 * mine, 1e6 * (time.process_time() - cpu) / CHECKS


def ledger_rows() -> Iterator[tuple[float, float]]:
    """Results of checks written a second, against sqlite3's own executemany on the same rows."""
    import sqlite3

    from reconciler.ledger.opening import StateLocation
    from reconciler.model.grant import Key, Record

    count = 20_000
    while True:
        with tempfile.TemporaryDirectory() as name:
            ledger = StateLocation("sqlite:///state.db", Path(name)).writer()
            records = [
                Record(Key(f"h{n}", "tool"), f"h{n}@example.com", "tool", "tool", f"hires/h{n}.yaml:4")
                for n in range(count)
            ]
            ledger.save(records)
            began = time.perf_counter()
            ledger.save(records)
            mine = count / (time.perf_counter() - began)
            ledger.close()
            raw = sqlite3.connect(Path(name, "raw.db"))
            raw.execute(
                "create table grants (hire text, access text, status text, reason text, primary key (hire, access))"
            )
            rows = [(f"h{n}", "tool", "present", "exists check: found") for n in range(count)]
            began = time.perf_counter()
            with raw:
                raw.executemany("insert or replace into grants values (?, ?, ?, ?)", rows)
            yield mine, count / (time.perf_counter() - began)
            raw.close()


def intent() -> Iterator[tuple[float, float]]:
    """Milliseconds until an attempt's intent is on the disk, against a bare fsync of as much."""
    from reconciler.ledger.entries import Attempt
    from reconciler.ledger.opening import StateLocation
    from reconciler.model.grant import Key, Record

    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as name:
        ledger = StateLocation("sqlite:///state.db", Path(name)).writer()
        descriptor = os.open(Path(name, "raw"), os.O_RDWR | os.O_CREAT)
        while True:
            began = time.perf_counter()
            for number in range(50):
                key = Key(f"h{number}", "tool")
                record = Record(key, "h@example.com", "tool", "tool", "hires/h.yaml:4")
                ledger.attempts.begin(
                    record, Attempt(0, key, "tool", 0, "execute", 1, 2, now, now, None, None, None), []
                )
            mine = (time.perf_counter() - began) / 50
            began = time.perf_counter()
            for _ in range(50):
                os.write(descriptor, b"x" * 4096)
                os.fsync(descriptor)
            yield 1000 * mine, 1000 * (time.perf_counter() - began) / 50


def helped() -> Iterator[tuple[float, float]]:
    """Milliseconds for `reconcile --help`, against an empty Python."""
    program = Path(sys.executable).with_name("reconcile")
    while True:
        yield 1000 * took([str(program), "--help"]), 1000 * took([sys.executable, "-c", "pass"])


def validated() -> Iterator[tuple[float, float]]:
    """Milliseconds for `reconcile validate` over 1,000 files, against PyYAML's own C loader over them."""
    with tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), NOBODY, 1000)
        while True:
            yield 1000 * _validated(root), 1000 * took([sys.executable, "-c", PARSED, str(root)])


def validated_again() -> Iterator[tuple[float, float]]:
    """Seconds for a later `reconcile validate` over 100,000 hires with twenty entries each, against the first one's."""
    with tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), NOBODY, MANY, integrations=20)
        while True:
            shutil.rmtree(root / ".reconciler", ignore_errors=True)
            (root / ".reconciler").mkdir(mode=0o700)
            first = _validated(root)
            yield _validated(root), first


def _validated(root: Path) -> float:
    return took([str(Path(sys.executable).with_name("reconcile")), "--repo", str(root), "validate"])


def compared() -> Iterator[tuple[float, float]]:
    """Seconds of processor time of `reconcile diff` over 500 hires who join 4,000, with five entries each.

    Against PyYAML's own C loader over their files.
    """
    with tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), NOBODY, 4500, integrations=5, written_out=True)
        joined = {
            file: file.read_text() for number in range(4000, 4500) for file in root.glob(f"hires/*/p{number}.yaml")
        }
        for file in joined:
            file.unlink()
        commit(root)
        for file, text in joined.items():
            file.write_text(text)
        commit(root)
        program = str(Path(sys.executable).with_name("reconcile"))
        while True:
            yield (
                _used([program, "--repo", str(root), "diff", "HEAD~1", "--output", "markdown"])[1],
                _used([sys.executable, "-c", PARSED, str(root)])[1],
            )


def planned() -> Iterator[tuple[float, float]]:
    """MiB of a dry run over 4,000 hires with five entries, at its peak, against one over 400."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        roots = [folder(Path(name, str(hires)), url, hires, integrations=5, listing=True) for hires in (4000, 400)]
        while True:
            ours, fewer = (_dry_run(root)[0] for root in roots)
            yield ours, fewer


def planned_again() -> Iterator[tuple[float, float]]:
    """Microseconds of processor time a grant of a dry run over 4,000 hires with five entries, and nothing to do.

    Against one that plans the first of them only.
    """
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, 4000, integrations=5, listing=True)
        reconcile_twice(root)
        while True:
            yield 1e6 * _dry_run(root)[1] / 20_000, 1e6 * _dry_run(root, "--hire", "p0")[1] / 20_000


_RUN = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


def _dry_run(root: Path, *options: str) -> tuple[float, float]:
    """The most memory that a dry run takes, in MiB, and its processor time in seconds."""
    return _used([str(Path(sys.executable).with_name("reconcile")), "--repo", str(root), "--dry-run", *options])


def _used(command: list[str]) -> tuple[float, float]:
    """The most memory that a command takes, in MiB, and its processor time in seconds.

    A small process starts it, for Linux counts the memory of who starts a process as its own up to its first moment.
    """
    run = subprocess.run([sys.executable, "-c", _RUN, *command], check=True, capture_output=True, text=True)
    memory, seconds = map(float, run.stdout.split())
    return memory / 1024, seconds


def loaded() -> Iterator[tuple[float, float]]:
    """Seconds to load 100,000 hires with twenty written-out entries each, against PyYAML's own C loader over them."""
    with tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), NOBODY, MANY, integrations=20, written_out=True)
        while True:
            ours, theirs = (took([sys.executable, "-c", script, str(root)]) for script in (LOADED, PARSED))
            yield ours, theirs


ALL: dict[str, Figure] = {
    "checks, against bare httpx": Figure(checks_against_bare, "1/s", ">= 0.8"),
    "checks, against one shared client": Figure(checks_against_shared, "1/s", ">= 5"),
    "checks, against requests": Figure(checks_against_requests, "1/s", ">= 1.5"),
    "checks, against a bare aiohttp loop": Figure(checks_against_aiohttp, "1/s", ">= 0.4"),
    "processor time a check": Figure(cpu_of_a_check, "us", "<= 300 us"),
    "the same, six services against one": Figure(spread, "us", "<= 1.25"),
    "checks of a 100 ms service": Figure(paced, "1/s", ">= 0.97"),
    "checks of six 100 ms services": Figure(partial(paced, 6), "1/s", ">= 0.97"),
    "three members against one": Figure(joined, "1/s", ">= 1", rounds=3),
    "three members, a fifth of a core each": Figure(shared, "1/s", ">= 2.8", rounds=3),
    "audit of 1,500 memberships, requests": Figure(partial(asked, 1500), "", "<= 15", rounds=1),
    "provision 10,000 people x 8 services": Figure(provisioned, "s", "<= 240 s", rounds=1),
    "accounts made in it": Figure(made, "1/s", ">= 333/s", rounds=1),
    "creates at 180 a minute, told": Figure(partial(limited, told_by_service=True), "1/min", ">= 0.95", rounds=1),
    "creates at 180 a minute, by rate": Figure(partial(limited, told_by_service=False), "1/min", ">= 0.95", rounds=1),
    "audit of 1,000, against an aiohttp script": Figure(audited, "ms", "< 1"),
    "audit of 1,000, against it, 1,000 requests/s": Figure(partial(audited, 0.001), "ms", "< 1"),
    "audit of 80,000 on all processors, against one": Figure(divided, "s", "< 1; 0.7 with two to itself", rounds=3),
    "commit to first request, 100,000 hires": Figure(acted, "ms", "<= 25 ms"),
    "commit to first request in a full pass": Figure(acted_meanwhile, "ms", "<= 50 ms"),
    "the same, at worst": Figure(partial(acted_meanwhile, worst=True), "ms", "<= 250 ms"),
    "cold start, 100,000 hires": Figure(started, "s", "<= 12 s", rounds=3),
    "warm start, 100,000 hires": Figure(started_again, "s", "<= 1.5 s"),
    "no-op commit, 10,000 hires": Figure(idle, "ms", "<= 100 ms"),
    "time a hire, 10,000 against 1,000": Figure(partial(grown, 1), "us", "<= 1.05"),
    "time a hire, 100,000 against 10,000": Figure(partial(grown, 2), "us", "<= 1.05", rounds=3),
    "memory a hire, 10,000 against 1,000": Figure(partial(widened, 1), "KiB", "<= 1.05"),
    "memory a hire, 100,000 against 10,000": Figure(partial(widened, 2), "KiB", "<= 1.05", rounds=3),
    "memory, 100,000 hires x 20 entries": Figure(weight, "MiB", "<= 350 MiB", rounds=1),
    "memory of a dry run, 4,000 hires against 400": Figure(planned, "MiB", "<= 1.3"),
    "processor time of a dry run a grant": Figure(planned_again, "us", "<= 200 us"),
    "ledger rows": Figure(ledger_rows, "1/s", ">= 20000/s"),
    "ledger intent": Figure(intent, "ms", "<= 2 ms"),
    "checkpoint over 1,000,000 lines": Figure(checkpointed, "ms", "<= 100 ms"),
    "slowest page, 10,000 people": Figure(shown, "ms", "<= 200 ms"),
    "the loop's wait for a page, 10,000 people": Figure(held_up, "ms", "<= 20 ms"),
    "--help": Figure(helped, "ms", "<= 120 ms"),
    "validate 1,000 files": Figure(validated, "ms", "<= 500 ms"),
    "diff of 500 hires who join 4,000": Figure(compared, "s", "<= 2 s"),
    "validate 100,000 hires x 20 entries again": Figure(validated_again, "s", "<= 5 s", rounds=2),
    "load 100,000 hires x 20 written-out entries": Figure(loaded, "s", "<= 1.3", rounds=1),
}
