"""A policy over several services holds in a daemon, whose slices of them run side by side."""

from __future__ import annotations

import asyncio

from reconciler.model.grant import Key
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.status import Status
from tests.daemon.running import running, until
from tests.ledgers import inside
from tests.repo import Repo
from tests.servers import AccountService


def test_rules_over_services_and_slices_hold_side_by_side(repo: Repo) -> None:
    with AccountService() as deploys, AccountService() as approvals:
        repo.settings(interval="1h")
        repo.manifest("deploy", deploys.manifest())
        repo.manifest("approve", approvals.manifest())
        repo.write(
            "config/policy.yaml",
            [
                {"name": "two-keys", "never_both": ["deploy", "approve"]},
                {"name": "few", "integration": "approve", "at_most": 2},
                {"name": "many", "integration": "approve", "at_least": 4},
            ],
        )
        repo.hire("ada", "deploy", "approve")
        repo.hire("bob", "deploy")
        repo.commit()

        async def go() -> None:
            async with running(repo) as daemon:
                record, notes = inside(daemon.state.ledger).grants.record, inside(daemon.state.ledger).notes

                def counted() -> list[str]:
                    problems = LastPass.read(notes.get(LAST)).problems
                    return [each.message for each in problems if each.file == "config/policy.yaml"]

                await until(lambda: counted() == ["policy many: approve is given to 1, at least 4"])
                await until(lambda: repo.has("bob", "deploy", Status.PRESENT) and record(Key("ada", "approve")))
                for access, other in (("deploy", "approve"), ("approve", "deploy")):
                    ada = record(Key("ada", access))
                    assert ada is not None
                    assert (ada.status, ada.reason) == (
                        Status.BLOCKED,
                        f"policy two-keys: never both {access} and {other}",
                    )
                for number in range(3):
                    repo.hire(f"h{number}", "approve")
                repo.hire("ada", "deploy")
                repo.commit()
                await until(lambda: all(record(Key(f"h{number}", "approve")) for number in range(3)))
                await until(lambda: repo.has("ada", "deploy", Status.PRESENT))
                for number in range(3):
                    few = record(Key(f"h{number}", "approve"))
                    assert few is not None
                    assert few.reason == "policy few: approve is given to 3, at most 2"
                most, least = "policy few: approve is given to 3, at most 2: h0, h1, h2", "approve is given to 3"
                await until(lambda: counted() == [most, f"policy many: {least}, at least 4"])

        asyncio.run(go())
        assert approvals.calls("POST") == []
        assert [call.json()["email"] for call in deploys.calls("POST")] == ["bob@example.com", "ada@example.com"]
