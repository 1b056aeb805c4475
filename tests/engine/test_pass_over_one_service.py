"""A pass over one service reads little of the ledger, and decides as a pass over everything does."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from reconciler.engine.observe.integrations import Integration
from reconciler.engine.run.planning import Planning
from reconciler.ledger.reader import Grants
from reconciler.model.grant import Key
from reconciler.model.status import Action, Status
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import AccountService, Reply

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


@pytest.fixture
def hook(machine: Machine, repo: Repo, accounts: AccountService) -> Machine:
    """The machine with a webhook beside `tool`."""
    accounts.route("POST", "/hooks", Reply(202))
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hooks", "data": {"who": "{{email}}"}}]})
    repo.hire("ada", "hook", TOOL)
    repo.commit()
    return machine


def test_pass_reads_rows_of_its_service_only(hook: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.reconcile()
    read: list[Key] = []
    records = Grants.records

    def counted(self: Grants, *asked: Any) -> Any:
        for record in records(self, *asked):
            read.append(record.key)
            yield record

    monkeypatch.setattr(Grants, "records", counted)
    report = hook.plan(hires=["ada"], integrations=["tool"])
    assert [(each.access, each.status) for each in report.rows] == [("tool", Status.PRESENT)]
    assert read == [Key("ada", "tool")]


def test_pass_that_is_over_is_out_of_memory(hook: Machine) -> None:
    """Passes follow each other faster than the collector runs that finds what is in a circle."""
    hook.reconcile()
    gc.collect()
    gc.disable()
    try:
        hook.reconcile(hires=["ada"], integrations=["tool"])
        assert not [each for each in gc.get_objects() if isinstance(each, Integration | Planning)]
    finally:
        gc.enable()


def test_needed_entry_of_another_service_is_known(hook: Machine, repo: Repo) -> None:
    """A webhook that ran is `done`: only its row says so."""
    hook.reconcile()
    repo.hire("ada", "hook", {**TOOL, "name": "second", "values": {"TEAM": "8"}, "needs": ["hook"]})
    repo.commit()
    second = row(hook.plan(hires=["ada"], integrations=["tool"]), "ada", "second")
    assert second.status is not Status.SCHEDULED, second.reason


def test_a_row_that_stands_in_an_entrys_place_is_seen(hook: Machine, repo: Repo, accounts: AccountService) -> None:
    """The name is another integration's now: the account behind the row must not be lost sight of."""
    hook.reconcile()
    repo.hire("ada", {"integration": "hook", "name": "tool"})
    repo.commit()
    found = row(hook.plan(hires=["ada"], integrations=["hook"]), "ada", "tool")
    assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
    assert "access to tool is called" in found.reason


def test_rows_follow_a_renamed_hire(hook: Machine, repo: Repo, accounts: AccountService) -> None:
    hook.reconcile()
    accounts.requests.clear()
    repo.remove("hires/ada.yaml")
    repo.hire("ada-l", "hook", TOOL, email="ada@example.com")
    repo.commit()
    hook.reconcile(hires=["ada-l"], integrations=["hook"])
    assert accounts.calls("POST") == []
    assert hook.record("ada-l", "hook") is not None
    assert hook.record("ada-l", "tool") is not None
    assert hook.record("ada", "tool") is None


def test_who_left_by_another_services_pass_gives_nothing_to_who_has_the_id_next(
    hook: Machine, repo: Repo, accounts: AccountService
) -> None:
    """The file was missing at a revision that only the pass over `tool` acted on."""
    hook.reconcile()
    repo.remove("hires/ada.yaml")
    repo.write("hires/.gitkeep", "")
    repo.commit()
    hook.reconcile(hires=["ada"], integrations=["tool"])
    repo.hire("ada", "hook", TOOL, email="ada.new@example.com")
    repo.commit()
    accounts.requests.clear()
    hook.reconcile(hires=["ada"], integrations=["hook"])
    assert [call.json() for call in accounts.calls("POST")] == [{"who": "ada.new@example.com"}]
    assert {access for access in ("hook", "tool") if hook.record("ada", f"{access}~ada@example.com")} == {
        "hook",
        "tool",
    }
