"""Many retries due at once, after a restart: the services are spared all the same, as they see it themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Phase
from tests.faults.load import Counted, most_within
from tests.repo import Daemon, Repo
from tests.servers import Crowd, eventually

PER_HOST, CONCURRENCY = 8, 12
ACCOUNTS, HOOKS = 300, 700


@pytest.fixture
def together() -> Crowd:
    return Crowd()


@pytest.fixture
def services(together: Crowd) -> Iterator[list[Counted]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Counted(together)) for _ in range(2)]


def test_a_thousand_at_once(repo: Repo, services: list[Counted], together: Crowd) -> None:
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
    people.delay = hooks.delay = 0.03  # seconds
    held = [service.hang(PER_HOST) for service in services]
    with Daemon(repo) as daemon:
        eventually(lambda: together.most > PER_HOST)  # else one host's limit were all that is met
        for release in held:
            release.set()
        eventually(lambda: len(people.created) >= ACCOUNTS / 8 and len(hooks.calls("POST")) >= HOOKS / 8)
        assert daemon.get("/healthz")[0] == 200
        assert daemon.terminate() == 0
    with StateLocation(f"sqlite:///{repo.state}", repo.root).reader() as ledger:
        assert ledger.attempts.open() == []
        left = {record.phase for record in ledger.grants.records()}
    assert left <= {Phase.RETRYING, Phase.EXECUTED, Phase.CONFIRMED, Phase.DONE}
    assert Phase.RETRYING in left, "those that only wait for their turn are not begun"
    assert people.busiest <= PER_HOST
    assert hooks.busiest <= PER_HOST
    assert together.most <= CONCURRENCY
    assert set(people.created.values()) == {1}
    assert set(Counter(call.json()["email"] for call in hooks.calls("POST")).values()) == {1}


def test_the_rate_is_kept(repo: Repo, services: list[Counted]) -> None:
    """In no second more than so many, measured where they arrive."""
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
        eventually(lambda: len(people.created) == number and len(people.requests) >= 3 * number)
    assert most_within([call.at for call in people.requests], 1) <= rate
