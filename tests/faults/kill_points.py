"""Every fault at every point: `python -m tests.faults.kill_points`. The suite has a part of it (`test_kill_points.py`).

Each scenario is played once undisturbed, which gives its points in their order, and then once for each of them and each
fault that can be there. After it, the program starts again on what was left, and the promises of docs/design/rules.md,
"Faults and load" are compared with the ledger, the service and the mail server.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sqlite3
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.model.failpoints import Failpoint
from tests.faults.injected import BESIDE, FILLER, MARK, Action, Fault, play
from tests.faults.scenarios import SCENARIOS, SETTLED, Stage, stage
from tests.forked import Nursery
from tests.repo import GnupgHome

HEADER = 32
FRAME = 24 + 4096
"""How SQLite's write-ahead log is cut: a header, then frames of a header and a page each."""

LEAVES = frozenset({Failpoint.REQUEST, Failpoint.RESPONSE, Failpoint.MESSAGE})
"""What is no write."""


@dataclass(frozen=True)
class Step:
    """A point as a scenario comes to it: the how-manieth, which, before or after it, how long the log was then."""

    place: int
    point: Failpoint
    done: bool
    log: int


@dataclass(frozen=True)
class Case:
    """A fault at one step of a scenario. `grows` is by how much the transaction there makes the log longer."""

    scenario: str
    step: Step
    fault: Fault
    grows: int

    def __str__(self) -> str:
        side = "after" if self.step.done else "before"
        return f"{self.scenario}, {self.fault} {side} {self.step.place} {self.step.point}"


def steps(log: str) -> list[Step]:
    """The points that a child told of."""
    found = []
    for line in log.splitlines():
        if line.startswith(MARK):
            _, place, name, done, size = line.split("\t")
            found.append(Step(int(place), Failpoint[name], done == "1", int(size)))
    return found


def undisturbed(on: Stage, scenario: str) -> list[Step]:
    """The steps of a scenario that no fault meets; it has to end well."""
    code, log = on.act(SCENARIOS[scenario].action)
    assert "Traceback" not in log, log
    on.act(SCENARIOS[scenario].action)
    on.act()
    _in_the_end(on, scenario)
    on.put_back()
    assert code in (0, 1), log
    met = steps(log)
    for one, other in itertools.pairwise(met):
        inside = other.done and not one.done  # what is written together is told of together
        closed = other.log == 0  # then the log is in the ledger's file, and gone
        assert inside or closed or other.log == one.log, f"a write between {one} and {other} is not told of"
    return met


def cases(scenario: str, met: list[Step], *, full: bool) -> Iterator[Case]:
    """Every fault that can be at each step; `full` where there is a disk of its own that can be filled."""
    for step in met:
        following = next((other for other in met[step.place :] if other.point is step.point and other.done), step)
        grows = following.log - step.log
        yield Case(scenario, step, Fault.KILL, grows)
        if step.done or step.point in LEAVES:
            continue
        if step.point in BESIDE or grows > 0:
            yield Case(scenario, step, Fault.ERROR, grows)
            yield Case(scenario, step, Fault.TORN, grows)
            if full:
                yield Case(scenario, step, Fault.FULL, grows)
        if grows > 0:
            yield Case(scenario, following, Fault.POWER, grows)


def verify(on: Stage, case: Case) -> None:
    """Play a case, start again, and see that the promises hold."""
    on.put_back()
    again = SCENARIOS[case.scenario].action
    room = {Fault.TORN: case.grows // 2 + 7 if case.grows else 20}.get(case.fault, 0)
    code, log = on.act(again, at=case.step.place, fault=case.fault, room=room)
    assert "Traceback" not in log, log
    met = steps(log)
    assert [(step.point, step.done) for step in met if step.place == case.step.place] == [
        (case.step.point, case.step.done)
    ], f"it came another way this time\n{log}"
    match case.fault:
        case Fault.KILL | Fault.POWER:
            assert code == -9, log
        case _ if case.step.point in BESIDE:
            assert code in (0, 1), log
        case _ if "alert.not_noted" in log:
            assert code == 0, log  # what is left to be told is no reason to end a pass
        case _:
            assert code == 1, log
            assert "error: " in log, log
            assert "the ledger: " in log, log
            assert ("make room on" if case.fault is Fault.FULL else "see to") + " the disk" in log, log
    (on.folder / FILLER).unlink(missing_ok=True)
    if case.fault is Fault.POWER:
        _cut_the_power(on, case, next(step.log for step in met if step.place == case.step.place - 1))
    sent = on.changes()
    _as_it_was_left(on, sent)
    settled = {key for key, record in on.records().items() if record.phase in SETTLED}
    if again is not Action.PASS:
        code, log = on.act(again)
        assert code in (0, 1), log
    code, log = on.act(times=2)
    assert "Traceback" not in log, log
    assert "error:" not in log, log
    if not SCENARIOS[case.scenario].repeats:
        for key in settled:
            now = {place: count for place, count in on.changes().items() if place[0] == key.hire}
            before = {place: count for place, count in sent.items() if place[0] == key.hire}
            assert now == before, f"{key} had succeeded, and ran again"
    _in_the_end(on, case.scenario)


def _as_it_was_left(on: Stage, sent: Counter[tuple[str, str]]) -> None:
    """The ledger opens, and everything that left is in it."""
    written: Counter[str] = Counter()
    with _copied(on.repo.state) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        if database.execute("select 1 from sqlite_master where name = 'requests'").fetchone():
            query = "select hire, count(*) from requests join attempts on attempts.id = attempt group by 1"
            written.update(dict(database.execute(query)))
    on.records()  # `status` shows what there is
    for hire in {hire for hire, _ in sent}:
        left = sum(count for (whose, _), count in sent.items() if whose == hire)
        names = ("ada", "lovelace") if hire == "ada" else (hire,)
        assert left <= sum(written[name] for name in names), f"{hire}: something left without its line"


def _in_the_end(on: Stage, scenario: str) -> None:
    SCENARIOS[scenario].holds(on)
    with _copied(on.repo.state) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    with on.ledger() as ledger:
        assert ledger.attempts.open() == []
        unsettled = {f"run/{key}" for key, record in on.records().items() if record.open is not None}
        kept = {name for name in ledger.sealed.names() if name.startswith(("run/", "notice/"))}
        assert kept <= unsettled, "what a settled run had to remember was not erased"
    renewals = set(on.repo.state.parent.glob("state.db.*.lock"))
    beside = {file.name for file in set(on.repo.state.parent.iterdir()) - renewals}
    assert beside <= {".gitignore", "state.db", "state.db.lock", "hires.cache", "hires.cache.key"}, beside


# The power cut: what was not yet on the disk for certain


def _cut_the_power(on: Stage, case: Case, before: int) -> None:
    """Leave of the last transaction what a power cut could, and see that none of it counts; go on with one of them."""
    log = on.repo.state.with_name("state.db-wal")
    whole = log.read_bytes()
    assert len(whole) > before
    expected = _content(on.repo.state, whole[:before])
    torn = list(_torn(whole, before))
    for cut in torn:
        assert _content(on.repo.state, cut) == expected, "a part of a transaction counts"
    on.repo.state.with_name("state.db-shm").unlink(missing_ok=True)  # it is memory, and gone with it
    log.write_bytes(torn[case.step.place % len(torn)])


def _torn(whole: bytes, before: int) -> Iterator[bytes]:
    """What may be left of the log: it ends anywhere, or its pages were not all written."""
    start, last = max(before, HEADER), len(whole) - FRAME
    for end in range(start, len(whole), FRAME):
        yield whole[:end]
    for end in {start, last}:
        yield whole[: end + 11]
        yield whole[: end + 24 + 2000]
        yield whole[: end + FRAME - 1]
    yield whole[: last + 24] + bytes(FRAME - 24)
    yield whole[:last] + bytes(FRAME)
    yield whole[:-1] + bytes([whole[-1] ^ 255])
    if last > start:
        yield whole[:start] + bytes(FRAME) + whole[start + FRAME :]


def _content(state: Path, log: bytes) -> Any:
    """All that a ledger says, with this log."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "state.db")
        shutil.copyfile(state, copy)
        copy.with_name("state.db-wal").write_bytes(log)
        with closing(sqlite3.connect(copy)) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            return list(database.iterdump())


@contextmanager
def _copied(state: Path) -> Iterator[sqlite3.Connection]:
    """The ledger as it was left, opened in a copy: opening it here must not repair it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (state.name, f"{state.name}-wal"):
            if (state.parent / name).exists():
                shutil.copyfile(state.parent / name, Path(folder, name))
        with closing(sqlite3.connect(Path(folder, state.name))) as connection:
            yield connection


# The disk


@contextmanager
def disk() -> Iterator[tuple[Path, bool]]:
    """A folder, on a small disk of its own where this machine lets us have one: that one can be filled."""
    with tempfile.TemporaryDirectory(prefix="points-") as name:
        folder = Path(name).resolve()
        own = _mount("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", name)
        try:
            yield folder, own
        finally:
            if own:
                _mount("umount", name)


def _mount(*command: str) -> bool:
    with suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def play_all(names: Iterable[str], faults: Iterable[Fault]) -> tuple[Counter[Fault], Counter[Failpoint], list[str]]:
    """Every case of some scenarios: how many were played of each fault, at each point, and what did not hold."""
    played: Counter[Fault] = Counter()
    met: Counter[Failpoint] = Counter()
    broken: list[str] = []
    gnupg = GnupgHome()
    try:
        with Nursery(play.__module__) as nursery:
            for name in names:
                with disk() as (folder, own), stage(nursery, folder, gnupg, SCENARIOS[name]) as on:
                    for case in cases(name, undisturbed(on, name), full=own):
                        if case.fault not in faults:
                            continue
                        try:
                            verify(on, case)
                        except Exception:  # noqa: BLE001  one that does not hold must not hide the others
                            broken.append(f"{case}\n{traceback.format_exc()}")
                            print(broken[-1], flush=True)
                        played[case.fault] += 1
                        met[case.step.point] += 1
                print(f"{name}: {played.total()} cases so far, {len(broken)} broken", flush=True)
    finally:
        gnupg.close()
    return played, met, broken


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Kills and broken disks at every point, and what has to hold then.")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--fault", action="append", choices=[fault.value for fault in Fault])
    asked = parser.parse_args()
    began = time.monotonic()
    faults = [Fault(name) for name in asked.fault or Fault]
    played, met, broken = play_all(asked.scenario or SCENARIOS, faults)
    for fault, count in played.items():
        print(f"{count:5} × {fault}")
    if not (asked.scenario or asked.fault) and (left := set(Failpoint) - set(met)):
        broken.append(f"no scenario comes to {', '.join(sorted(left))}")
        print(broken[-1])
    print(f"{played.total()} cases, {len(broken)} broken; {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
