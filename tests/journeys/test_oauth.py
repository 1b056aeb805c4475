"""A person connects a service through its own login page; tokens run out, are taken away, and the passes go on."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from tests.cli.test_oauth import connecting
from tests.journeys.oauth_provider import CLIENT_ID, CLIENT_SECRET, PASSWORD, USER
from tests.repo import Daemon, Repo, call_cli
from tests.servers import PATIENCE, ask, eventually

HOUR = 3600


class Provider:
    """django-oauth-toolkit in a process of its own."""

    def __init__(self, folder: Path) -> None:
        program = Path(__file__).with_name("oauth_provider.py")
        self.process = subprocess.Popen(
            [sys.executable, program, folder],
            cwd=program.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.host = f"127.0.0.1:{int(self.process.stdout.readline())}"
        self.url = f"http://{self.host}"

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()

    def control(self, **wanted: Any) -> dict[str, Any]:
        status, _, body = ask(self.url, "POST", "/control/", wanted)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def asked(self, what: str) -> list[str]:
        return [line for line in self.control()["asked"] if what in line]

    def manifest(self) -> dict[str, Any]:
        client = {"client_id": "{{CLIENT_ID}}", "client_secret": "{{CLIENT_SECRET}}"}
        trade = {**client, "grant_type": "authorization_code", "redirect_uri": "{{redirect_url}}"}
        refresh = {**client, "grant_type": "refresh_token", "refresh_token": "{{oauth.refresh_token}}"}
        query = "response_type=code&client_id={{CLIENT_ID}}&redirect_uri={{redirect_url}}&scope=people"
        return {
            "oauth": {
                "authenticate_url": f"{self.url}/o/authorize/?{query}",
                "access_token": {"url": f"{self.url}/o/token/", "data": trade},
                "refresh": {"url": f"{self.url}/o/token/", "data": refresh},
            },
            "headers": {"Authorization": "Bearer {{oauth.access_token}}", "Content-Type": "application/json"},
            "exists": {
                "url": f"{self.url}/people/{{{{email}}}}",
                "expected": "{{email}}",
                "fail_when_4xx_response_code": False,
            },
            "execute": [{"url": f"{self.url}/people/", "data": {"email": "{{email}}", "name": "{{first_name}}"}}],
            "initial_data_form": [{"id": "CLIENT_ID", "secret": False}, {"id": "CLIENT_SECRET"}],
        }


class Form(HTMLParser):
    """The fields of a page's form."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("type") != "submit" and given.get("name"):
            self.fields[given["name"] or ""] = given.get("value") or ""


class Browser:
    """Keeps cookies, follows redirects, fills forms in."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.page = ""
        self.address = ""

    def open(self, url: str, data: dict[str, str] | None = None) -> None:
        request = urllib.request.Request(url, None if data is None else urlencode(data).encode())
        request.add_header("Referer", self.address or url)
        with self._opener.open(request, timeout=PATIENCE) as answer:
            self.page, self.address = answer.read().decode(), answer.url

    def submit(self, **values: str) -> None:
        self.open(urljoin(self.address, ""), {**Form(self.page).fields, **values})


def allow(url: str) -> Browser:
    """What a person does: log in, say yes, come back."""
    browser = Browser()
    browser.open(url)
    assert "/admin/login/" in browser.address
    browser.submit(username=USER, password=PASSWORD)
    assert "/o/authorize/" in browser.address, browser.page
    assert "Authorize Access reconciler?" in browser.page
    browser.submit(allow="Authorize")
    return browser


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    running = Provider(tmp_path_factory.mktemp("provider"))
    yield running
    running.close()


@pytest.fixture
def provider(repo: Repo, running: Provider) -> Provider:
    """Somebody who connects anew, with tokens that last for an hour."""
    running.control(begin=f"http://{repo.listen}/oauth/callback/acme", lasts=HOUR)
    return running


@pytest.fixture
def office(repo: Repo, provider: Provider) -> Repo:
    repo.manifest("acme", provider.manifest())
    repo.initial_data("acme", {"CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET})
    repo.hire("ada", "acme")
    repo.commit()
    return repo


def connect(office: Repo) -> None:
    with connecting(office, "acme") as command:
        browser = allow(command.url)
        assert "acme is connected" in browser.page
        code, out, err = command.ends()
    assert (code, out) == (0, "acme is connected\n"), err


def grant(office: Repo, *arguments: str) -> dict[str, Any]:
    result = call_cli(office, *arguments, "--output", "json")
    assert CLIENT_SECRET not in result.out + result.err
    return result.grant("ada", "acme")


REFRESHED = "POST /o/token/ refresh_token 200"


def test_connected_through_the_login_page_and_kept_fresh(office: Repo, provider: Provider) -> None:
    assert grant(office, "--dry-run")["status"] == "blocked"
    provider.control(lasts=30)
    connect(office)
    assert provider.asked("/o/token/") == ["POST /o/token/ authorization_code 200"]

    assert grant(office)["status"] == "present"
    assert provider.control()["people"] == {"ada@example.com": "Ada"}
    # Half a minute is less than a minute: each of the pass's requests wanted a fresh token, and each refresh token
    # serves once, so that the last one was stored before the next was asked for.
    refreshed = len(provider.asked(REFRESHED))
    assert refreshed >= 1
    assert provider.asked(" 401") == []

    provider.control(lasts=HOUR)
    assert grant(office)["status"] == "present"
    refreshed = len(provider.asked(REFRESHED))
    assert grant(office)["status"] == "present"
    assert len(provider.asked(REFRESHED)) == refreshed, "a token that lasts an hour is used as it is"

    # An administrator takes the token away: one refresh after the 401.
    provider.control(revoke="access")
    assert grant(office)["status"] == "present"
    assert len(provider.asked(REFRESHED)) == refreshed + 1
    assert provider.asked(" 401") == ["GET /people/ada@example.com 401"]


def test_a_dry_run_refreshes_nothing(office: Repo, provider: Provider) -> None:
    provider.control(lasts=1)
    connect(office)
    told = eventually(lambda: (found := grant(office, "--dry-run"))["status"] == "unknown" and found)
    assert told["reason"].endswith("the token has expired: a dry run refreshes none")
    assert provider.asked(REFRESHED) == []
    assert grant(office)["status"] == "present"
    assert provider.asked(REFRESHED) != []


def test_when_the_refresh_token_is_taken_away_a_person_connects_again(office: Repo, provider: Provider) -> None:
    connect(office)
    assert grant(office)["status"] == "present"
    provider.control(revoke="all")
    told = grant(office)
    assert (told["status"], told["action"]) == ("unknown", "none")
    assert "connect again: `reconcile oauth connect acme`" in told["reason"]
    connect(office)
    assert grant(office)["status"] == "present"
    assert provider.asked("POST /people") == ["POST /people/ 201"], "a refused token is never an absent person"


def test_beside_a_daemon(office: Repo, provider: Provider) -> None:
    office.settings(interval="2s")
    office.commit()
    with Daemon(office) as daemon:
        connect(office)
        eventually(lambda: provider.control()["people"])
        eventually(lambda: office.has("ada", "acme", "present"))
        assert CLIENT_SECRET not in daemon.log


def test_person_denies_authorization(office: Repo) -> None:
    with connecting(office, "acme") as command:
        browser = Browser()
        browser.open(command.url)
        browser.submit(username=USER, password=PASSWORD)
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            browser.submit()
        caught.value.close()
        code, _, err = command.ends()
    assert code == 1
    assert "the service did not allow it: access_denied" in err
