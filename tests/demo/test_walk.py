"""The sample manifests through the program's own client, against the sample services: missing, made, present, gone."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from reconciler.demo.asana import ORGANIZATION, Asana
from reconciler.demo.phonebook import Loopback
from reconciler.demo.stage import scim
from reconciler.model.manifest import Manifest
from reconciler.model.request import Call
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Redactor
from reconciler.model.settings import Limits
from reconciler.model.verdict import Missing, Present, Verdict
from reconciler.requests.client import Client, Sending
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.match import verdict
from reconciler.requests.pages import options
from reconciler.requests.render import expected, render
from reconciler.requests.throttle import Throttle
from reconciler.transports.messages import Response

MANIFESTS = Path(__file__).parents[2] / "manifests"
HIRE = {"email": "mairead.o'dowd@example.com", "first_name": "Mairéad", "last_name": 'O"Dowd'}


class Turned:
    """A clock whose hands move when somebody waits, and only then."""

    start = datetime(2026, 12, 1, 9, tzinfo=UTC)

    def __init__(self) -> None:
        self.time = self.start

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Talk:
    """One manifest, one service and one person."""

    def __init__(self, manifest: Manifest, service: Loopback, values: dict[str, Any]) -> None:
        self.manifest = manifest
        self.scope = Scope((Layer("hire", HIRE), Layer("values", values)))
        self.clock = Turned()
        hosts = AllowedHosts(frozenset({f"127.0.0.1:{service.port}"}))
        sending = Sending(clock=self.clock, throttle=Throttle(Limits(), self.clock), redactor=Redactor())
        self.client = Client("sample", Limits(), hosts, sending)

    async def send(self, call: Call, scope: Scope | None = None) -> Response:
        return await self.client.send(render(call, scope or self.scope, self.manifest))

    async def check(self) -> Verdict:
        exists = self.manifest.exists
        assert exists is not None
        assert exists.expected is not None
        return verdict(exists, expected(exists.expected, self.scope), await self.send(exists))


def manifest(name: str, service: Loopback) -> Manifest:
    """A sample manifest with the port that the service really has."""
    text = (MANIFESTS / name).read_text()
    moved = text.replace("127.0.0.1:8901", f"127.0.0.1:{service.port}")
    return Manifest.model_validate(yaml.safe_load(moved.replace("127.0.0.1:8902", f"127.0.0.1:{service.port}")))


class Busy:
    """A service that answers so many requests with its rate limit, and then another that is whole."""

    def __init__(self, application: Any) -> None:
        self.application, self.times = application, 0

    def __call__(self, environ: Any, start: Any) -> Any:
        if not self.times:
            return self.application(environ, start)
        self.times -= 1
        start("429 Too Many Requests", [("Retry-After", "2"), ("Content-Length", "0")])
        return [b""]


def test_asana() -> None:
    asana = Asana("sample-token")
    busy = Busy(asana)

    async def walk(talk: Talk) -> None:
        assert isinstance(await talk.check(), Missing)
        [field] = talk.manifest.form
        choices = {option.name: option.value for option in await options(talk.client, field, talk.scope, talk.manifest)}
        assert choices["Operations"] == "1203"
        busy.times = 1
        for request in talk.manifest.execute:
            assert (await talk.send(request)).status == 200
        assert isinstance(await talk.check(), Present)
        await talk.client.aclose()

    with Loopback(busy) as service:
        values = {"TOKEN": "sample-token", "ORG": ORGANIZATION, "TEAM_ID": "1203"}
        talk = Talk(manifest("asana.json", service), service, values)
        asyncio.run(walk(talk))
    assert asana.members["1203"] == {HIRE["email"]}
    assert talk.clock.time - talk.clock.start == timedelta(seconds=2), "the Retry-After was not kept"


def test_scim() -> None:
    async def walk(talk: Talk) -> None:
        assert isinstance(await talk.check(), Missing)
        [create] = talk.manifest.execute
        made = await talk.send(create)
        assert made.status == 201
        assert json.loads(made.content)["name"] == {"givenName": "Mairéad", "familyName": 'O"Dowd'}
        found = await talk.check()
        assert isinstance(found, Present)
        [remove] = talk.manifest.revoke
        assert (await talk.send(remove, talk.scope.over(Layer("check", found.stored)))).status == 204
        assert isinstance(await talk.check(), Missing)
        await talk.client.aclose()

    with Loopback(scim("sample-token")) as service:
        asyncio.run(walk(Talk(manifest("scim.yaml", service), service, {"TOKEN": "sample-token"})))
