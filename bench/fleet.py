"""A fleet against one member: on the cores that this machine has, and where each has its own share of one."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.daemons import QUIET, ask_anew
from bench.server import heard, serving
from bench.world import commit, folder, git
from tests.postgres import Databases

MEMBERS, SERVICES, EACH = 3, 6, 1000
"""Members of a fleet, services, which its members divide among themselves, and hires that have each."""

SETTINGS = "interval: 1d\nlisten: 127.0.0.1:0\nlimits: {per_host: 60, concurrency: 60}\ngit: {fetch: 1s}\n"

LONGEST = 600.0

SLICE, SLICES = 0.02, 5
"""Seconds that a member runs at a time, and in how many of them it has its turn once: a fifth of a core."""


def joined() -> Iterator[tuple[float, float]]:
    """Checks a second of a full pass by three members, and by one, with a service that answers at once.

    With fewer than three free cores it only shows that they do not get in each other's way.
    """
    with Databases(fsync=True) as databases, serving() as url:
        while True:
            yield _checks(databases, url, MEMBERS), _checks(databases, url, 1)


def shared() -> Iterator[tuple[float, float]]:
    """The same where each member has a fifth of a core to itself, whatever the machine has: they run in turn."""
    with Databases(fsync=True) as databases, serving() as url:
        while True:
            yield _checks(databases, url, MEMBERS, in_turn=True), _checks(databases, url, 1, in_turn=True)


def _checks(databases: Databases, url: str, members: int, *, in_turn: bool = False) -> float:
    """Checks a second, from the first request after a commit that has everybody asked again to the last one."""
    with ExitStack() as stack:
        state = stack.enter_context(databases.made())
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin, clones = root / "origin", [root / f"member{number}" for number in range(members)]
        folder(origin, url, EACH, settings=SETTINGS, integrations=SERVICES)
        file = origin / "config" / "reconciler.yaml"
        file.write_text(file.read_text().replace("sqlite:///.reconciler/state.db", state))
        commit(origin)
        processes: list[subprocess.Popen[bytes]] = []
        before = heard(url)[0]
        for clone in clones:
            git(root, "clone", "--quiet", str(origin), str(clone))
            processes.append(stack.enter_context(_member(clone)))
        _until_asked(url, before + SERVICES * EACH, processes)
        time.sleep(QUIET)
        if in_turn:
            stack.enter_context(_taking_turns(processes))
        before = heard(url)[0]
        ask_anew(origin)
        while heard(url)[0] == before:
            time.sleep(0.005)
        began = time.time()
        _until_asked(url, before + SERVICES * EACH, processes)
        return SERVICES * EACH / (heard(url)[1] - began)


def _until_asked(url: str, requests: int, members: list[subprocess.Popen[bytes]]) -> None:
    """Wait until so many requests came. Raises TimeoutError, and AssertionError where a member has ended."""
    until = time.monotonic() + LONGEST
    while heard(url)[0] < requests:
        if any(member.poll() is not None for member in members):
            raise AssertionError("a member has ended")
        if time.monotonic() > until:
            raise TimeoutError(f"{heard(url)[0]} of {requests} requests came within {LONGEST:g} s")
        time.sleep(0.05)


@contextmanager
def _taking_turns(members: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Let one member run at a time, each as long as it would alone. They all run on when it ends."""
    over = threading.Event()

    def turns() -> None:
        while not over.is_set():
            for number in range(SLICES):
                member = members[number] if number < len(members) else None
                if member:
                    member.send_signal(signal.SIGCONT)
                over.wait(SLICE)
                if member:
                    member.send_signal(signal.SIGSTOP)
        for member in members:
            member.send_signal(signal.SIGCONT)

    for member in members:
        member.send_signal(signal.SIGSTOP)
    thread = threading.Thread(target=turns)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _member(clone: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon on a clone of its own."""
    program = str(Path(sys.executable).with_name("reconcile"))
    command = [program, "--repo", str(clone), "daemon", "--member", clone.name]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
