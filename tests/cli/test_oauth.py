"""`reconcile oauth connect`, as the program that it is: a person opens the URL, and comes back to the callback."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.cli.conftest import Call
from tests.repo import Daemon, Repo, Running, run_cli, running_cli
from tests.servers import PATIENCE, AccountService, Received, Reply, eventually

TOKEN = "acc3ss-t0ken-1"


class Provider(AccountService):
    """A SaaS tool whose token comes from OAuth."""

    def __init__(self) -> None:
        super().__init__(TOKEN)
        self.traded: list[dict[str, list[str]]] = []
        self.answer: Any = {"access_token": TOKEN, "token_type": "Bearer"}

    def handle(self, received: Received) -> Reply:
        if received.path == "/token":
            self.traded.append(received.form())
            return Reply(*self.answer) if isinstance(self.answer, tuple) else Reply(200, self.answer)
        return super().handle(received)

    def manifest(self, **_: Any) -> dict[str, Any]:
        whole = super().manifest()
        whole["headers"]["Authorization"] = "Bearer {{oauth.access_token}}"
        whole["initial_data_form"] = [{"id": "CLIENT_ID", "name": "client id", "description": ""}]
        whole["oauth"] = {
            "authenticate_url": f"{self.url}/authorize?client_id={{{{CLIENT_ID}}}}&redirect_uri={{{{redirect_url}}}}",
            "access_token": {"url": f"{self.url}/token", "data": {"client_id": "{{CLIENT_ID}}"}},
        }
        return whole


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def office(repo: Repo, provider: Provider) -> Repo:
    """A repository with Ada, who wants an account in a service that is not connected yet."""
    repo.manifest("acme", provider.manifest())
    repo.initial_data("acme", {"CLIENT_ID": "client-of-ours"})
    repo.hire("ada", "acme")
    repo.commit()
    return repo


@pytest.fixture
def import_of(repo: Repo, provider: Provider) -> Repo:
    """A repository whose people come from the service."""
    provider.route("GET", "/people", lambda _: [{"mail": "ada@example.com"}])
    content = {
        "execute": [{"url": f"{provider.url}/people", "method": "GET"}],
        "data_structure": {"email": "mail"},
        **{key: provider.manifest()[key] for key in ("headers", "oauth", "initial_data_form")},
    }
    repo.write("config/imports/acme.yaml", content)
    repo.initial_data("acme", {"CLIENT_ID": "client-of-ours"})
    repo.commit()
    return repo


class Connecting:
    """A `reconcile oauth connect` that waits. `url` is what it printed."""

    def __init__(self, running: Running) -> None:
        self._running = running
        line = self.line = running.first_line()
        self.url = json.loads(line)["url"] if line.startswith("{") else line
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(self.url).query).items()}

    def come_back(self, **query: str) -> tuple[int, str, Any]:
        """What the callback answers, as a browser would see it."""
        url = f"{self.query['redirect_uri']}?{urlencode({'state': self.query['state'], **query})}"
        return get(url)

    def ends(self) -> tuple[int, str, str]:
        code, out, err = astuple(self._running.ends())
        return code, out.partition("\n")[2], err


def get(url: str, method: str = "GET") -> tuple[int, str, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


@contextmanager
def connecting(repo: Repo, *arguments: str) -> Iterator[Connecting]:
    with running_cli(repo, "oauth", "connect", *arguments) as running:
        yield Connecting(running)


def test_a_person_connects_a_service_and_a_pass_uses_it(office: Repo, provider: Provider) -> None:
    before = run_cli(office, "--dry-run", "--output", "json").grant("ada", "acme")
    assert (before["status"], before["reason"]) == ("blocked", "not connected: run `reconcile oauth connect acme`")
    with connecting(office, "acme") as connect:
        assert connect.url.startswith(f"{provider.url}/authorize?client_id=client-of-ours&redirect_uri=")
        assert connect.query["redirect_uri"] == f"http://{office.listen}/oauth/callback/acme"
        assert connect.query["code_challenge_method"] == "S256"
        status, page, headers = connect.come_back(code="c0de-of-the-provider")
        assert (status, "acme is connected" in page) == (200, True)
        assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        code, out, err = connect.ends()
    assert (code, out) == (0, "acme is connected\n")
    assert provider.traded[0]["code"] == ["c0de-of-the-provider"]
    assert provider.traded[0]["client_id"] == ["client-of-ours"]
    for kept in office.state.parent.iterdir():
        for secret in (TOKEN, "c0de-of-the-provider", provider.traded[0]["code_verifier"][0], connect.query["state"]):
            assert secret.encode() not in kept.read_bytes(), kept.name
            assert secret not in err
    assert run_cli(office, "--output", "json").grant("ada", "acme")["status"] == "present"
    assert provider.created == {"ada@example.com": 1}


def test_beside_a_daemon_which_takes_the_callback_and_tries_at_once(office: Repo, provider: Provider) -> None:
    office.settings(interval="1d")
    office.commit()
    with Daemon(office) as daemon:
        eventually(lambda: office.has("ada", "acme", "blocked"))
        with connecting(office, "acme", "--output", "json") as connect:
            assert connect.come_back(code="c")[0] == 200
            code, out, err = connect.ends()
        assert (code, out) == (0, "")
        assert f"the daemon that listens on {office.listen}" in err
        eventually(lambda: provider.created["ada@example.com"])
        assert TOKEN not in daemon.log


def test_callback_needs_its_state(office: Repo, provider: Provider) -> None:
    with connecting(office, "acme") as connect:
        callback = connect.query["redirect_uri"]
        assert get(f"{callback}?state=guessed&code=c")[0] == 400
        assert get(f"{callback}?code=c")[0] == 400
        assert get(f"{callback.replace('acme', '%3Cscript%3E')}?state=x")[1].count("<script>") == 0
        assert get(f"{callback}?state={connect.query['state']}&code=c", method="HEAD")[0] == 405
        assert provider.traded == []
        assert connect.come_back(code="c")[0] == 200
        assert connect.ends()[0] == 0
    assert len(provider.traded) == 1


@pytest.mark.parametrize(
    ("query", "answer", "said"),
    [
        ({"error": "access_denied"}, None, "the service did not allow it: access_denied"),
        ({}, None, "the callback came without a code"),
        ({"code": "c"}, (400, {"error": "invalid_client"}), 'answered 400: {"error": "invalid_client"}'),
    ],
    ids=["denied", "no code", "no token"],
)
def test_a_refusal(office: Repo, provider: Provider, query: dict[str, str], answer: Any, said: str) -> None:
    provider.answer = answer
    with connecting(office, "acme") as connect:
        status, page, _ = connect.come_back(**query)
        code, out, err = connect.ends()
    assert (status, escape(said) in page) == (400, True)
    assert (code, out) == (1, "")
    assert said in err


def test_connect_times_out_without_a_callback(office: Repo) -> None:
    with connecting(office, "acme", "--timeout", "1") as connect:
        code, _, err = connect.ends()
    assert code == 1
    assert "acme is not connected: nobody came back within 1 s" in err


def test_a_service_of_several_manifests_is_connected_once(office: Repo, provider: Provider) -> None:
    alone = provider.manifest()
    del alone["oauth"]
    for name, manifest in (("acme-people", provider.manifest()), ("acme-teams", alone)):
        office.manifest(name, {**manifest, "service": "acme"})
    office.remove("manifests/acme.yaml")
    office.hire("ada", "acme-people", "acme-teams")
    office.commit()
    with connecting(office, "acme") as connect:
        assert connect.query["redirect_uri"].endswith("/oauth/callback/acme")
        connect.come_back(code="c")
        assert connect.ends()[0] == 0
    provider.add("ada@example.com")
    report = run_cli(office, "--output", "json")
    assert report.json["summary"] == {"present": 2}


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nobody", 64, "nobody: there is no manifests/nobody.yaml that can be read, and no service of that name"),
        ("plain", 64, "plain: its manifest has no `oauth`: there is nothing to connect"),
        ("closed", 1, "initial data CLIENT_ID is missing"),
    ],
)
def test_names_that_cannot_be_connected_are_refused(
    office: Repo, accounts: AccountService, provider: Provider, call: Call, name: str, code: int, said: str
) -> None:
    office.manifest("plain", accounts.manifest())
    office.manifest("closed", provider.manifest())
    office.commit()
    result = call(office, "oauth", "connect", name)
    assert (result.code, result.out) == (code, "")
    assert said in result.err


@pytest.mark.parametrize("timeout", ["soon", "-5", "1w"])
def test_a_timeout_that_is_none(office: Repo, call: Call, timeout: str) -> None:
    result = call(office, "oauth", "connect", "acme", "--timeout", timeout)
    assert result.code == 64
    assert "--timeout" in result.err


def test_the_environment_gives_the_timeout_too(office: Repo) -> None:
    result = run_cli(office, "oauth", "connect", "acme", env={"RECONCILE_TIMEOUT": "1s", "PATH": os.environ["PATH"]})
    assert result.code == 1
    assert "within 1 s" in result.err


def test_an_import_is_connected_like_an_integration(import_of: Repo, provider: Provider) -> None:
    provider.answer = {"access_token": TOKEN, "token_type": "Bearer"}
    before = run_cli(import_of, "import", "acme")
    assert (before.code, before.out) == (1, "")
    assert "not connected: run `reconcile oauth connect acme`" in before.err
    with connecting(import_of, "acme") as connect:
        assert connect.come_back(code="c")[0] == 200
        assert connect.ends()[0] == 0
    done = run_cli(import_of, "import", "acme", "--output", "json")
    assert done.code == 2, done.err
    assert [each["hire"] for each in done.json["created"]] == ["ada"]
    asked = [request for request in provider.requests if request.path == "/people"]
    assert [request.headers["Authorization"] for request in asked] == [f"Bearer {TOKEN}"]
    assert TOKEN not in done.out + done.err
