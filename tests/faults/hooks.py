"""Hooks in a full pass over many people: `python -m tests.faults.hooks --people 10000`. A short choice is in the suite.

Accounts are deleted at a service, which tells of them. And a daemon goes over everybody again and again while hires are
merged at a real bare remote, whose pushes it is told of, and while hooks are forged, replayed and flood. Every figure
is measured at the services and at the remote. The exit code is 1 where one is missed, which on a machine with other
work says little.
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

from bench.server import asked_for, heard, serving
from tests.repo import Daemon, GnupgHome, Repo
from tests.servers import AccountService

SECRET = "correct horse"
DELAY = 0.05
"""Seconds that each answer about everybody takes: a full pass is as long as the service makes it."""

DESK = 100
"""So many people have an account at the second service: the guard lets a quarter of them be made again."""

SENDERS = 6
LONGEST = 300.0
QUIET = 10.0
"""Seconds of full passes without a flood."""

ONE = "/users/p1@example.com"
"""Whose account the replayed events are about, at the desk."""

EVENTS = {
    "signature": {"header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": "{{HOOK_SECRET}}"},
    "account": "user.login",
}

PAUSE = 1.2
"""Seconds between merges: a remote is fetched from once a second at most."""


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition. Raises TimeoutError."""
    end = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {LONGEST:g} s")
        time.sleep(0.02)


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

    Everybody has an account of the `tool`, at a server of its own, and some have one of the `desk`, which has a
    listing. What accounts are called is a value of the hire's.
    """

    def __init__(self, folder: Path, gnupg: GnupgHome, tool: str, desk: AccountService) -> None:
        self.desk = desk
        self.repo = Repo(folder / "repo", gnupg)
        self.theirs = Repo(folder / "theirs")
        self._url = tool
        self._folder = folder
        self._began_at = 0
        self._people = 0

    def begin(self, people: int) -> None:
        """Commit and push everything for so many people."""
        self._people = people
        self.repo.settings(interval="1d", max_new=None, git={"fetch": "1h", "branch": "main"})
        for each in ("reconciler", "desk"):
            self.repo.initial_data(each, {"HOOK_SECRET": SECRET})
        manifest = self.desk.manifest(listing=True)
        manifest["exists"]["expected"] = "{{LOGIN}}"
        self.repo.manifest("desk", {**manifest, "events": EVENTS})
        self.repo.manifest("tool", self._tool("once"))
        for number in range(people):
            more = ["desk"] if number < DESK else []
            self.repo.hire(f"p{number}", "tool", *more, extra={"LOGIN": f"p{number}@example.com"})
        self.desk.add(*(f"p{number}@example.com" for number in range(DESK)))
        self.repo.commit()
        origin, program = self._folder / "origin.git", self._folder / "upload-pack"
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(origin)], check=True)
        program.write_text(f'#!/bin/sh\necho >> {self._folder / "fetches"}\nexec git-upload-pack "$@"\n')
        program.chmod(0o700)
        for repo in (self.repo, self.theirs):
            repo.git("remote", "add", "origin", str(origin))
        self.repo.git("push", "--quiet", "origin", "main")
        self.theirs.git("pull", "--quiet", "origin", "main")
        self.repo.git("config", "remote.origin.uploadpack", str(program))

    def _tool(self, name: str) -> dict[str, Any]:
        url = f"{self._url}/users/{{{{email}}}}"
        return {"name": name, "exists": {"url": url, "expected": "{{LOGIN}}"}, "execute": [{"url": url}]}

    def connection(self) -> http.client.HTTPConnection:
        """A connection to the daemon."""
        return http.client.HTTPConnection(self.repo.listen, timeout=LONGEST)

    def merge(self) -> float:
        """Push what the other clone has, and tell the daemon of it; gives when the branch pointed to it."""
        self.theirs.commit()
        self.theirs.git("push", "--quiet", "origin", "HEAD:main")
        with closing(self.connection()) as connection:
            assert sent(connection, "git", b"{}") == 204
        return (self._folder / "origin.git" / "refs" / "heads" / "main").stat().st_mtime

    def keep_busy(self) -> None:
        """Have a full pass under way: once the last one is half done, begin another."""
        if self.checks() - self._began_at < self._people // 2:
            return
        self._began_at = self.checks()
        self.theirs.manifest("tool", self._tool(f"as of {time.time()}"))
        self.merge()
        until(lambda: self.checks() > self._began_at + 5)

    def checks(self) -> int:
        """How often anybody was asked for at the tool."""
        return heard(self._url)[0]

    def first_check(self, stem: str) -> float | None:
        """When somebody was first asked for at the tool."""
        return asked_for(self._url, f"{stem}@example.com")

    def made(self, stem: str) -> list[float]:
        """When somebody was made at the desk."""
        return [call.at for call in self.desk.calls("POST") if call.json()["email"] == f"{stem}@example.com"]

    def fetches(self) -> int:
        """How often the remote was fetched from."""
        written = self._folder / "fetches"
        return len(written.read_text().splitlines()) if written.exists() else 0


@contextmanager
def staged(people: int) -> Iterator[Stage]:
    """A daemon that made its first pass over so many people."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="hooks-")))
        gnupg = GnupgHome()
        ends.callback(gnupg.close)
        stage = Stage(folder, gnupg, ends.enter_context(serving(DELAY)), ends.enter_context(AccountService()))
        stage.begin(people)
        ends.enter_context(Daemon(stage.repo))
        until(lambda: stage.checks() >= people and stage.fetches())
        yield stage


def deleted(stage: Stage, count: int) -> list[float]:
    """Seconds from each of so many events about an account that is gone until it is made again.

    Not in a full pass over its service: what is healed in one counts for the guard, and waits until all are counted.
    """
    took = []
    with closing(stage.connection()) as connection:
        for number in range(count):
            stem = f"p{number}"
            del stage.desk.people[f"{stem}@example.com"]
            began = time.time()
            assert sent(connection, "desk", about(f"{stem}@example.com".upper())) == 204
            until(partial(stage.made, stem))
            took.append(stage.made(stem)[0] - began)
    return took


def merged(stage: Stage, count: int) -> list[float]:
    """Seconds from each of so many merges to the first request about the new hire, in a full pass over all others."""
    took = []
    for number in range(count):
        stage.keep_busy()
        time.sleep(PAUSE)
        stem = f"new{number}"
        stage.theirs.hire(stem, "tool", extra={"LOGIN": f"{stem}@example.com"})
        began = stage.merge()
        until(partial(stage.first_check, stem))
        took.append((stage.first_check(stem) or 0.0) - began)
    return took


@dataclass(frozen=True)
class Flood:
    """What a flood of hooks came to: the answers, what it cost, and the checks a second of full passes in it."""

    seconds: float
    answers: Counter[int]
    fetches: int
    checks: int
    """Of the one account that events told of."""
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


def flooded(stage: Stage, count: int, quiet: float = QUIET) -> Flood:
    """Send so many hooks that are forged, as many that are replayed, and as many that are new, in full passes."""
    replayed = about(ONE.rpartition("/")[2])

    def send(sender: int) -> Counter[int]:
        answers = Counter[int]()
        with closing(stage.connection()) as connection:
            for number in range(sender, count, SENDERS):
                name = ("git", "desk")[number // SENDERS % 2]
                answers[sent(connection, name, replayed, "another secret")] += 1
                answers[sent(connection, name, replayed)] += 1
                answers[sent(connection, "desk", about(f"nobody{number}@example.com"))] += 1
        return answers

    before = _rate(stage, lambda since: time.monotonic() > since + quiet)
    asked, fetched, read = _asked(stage, ONE), stage.fetches(), _asked(stage, "/users")
    began = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        sending = [pool.submit(send, sender) for sender in range(SENDERS)]
        meanwhile = _rate(stage, lambda _: all(each.done() for each in sending))
    return Flood(
        seconds=time.monotonic() - began,
        answers=sum((each.result() for each in sending), Counter[int]()),
        fetches=stage.fetches() - fetched,
        checks=_asked(stage, ONE) - asked,
        readings=_asked(stage, "/users") - read,
        before=before,
        meanwhile=meanwhile,
    )


def _asked(stage: Stage, path: str) -> int:
    return len([call for call in stage.desk.calls("GET") if call.path == path])


def _rate(stage: Stage, over: Callable[[float], bool]) -> float:
    """Checks a second of full passes, until it is over, given when it began."""
    stage.keep_busy()
    began, count = time.monotonic(), stage.checks()
    while not over(began):
        stage.keep_busy()
        time.sleep(0.2)
    return (stage.checks() - count) / (time.monotonic() - began)


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
