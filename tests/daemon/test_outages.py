"""A service that answers no check any more is told of once, and once more when it does again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
import structlog
from aiosmtpd.controller import Controller

from reconciler.notify.alerts import Outage, forget, outages_of
from tests.daemon.running import Running, Turned, peopled, running, until
from tests.ledgers import inside
from tests.repo import Repo, free_port
from tests.servers import AccountService, Service


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings(gnupg_home=repo.gnupg.path if repo.gnupg else None, interval="1s")
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.hire("bob", "tool")
    repo.commit()
    return repo


def test_outage_is_alerted_when_it_begins_and_when_it_ends(tool: Repo, accounts: AccountService) -> None:
    async def walk() -> None:
        with structlog.testing.capture_logs() as lines:
            async with running(tool) as now:
                await until(lambda: len(accounts.people) == 2)
                accounts.fail_next(None, 503, method="GET", prefix="/users")
                await until(lambda: "daemon.problem" in [line["event"] for line in lines])
                before = len(now.passes)
                await until(lambda: len(now.passes) > before + 2)
                accounts.clear()
                await until(lambda: "daemon.recovered" in [line["event"] for line in lines])
        told = [line for line in lines if line.get("about") == "checks of tool"]
        assert [line["event"] for line in told] == ["daemon.problem", "daemon.recovered"]
        assert "answered 503" in told[0]["problem"]

    asyncio.run(walk())


def test_outages_are_remembered_and_one_that_lasts_ends_after_a_restart(tool: Repo, accounts: AccountService) -> None:
    def remembered(now: Running) -> list[Outage]:
        return outages_of(inside(now.state.ledger)).get("tool", [])

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: len(accounts.people) == 2)
            accounts.fail_next(None, 503, method="GET", prefix="/users")
            (outage,) = await until(lambda: remembered(now))
            assert outage.until is None
            assert outage.reason.startswith("answered 503")
        async with running(tool) as now:
            before = len(now.passes)
            await until(lambda: len(now.passes) > before + 4)
            assert remembered(now) == [outage]
            accounts.clear()
            await until(lambda: remembered(now)[0].until is not None)
            assert len(remembered(now)) == 1
            forget(inside(now.state.ledger), "ada")
            assert remembered(now)[0].reason == ""

    asyncio.run(walk())


def test_one_failed_check_alone_is_no_outage(tool: Repo, accounts: AccountService) -> None:
    """The log judges as the alerts do."""
    tool.remove("hires/bob.yaml")
    tool.commit()

    async def walk() -> None:
        with structlog.testing.capture_logs() as lines:
            async with running(tool) as now:
                await until(lambda: len(accounts.people) == 1)
                accounts.fail_next(1, 503, method="GET", prefix="/users")
                before = len(now.passes)
                await until(lambda: len(now.passes) > before + 2)
        assert [line for line in lines if line.get("about") == "checks of tool"] == []

    asyncio.run(walk())


class Mailbox:
    """A mail server that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.port = free_port()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    yield mailbox
    controller.stop()


@pytest.mark.no_cover  # the same lines thousands of times
def test_an_hour_over_100_hires_is_two_messages(
    repo: Repo, accounts: AccountService, service: Service, mailbox: Mailbox
) -> None:
    """By e-mail and by webhook, through a daemon that looks at everybody once an hour, a few at a time."""
    service.route("POST", "/hook", {})
    repo.settings(
        interval="1h",
        alerts=[{"email": "it@example.com"}, {"webhook": f"{service.url}/hook"}],
        smtp={"host": "127.0.0.1", "port": mailbox.port, "sender": "access@example.com"},
    )
    stems = peopled(repo, accounts, 100)

    async def walk() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) == len(stems))
            accounts.requests.clear()
            accounts.fail_next(None, 503)
            down = clock.now()
            clock.pace = timedelta(minutes=1)
            await until(lambda: clock.now() - down >= timedelta(hours=1))
            assert len({call.path for call in accounts.requests}) > 90
            accounts.clear()
            await until(lambda: len(service.requests) == 2)
            await until(lambda: clock.now() - down >= timedelta(hours=1, minutes=30))

    asyncio.run(walk())
    first, second = (call.json()["events"] for call in service.requests)
    assert [(event["kind"], event["integration"]) for event in (*first, *second)] == [
        ("outage", "tool"),
        ("recovered", "tool"),
    ]
    assert [message["Subject"] for message in mailbox.messages] == [
        "Access: tool checks fail",
        "Access: tool checks are answered again",
    ]
    assert "answered 503" in mailbox.messages[0].get_content()
