"""Passes over a service whose token comes from OAuth: who is refused, who is renewed, and what a retry may conclude."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.ledger.sealing import Trust, open_vault
from reconciler.model.run import Outcome
from reconciler.model.status import Status
from reconciler.oauth.connection import stored_record
from reconciler.secrets.gpg import Gnupg
from tests.engine.harness import Machine, row
from tests.repo import Repo, store_tokens
from tests.servers import AccountService, Received, Reply


class Tool(AccountService):
    """A SaaS tool that wants the newest token it gave out."""

    def __init__(self) -> None:
        super().__init__("t0ken-1")
        self.given = 1

    def handle(self, received: Received) -> Reply:
        if received.path == "/token":
            self.given += 1
            self.token = f"t0ken-{self.given}"
            return Reply(200, {"access_token": self.token, "expires_in": 3600})
        return super().handle(received)

    def guarded(self, received: Received, body: Any) -> Reply:
        """What whoever has the newest token gets."""
        known = received.headers.get("Authorization") == f"Bearer {self.token}"
        return Reply(200, body) if known else Reply(401, "expired")

    def connected(self, *, refresh: bool) -> dict[str, Any]:
        whole = self.manifest()
        whole["headers"]["Authorization"] = "Bearer {{oauth.access_token}}"
        del whole["initial_data_form"]
        url = {"url": f"{self.url}/token"}
        whole["oauth"] = {"authenticate_url": "https://tool.example.com/", "access_token": url}
        if refresh:
            whole["oauth"]["refresh"] = {**url, "data": {"refresh_token": "{{oauth.refresh_token}}"}}
        return whole


@pytest.fixture
def tool() -> Iterator[Tool]:
    with Tool() as running:
        yield running


class Site:
    def __init__(self, repo: Repo, tool: Tool) -> None:
        assert repo.gnupg is not None
        repo.settings(gnupg_home=repo.gnupg.path)
        repo.hire("ada", "tool")
        self.repo = repo
        self.tool = tool
        self.machine = Machine(repo)

    def manifest(self, *, refresh: bool = True, **more: Any) -> None:
        self.repo.manifest("tool", {**self.tool.connected(refresh=refresh), **more})
        self.repo.commit()

    def connect(self, token: str, expires_in: int = 3600) -> None:
        """As `reconcile oauth connect` leaves it."""
        assert self.repo.gnupg is not None
        reply = {"access_token": token, "refresh_token": "r3fresh", "expires_in": expires_in}
        with self.machine.ledger() as ledger:
            vault = open_vault(ledger, Gnupg(self.repo.gnupg.path), Trust((self.repo.gnupg.fingerprint,)))
            store_tokens(ledger, vault, "tool", stored_record(reply, None, self.machine.clock.now()))

    def status(self) -> tuple[Status, str]:
        found = row(self.machine.reconcile(), "ada", "tool")
        return found.status, found.reason

    def planned(self) -> tuple[Status, str]:
        found = row(self.machine.plan(), "ada", "tool")
        return found.status, found.reason


@pytest.fixture
def site(repo: Repo, tool: Tool) -> Site:
    return Site(repo, tool)


def test_not_connected_is_blocked_before_anything_is_sent(site: Site, tool: Tool) -> None:
    site.manifest()
    assert site.status() == (Status.BLOCKED, "not connected: run `reconcile oauth connect tool`")
    assert tool.requests == []
    site.connect("t0ken-1")
    assert site.status()[0] is Status.PRESENT


def test_a_refused_token_is_renewed_once_for_a_check(site: Site, tool: Tool) -> None:
    site.manifest()
    tool.add("ada@example.com")
    site.connect("a token that was taken away")
    assert site.status()[0] is Status.PRESENT
    assert tool.lines() == ["GET /users/ada@example.com", "POST /token", "GET /users/ada@example.com"]


def test_a_refused_token_is_renewed_once_for_the_choices_that_names_stand_for(site: Site, tool: Tool) -> None:
    """Before them no check is sent, so nothing else would renew it."""
    tool.route("GET", "/teams", lambda request: tool.guarded(request, [{"id": 7, "name": "Design"}]))
    site.repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Design"}}})
    field = {"id": "TEAM", "name": "Team", "type": "choice", "url": f"{tool.url}/teams", "method": "GET"}
    execute = [{"url": f"{tool.url}/users", "data": {"email": "{{email}}", "team": "{{TEAM}}"}}]
    site.manifest(form=[field], execute=execute)
    site.connect("a token that was taken away")
    assert site.status()[0] is Status.PRESENT
    assert tool.lines()[:3] == ["GET /teams", "POST /token", "GET /teams"]


def test_a_refused_token_is_renewed_once_for_open_invitations(site: Site, tool: Tool) -> None:
    answers = iter([Reply(401, "expired"), Reply(200, [{"email": "ada@example.com"}])])
    tool.route("GET", "/invitations", lambda _: next(answers))
    exists = tool.manifest()["exists"]
    site.manifest(exists={**exists, "pending": {"url": f"{tool.url}/invitations", "match": "email"}})
    site.connect("t0ken-1")
    assert site.status()[0] is Status.UNCONFIRMED
    assert "POST /token" in tool.lines()


def test_a_token_that_a_later_page_of_a_check_refuses_is_renewed_once(site: Site, tool: Tool) -> None:
    def page(received: Received) -> Reply:
        if "p" in received.query and tool.given == 1:
            return Reply(401, "expired")
        people = [{"email": "ada@example.com"}] if "p" in received.query else []
        return tool.guarded(received, {"people": people, "next": f"{tool.url}/people?p=2"})

    tool.route("GET", "/people", page)
    check = {"url": f"{tool.url}/people", "expected": "{{email}}", "record": "people"}
    site.manifest(exists={**check, "pages": {"next_page_from": "next"}})
    site.connect("t0ken-1")
    assert site.status()[0] is Status.PRESENT
    assert tool.lines() == ["GET /people", "GET /people", "POST /token", "GET /people", "GET /people"]


def test_a_refused_token_is_renewed_once_for_an_attempt(site: Site, tool: Tool) -> None:
    site.manifest()
    site.connect("t0ken-1")
    tool.fail_next(1, 401, method="POST", prefix="/users")
    assert site.status()[0] is Status.PRESENT
    assert [line for line in tool.lines() if line.startswith("POST")] == ["POST /users", "POST /token", "POST /users"]
    assert tool.created == {"ada@example.com": 1}


def test_a_401_without_refresh_is_unknown_and_executes_nothing(site: Site, tool: Tool) -> None:
    site.manifest(refresh=False)
    site.connect("a token that was taken away", expires_in=1)
    told = (Status.UNKNOWN, "the service refused the token: connect again: `reconcile oauth connect tool`")
    assert site.status() == told
    assert site.planned() == told
    assert tool.lines() == ["GET /users/ada@example.com"] * 2


def test_a_dry_run_with_an_expired_token(site: Site, tool: Tool) -> None:
    site.manifest()
    site.connect("t0ken-1")
    site.machine.clock.turn(hours=1)
    assert site.planned() == (Status.UNKNOWN, "the token has expired: a dry run refreshes none")
    assert tool.requests == []
    assert site.status()[0] is Status.PRESENT


@pytest.mark.parametrize("refresh", [False, True], ids=["permanent", "the refresh is refused too"])
def test_a_request_that_was_answered_with_401_has_taken_no_effect(site: Site, tool: Tool, *, refresh: bool) -> None:
    site.manifest(refresh=refresh)
    site.connect("t0ken-1")
    tool.fail_next(1, 401, method="POST", prefix="/users")
    tool.fail_next(1, 400, method="POST", prefix="/token")
    status, reason = site.status()
    assert status is Status.RETRYING
    assert "connect again: `reconcile oauth connect tool`" in reason
    record = site.machine.record("ada", "tool")
    assert record is not None
    assert [step.outcome for step in record.run.steps] == [Outcome.REFUSED]
    # Somebody else makes the account: nothing of the attempt can have, so that it is simply there.
    tool.add("ada@example.com")
    assert site.status()[0] is Status.PRESENT
    assert tool.created == {}


# A token without a person


def fetching(site: Site, tool: Tool, **more: Any) -> None:
    oauth = {"grant": "client_credentials", "access_token": {"url": f"{tool.url}/token"}}
    site.manifest(refresh=False, oauth=oauth, **more)
    tool.add("ada@example.com")


def test_an_answer_without_a_token_is_no_token(site: Site, tool: Tool) -> None:
    answers = iter([Reply(200, {"status": "try later"}), Reply(200, {"access_token": "", "expires_in": 0})])
    tool.on(lambda connection, _: connection.answer(next(answers)), times=2, prefix="/token")
    fetching(site, tool)
    status, reason = site.status()
    assert status is Status.UNKNOWN
    assert reason.startswith("no token could be fetched: POST 127.0.0.1")
    assert reason.endswith('answered 200 without access_token: {"status": "try later"}')
    assert site.status()[0] is Status.UNKNOWN
    assert site.status()[0] is Status.PRESENT, "it is asked for again at the next check"
    assert len(tool.calls("POST", "/token")) == 3


def test_a_stored_reply_without_a_token_is_replaced(site: Site, tool: Tool) -> None:
    fetching(site, tool)
    assert site.repo.gnupg is not None
    with site.machine.ledger() as ledger:
        vault = open_vault(ledger, Gnupg(site.repo.gnupg.path), Trust((site.repo.gnupg.fingerprint,)))
        store_tokens(ledger, vault, "tool", stored_record({"ok": "1"}, None, site.machine.clock.now()))
    for _ in range(2):
        assert site.status()[0] is Status.PRESENT
    assert len(tool.calls("POST", "/token")) == 1


def test_a_token_may_be_another_field_that_the_requests_use(site: Site, tool: Tool) -> None:
    def give(_received: Received) -> Any:
        tool.token = "t0ken-of-its-own"
        return {"data": {"jwt": tool.token}}

    tool.route("POST", "/jwt", give)
    headers = {"Authorization": "Bearer {{oauth.data.jwt}}"}
    oauth = {"grant": "client_credentials", "access_token": {"url": f"{tool.url}/jwt"}}
    site.manifest(refresh=False, oauth=oauth, headers=headers)
    tool.token = None
    tool.add("ada@example.com")
    assert site.status()[0] is Status.PRESENT


@pytest.mark.parametrize("expired", [False, True], ids=["to be fetched", "to be refreshed"])
def test_a_token_host_that_is_not_allowed_is_blocked(site: Site, tool: Tool, expired: bool) -> None:
    assert site.repo.gnupg is not None
    site.repo.settings(gnupg_home=site.repo.gnupg.path, allowed_hosts=[tool.host])
    url = {"url": "https://elsewhere.example.com/token"}
    if expired:
        refresh = {"authenticate_url": url["url"], "access_token": url, "refresh": url}
        site.manifest(oauth=refresh)
        site.connect("t0ken-1", expires_in=0)
    else:
        fetching(site, tool)
        site.manifest(oauth={"grant": "client_credentials", "access_token": url})
    for status, reason in (site.planned(), site.status()):
        assert status is Status.BLOCKED
        assert "host elsewhere.example.com is not allowed" in reason
    assert tool.requests == []
