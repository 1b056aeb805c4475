"""Many retries due at once, after a restart: the services are spared all the same, as they see it themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Phase
from tests.faults.load import Counted, Together, most_within
from tests.repo import Daemon, Repo
from tests.servers import eventually

PER_HOST, CONCURRENCY = 8, 12
ACCOUNTS, HOOKS = 300, 700


@pytest.fixture
def together() -> Together:
    return Together()


@pytest.fixture
def services(together: Together) -> Iterator[list[Counted]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Counted(together)) for _ in range(2)]


def test_a_thousand_at_once(repo: Repo, services: list[Counted], together: Together) -> None:
    people, hooks = services
    repo.settings(interval="1d", max_new=None, limits={"per_host": PER_HOST, "concurrency": CONCURRENCY})
    repo.manifest("tool", people.manifest())
    repo.manifest("hook", hooks.hook())
    stems = {"tool": [f"a{number}" for number in range(ACCOUNTS)], "hook": [f"h{number}" for number in range(HOOKS)]}
    for integration, theirs in stems.items():
        for stem in theirs:
            repo.hire(stem, integration)
        repo.retrying(integration, theirs)
    repo.commit()
    people.delay = hooks.delay = 0.1  # seconds: a busy machine, too, has more under way than one host may get
    with Daemon(repo) as daemon:
        eventually(lambda: len(people.created) >= ACCOUNTS / 8 and len(hooks.calls("POST")) >= HOOKS / 8, 60)
        assert daemon.get("/healthz")[0] == 200
        began = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - began < 10, "those that only wait for their turn are not begun"
    with StateLocation(f"sqlite:///{repo.state}", repo.root).reader() as ledger:
        assert ledger.open_attempts() == []
        left = {record.phase for record in ledger.records()}
    assert left <= {Phase.RETRYING, Phase.EXECUTED, Phase.CONFIRMED, Phase.DONE}
    assert people.own.most <= PER_HOST
    assert hooks.own.most <= PER_HOST
    assert together.most <= CONCURRENCY
    assert together.most > PER_HOST, "one host's limit was all that was met: the test shows too little"
    assert set(people.created.values()) == {1}
    assert set(Counter(call.json()["email"] for call in hooks.calls("POST")).values()) == {1}


def test_the_rate_is_kept(repo: Repo, services: list[Counted]) -> None:
    """In no second more than so many, measured at the server; the clock of the network may be a little off."""
    rate, number = 40, 30
    people, _ = services
    repo.settings(interval="1d", max_new=None, limits={"rate": rate})
    repo.manifest("tool", people.manifest())
    stems = [f"a{number}" for number in range(number)]
    for stem in stems:
        repo.hire(stem, "tool")
    repo.retrying("tool", stems)
    repo.commit()
    with Daemon(repo):
        eventually(lambda: len(people.created) == number and len(people.requests) >= 3 * number, 30)
    times = [call.at for call in people.requests]
    assert most_within(times, 1) <= rate + 1
