"""A daemon that is cut off from git goes on and says so: health, status, an alert, and one when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.daemon.freshness import NOTE, Freshness
from tests.daemon.running import Turned, running, until
from tests.ledgers import inside
from tests.repo import Repo, run_cli
from tests.repository.signing import PgpSigner, signed, unsigned
from tests.servers import Service

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
LIMIT = timedelta(minutes=15)
PACE = timedelta(seconds=0.1)


@pytest.fixture
def remote(repo: Repo, tmp_path: Path, service: Service) -> Path:
    """Where the repository is fetched from."""
    service.route("POST", "/hook", {})
    repo.settings(interval="1d", alerts=[{"webhook": f"{service.url}/hook"}], git={"fetch": "1s"}, fail_stale="15m")
    repo.hire("ada")
    repo.commit()
    bare = tmp_path / "remote.git"
    repo.git("clone", "--quiet", "--bare", ".", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    return bare


def kinds(service: Service) -> list[str]:
    return [event["kind"] for call in service.requests for event in call.json()["events"]]


def move(folder: Path, name: str) -> Path:
    return folder.rename(folder.with_name(name))


def test_daemon_cut_off_from_git_alerts_once_and_on_recovery(repo: Repo, remote: Path, service: Service) -> None:
    async def walk() -> None:
        clock = Turned(PACE)
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.runtime.freshness.fetched_at)
            gone = move(remote, "gone.git")
            await until(lambda: now.daemon.runtime.freshness.problem)
            clock.turn(minutes=14)
            await now.a_tick()
            await now.a_tick()  # an absence has no event to wait for
            assert now.daemon.healthy()[0]
            clock.turn(minutes=2)
            await until(lambda: not now.daemon.healthy()[0])
            since = f"{now.daemon.runtime.freshness.fetched_at:%Y-%m-%dT%H:%M:%SZ}"
            assert f"since {since}: main from origin cannot be taken over" in now.daemon.healthy()[1]
            assert now.daemon.makes_progress()[0], "a restart does not bring the remote back"
            await until(lambda: kinds(service) == ["stale"])
            told = run_cli(repo, "status", "--output", "json")
            assert told.code == 1
            assert told.json["stale"]["since"] == since
            assert f"no new commit is taken over since {since}" in run_cli(repo, "status").out
            problem = now.daemon.runtime.freshness.problem
        clock = Turned(PACE)
        clock.turn(minutes=17)
        async with running(repo, clock) as now:
            await until(lambda: not now.daemon.healthy()[0])
            assert not now.daemon.runtime.freshness.known, "a restart forgets nothing"
            await until(lambda: now.daemon.runtime.freshness.problem)
            assert now.daemon.runtime.freshness.problem == problem
            move(gone, remote.name)
            await until(lambda: now.daemon.healthy()[0])
            await until(lambda: len(kinds(service)) == 2)
        assert kinds(service) == ["stale", "caught_up"]
        told = run_cli(repo, "status", "--output", "json")
        assert (told.code, told.json["stale"]) == (0, None)

    asyncio.run(walk())


def test_each_member_of_a_fleet_is_judged_and_the_next_leader_tells_what_the_one_before_could_not(
    repo: Repo, remote: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def walk() -> None:
        clock = Turned(PACE)
        async with running(repo, clock) as now:
            daemon, freshness = now.daemon, now.daemon.runtime.freshness
            await until(lambda: freshness.fetched_at)
            monkeypatch.setattr(daemon.runner, "leads", False)
            gone = move(remote, "gone.git")
            await until(lambda: freshness.problem)
            clock.turn(minutes=16)
            await until(lambda: not daemon.healthy()[0])
            told = freshness.written({})
            inside(now.state.ledger).notes.put(NOTE, told)
            move(gone, remote.name)
            await until(lambda: daemon.healthy()[0])
            assert kinds(service) == []
            monkeypatch.setattr(daemon, "_led", False)
            monkeypatch.setattr(daemon.runner, "leads", True)
            await until(lambda: kinds(service) == ["caught_up"])

    asyncio.run(walk())


def test_a_commit_that_names_a_remote_which_is_not_there_is_reported(
    repo: Repo, remote: Path, service: Service
) -> None:
    async def walk() -> None:
        clock = Turned(PACE)
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.runtime.freshness.fetched_at)
            repo.settings(
                interval="1d", alerts=[{"webhook": f"{service.url}/hook"}], git={"fetch": "1s", "remote": "orign"}
            )
            repo.commit()
            told = "there is no remote orign, only origin: mend git.remote"
            await until(lambda: (now.daemon.runtime.freshness.problem or "").startswith(told))  # origin may come first
            clock.turn(minutes=16)
            await until(lambda: not now.daemon.healthy()[0])
            assert told in now.daemon.healthy()[1]
            await until(lambda: kinds(service) == ["stale"])
            repo.git("remote", "add", "orign", str(remote))
            repo.git("push", "--quiet", "orign", "HEAD:main")
            await until(lambda: kinds(service) == ["stale", "caught_up"])

    asyncio.run(walk())


def test_remote_that_is_for_checkpoints_alone_is_no_slip(repo: Repo, remote: Path) -> None:
    """Where nothing is fetched, checkpoints may still go to a remote of their own."""

    async def walk() -> None:
        clock = Turned(PACE)
        repo.git("remote", "rename", "origin", "proof")
        repo.settings(interval="1d", git={"fetch": "1s"}, fail_stale="15m", checkpoints={"remote": "proof"})
        repo.commit()
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.runtime.freshness.known)
            clock.turn(minutes=16)
            await now.a_tick()
            await now.a_tick()  # an absence has no event to wait for
            assert now.daemon.runtime.freshness.problem is None
            assert now.daemon.healthy()[0]

    asyncio.run(walk())


@pytest.fixture
def ida() -> Iterator[PgpSigner]:
    made = PgpSigner("Ida")
    yield made
    made.close()


def test_a_commit_that_is_refused_for_long_is_ill_health_too(tmp_path: Path, ida: PgpSigner, service: Service) -> None:
    service.route("POST", "/hook", {})
    repo = Repo(tmp_path / "signed", ida.home)
    repo.hire("ada")
    repo.write(".gitignore", ".reconciler/\n")
    repo.write("manifests/.gitkeep", "")
    first = repo.commit("first")
    repo.settings(
        interval="1d",
        alerts=[{"webhook": f"{service.url}/hook"}],
        gnupg_home=ida.home.path,
        git={"fetch": None, "verify_signatures": True, "trusted_from": first},
    )
    signed(repo, ida, "on")

    async def walk() -> None:
        clock = Turned(PACE)
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.runtime.health.ready)
            refused = unsigned(repo)
            await until(lambda: now.daemon.runtime.freshness.refused)
            assert now.daemon.healthy()[0]
            clock.turn(minutes=16)
            await until(lambda: not now.daemon.healthy()[0])
            assert refused[:12] in now.daemon.healthy()[1]
            await until(lambda: kinds(service) == ["stale"])
            assert refused[:12] in run_cli(repo, "status", "--output", "json").json["stale"]["reason"]
            repo.git("reset", "--hard", "--quiet", "HEAD~")
            await until(lambda: now.daemon.healthy()[0])
            await until(lambda: kinds(service) == ["stale", "caught_up"])

    asyncio.run(walk())


@pytest.mark.parametrize("missing", ["settings", "hires"])
def test_a_commit_that_cannot_be_read_for_long_is_ill_health_too(repo: Repo, service: Service, missing: str) -> None:
    service.route("POST", "/hook", {})
    repo.settings(interval="1d", alerts=[{"webhook": f"{service.url}/hook"}], git={"fetch": None})
    repo.hire("ada")
    good = repo.commit()

    async def walk() -> None:
        clock = Turned(PACE)
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.runtime.health.ready)
            if missing == "settings":
                repo.write("config/reconciler.yaml", "intervall: 1m\n")
            else:
                repo.git("rm", "-rq", "hires")
            repo.commit()
            fault = await until(lambda: now.active.fault)
            assert ("intervall" if missing == "settings" else "no hires/ folder") in fault
            assert now.daemon.healthy()[0]
            clock.turn(minutes=16)
            await until(lambda: not now.daemon.healthy()[0])
            assert fault in now.daemon.healthy()[1]
            assert now.daemon.makes_progress()[0], "a restart does not mend a file"
            await until(lambda: kinds(service) == ["stale"])
            repo.git("reset", "--hard", "--quiet", good)
            await until(lambda: now.daemon.healthy()[0])
            assert now.active.fault is None
            await until(lambda: kinds(service) == ["stale", "caught_up"])

    asyncio.run(walk())


def judged(known: Freshness, **later: float) -> bool:
    known.judge(NOW + timedelta(**later), LIMIT)
    return known.stale is not None


@pytest.mark.parametrize("problem", [None, "no route"])
def test_nothing_is_stale_before_it_is_known_how_fetching_goes(problem: str | None) -> None:
    known = Freshness(NOW)
    assert not judged(known, hours=9)
    known.fetched(NOW + timedelta(hours=9), problem)
    assert judged(known, hours=9) is (problem is not None)


def test_where_nothing_is_fetched_nothing_is_stale() -> None:
    known = Freshness(NOW)
    known.fetched(NOW, "no route")
    assert judged(known, hours=1)
    known.not_fetching()
    assert not judged(known, hours=1)


def test_a_clock_that_is_set_back_hides_nothing_for_long() -> None:
    known = Freshness(NOW + timedelta(days=9))
    known.fetched(NOW, "no route")
    assert not judged(known, minutes=14)
    assert judged(known, minutes=15)


def test_freshness_survives_a_restart() -> None:
    known = Freshness(NOW)
    known.fetched(NOW, None)
    known.fetched(NOW, "no route")
    known.refuse(NOW + timedelta(minutes=1), "nobody signed it")
    assert judged(known, hours=1)
    again = Freshness(NOW + timedelta(hours=2))
    again.follow(known.written({}))
    assert (again.stale, again.fetched_at, again.refused_since) == (known.stale, NOW, NOW + timedelta(minutes=1))
