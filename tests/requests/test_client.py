from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import ssl
import struct
import zlib
from collections import Counter
from datetime import UTC, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from reconciler.engine.context import SystemClock
from reconciler.model.errors import HostNotAllowed, TransportError, UsageError
from reconciler.model.secret import Redactor
from reconciler.model.settings import Limits
from reconciler.requests.client import Client, Sending
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.throttle import Throttle
from reconciler.transports.http.transport import _tls
from reconciler.transports.messages import LIMIT, Pritunl, RenderedRequest
from tests.certificates import self_signed
from tests.requests.conftest import FakeClock, Loopback, Raw, reply

pytestmark = pytest.mark.anyio


def get(url: str, **more) -> RenderedRequest:
    return RenderedRequest("GET", url, url, **more)


def post(url: str, **more) -> RenderedRequest:
    return RenderedRequest("POST", url, url, **more)


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb/%7e?x=%20&y=a+b&filter[email]=it's",
        "/a/../b/./c",
        "/?",
        "/a;b=c,d:e@f!$&'()*+",
        "/%2e%2e/x",
        "//double//slash/",
    ],
)
async def test_the_target_reaches_the_server_as_it_was_rendered(loopback, connect, target):
    await connect("127.0.0.1").send(get(loopback.url + target))
    assert loopback.requests[0].target == target


@pytest.mark.parametrize(("suffix", "target"), [("", "/"), ("?a=b", "/?a=b"), ("/x#part", "/x"), ("#part", "/")])
async def test_the_target_is_path_and_query(loopback, connect, suffix, target):
    await connect("127.0.0.1").send(get(loopback.url + suffix))
    assert loopback.requests[0].target == target


async def test_headers_and_body_reach_the_server_byte_by_byte(loopback, connect):
    wire = post(loopback.url, headers=(("X-Name", "Zoë"), ("User-Agent", "mine")), content=b'{"a": 1}')
    await connect("127.0.0.1").send(wire)
    raw = loopback.requests[0]
    assert (raw.line, raw.body) == ("POST / HTTP/1.1", b'{"a": 1}')
    assert raw.fields == {
        "host": loopback.host.encode(),
        "accept": b"*/*",
        "accept-encoding": b"gzip",
        "x-name": "Zoë".encode(),
        "user-agent": b"mine",
        "content-length": b"8",
    }


async def test_each_request_over_a_connection_has_its_own_headers(loopback, connect):
    client = connect("127.0.0.1")
    tokens = ["one", "one", "two"]
    for number, token in enumerate(tokens):
        await client.send(post(loopback.url, headers=(("Authorization", token),), content=b"x" * number))
    sent = [(raw.fields["authorization"].decode(), len(raw.body)) for raw in loopback.requests]
    assert sent == [("one", 0), ("one", 1), ("two", 2)]


@pytest.mark.parametrize(("method", "length"), [("POST", b"0"), ("GET", None)])
async def test_no_data_is_no_body(loopback, connect, method, length):
    await connect("127.0.0.1").send(RenderedRequest(method, loopback.url, ""))
    assert loopback.requests[0].fields.get("content-length") == length


async def test_an_answer_has_status_headers_and_content(loopback, connect):
    loopback.replies = [reply(201, b'{"id": "7"}', X_Next="2")]
    answer = await connect("127.0.0.1").send(get(loopback.url))
    assert (answer.status, answer.headers["x-next"], answer.json()) == (201, "2", {"id": "7"})
    assert "7" not in repr(answer)


async def test_headers_that_come_twice_or_not_in_ascii(loopback, connect):
    lines = "Link: <a>\r\nlink: <b>\r\nX-Utf: \u00e9\r\n".encode() + b"X-Latin: \xe9\r\n"
    loopback.replies = [b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n" + lines + b"\r\n"]
    answer = await connect("127.0.0.1").send(get(loopback.url))
    wanted = {"content-length": "0", "link": "<a>, <b>", "x-utf": "\u00e9", "x-latin": "\u00e9"}
    assert answer.headers == wanted


async def test_cookies_are_not_carried_from_one_request_to_the_next(loopback, connect):
    loopback.replies = [reply(Set_Cookie="session=1; Path=/")]
    client = connect("127.0.0.1")
    await client.send(get(loopback.url))
    await client.send(get(loopback.url))
    assert "cookie" not in loopback.requests[1].fields


async def test_a_host_that_is_not_allowed_is_not_connected_to(loopback, connect):
    with pytest.raises(HostNotAllowed, match=r"the manifests of acme: host 127.0.0.1:\d+ is not allowed"):
        await connect("example.com").send(get(loopback.url))
    assert loopback.connections == 0


async def test_while_idle_connections_are_closed_others_may_take_them(loopback, connect, monkeypatch):
    """The answer is there: that a connection was idle for too long must not lose it."""
    client = connect("127.0.0.1")
    await asyncio.gather(*(client.send(get(f"{loopback.url}/{number}")) for number in range(20)))
    monkeypatch.setattr("reconciler.transports.transport.KEPT_OPEN_SECONDS", -1)  # every idle one is too old
    for _ in range(5):
        answers = await asyncio.gather(*(client.send(get(f"{loopback.url}/x")) for _ in range(30)))
        assert {answer.status for answer in answers} == {200}


async def test_urls_are_not_logged(loopback, connect, caplog):
    caplog.set_level(logging.DEBUG)
    await connect("127.0.0.1").send(get(f"{loopback.url}/secret-path", headers=(("Authorization", "Bearer abcdefg"),)))
    assert "secret-path" not in caplog.text
    assert "abcdefg" not in caplog.text


async def test_loopback_goes_past_the_environments_proxy(loopback, connect, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    await connect("127.0.0.1").send(get(loopback.url))
    assert len(loopback.requests) == 1


async def test_other_hosts_are_reached_through_the_environments_proxy(loopback, connect, monkeypatch):
    """In a tunnel, and not those that NO_PROXY names."""
    loopback.replies = [reply(403)]
    monkeypatch.setenv("HTTPS_PROXY", loopback.host)
    monkeypatch.setenv("NO_PROXY", "also.invalid")
    failed = await fail(connect("tool.invalid"), post("https://tool.invalid/x?token=hidden"))
    assert not failed.left
    assert [request.line for request in loopback.requests] == ["CONNECT tool.invalid:443 HTTP/1.1"]
    await fail(connect("also.invalid"), post("https://also.invalid/"))
    assert len(loopback.requests) == 1


async def test_two_hosts_of_a_service_keep_their_connections(loopback, connect):
    client = connect("127.0.0.1", "localhost")
    for _ in range(3):
        await client.send(get(loopback.url))
        await client.send(get(f"http://localhost:{loopback.port}/"))
    assert loopback.connections == 2


async def test_a_proxy_that_cannot_be_used_is_named_without_its_password(connect, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://user:pa55word@127.0.0.1:9")
    with pytest.raises(UsageError, match="HTTPS_PROXY") as raised:
        connect("127.0.0.1")
    assert "pa55word" not in str(raised.value)


async def test_pritunl_requests_are_signed_anew_at_each_sending(loopback, connect, clock):
    loopback.replies = [reply(429, Retry_After="5"), reply()]
    wire = get(f"{loopback.url}/user/1?page=2", signer=Pritunl("token-1", "secret-1"))
    await connect("127.0.0.1").send(wire)
    first, second = (raw.fields for raw in loopback.requests)
    assert first["auth-token"] == b"token-1"
    assert int(second["auth-timestamp"]) - int(first["auth-timestamp"]) == 5
    assert first["auth-nonce"] != second["auth-nonce"]
    assert first["auth-signature"] != second["auth-signature"]


# What left, and what did not


async def fail(client, wire: RenderedRequest, **more) -> TransportError:
    with pytest.raises(TransportError) as raised:
        await client.send(wire, **more)
    return raised.value


async def test_a_refused_connection_has_not_left(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        failed = await fail(connect("127.0.0.1"), post(url))
    assert not failed.left
    assert "no connection" in str(failed)


async def test_a_tls_handshake_that_fails_has_not_left(connect):
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 This is no TLS\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    failed = await fail(connect("127.0.0.1"), post(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"))
    server.close()
    assert not failed.left
    assert "SSL" in str(failed)


async def test_a_name_that_does_not_resolve_has_not_left(connect):
    failed = await fail(connect("nowhere.invalid"), post("https://nowhere.invalid/x"))
    assert not failed.left


async def test_a_handshake_that_hangs_ends_and_has_not_left(connect):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    failed = await fail(connect("127.0.0.1", timeout=0.5), post(f"https://127.0.0.1:{port}/x"))
    server.close()
    assert not failed.left
    assert str(failed) == f"POST 127.0.0.1:{port}: no connection in time"


def an_hour_passes() -> None:
    """For the loop and whatever waits in it."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + 3600  # type: ignore[method-assign]


async def hang(raw: Raw, writer: asyncio.StreamWriter) -> None:
    an_hour_passes()
    await asyncio.Event().wait()


async def hang_up(raw: Raw, writer: asyncio.StreamWriter) -> None:
    return None


async def break_off(raw: Raw, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


async def babble(raw: Raw, writer: asyncio.StreamWriter) -> None:
    writer.write(b"secret nonsense\r\n\r\n")


async def drip(raw: Raw, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    an_hour_passes()
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (hang, "no whole answer within"),
        (drip, "no whole answer within"),
        (hang_up, "the connection broke"),
        (break_off, "the connection broke"),
        (babble, "the answer is headed by a status line that is none"),
    ],
)
async def test_later_failure_counts_as_sent(loopback, connect, script, says):
    loopback.script = script
    failed = await fail(connect("127.0.0.1"), post(f"{loopback.url}/x?token=hidden"))
    assert failed.left
    assert says in str(failed)
    assert "hidden" not in str(failed)
    assert "nonsense" not in str(failed)


async def test_invalid_host_name_is_not_connected(connect):
    failed = await fail(connect("1.2.3.999"), post("https://1.2.3.999/x"))
    assert not failed.left
    assert str(failed).startswith("POST 1.2.3.999: no connection: ")


async def test_leaving_is_awaited_once_a_sending_and_before_it(loopback, connect):
    loopback.replies = [reply(503, Retry_After="1"), reply()]
    seen: list[int] = []

    async def leaving() -> None:
        seen.append(len(loopback.requests))

    await connect("127.0.0.1").send(post(loopback.url), leaving=leaving)
    assert seen == [0, 1]


async def test_error_of_the_sending_hook_stops_the_request(loopback, connect):
    async def leaving() -> None:
        raise OSError("disk full")

    client = connect("127.0.0.1", concurrency=1, per_host=1)
    with pytest.raises(OSError, match="disk full"):
        await client.send(post(loopback.url), leaving=leaving)
    assert loopback.requests == []
    await client.send(post(loopback.url))


# Long and packed answers


async def endless(raw: Raw, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(100):
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_an_answer_is_cut_off_at_a_mebibyte(loopback, connect):
    loopback.script = endless
    answer = await connect("127.0.0.1").send(get(loopback.url))
    assert (len(answer.content), answer.truncated) == (LIMIT, True)


async def test_an_answer_of_just_a_mebibyte_is_whole(loopback, connect):
    loopback.replies = [reply(body=b"x" * LIMIT)]
    answer = await connect("127.0.0.1").send(get(loopback.url))
    assert (len(answer.content), answer.truncated) == (LIMIT, False)


async def test_a_change_that_is_answered_with_too_much_may_have_taken_effect(loopback, connect):
    loopback.script = endless
    failed = await fail(connect("127.0.0.1"), post(loopback.url))
    assert failed.left
    assert "answered 200 with more than 1 MiB" in str(failed)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def in_two_members(data: bytes) -> bytes:
    return gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(2)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip", in_two_members),
    ],
)
async def test_packed_answers_are_unpacked(loopback, connect, encoding, pack):
    loopback.replies = [reply(body=pack(b'{"a": "' + b"b" * 1000 + b'"}'), Content_Encoding=encoding)]
    answer = await connect("127.0.0.1").send(get(loopback.url))
    assert answer.json() == {"a": "b" * 1000}


async def test_a_small_answer_cannot_unpack_to_a_huge_one(loopback, connect):
    bomb = gzip.compress(b"\0" * (64 << 20))
    loopback.replies = [reply(body=bomb, Content_Encoding="gzip")]
    answer = await connect("127.0.0.1").send(get(loopback.url))
    assert (len(answer.content), answer.truncated) == (LIMIT, True)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("br", b"x"),
        ("gzip", b"not gzip at all"),
        ("gzip", gzip.compress(b"x" * 99, mtime=0)[:-9]),
        ("gzip", gzip.compress(b"x" * 99, mtime=0)[:10]),
        ("gzip", gzip.compress(b"x", mtime=0) + gzip.compress(b"x" * 99, mtime=0)[:-9]),
        ("gzip, gzip", b"x"),
    ],
)
async def test_an_answer_that_cannot_be_unpacked_fails(loopback, connect, encoding, content):
    loopback.replies = [reply(body=content, Content_Encoding=encoding)]
    failed = await fail(connect("127.0.0.1"), post(loopback.url))
    assert failed.left
    assert "the answer is packed" in str(failed)


async def test_an_empty_answer_may_say_that_it_is_packed(loopback, connect):
    loopback.replies = [reply(204, b"", Content_Encoding="gzip")]
    assert (await connect("127.0.0.1").send(get(loopback.url))).content == b""


# Redirects


async def test_a_redirect_within_the_same_origin_is_followed(loopback, connect):
    loopback.replies = [reply(301, Location="/b?x=%20"), reply(308, Location=f"{loopback.url}/c"), reply(body=b"there")]
    wire = get(f"{loopback.url}/a", headers=(("X-Api-Key", "k"),))
    answer = await connect("127.0.0.1").send(wire, follow=True)
    assert answer.text == "there"
    assert [raw.target for raw in loopback.requests] == ["/a", "/b?x=%20", "/c"]
    assert loopback.requests[2].fields["x-api-key"] == b"k"


@pytest.mark.parametrize(
    ("status", "line", "body"),
    [(302, "GET /b HTTP/1.1", b""), (303, "GET /b HTTP/1.1", b""), (307, "POST /b HTTP/1.1", b"data")],
)
async def test_a_redirected_check_keeps_to_http(loopback, connect, status, line, body):
    loopback.replies = [reply(status, Location="/b"), reply()]
    wire = post(f"{loopback.url}/a", headers=(("Content-Type", "text/plain"),), content=b"data")
    await connect("127.0.0.1").send(wire, follow=True)
    raw = loopback.requests[1]
    assert (raw.line, raw.body) == (line, body)
    assert ("content-type" in raw.fields) == bool(body)


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://127.0.0.1:{port}/b?token=x", "127.0.0.1:{port}"),
        ("http://localhost:{port}/b", "localhost:{port}"),
        ("http://127.0.0.1:1/b", "127.0.0.1:1"),
        ("//evil.example/b?token=x", "evil.example"),
        ("https://somebody:s3cret@evil.example/b", "evil.example"),
        ("ftp://evil.example/b?token=x", "evil.example"),
        ("https://e\u202evil.example%0a/b?token=x", "e%E2%80%AEvil.example%250a"),
    ],
)
async def test_a_redirect_elsewhere_is_not_followed(loopback, connect, location, where):
    loopback.replies = [reply(302, Location=location.format(port=loopback.port))]
    failed = await fail(connect("127.0.0.1", "localhost"), get(f"{loopback.url}/a"), follow=True)
    assert failed.left
    where = where.format(port=loopback.port)
    assert str(failed) == f"GET {loopback.host}: answered 302, a redirect to {where} that is not followed: {{}}"
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("headers", [{}, {"Location": ""}, {"Location": "http://[bad/"}, {"Location": "mailto:x@y"}])
async def test_a_redirect_to_nowhere_fails(loopback, connect, headers):
    loopback.replies = [reply(302, **headers)]
    failed = await fail(connect("127.0.0.1"), get(loopback.url), follow=True)
    assert str(failed) == f"GET {loopback.host}: answered 302: {{}}"


async def test_an_attempts_redirect_is_not_followed(loopback, connect):
    loopback.replies = [reply(302, Location="/b")]
    failed = await fail(connect("127.0.0.1"), post(f"{loopback.url}/a"))
    assert failed.left
    assert len(loopback.requests) == 1


async def test_a_redirect_that_the_manifest_lists_is_an_answer(loopback, connect):
    loopback.replies = [reply(302, Location="https://evil.example/")]
    answer = await connect("127.0.0.1").send(post(loopback.url, statuses=frozenset({302})), follow=True)
    assert answer.status == 302


async def test_redirects_come_to_an_end(loopback, connect):
    loopback.replies = [reply(302, Location="/again")]
    await fail(connect("127.0.0.1"), get(loopback.url), follow=True)
    assert len(loopback.requests) == 6


# Retry-After


@pytest.mark.parametrize("spelling", ["X-RateLimit-{}", "RateLimit-{}", "X-Rate-Limit-{}"])
@pytest.mark.parametrize("since_1970", [False, True])
async def test_service_that_tells_its_limit_never_has_to_refuse(loopback, connect, clock, spelling, since_1970):
    """It takes thirty requests in half a minute, and says in each answer how many are left of them, and until when."""
    window, limit = timedelta(seconds=30), 30
    began, refused, taken = clock.now(), list[Raw](), Counter[int]()

    async def script(raw, writer):
        place = (raw.at - began) // window
        taken[place] += 1
        end = began + (place + 1) * window
        until = int(end.timestamp()) if since_1970 else int((end - raw.at).total_seconds())
        left = limit - taken[place]
        said = {"Remaining": str(max(left, 0)), "Reset": str(until)}
        if left < 0:
            refused.append(raw)
        return reply(429 if left < 0 else 200, b"{}", **{spelling.format(name): text for name, text in said.items()})

    loopback.script = script
    client = connect("127.0.0.1", per_host=7)
    answers = await asyncio.gather(*(client.send(post(loopback.url)) for _ in range(100)))
    assert (len(answers), refused) == (100, [])
    assert clock.now() - began < 5 * window


@pytest.mark.parametrize(
    "headers",
    [
        {"X_RateLimit_Remaining": "0"},
        {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "0"},
        {"X_RateLimit_Remaining": "none", "X_RateLimit_Reset": "10"},
        {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "3600"},
        {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "99999999999999"},
        {"X_RateLimit_Remaining": "2", "X_RateLimit_Reset": "10"},
    ],
)
async def test_limit_without_a_near_end_holds_nothing_back(loopback, connect, clock, headers):
    loopback.replies = [reply(**headers)]
    for _ in range(2):
        await connect("127.0.0.1").send(post(loopback.url))
    assert clock.slept == []


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_a_pause_is_waited_out(loopback, connect, clock, status):
    loopback.replies = [reply(status, Retry_After="7"), reply(body=b"ok")]
    answer = await connect("127.0.0.1").send(post(loopback.url))
    first, second = loopback.requests
    assert answer.text == "ok"
    assert second.at - first.at == timedelta(seconds=7)


async def test_a_pause_is_waited_out_three_times(loopback, connect):
    loopback.replies = [reply(429, Retry_After="1")]
    assert (await connect("127.0.0.1").send(post(loopback.url))).status == 429
    assert len(loopback.requests) == 4


async def test_a_pause_may_be_a_date(loopback, connect, clock):
    when = clock.now() + timedelta(seconds=30)
    loopback.replies = [reply(429, Retry_After=format_datetime(when.astimezone(UTC), usegmt=True)), reply()]
    await connect("127.0.0.1").send(get(loopback.url))
    assert loopback.requests[1].at == when


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry_After": "61"}),
        (429, {"Retry_After": "99999999999999999999"}),
        (429, {"Retry_After": "soon"}),
        (429, {"Retry_After": "Tue, 01 Dec 2026 09:02:00 GMT"}),
        (429, {"Retry_After": "Tue, 99 Dec 2026 09:02:00 GMT"}),
        (429, {"Retry_After": "Tue, 01 Dec 99999999999999999999 09:02:00 GMT"}),
        (429, {"Retry_After": "Tue, 01 Dec 2026 09:02:00 +99999999999999999999"}),
        (429, {}),
        (403, {}),
        (500, {"Retry_After": "1"}),
        (200, {"Retry_After": "1"}),
    ],
)
async def test_other_pauses_are_not_waited_out(loopback, connect, clock, status, headers):
    loopback.replies = [reply(status, **headers)]
    assert (await connect("127.0.0.1").send(get(loopback.url))).status == status
    assert clock.slept == []


async def test_a_pause_holds_every_request_to_that_host(loopback, connect, clock):
    began = clock.now()
    loopback.replies = [reply(429, Retry_After="20"), reply()]
    refused = asyncio.create_task(connect("127.0.0.1").send(get(loopback.url)))
    await clock.sleeping.wait()
    others = [connect("127.0.0.1").send(get(f"{loopback.url}/{name}")) for name in "ab"]
    await asyncio.gather(refused, *others)
    assert [raw.at - began for raw in loopback.requests] == [timedelta(0), *[timedelta(seconds=20)] * 3]


async def test_a_pause_holds_those_who_wait_for_the_place_of_the_one_that_was_refused(loopback, connect, clock):
    began = clock.now()
    loopback.replies = [reply(429, Retry_After="20"), reply()]
    client = connect("127.0.0.1", throttle=Throttle(Limits(per_host=1), clock))
    await asyncio.gather(*(client.send(get(f"{loopback.url}/{name}")) for name in "abc"))
    assert [raw.at - began for raw in loopback.requests] == [timedelta(0), *[timedelta(seconds=20)] * 3]


async def test_a_pause_holds_no_other_host(loopback, connect, clock):
    throttle = Throttle(Limits(), clock)
    throttle.hold(loopback.host, timedelta(seconds=20))
    await connect("localhost", throttle=throttle).send(get(f"http://localhost:{loopback.port}/"))
    assert clock.slept == []


async def test_stopping_ends_a_pause(loopback, connect, clock):
    loopback.replies = [reply(429, Retry_After="7")]
    clock.stopped = True
    failed = await fail(connect("127.0.0.1"), post(loopback.url))
    assert not failed.left
    assert "stopped while waiting" in str(failed)


# Limits, as the server sees them


async def test_a_rate_is_kept_at_the_server(loopback, connect, clock):
    client = connect("127.0.0.1", rate=10, per_host=50)
    await asyncio.gather(*(client.send(get(f"{loopback.url}/{n}")) for n in range(40)))
    at = sorted(raw.at for raw in loopback.requests)
    assert all(later - earlier > timedelta(seconds=1) for earlier, later in zip(at, at[10:], strict=False))
    assert at[-1] - at[0] < timedelta(seconds=4.5)


async def test_a_rate_is_not_slowed_by_answers_that_take_their_time(loopback, connect, clock):
    async def slow(raw: Raw, writer: asyncio.StreamWriter) -> bytes:
        await asyncio.sleep(0.05)
        return reply()

    loopback.script = slow
    client = connect("127.0.0.1", rate=10)
    await asyncio.gather(*(client.send(get(loopback.url)) for _ in range(20)))
    assert loopback.requests[-1].at - loopback.requests[0].at <= timedelta(seconds=19 * 0.106)


async def test_a_rate_counts_from_when_a_request_has_left_whole() -> None:
    """The first goes to a server that does not read on for a while: the second waits for it."""
    begun = 0
    meanwhile: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun
        await reader.readuntil(b"\r\n\r\n")
        begun += 1
        if begun == 1:
            await asyncio.sleep(0.35)
            meanwhile.append(begun - 1)
        await reader.readexactly(len(body))
        writer.write(reply())
        await writer.drain()
        writer.close()

    body, rules, clock = bytes(8 << 20), Limits(rate=10), SystemClock()
    server = await asyncio.start_server(serve, "127.0.0.1")
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    hosts = AllowedHosts(frozenset({host}))
    sending = Sending(clock=clock, throttle=Throttle(rules, clock), redactor=Redactor())
    client = Client("acme", rules, hosts, sending)
    await asyncio.gather(*(client.send(post(f"http://{host}/", content=body)) for _ in range(2)))
    await client.aclose()
    server.close()
    assert (begun, meanwhile) == (2, [0])


async def busiest(loopback: Loopback, sending, at_least: int) -> int:
    """How many requests were with the server at one time at most; it answers none before so many are."""
    busy, most, enough = 0, 0, asyncio.Event()

    async def script(raw: Raw, writer: asyncio.StreamWriter) -> bytes:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        if busy == at_least:
            enough.set()
        await enough.wait()
        await asyncio.sleep(0.005)
        busy -= 1
        return reply()

    loopback.script = script
    await sending
    return most


@pytest.mark.parametrize(
    ("limits", "most"),
    [({"per_host": 3}, 3), ({"concurrency": 2}, 2), ({"per_host": 50}, 50)],
    ids=["a host", "everybody", "more than a pool's usual number"],
)
async def test_places(loopback, connect, limits, most):
    client = connect("127.0.0.1", **limits)
    sending = asyncio.gather(*(client.send(get(loopback.url)) for _ in range(60)))
    assert await busiest(loopback, sending, most) == most


async def test_a_hung_service_fills_its_own_lane_only(loopback, connect, clock):
    async def script(raw: Raw, writer: asyncio.StreamWriter) -> bytes | None:
        if raw.target == "/hang":
            await asyncio.Event().wait()
        return reply()

    loopback.script = script
    throttle = Throttle(Limits(concurrency=4, per_host=2), clock)
    hung = connect("127.0.0.1", throttle=throttle)
    waiting = [asyncio.create_task(hung.send(get(f"{loopback.url}/hang"))) for _ in range(10)]
    while len(loopback.requests) < 2:  # noqa: ASYNC110  a server tells nobody
        await asyncio.sleep(0.005)
    other = connect("localhost", throttle=throttle)
    for _ in range(5):
        await other.send(get(f"http://localhost:{loopback.port}/"))
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    # The cancelled ones have given their places back.
    await asyncio.gather(*(connect("127.0.0.1", throttle=throttle).send(get(loopback.url)) for _ in range(5)))


async def test_a_pause_that_comes_while_a_place_is_awaited_is_kept(clock: FakeClock):
    throttle = Throttle(Limits(concurrency=1), clock)
    async with throttle.turn("a.example"):
        second = asyncio.create_task(anext(aiter_turn(throttle, "b.example")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        throttle.hold("b.example", timedelta(seconds=9))
    await second
    assert clock.slept == [9]


async def aiter_turn(throttle: Throttle, host: str):
    async with throttle.turn(host):
        pass
    yield None


async def test_clock_set_back_delays_no_request_for_long(clock: FakeClock):
    throttle = Throttle(Limits(rate=1), clock)
    async with throttle.turn("a.example"):
        pass
    throttle.hold("a.example", timedelta(seconds=5))
    clock.moment -= timedelta(hours=3)
    async with throttle.turn("a.example"):
        pass
    assert sum(clock.slept) <= 61


async def test_request_that_leaves_late_is_followed_sooner(clock: FakeClock):
    """It takes the rate's margin back, and no more: by 0.05 of 1.05 seconds."""
    throttle, left = Throttle(Limits(rate=1), clock), []
    for late in (0.0, 0.03, 0.0, 0.5, 0.0):
        async with throttle.turn("a.example") as departed:
            clock.moment += timedelta(seconds=late)
            departed()
            left.append(clock.moment)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(left)]
    assert gaps == pytest.approx([1.03, 1.02, 1.55, 1.0], abs=1e-3)


async def test_through_the_proxys_tunnel_the_request_arrives_as_it_was_rendered(
    loopback, connect, monkeypatch, tmp_path
):
    """And the proxy learns the host, and neither the path nor a header."""
    file = self_signed(tmp_path, "tool.invalid")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    behind = await asyncio.start_server(loopback.serve, "127.0.0.1", 0, ssl=context)
    seen: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there = await asyncio.open_connection("127.0.0.1", behind.sockets[0].getsockname()[1])
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    _tls.cache_clear()
    try:
        client = connect("tool.invalid")
        for _ in range(2):
            wire = post("https://tool.invalid/x/../a%2Fb?token=hidden", headers=(("Authorization", "Bearer hidden"),))
            assert (await client.send(wire)).status == 200
        await client.aclose()
    finally:
        _tls.cache_clear()
        behind.close()
        proxy.close()
    assert [request.target for request in loopback.requests] == ["/x/../a%2Fb?token=hidden"] * 2
    assert loopback.requests[0].fields["authorization"] == b"Bearer hidden"
    assert len(seen) == 1
    assert seen[0].startswith(b"CONNECT tool.invalid:443 HTTP/1.1\r\n")
    assert b"hidden" not in seen[0]


async def test_reset_connection_reports_the_system_message(loopback, connect):
    async def script(_raw, writer):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    loopback.script = script
    failed = await fail(connect("127.0.0.1"), get(loopback.url))
    assert str(failed).startswith(f"GET {loopback.host}: the connection broke before a whole answer came: ")
    assert "reset" in str(failed)
    assert failed.left
