"""Repositories to measure on, and passes over them in this process."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from reconciler.cli import many_objects
from reconciler.engine.context import Context, Revision, SystemClock
from reconciler.engine.run.runner import LockedState, PassRunner
from reconciler.engine.state import locking
from reconciler.model.report import Report
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest
from reconciler.notify.delivery import Notifier

GIT = shutil.which("git") or "git"


def folder(
    root: Path,
    url: str,
    people: int,
    *,
    settings: str = "",
    integrations: int = 1,
    listing: bool = False,
    written_out: bool = False,
) -> Path:
    """A repository with so many hires who have each of so many integrations, committed.

    Their entries are the integrations' names, or `written_out` with a value and a day.
    """
    for name in ("hires", "manifests", "config"):
        (root / name).mkdir(parents=True, exist_ok=True)
    listed = f", list: {{url: '{url}/everybody/{people}/0', data_from: data, match: email, next_page_from: next}}"
    names = ["tool", *(f"tool{number}" for number in range(1, integrations))]
    for name in names:
        (root / "manifests" / f"{name}.yaml").write_text(
            f"exists: {{url: '{url}/users/{{{{email}}}}', expected: '{{{{email}}}}'{listed if listing else ''}}}\n"
            f"execute: [{{url: '{url}/users', data: {{email: '{{{{email}}}}'}}}}]\n"
            "headers: {Accept: application/json}\n"
            + ("form: [{id: TEAM, name: Team, type: input}]\n" if written_out else "")
        )
    (root / "config" / "reconciler.yaml").write_text(
        "state: sqlite:///.reconciler/state.db\nmax_new: null\n" + settings
    )
    for number in range(people):
        shard = root / "hires" / f"{number % 256:02x}"
        shard.mkdir(exist_ok=True)
        (shard / f"p{number}.yaml").write_text(hire(number, names, written_out=written_out))
    (root / ".gitignore").write_text(".reconciler/\n")
    git(root, "init", "--quiet")
    commit(root)
    git(root, "repack", "-adq")  # as it comes in a clone: objects that lie about singly are three times as slow to read
    return root


def hire(number: int, names: list[str], *, written_out: bool = False) -> str:
    """A hire's file."""
    entry = (
        "  - integration: {name}\n    values: {{TEAM: 't{team}'}}\n    at: start-3d\n"
        if written_out
        else "  - {name}\n"
    )
    access = "".join(entry.format(name=name, team=number % 50) for name in names)
    start = "start: 2026-01-01\n" if written_out else ""
    return f"email: p{number}@example.com\nfirst_name: P{number}\nlast_name: Example\n{start}access:\n{access}"


def git(root: Path, *arguments: str) -> None:
    """Run git."""
    who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0")
    subprocess.run([GIT, "-C", str(root), *who, *arguments], check=True, capture_output=True)


def commit(root: Path) -> None:
    """Commit what there is."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "bench")


def took(command: list[str]) -> float:
    """Seconds that a command takes. Raises CalledProcessError where it fails."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


@dataclass(frozen=True)
class Pass:
    """What a pass took, in seconds by the clock and of this process's processor time, and what it found."""

    seconds: float
    cpu: float
    report: Report


def reconcile_twice(root: Path) -> list[Pass]:
    """Two passes over everything, as a daemon makes them one after the other."""
    many_objects()

    async def go() -> list[Pass]:
        clock = SystemClock()
        world = Context(root, clock, Redactor())
        head = Revision.at(world, world.checkout.head())
        results = []
        try:
            with locking(head, "bench") as held:
                passes = PassRunner(clock=clock, leases=LockedState(held), revision=lambda: head, notifier=Notifier())
                for _ in range(2):
                    began, cpu = time.perf_counter(), time.process_time()
                    report = await passes.run(PassRequest())
                    results.append(Pass(time.perf_counter() - began, time.process_time() - cpu, report))
        finally:
            await world.aclose()
        return results

    return asyncio.run(go())
