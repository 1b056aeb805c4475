"""Hooks in a full pass over many people: `python -m tests.faults.hooks --people 10000`. A short choice is in the suite.

A daemon goes over everybody again and again while hires are merged at a real bare remote, whose pushes it is told of;
while accounts are deleted at the service, which tells of them; and while hooks are forged, replayed and flood. Every
figure is measured at the services and at the remote. The exit code is 1 where one is missed, which on a machine with
other work says little.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tests.repo import Daemon, GnupgHome, Repo
from tests.servers import AccountService

__all__ = ["Flood", "Stage", "deleted", "flooded", "merged", "staged"]

SECRET = "correct horse"
DELAY = 0.05
"""Seconds that each answer takes: a full pass is as long as the service makes it."""

SENDERS = 6
LONGEST = 300.0
QUIET = 10.0
"""Seconds of full passes without a flood."""

PAUSE = 1.0
"""Seconds from one merge to the next: a remote is fetched from once a second at most."""


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition. Raises TimeoutError."""
    end = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {LONGEST:g} s")
        time.sleep(0.01)


def sent(connection: http.client.HTTPConnection, name: str, body: bytes, secret: str = SECRET) -> int:
    """Call a hook with a body that is signed with a secret; gives the answer's status."""
    made = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    connection.request(
        "POST", f"/hooks/{name}", body, {"X-Hub-Signature-256": made, "Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    answer.read()
    return answer.status


def about(login: str) -> bytes:
    """The body of an event about an account."""
    return json.dumps({"user": {"login": login}}).encode()


class Stage:
    """A daemon over a clone, the bare remote that it fetches from, a clone of somebody who merges, and two services.

    Everybody has an account at the first, whose name is a value of the hire's; the other has a listing, and nobody.
    """

    def __init__(self, folder: Path, gnupg: GnupgHome, service: AccountService, listed: AccountService) -> None:
        self.service, self.listed = service, listed
        self.repo = Repo(folder / "repo", gnupg)
        self.theirs = Repo(folder / "theirs")
        self._fetches = folder / "fetches"
        self._origin = folder / "origin.git"
        self._program = folder / "upload-pack"
        self.sweeps = 0
        self._began_at = 0
        self._people = 0

    def begin(self, people: int) -> None:
        """Commit and push everything for so many people."""
        self._people = people
        settings = {"interval": "1d", "max_new": None, "git": {"fetch": "1h", "branch": "main"}}
        self.repo.settings(limits={"concurrency": 20}, **settings)
        for each in ("reconciler", "tool", "listed"):
            self.repo.initial_data(each, {"HOOK_SECRET": SECRET})
        self.repo.manifest("listed", {**self.listed.manifest(listing=True), **self._events})
        self.repo.manifest("tool", self._tool("once"))
        for number in range(people):
            self.repo.hire(f"p{number}", "tool", extra={"LOGIN": f"p{number}@example.com"})
        self.service.add(*(f"p{number}@example.com" for number in range(people)))
        self.repo.commit()
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(self._origin)], check=True)
        self._program.write_text(f'#!/bin/sh\necho >> {self._fetches}\nexec git-upload-pack "$@"\n')
        self._program.chmod(0o700)
        for repo in (self.repo, self.theirs):
            repo.git("remote", "add", "origin", str(self._origin))
        self.repo.git("push", "--quiet", "origin", "main")
        self.theirs.git("pull", "--quiet", "origin", "main")
        self.repo.git("config", "remote.origin.uploadpack", str(self._program))
        self.service.delay = DELAY

    @property
    def _events(self) -> dict[str, Any]:
        signature = {"header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": "{{HOOK_SECRET}}"}
        events = {"signature": signature, "account": "user.login"}
        return {"events": events, "initial_data_form": [{"id": "HOOK_SECRET"}]}

    def _tool(self, name: str) -> dict[str, Any]:
        whole = {**self.service.manifest(), **self._events, "name": name}
        whole["exists"]["expected"] = "{{LOGIN}}"
        return whole

    def connection(self) -> http.client.HTTPConnection:
        """A connection to the daemon."""
        return http.client.HTTPConnection(self.repo.listen, timeout=LONGEST)

    def merge(self) -> float:
        """Push what the other clone has, and tell the daemon of it; gives when the branch pointed to it."""
        self.theirs.commit()
        self.theirs.git("push", "--quiet", "origin", "HEAD:main")
        with closing(self.connection()) as connection:
            assert sent(connection, "git", b"{}") == 204
        return (self._origin / "refs" / "heads" / "main").stat().st_mtime

    def keep_busy(self) -> None:
        """Have a full pass under way: once the last one is half done, begin another."""
        if len(self.service.requests) - self._began_at < self._people // 2:
            return
        self.sweeps += 1
        self._began_at = len(self.service.requests)
        self.theirs.manifest("tool", self._tool(f"as of {time.time()}"))
        self.merge()
        until(lambda: len(self.service.requests) > self._began_at + 5)

    def asked(self, stem: str) -> list[float]:
        """When somebody was asked for."""
        return [call.at for call in self.service.calls("GET", f"/users/{stem}@")]

    def made(self, stem: str) -> list[float]:
        """When somebody was made."""
        return [call.at for call in self.service.calls("POST") if call.json()["email"] == f"{stem}@example.com"]

    def fetches(self) -> int:
        """How often the remote was fetched from."""
        return len(self._fetches.read_text().splitlines()) if self._fetches.exists() else 0


@contextmanager
def staged(people: int) -> Iterator[Stage]:
    """A daemon that made its first pass over so many people."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="hooks-")))
        gnupg = GnupgHome()
        ends.callback(gnupg.close)
        stage = Stage(folder, gnupg, *(ends.enter_context(AccountService()) for _ in range(2)))
        stage.begin(people)
        ends.enter_context(Daemon(stage.repo))
        until(lambda: len(stage.service.requests) >= people and stage.fetches())
        yield stage


def merged(stage: Stage, count: int) -> list[float]:
    """Seconds from each of so many merges to the first request about the new hire, in a full pass over all others."""
    took = []
    for number in range(count):
        stage.keep_busy()
        time.sleep(PAUSE)
        stage.theirs.hire(f"new{number}", "tool", extra={"LOGIN": f"new{number}@example.com"})
        began = stage.merge()
        until(partial(stage.asked, f"new{number}"))
        took.append(stage.asked(f"new{number}")[0] - began)
    return took


def deleted(stage: Stage, count: int) -> list[float]:
    """Seconds from each of so many events about an account that is gone until it is made again.

    Not in a full pass: what is healed in one counts for the guard, and waits until all are counted.
    """
    took = []
    with closing(stage.connection()) as connection:
        for number in range(count):
            stem = f"p{number}"
            del stage.service.people[f"{stem}@example.com"]
            began = time.time()
            assert sent(connection, "tool", about(f"{stem}@example.com".upper())) == 204
            until(partial(stage.made, stem))
            took.append(stage.made(stem)[0] - began)
    return took


@dataclass(frozen=True)
class Flood:
    """What a flood of hooks came to: the answers, what it cost, and the checks a second of full passes in it."""

    seconds: float
    answers: Counter[int]
    fetches: int
    checks: int
    """Of the one account that events told of, without those of full passes."""
    readings: int
    """Of the listing, of the service that told of accounts of nobody."""
    before: float
    """Checks a second without a flood."""
    meanwhile: float

    def judge(self) -> None:
        """Raise AssertionError where it cost more than it may."""
        assert self.answers.keys() == {204, 401}, self.answers
        assert self.fetches <= self.seconds + 2, "one a second, and one after it"
        assert self.checks <= self.seconds / 10 + 2, "at once, and then once in ten seconds"
        assert self.readings <= self.seconds / 60 + 2, "once a minute"


def flooded(stage: Stage, count: int) -> Flood:
    """Send so many hooks that are forged, as many that are replayed, and as many that are new, in full passes."""
    replayed = about("p1@example.com")

    def send(sender: int) -> Counter[int]:
        answers = Counter[int]()
        with closing(stage.connection()) as connection:
            for number in range(sender, count, SENDERS):
                name = ("git", "tool")[number // SENDERS % 2]
                answers[sent(connection, name, replayed, "another secret")] += 1
                answers[sent(connection, name, replayed)] += 1
                answers[sent(connection, "listed", about(f"nobody{number}@example.com"))] += 1
        return answers

    end = time.monotonic() + QUIET
    before = _rate(stage, lambda: time.monotonic() > end)
    asked, fetched, sweeps, read = len(stage.asked("p1")), stage.fetches(), stage.sweeps, _readings(stage)
    began = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        sending = [pool.submit(send, sender) for sender in range(SENDERS)]
        meanwhile = _rate(stage, lambda: all(each.done() for each in sending))
    return Flood(
        seconds=time.monotonic() - began,
        answers=sum((each.result() for each in sending), Counter[int]()),
        fetches=stage.fetches() - fetched,
        checks=len(stage.asked("p1")) - asked - (stage.sweeps - sweeps),
        readings=_readings(stage) - read,
        before=before,
        meanwhile=meanwhile,
    )


def _readings(stage: Stage) -> int:
    return len([call for call in stage.listed.calls("GET") if call.path == "/users"])


def _rate(stage: Stage, over: Callable[[], bool]) -> float:
    """Requests a second of full passes, until it is over."""
    stage.keep_busy()
    began, count = time.monotonic(), len(stage.service.requests)
    while not over():
        stage.keep_busy()
        time.sleep(0.05)
    return (len(stage.service.requests) - count) / (time.monotonic() - began)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=20, help="merges, and deletions")
    parser.add_argument("--hooks", type=int, default=10_000, help="of each kind")
    asked = parser.parse_args()
    with staged(asked.people) as stage:
        deletions, merges = median(deleted(stage, asked.count)), median(merged(stage, asked.count))
        print(f"merge to first request, median of {asked.count}: {1000 * merges:.0f} ms", flush=True)
        print(f"event to the account made again, median of {asked.count}: {1000 * deletions:.0f} ms", flush=True)
        flood = flooded(stage, asked.hooks)
        print(f"{3 * asked.hooks:,} hooks in {flood.seconds:.0f} s, answers {dict(flood.answers)}")
        print(f"they cost {flood.fetches} fetches, {flood.checks} checks, {flood.readings} readings of a listing")
        print(f"checks a second of full passes: {flood.before:.0f} before, {flood.meanwhile:.0f} meanwhile", flush=True)
        flood.judge()
    sys.exit(0 if max(merges, deletions) < 1 else 1)


if __name__ == "__main__":
    main()
