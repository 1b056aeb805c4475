"""The authorization, with the callback's query as a service would send it and a real token endpoint on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from reconciler.model.errors import Blocked
from reconciler.model.manifest import Manifest
from reconciler.model.request import Request
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Redactor
from reconciler.oauth.authorization import ANSWERED, OPEN, TAKEN, Authorization, Authorizer, NotConnected, pending
from reconciler.oauth.connection import TokenChange
from reconciler.oauth.token_request import TokenClient, with_code, with_query
from reconciler.requests.client import Client
from tests.requests.conftest import FakeClock
from tests.servers import Service, eventually

pytestmark = pytest.mark.anyio

AUTHORIZE = "https://provider.example.com/authorize?client_id={{CLIENT}}&redirect_uri={{redirect_url}}"
REDIRECT = "http://127.0.0.1:8080/oauth/callback/acme"


class PendingAuthorizations:
    """Open authorizations in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    async def read(self, digest: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)  # others have their turn, as where the state is on a server
        return self.kept.get(digest)

    async def take(self, digest: str) -> bool:
        await asyncio.sleep(0)
        there = self.kept[digest]
        self.kept[digest] = {**there, "verifier": None, "outcome": TAKEN}
        return bool(there["outcome"] == OPEN)

    async def write(self, digest: str, value: dict[str, Any]) -> None:
        self.kept[digest] = dict(value)

    async def erase(self, digest: str) -> None:
        del self.kept[digest]

    async def digests(self) -> list[str]:
        return list(self.kept)


class Tokens:
    def __init__(self) -> None:
        self.record: Any = None
        self.lock = asyncio.Lock()

    async def load(self) -> Any:
        return self.record

    def renewing(self) -> asyncio.Lock:
        return self.lock

    async def change(self, change: TokenChange) -> None:
        self.record = change(self.record)


class Desk:
    """One service's authorizations. `authorizer` is made anew each time, as in another process."""

    def __init__(self, service: Service, client: Client, clock: FakeClock, redactor: Redactor) -> None:
        self.service = service
        self.client = client
        self.clock = clock
        self.connects = PendingAuthorizations()
        self.tokens = Tokens()
        self.redactor = redactor
        self.oauth: dict[str, Any] = {
            "authenticate_url": AUTHORIZE,
            "access_token": {"url": f"{service.url}/token", "data": {"grant_type": "authorization_code"}},
        }
        service.route("POST", "/token", {"access_token": "access-1", "expires_in": 3600})

    def authorizer(self, name: str = "acme") -> Authorizer:
        scope = Scope((Layer("", {"CLIENT": "id 7", "redirect_url": REDIRECT}),))
        manifest = Manifest.model_validate({"oauth": self.oauth})
        asks = TokenClient(
            service=name,
            manifest=manifest,
            client=self.client,
            scope=scope,
            clock=self.clock,
            redactor=self.redactor,
        )
        return Authorizer(name, asks, tokens=self.tokens, connects=self.connects)

    async def begin(self) -> Authorization:
        return await self.authorizer().begin()

    async def complete(self, name: str = "acme", **query: str) -> None:
        digest, connect = await pending(self.connects, name, query, self.clock.now())
        await self.authorizer(name).complete(digest, connect, query)

    async def refused(self, name: str = "acme", **query: str) -> str:
        with pytest.raises(NotConnected) as caught:
            await self.complete(name, **query)
        assert self.tokens.record is None
        return str(caught.value)

    def outcome(self, authorization: Authorization) -> str:
        return str(self.connects.kept[authorization.digest]["outcome"])


@pytest.fixture
def desk(service: Service, connect: Callable[..., Client], clock: FakeClock, redactor: Redactor) -> Desk:
    return Desk(service, connect(service.host), clock, redactor)


async def test_authorization_url(desk: Desk) -> None:
    authorization = await desk.begin()
    parts = urlsplit(authorization.url)
    query = parse_qs(parts.query, strict_parsing=True)
    assert (parts.netloc, parts.path) == ("provider.example.com", "/authorize")
    challenge = query.pop("code_challenge")[0]
    assert query == {
        "client_id": ["id 7"],
        "redirect_uri": [REDIRECT],
        "state": [authorization.state],
        "code_challenge_method": ["S256"],
    }
    verifier = desk.connects.kept[authorization.digest]["verifier"]
    assert challenge == base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert 43 <= len(verifier) <= 128
    assert len(authorization.state) >= 43
    assert authorization.state not in repr(authorization) + repr(desk.connects.kept)
    assert (await desk.begin()).state != authorization.state


@pytest.mark.parametrize(
    ("written", "begins"),
    [
        ("https://p.example.com/authorize", "https://p.example.com/authorize?state="),
        ("https://p.example.com/authorize?", "https://p.example.com/authorize?state="),
        ("https://p.example.com/a?state=x&b=1", "https://p.example.com/a?b=1&state="),
        (
            "https://p.example.com/a?b=1&code_challenge=x&code_challenge_method=plain",
            "https://p.example.com/a?b=1&state=",
        ),
        ("https://p.example.com/a?substate=1", "https://p.example.com/a?substate=1&state="),
    ],
)
async def test_state_and_challenge_are_always_ours(desk: Desk, written: str, begins: str) -> None:
    desk.oauth["authenticate_url"] = written
    assert (await desk.begin()).url.startswith(begins)


def test_a_fragment_stays_last() -> None:
    assert with_query("https://p.example.com/a?b=1#c", {"state": "s"}) == "https://p.example.com/a?b=1&state=s#c"


@pytest.mark.parametrize("written", ["javascript:alert(1)", "/authorize", "{{CLIENT}}"])
async def test_only_an_address_is_opened(desk: Desk, written: str) -> None:
    desk.oauth["authenticate_url"] = written
    with pytest.raises(Blocked, match=r"oauth\.authenticate_url does not come out as an http or https address"):
        await desk.begin()


async def test_the_code_is_traded_and_the_reply_stored(desk: Desk, clock: FakeClock) -> None:
    authorization = await desk.begin()
    verifier = desk.connects.kept[authorization.digest]["verifier"]
    clock.moment += timedelta(minutes=10)
    await desk.complete(state=authorization.state, code="c/o d&e=1")
    (sent,) = desk.service.requests
    assert sent.form() == {"grant_type": ["authorization_code"], "code": ["c/o d&e=1"], "code_verifier": [verifier]}
    assert desk.tokens.record == {
        "reply": {"access_token": "access-1", "expires_in": 3600},
        "expires_in": 3600,
        "obtained_at": clock.now().isoformat(),
    }
    assert desk.outcome(authorization) == "connected"
    assert verifier not in repr(desk.connects.kept)
    assert desk.redactor.redact("access-1") == "***"


async def test_refresh_under_way_is_waited_for(desk: Desk, service: Service) -> None:
    """Else the refresh token that it spends would be kept, and what it brings thrown away."""
    desk.tokens.record = {"reply": {"refresh_token": "refresh-1"}}
    authorization = await desk.begin()
    async with desk.tokens.lock:
        completing = asyncio.create_task(desk.complete(state=authorization.state, code="c0de"))
        await asyncio.to_thread(eventually, lambda: service.calls("POST", "/token"))
        await asyncio.sleep(0.05)
        desk.tokens.record = {"reply": {"refresh_token": "refresh-2"}}
    await completing
    assert desk.tokens.record["reply"] == {"refresh_token": "refresh-2", "access_token": "access-1", "expires_in": 3600}
    assert desk.outcome(authorization) == "connected"


async def test_new_fields_are_merged_with_stored_ones(desk: Desk) -> None:
    desk.tokens.record = {"reply": {"refresh_token": "refresh-0", "access_token": "access-0"}}
    await desk.complete(state=(await desk.begin()).state, code="c")
    assert desk.tokens.record["reply"] == {
        "refresh_token": "refresh-0",
        "access_token": "access-1",
        "expires_in": 3600,
    }


class TestRefused:
    async def test_foreign_state_is_refused(self, desk: Desk) -> None:
        authorization = await desk.begin()
        assert "not one that was given out here" in await desk.refused(state="of somebody else", code="c")
        assert "not one that was given out here" in await desk.refused("other", state=authorization.state, code="c")
        assert desk.outcome(authorization) == "open", "whoever guesses closes nobody's authorization"

    async def test_no_state(self, desk: Desk) -> None:
        await desk.begin()
        assert "without a state" in await desk.refused(code="c")

    async def test_a_state_serves_once(self, desk: Desk) -> None:
        authorization = await desk.begin()
        await desk.complete(state=authorization.state, code="c")
        desk.tokens.record = None
        assert "was answered already" in await desk.refused(state=authorization.state, code="c")
        assert len(desk.service.requests) == 1
        assert desk.outcome(authorization) == "connected"

    async def test_of_two_callbacks_at_once_one_trades_the_code(self, desk: Desk) -> None:
        state = (await desk.begin()).state
        both = await asyncio.gather(*(desk.complete(state=state, code="c") for _ in range(2)), return_exceptions=True)
        assert [str(each) for each in both if each is not None] == [ANSWERED]
        assert len(desk.service.calls("POST", "/token")) == 1

    async def test_after_ten_minutes(self, desk: Desk, clock: FakeClock) -> None:
        authorization = await desk.begin()
        clock.moment += timedelta(minutes=10, seconds=1)
        assert "has run out" in await desk.refused(state=authorization.state, code="c")
        assert desk.service.requests == []

    async def test_late_or_repeated_state_is_distinguished_from_a_foreign_one_for_a_day(
        self, desk: Desk, clock: FakeClock
    ) -> None:
        authorization = await desk.begin()
        clock.moment += timedelta(hours=23)
        await desk.begin()
        assert "has run out" in await desk.refused(state=authorization.state, code="c")
        clock.moment += timedelta(hours=2)
        await desk.begin()
        assert "not one that was given out" in await desk.refused(state=authorization.state, code="c")

    @pytest.mark.parametrize(
        ("error", "said"),
        [("access_denied", "access_denied"), ("<script>", "an error that cannot be shown")],
    )
    async def test_authorization_denied_by_person_or_service(self, desk: Desk, error: str, said: str) -> None:
        authorization = await desk.begin()
        told = f"the service did not allow it: {said}"
        assert await desk.refused(state=authorization.state, error=error, code="c") == told
        assert desk.outcome(authorization) == told
        assert "was answered already" in await desk.refused(state=authorization.state, code="c")

    async def test_no_code(self, desk: Desk) -> None:
        assert "without a code" in await desk.refused(state=(await desk.begin()).state)

    async def test_the_code_is_not_taken(self, desk: Desk) -> None:
        authorization = await desk.begin()
        desk.service.fail_next(1, 400, body={"error": "invalid_grant"})
        told = f'POST {desk.service.host}: answered 400: {{"error": "invalid_grant"}}'
        assert await desk.refused(state=authorization.state, code="c") == told
        assert desk.outcome(authorization) == told

    @pytest.mark.parametrize("token", [None, {"state": "queued"}], ids=["null", "a map"])
    async def test_an_answer_without_a_token_connects_nothing(self, desk: Desk, token: Any) -> None:
        desk.service.route("POST", "/token", {"access_token": token, "refresh_token": "refresh-1", "scope": "none"})
        told = await desk.refused(state=(await desk.begin()).state, code="c")
        assert 'answered 200 without access_token: {"access_token": ' in told
        assert "refresh-1" not in told

    async def test_a_token_endpoint_on_a_host_that_is_not_allowed(
        self, desk: Desk, connect: Callable[..., Client]
    ) -> None:
        desk.client = connect("api.example.com")
        assert "is not allowed" in await desk.refused(state=(await desk.begin()).state, code="c")
        assert desk.service.requests == []


class TestWithoutCode:
    @pytest.fixture(autouse=True)
    def _without_code(self, desk: Desk) -> None:
        desk.oauth["without_code"] = True

    async def test_a_callback_with_nothing_at_all(self, desk: Desk) -> None:
        authorization = await desk.begin()
        await desk.complete()
        assert desk.service.requests[0].form() == {"grant_type": ["authorization_code"]}
        assert desk.outcome(authorization) == "connected"

    async def test_a_code_that_comes_is_used(self, desk: Desk) -> None:
        await desk.complete(state=(await desk.begin()).state, code="c")
        assert desk.service.requests[0].form()["code"] == ["c"]

    async def test_without_state_only_while_a_connect_is_open(self, desk: Desk, clock: FakeClock) -> None:
        assert "nobody is connecting this service now" in await desk.refused()
        await desk.begin()
        clock.moment += timedelta(minutes=11)
        assert "nobody is connecting this service now" in await desk.refused()
        await desk.begin()
        await desk.complete()
        desk.tokens.record = None
        assert "nobody is connecting this service now" in await desk.refused()

    async def test_a_code_without_a_state_is_refused(self, desk: Desk) -> None:
        await desk.begin()
        assert "with a code and without a state" in await desk.refused(code="of somebody else")
        assert desk.service.requests == []

    async def test_state_of_another_service_is_refused(self, desk: Desk) -> None:
        await desk.begin()
        assert "nobody is connecting this service now" in await desk.refused("other")

    async def test_a_wrong_state_is_refused_all_the_same(self, desk: Desk) -> None:
        await desk.begin()
        assert "not one that was given out here" in await desk.refused(state="of somebody else")


CODE, BOTH = "{{code}}", "code={{code}}&code_verifier={{code_verifier}}"
PROOF = {"code_verifier": "{{code_verifier}}"}


@pytest.mark.parametrize(
    ("written", "url", "data"),
    [
        ({"data": {"a": "1"}}, "https://p/t", {"a": "1", "code": CODE, "code_verifier": "{{code_verifier}}"}),
        ({}, "https://p/t?code={{code}}", PROOF),
        ({"data": {}}, "https://p/t?code={{code}}", PROOF),
        ({"url": "https://p/t?a=1"}, "https://p/t?a=1&code={{code}}", PROOF),
        ({"data": "a=1"}, "https://p/t", f"a=1&{BOTH}"),
        ({"data": '{"a": 1}'}, "https://p/t", {"a": 1, "code": CODE, "code_verifier": "{{code_verifier}}"}),
        ({"data": {"auth": CODE}}, "https://p/t", {"auth": CODE, "code_verifier": "{{code_verifier}}"}),
        ({"data": {"code": "x"}}, "https://p/t", {"code": CODE, "code_verifier": "{{code_verifier}}"}),
        (
            {"url": "https://p/t?c={{code}}", "data": {"a": "1"}},
            "https://p/t?c={{code}}",
            {"a": "1", **PROOF},
        ),
        (
            {"data": {"c": CODE, "v": "{{ code_verifier }}"}},
            "https://p/t",
            {"c": CODE, "v": "{{ code_verifier }}"},
        ),
        ({"headers": {"X-Code": CODE}}, "https://p/t", PROOF),
    ],
    ids=[
        "data",
        "no data",
        "empty data",
        "a URL with a query",
        "form text",
        "JSON text",
        "placed in data",
        "a literal in its place",
        "placed in the URL",
        "both placed",
        "placed in a header",
    ],
)
def test_token_request_has_the_code(written: dict[str, Any], url: str, data: Any) -> None:
    call = with_code(Request.model_validate({"url": "https://p/t", **written}))
    assert (call.url, call.data) == (url, data)
