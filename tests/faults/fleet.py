"""A fleet with real processes and a real PostgreSQL: `python -m tests.faults.fleet --rounds N`.

Members are killed or stopped at each of six moments of an attempt, the database is taken away and comes back, and
three members are measured against one. After each round nobody was made twice, nobody is half done, and what the killed
member had is taken over in time. The suite plays a short choice (tests/faults/test_fleet.py).
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.faults.fleet_member import MOMENTS, member
from tests.forked import nursery
from tests.postgres import Databases
from tests.repo import Repo, Result, call_cli
from tests.servers import PATIENCE, AccountService

TAKEN_OVER = 30.0
"""Seconds within which another member has taken over what a dead one had."""

SERVICES = 3
PEOPLE = 4


class Member:
    """A daemon of the fleet, on a clone of its own; with `at`, it ends or stops at that moment, if it is the first."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        at: str | None = None,
        number: int = signal.SIGKILL,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        root = stage.folder / name
        if not root.exists():
            subprocess.run(["git", "clone", "--quiet", str(stage.origin), str(root)], check=True)
        self._log = (stage.folder / f"{name}.log").open("a+", encoding="utf-8")
        given = {"name": name, "at": at, "marker": str(stage.marker), "number": int(number)}
        environment = stage.repo.environment(env)
        streams = (None, self._log, self._log)
        self.process = nursery().start(member, cwd=root, env=environment, streams=streams, given=given)

    @property
    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    @property
    def started(self) -> bool:
        """Whether it has joined the fleet."""
        return "daemon.started" in self.log

    @property
    def stopped(self) -> bool:
        """Whether it stands still, by a signal."""
        with suppress(OSError):
            return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def url(self) -> str | None:
        """Where it listens; None before it does."""
        found = re.search(r"listen=(\S+)", self.log)
        return None if found is None else f"http://{found[1]}"

    def ready(self) -> tuple[int, str]:
        """What it answers at /readyz."""
        if self.url is None:
            return 0, ""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def close(self) -> None:
        """End it, however it stands."""
        if self._log.closed:
            return
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


class Stage:
    """A repository with an origin, services that it speaks of, and a database."""

    def __init__(self, folder: Path, url: str, *, services: int, people: int, delay: float = 0.0) -> None:
        self.folder = folder
        self.url = url
        self.marker = folder / "marker"
        self.services = [AccountService() for _ in range(services)]
        self.repo = Repo(folder / "work")
        self.origin = folder / "origin.git"
        self.settings(state=url)
        for number, service in enumerate(self.services):
            service.delay = delay
            self.repo.manifest(f"s{number}", service.manifest(team=True))
        self.people: list[str] = []
        self.add(people)
        subprocess.run(["git", "clone", "--quiet", "--bare", str(self.repo.root), str(self.origin)], check=True)
        self.repo.git("remote", "add", "origin", str(self.origin))

    def settings(self, **keys: Any) -> None:
        """Commit settings: those of every trial, and these."""
        ours = {
            "interval": "1d",
            "retry_delay": "1s",
            "listen": "127.0.0.1:0",
            "git": {"fetch": "1s", "branch": "main"},
        }
        self.repo.settings(**{"state": self.url, **ours, **keys})
        self.push()

    def push(self) -> None:
        """Commit; and push, where there is an origin."""
        self.repo.commit()
        if self.origin.exists():
            self.repo.git("push", "--quiet", "origin", "main")

    def add(self, people: int) -> None:
        """Commit so many more people, each with an entry of every service; and push them, where there is an origin."""
        new = [f"p{len(self.people) + number}" for number in range(people)]
        self.people += new
        access = [{"integration": f"s{n}", "values": {"TEAM": "crew"}} for n in range(len(self.services))]
        for stem in new:
            self.repo.hire(stem, *access)
        self.push()

    def close(self) -> None:
        for service in self.services:
            service.close()

    def status(self) -> Result:
        return call_cli(self.repo, "status", "--output", "json")

    def posts(self) -> Counter[tuple[str, str]]:
        """How often each person was asked to be made, by service."""
        return Counter(
            (service.host, call.json()["email"])
            for service in self.services
            for call in list(service.requests)
            if call.method == "POST" and call.path == "/users"
        )

    def missing(self) -> list[str]:
        """Who is not there, or not in the team, at any service."""
        return [
            f"{stem} at {service.host}"
            for stem in self.people
            for service in self.services
            if f"{stem}@example.com" not in service.people
            or f"{stem}@example.com" not in [each.lower() for each in service.teams.get("crew", [])]
        ]

    def judge(self) -> None:
        """Nobody twice, nobody half done."""
        twice = {who: count for who, count in self.posts().items() if count > 1}
        assert not twice, f"asked for twice: {twice}"
        assert not (missing := self.missing()), missing


@contextmanager
def staged(
    databases: Databases, *, services: int = SERVICES, people: int = PEOPLE, delay: float = 0.0
) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="fleet-") as name, databases.made() as url:
        stage = Stage(Path(name), url, services=services, people=people, delay=delay)
        try:
            yield stage
        finally:
            stage.close()


def until(condition: Callable[[], Any], members: list[Member], seconds: float = PATIENCE) -> float:
    """Wait for a condition; gives how long it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            logs = "\n".join(f"--- {member.name}\n{member.log[-3000:]}" for member in members)
            raise AssertionError(f"not within {seconds:g} s\n{logs}")
        time.sleep(0.05)
    return time.monotonic() - began


def one_round(databases: Databases, moment: str, number: int) -> float:
    """Three members, of which the first that comes to a moment is killed or stopped; gives the seconds to take over."""
    with staged(databases) as stage, ExitStack() as ends:
        members = [Member(stage, name, moment, number) for name in "abc"]
        for member in members:
            ends.callback(member.close)
        until(stage.marker.exists, members)
        began = time.monotonic()
        until(lambda: not stage.missing(), members)
        took = time.monotonic() - began
        if number == signal.SIGSTOP:
            (victim,) = [member for member in members if member.stopped]
            victim.process.send_signal(signal.SIGCONT)
            assert victim.process.wait() == 1, victim.log[-3000:]
        stage.judge()
        settled = lambda: all(row["status"] == "present" for row in stage.status().json["grants"])  # noqa: E731
        until(settled, members)
        stage.judge()
        return took


def away(databases: Databases, seconds: float) -> None:
    """The database goes away for a while in the middle of the work: all go on, nothing is doubled."""
    with staged(databases, people=20, delay=0.05) as stage, ExitStack() as ends:
        members = [Member(stage, name) for name in "ab"]
        for member in members:
            ends.callback(member.close)
        began = lambda: sum(stage.posts().values()) > 10 and all(member.started for member in members)  # noqa: E731
        until(began, members)
        with databases.away():
            time.sleep(seconds)
            assert all(member.process.poll() is None for member in members), [member.log for member in members]
        until(lambda: not stage.missing(), members, 120)
        stage.judge()
        assert all(member.process.poll() is None for member in members)


def grow(databases: Databases) -> None:
    """A member joins while another is in a pass that takes long: what is under way is not cut off."""
    with staged(databases, services=1, people=24, delay=1.0) as stage, ExitStack() as ends:
        stage.settings(limits={"per_host": 1, "concurrency": 1})
        members = [Member(stage, "a")]
        ends.callback(members[0].close)
        until(lambda: stage.posts().total() > 1, members)
        members.append(Member(stage, "b"))
        ends.callback(members[1].close)
        until(lambda: not stage.missing(), members, 150)
        stage.judge()
        assert not any("interrupted" in (row["last_error"] or "") for row in stage.status().json["grants"])


def timed(databases: Databases, count: int, people: int) -> tuple[float, float]:
    """Seconds that so many members take over six services of 100 ms, and their processor's milliseconds a grant."""
    with staged(databases, services=6, people=1, delay=0.1) as stage, ExitStack() as ends:
        stage.settings(max_new=None)
        members = [Member(stage, f"m{number}") for number in range(count)]
        for member in members:
            ends.callback(member.close)
        until(lambda: len((stage.status().json or {}).get("members", [])) == count, members)
        time.sleep(3)
        cpu = sum(member.cpu() for member in members)
        stage.add(people)
        took = until(lambda: not stage.missing(), members, 600)
        cpu = sum(member.cpu() for member in members) - cpu
        stage.judge()
        return took, 1000 * cpu / people / len(stage.services)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=["kill", "stop", "away", "cut", "grow", "timed"])
    parser.add_argument("--moment", choices=[*MOMENTS])
    parser.add_argument("--people", type=int, default=100)
    asked = parser.parse_args()
    with Databases(fsync=True) as databases:
        for number in range(asked.rounds):
            for name, sign in (("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)):
                for moment in MOMENTS if asked.only in (None, name) else ():
                    if asked.moment in (None, moment):
                        took = one_round(databases, moment, sign)
                        assert took < TAKEN_OVER
                        print(f"round {number + 1}: {name} at {moment}: all there after {took:.1f} s", flush=True)
        if asked.only in (None, "away"):
            away(databases, 20)
            print("database away for 20 s: all went on, nothing doubled", flush=True)
        if asked.only in (None, "cut"):
            from tests.faults.fleet_cut_off import all_cut_off, one_cut_off

            all_cut_off(databases, 20)
            print("nothing came through to the database for 20 s: all went on, nothing doubled", flush=True)
            took = one_cut_off(databases, 20)
            print(f"nothing came through from one member for 20 s: all there after {took:.1f} s", flush=True)
        if asked.only in (None, "grow"):
            grow(databases)
            print("a member joined in the middle of a long pass: nothing was cut off", flush=True)
        if asked.only in (None, "timed"):
            one, its = timed(databases, 1, asked.people)
            three, theirs = timed(databases, 3, asked.people)
            spent = f"one member {one:.1f} s, three {three:.1f} s: {one / three:.2f} times"
            print(f"six services of 100 ms: {spent}; {its:.1f} and {theirs:.1f} ms of processor time a grant")


if __name__ == "__main__":
    main()
