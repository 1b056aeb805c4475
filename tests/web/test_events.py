"""`POST /hooks/<integration>`: a service tells of an account, which is checked at once; and what a flood costs."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.gallery.catalog import everything
from reconciler.web.hooks import account_in, is_from_service
from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, Service, eventually
from tests.web.test_hooks import post

SECRET = "correct horse"
EVENTS = {
    "signature": {"header": "X-Signature", "prefix": "sha256=", "secret": "{{HOOK_SECRET}}"},
    "account": "user.email",
}


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Signature": f"sha256={made}", "Content-Type": "application/json"}


def tell(daemon: Daemon, email: str, *, secret: str = SECRET, name: str = "tool") -> int:
    body = json.dumps({"user": {"email": email}}).encode()
    return post(daemon, name, body, signed(body, secret))


@pytest.fixture
def repo(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings(interval="1d", prune="revoke")
    repo.initial_data("tool", {"HOOK_SECRET": [SECRET, "the one before", ""]})
    asked = [{"id": "HOOK_SECRET"}]
    repo.manifest("tool", {**accounts.manifest(listing=True), "events": EVENTS, "initial_data_form": asked})
    for stem in ("ada", "bob"):
        repo.hire(stem, "tool")
    repo.commit()
    return repo


@pytest.fixture
def daemon(repo: Repo, accounts: AccountService) -> Iterator[Daemon]:
    accounts.add("ada@example.com", "bob@example.com")
    with Daemon(repo) as running:
        eventually(lambda: len(checks(accounts, "ada")) == len(checks(accounts, "bob")) == 1)
        eventually(lambda: listed(accounts))
        yield running


def checks(accounts: AccountService, stem: str) -> list[Any]:
    return accounts.calls("GET", f"/users/{stem}@example.com")


def listed(accounts: AccountService) -> int:
    return len([call for call in accounts.calls("GET") if call.path == "/users"])


def test_an_account_that_is_gone_at_the_service_is_healed_at_once(daemon: Daemon, accounts: AccountService) -> None:
    del accounts.people["ada@example.com"]
    began = time.monotonic()
    assert tell(daemon, "ADA@example.com") == 204
    eventually(lambda: len(accounts.calls("POST")) == 1)
    assert time.monotonic() - began < 5  # on a machine that does nothing else, a tenth of a second
    assert len(checks(accounts, "bob")) == 1


def test_two_secrets_may_be_named_while_one_is_changed(repo: Repo, accounts: AccountService) -> None:
    named = ["{{HOOK_SECRET}}", "{{NEXT_SECRET}}"]
    signature = {"header": "X-Signature", "prefix": "sha256=", "secret": named}
    repo.initial_data("tool", {"HOOK_SECRET": SECRET, "NEXT_SECRET": "the one after"})
    repo.manifest("tool", {**accounts.manifest(), "events": {**EVENTS, "signature": signature}})
    repo.commit()
    assert call_cli(repo, "validate").code == 0
    assert call_cli(repo, "initial-data", "check", "tool").code == 0
    with Daemon(repo) as running:
        assert tell(running, "ada@example.com") == tell(running, "ada@example.com", secret="the one after") == 204
        assert tell(running, "ada@example.com", secret="the one before") == 401


def test_an_account_of_somebody_who_left_is_checked_at_once(
    repo: Repo, daemon: Daemon, accounts: AccountService
) -> None:
    repo.settings(interval="1d", prune="report")
    repo.remove("hires/bob.yaml")
    repo.commit()
    eventually(lambda: repo.has("bob", "tool", "orphaned"))
    del accounts.people["bob@example.com"]
    assert tell(daemon, "bob@example.com") == 204
    eventually(lambda: repo.has("bob", "tool", "revoked"))


def test_the_pages_say_when_the_last_event_came(daemon: Daemon) -> None:
    assert "<dt>Last event</dt><dd>none has come</dd>" in daemon.get("/services/tool")[1]
    assert "Last event" not in daemon.get("/")[1]
    assert tell(daemon, "ada@example.com") == 204
    eventually(lambda: "<dt>Last event, <bdi>tool</bdi></dt>" in daemon.get("/")[1])
    assert "none has come" not in daemon.get("/services/tool")[1]


def test_a_flood_costs_one_check_and_one_reading(daemon: Daemon, accounts: AccountService) -> None:
    before = listed(accounts)
    for _ in range(30):
        assert tell(daemon, "ada@example.com", secret="the one before") == 204
        assert tell(daemon, "nobody@example.com") == 204
        assert post(daemon, "tool", b"{", signed(b"{")) == 204
    eventually(lambda: listed(accounts) == before + 1)
    eventually(lambda: len(checks(accounts, "ada")) >= 2)
    assert len(checks(accounts, "ada")) == 2, "one more comes after ten seconds"
    assert listed(accounts) == before + 1


def test_who_is_refused_causes_nothing(daemon: Daemon, accounts: AccountService) -> None:
    assert tell(daemon, "ada@example.com", secret="wrong") == tell(daemon, "ada@example.com", secret="") == 401
    assert post(daemon, "tool", b"{}", {}) == 401
    large = b" " * (1024 * 1024 + 1)
    assert post(daemon, "tool", large, signed(large)) == 413
    assert tell(daemon, "ada@example.com", name="other") == 404
    assert len(checks(accounts, "ada")) == 1


def test_a_secret_that_is_not_there_is_said(repo: Repo, daemon: Daemon) -> None:
    repo.initial_data("tool", {"OTHER": "x"})
    repo.commit()
    eventually(lambda: tell(daemon, "ada@example.com") == 503)


def test_a_login_is_found_by_what_the_check_expects(repo: Repo, service: Service) -> None:
    service.route("GET", "/members/{login}", lambda _received, login: {"login": login})
    manifest = {
        "exists": {
            "url": f"{service.url}/members/{{{{LOGIN}}}}",
            "expected": "{{LOGIN}}",
            "record": "",
            "match": "login",
        },
        "events": {"token": {"header": "X-Token", "value": "{{HOOK_SECRET}}"}, "account": "member"},
    }
    repo.remove("config/initial_data/tool.yaml.gpg")
    repo.initial_data("club", {"HOOK_SECRET": SECRET})
    repo.manifest("tool", {"execute": [{"url": f"{service.url}/"}]})
    repo.manifest("club", manifest)
    repo.hire("ada", "club", extra={"LOGIN": "lovelace"})
    repo.hire("bob", "club", extra={"LOGIN": "babbage"})
    repo.commit()

    def seen(login: str) -> int:
        return len(service.calls("GET", f"/members/{login}"))

    with Daemon(repo) as running:
        eventually(lambda: seen("lovelace") == seen("babbage") == 1)
        body = b"member=Lovelace&x=1"
        headers = {"X-Token": SECRET, "Content-Type": "application/x-www-form-urlencoded"}
        assert post(running, "club", body, headers) == 204
        eventually(lambda: seen("lovelace") == 2)
        assert seen("babbage") == 1
        repo.remove("hires/bob.yaml")
        repo.commit()
        eventually(lambda: repo.has("bob", "club", "orphaned"))
        before = seen("babbage")
        assert post(running, "club", b"member=babbage", headers) == 204
        eventually(lambda: seen("babbage") == before + 1)


TOLD: dict[str, tuple[str, bytes, str]] = {
    "github": (
        "X-Hub-Signature-256: sha256=",
        b'{"action": "member_removed", "membership": {"state": "active", "role": "member", "user": {"login": "Ada"}}}',
        "Ada",
    ),
    "github-team": (
        "X-Hub-Signature-256: sha256=",
        b'{"action": "removed", "scope": "team", "member": {"login": "Ada"}, "team": {"slug": "crew"}}',
        "Ada",
    ),
    "gitlab-group": (
        "X-Gitlab-Token",
        b'{"event_name": "user_remove_from_group", "group_path": "crew", "user_username": "ada"}',
        "ada",
    ),
    "gitlab-instance": (
        "X-Gitlab-Token",
        b'{"event_name": "user_destroy", "email": "ada@example.com", "name": "Ada", "username": "ada", "user_id": 41}',
        "ada@example.com",
    ),
    "discourse": (
        "X-Discourse-Event-Signature: sha256=",
        b'{"user": {"id": 7, "username": "ada", "name": "Ada", "email": "ada@example.com", "trust_level": 1}}',
        "ada@example.com",
    ),
    "google-workspace": (
        "X-Goog-Channel-Token",
        b'{"kind": "admin#directory#user", "id": "1118", "etag": "\\"x\\"", "primaryEmail": "ada@example.com"}',
        "ada@example.com",
    ),
    "linear": (
        "Linear-Signature: ",
        b'{"action": "update", "type": "User", "data": {"id": "1", "email": "ada@example.com", "active": false}}',
        "ada@example.com",
    ),
    "zendesk": (
        "X-Hook-Secret",
        b'{"type": "zen:event-type:user.active_changed", "detail": {"id": "6596", "email": "ada@example.com"}}',
        "ada@example.com",
    ),
}
"""What services send of an account that changed, as their vendors describe it; of signatures, what stands before it."""


def test_events_of_ready_manifests() -> None:
    telling = {item.name: item.manifest.events for item in everything().values() if item.manifest.events is not None}
    assert telling.keys() == TOLD.keys()
    for name, (header, body, account) in TOLD.items():
        events = telling[name]
        key, signs, prefix = header.partition(": ")
        made = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {key.lower(): f"{prefix}{made}" if signs else SECRET}
        assert is_from_service(events, headers, body, SECRET, time.time()), name
        assert not is_from_service(events, headers, body, "another", time.time()), name
        assert not is_from_service(events, {}, body, SECRET, time.time()), name
        assert account_in(body, events.account) == account, name


@pytest.mark.parametrize(
    ("body", "account"),
    [
        (b'{"user": {"email": "a@b.c"}}', "a@b.c"),
        (b'{"user": {"email": 17}}', "17"),
        (b"payload=%7B%22user%22%3A%7B%22email%22%3A%22a%22%7D%7D", "a"),
        (b"payload=%7B&x=1", None),
        (b'{"user": {"email": {}}}', None),
        (b'{"user": []}', None),
        (b"[" * 100_000, None),
        (b"\xff", None),
        (b"", None),
        (b"&".join(b"a%d=1" % n for n in range(2000)), None),
    ],
)
def test_whose_account_a_body_names(body: bytes, account: str | None) -> None:
    assert account_in(body, "user.email") == account
    assert account_in(b"email=a%40b.c&x=1", "email") == "a@b.c", "a form of its own"


@pytest.mark.parametrize(
    ("stem", "events", "says"),
    [
        ("saas", {"account": "a"}, "events have a signature or a token"),
        ("saas", {"account": "a", "token": {"header": "X", "value": "s3cret"}}, "a secret is never written out"),
        ("saas", {"account": "a", "signature": {"secret": "{{HOOK_SECRET}}"}}, "a signature has a header, or scheme"),
        ("saas", {**EVENTS, "path": "x"}, "unknown key"),
        ("saas", {**EVENTS, "account": ""}, "events.account: must not be empty"),
        ("git", EVENTS, "/hooks/git is for pushes"),
    ],
)
def test_events_that_are_wrong(repo: Repo, stem: str, events: dict[str, Any], says: str) -> None:
    repo.manifest(stem, {"execute": [{"url": "https://saas.example.com/"}], "events": events})
    done = call_cli(repo, "validate")
    assert done.code == 1
    assert says in done.out
    assert "s3cret" not in done.out
