"""Members of a fleet in this process, each on its own connections to one PostgreSQL: what one does, another knows."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import pytest

from reconciler.daemon import fetching
from reconciler.daemon.authorize import begin, callback, shared_state
from reconciler.daemon.dispatcher import Dispatcher
from reconciler.daemon.fleet.jobs import Arguments, arguments, is_signed, signed
from reconciler.daemon.fleet.member import Fleet, worker_count
from reconciler.daemon.fleet.single_pass import FleetPass, Newest, SharedState, leased
from reconciler.daemon.loop import Daemon
from reconciler.daemon.runtime import ActiveRevision, Runtime
from reconciler.daemon.slices import Lane, Slice
from reconciler.engine.apply.commands import enqueue_release
from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.accepted import InForce, in_force
from reconciler.engine.run.runner import Leases, LockedState, PassRunner
from reconciler.engine.state import OpenState, sharing
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.part_writers import WritableAttempts
from reconciler.ledger.postgres import clock as postgres
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.ledger.vault import Vault
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, RepositoryError, SecretsError
from reconciler.model.report import Report
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.settings import Settings
from reconciler.model.status import EventType
from reconciler.notify.delivery import Notifier
from reconciler.oauth.connection import stored_record
from reconciler.secrets.gpg import Gnupg
from tests.daemon.running import peopled, until
from tests.engine.harness import dying
from tests.ledgers import inside
from tests.postgres import Databases, Wire
from tests.repo import Repo, call_cli, store_tokens, use_key
from tests.servers import PATIENCE, AccountService, Received, Reply, eventually

Unfit = Callable[[Databases, Repo], AbstractContextManager[None]]


class Acme(AccountService):
    """A service that wants its newest token, and whose refresh tokens serve once."""

    def __init__(self) -> None:
        super().__init__("access-1")
        self.manifests = self.connected()
        self.refreshed: list[str] = []

    def handle(self, received: Received) -> Reply:
        if received.path != "/token":
            return super().handle(received)
        if "code" not in received.query:
            (used,) = received.form()["refresh_token"]
            self.refreshed.append(used)
            if used != f"refresh-{len(self.refreshed)}":
                return Reply(400, {"error": "invalid_grant"})
        number = len(self.refreshed) + 1
        self.token = f"access-{number}"
        return Reply(200, {"access_token": self.token, "refresh_token": f"refresh-{number}", "expires_in": 3600})

    def connected(self) -> dict[str, dict[str, Any]]:
        """Two manifests of the service, of which the first says how it is connected."""
        whole = {**self.manifest(), "service": "acme"}
        whole["headers"]["Authorization"] = "Bearer {{oauth.access_token}}"
        del whole["initial_data_form"]
        url = f"{self.url}/token"
        oauth = {
            "authenticate_url": "https://acme.example.com/",
            "access_token": {"url": url},
            "refresh": {"url": url, "data": {"refresh_token": "{{oauth.refresh_token}}"}},
        }
        return {"acme": {**whole, "oauth": oauth}, "acme-board": whole}


@pytest.fixture
def acme(repo: Repo) -> Iterator[Acme]:
    """Ada and bob have two accounts of one service each; it is connected, and the token has run out."""
    assert repo.gnupg is not None
    with Acme() as running:
        running.add("ada@example.com", "bob@example.com")
        for name, manifest in running.manifests.items():
            repo.manifest(name, manifest)
        for stem in ("ada", "bob"):
            repo.hire(stem, "acme", "acme-board")
        repo.settings(gnupg_home=repo.gnupg.path)
        repo.commit()
        first = {"access_token": "access-1", "refresh_token": "refresh-1", "expires_in": 3600}
        with closing(StateLocation(repo.state_url, repo.root).writer()) as ledger:
            vault = open_vault(ledger, Gnupg(repo.gnupg.path), Trust((repo.gnupg.fingerprint,)))
            store_tokens(ledger, vault, "acme", stored_record(first, None, datetime(2026, 1, 1, tzinfo=UTC)))
        yield running


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


@dataclass(slots=True, kw_only=True)
class AtWork:
    """A member that makes passes over the newest commit."""

    context: Context
    clock: SystemClock
    state: OpenState
    force: InForce

    async def make(self, selection: Selection) -> Report:
        """Make a pass."""
        leases = SharedState(self.context, self.clock, self.state, self.force.tree.revision)
        passes = self.runner(leases)
        fleet_pass = FleetPass(
            clock=self.clock, passes=passes, state=self.state, leases=leases, desired=self.force.desired
        )
        return await fleet_pass.make(PassRequest(selection))

    def runner(self, leases: Leases) -> PassRunner:
        """What makes its passes."""
        return PassRunner(clock=self.clock, leases=leases, revision=lambda: self.force, notifier=Notifier())


@asynccontextmanager
async def member(repo: Repo, name: str) -> AsyncIterator[AtWork]:
    """A member, ready to make a pass."""
    clock = SystemClock()
    context = Context(repo.root, clock, Redactor())
    force = in_force(context)
    try:
        with sharing(force, name) as state:
            yield AtWork(context=context, clock=clock, state=state, force=force)
    finally:
        await context.aclose()


class Stale(threading.Event):
    """A service's answer to the next check, or other request, made at once and told only when this is set."""

    def __init__(self, service: AccountService, method: str = "GET") -> None:
        super().__init__()
        self.asked = threading.Event()

        def act(connection: object, received: Received) -> None:
            answer = service.handle(received)
            self.asked.set()
            assert self.wait(PATIENCE)
            connection.answer(answer)  # type: ignore[attr-defined]

        service.on(act, method=method)


async def beside(
    first: AtWork, second: AtWork, told: Stale, *, meanwhile: Callable[[], None] = lambda: None
) -> tuple[Report | BaseException, ...]:
    """Make the first pass, and the second once the first has asked; the first hears when the second waits or ended."""
    one = asyncio.create_task(first.make(Selection()))
    assert await asyncio.to_thread(told.asked.wait, PATIENCE)
    meanwhile()
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


def test_command_waits_for_who_acts_on_the_grant_for_a_former_service(repo: Repo, accounts: AccountService) -> None:
    """Else the end of that attempt would be written over what was asked for."""

    async def run() -> None:
        async with member(repo, "a") as before:
            repo.manifest("tool", {"service": "new", **accounts.manifest()})
            repo.commit()
            async with member(repo, "b") as after:
                accept = partial(
                    inside(after.state.ledger).commands.enqueue, "accept", hire="ada", access="tool", by="tester@here"
                )
                told = Stale(accounts, "POST")
                _, two = await beside(before, after, told, meanwhile=lambda: accept(now=after.clock.now()))
        assert not isinstance(two, BaseException), two
        assert [(row.status, row.reason.partition(":")[0]) for row in two.rows] == [("missing", "drift")]
        assert len(accounts.calls("POST")) == 2

    accounts.route("POST", "/users", Reply(500))
    repo.settings(retry_delay="0s", drift="report")
    repo.manifest("tool", {"service": "old", **accounts.manifest()})
    repo.hire("ada", "tool")
    repo.commit()
    assert call_cli(repo, "--yes").code == 1
    asyncio.run(run())


def test_run_by_hand_that_another_pass_answered_meanwhile_is_not_repeated(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as first, member(repo, "b") as second:
            inside(first.state.ledger).commands.enqueue(
                "run", hire="ada", access="tool", by="tester@here", now=first.clock.now()
            )
            await beside(first, second, Stale(accounts))
        assert len(accounts.calls("POST")) == 1

    accounts.route("POST", "/users", Reply(201))
    accounts.add("ada@example.com")
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def test_command_that_another_member_took_up_meanwhile_is_not_taken_up_again(
    repo: Repo, accounts: AccountService
) -> None:
    async def run() -> None:
        async with member(repo, "a") as a, member(repo, "b") as b:
            ledger = inside(a.state.ledger)
            ledger.commands.enqueue("accept", hire="ada", access="tool", by="tester@here", now=a.clock.now())
            commands = ledger.commands.waiting()
            async with leased(a.state, a.clock, ["tool"]):
                takers = [
                    each.runner(SharedState(each.context, each.clock, each.state, each.force.tree.revision))
                    for each in (a, b)
                ]
                both = [asyncio.create_task(each.apply_commands(commands, {"tool"})) for each in takers]
                await asyncio.sleep(0.5)
            await asyncio.gather(*both)
            lines = [each for each in ledger.history.lines() if each.event == EventType.ACCEPTED]
            assert len(lines) == 1

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    accounts.route("POST", "/users", Reply(500))
    repo.commit()
    assert call_cli(repo, "--yes").code == 1
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
                _, two = await beside(before, after, Stale(accounts, "POST"))
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


def runtime_of(one: AtWork) -> Runtime:
    active = ActiveRevision(one.context, one.force.tree, one.force.settings, taken_over=True)
    return Runtime(one.clock, one.state, active)


def dispatching(one: AtWork) -> Dispatcher:
    """A daemon's dispatcher, with slices as jobs of the fleet."""

    async def nothing() -> None:
        """Fetch nothing."""

    return Dispatcher(runtime_of(one), lambda *_: None, lambda runtime, make: Fleet(runtime, make, nothing))


class Workers:
    """Jobs of which none is ever there."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    async def work(self, concurrency: int) -> None:
        self.begun.append(concurrency)
        await asyncio.Event().wait()

    async def rescue(self) -> None: ...

    async def close(self) -> None: ...


def test_worker_is_replaced_once_when_a_member_comes(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that outlast their worker are taken for a dead member's."""

    async def run() -> list[int]:
        workers = Workers()
        async with member(repo, "a") as a:
            fleet = dispatching(a).runner
            assert isinstance(fleet, Fleet)
            fleet._jobs = workers  # type: ignore[assignment]
            counts = iter([2, 1, 1, 1, 1])
            monkeypatch.setattr(fleet, "_worker_count", lambda _: next(counts))
            for _ in range(5):
                await fleet._tick()
            await fleet.finish()
        return workers.begun

    repo.manifest("tool", accounts.manifest())
    repo.commit()
    assert asyncio.run(run()) == [2, 1]


def test_dependents_are_queued_though_a_member_died(
    databases: Databases, repo: Repo, accounts: AccountService, others: AccountService
) -> None:
    async def run() -> None:
        async with member(repo, "a") as a:
            await a.make(Selection(integrations=frozenset({"tool"})))  # and a died before it queued anything
        async with member(repo, "b") as b:
            dispatcher = dispatching(b)
            assert isinstance(dispatcher.runner, Fleet)
            await dispatcher.runner._jobs.open()
            again = PassRequest(Selection(frozenset({"ada"}), frozenset({"tool"})), "commit")
            assert await dispatcher.make(Slice("tool", again, Lane.NOW, b.clock.now()))
            await dispatcher.finish()

    repo.manifest("tool", accounts.manifest())
    repo.manifest("next", others.manifest())
    repo.hire("ada", "tool", {"integration": "next", "needs": ["tool"]})
    repo.commit()
    asyncio.run(run())
    query = "select args ->> 'service', args -> 'grants' from reconciler.procrastinate_jobs"
    assert databases.execute(query, name_of(repo)) == [("next", [["ada", "next"]])]


def test_release_stays_on_the_list_until_its_slices_are_queued(
    databases: Databases, repo: Repo, accounts: AccountService
) -> None:
    """If the leader dies before, the next one takes it up."""

    async def run() -> None:
        async with member(repo, "a") as a:
            ledger = inside(a.state.ledger)
            daemon = Daemon(runtime_of(a), lambda *_: None)
            fleet = daemon.runner
            assert isinstance(fleet, Fleet)
            enqueue_release(ledger, Selection(), a.clock.now(), by="tester@here")
            await daemon._begin_commands()
            await a.clock.sleep(0.1)
            assert [command.kind for command in ledger.commands.waiting()] == ["release"], (
                "the server takes no jobs yet"
            )
            await fleet._jobs.open()
            fleet._begin_putting(fleet._unsent)
            fleet._unsent = []
            await until(lambda: not ledger.commands.waiting())
            await daemon._dispatcher.finish()

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())
    query = "select args ->> 'why', args -> 'released' from reconciler.procrastinate_jobs"
    assert databases.execute(query, name_of(repo)) == [("released", "tester@here")]


def test_leader_that_is_behind_leaves_the_count_of_a_newer_commit(repo: Repo, accounts: AccountService) -> None:
    """It leads because the leader before it died; another member acts on the commit, on a few hires at a time."""
    repo.settings(prune="revoke")
    stems = peopled(repo, accounts, 12)
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.commit()

    async def run() -> None:
        async with member(repo, "behind") as behind:
            await behind.make(Selection())
            for stem in stems[:8]:
                repo.remove(f"hires/{stem}.yaml")
            repo.commit()
            async with member(repo, "ahead") as ahead:
                leases = SharedState(ahead.context, ahead.clock, ahead.state, ahead.force.tree.revision)
                passes = ahead.runner(leases)
                await passes.count(ahead.state, ahead.force)
                leader = Daemon(runtime_of(behind), lambda *_: None)
                assert isinstance(leader.runner, Fleet)
                leader.runner.leads = True
                await leader._lead(behind.clock.now())
                passes.counts = False  # as in a daemon, which counts when it takes a commit over
                report = await passes.run(PassRequest(Selection(hires=frozenset(stems[:3]))), {"tool"})
                assert [row.status for row in report.rows] == ["suspended"] * 3
                await leader._dispatcher.finish()

    asyncio.run(run())
    assert accounts.calls("DELETE") == []


def test_leader_fetches_where_another_member_was_told_of_a_push(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.commit()
    begun: list[fetching.Fetching] = []

    def nudge(self: fetching.Fetching) -> None:
        begun.append(self)

    monkeypatch.setattr(fetching.Fetching, "nudge", nudge)

    async def run() -> None:
        async with member(repo, "leader") as one, member(repo, "other") as two:
            leader, other = (Daemon(runtime_of(each), lambda *_: None) for each in (one, two))
            assert isinstance(leader.runner, Fleet)
            leader.runner.leads = True
            await leader._lead(one.clock.now())
            other.pushed()
            await other.runtime.finish()
            await leader._lead(one.clock.now())
            assert begun == [other.fetching, leader.fetching]
            await leader._dispatcher.finish()

    asyncio.run(run())


def test_job_that_no_member_made_is_dropped(repo: Repo, accounts: AccountService) -> None:
    """A role of the database can insert one, which would let everything through the guard."""

    async def run() -> None:
        async with member(repo, "a") as a:
            daemon = Daemon(runtime_of(a), lambda *_: None)
            fleet = daemon.runner
            assert isinstance(fleet, Fleet)
            request = PassRequest(Selection(), "released", released="ida@here")
            job = arguments(Slice("tool", request, Lane.NOW, a.clock.now()), a.force.tree.revision, None)
            ours = signed(job, a.state.vault)
            assert is_signed(ours, a.state.vault)
            for forged in (job, {**job, "mac": "cafe"}, {**ours, "service": "next"}, {}):
                await fleet._job(forged)  # not made again, by no member
            told = [line for line in inside(a.state.ledger).history.lines() if line.event is EventType.REFUSED]
            assert [line.detail for line in told] == ["a job that nobody gave who has the key"] * 4
            await daemon._dispatcher.finish()

    repo.settings(max_new=0)
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())
    assert accounts.calls("POST") == []


def test_pass_that_dies_leaves_a_release_to_the_next(repo: Repo, accounts: AccountService) -> None:
    async def run(name: str) -> Report:
        async with member(repo, name) as one:
            return await one.make(Selection())

    accounts.fail_next(1, 500, method="POST")
    repo.settings(max_new=0)
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    assert [row.status for row in asyncio.run(run("a")).rows] == ["suspended"]
    with closing(StateLocation(repo.state_url, repo.root).writer()) as ledger:
        use_key(ledger, repo)
        enqueue_release(ledger, Selection(), datetime.now(UTC), by="tester@here")
    with dying(WritableAttempts, "begin"):
        asyncio.run(run("b"))
    assert [row.status for row in asyncio.run(run("c")).rows] == ["retrying"]
    assert [row.status for row in asyncio.run(run("d")).rows] == ["retrying"], "and it is off the list"
    assert call_cli(repo, "history", "--output", "json").json[-1]["event"] == "attempt_failed"


def test_single_pass_revokes_what_others_needed_after_what_needed_it(
    repo: Repo, accounts: AccountService, others: AccountService
) -> None:
    repo.settings(prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.manifest("other", others.manifest(revoke=True))
    repo.hire("ada", "tool", {"integration": "other", "needs": ["tool"]})
    repo.write("hires/.gitkeep", "")
    repo.commit()
    assert call_cli(repo, "--yes").code == 0
    repo.remove("hires/ada.yaml")
    repo.commit()
    done = call_cli(repo, "--yes", "--output", "json")
    assert [row["status"] for row in done.json["grants"]] == ["revoked", "revoked"]
    (first,), (second,) = others.calls("DELETE"), accounts.calls("DELETE")
    assert first.at < second.at


def test_member_whose_key_is_there_again_makes_jobs_and_queues_slices(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as a:
            fleet = dispatching(a).runner
            assert isinstance(fleet, Fleet)
            item = Slice("tool", PassRequest(Selection(), "commit"), Lane.NOW, a.clock.now())
            job = signed(arguments(item, a.force.tree.revision, None), a.state.vault)
            a.state.vault = Vault(SecretsError("the agent was locked when it started"))
            await fleet._job(job)
            assert accounts.created == {"ada@example.com": 1}
            a.state.vault = Vault(SecretsError("the agent was locked when it started"))
            queued = list[Arguments]()
            fleet._jobs = Queued(queued)  # type: ignore[assignment]
            fleet.put([item])
            await fleet._runtime.finish()
            assert [is_signed(each, a.state.vault) for each in queued] == [True]

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


class Queued:
    """The jobs that a member queued."""

    def __init__(self, queued: list[Arguments]) -> None:
        self._queued = queued

    async def put(self, _item: Slice, given: Arguments) -> bool:
        self._queued.append(given)
        return True


def test_slice_that_a_broken_clone_cannot_make_is_left_to_another_member(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as a, member(repo, "b") as b:
            item = Slice("tool", PassRequest(Selection(), "commit"), Lane.NOW, a.clock.now())
            objects = repo.root / ".git" / "objects"
            objects.rename(repo.root / ".git" / "away")
            assert not await dispatching(a).make(item)
            (repo.root / ".git" / "away").rename(objects)
            assert await dispatching(b).make(item)
        assert accounts.created == {"ada@example.com": 1}

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def test_older_revision_is_not_acted_on_after_a_wait(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as old:
            repo.hire("bob", "tool")
            repo.commit()
            async with member(repo, "b") as new:
                ledger, clock = inside(new.state.ledger), new.clock
                async with leased(new.state, clock, ["tool"]):
                    waiting = asyncio.create_task(old.make(Selection()))
                    while ledger.notes.get("acted_on") is None:  # then it has looked, and waits
                        await clock.sleep(0.05)
                    assert await Newest(new.context.checkout, new.state.ledger).act_on(new.force.tree.revision)
                with pytest.raises(RepositoryError, match="the fleet acted on a newer revision"):
                    await waiting
        assert accounts.lines() == []

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def test_older_revision_is_not_acted_on_after_a_check(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as old:
            repo.hire("ada")
            repo.commit()
            async with member(repo, "b") as new:
                told = Stale(accounts)
                planning = asyncio.create_task(old.make(Selection()))
                assert await asyncio.to_thread(told.asked.wait, PATIENCE)
                assert await Newest(new.context.checkout, new.state.ledger).act_on(new.force.tree.revision)
                told.set()
                with pytest.raises(RepositoryError, match="the fleet acted on a newer revision"):
                    await planning
        assert accounts.calls("POST") == []

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def test_clone_that_is_behind_locks_and_runs_nothing(repo: Repo, accounts: AccountService, tmp_path: Path) -> None:
    """No member leads at the time."""
    repo.settings(prune="revoke")
    repo.manifest("tool", accounts.lockable())
    for stem in ("ada", "bob", "cid"):
        repo.hire(stem, "tool")
    repo.commit()
    assert call_cli(repo, "--yes").code == 0
    behind = Repo(shutil.copytree(repo.root, tmp_path / "behind"))
    repo.remove("hires/bob.yaml")
    repo.commit()
    assert call_cli(repo, "--yes").code == 0
    assert call_cli(repo, "lock", "cid", "--reason", "a letter").code == 0
    before = [call.method for call in accounts.requests]
    for command in (["run", "bob", "tool"], ["unlock", "cid"]):
        done = call_cli(behind, *command)
        assert (done.code, "the fleet acted on a newer revision" in done.err) == (1, True), done
    assert [call.method for call in accounts.requests] == before
    assert call_cli(behind, "lock", "ada", "--reason", "left in anger").code == 0
    assert accounts.people["ada@example.com"]["active"] is False


def test_token_is_refreshed_by_one_member_and_used_by_all(repo: Repo, acme: Acme) -> None:
    async def run() -> None:
        async with member(repo, "a") as a, member(repo, "b") as b:
            for each in await asyncio.gather(a.make(Selection()), b.make(Selection())):
                assert {row.status for row in each.rows} == {"present"}
            acme.token = "taken away"
            for each in await asyncio.gather(a.make(Selection()), b.make(Selection())):
                assert {row.status for row in each.rows} == {"present"}
        assert acme.refreshed == ["refresh-1", "refresh-2"]

    asyncio.run(run())


def test_member_that_shuts_down_keeps_the_token_that_it_requested(repo: Repo, acme: Acme) -> None:
    async def run() -> None:
        async with member(repo, "a") as a:
            answer = acme.hang(prefix="/token")
            stopped = asyncio.create_task(a.make(Selection()))
            await asyncio.to_thread(eventually, lambda: acme.calls("POST", "/token"))
            a.clock.stopping.set()
            asyncio.get_running_loop().call_later(0.1, answer.set)
            with pytest.raises(Stopped):
                await stopped
        async with member(repo, "b") as b:
            assert {row.status for row in (await b.make(Selection())).rows} == {"present"}
        assert acme.refreshed == ["refresh-1"]

    asyncio.run(run())


def test_service_that_is_connected_through_one_member_is_so_for_all(repo: Repo, acme: Acme) -> None:
    async def run() -> None:
        async with member(repo, "a") as a, member(repo, "b") as b:
            with shared_state(a.force) as state:  # a command's
                state_of = (await begin(a.force, state, "acme")).state
            query = {"state": state_of, "code": "c0de"}
            async with leased(b.state, b.clock, ["acme"]) as held:
                told = await callback(b.force, held, service="acme", query=query)
            assert told[0] == 200, told
            assert {row.status for row in (await a.make(Selection())).rows} == {"present"}
            async with leased(a.state, a.clock, ["acme"]) as held:
                again = await callback(a.force, held, service="acme", query=query)
            assert again[0] == 400, "a state serves once, wherever it comes back"
        assert acme.refreshed == []
        assert len(acme.calls("POST", "/token")) == 1

    asyncio.run(run())


def test_import_renews_no_token_while_a_member_has_its_service(repo: Repo, acme: Acme) -> None:
    async def run() -> None:
        async with member(repo, "a") as a:
            async with leased(a.state, a.clock, ["acme"]):
                importing = asyncio.create_task(asyncio.to_thread(call_cli, repo, "import", "acme"))
                names = lambda: [each.name for each in inside(a.state.ledger).members()]  # noqa: E731
                await asyncio.to_thread(eventually, lambda: acme.refreshed or len(names()) == 2)
                assert acme.refreshed == []
            done = await importing
        assert (done.code, acme.refreshed) == (2, ["refresh-1"]), done.err
        assert "created  hires/eve.yaml" in done.out

    manifest = acme.connected()["acme"]
    people = {
        "execute": [{"url": f"{acme.url}/people", "method": "GET"}],
        "data_structure": {"email": "mail", "first_name": "name", "last_name": "name"},
        **{key: manifest[key] for key in ("headers", "oauth")},
    }
    acme.route("GET", "/people", lambda _: [{"mail": "eve@example.com", "name": "Eve"}])
    repo.write("config/imports/acme.yaml", people)
    repo.commit()
    asyncio.run(run())


def test_saved_file_is_sent_by_the_member_that_takes_over(repo: Repo, accounts: AccountService) -> None:
    accounts.route("GET", "/photo", lambda _received: b"\x89PNG\x00\xff")
    accounts.route("POST", "/upload", {"ok": True})
    manifest = accounts.manifest()
    manifest["execute"] += [
        {"url": f"{accounts.url}/photo", "method": "GET", "save_as_file": "photo.png"},
        {"url": f"{accounts.url}/upload", "files": {"picture": "photo.png"}},
    ]
    repo.settings(retry_delay="0s")
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()

    async def run(name: str) -> Report:
        async with member(repo, name) as one:
            return await one.make(Selection())

    with dying(WritableAttempts, "sending", nth=3):
        asyncio.run(run("a"))
    assert accounts.calls("POST", "/upload") == []
    assert [row.status for row in asyncio.run(run("b")).rows] == ["present"]
    assert b"\x89PNG\x00\xff" in accounts.calls("POST", "/upload")[0].body
    assert (accounts.created, len(accounts.calls("GET", "/photo"))) == ({"ada@example.com": 1}, 1)


def cut_off(one: AtWork) -> None:
    """Have the term of a member pass, as if it had not reached the server for so long."""
    member = one.state.member
    assert member is not None
    member._ending.set()  # it renews nothing on its own from here on
    member._beating.join()
    member._deadline = 0.0


def cut_off_at_check(one: AtWork, accounts: AccountService) -> None:
    """Cut a member off while the next check is under way."""

    def act(connection: Any, received: Received) -> None:
        cut_off(one)
        connection.answer(accounts.handle(received))

    accounts.on(act, method="GET")


@pytest.mark.parametrize(("method", "known"), [("GET", []), ("POST", ["missing"])])
def test_request_that_a_member_may_not_send_is_no_failed_check_and_no_attempt(
    repo: Repo, accounts: AccountService, method: str, known: list[str]
) -> None:
    async def run() -> None:
        async with member(repo, "a") as a:
            assert a.state.member is not None
            if method == "GET":
                cut_off(a)
            else:
                cut_off_at_check(a, accounts)
            with pytest.raises(LedgerError, match="out of reach for too long"):
                await a.make(Selection())
            assert accounts.calls("POST") == []
            assert statuses(repo) == known
            assert inside(a.state.ledger).attempts.open() == []
            a.state.member.renew()
            assert [row.status for row in (await a.make(Selection())).rows] == ["present"]
        assert accounts.created == {"ada@example.com": 1}
        assert [row["attempts"] for row in call_cli(repo, "status", "--output", "json").json["grants"]] == [1]

    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def test_shared_listing_is_retried_after_a_members_failure(repo: Repo, accounts: AccountService) -> None:
    async def run() -> None:
        async with member(repo, "a") as a, leased(a.state, a.clock, ["tool"]) as state:
            listings = Listings(a.clock.now())
            assert a.state.member is not None
            passes, planned = a.runner(LockedState(state)), list[Plan]()

            async def keep(plan: Plan) -> bool:
                planned.append(plan)
                return True

            passes.approve = keep
            cut_off_at_check(a, accounts)
            with pytest.raises(LedgerError, match="out of reach for too long"):
                await passes.run(PassRequest(), ["tool"], listings=listings)
            assert planned == []
            a.state.member.renew()
            await passes.run(PassRequest(), ["tool"], listings=listings)
        assert [each.decision.status for each in planned[0].grants] == ["missing"]

    manifest = accounts.manifest()
    accounts.route("GET", "/ready", {"ok": True})
    manifest["exists"]["ready"] = {"url": f"{accounts.url}/ready", "expected": "true"}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    asyncio.run(run())


def clock_is(minutes: int) -> Unfit:
    """The clock of this machine goes wrong."""

    @contextmanager
    def unfit(_databases: Databases, _repo: Repo) -> Iterator[None]:
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + timedelta(minutes=minutes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres, "datetime", Wrong)
            yield

    return unfit


@contextmanager
def newer(databases: Databases, repo: Repo) -> Iterator[None]:
    databases.execute("update reconciler.alembic_version set version_num = '9999'", name_of(repo))
    yield


@contextmanager
def too_old(databases: Databases, repo: Repo) -> Iterator[None]:
    (version,) = databases.execute("show server_version")[0]
    old = "13." + "9" * (len(version) - 3)
    with Wire(databases, {f"server_version\0{version}\0".encode(): f"server_version\0{old}\0".encode()}) as wire:
        repo.settings(state=wire.url(name_of(repo)))
        repo.commit()
        yield


@contextmanager
def without_rights(databases: Databases, repo: Repo) -> Iterator[None]:
    databases.execute("create role guest login")
    repo.settings(state=databases.url(name_of(repo), "guest"))
    repo.commit()
    try:
        yield
    finally:
        databases.execute("drop role guest")


def name_of(repo: Repo) -> str:
    return repo.state_url.partition("?")[0].rpartition("/")[2]


@pytest.mark.parametrize(
    ("unfit", "told"),
    [
        pytest.param(clock_is(10), "this machine's clock is 600 s ahead of the database server's", id="fast"),
        pytest.param(clock_is(-10), "this machine's clock is 600 s behind the database server's", id="slow"),
        pytest.param(newer, "its schema is 9999", id="newer"),
        pytest.param(too_old, "the server is PostgreSQL 13, and 14 is the oldest served", id="old"),
        pytest.param(
            without_rights, "permission denied for schema reconciler: make the schema for this user", id="rights"
        ),
    ],
)
def test_unfit_member_sends_nothing(
    databases: Databases, repo: Repo, accounts: AccountService, unfit: Unfit, told: str
) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    with unfit(databases, repo):
        for command in (["daemon"], ["--yes"], ["--dry-run"], ["status"]):
            done = call_cli(repo, *command)
            assert (done.code, told in done.err) == (1, True), (command, done)
    assert accounts.lines() == []


def test_member_whose_clock_goes_wrong_sends_nothing_more(
    databases: Databases, repo: Repo, accounts: AccountService
) -> None:
    """Else what ends in five minutes would end now."""
    accounts.add("ada@example.com")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", {"integration": "tool", "for": "4m"})
    repo.commit()

    async def run() -> None:
        async with member(repo, "a") as a:
            await a.make(Selection())
            before = accounts.lines()
            with clock_is(5)(databases, repo):
                ahead = SystemClock()
                ahead.now = lambda: datetime.now(UTC) + timedelta(minutes=5)  # type: ignore[method-assign]
                a.context.clock = a.clock = ahead
                with pytest.raises(LedgerError, match="this machine's clock is 300 s ahead"):
                    await a.make(Selection())
            assert accounts.lines() == before

    asyncio.run(run())


@pytest.mark.parametrize(("services", "counts"), [(7, [3, 2, 2]), (6, [2, 2, 2]), (2, [1, 1, 1])])
def test_members_have_room_for_every_service_and_no_more(services: int, counts: list[int]) -> None:
    members = ["a", "b", "c"]
    assert [worker_count(name, members, services) for name in members] == counts
    assert worker_count("a", [], services) == services, "who is alone has them all"


async def fetched_at_once(repo: Repo) -> int:
    """How often a member fetches that is asked to at once while a fetch is under way."""
    fetches, hold = 0, threading.Event()

    def fetch(*_: object, stopped: object) -> None:
        nonlocal fetches
        fetches += 1
        assert hold.wait(PATIENCE)

    async def nothing() -> None:
        """Take nothing over."""

    clock = SystemClock()
    context = Context(repo.root, clock, Redactor())
    with (
        closing(StateLocation(repo.state_url, repo.root).writer()) as ledger,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setattr(fetching, "fetch", fetch)
        state = OpenState(OpenLedger(ledger), cast("Any", None))
        active = ActiveRevision(context, context.checkout.head(), Settings.model_validate({}), "main")
        fetches_of = fetching.Fetching(Runtime(clock, state, active), nothing)
        fetches_of.begin(clock.now())
        asked = asyncio.create_task(fetches_of.at_once())
        await asyncio.to_thread(eventually, lambda: fetches == 1)
        hold.set()
        await asked
    return fetches


def test_fetch_that_began_before_what_is_missing_was_there_is_made_again(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "JUST_NOW", timedelta())
    repo.git("remote", "add", "origin", "nowhere")
    repo.commit()
    assert asyncio.run(fetched_at_once(repo)) == 2
