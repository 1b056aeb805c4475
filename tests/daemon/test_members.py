"""Members of a fleet in this process, each on its own connections to one PostgreSQL: what one does, another knows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from reconciler.daemon.fleet_pass import FleetPass, leased
from reconciler.daemon.newest import Newest
from reconciler.engine.accepted import in_force
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.state import sharing
from reconciler.model.errors import RepositoryError
from reconciler.model.report import Report
from reconciler.model.secret import Redactor
from reconciler.model.selection import Selection
from tests.repo import Repo, call_cli
from tests.servers import AccountService, Received


@pytest.fixture
def state_kind() -> str:
    """Members share a server's state."""
    return "postgresql"


@pytest.fixture
def others() -> Iterator[AccountService]:
    """A second tool, with accounts of its own."""
    with AccountService() as running:
        yield running


def statuses(repo: Repo) -> list[str]:
    return [row["status"] for row in call_cli(repo, "status", "--output", "json").json["grants"]]


async def anything(_: object) -> None:
    """Agree to every plan."""


@asynccontextmanager
async def member(repo: Repo, name: str) -> AsyncIterator[FleetPass]:
    """A member's pass over the newest commit, ready to be made."""
    clock = SystemClock()
    context = Context(repo.root, clock, Redactor())
    force = in_force(context)
    try:
        with sharing(context, force.settings, force.tree, name) as state:
            yield FleetPass(
                context=context,
                clock=clock,
                state=state,
                settings=force.settings,
                tree=force.tree,
                released=False,
                removals=True,
                approve=anything,
            )
    finally:
        await context.aclose()


class Stale(threading.Event):
    """A service's answer to the next check, made at once and told only when this is set."""

    def __init__(self, service: AccountService) -> None:
        super().__init__()
        self.asked = threading.Event()

        def act(connection: object, received: Received) -> None:
            answer = service.handle(received)
            self.asked.set()
            assert self.wait(20)
            connection.answer(answer)  # type: ignore[attr-defined]

        service.on(act, method="GET")


async def beside(first: FleetPass, second: FleetPass, told: Stale) -> tuple[Report | BaseException, ...]:
    """Make the first pass, and the second once the first has asked; the first hears when the second waits or ended."""
    one = asyncio.create_task(first.make(Selection()))
    assert await asyncio.to_thread(told.asked.wait, 20)
    two = asyncio.create_task(second.make(Selection()))
    await asyncio.wait([two], timeout=0.6)
    told.set()
    return tuple(await asyncio.gather(one, two, return_exceptions=True))


def test_manifest_that_moves_to_another_service_waits_for_who_acts_on_it(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as before:
            repo.manifest("tool", {"service": "new", **accounts.manifest()})
            repo.commit()
            async with member(repo, "b") as after:
                _, two = await beside(before, after, Stale(accounts))
        assert not isinstance(two, BaseException), two
        assert [row.status for row in two.rows] == ["present"]
        assert len(accounts.calls("POST")) == 1

    repo.manifest("tool", {"service": "old", **accounts.manifest()})
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def test_entry_that_goes_to_another_service_waits_for_who_acts_on_it(
    repo: Repo, accounts: AccountService, others: AccountService
) -> None:
    async def run() -> None:
        async with member(repo, "a") as before:
            repo.hire("ada", {"integration": "next", "name": "tool"})
            repo.commit()
            async with member(repo, "b") as after:
                accounts.people.clear()  # lost: it is healed
                _, two = await beside(before, after, Stale(accounts))
        assert not isinstance(two, BaseException), two
        assert accounts.created == {"ada@example.com": 2}, "once more"
        assert others.calls("POST") == []
        assert [row.status for row in two.rows] == ["blocked"]
        assert statuses(repo) == ["blocked"]

    repo.manifest("tool", accounts.manifest())
    repo.manifest("next", others.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    assert call_cli(repo, "--yes").code == 0
    asyncio.run(run())


def test_older_revision_is_not_acted_on_after_a_wait(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as old:
            repo.hire("bob", "tool")
            repo.commit()
            async with member(repo, "b") as new:
                ledger, clock = new.state.ledger, new.clock
                async with leased(new.state, clock, ["tool"]):
                    waiting = asyncio.create_task(old.make(Selection()))
                    while ledger.note("acted_on") is None:  # then it has looked, and waits
                        await clock.sleep(0.05)
                    assert Newest(new.context.checkout, ledger).act_on(new.tree.revision)
                with pytest.raises(RepositoryError, match="the fleet acted on a newer revision"):
                    await asyncio.wait_for(waiting, 20)
        assert accounts.lines() == []

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())
