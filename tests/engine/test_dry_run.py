"""A dry run is planned part by part, and shows what the same pass in one piece would be planned to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.model.errors import ReconcilerError
from reconciler.model.report import Report
from reconciler.model.selection import Selection
from reconciler.model.status import Action, Status
from reconciler.review.dry_run import DryRun
from reconciler.review.spool import Spool
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import AccountService


@pytest.fixture
def company(repo: Repo, accounts: AccountService, others: AccountService) -> Machine:
    """Fifteen hires with `tool`, which has a listing; the first ones also with `more`, which needs it."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_new=5, limits={"concurrency": 2})
    repo.manifest("tool", accounts.manifest(listing=True, revoke=True))
    repo.manifest("more", others.manifest(revoke=True))
    for number in range(15):
        also = [{"integration": "more", "needs": ["tool"]}] if number < 3 else []
        repo.hire(f"h{number:02}", "tool", *also)
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    machine.release()
    machine.reconcile()
    return machine


def shown(report: Report) -> tuple[list[dict[str, Any]], list[str], dict[str, int]]:
    return [each.as_json() for each in report.rows], [str(each) for each in report.problems], report.tally.by_status


def in_processes(machine: Machine) -> Report:
    """Plan four hires, and have two processes plan the others, two at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconciler.review.dry_run.processes", lambda: 2)
        patch.setattr("reconciler.review.dry_run.FEW", 2)
        patch.setattr(DryRun, "_worth_it", lambda *_: True)
        return machine.plan(at_a_time=4)


def the_same(machine: Machine, accounts: AccountService) -> Report:
    """Plan one hire at a time, several at a time, in processes, and in one piece: with the same result and requests."""
    reports, asked = [], []
    plans: list[Callable[[], Report]] = [
        lambda: machine.plan(at_a_time=1),
        lambda: machine.plan(at_a_time=4),
        lambda: in_processes(machine),
        machine.plan_whole,
    ]
    for plan in plans:
        before = len(accounts.lines())
        reports.append(plan())
        asked.append(sorted(accounts.lines()[before:]))
    first, *others = map(shown, reports)
    assert all(other == first for other in others)
    assert all(lines == asked[0] for lines in asked)
    return reports[0]


def test_parts_are_what_one_piece_is(
    company: Machine, repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.engine.observe.same_account.SORTED_AT_A_TIME", 2)
    monkeypatch.setattr(
        "reconciler.engine.observe.same_account.MOST_HIRES", 1 << 63
    )  # one bit of a digest: others have it, too
    the_same(company, accounts)
    accounts.people.pop("h04@example.com")
    repo.remove("hires/h05.yaml")
    repo.hire("h06", "more")
    repo.hire("h07", {"integration": "tool", "name": "renamed"})
    (repo.root / "hires/h08.yaml").rename(repo.root / "hires/a08.yaml")
    repo.write("hires/h09.yaml", "email: [")
    repo.hire("h10", "tool", {"integration": "more", "needs": ["tool"]}, "nothing")
    repo.hire("h11", {"integration": "tool", "name": "second", "needs": ["first", "tool"]}, "tool")
    repo.hire("h12", {"integration": "tool", "name": "second", "needs": ["tool"]}, "tool")
    repo.hire("new", "tool", {"integration": "more", "needs": ["tool"]})
    repo.hire("newer", {"integration": "tool", "name": "second", "needs": ["tool"]}, "tool")
    repo.commit()
    report = the_same(company, accounts)
    assert row(report, "h12", "second").status is Status.PRESENT
    assert row(report, "newer", "second").action is Action.EXECUTE
    assert row(report, "h05", "tool").action is Action.REVOKE
    assert row(report, "h09", "tool").status is Status.INVALID
    assert row(report, "a08", "tool").status is Status.PRESENT
    assert "the same account as h07/renamed" in row(report, "h07", "tool").reason
    assert row(report, "new", "more").requests


@pytest.mark.parametrize("dies", [False, True])
def test_processes_plan_all_that_is_as_it_was(
    company: Machine, repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    """But for whom the revision adds, as the guard counts them, and for who is not in the listing."""
    taken, here, add_quiet, quiet = [], os.getpid(), DryRun._add_quiet, DryRun._quiet

    def noted(*given: Any) -> Any:
        taken.append(sorted(given[2].hires))
        return add_quiet(*given)

    def planned(parts: DryRun, part: Selection) -> Any:
        if dies and "h08" in (part.hires or ()):
            assert os.getpid() != here
            os.kill(os.getpid(), signal.SIGKILL)
        return quiet(parts, part)

    monkeypatch.setattr(DryRun, "_add_quiet", noted)
    monkeypatch.setattr(DryRun, "_quiet", planned)
    the_same(company, accounts)
    assert taken == [], "the revision adds all of them"
    repo.hire("i", "tool")
    repo.commit()
    company.reconcile()
    accounts.people.pop("h12@example.com")
    the_same(company, accounts)
    others = [[f"h{number:02}", f"h{number + 1:02}"] for number in (4, 6, 8, 10)] + [["h14", "i"]]
    assert taken == [each for each in others if not (dies and "h08" in each)]


def test_guard_counts_all_parts_and_holds_what_was_planned_before(
    company: Machine, repo: Repo, accounts: AccountService
) -> None:
    for number in range(5):
        repo.hire(
            f"a{number}", "tool", {"integration": "more", "needs": ["tool"]}, {"integration": "more", "name": "x"}
        )
    repo.commit()
    report = the_same(company, accounts)
    assert not any(each.guarded for each in report.rows if each.integration == "tool"), "five are not too many"
    assert sum(each.guarded for each in report.rows if each.integration == "more") == 10
    repo.hire("z", "tool")
    for number in range(5):
        repo.hire(f"a{number}", "tool", {"integration": "more", "needs": ["tool"]})
    repo.commit()
    report = the_same(company, accounts)
    first, last = row(report, "a0", "tool"), row(report, "z", "tool")
    assert first.guarded
    assert first.reason == last.reason
    assert "6 accounts would be made or updated, max_new is 5" in first.reason
    assert first.requests == ()
    waits = row(report, "a0", "more")
    assert (waits.status, waits.reason) == (Status.SCHEDULED, f"needs tool, which is suspended: {first.reason}")
    assert waits.requests == ()


def test_guard_counts_revocations_and_drift_of_all_parts(
    company: Machine, repo: Repo, accounts: AccountService
) -> None:
    for number in range(3):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    for number in range(10, 12):
        accounts.people.pop(f"h{number}@example.com")
    assert not any(each.guarded for each in the_same(company, accounts).rows)
    accounts.people.pop("h12@example.com")
    report = the_same(company, accounts)
    assert {each.hire for each in report.rows if each.guarded} == {"h00", "h01", "h02", "h10", "h11", "h12"}
    assert "40.00 % is over 25 % (6/15)" in row(report, "h00", "tool").reason
    company.reconcile()
    accounts.people.update({f"h{number}@example.com": {"email": f"h{number}@example.com"} for number in range(10, 12)})
    the_same(company, accounts)


def test_what_the_guard_leaves_to_itself_is_shown_beside_what_it_holds(
    company: Machine, repo: Repo, accounts: AccountService
) -> None:
    """An end that is over by itself, a lock that is due, and an account that was switched off."""
    repo.hire("z", {"integration": "tool", "until": "2026-12-02"})
    repo.commit()
    company.lock("h14")
    accounts.fail_next(1, 500, method="DELETE")
    company.reconcile()
    company.clock.turn(days=1)
    for number in range(8):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    report = the_same(company, accounts)
    guarded = {each.hire for each in report.rows if each.guarded and each.integration == "tool"}
    assert guarded == {f"h{number:02}" for number in range(8)}
    assert row(report, "z", "tool").action is Action.REVOKE
    locked = row(report, "h14", "tool")
    assert (locked.status, locked.action) == (Status.SUSPENDED, Action.RETRY)


def test_what_could_not_be_checked_and_is_held_is_shown(
    company: Machine, repo: Repo, accounts: AccountService, others: AccountService
) -> None:
    """More are new at a service that does not answer than may be; at another there is something to be done."""
    for number in range(6):
        repo.hire(f"a{number}", "tool", "more")
    repo.commit()
    others.fail_next(None, 503)
    report = the_same(company, accounts)
    unknown = {each.hire: each.guarded for each in report.rows if each.status is Status.UNKNOWN}
    assert unknown.keys() >= {f"a{number}" for number in range(6)}
    assert all(unknown[f"a{number}"] for number in range(6))
    assert row(report, "a0", "tool").guarded


def test_an_account_that_an_unreadable_file_wants_is_not_revoked(repo: Repo, accounts: AccountService) -> None:
    """Whichever hires the pass is over: who else has the account may be in none of its rows."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    manifest = accounts.manifest(team=True, revoke=True)
    box, address = f"{accounts.url}/users/{{{{TEAM}}}}@example.com", "{{TEAM}}@example.com"
    manifest["exists"] |= {"url": box, "expected": address}
    manifest["execute"] = [{"url": f"{accounts.url}/users", "data": {"email": address}}]
    manifest["revoke"] = [{"url": box, "method": "DELETE"}]
    repo.manifest("tool", manifest)
    machine = Machine(repo)
    for hire in ("ada", "bob"):
        repo.hire(hire, {"integration": "tool", "values": {"TEAM": "all"}})
        repo.commit()
        machine.reconcile()
        repo.remove(f"hires/{hire}.yaml")
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.write("hires/bob.yaml", "email: [")
    repo.commit()
    for report in (machine.plan(), machine.plan_whole(), machine.reconcile(hires=["ada"])):
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "the same account as bob/tool" in left.reason
    assert accounts.calls("DELETE") == []


def test_spool_gives_batches_back_in_their_order() -> None:
    big = ["x" * 100, *map(str, range(300_000))]
    with Spool[list[str]]() as spool:
        assert list(spool) == []
        spool.add(["a"])
        assert list(spool) == [["a"]]
        spool.add([])
        spool.add(big)
        assert list(spool) == [["a"], [], big]


def test_spool_without_a_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> object:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", nowhere)
    with Spool[list[bytes]]() as spool:
        spool.add([b"a"])
        with pytest.raises(ReconcilerError, match="TMPDIR"):
            spool.add([b"".join(number.to_bytes(4, "big") for number in range(0, 1 << 31, 3001))])
