"""A token goes to its service and nowhere else, whatever goes wrong, and whatever the service says about it.

Every integration here goes wrong in a way of its own, and each service repeats what it was sent as often as it can.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.repo import Daemon, Repo, free_port, run_cli
from tests.servers import AccountService, Reply, Service, eventually

TOKEN = "tök+n/with=all kinds:of%signs"
PASSWORD = "correct-horse-battery"
SPELLINGS = {
    "as it is": TOKEN.encode(),
    "in a URL": quote(TOKEN, safe="").encode(),
    "in a URL, lower case": quote(TOKEN, safe="").lower().encode(),
    "in JSON": json.dumps(TOKEN).strip('"').encode(),
    "in base64": base64.b64encode(TOKEN.encode()),
    "as basic authorization": base64.b64encode(f"robot:{PASSWORD}".encode()),
    "the password": PASSWORD.encode(),
}


class Gossip(Service):
    """Repeats the whole request in every answer, with the status that its path asks for."""

    def __init__(self) -> None:
        super().__init__()
        for method in ("GET", "POST"):
            self.route(method, "/{status}/{rest}", self._tell)

    def _tell(self, received: Any, status: str, rest: str) -> Reply:
        heard: dict[str, Any] = dict(received.headers.items())
        said = {"target": received.target, "headers": heard, "body": received.body.decode(), "token": TOKEN}
        where = {"Location": f"http://127.0.0.1:9/?token={quote(TOKEN, safe='')}"} if status.startswith("3") else {}
        return Reply(int(status), said, where)


@pytest.fixture
def gossip() -> Iterator[Gossip]:
    with Gossip() as running:
        yield running


@pytest.fixture
def staged(repo: Repo, gossip: Gossip, accounts: AccountService) -> Repo:
    closed = f"http://127.0.0.1:{free_port()}"
    headers = {"Authorization": "Bearer {{TOKEN}}", "X-Basic": "{{TOKEN}}", "Content-Type": "application/json"}
    missing: dict[str, Any] = {"url": f"{accounts.url}/users/{{{{email}}}}", "expected": "{{email}}"}
    missing["fail_when_4xx_response_code"] = False

    def integration(name: str, execute: list[Any], exists: Any = missing) -> None:
        repo.manifest(
            name,
            {
                "service": "vault",
                "exists": exists,
                "execute": execute,
                "headers": headers,
                "initial_data_form": [
                    {"id": "TOKEN", "name": "Token", "description": ""},
                    {"id": "PASSWORD", "name": "Password", "description": ""},
                    {"id": "USER", "name": "User", "description": "", "secret": False},
                ],
            },
        )

    def posts(path: str, base: str = gossip.url) -> list[Any]:
        data = {"email": "{{email}}", "password": "{{PASSWORD}}", "token": "{{TOKEN}}"}
        return [{"url": f"{base}{path}?key={{{{TOKEN}}}}", "data": data}]

    basic = {"Authorization": "Basic {{USER}}:{{PASSWORD}}"}
    integration("works", [{**posts("/200/x")[0], "headers": basic}])
    integration("refused400", posts("/400/x"))
    integration("broken500", [{**posts("/500/x")[0], "headers": basic}])
    integration("redirected", posts("/302/x"))
    integration("hung", posts("/200/hang"))
    integration("closed", posts("/x", closed))
    integration("nothing-there", [*posts("/200/x"), {"url": f"{gossip.url}/200/{{{{responses.0.nope}}}}"}])
    integration("unknown-variable", [{"url": f"{gossip.url}/200/{{{{NOBODY}}}}?key={{{{TOKEN}}}}"}])
    integration("token-as-path", [{"url": f"{gossip.url}/500/{{{{TOKEN}}}}"}])
    for name, path in {"check401": "/401/x", "check302": "/302/x", "check500": "/500/x"}.items():
        integration(name, posts("/200/x"), {"url": f"{gossip.url}{path}?key={{{{TOKEN}}}}", "expected": "{{email}}"})
    integration("check-closed", posts("/200/x"), {"url": f"{closed}/?key={{{{TOKEN}}}}", "expected": "{{email}}"})
    repo.initial_data("vault", {"TOKEN": TOKEN, "PASSWORD": PASSWORD, "USER": "robot"})
    names = sorted(path.stem for path in (repo.root / "manifests").glob("*.yaml"))
    repo.hire("ada", *names)
    repo.settings(interval="1d", retry_delay="1s", limits={"timeout": "1s"})
    repo.commit()
    gossip.hang(None, prefix="/200/hang")
    return repo


def nowhere(written: dict[str, str | bytes]) -> None:
    for where, content in written.items():
        raw = content.encode() if isinstance(content, str) else content
        found = [name for name, spelling in SPELLINGS.items() if spelling in raw]
        assert not found, f"{where} holds the token {found}"


def state(repo: Repo) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in repo.state.parent.iterdir()}


def test_secrets_in_no_output_of_a_pass_and_later_commands(staged: Repo, gossip: Gossip) -> None:
    written: dict[str, str | bytes] = {}
    for arguments in (
        ["--dry-run", "-v"],
        ["-v"],
        ["--output", "json", "-v", "--log-format", "json"],
        ["status", "--output", "json"],
        ["history"],
        ["explain", "ada", "refused400"],
        ["explain", "ada", "works"],
    ):
        result = run_cli(staged, *arguments)
        written[f"reconcile {' '.join(arguments)}: output"] = result.out
        written[f"reconcile {' '.join(arguments)}: log"] = result.err
        assert result.out
    heard = b"".join(call.body + call.target.encode() + str(call.headers).encode() for call in gossip.requests)
    for spelling in ("in a URL", "in JSON", "the password", "as basic authorization"):
        assert SPELLINGS[spelling] in heard, "the service did not even get it: the test shows nothing"
    shown = {grant["access"]: grant for grant in run_cli(staged, "status", "--output", "json").json["grants"]}
    assert shown["works"]["status"] == "unconfirmed"
    assert {shown[name]["status"] for name in ("check401", "check302", "check500", "check-closed")} == {"unknown"}
    assert shown["unknown-variable"]["status"] == "blocked"
    failed = {"refused400", "broken500", "redirected", "hung", "closed", "nothing-there", "token-as-path"}
    assert {shown[name]["status"] for name in failed} <= {"retrying", "failed"}
    nowhere({**written, **state(staged)})


def test_the_daemon(staged: Repo) -> None:
    with Daemon(staged, "-v", "--log-format", "json") as daemon:
        eventually(lambda: staged.has("ada", "closed", "failed") and staged.has("ada", "hung", "failed"))
        names = [path.stem for path in (staged.root / "manifests").glob("*.yaml")]
        paths = ["/metrics", "/healthz", "/readyz", "/", "/people", "/people/ada", "/history", "/reviews"]
        pages = {path: daemon.get(path)[1] for path in (*paths, *(f"/services/{name}" for name in names))}
        assert "answered 400" in pages["/people/ada"], "the page repeats nothing: the test shows nothing"
        beside = state(staged)
        assert daemon.terminate() == 0
        nowhere({"log": daemon.log, **pages, **beside, **state(staged)})


def test_a_crash_in_mid_attempt(staged: Repo, gossip: Gossip) -> None:
    with Daemon(staged, "-v") as daemon:
        eventually(lambda: gossip.calls("POST", "/200/hang"))
        daemon.kill9()
        nowhere({"log": daemon.log, **state(staged)})
