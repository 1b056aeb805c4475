"""Who may see the pages: on this machine, with the token, through a trusted proxy; and nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any, cast
from unittest.mock import patch

import httpx
import pytest
from starlette.applications import Starlette

import reconciler.web.guard as guards
from reconciler.model.errors import LedgerError, SecretsError
from reconciler.model.secret import Secret
from reconciler.model.settings import Pages, Settings
from reconciler.web.daemon_view import DaemonView
from reconciler.web.guard import COOKIE, Guard
from reconciler.web.pages import VIEWS, StatusPages
from reconciler.web.serve import UNTOLD, app

TOKEN = Secret("correct horse battery staple")
PROXY = Pages(trusted_header="X-Forwarded-User", trusted_proxies=["10.0.0.0/8", "fd00::1"])
OFF = "0.0.0.0:8080"
ON = "127.0.0.1:8080"


class Client:
    """Asks the application from an address, and keeps its cookies as a browser does."""

    def __init__(self, application: Starlette, peer: str) -> None:
        self.application = application
        self._transport = httpx.ASGITransport(application, client=(peer, 5000))
        self._cookies = httpx.Cookies()

    def get(self, path: str, headers: Any = None) -> httpx.Response:
        return self._ask("GET", path, headers=headers)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self._ask("POST", path, **given)

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            base = "http://access.example.com"
            async with httpx.AsyncClient(transport=self._transport, base_url=base, cookies=self._cookies) as client:
                answer = await client.request(method, path, **given)
                self._cookies = client.cookies
                return answer

        return asyncio.run(ask())


def served(
    listen: str = OFF,
    *,
    token: Callable[[], Secret | None] = lambda: TOKEN,
    pages: Pages | None = None,
    public_url: str | None = None,
    peer: str = "203.0.113.9",
    health: tuple[bool, str] = (True, "ok"),
    away: bool = False,
) -> Client:
    """The application as it is served, with one page that shows a name, asked from an address."""
    guard = Guard(listen, lambda: Settings(listen=listen, pages=pages, public_url=public_url), token)

    def people(*_: object) -> dict[str, object]:
        return {"title": "People", "text": "ada"}

    async def metrics() -> bytes:
        if away:
            raise LedgerError("the database is away")
        return b"reconciler_grants 1\n"

    def well() -> tuple[bool, str]:
        return health

    with patch.dict(VIEWS, {"/people": ("error.html", people)}):
        routes = list(StatusPages(cast(DaemonView, None), guard, lambda text: text).routes())
    made: Starlette = app(
        healthy=well,
        ready=well,
        metrics=metrics,
        guard=guard,
        hosts=lambda: frozenset({"access.example.com"}),
        more=routes,
    )
    return Client(made, peer)


def signed_in(client: Client, token: str = TOKEN.reveal(), **headers: str):
    return client.post("/sign-in", data={"token": token, "back": "/people?status=failed"}, headers=headers)


def test_pages_are_open_on_loopback_without_a_token() -> None:
    client = served(ON, token=lambda: None, peer="127.0.0.1")
    assert "ada" in client.get("/people").text
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-User", "X-Real-IP", "Via"]
)
def test_behind_a_proxy_on_the_same_machine_nothing_is_open(header: str) -> None:
    client = served(ON, token=lambda: None, peer="127.0.0.1")
    for path in ("/people", "/metrics"):
        answer = client.get(path, headers={header: "203.0.113.9"})
        assert (answer.status_code, "ada" in answer.text) == (403, False)


@pytest.mark.parametrize(
    ("public_url", "status"),
    [("https://access.example.com", 403), ("http://localhost:9", 200), ("http://[::1]:9/", 200)],
)
def test_where_others_come_through_a_proxy_loopback_is_guarded_too(public_url: str, status: int) -> None:
    """A proxy on this machine may send no header that tells."""
    client = served(ON, token=lambda: None, public_url=public_url, peer="127.0.0.1")
    for path in ("/people", "/metrics"):
        assert client.get(path).status_code == status
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert "ada" in served(ON, pages=PROXY, peer="10.0.0.1").get("/people", {"X-Forwarded-User": "grace"}).text


def test_off_loopback_without_a_token_only_health_is_served() -> None:
    client = served(OFF, token=lambda: None)
    for path in ("/people", "/metrics"):
        answer = client.get(path)
        assert (answer.status_code, "ada" in answer.text) == (403, False)
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize("listen", [ON, OFF])
def test_without_the_cookie_there_is_a_form_with_one_password_field(listen: str) -> None:
    answer = served(listen).get("/people")
    assert answer.status_code == 401
    assert "ada" not in answer.text
    assert len(re.findall('type="password"', answer.text)) == 1
    assert 'method="post"' in answer.text


def test_the_token_is_taken_once_and_the_cookie_from_then_on() -> None:
    client = served(public_url="https://access.example.com")
    answer = signed_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/people?status=failed")
    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert cookie["httponly"]
    assert cookie["secure"]
    assert (cookie["samesite"], cookie["path"]) == ("Strict", "/")
    assert TOKEN.reveal() not in answer.headers["set-cookie"]
    assert "ada" in client.get("/people", headers={"Cookie": f"{COOKIE}={cookie.value}"}).text
    assert client.get("/metrics", headers={"Cookie": f"{COOKIE}={cookie.value}"}).status_code == 200


def test_a_cookie_is_not_sent_over_plain_http_where_pages_are_https() -> None:
    assert not SimpleCookie(signed_in(served()).headers["set-cookie"])[COOKIE]["secure"]


def test_signing_out_takes_the_cookie_away() -> None:
    client = served()
    signed_in(client)
    assert client.get("/people").status_code == 200
    assert client.post("/sign-out").status_code == 303
    assert client.get("/people").status_code == 401


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "1",
        TOKEN.reveal(),
        "99999999999.",
        "99999999999." + "0" * 64,
        "99999999999." + guards.cookie_of(Secret("another token"), 2e9).partition(".")[2],
        guards.cookie_of(Secret("another token"), 4e9),
        guards.cookie_of(TOKEN, 1e9),
        "x" + guards.cookie_of(TOKEN, 4e9),
        guards.cookie_of(TOKEN, 4e9) + "0",
        "é" * 20,
    ],
)
def test_a_forged_or_outlived_cookie_is_refused(forged: str) -> None:
    answer = served().get("/people", headers={"Cookie": f"{COOKIE}={forged}".encode("latin-1")})
    assert (answer.status_code, "ada" in answer.text) == (401, False)


def test_a_cookie_outlives_a_restart_and_ends_with_the_token() -> None:
    cookie = {"Cookie": f"{COOKIE}={guards.cookie_of(TOKEN, 4e9)}"}
    assert served().get("/people", headers=cookie).status_code == 200
    assert served(token=lambda: Secret("a new token")).get("/people", headers=cookie).status_code == 401


def test_a_token_in_the_url_counts_for_nothing() -> None:
    for query in ("token", "PAGES_TOKEN", "access_token"):
        assert served().get(f"/people?{query}={TOKEN.reveal()}").status_code == 401
        assert served().get(f"/metrics?{query}={TOKEN.reveal()}").status_code == 401


def test_metrics_take_the_token_as_a_bearer_and_no_page_does() -> None:
    bearer = {"Authorization": f"Bearer {TOKEN.reveal()}"}
    client = served()
    refused = client.get("/metrics")
    assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/metrics", headers=bearer).text == "reconciler_grants 1\n"
    assert client.get("/people", headers=bearer).status_code == 401
    other = served(token=lambda: Secret("schl\u00fcssel"))
    assert other.get("/metrics", headers={"Authorization": "Bearer schl\u00fcssel".encode()}).status_code == 200


def test_guessing_is_bounded_in_rate_for_an_address() -> None:
    client = served()
    tried = [signed_in(client, "wrong").status_code for _ in range(guards.MAX_OF_ADDRESS + 2)]
    assert tried == [401] * guards.MAX_OF_ADDRESS + [429] * 2
    answer = signed_in(client)
    assert (answer.status_code, "set-cookie" in answer.headers) == (429, False)
    assert 0 < int(answer.headers["retry-after"]) <= guards.WINDOW_SECONDS + 1
    assert client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 429


def test_attempts_are_counted_by_address_and_forgotten_after_a_while() -> None:
    attempts = guards.Attempts()
    for _ in range(guards.MAX_OF_ADDRESS):
        attempts.wrong("203.0.113.9", 100.0)
    assert attempts.wait("203.0.113.9", 100.5) == 60
    assert attempts.wait("203.0.113.10", 100.5) == 0
    assert attempts.wait("203.0.113.9", 100.0 + guards.WINDOW_SECONDS) == 0
    for number in range(1000):
        attempts.wrong(f"203.0.113.{number}", 200.0)
        attempts.wrong(f"2001:db8::{number:x}", 200.0)
    assert attempts.wait("198.51.100.1", 200.0) == 0, "the guesses of others lock nobody out"
    assert attempts.wait("2001:db8::ffff:1", 200.0) > 0, "a network is one address"
    assert attempts.wait("2001:db8:0:1::1", 200.0) == 0


def test_guesses_are_limited_in_each_window_anew() -> None:
    attempts = guards.Attempts()
    for begin in (100.0, 200.0, 300.0):
        for number in range(guards.MAX_OF_ADDRESS):
            assert attempts.wait("203.0.113.9", begin + number) == 0
            attempts.wrong("203.0.113.9", begin + number)
        assert attempts.wait("203.0.113.9", begin + 10.0) == 51


def test_address_that_guessed_the_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_ADDRESSES", 2)
    attempts = guards.Attempts()
    for address in ("203.0.113.1", "203.0.113.2", "203.0.113.1"):
        for _ in range(guards.MAX_OF_ADDRESS):
            attempts.wrong(address, 100.0)
    attempts.wrong("203.0.113.3", 100.0)
    assert [attempts.wait(f"203.0.113.{number}", 101.0) for number in (1, 2, 3)] == [60, 0, 0]


def test_guesses_through_a_proxy_count_for_whom_it_names() -> None:
    client = served(pages=PROXY, peer="10.1.2.3")

    def guess(forwarded: str, token: str = "wrong") -> int:
        answer: httpx.Response = signed_in(client, token, **{"X-Forwarded-For": forwarded})
        return answer.status_code

    for number in range(guards.MAX_OF_ADDRESS):
        assert guess(f"192.0.2.{number}, 203.0.113.9, 10.9.9.9") == 401, "what stands before may be made up"
    assert guess("198.51.100.1, 203.0.113.9, 10.9.9.9", TOKEN.reveal()) == 429
    assert guess("203.0.113.10", TOKEN.reveal()) == 303
    assert signed_in(served(pages=PROXY), **{"X-Forwarded-For": "10.9.9.9"}).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://access.example.com:81"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://access.example.com"},
    ],
)
def test_form_of_another_site_is_refused(headers: dict[str, str]) -> None:
    client = served()
    assert signed_in(client, **headers).status_code == 403
    assert client.post("/sign-out", headers=headers).status_code == 403


def test_a_form_of_our_own_is_taken() -> None:
    assert signed_in(served(), Origin="http://access.example.com").status_code == 303


@pytest.mark.parametrize(
    "back", ["//evil.example.com", "/\\evil.example.com", "https://evil.example.com", "", "/a\r\nb: c"]
)
def test_signing_in_leads_back_to_a_page_of_ours_only(back: str) -> None:
    answer = served().post("/sign-in", data={"token": TOKEN.reveal(), "back": back})
    assert answer.headers["location"] == "/"


def test_a_form_without_end_is_not_read_to_its_end() -> None:
    answer = served().post("/sign-in", content=b"token=wrong&x=" + b"x" * 1_000_000)
    assert answer.status_code == 401


def test_a_form_whose_sender_is_gone_is_no_fault() -> None:
    said: list[Any] = []

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", b"access.example.com"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/sign-in", "query_string": b"", "headers": headers}
    asyncio.run(served().application(scope, gone, send))
    assert said[0]["status"] == 408


def test_header_of_a_trusted_proxy_signs_in() -> None:
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        client = served(token=lambda: None, pages=PROXY, peer=peer)
        answer = client.get("/people", headers={"X-Forwarded-User": "grace@example.com"})
        assert answer.status_code == 200
        assert "grace@example.com" in answer.text


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("203.0.113.9", [("X-Forwarded-User", "grace")]),
        (
            "203.0.113.9",
            [("X-Forwarded-User", "grace"), ("X-Forwarded-For", "10.1.2.3"), ("Forwarded", "for=10.1.2.3")],
        ),
        ("127.0.0.1", [("X-Forwarded-User", "grace")]),
        ("10.1.2.3", [("X-Forwarded-User", "")]),
        ("10.1.2.3", []),
        ("10.1.2.3", [("X-Forwarded-User", "grace"), ("X-Forwarded-User", "root")]),
        ("testclient", [("X-Forwarded-User", "grace")]),
    ],
)
def test_the_header_counts_from_the_proxy_only(peer: str, headers: list[tuple[str, str]]) -> None:
    for token in (None, TOKEN):
        client = served(token=lambda token=token: token, pages=PROXY, peer=peer)  # type: ignore[misc]
        for path in ("/people", "/metrics"):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, "ada" in answer.text) == (401, False)


def test_the_name_that_a_proxy_gives_is_escaped() -> None:
    client = served(token=lambda: None, pages=PROXY, peer="10.1.2.3")
    text = client.get("/people", headers={"X-Forwarded-User": "<script>" + "x" * 500}).text
    assert "<script>x" not in text
    assert "x" * 250 not in text


def test_a_token_that_cannot_be_read_opens_nothing() -> None:
    def sealed() -> Secret | None:
        raise SecretsError("config/initial_data/reconciler.yaml.gpg: no secret key")

    for listen in (ON, OFF):
        client = served(listen, token=sealed, peer="127.0.0.1")
        for path in ("/people", "/metrics"):
            answer = client.get(path)
            assert (answer.status_code, "ada" in answer.text, "secret key" in answer.text) == (503, False, False)
        assert signed_in(client).status_code == 503


def test_metrics_of_a_state_that_is_away_are_no_fault() -> None:
    assert served(ON, token=lambda: None, peer="127.0.0.1", away=True).get("/metrics").status_code == 503


@pytest.mark.parametrize(
    ("well", "status", "told"), [(False, 503, UNTOLD), (True, 200, "ok")], ids=["ill", "well, with a problem"]
)
def test_problem_in_health_is_hidden_from_strangers(well: bool, status: int, told: str) -> None:
    ill = (well, "commit 1234 by Ada <ada@example.com> is not accepted")
    for path in ("/healthz", "/readyz"):
        answer = served(health=ill).get(path)
        assert (answer.status_code, answer.json()) == (status, {"ok": well, "detail": told})
        assert "ada@" in served(ON, token=lambda: None, peer="127.0.0.1", health=ill).get(path).text
        member = served(health=ill)
        signed_in(member)
        assert "ada@" in member.get(path).text


def test_a_page_that_is_not_there_links_to_no_other_site() -> None:
    client = served()
    signed_in(client)
    for path in ("//evil.example.com/x", "//evil.example.com"):
        answer = client.get(f"http://access.example.com{path}")
        assert answer.status_code == 404
        assert 'href="//' not in answer.text


def test_a_foreign_host_is_refused_before_anything_else() -> None:
    for path in ("/people", "/static/style.css", "/sign-in"):
        for host in (
            "evil.example.com",
            "evil.example.com@localhost",
            "localhost/evil",
            "localhost?evil",
            "localhost:x",
        ):
            assert served().get(path, headers={"Host": host}).status_code == 421, host


def test_every_answer_carries_the_policy() -> None:
    client = served()
    for path, headers in {
        "/people": {},
        "/static/style.css": {},
        "/healthz": {},
        "/nowhere": {},
        "/metrics": {},
        "/": {"Host": "evil.example.com"},
    }.items():
        answer = client.get(path, headers=headers)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert client.get("/people").headers["cache-control"] == "no-store"


def test_settings_of_the_proxy_name_a_header_and_networks() -> None:
    for header, networks in [
        ("X User", ["10.0.0.0/8"]),
        ("", ["10.0.0.0/8"]),
        ("X-User", []),
        ("X-User", ["10.0.0.1/8"]),
        ("X-User", ["proxy.example.com"]),
        ("X-User", ["0.0.0.0/0"]),
        ("X-User", ["::/0"]),
    ]:
        with pytest.raises(ValueError):
            Pages.model_validate({"trusted_header": header, "trusted_proxies": networks})
