"""kill -9 at random moments: `python -m tests.faults.random_kills --rounds 300`. Not part of the test suite.

A daemon provisions batches of hires in an integration of two requests and is killed again and again, with more mischief
from the service on demand: answers that get lost after the account was made, failures, pauses, removals that are
answered with success and do nothing. With each batch some leave, some get another login, so that their former account
is an orphan, and somebody has the login of another, spelt otherwise. After each kill and at the end of each batch the
promises of docs/design/rules.md, "Faults and load" are compared with what the service received. Every random choice
comes from one seed, which is told first; the moments themselves are the machine's.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Phase, Record
from tests.forked import die_with_parent
from tests.repo import Daemon, Repo, run_cli
from tests.servers import AccountService, Received, Reply

BATCH = 20
AT_ONE_STATE = 100
"""So many kills before another repository is begun: with more people a start takes longer, and teaches nothing more."""

PAUSE = 0.04
"""Seconds that every change takes at the service: long enough to be killed in."""


class Slow(AccountService):
    """Answers questions at once, and takes its time for changes. `made` has all accounts there ever were, by id."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        super().__init__()

    def handle(self, received: Received) -> Reply:
        if received.method in ("POST", "DELETE"):
            time.sleep(PAUSE)
        answer = super().handle(received)
        self.made |= {person["id"]: person for person in list(self.people.values())}
        return answer


SETTLED = (Phase.CONFIRMED, Phase.EXECUTED, Phase.DONE)


@dataclass
class Trial:
    """One repository, one service, and the promises between them."""

    repo: Repo
    accounts: Slow
    chance: random.Random
    mischief: float = 0.0
    batch: int = BATCH
    kills: int = 0
    inside: int = 0
    """Kills after which an attempt had no end in the ledger."""
    batches: int = 0
    retries: int = 0
    hires: dict[str, str] = field(default_factory=dict)
    """Each hire's login, an address."""
    ever: set[str] = field(default_factory=set)
    """All logins that were wanted."""
    lost: set[str] = field(default_factory=set)
    """The logins whose account was taken away at the service, once, to be made again."""
    _done: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:
        """Settings, the manifest and nobody yet."""
        text = json.dumps(self.accounts.manifest(team=True, revoke=True))
        manifest = json.loads(text.replace("{{email}}", "{{LOGIN}}"))
        for request in manifest["execute"]:
            request["data"]["password"] = "{{PASSWORD}}"
        made, joined = manifest["execute"]
        made["store_data"] = {"MEMBER": "id"}
        manifest["exists"]["store_data"] = {"MEMBER": "id"}  # of one whose making was not answered
        joined["data"]["member"] = "{{MEMBER}}"
        manifest["initial_data_form"] = [{"id": "PASSWORD", "name": "generate"}]
        self.repo.manifest("tool", manifest)
        limits = {"per_host": 3, "timeout": "5s"}
        self.repo.settings(retry_delay="0s", interval="10m", prune="revoke", max_change_percent=100, limits=limits)
        self.repo.commit()

    def run(self, rounds: int) -> None:
        """So many kills, over as many batches as it takes; each batch is seen to its end."""
        while self.kills < rounds:
            self._hire()
            while self.kills < rounds and not self._complete():
                self._round()
            self._finish()
            print(self.tally(), flush=True)

    def tally(self) -> str:
        """How far it came."""
        return (
            f"{self.kills} kills, {self.inside} of them inside attempts; {len(self.hires)} hires in {self.batches} "
            f"batches, {self.retries} retries by hand, {len(self.accounts.calls('POST'))} changes sent"
        )

    def _hire(self) -> None:
        self.batches += 1
        known = sorted(self.hires)
        chosen = self.chance.sample(known, min(7, len(known)))
        for stem in chosen[1:]:
            login = self.hires[stem]
            match self.chance.randrange(3):
                case 0 if login not in self.lost:
                    self.lost.add(login)
                    del self.accounts.people[login]
                case 1:
                    self._write(stem, f"{stem}.{self.batches}@example.com")
                case 2:
                    del self.hires[stem]
                    self.repo.remove(f"hires/{stem}.yaml")
            self._done.pop(login, None)
        for number in range(self.batch):
            self._write(f"b{self.batches}-{number}", f"b{self.batches}-{number}@example.com")
        for stem in chosen[:1]:
            self._hire_file("rival", f"{self.hires[stem].upper()} ")
        self.repo.commit()

    def _write(self, stem: str, login: str) -> None:
        self.hires[stem] = login
        self.ever.add(login)
        self._hire_file(stem, login)

    def _hire_file(self, stem: str, login: str) -> None:
        self.repo.hire(stem, {"integration": "tool", "values": {"TEAM": "7"}}, extra={"LOGIN": login})

    def _round(self) -> None:
        self._ask_for_retries()
        if self.chance.random() < self.mischief:
            self._make_mischief()
        with Daemon(self.repo, ready=False) as daemon:
            if self.chance.random() < 0.8:
                self._await_posts(daemon, self.chance.randint(1, 4))
                time.sleep(self.chance.uniform(0, 2 * PAUSE))
            else:
                time.sleep(self.chance.uniform(0, 0.4))
            daemon.kill9()
            assert daemon.process.returncode == -signal.SIGKILL, f"it had ended by itself:\n{daemon.log}"
            assert "Traceback" not in daemon.log, daemon.log
        self.kills += 1
        self.accounts.clear()
        self._still_true()

    def _await_posts(self, daemon: Daemon, count: int) -> None:
        """Until so many changes arrived, or the service is left in peace."""
        wanted = len(self.accounts.calls("POST")) + count
        heard, last = len(self.accounts.requests), time.monotonic()
        until = last + 10
        while len(self.accounts.calls("POST")) < wanted and time.monotonic() < until:
            time.sleep(0.002)
            if len(self.accounts.requests) > heard:
                heard, last = len(self.accounts.requests), time.monotonic()
            elif time.monotonic() > last + 5 * PAUSE and "why=start" in daemon.log:
                return

    def _make_mischief(self) -> None:
        prefix = self.chance.choice(["/users", "/teams"])
        method, status = self.chance.choice([("POST", 500), ("POST", 500), ("DELETE", 500), ("DELETE", 200)])
        match self.chance.randrange(4):
            case 0:
                self.accounts.drop_after_commit(2, method=method, prefix=prefix)
            case 1:
                self.accounts.fail_next(2, status, method=method, prefix=prefix)
            case 2:
                self.accounts.fail_next(1, 429, prefix=prefix, headers={"Retry-After": "1"})
            case _:
                self.accounts.fail_next(3, 503, method="GET", prefix="/users")

    def _ask_for_retries(self) -> None:
        if any(record.phase is Phase.FAILED for record in self._records()):
            asked = run_cli(self.repo, "retry", "--integration", "tool")
            assert asked.code == 0 or "nothing to start afresh" in asked.err, asked
            self.retries += 1

    def _finish(self) -> None:
        """Leave the daemon alone until everybody is there, with `retry` for what had failed twice."""
        with Daemon(self.repo, ready=False) as daemon:
            self._await_everybody(daemon)
            assert daemon.terminate() == 0, daemon.log
        self._still_true()
        wanted = set(self.hires.values())
        joined = Counter(self.accounts.teams["7"])
        assert set(self.accounts.people) == wanted
        assert self.accounts.created == {who: 1 + (who in self.lost) for who in self.ever}, "somebody was made twice"
        assert set(joined) == self.ever, f"left half done: {self.ever - set(joined)}"
        with StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).reader() as ledger:
            assert ledger.attempts.open() == []
            left = [name for name in ledger.sealed.names() if name.startswith("run/")]
            assert left == [], "what a settled run had to remember was not erased"
        last: dict[str, str] = {}
        for call in self.accounts.calls("POST", "/teams"):
            sent = call.json()
            person = self.accounts.made[sent["member"]]
            assert sent["email"] == person["email"], "a request had what was stored of another account"
            assert sent["password"] == person["password"], "the run went on with another generated value"
            last[sent["email"]] = sent["member"]
        now = {email: person["id"] for email, person in self.accounts.people.items()}
        assert {email: last[email] for email in now} == now, "a request had what was stored of a former account"

    def _await_everybody(self, daemon: Daemon) -> None:
        until = time.monotonic() + 60
        while "daemon.started" not in daemon.log or not self._complete():
            assert time.monotonic() < until, f"not everybody is there:\n{daemon.log}"
            self._ask_for_retries()
            time.sleep(0.2)

    def _complete(self) -> bool:
        there = len(self.accounts.people) == len(self.hires)
        phases = Counter(record.phase for record in self._records() if record.key.hire != "rival")
        return (
            there and phases[Phase.CONFIRMED] == len(self.hires) and phases.keys() <= {Phase.CONFIRMED, Phase.REVOKED}
        )

    def _records(self) -> list[Record]:
        with StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).reader() as ledger:
            return list(ledger.grants.records())

    # What holds at every moment

    def _still_true(self) -> None:
        twice = {email for email, count in self.accounts.created.items() if count > 1}
        assert twice <= self.lost, "somebody was made twice"
        assert max(self.accounts.created.values(), default=1) <= 2, "somebody was made twice"
        posts = Counter(_place(call) for call in self.accounts.calls("POST"))
        with _copied(self.repo.state) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            written = {}
            if database.execute("select 1 from sqlite_master where name = 'attempts'").fetchone():
                query = (
                    "select hire, place, count(*) from requests join attempts on attempts.id = attempt "
                    "where kind <> 'revoke' group by 1, 2"
                )
                written = {(hire, place): count for hire, place, count in database.execute(query)}
                self.inside += bool(database.execute("select 1 from attempts where ended_at is null").fetchone())
        left = Counter((_stem(login), place) for login, place in posts.elements())
        for (hire, place), count in left.items():
            waits = self._pauses()
            assert count <= written.get((hire, place), 0) + waits, f"{hire}: request {place} left without a word"
        sent = Counter(login for login, _ in posts.elements())
        for login, before in self._done.items():
            assert sent[login] == before, f"{login} had succeeded and was sent something again"
        for record in self._records():
            login = str(record.values.get("LOGIN"))
            if record.phase in SETTLED and record.open is None and login in self.accounts.people:
                self._done.setdefault(login, sent[login])

    def _pauses(self) -> int:
        """Requests that were sent again within one attempt, for a Retry-After, share their line in the ledger."""
        return 0 if not self.mischief else 3


def _place(call: Received) -> tuple[str, int]:
    return call.json()["email"], int(call.path.startswith("/teams"))


def _stem(login: str) -> str:
    return login.partition("@")[0].partition(".")[0]


@contextmanager
def _copied(state: Path) -> Iterator[sqlite3.Connection]:
    """The ledger as the kill left it, opened in a copy: opening it here must not repair it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (state.name, f"{state.name}-wal"):
            if (state.parent / name).exists():
                Path(folder, name).write_bytes((state.parent / name).read_bytes())
        connection = sqlite3.connect(Path(folder, state.name))
        try:
            yield connection
        finally:
            connection.close()


def main(arguments: list[str] | None = None) -> int:
    """The command. The trial runs in a process of its own, so that whatever ends it is told; gives its exit code."""
    parser = argparse.ArgumentParser(description="Kill the daemon at random moments and see that its promises hold.")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--mischief", type=float, default=0.3, help="the share of rounds in which the service errs too")
    asked: Any = parser.parse_args(arguments)
    print(f"seed {asked.seed}", flush=True)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become_the_trial(asked)

    def pass_on(number: int, _frame: Any) -> None:
        print(f"told to end by {signal.Signals(number).name}", flush=True)
        os.kill(pid, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
        print(f"the trial ended {how} after {time.monotonic() - began:.0f} s", flush=True)
    return abs(code)


def _become_the_trial(asked: Any) -> NoReturn:
    """The trial, and never back."""
    code = 1
    faulthandler.enable()
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what it made is taken down on the way out
    try:
        _try(asked)
        code = 0
    except Exception:  # noqa: BLE001  whatever it is, it is told
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _try(asked: Any) -> None:
    began, left, inside = time.monotonic(), asked.rounds, 0
    chance = random.Random(asked.seed)
    while left > 0:
        with tempfile.TemporaryDirectory(prefix="kills-") as folder, Slow() as accounts:
            trial = Trial(Repo(Path(folder, "repo")), accounts, chance, asked.mischief)
            trial.prepare()
            trial.run(min(left, AT_ONE_STATE))
        left -= trial.kills
        inside += trial.inside
        print(f"{asked.rounds - left} kills in all, after {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{asked.rounds} kills, {inside} of them inside attempts: nobody twice, nobody half done; "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
