"""Tokens against a real token endpoint on loopback: kept fresh, one refresh at a time, stored before they are used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import WritableTokens
from reconciler.ledger.vault import Vault
from reconciler.model.errors import LedgerError, TransportError
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Redactor
from reconciler.oauth.connection import OAuthConnection, TokenChange, TokenStore, Turn, stored_record
from reconciler.oauth.token_request import TokenClient
from reconciler.requests.client import Client
from reconciler.requests.excerpt import secrets_of
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer
from tests.requests.conftest import FakeClock
from tests.servers import Received, Service, eventually

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"
BASIC = "Basic Y2xpZW50LTc6czNjcmV0LXZhbHVl"
SECOND = timedelta(seconds=1)


class Store:
    """A store that keeps what it is given as JSON does."""

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        self.text = json.dumps(record)
        self.saves = 0
        self.full = False

    async def load(self) -> Any:
        return json.loads(self.text)

    def renewing(self) -> nullcontext[None]:
        return nullcontext()

    async def change(self, change: TokenChange) -> None:
        if self.full:
            raise LedgerError("the ledger: disk full: make room on the disk")
        before, self.text = self.text, json.dumps(change(json.loads(self.text)))
        self.saves += self.text != before


class Provider(Service):
    """Hands out access-1, access-2 …, each with a refresh token that serves once."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 1
        self.route("POST", "/token", self.token)

    def token(self, received: Received) -> Any:
        if received.form().get("refresh_token") != [f"refresh-{self.given}"]:
            return 400, {"error": "invalid_grant", "error_description": f"not refresh-{self.given}"}
        self.given += 1
        return reply(self.given)

    @property
    def asked(self) -> int:
        return len(self.calls("POST", "/token"))


def reply(number: int, **more: Any) -> dict[str, Any]:
    return {
        "access_token": f"access-{number}",
        "refresh_token": f"refresh-{number}",
        "token_type": "Bearer",
        "expires_in": 3600,
        **more,
    }


@pytest.fixture
def provider() -> Any:
    with Provider() as running:
        yield running


def manifest(provider: Service, *, refresh: bool = True, **keys: Any) -> Manifest:
    oauth: dict[str, Any] = {
        "authenticate_url": "https://provider.example.com/authorize",
        "access_token": {"url": f"{provider.url}/token"},
    }
    if refresh:
        data = {"grant_type": "refresh_token", "refresh_token": "{{oauth.refresh_token}}", "client_id": "{{CLIENT}}"}
        oauth["refresh"] = {"url": f"{provider.url}/token", "data": data}
    return Manifest.model_validate({"oauth": {**oauth, **keys.pop("oauth", {})}, **keys})


Make = Callable[..., OAuthConnection]


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def make(provider: Provider, connect: Callable[..., Client], clock: FakeClock, turn: Turn, redactor: Redactor) -> Make:
    """Makes connections as passes do: each anew, with one turn for all."""
    client = connect(provider.host)

    def make(
        store: TokenStore,
        by: Manifest | None = None,
        *,
        renewing: bool = True,
        redactor: Redactor = redactor,
        own: Any = None,
        stored: Any = None,
        turn: Turn = turn,
    ) -> OAuthConnection:
        scope = Scope((Layer("initial data", {"CLIENT": "client-7", "SECRET": "s3cret-value"}, frozenset({"SECRET"})),))
        by = by or manifest(provider)
        asks = TokenClient(
            service="acme", manifest=by, client=own or client, scope=scope, clock=clock, redactor=redactor
        )
        return OAuthConnection(
            asks,
            tokens=store,
            store=store if renewing else None,
            stored=json.loads(store.text) if isinstance(store, Store) else stored,
            turn=turn,
        )

    return make


def stored(clock: FakeClock, **more: Any) -> Store:
    return Store(stored_record(reply(1, **more), None, clock.now()))


def access(layer: Layer | None) -> Any:
    assert layer is not None
    return Scope((layer,)).look_up("oauth.access_token").value


async def test_a_token_that_lasts_is_used_as_it_is(make: Make, clock: FakeClock, provider: Provider) -> None:
    connection = make(stored(clock))
    clock.moment += (59 * 60) * SECOND
    assert access(await connection.fresh()) == "access-1"
    assert provider.asked == 0


async def test_less_than_a_minute_left_is_refreshed_and_stored(
    make: Make, clock: FakeClock, provider: Provider
) -> None:
    store = stored(clock, instance="eu")
    connection = make(store)
    clock.moment += (59 * 60 + 1) * SECOND
    assert access(await connection.fresh()) == "access-2"
    assert access(connection.layer()) == "access-2"
    (sent,) = provider.calls("POST", "/token")
    assert sent.headers["Content-Type"] == FORM
    assert sent.form() == {"grant_type": ["refresh_token"], "refresh_token": ["refresh-1"], "client_id": ["client-7"]}
    kept = await store.load()
    assert kept["reply"] == reply(2, instance="eu"), "the reply is merged into what was stored"
    assert (kept["expires_in"], kept["obtained_at"]) == (3600, clock.now().isoformat())
    assert access(await make(store).fresh()) == "access-2"
    assert provider.asked == 1


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (30, 1),
        ("30", 1),
        (30.5, 1),
        (0, 1),
        (-5, 1),
        (3600, 0),
        (10**30, 0),
        ("soon", 0),
        (None, 0),
        (True, 0),
        ([], 0),
    ],
    ids=repr,
)
async def test_a_lifetime_in_every_spelling(
    make: Make, clock: FakeClock, provider: Provider, given: Any, asked: int
) -> None:
    connection = make(stored(clock, expires_in=given))
    await connection.fresh()
    assert provider.asked == asked


async def test_not_connected(make: Make) -> None:
    connection = make(Store())
    assert connection.layer() is None
    assert await connection.fresh() is None
    with pytest.raises(TransportError, match="not connected: connect again: `reconcile oauth connect acme`"):
        await connection.renewed()


async def test_every_pass_and_every_check_shares_one_refresh(make: Make, clock: FakeClock, provider: Provider) -> None:
    store = stored(clock)
    clock.moment += 3600 * SECOND
    passes = [make(store) for _ in range(3)]
    provider.delay = 0.1
    layers = await asyncio.gather(*(connection.fresh() for connection in passes for _ in range(20)))
    assert {access(layer) for layer in layers} == {"access-2"}
    assert (provider.asked, store.saves) == (1, 1)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[WritableTokens]]:
    """The tokens of one SQLite state, as two processes have it open."""
    location = StateLocation(f"sqlite:///{tmp_path}/state/state.db", tmp_path)
    with closing(location.writer()) as one, closing(location.writer()) as other:
        sealer = Sealer(bytes(32), (), Gnupg(None))
        yield [WritableTokens(Vault(sealer), "acme", OpenLedger(ledger)) for ledger in (one, other)]


async def test_a_refresh_token_is_spent_by_one_process_of_those_that_share_a_sqlite_state(
    make: Make, clock: FakeClock, provider: Provider, processes: list[WritableTokens]
) -> None:
    await processes[0].change(lambda _: stored_record(reply(1), None, clock.now()))
    connections = [make(tokens, turn=Turn(), stored=await tokens.load()) for tokens in processes]
    clock.moment += 3600 * SECOND
    provider.delay = 0.1
    layers = await asyncio.gather(*(connection.fresh() for connection in connections))
    assert [access(layer) for layer in layers] == ["access-2", "access-2"]
    assert provider.asked == 1


async def test_a_process_that_never_ends_its_renewal_is_named_in_the_reason(
    make: Make, clock: FakeClock, processes: list[WritableTokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.ledger.sqlite.lock.PATIENCE", timedelta())
    await processes[0].change(lambda _: stored_record(reply(1), None, clock.now()))
    connection = make(processes[1], turn=Turn(), stored=await processes[1].load())
    clock.moment += 3600 * SECOND
    async with processes[0].renewing():
        with pytest.raises(TransportError, match="cannot be refreshed now: another process has been renewing it"):
            await connection.fresh()
    assert access(await connection.fresh()) == "access-2"


async def test_a_token_that_lasts_less_than_a_minute_is_refreshed_once_for_all_who_wait(
    make: Make, clock: FakeClock, provider: Provider
) -> None:
    connection = make(stored(clock, expires_in=20))
    provider.route("POST", "/token", lambda _: reply(2, expires_in=20))
    provider.delay = 0.1
    await asyncio.gather(*(connection.fresh() for _ in range(20)))
    assert provider.asked == 1


async def test_a_401_renews_once_for_all_who_were_refused(make: Make, clock: FakeClock, provider: Provider) -> None:
    store = stored(clock)
    connection, other = make(store), make(store)

    done = asyncio.Event()

    async def check(by: OAuthConnection, *, late: bool) -> Any:
        used = access(await by.fresh())
        if late:  # the request is on its way; the 401 comes back when the refresh is long done
            await done.wait()
        renewed = access(await by.renewed())
        done.set()
        return used, renewed

    lateness = [False] * 5 + [True] * 2
    found = await asyncio.gather(*(check(by, late=late) for by in (connection, other) for late in lateness))
    assert set(found) == {("access-1", "access-2")}
    assert provider.asked == 1
    assert access(await connection.renewed()) == "access-3", "a token that is refused in its turn is renewed too"


async def test_no_refresh_token_is_spent_while_nothing_can_be_stored(
    make: Make, clock: FakeClock, provider: Provider
) -> None:
    store = stored(clock)
    store.full = True
    connection = make(store)
    clock.moment += 3600 * SECOND
    with pytest.raises(LedgerError, match="disk full"):
        await connection.fresh()
    assert provider.asked == 0


@pytest.mark.parametrize("refused", [False, True])
async def test_reply_that_cannot_be_stored_is_stored_later_and_used_then(
    make: Make, clock: FakeClock, provider: Provider, *, refused: bool
) -> None:
    store = stored(clock)
    connection = make(store)
    clock.moment += 0 * SECOND if refused else 3600 * SECOND
    token = provider.token

    def answer(received: Received) -> Any:
        store.full = True
        return token(received)

    provider.route("POST", "/token", answer)
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"the new token of acme is in memory only, .*: the ledger: disk full"):
            await (connection.renewed() if refused else connection.fresh())
        assert access(connection.layer()) == "access-1", "stored before it is used"
    store.full = False
    assert access(await make(store).fresh()) == "access-2"
    assert ((await store.load())["reply"]["refresh_token"], provider.asked) == ("refresh-2", 1)


async def test_a_caller_that_is_cancelled_goes_once_the_new_token_is_stored(
    make: Make, clock: FakeClock, provider: Provider
) -> None:
    store = stored(clock)
    connection = make(store)
    clock.moment += 3600 * SECOND
    release = provider.hang()
    task = asyncio.create_task(connection.fresh())
    await asyncio.to_thread(eventually, lambda: provider.requests)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.saves == 1
    assert (await store.load())["reply"]["access_token"] == "access-2"


async def test_refresh_does_not_overwrite_a_newer_connection(make: Make, clock: FakeClock, provider: Provider) -> None:
    store = stored(clock)
    connection = make(store)
    clock.moment += 3600 * SECOND

    def answer(_received: Received) -> Any:
        store.text = json.dumps(stored_record(reply(77), None, clock.now()))
        return reply(2)

    provider.route("POST", "/token", answer)
    assert access(await connection.fresh()) == "access-77"


class TestFailures:
    async def test_a_refresh_that_fails_is_no_loss_while_the_token_lasts(
        self, make: Make, clock: FakeClock, provider: Provider
    ) -> None:
        connection = make(stored(clock))
        provider.fail_next(1, 500)
        clock.moment += (59 * 60 + 30) * SECOND
        assert access(await connection.fresh()) == "access-1"
        assert access(await connection.fresh()) == "access-2"

    async def test_an_expired_token_and_a_service_that_is_down(
        self, make: Make, clock: FakeClock, provider: Provider
    ) -> None:
        connection = make(stored(clock))
        provider.fail_next(1, 503)
        clock.moment += 3600 * SECOND
        with pytest.raises(TransportError) as caught:
            await connection.fresh()
        assert str(caught.value) == (
            f"the token has expired: it cannot be refreshed now: POST {provider.host}: answered 503"
        )
        assert caught.value.left is False

    async def test_outcome_of_a_refresh_is_shared_by_all_who_waited(
        self, make: Make, clock: FakeClock, provider: Provider
    ) -> None:
        connection = make(stored(clock))
        provider.delay = 0.1
        provider.route("POST", "/token", lambda _: 503)
        clock.moment += 3600 * SECOND
        found = await asyncio.gather(*(connection.fresh() for _ in range(20)), return_exceptions=True)
        assert all(isinstance(item, TransportError) for item in found)
        assert provider.asked == 1

    async def test_a_reply_that_is_no_token_is_not_stored(
        self, make: Make, clock: FakeClock, provider: Provider
    ) -> None:
        store = stored(clock)
        connection = make(store)
        clock.moment += 3600 * SECOND
        provider.route("POST", "/token", lambda _: reply(2, more="x" * 64 * 1024))
        with pytest.raises(TransportError, match=r"it cannot be refreshed now: .* answered 200 with more than 64 KiB"):
            await connection.fresh()
        assert store.saves == 0
        provider.route("POST", "/token", lambda _: reply(2, more="x" * 60 * 1024))
        assert access(await connection.fresh()) == "access-2"

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ((400, {"error": "invalid_grant"}), 'answered 400: {"error": "invalid_grant"}'),
            ((401, "no"), "answered 401: no"),
            ((200, {"ok": False, "error": "token_revoked"}), "answered 200 with the error token_revoked"),
            ((400, "refresh-1 is\nno good"), "answered 400: *** is no good"),
        ],
        ids=["invalid_grant", "401", "an error with status 200", "an error that is a text"],
    )
    async def test_a_refused_refresh_token_asks_for_a_new_connection(
        self, make: Make, clock: FakeClock, provider: Provider, answer: Any, said: str
    ) -> None:
        connection = make(stored(clock))
        provider.route("POST", "/token", lambda _: answer)
        await connection.fresh()
        with pytest.raises(TransportError) as caught:
            await connection.renewed()
        assert str(caught.value) == (
            f"the service refused the token: it cannot be refreshed: POST {provider.host}: {said}; "
            "connect again: `reconcile oauth connect acme`"
        )

    @pytest.mark.parametrize("body", ["<html>", "[1]", ""], ids=["html", "a list", "nothing"])
    async def test_a_reply_that_is_none(self, make: Make, clock: FakeClock, provider: Provider, body: str) -> None:
        store = stored(clock)
        provider.fail_next(1, 200, body=body)
        with pytest.raises(TransportError, match="answered 200 with neither JSON nor form fields"):
            await make(store).renewed()
        assert store.saves == 0

    async def test_no_refresh_token_was_given(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        connection = make(stored(clock, refresh_token=None))
        with pytest.raises(TransportError, match=r"oauth\.refresh_token}} has no value; connect again"):
            await connection.renewed()
        assert provider.asked == 0

    async def test_allowed_hosts_hold(
        self, make: Make, clock: FakeClock, provider: Provider, connect: Callable[..., Client]
    ) -> None:
        connection = make(stored(clock), own=connect("api.example.com"))
        with pytest.raises(TransportError, match=f"host {provider.host} is not allowed"):
            await connection.renewed()
        assert provider.asked == 0


class TestPermanent:
    async def test_expires_in_is_ignored(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        connection = make(stored(clock), manifest(provider, refresh=False))
        clock.moment += 36000 * SECOND
        assert access(await connection.fresh()) == "access-1"

    async def test_a_401_asks_for_a_new_connection(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        connection = make(stored(clock), manifest(provider, refresh=False))
        with pytest.raises(TransportError) as caught:
            await connection.renewed()
        assert str(caught.value) == ("the service refused the token: connect again: `reconcile oauth connect acme`")

    async def test_401_after_a_new_connection(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        store = stored(clock)
        connection = make(store, manifest(provider, refresh=False))
        await store.change(lambda _: stored_record(reply(5), None, clock.now()))
        assert access(await connection.renewed()) == "access-5"


class TestDryRun:
    async def test_an_expired_token_is_not_refreshed(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        connection = make(stored(clock), renewing=False)
        clock.moment += 3600 * SECOND
        with pytest.raises(TransportError, match="the token has expired: a dry run refreshes none"):
            await connection.fresh()
        assert provider.asked == 0

    async def test_valid_token_is_used(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        connection = make(stored(clock), renewing=False)
        clock.moment += 3599 * SECOND
        assert access(await connection.fresh()) == "access-1"
        assert provider.asked == 0

    async def test_a_401(self, make: Make, clock: FakeClock, provider: Provider) -> None:
        connection = make(stored(clock), renewing=False)
        with pytest.raises(TransportError, match="refused the token: a dry run refreshes none"):
            await connection.renewed()
        assert provider.asked == 0


@pytest.mark.parametrize(
    ("own", "default", "sent"),
    [
        (None, {}, {"Content-Type": FORM}),
        (None, {"Authorization": "Bearer {{oauth.access_token}}", "X-App": "{{CLIENT}}"}, {"X-App": "client-7"}),
        (None, {"X-Login": "{{oauth}}"}, {}),
        (None, {"Content-Type": "application/json"}, {"Content-Type": FORM}),
        ({"content-type": "application/json"}, {"X-App": "1"}, {"Content-Type": "application/json"}),
        ({"Authorization": "Basic {{CLIENT}}:{{SECRET}}"}, {}, {"Content-Type": FORM, "Authorization": BASIC}),
    ],
    ids=["none", "the token", "all of the reply", "JSON for others", "JSON for this one", "its own"],
)
async def test_headers(
    make: Make, clock: FakeClock, provider: Provider, own: Any, default: dict[str, str], sent: dict[str, str]
) -> None:
    refresh = {"url": f"{provider.url}/token", "data": {"refresh_token": "{{oauth.refresh_token}}"}, "headers": own}
    by = manifest(provider, oauth={"refresh": refresh}, headers=default)
    provider.route("POST", "/token", lambda _: reply(2))
    await make(stored(clock), by).renewed()
    (request,) = provider.calls("POST", "/token")
    kept = {name: request.headers[name] for name in (*sent, "Content-Type")}
    assert kept == {"Content-Type": FORM, **sent}
    for name in ("Authorization", "X-App", "X-Login"):
        assert (request.headers[name] is not None) == (name in sent)
    body = json.loads(request.body) if "json" in kept["Content-Type"] else request.form()
    assert body in ({"refresh_token": "refresh-1"}, {"refresh_token": ["refresh-1"]})


async def test_a_reply_in_form_fields(make: Make, clock: FakeClock, provider: Provider) -> None:
    provider.fail_next(1, 200, body="access_token=abc%2Fdef&token_type=bearer", headers={"Content-Type": FORM})
    assert access(await make(stored(clock)).renewed()) == "abc/def"


async def test_continue_if_is_kept(make: Make, clock: FakeClock, provider: Provider) -> None:
    refresh = {"url": f"{provider.url}/token", "continue_if": {"response_notation": "ok", "value": "true"}}
    by = manifest(provider, oauth={"refresh": refresh})
    provider.route("POST", "/token", lambda _: {"ok": False})
    with pytest.raises(TransportError, match="continue_if does not hold: ok is another"):
        await make(stored(clock), by).renewed()


async def test_token_is_never_shown(make: Make, clock: FakeClock, provider: Provider) -> None:
    redactor = Redactor()
    connection = make(stored(clock), redactor=redactor)
    layer = await connection.renewed()
    for number in (1, 2):
        assert redactor.redact(f"is access-{number} or refresh-{number}") == "is *** or ***"
    assert redactor.redact("Bearer") == "Bearer"
    assert Scope((layer,)).look_up("oauth.access_token").secret
    assert "access-2" not in repr((connection, layer, await connection.fresh()))


def test_secrets_of_a_token_reply() -> None:
    found = {
        "access_token": "xoxb-1",
        "token_type": "Bearer",
        "scope": "users:read,users:read.email,users:write",
        "team": {"name": "Example Company", "url": "https://example-company.example.com/path"},
        "api_domain": "a-rather-long-name.example.com",
        "authed_user": {"id": "U012345", "access_token": "xoxp-2", "email": "a-rather-long-address@example.com"},
        "id_token": ["k-1", {"value": "k-2"}],
        "b_token": "failed",
        "key": "blocked",
        "state": "waiting_for_administrator_approval",
        "opaque": "d41d8cd98f00b204e9800998ecf8427e",
        "bearer": "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG",
        "expires_in": 3600,
    }
    assert set(secrets_of(found)) == {"xoxb-1", "xoxp-2", "k-1", found["bearer"], found["opaque"]}


def test_stored_token_does_not_grow_with_refreshes(clock: FakeClock) -> None:
    kept = stored_record(reply(1, instance="eu"), None, clock.now())
    for number in range(2, 20):
        odd = {"access_token": f"access-{number}", f"odd-{number}": "x" * 20_000}
        kept = stored_record(odd, kept, clock.now())
        assert len(json.dumps(kept)) < 100_000
    assert kept["reply"]["access_token"] == "access-19"
    assert kept["reply"]["refresh_token"] == "refresh-1"


def test_null_in_a_reply_replaces_nothing(clock: FakeClock) -> None:
    before = stored_record(reply(1, instance="eu"), None, clock.now())
    after = stored_record({**reply(2), "refresh_token": None, "instance": None}, before, clock.now())
    assert after["reply"] == {**reply(2), "refresh_token": "refresh-1", "instance": "eu"}


# client_credentials


def by_itself(provider: Provider, **keys: Any) -> Manifest:
    call = {"url": f"{provider.url}/fetch", "data": {"client_id": "{{CLIENT}}"}, **keys}
    return Manifest.model_validate({"oauth": {"grant": "client_credentials", "access_token": call}})


@pytest.fixture
def fetched(provider: Provider) -> list[dict[str, list[str]]]:
    asked: list[dict[str, list[str]]] = []

    def fetch(received: Received) -> Any:
        asked.append(received.form())
        return {"access_token": f"fetched-{len(asked)}", "expires_in": 3600}

    provider.route("POST", "/fetch", fetch)
    return asked


async def test_a_token_is_fetched_once_when_it_is_needed(provider, make, fetched) -> None:
    store, by = Store(), by_itself(provider)
    first, second = make(store, by), make(store, by)
    assert first.fetches
    assert {access(layer) for layer in await asyncio.gather(first.fresh(), second.fresh(), first.fresh())} == {
        "fetched-1"
    }
    assert fetched == [{"grant_type": ["client_credentials"], "client_id": ["client-7"]}]
    assert access(await make(store, by).fresh()) == "fetched-1"
    assert len(fetched) == 1


async def test_a_grant_type_of_the_manifest_stays(provider, make, fetched) -> None:
    await make(Store(), by_itself(provider, data={"grant_type": "custom"})).fresh()
    await make(Store(), by_itself(provider, data={"grant_type": None, "login": "{{CLIENT}}"})).fresh()
    await make(Store(), by_itself(provider, data="client_id={{CLIENT}}")).fresh()
    assert fetched == [
        {"grant_type": ["custom"]},
        {"login": ["client-7"]},
        {"client_id": ["client-7"], "grant_type": ["client_credentials"]},
    ]


async def test_a_token_is_fetched_again_before_it_ends_and_when_it_is_refused(provider, make, fetched, clock) -> None:
    connection = make(Store(), by_itself(provider))
    await connection.fresh()
    clock.moment += timedelta(minutes=59, seconds=1)
    assert access(await connection.fresh()) == "fetched-2"
    assert access(await connection.renewed()) == "fetched-3"


async def test_a_dry_run_uses_a_stored_token_and_fetches_none(provider, make, fetched, clock) -> None:
    store, by = Store(), by_itself(provider)
    with pytest.raises(TransportError, match="no token is stored, and a dry run fetches none"):
        await make(store, by, renewing=False).fresh()
    await make(store, by).fresh()
    assert access(await make(store, by, renewing=False).fresh()) == "fetched-1"
    assert len(fetched) == 1


async def test_failed_token_request_reports_the_answer(provider, make) -> None:
    provider.route("POST", "/fetch", lambda _received: (401, {"error": "invalid_client"}))
    with pytest.raises(TransportError, match=r"no token could be fetched: POST .*answered 401: .*invalid_client"):
        await make(Store(), by_itself(provider)).fresh()


async def test_a_token_that_comes_with_a_failure_is_not_repeated(provider, make) -> None:
    reply = {"access_token": "fetched-with-a-500", "error": "server_error"}
    provider.route("POST", "/fetch", lambda _received: (500, reply))
    with pytest.raises(TransportError, match=r"answered 500 \(server_error\)") as raised:
        await make(Store(), by_itself(provider)).fresh()
    assert "fetched-with" not in str(raised.value)
