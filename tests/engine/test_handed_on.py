"""Values that `store_data` of a needed entry hands on: an account is taken away with those that it was made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from reconciler.model.status import Status
from tests.engine.harness import Machine
from tests.repo import Repo
from tests.servers import AccountService, Received

SEAT = {"integration": "seat", "needs": ["account"]}


class Hub(AccountService):
    """Accounts, and seats that are known by the account's id."""

    def __init__(self) -> None:
        self.seats: dict[str, str] = {}
        super().__init__()
        self.route("GET", "/seats/{email}", lambda _, email: {"email": email} if email in self.seats.values() else 404)
        self.route("POST", "/seats/{number}", self._take)
        self.route("DELETE", "/seats/{number}", lambda _, number: 204 if self.seats.pop(number, None) else 404)

    def _take(self, received: Received, number: str) -> int:
        self.seats[number] = received.json()["email"]
        return 201


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture
def seated(repo: Repo, hub: Hub) -> Machine:
    """Ada has an account, for eight hours, and a seat."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    account, seat = hub.manifest(revoke=True), f"{hub.url}/seats/{{{{NUMBER}}}}"
    account["execute"][0]["store_data"] = {"NUMBER": "id"}
    exists = {"url": f"{hub.url}/seats/{{{{email}}}}", "expected": "{{email}}", "fail_when_4xx_response_code": False}
    execute, revoke = [{"url": seat, "data": {"email": "{{email}}"}}], [{"url": seat, "method": "DELETE"}]
    repo.manifest("account", {**account, "service": "hub"})
    repo.manifest("seat", {"service": "hub", "exists": exists, "execute": execute, "revoke": revoke})
    repo.hire("ada", {"integration": "account", "for": "8h"}, SEAT)
    repo.commit()
    machine = Machine(repo)
    assert {row.status for row in machine.reconcile().rows} == {Status.PRESENT}
    return machine


def over(machine: Machine, _repo: Repo, _hub: Hub) -> None:
    machine.clock.turn(hours=8)
    assert {row.access: row.status for row in machine.reconcile().rows}["seat"] is Status.PRESENT


def removed_before(_machine: Machine, repo: Repo, _hub: Hub) -> None:
    repo.hire("ada", "seat")


def broken(machine: Machine, repo: Repo, _hub: Hub) -> None:
    manifest = (repo.root / "manifests/account.yaml").read_text()
    repo.write("manifests/account.yaml", "exists: [")
    repo.commit()
    machine.reconcile()
    repo.write("manifests/account.yaml", manifest)


def not_revoked(machine: Machine, repo: Repo, hub: Hub) -> None:
    hub.fail_next(1, 500, method="DELETE", prefix="/seats")
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)


@pytest.mark.parametrize("event", [over, removed_before, broken, not_revoked])
def test_account_is_taken_away_with_what_a_needed_one_handed_on(
    seated: Machine, repo: Repo, hub: Hub, event: Callable[[Machine, Repo, Hub], None]
) -> None:
    event(seated, repo, hub)
    repo.commit()
    seated.reconcile()
    repo.hire("ada")
    repo.commit()
    assert {row.status for row in seated.reconcile().rows} == {Status.REVOKED}
    assert (hub.people, hub.seats, seated.sealed()) == ({}, {}, [])
