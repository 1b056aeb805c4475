"""The loopback services themselves: what journeys rely on has to be so."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

import pytest

from tests.servers import PATIENCE, AccountService, Crowd, Reply, Service, ask, eventually


def test_server_records_requests(service: Service) -> None:
    service.route("POST", "/a b/{name}", lambda received, name: {"name": name, "got": received.json()})
    before = time.time()
    status, headers, raw = ask(service.url, "POST", "/a%20b/x%40y?q=1&q=2", {"n": 1}, {"X-Key": "k"})
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(raw) == {"name": "x@y", "got": {"n": 1}}
    [received] = service.requests
    assert (received.method, received.path, received.target) == ("POST", "/a b/x@y", "/a%20b/x%40y?q=1&q=2")
    assert received.query == {"q": ["1", "2"]}
    assert received.headers["x-key"] == "k"
    assert before <= received.at <= time.time()
    assert service.lines() == ["POST /a b/x@y"]


@pytest.mark.parametrize("status", [204, 304, 404, 500])
def test_statuses_with_and_without_a_body(service: Service, status: int) -> None:
    service.route("GET", "/", Reply(status, "text"))
    got, _, body = ask(service.url, "GET", "/")
    assert (got, body) == (status, b"" if status in (204, 304) else b"text")


def test_one_connection_serves_many_requests(service: Service) -> None:
    service.route("GET", "/", {"ok": True})
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    took = []
    for _ in range(50):
        began = time.monotonic()
        connection.request("GET", "/")
        assert connection.getresponse().read() == b'{"ok": true}'
        took.append(time.monotonic() - began)
    connection.close()
    assert min(took[25:]) < 0.04, "each reply waited for an acknowledgement, which a system delays as long"


def test_a_request_counts_from_when_it_arrives(service: Service) -> None:
    """Whoever is to answer it may come to it late."""
    busy = service.hang()
    service.route("GET", "/", {})
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: service.requests)
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sent = time.time()
        busy.set()
        eventually(lambda: len(service.requests) == 2)
    assert service.requests[1].at <= sent


def test_failures_are_counted_and_matched(accounts: AccountService) -> None:
    accounts.fail_next(2, 429, method="POST", prefix="/users", headers={"Retry-After": "7"})
    status, headers, _ = ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})
    assert (status, headers["Retry-After"]) == (429, "7")
    assert ask(accounts.url, "GET", "/users/ada@example.com")[0] == 404
    assert ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})[0] == 429
    assert ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})[0] == 201
    assert accounts.created == {"ada@example.com": 1}


def test_dropped_after_the_account_was_made(accounts: AccountService) -> None:
    accounts.drop_after_commit(method="POST")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})
    assert ask(accounts.url, "GET", "/users/Ada@Example.com")[0] == 200
    assert ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})[0] == 409
    assert accounts.created["ada@example.com"] == 1


def test_dropped_before_anything_happened(accounts: AccountService) -> None:
    accounts.drop(method="POST")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})
    assert not accounts.people


def test_a_held_request_is_answered_when_released(accounts: AccountService) -> None:
    release = accounts.hang(method="POST")
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(ask(accounts.url, "POST", "/users", {"email": "ada@example.com"})[0])
    )
    thread.start()
    eventually(lambda: accounts.calls("POST"))
    assert not accounts.people
    release.set()
    thread.join(PATIENCE)
    assert answers == [201]


def test_closing_releases_held_requests() -> None:
    service = Service()
    service.hang()
    failures: list[type[BaseException]] = []

    def call() -> None:
        with pytest.raises((http.client.HTTPException, OSError)) as caught:
            ask(service.url, "GET", "/")
        failures.append(caught.type)

    thread = threading.Thread(target=call)
    thread.start()
    eventually(lambda: service.requests)
    service.close()
    thread.join(PATIENCE)
    assert failures
    assert failures != [TimeoutError]
    with pytest.raises(ConnectionRefusedError):
        ask(service.url, "GET", "/")


def test_a_drip_outlasts_the_reader(service: Service) -> None:
    service.drip(0.01)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.read(3) == b"..."
    answer.close()
    connection.close()


def test_a_flood_can_be_left(service: Service) -> None:
    service.flood(1 << 30)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.headers["Content-Length"] == str(1 << 30)
    assert len(answer.read(1 << 20)) == 1 << 20
    answer.close()
    connection.close()


def test_a_redirect(service: Service) -> None:
    service.redirect("https://elsewhere.example/", status=307)
    status, headers, _ = ask(service.url, "GET", "/")
    assert (status, headers["Location"]) == (307, "https://elsewhere.example/")


def test_the_paged_listing_ends(accounts: AccountService) -> None:
    accounts.add(*(f"p{n}@example.com" for n in range(7)))
    seen: list[str] = []
    path: str | None = "/users?limit=3"
    while path:
        page = json.loads(ask(accounts.url, "GET", path)[2])
        seen += [person["email"] for person in page["users"]]
        path = page["next_page"] and page["next_page"]["uri"].removeprefix(accounts.url)
    assert seen == [f"p{n}@example.com" for n in range(7)]
    assert len(accounts.requests) == 3


def test_teams_and_removal(accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    assert ask(accounts.url, "POST", "/teams/12/members", {"email": "Ada@example.com"})[0] == 200
    assert accounts.teams == {"12": ["ada@example.com"]}
    assert json.loads(ask(accounts.url, "GET", "/teams")[2])["data"] == [{"id": "12", "name": "Team 12"}]
    assert [ask(accounts.url, "DELETE", "/users/ada@example.com")[0] for _ in range(2)] == [204, 404]


def test_a_token_is_asked_for() -> None:
    with AccountService(token="s3cret-token") as accounts:
        assert ask(accounts.url, "GET", "/users")[0] == 401
        assert ask(accounts.url, "GET", "/users", None, {"Authorization": "Bearer s3cret-token"})[0] == 200


def test_a_broken_handler_fails_the_test() -> None:
    service = Service()
    service.route("GET", "/", lambda _received: 1 / 0)
    assert ask(service.url, "GET", "/")[0] == 500
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        service.close()


def test_server_counts_concurrent_requests(service: Service) -> None:
    release = service.hang(times=4)
    threads = [threading.Thread(target=ask, args=(service.url, "GET", "/")) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(service.requests) == 4)
    release.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert service.busiest == 4


def test_a_request_that_its_client_gave_up_is_not_counted() -> None:
    crowd = Crowd()
    with Service(crowds=[crowd]) as service, Service(crowds=[crowd]) as other:
        for each in (service, other):
            each.hang(times=None)
        for number in range(3):
            with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as line:
                line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                eventually(lambda: len(service.requests) == number + 1)  # noqa: B023
        assert (service.busiest, crowd.most) == (1, 1)
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as one,
            socket.create_connection(("127.0.0.1", other.port), timeout=PATIENCE) as two,
        ):
            for line in (one, two):
                line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            eventually(lambda: other.requests and len(service.requests) == 4)
        assert (service.busiest, other.busiest, crowd.most) == (1, 1, 2)
