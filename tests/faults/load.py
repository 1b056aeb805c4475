"""Thousands of grants due at once: `python -m tests.faults.load --grants 10000`. Not part of the test suite.

A daemon is started on a ledger in which every grant is retrying and due, as after an hour's outage that it was down in.
Once over without a rate and once with one, the limits of the settings are compared with what the services received, and
in the end everybody has to be there, made once. Every figure is measured at the services. The exit code is 1 where
anything is broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Phase
from tests.repo import Daemon, Repo
from tests.servers import AccountService, Crowd, Reply

ACCOUNTS, HOOKS = 3, 1
"""So many services of each kind; every person has a grant at each."""

PER_HOST, CONCURRENCY = 8, 20
"""All hosts together could take more than all places."""

DELAY = 0.03
"""Seconds that each answer takes: long enough that limits are met."""

HEALTHY = 5.0
"""Seconds in which the health has to be told, however much there is to do."""

LOOKS = 4
"""So many checks a grant may cost: before its attempt, after it, and in the walk over everything at the start."""


class Counted(AccountService):
    """Accounts and webhooks; what is under way is counted, by itself and together with that of other services."""

    def __init__(self, together: Crowd) -> None:
        super().__init__(crowds=[together])
        self.route("POST", "/hooks", Reply(202))

    def hook(self) -> dict[str, object]:
        """The manifest of a webhook."""
        return {"execute": [{"url": f"{self.url}/hooks", "data": {"email": "{{email}}"}}]}


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of these moments that lie within so many seconds, wherever they begin."""
    ordered = sorted(times)
    return max((bisect_left(ordered, at + seconds) - place for place, at in enumerate(ordered)), default=0)


@dataclass
class Trial:
    """One daemon, its services, and what is wrong."""

    repo: Repo
    rate: float | None
    together: Crowd
    services: dict[str, Counted]
    hires: list[str]
    broken: list[str] = field(default_factory=list)

    @property
    def grants(self) -> int:
        return len(self.hires) * len(self.services)

    def prepare(self) -> None:
        """Everybody is committed, and due."""
        limits = {"per_host": PER_HOST, "concurrency": CONCURRENCY, "rate": self.rate}
        self.repo.settings(interval="1d", limits=limits, max_new=None)
        for name, service in self.services.items():
            self.repo.manifest(name, service.hook() if name.startswith("hook") else service.manifest())
        for stem in self.hires:
            self.repo.hire(stem, *self.services)
        for name in self.services:
            self.repo.retrying(name, self.hires)
        self.repo.commit()

    def run(self, seconds: float) -> None:
        """The daemon, until all is done or the time is over."""
        slowest, began = 0.0, time.monotonic()
        with Daemon(self.repo) as daemon:
            while (left := self._left()) and time.monotonic() - began < seconds:
                asked = time.monotonic()
                status, text = daemon.get("/healthz")
                slowest = max(slowest, time.monotonic() - asked)
                self._must(status == 200, f"/healthz answered {status}: {text}")
                time.sleep(1)
            took = time.monotonic() - began
            peak = _peak(daemon.process.pid)
            self._must(daemon.terminate() == 0, f"the daemon did not end well:\n{daemon.log[-2000:]}")
        self._must(not left, f"{left} of {self.grants} grants are not done after {took:.0f} s")
        self._must(slowest < HEALTHY, f"/healthz took {slowest:.1f} s")
        print(f"  {took:.0f} s, {self.grants / took:.0f} grants/s; /healthz in {slowest:.2f} s; {peak} MiB at most")
        self._judge()

    def _left(self) -> int:
        with StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).reader() as ledger:
            return sum(record.phase not in (Phase.CONFIRMED, Phase.DONE) for record in ledger.grants.records())

    def _judge(self) -> None:
        requests = 0
        for name, service in self.services.items():
            times = [call.at for call in service.requests]
            requests += len(times)
            rate = most_within(times, 1)
            print(f"  {name}: {len(times)} requests, {service.busiest} at one time, {rate} in one second at most")
            self._must(service.busiest <= PER_HOST, f"{name}: {service.busiest} at one time, {PER_HOST} are allowed")
            if self.rate is not None:
                self._must(rate <= self.rate, f"{name}: {rate} in one second, {self.rate:g} are allowed")
            posts = Counter(call.json()["email"] for call in service.calls("POST"))
            self._must(
                posts == dict.fromkeys((f"{stem}@example.com" for stem in self.hires), 1), f"{name}: not each once"
            )
            looks = max(Counter(call.path for call in service.calls("GET")).values(), default=0)
            self._must(looks <= LOOKS, f"{name}: somebody was asked for {looks} times")
            self._must(not service.errors, f"{name}: {service.errors[:1]}")
        most = self.together.most
        print(f"  all together: {requests} requests, {requests / self.grants:.1f} a grant, {most} at one time")
        self._must(most <= CONCURRENCY, f"{most} at one time at all services, {CONCURRENCY} are allowed")
        if self.rate is None:
            self._must(most > PER_HOST, f"{most} at one time at all services: too few to show anything")

    def _must(self, good: bool, otherwise: str) -> None:
        if not good:
            self.broken.append(otherwise)
            print(f"  BROKEN: {otherwise}", flush=True)


def _peak(pid: int) -> int:
    """The most memory that a process had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


def main(arguments: list[str] | None = None) -> int:
    """The command; gives its exit code."""
    parser = argparse.ArgumentParser(description="Many grants due at once after a restart: are the limits kept?")
    parser.add_argument("--grants", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=20, help="requests a second to one host, the second time over")
    parser.add_argument("--seconds", type=float, default=1200, help="how long each time over may take")
    asked = parser.parse_args(arguments)
    names = [*(f"accounts{number}" for number in range(ACCOUNTS)), *(f"hook{number}" for number in range(HOOKS))]
    hires = [f"h{number}" for number in range(-(-asked.grants // len(names)))]
    broken = 0
    for rate in (None, asked.rate):
        print(f"{len(hires) * len(names)} grants, {'no rate' if rate is None else f'rate {rate:g}'}", flush=True)
        with ExitStack() as stack:
            folder, together = stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")), Crowd()
            services = {name: stack.enter_context(Counted(together)) for name in names}
            for service in services.values():
                service.delay = DELAY
            trial = Trial(Repo(Path(folder, "repo")), rate, together, services, hires)
            trial.prepare()
            trial.run(asked.seconds)
            broken += len(trial.broken)
    print("every limit was kept" if not broken else f"{broken} limits or promises were broken", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
