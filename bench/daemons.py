"""The daemon as a process of its own: what it costs as its repository grows, and how soon it acts."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

from bench.server import PAGE, asked_for, heard, serving
from bench.world import commit, folder, git, hire, took

MEANWHILE = 20_000
"""Hires of a full pass during which somebody commits."""

COMMITS = 5
"""How many commits in a full pass, and as many at rest."""

SIX, EACH = 6, 1000
"""Services of a hire, and hires that have them."""

SLOW, AT_ONCE = 0.1, 50
"""Seconds that a slow service takes, and requests that may be under way at once."""

MANY = 100_000
SETTINGS = "interval: 1d\nlisten: 127.0.0.1:0\nlimits: {per_host: 20, timeout: 60s}\n"
TICKS = os.sysconf("SC_CLK_TCK")
QUIET = 3.0
"""Seconds without a request and with hardly any work, after which a pass is taken to be over."""

AT_REST = 0.25
"""So much of a core a daemon may take that has nothing left to do: it asks its state twice a second."""

LONGEST = 3600.0

PARSED = """
import sys, pygit2, yaml
repository = pygit2.Repository(sys.argv[1])
def walk(tree):
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            walk(entry)
        else:
            yaml.load(entry.data, yaml.CSafeLoader)
walk(repository.head.peel(pygit2.Tree)["hires"])
"""
"""The hires' files read and parsed, and nothing made of them."""

WALKED = PARSED.replace("yaml.load(entry.data, yaml.CSafeLoader)", "str(entry.id)")
"""Their names and ids."""


class Daemon:
    """A daemon at work."""

    def __init__(self, root: Path, url: str) -> None:
        self._url = url
        program = Path(sys.executable).with_name("reconcile")
        self._process = subprocess.Popen(
            [str(program), "--repo", str(root), "daemon"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Resident memory, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def peak(self) -> float:
        """The most resident memory so far, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def check(self) -> None:
        """Raise AssertionError where it has ended: nothing more would come."""
        if self._process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self._process.returncode}")

    def settle(self, requests: int) -> None:
        """Wait until at least so many requests came and the daemon has nothing left to do."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            self.check()
            count, cpu = heard(self._url)[0], self.cpu()
            time.sleep(QUIET)
            if count >= requests and heard(self._url)[0] == count and self.cpu() - cpu < QUIET * AT_REST:
                return
        raise TimeoutError(f"not at rest after {LONGEST:g} s")

    def stop(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


@contextmanager
def at_work(root: Path, url: str, requests: int = 0, grants: int = 0) -> Iterator[Daemon]:
    """A daemon over a repository, once it has sent so many requests, recorded so many grants, and rests."""
    running = Daemon(root, url)
    try:
        _until_recorded(root, grants, running)  # a disk that others write to can make it rest before
        running.settle(requests)
        yield running
    finally:
        running.stop()


@contextmanager
def daemon(people: int, *, integrations: int = 1, listing: bool = False) -> Iterator[tuple[Daemon, Path, str]]:
    """A daemon whose first pass is over, its repository and its service."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, people, settings=SETTINGS, integrations=integrations, listing=listing)
        grants = integrations * people
        with at_work(root, url, grants // PAGE if listing else grants, grants) as running:
            yield running, root, url


def started() -> Iterator[tuple[float, float]]:
    """Seconds from a first start over 100,000 hires to its first request; to read and parse their files."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, MANY, settings=SETTINGS)
        while True:
            yield _first_request(root, url), took([sys.executable, "-c", PARSED, str(root)])
            shutil.rmtree(root / ".reconciler")
            git(root, "update-ref", "-d", "refs/reconciler/state")  # else the next start would ask for the state


def started_again() -> Iterator[tuple[float, float]]:
    """Seconds from a later start to its first request; to walk over the files' names and ids."""
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, MANY, settings=SETTINGS, listing=True)
        with at_work(root, url, MANY // PAGE, MANY):
            pass  # what its first pass leaves is what a later start finds
        while True:
            yield _first_request(root, url), took([sys.executable, "-c", WALKED, str(root)])


def _first_request(root: Path, url: str) -> float:
    before, began = heard(url)[0], time.time()
    running = Daemon(root, url)
    try:
        while heard(url)[0] == before:
            running.check()
            time.sleep(0.01)
        first = time.time()
    finally:
        running.stop()
    return first - began


def acted() -> Iterator[tuple[float, float]]:
    """Milliseconds from the moment the branch points to a commit of one hire to its first request; git's own time."""
    with daemon(MANY, listing=True) as (_, root, url):
        number = MANY
        while True:
            number += 1
            (root / "hires" / "00" / f"p{number}.yaml").write_text(hire(number, ["tool"]))
            before, began = heard(url)[0], time.time()
            commit(root)
            took = time.time() - began
            pointed = max((root / ".git" / "refs" / "heads").iterdir(), key=lambda path: path.stat().st_mtime)
            while (asked := heard(url))[0] == before:
                time.sleep(0.005)
            yield 1000 * (asked[1] - pointed.stat().st_mtime), 1000 * took


@cache
def _meanwhile() -> list[tuple[float, float]]:
    """Milliseconds from a commit of one hire to its first request, in a full pass and at rest."""
    with daemon(MEANWHILE) as (_, root, url):
        at_rest = [_heard_of(root, url, MEANWHILE + number) for number in range(COMMITS)]
        manifest = root / "manifests" / "tool.yaml"
        manifest.write_text(manifest.read_text() + "description: asks everybody anew\n")
        before = heard(url)[0]
        commit(root)
        while heard(url)[0] < before + PAGE:
            time.sleep(0.01)
        in_pass = [_heard_of(root, url, MEANWHILE + COMMITS + number) for number in range(COMMITS)]
        if heard(url)[0] > before + MEANWHILE - PAGE:
            raise AssertionError("the full pass was over before the last commit was heard of")
        return list(zip(in_pass, at_rest, strict=True))


def _heard_of(root: Path, url: str, number: int) -> float:
    (root / "hires" / "00" / f"p{number}.yaml").write_text(hire(number, ["tool"]))
    commit(root)
    pointed = max((root / ".git" / "refs" / "heads").iterdir(), key=lambda path: path.stat().st_mtime)
    while (first := asked_for(url, f"p{number}@example.com")) is None:
        time.sleep(0.005)
    return 1000 * (first - pointed.stat().st_mtime)


def acted_meanwhile(*, worst: bool = False) -> Iterator[tuple[float, float]]:
    """Milliseconds to a commit's first request in a full pass over 20,000 hires, against the same at rest."""
    if worst:
        yield max(in_pass for in_pass, _ in _meanwhile()), max(at_rest for _, at_rest in _meanwhile())
    else:
        yield from _meanwhile()


def idle() -> Iterator[tuple[float, float]]:
    """Milliseconds of processor time for a commit that concerns none of 10,000 hires, and for a second of rest."""
    with daemon(10_000) as (running, root, url):
        while True:
            before, cpu = heard(url)[0], running.cpu()
            time.sleep(5)
            rest = (running.cpu() - cpu) / 5
            (root / "README.md").write_text(f"{time.time()}\n")
            cpu = running.cpu()
            commit(root)
            time.sleep(5)
            if heard(url)[0] != before:
                raise AssertionError("a commit that concerns nobody made the daemon ask somebody")
            yield 1000 * (running.cpu() - cpu - 5 * rest), 1000 * rest


def spread() -> Iterator[tuple[float, float]]:
    """Microseconds of processor time a check where hires have six services each; where as many have one."""
    with daemon(EACH, integrations=SIX) as six, daemon(SIX * EACH) as one:
        while True:
            yield _asked_anew(*six), _asked_anew(*one)


def paced(services: int = 1) -> Iterator[tuple[float, float]]:
    """Checks a second of services that take 100 ms, fifty at once over all of them, against the ceiling of 500.

    As the services see it: from the first request of a full pass to its last.
    """
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(SLOW)) for _ in range(services)]
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = SETTINGS.replace("per_host: 20", f"per_host: {AT_ONCE}, concurrency: {AT_ONCE}")
        folder(root, urls[0], SIX * EACH // services, settings=settings, integrations=services)
        for manifest, url in zip(sorted((root / "manifests").iterdir()), urls, strict=True):
            manifest.write_text(manifest.read_text().replace(urls[0], url))
        ask_anew(root)
        running = stack.enter_context(at_work(root, urls[0], SIX * EACH // services))
        while True:
            before = _heard(urls)[0]
            ask_anew(root)
            while _heard(urls)[0] == before:
                time.sleep(0.005)
            first = time.time()
            while (heard_so_far := _heard(urls))[0] < before + SIX * EACH:
                running.check()
                time.sleep(0.05)
            yield SIX * EACH / (heard_so_far[1] - first), AT_ONCE / SLOW
            running.settle(0)


def _heard(urls: list[str]) -> tuple[int, float]:
    """How many requests came at services, and when the last one did."""
    each = [heard(url) for url in urls]
    return sum(count for count, _ in each), max(last for _, last in each)


def ask_anew(root: Path) -> None:
    """Commit what has everybody asked again."""
    for manifest in (root / "manifests").iterdir():
        text = manifest.read_text().partition("description:")[0]
        manifest.write_text(f"{text}description: as of {time.time()}\n")
    commit(root)


def _asked_anew(running: Daemon, root: Path, url: str) -> float:
    """Microseconds a check after a commit that has everybody asked again."""
    before, cpu = heard(url)[0], running.cpu()
    ask_anew(root)
    running.settle(before + SIX * EACH)
    return 1e6 * (running.cpu() - cpu) / (SIX * EACH)


@cache
def _cost(people: int, turn: int) -> tuple[float, float]:
    """Microseconds of processor time, and KiB, that a hire's first pass takes among so many hires; anew each turn."""
    with daemon(people, listing=True) as (running, _, _):
        cpu, memory = running.cpu(), running.memory()
    if people == 1:
        return cpu, memory
    cpu_of_one, memory_of_one = _cost(1, turn)
    return 1e6 * (cpu - cpu_of_one) / people, 1024 * (memory - memory_of_one) / people


def _step(step: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    for turn in count():
        yield _cost(1000 * 10**step, turn), _cost(100 * 10**step, turn)


def grown(step: int) -> Iterator[tuple[float, float]]:
    """Microseconds of a first pass a hire, after a step to ten times as many and before it."""
    yield from ((after[0], before[0]) for after, before in _step(step))


def widened(step: int) -> Iterator[tuple[float, float]]:
    """KiB a hire after a first pass, likewise, of the same passes."""
    yield from ((after[1], before[1]) for after, before in _step(step))


def weight() -> Iterator[tuple[float, float]]:
    """MiB of a daemon at its peak, over 100,000 hires with twenty entries each; of one over a single hire.

    The first 200,000 grants of its first pass count. By then the files were loaded and every service's listing is read,
    and passes over all services are under way; the other grants are planned in as many passes of the same size.
    """
    with daemon(1) as (running, _, _):
        one = running.peak()
    with serving() as url, tempfile.TemporaryDirectory() as name:
        root = folder(Path(name), url, MANY, settings=SETTINGS, integrations=20, listing=True)
        running = Daemon(root, url)
        try:
            _until_recorded(root, 2 * MANY, running)
            yield running.peak(), one
        finally:
            running.stop()


def _until_recorded(root: Path, grants: int, running: Daemon) -> None:
    """Wait until the ledger has so many grants. Raises TimeoutError, and AssertionError where the daemon has ended."""
    until = time.monotonic() + LONGEST
    while _recorded(root) < grants:
        running.check()
        if time.monotonic() > until:
            raise TimeoutError(f"{_recorded(root)} of {grants} grants were recorded within {LONGEST:g} s")
        time.sleep(QUIET)


def _recorded(root: Path) -> int:
    """How many grants the ledger has."""
    state = root / ".reconciler" / "state.db"
    if not state.exists():
        return 0
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as ledger, suppress(sqlite3.OperationalError):
        return int(ledger.execute("SELECT count(*) FROM grants").fetchone()[0])
    return 0
