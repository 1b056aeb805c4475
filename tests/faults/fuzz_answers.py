"""Targets for `tests.faults.fuzz`: what services answer, and what is put together from values."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from reconciler.model.errors import Blocked, TransportError
from reconciler.model.form import FormField
from reconciler.model.manifest import Manifest
from reconciler.model.request import Condition, Exists, Listing, Request
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.secret import Redactor, Secret
from reconciler.model.settings import Limits
from reconciler.model.template import misuse, names
from reconciler.oauth.connection import OAuthConnection, TokenChange, Turn, stored_record, token_layer
from reconciler.oauth.token_request import TokenClient
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import read
from reconciler.requests.client import Client, Sending
from reconciler.requests.encode import FORM, JSON, MULTIPART, body
from reconciler.requests.excerpt import secrets_of
from reconciler.requests.hosts import AllowedHosts, written_hosts
from reconciler.requests.match import condition_holds, failure, verdict
from reconciler.requests.pages import items, options
from reconciler.requests.render import canonical, expected, outline, render
from reconciler.requests.template import render_data, render_text, render_url, written
from reconciler.requests.throttle import Throttle
from reconciler.transports.address import parse
from reconciler.transports.messages import Response
from tests.faults.fuzz_target import Target, can_be_written
from tests.faults.hostile import ODD, altered, bombs, odd, repeated, spelled, spoiled, structures
from tests.faults.hostile import written as as_file
from tests.requests.conftest import FakeClock, Loopback, Raw

EMAIL = "ada@example.com"
USERS = {"data": [{"id": 1, "email": EMAIL, "name": "Ada"}, {"id": "2", "email": "BOB@example.com"}], "next": "/p2"}
TOKEN = {"access_token": "t0ken-" + "x" * 40, "refresh_token": "r3fresh", "expires_in": 3600, "token_type": "Bearer"}
WORDS = ["data", "id", "email", "next", "error", "access_token", "expires_in", "refresh_token", "0", ""]

VALUES = {
    "email": EMAIL, "first_name": "Zoë", "start": "2026-12-01", "TEAM": ["1", "2"], "extra": {"X": "y"},
    "HOST": "127.0.0.1:9", "responses": {"0": USERS},
}  # fmt: skip
TEMPLATES = [
    {
        "service": "acme",
        "exists": {"url": "http://127.0.0.1:9/u/{{email}}?x={{TEAM}}#a", "expected": "{{email}}",
            "headers": {"A": "{{A}}"}},
        "execute": [
            {"url": "http://{{HOST}}/{{first_name}}/{{TEAM}}", "data": {"{{email}}": ["{{TEAM}}", "a{{start}}b"]}},
            {"url": "{{HOST}}/x", "data": "a={{first_name}}&b={{TEAM}}", "headers": {
                "Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic {{email}}:{{PW}}"}},
            {"url": "https://a.example.com/é ü/{{responses.0.data.1.id}}",
                "data": '{"n": {{first_name}}, "t": "{{TEAM}}"}'},
            {"url": "https://b.example.com", "data": {"a": "{{extra.X}}", "f": None},
                "headers": {"Content-Type": "multipart/form-data"}},
        ],
    },
]  # fmt: skip


def _body(text: str, scope: Scope) -> None:
    for kind in (JSON, FORM, MULTIPART, "text/plain"):
        body(text, kind, scope, {})


def told(error: Exception) -> None:
    """An error on purpose, in words."""
    can_be_written(str(error))


class Templates(Target):
    """Whatever a manifest's texts and a hire's values come to."""

    name = "templates"
    what = "manifests' texts, URLs and data with odd values put in"
    examples = st.tuples(
        altered(TEMPLATES).map(lambda data: as_file(data, as_json=True)),
        st.dictionaries(st.sampled_from([*VALUES, "A", "PW"]), odd() | structures(), max_size=5),
        st.lists(
            st.sampled_from([odd for odd in ODD if isinstance(odd, str)])
            | repeated()
            | st.text("{} ab.|%\0é", max_size=30),
            max_size=3,
        ),
    )

    def play(self, example: tuple[bytes, dict[str, Any], list[str]]) -> None:
        raw, given, texts = example
        scope = Scope(
            (
                Layer("given", given, frozenset({"PW"})),
                Layer("values", {**VALUES, "PW": Secret("hush-hush")}, frozenset({"PW"})),
            ),
            frozenset({"oauth"}),
        )
        for text in [*texts, *(value for value in given.values() if isinstance(value, str))]:
            misuse(text)
            names(text)
            Redactor(["s3cr3t!"]).redact(text[:2000])
            for put in (render_text, render_url, render_data, _body):
                try:
                    put(text, scope)
                except Blocked as error:
                    told(error)
        try:
            manifest = Manifest.model_validate(read(raw, "manifests/acme.json").data)
        except (BrokenFile, ValueError):
            return
        written_hosts(manifest)
        for _, call in manifest.calls():
            for make in (render, canonical):
                try:
                    made = make(call, scope, manifest)
                    if make is canonical:
                        json.dumps(made)
                except Blocked as error:
                    told(error)
            try:
                outline(call, scope)["url"].encode()
                wire = render(call, scope, manifest)
                parse(wire.url)
                AllowedHosts(frozenset({"127.0.0.1"})).check(wire.url, "manifests/acme.yaml")
            except Blocked as error:
                told(error)
        if manifest.exists is not None and manifest.exists.expected is not None:
            try:
                expected(manifest.exists.expected, scope)
            except Blocked as error:
                told(error)


PATHS = st.one_of(
    st.sampled_from(["data.0.id", "data.1.email", "", ".", "..", "data.-1", "data.999999", "data.9999999999", "0.0.0"]),
    st.sampled_from(["a." * 5000, "." * 5000, "data.٣.id", "data.0x1", "data.0 .id", "\ud800", "data.0.email.0"]),
    st.lists(st.sampled_from(WORDS), max_size=5).map(".".join),
    st.text(max_size=10),
)


class Paths(Target):
    """Dotted paths and conditions, applied to JSON."""

    name = "paths"
    what = "dotted paths, conditions and checks applied to odd answers"
    examples = st.tuples(
        spelled(altered([USERS, TOKEN, [USERS]], WORDS) | structures(WORDS), as_json=True)
        | bombs()
        | st.binary(max_size=80),
        PATHS,
        (odd() | PATHS | st.just(EMAIL))
        .filter(lambda value: not isinstance(value, list | dict | type(None)))
        .map(written),
        st.sampled_from([200, 204, 302, 401, 404, 429, 500, 599]),
        st.sampled_from(["", "text/plain; charset="]),
        st.sampled_from(["utf-16", "utf-7", "idna", "punycode", "hz", "iso2022_jp", "zlib", "latin-1", "cp037"]),
    )

    def play(self, example: tuple[bytes, str, str, int, str, str]) -> None:
        content, path, text, status, kind, charset = example
        answer = Response(status, {"content-type": kind and kind + charset}, content[: 1 << 20], len(content) > 1 << 20)
        found = walk(answer.json(), path)
        written(found)
        list(secrets_of(found))
        json.dumps(found)
        scope = Scope((Layer("values", VALUES),))
        exists = Exists(url="x", expected=text or "x", store_data={"A": path or "x"}, fail_when_4xx_response_code=False)
        verdict(exists, text, answer)
        failure(Request(url="x"), answer, text)
        try:
            condition_holds(Condition(response_notation=path or "x", value=text), answer, scope)
        except Blocked as error:
            told(error)


@st.composite
def answers(draw: DrawFn) -> bytes:
    """An HTTP answer, right or nearly so."""
    body = draw(
        spelled(altered([USERS, TOKEN], WORDS), as_json=True)
        | st.binary(max_size=100)
        | bombs().map(lambda raw: raw[:70_000])
    )
    headers: list[tuple[str, str]] = []
    match draw(st.integers(0, 5)):
        case 0:
            headers.append(
                ("Content-Encoding", draw(st.sampled_from(["gzip", "deflate", "br", "x-gzip", "gzip, gzip"])))
            )
            body = gzip.compress(draw(st.sampled_from([body, b"\0" * (4 << 20)])))
            body = draw(spoiled(st.just(body))) if draw(st.booleans()) else body
        case 1:
            headers.append(("Transfer-Encoding", "chunked"))
            sizes = draw(st.sampled_from(["%x", "%X;a=b", "0%x", "-%x", "%xffffffffffff"]))
            body = (sizes % len(body)).encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"
        case _:
            length = draw(
                st.sampled_from([str(len(body)), str(len(body)), "0", "-1", "1e3", "9" * 30, "5, 5", "٣", ""])
            )
            headers.append(("Content-Length", length))
    status = draw(
        st.sampled_from([200, 200, 201, 204, 301, 302, 307, 304, 100, 101, 401, 404, 429, 429, 503, 999, 0, 99999])
    )
    given = [
        ("Location", ["/x", "//evil.example.com/", "http://[", "\t", "?" * 5000, "http://127.0.0.1:1/", "é"]),
        ("Retry-After", ["0", "59", "61", "-1", "9" * 400, "Mon, 01 Jan 99999 00:00:00 +9999999999", "²", " 3 "]),
        ("Content-Type", ["application/json", "text/plain; charset=idna", 'text/html;charset="', "charset=utf-16"]),
        ("Content-Type", ["x" * 9000]), ("Set-Cookie", ["a=b", "é=\xff"]), ("Connection", ["close", "upgrade"]),
        ("X\x7f", ["y"]), ("A" * 70_000, ["y"]),
    ]  # fmt: skip
    for name, values in draw(st.lists(st.sampled_from(given), max_size=3)):
        headers.append((name, draw(st.sampled_from(values) | st.text(max_size=9))))
    head = f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', '', 'é', 'x' * 500]))}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    raw = head.encode() + b"\r\n" + body
    return draw(spoiled(st.just(raw))) if draw(st.integers(0, 3)) == 0 else raw


class Wired(Target):
    """Targets that talk to a server of their own, which answers what the example says and hangs up."""

    @contextmanager
    def open(self) -> Iterator[None]:
        with asyncio.Runner() as runner:
            self._run = runner.run
            yield

    def played(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the loop of this target."""
        self._run(work)

    @asynccontextmanager
    async def service(self, replies: list[bytes]) -> AsyncIterator[tuple[Client, str]]:
        """A client, and the address of a server that gives these answers, one a connection."""
        left = list(replies)
        clock = FakeClock()

        async def script(_raw: Raw, writer: asyncio.StreamWriter) -> None:
            if left:
                writer.write(left.pop(0))
                await writer.drain()

        loopback = Loopback(clock, script=script)
        server = await asyncio.start_server(loopback.serve, "127.0.0.1", 0, limit=1 << 20)
        loopback.port = server.sockets[0].getsockname()[1]
        limits = Limits.model_validate({"timeout": "1s"})
        sending = Sending(clock=clock, throttle=Throttle(limits, clock), redactor=Redactor())
        client = Client("acme", limits, AllowedHosts(frozenset({loopback.host})), sending)
        try:
            yield client, loopback.url
        finally:
            await client.aclose()
            server.close()


class Responses(Wired):
    """Bytes where an HTTP answer is expected."""

    name = "responses"
    what = "HTTP answers: status lines, headers, redirects, pauses, framing, packing, bodies"
    examples = st.tuples(
        st.lists(
            answers() | spoiled(st.just(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")), min_size=1, max_size=3
        ),
        st.sampled_from(["GET", "HEAD", "POST"]),
        st.booleans(),
    )

    def play(self, example: tuple[list[bytes], str, bool]) -> None:
        self.played(self._send(*example))

    async def _send(self, replies: list[bytes], method: str, follow: bool) -> None:
        async with self.service(replies) as (client, url):
            call = Request.model_validate({"url": f"{url}/a?b=c", "method": method, "data": {"a": 1}})
            try:
                answer = await client.send(render(call, Scope(), Manifest()), follow=follow)
            except (TransportError, Blocked) as error:
                told(error)
                return
        assert len(answer.content) <= 1 << 20
        answer.text.encode(errors="replace")
        verdict(Exists(url="x", expected=EMAIL, store_data={"A": "data.0.id"}), EMAIL, answer)
        failure(call, answer)
        condition_holds(Condition(response_notation="data.0.id", value="1"), answer, Scope())


class Tokens(Wired):
    """What a token endpoint hands out."""

    name = "tokens"
    what = "replies of a token endpoint, to a first request and to refreshes"
    examples = st.tuples(
        st.lists(
            st.tuples(
                st.sampled_from([200, 200, 200, 400, 500]),
                st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", "x"]),
                spelled(altered([TOKEN, {"error": "invalid_grant"}], WORDS), as_json=True)
                | st.dictionaries(st.sampled_from(WORDS), st.text(max_size=9)).map(urlencode).map(str.encode)
                | bombs().map(lambda raw: raw[:200_000]),
            ),
            min_size=1,
            max_size=3,
        ),
        altered([TOKEN], WORDS)
        .map(lambda reply: json.loads(json.dumps(reply, default=str)))
        .filter(lambda reply: isinstance(reply, dict) and len(json.dumps(reply)) < 1 << 18),
    )

    def play(self, example: tuple[list[tuple[int, str, bytes]], dict[str, Any]]) -> None:
        self.played(self._refresh(*example))

    async def _refresh(self, given: list[tuple[int, str, bytes]], stored: dict[str, Any]) -> None:
        replies = [
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw
            for status, kind, raw in given
        ]
        async with self.service(replies) as (client, url):
            call = {"url": f"{url}/token", "data": {"grant_type": "x", "refresh_token": "{{oauth.refresh_token}}"}}
            manifest = Manifest.model_validate(
                {"oauth": {"authenticate_url": url, "access_token": {"url": f"{url}/token"}, "refresh": call}}
            )
            assert manifest.oauth is not None
            store, clock, redactor = _Store(), FakeClock(), Redactor()
            asks = TokenClient(
                service="acme", manifest=manifest, client=client, scope=Scope(), clock=clock, redactor=redactor
            )
            try:
                reply = await asks.ask(manifest.oauth.access_token, Scope())
                written(reply)
            except (TransportError, Blocked) as error:
                told(error)
                reply = stored
            await store.change(lambda _: stored_record(reply, None, clock.now()))
            connection = OAuthConnection(asks, tokens=store, store=store, stored=store.kept, turn=Turn())
            for step in (connection.fresh, connection.renewed, connection.fresh):
                try:
                    layer = await step()
                    if layer is not None:
                        render_text("{{oauth.access_token}}", Scope((layer,)))
                except (TransportError, Blocked) as error:
                    told(error)
                clock.moment += timedelta(days=1)
            token_layer("acme", store.kept["reply"])
            assert len(json.dumps(store.kept)) < 1 << 20, "a reply is kept that is no token"


class _Store:
    """Keeps a token as the state does, as JSON."""

    def __init__(self) -> None:
        self._text = "null"

    @property
    def kept(self) -> Any:
        return json.loads(self._text)

    async def load(self) -> Any:
        return self.kept

    def renewing(self) -> nullcontext[None]:
        return nullcontext()

    async def change(self, change: TokenChange) -> None:
        self._text = json.dumps(change(self.kept))


class Listings(Wired):
    """Pages of a listing and of a choice's options."""

    name = "listings"
    what = "listings and options in pages: items, next pages, tokens"
    examples = st.tuples(
        st.lists(
            spelled(
                altered([USERS, {**USERS, "next": "https://evil.example.com/"}, {**USERS, "next": 2}], WORDS),
                as_json=True,
            )
            | bombs().map(lambda raw: raw[:200_000]),
            min_size=1,
            max_size=4,
        ),
        st.sampled_from(["data", "", "data.0", "next"]),
        st.booleans(),
    )

    def play(self, example: tuple[list[bytes], str, bool]) -> None:
        self.played(self._read(*example))

    async def _read(self, pages: list[bytes], data_from: str, whole: bool) -> None:
        replies = [f"HTTP/1.1 200 X\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw for raw in pages]
        async with self.service([*replies, *replies]) as (client, url):
            paging: dict[str, Any] = {"next_page_from": "next"}
            if not whole:
                paging = {"next_page_token_from": "next", "next_page": f"{url}/u?after={{{{NEXT_PAGE_TOKEN}}}}"}
            listing = Listing.model_validate({"url": f"{url}/u", "data_from": data_from, "match": "email", **paging})
            field = FormField.model_validate(
                {"id": "T", "type": "choice", "url": f"{url}/u", "method": "GET", "data_from": data_from, **paging}
            )
            try:
                async for item in items(client, listing, Scope(), Manifest()):
                    written(walk(item, "email"))
            except (TransportError, Blocked) as error:
                told(error)
            try:
                for option in await options(client, field, Scope(), Manifest()):
                    option.name.encode()
            except (TransportError, Blocked) as error:
                told(error)


TARGETS: tuple[Target, ...] = (Templates(), Paths(), Responses(), Tokens(), Listings())
