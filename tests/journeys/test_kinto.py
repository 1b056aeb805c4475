"""A real Kinto and manifests/kinto.yaml: an account whose first password is mailed, and a collection shared with it."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.gallery.live import passed, taken
from tests.journeys.program import Program
from tests.repo import Repo, call_cli, free_port
from tests.servers import ask, eventually

PLUGIN = Path(__file__).with_name("kinto_stumble.py")
MANIFEST = Path(__file__).parents[2] / "manifests" / "kinto.yaml"
ADMIN, ADMIN_PASSWORD = "admin", "adm1n-password-of-kinto"
SETTINGS = """
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = %(http_port)s

[app:main]
use = egg:kinto
kinto.includes = kinto.plugins.accounts kinto.plugins.flush kinto_stumble
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.userid_hmac_secret = only for this test
multiauth.policies = account
multiauth.policy.account.use = kinto.plugins.accounts.AccountsPolicy
kinto.account_create_principals = system.Everyone
kinto.account_write_principals = account:admin
kinto.bucket_create_principals = account:admin
"""


class Kinto(Program):
    """Kinto with everything in memory, a bucket `team` and two collections; asked beside the program under test."""

    health = "/v1/__lbheartbeat__"

    def __init__(self, folder: Path) -> None:
        shutil.copy(PLUGIN, folder)
        (folder / "kinto.ini").write_text(SETTINGS)
        port = free_port()
        super().__init__(folder, port, "pyramid.scripts.pserve", "kinto.ini", f"http_port={port}")

    def begin(self) -> None:
        """Nobody is there but the administrator, and nothing was asked for before."""
        assert self.ask("POST", "/__flush__", {}, None)[0] == 202
        (self.folder / "asked").unlink()
        assert self.ask("PUT", f"/accounts/{ADMIN}", {"data": {"password": ADMIN_PASSWORD}}, None)[0] == 201
        for path in ("", "/collections/handbook", "/collections/minutes"):
            assert self.ask("PUT", f"/buckets/team{path}", {})[0] == 201

    def ask(
        self, method: str, path: str, body: Any = None, who: tuple[str, str] | None = (ADMIN, ADMIN_PASSWORD)
    ) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if who is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(who).encode()).decode()
        status, _, raw = ask(self.url, method, f"/v1{path}", body, headers)
        return status, json.loads(raw) if raw else None

    def may(self, who: tuple[str, str], collection: str) -> tuple[int, int]:
        """The statuses of somebody's reading a collection and writing to it."""
        path = f"/buckets/team/collections/{collection}/records"
        return self.ask("GET", path, None, who)[0], self.ask("POST", path, {"data": {}}, who)[0]

    def asked(self, what: str) -> list[str]:
        """The requests so far, `201 PUT /v1/accounts/ada@example.com`."""
        return [line for line in (self.folder / "asked").read_text().splitlines() if re.search(what, line)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinto]:
    with Kinto(tmp_path_factory.mktemp("kinto")) as running:
        yield running


@pytest.fixture
def kinto(running: Kinto) -> Kinto:
    running.begin()
    return running


class Post:
    """A mail server that takes everything."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def password(self, email: str) -> str:
        """The one that was mailed to somebody."""
        [mail] = [mail for mail in self.mails if mail["To"] == email]
        found = re.search(r"password (\S{16,})\.\s*$", mail.get_content())
        assert found is not None, mail.get_content()
        return found[1]


@pytest.fixture
def post() -> Iterator[Post]:
    box = Post()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def shared(repo: Repo, kinto: Kinto, post: Post) -> Repo:
    """A repository with the sample's manifest for this server, not committed yet."""
    repo.write("manifests/kinto.yaml", MANIFEST.read_text().replace("127.0.0.1:8888", kinto.host))
    repo.initial_data("kinto", {"ADMIN": ADMIN, "ADMIN_PASSWORD": ADMIN_PASSWORD, "BUCKET": "team"})
    smtp = {"host": "127.0.0.1", "port": post.port, "sender": "it@example.com"}
    repo.settings(prune="revoke", retry_delay="1s", smtp=smtp)
    return repo


def entry(collection: Any, permission: str) -> dict[str, Any]:
    return {"integration": "kinto", "values": {"COLLECTION": collection, "PERMISSION": permission}}


def test_from_the_first_day_to_the_last(shared: Repo, kinto: Kinto, post: Post) -> None:
    shared.hire("ada", entry({"name": "handbook"}, "read"))
    shared.commit()

    choices = call_cli(shared, "options", "kinto", "COLLECTION")
    assert choices.code == 0, choices.err
    assert "handbook" in choices.out
    assert "minutes" in choices.out

    planned = call_cli(shared, "--dry-run", "--output", "json", "--detailed-exitcode")
    assert (planned.code, planned.grant("ada", "kinto")["status"]) == (2, "missing"), planned.out
    assert [r["method"] for r in planned.grant("ada", "kinto")["requests"]] == ["PUT", "PATCH"]
    assert kinto.asked(r"(PUT|PATCH) .*(ada|handbook)") == ["201 PUT /v1/buckets/team/collections/handbook"]

    done = call_cli(shared, "--output", "json")
    assert (done.code, done.grant("ada", "kinto")["status"]) == (0, "present"), done.out + done.err
    ada = ("ada@example.com", post.password("ada@example.com"))
    assert kinto.may(ada, "handbook") == (200, 403)
    assert kinto.may(ada, "minutes") == (403, 403)

    # A second person, who may write; and one whom somebody made by hand keeps the password that they have.
    cy = ("cy@example.com", "cy's own password")
    assert kinto.ask("PUT", f"/accounts/{cy[0]}", {"data": {"password": cy[1]}})[0] == 201
    shared.hire("bob", entry("minutes", "write"), email="b+ob_2@example.com")
    shared.hire("cy", entry("minutes", "read"))
    shared.commit("Two more")
    done = call_cli(shared, "--output", "json")
    assert (done.code, done.json["summary"]) == (0, {"present": 3}), done.out + done.err
    bob = ("b+ob_2@example.com", post.password("b+ob_2@example.com"))
    assert kinto.may(bob, "minutes") == (200, 201)
    assert bob[1] != ada[1]
    assert kinto.ask("GET", "/", None, cy)[1]["user"]["id"] == "account:cy@example.com"
    assert [mail["To"] for mail in post.mails] == [ada[0], bob[0]]

    shared.remove("hires/ada.yaml")
    shared.commit("Ada leaves")
    done = call_cli(shared, "--output", "json")
    assert (done.code, done.grant("ada", "kinto")["status"]) == (0, "revoked"), done.out + done.err
    assert kinto.may(ada, "handbook") == (401, 401)
    assert kinto.may(bob, "minutes") == (200, 201)
    # What was shared with her went with her: another of her name has nothing of it.
    assert kinto.ask("PUT", f"/accounts/{ada[0]}", {"data": {"password": "another"}})[0] == 201
    assert kinto.may((ada[0], "another"), "handbook") == (403, 403)


def test_kinto_breaks_between_two_requests_and_the_retry_goes_on(shared: Repo, kinto: Kinto, post: Post) -> None:
    """The account is made, sharing the collection is answered 500: the retry shares it, and the password holds."""
    shared.hire("ada", entry("handbook", "write"))
    shared.commit()
    (kinto.folder / "stumbles").write_text("PATCH")
    failed = call_cli(shared, "--output", "json")
    shown = failed.grant("ada", "kinto")
    assert (failed.code, shown["status"], shown["attempts"]) == (1, "retrying", 1), failed.out + failed.err
    assert "500" in shown["last_error"]
    assert post.mails == []
    kept = [file.read_bytes() for file in shared.state.parent.iterdir() if file.is_file()]

    due = datetime.fromisoformat(shown["retry_at"])
    eventually(lambda: datetime.now(UTC) > due + timedelta(seconds=1))  # it is shown without its fractions
    done = call_cli(shared, "--output", "json")
    assert (done.code, done.grant("ada", "kinto")["status"]) == (0, "present"), done.out + done.err
    assert kinto.asked("PUT .*ada@|PATCH") == [
        "201 PUT /v1/accounts/ada@example.com",
        "500 PATCH /v1/buckets/team/collections/handbook",
        "200 PATCH /v1/buckets/team/collections/handbook",
    ]
    password = post.password("ada@example.com")
    assert kinto.may(("ada@example.com", password), "handbook") == (200, 201)

    told = [result.out + result.err for result in (failed, done, call_cli(shared, "explain", "ada", "kinto"))]
    kept += [file.read_bytes() for file in shared.state.parent.iterdir() if file.is_file()]
    for secret in (password, ADMIN_PASSWORD):
        assert not any(secret in text for text in told)
        assert not any(secret.encode() in content for content in kept)


def of_kinto(collection: str) -> tuple[Any, ...]:
    shared = {"integration": "kinto-collection", "values": {"COLLECTION": {"name": collection}}, "needs": ["kinto"]}
    return ("kinto", shared)


def test_ready_manifests(repo: Repo, kinto: Kinto, post: Post) -> None:
    smtp = {"host": "127.0.0.1", "port": post.port, "sender": "it@example.com"}
    repo.settings(prune="revoke", smtp=smtp)
    taken(repo, "kinto", "kinto-collection", host="kinto.example.com", url=kinto.url)
    repo.initial_data("kinto", {"ADMIN": ADMIN, "ADMIN_PASSWORD": ADMIN_PASSWORD, "BUCKET": "team"})

    repo.hire("ada", *of_kinto("handbook"))
    assert passed(repo) == {"kinto": "present", "kinto-collection": "present"}
    ada = ("ada@example.com", post.password("ada@example.com"))
    assert kinto.may(ada, "handbook") == (200, 201)
    assert kinto.may(ada, "minutes") == (403, 403)

    repo.hire("ada", *of_kinto("minutes"), last_name="Married")
    passed(repo)
    assert kinto.ask("GET", "/accounts/ada@example.com")[1]["data"]["name"] == "Ada Married"
    assert kinto.may(ada, "handbook") == (200, 403), "she still reads what she wrote there herself"
    assert kinto.may(ada, "minutes") == (200, 201), "with the password that she has"

    repo.remove("hires/ada.yaml")
    repo.write("hires/README.md", "Nobody works here.")
    passed(repo)
    assert kinto.may(ada, "minutes") == (401, 401)
    assert kinto.ask("GET", "/accounts/ada@example.com")[0] == 404

    post.mails.clear()
    repo.hire("ada", *of_kinto("handbook"))
    passed(repo)
    again = ("ada@example.com", post.password("ada@example.com"))
    assert again[1] != ada[1]
    assert kinto.may(again, "handbook") == (200, 201)
    assert kinto.may(again, "minutes") == (200, 403), "the right to write to it did not come back with her"
