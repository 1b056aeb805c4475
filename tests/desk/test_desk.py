"""The desk as a process of its own: who is signed in, what they may ask for, and what a form becomes."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect, sync_playwright

from reconciler.web.desk import statuses
from tests.forges import TOKEN, Stand
from tests.repo import Repo, call_cli, running_cli
from tests.servers import AccountService, Received, Reply, Service

ASK = {"integration": "tool", "value.TEAM": "2", "for": "8h", "reason": "INC-12"}
CHROMIUM = shutil.which("chromium")


@pytest.fixture
def forge() -> Iterator[Stand]:
    with Stand("gitea") as running:
        yield running


@pytest.fixture
def company(repo: Repo, accounts: AccountService, forge: Stand) -> Repo:
    repo.settings(
        pages={"trusted_header": "X-Forwarded-Email", "trusted_proxies": ["127.0.0.1"]},
        forge={"kind": "gitea", "url": forge.url, "project": "acme/access"},
    )
    repo.manifest("tool", accounts.manifest(team=True))
    repo.hire("ada", department="R&D", last_name="of <R&D>")
    repo.hire("bob", department="Sales")
    repo.hire("zoe", email="zo\u00eb@example.com")
    repo.hire("cleo", {"integration": "tool", "values": {"TEAM": "7"}, "until": "2099-01-01"})
    offer = {"integration": "tool", "who": {"department": "R&D"}, "values": {"TEAM": ["2", "3"]}, "longest": "24h"}
    repo.write("config/requestable.yaml", [offer])
    repo.commit()
    bare = repo.root.parent / "remote.git"
    repo.git("init", "-q", "--bare", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "origin", "HEAD")
    return repo


@pytest.fixture
def daemon() -> Iterator[Service]:
    """Says of every entry that it is there, to who has the token."""

    def people(received: Received) -> Reply:
        if received.headers.get("Authorization") != "Bearer of-the-pages":
            return Reply(401, {})
        name = f"{datetime.now(UTC).date()}-ada-tool"
        return Reply(200, {"grants": [{"access": name, "status": "present"}]})

    with Service() as running:
        running.route("GET", "/people/ada", people)
        yield running


@pytest.fixture
def desk(company: Repo, daemon: Service) -> Iterator[str]:
    env = {"RECONCILE_FORGE_TOKEN": TOKEN, "RECONCILE_PAGES_TOKEN": "of-the-pages"}
    arguments = ("--listen", "127.0.0.1:0", "--status", daemon.url)
    with running_cli(company, "desk", *arguments, env=env) as running:
        yield running.first_line().strip().rstrip("/")


def fetched(url: str, form: dict[str, str] | None = None, **headers: Any) -> tuple[int, str]:
    data = None if form is None else urlencode(form).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_somebody_asks_and_a_pull_request_waits(company: Repo, desk: str, forge: Stand) -> None:
    ada: dict[str, Any] = {"X_Forwarded_Email": "ada@example.com"}
    code, page = fetched(f"{desk}/", **ada)
    assert code == 200
    assert "Ask for tool" in page
    code, page = fetched(f"{desk}/ask", ASK, Origin=desk, **ada)
    assert code == 200
    assert f"{forge.url}/acme/access/pulls/1" in page
    assert "waits, present" in page
    [branch] = company.git("for-each-ref", "--format=%(refname:short)", "refs/heads/request").split()
    who = company.git("log", "-1", "--format=%an, %ae, %ce", branch).strip()
    assert who == "Ada of R&D, ada@example.com, access-reconciler@localhost"
    assert len(forge.pulls) == 1


def test_daemon_that_never_ends_its_answer_is_not_waited_for(daemon: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.web.desk.SECONDS", 0.2)
    daemon.drip(times=None)
    assert statuses(daemon.url, "of-the-pages", "ada") == {}


def test_somebody_sees_what_they_have(desk: str) -> None:
    zoe = "zo\u00eb@example.com".encode().decode("latin-1")  # as urllib sends the bytes of it
    assert fetched(f"{desk}/", X_Forwarded_Email=zoe)[0] == 200
    code, page = fetched(f"{desk}/", X_Forwarded_Email="cleo@example.com")
    assert (code, '<li>tool, TEAM 7, until <time datetime="2099-01-01T00:00:00Z">' in page) == (200, True), page


def test_who_may_not(company: Repo, desk: str, forge: Stand) -> None:
    assert fetched(f"{desk}/")[0] == 403
    assert fetched(f"{desk}/", X_Forwarded_Email="eve@example.com")[0] == 403
    ada: dict[str, Any] = {"X_Forwarded_Email": "ada@example.com"}
    bob: dict[str, Any] = {"X_Forwarded_Email": "bob@example.com"}
    assert fetched(f"{desk}/ask", ASK, **ada)[0] == 403
    assert fetched(f"{desk}/ask", ASK, Origin="https://evil.example.com", **ada)[0] == 403
    code, page = fetched(f"{desk}/ask", ASK, Origin=desk, **bob)
    assert (code, "may be asked for by hires with department R&amp;D; nothing may be asked for" in page) == (422, True)
    code, page = fetched(f"{desk}/ask", {**ASK, "for": "48h"}, Origin=desk, **ada)
    assert (code, "what may be asked for: tool (TEAM 2 or 3, for at most 1d, by hires with" in page) == (422, True)
    code, page = fetched(f"{desk}/ask", {**ASK, "reason": ""}, Origin=desk, **ada)
    assert (code, "what may be asked for: tool" in page) == (422, True)
    assert fetched(f"{desk}/", Host="evil.example.com", **ada)[0] == 421
    assert company.git("for-each-ref", "refs/heads/request") == ""
    assert forge.pulls == []


def test_form_comes_from_the_public_url_alone(company: Repo) -> None:
    """A browser leaves out the port that is the scheme's."""
    here = {"Host": "desk.example.com", "X_Forwarded_Email": "bob@example.com"}
    arguments = ("--listen", "127.0.0.1:0", "--public-url", "https://desk.example.com:443/")
    with running_cli(company, "desk", *arguments, env={"RECONCILE_FORGE_TOKEN": TOKEN}) as running:
        url = f"{running.first_line().strip()}ask"
        assert fetched(url, ASK, Origin="https://desk.example.com", **here)[0] == 422, "bob may not"
        for other in (
            "http://desk.example.com",
            "https://desk.example.com:8443",
            "null",
            "https://desk.example.com@evil",
        ):
            assert fetched(url, ASK, Origin=other, **here)[0] == 403, other


def test_settings_that_cannot_be_read_are_named(company: Repo, desk: str) -> None:
    company.write("config/reconciler.yaml", "interval: [\n")
    company.commit()
    company.git("push", "-q", "origin", "HEAD")
    code, page = fetched(f"{desk}/ask", ASK, Origin=desk, X_Forwarded_Email="ada@example.com")
    assert (code, "config/reconciler.yaml:2: not YAML" in page) == (503, True), page


def test_it_does_not_start_without_a_proxy(repo: Repo) -> None:
    repo.settings()
    repo.manifest("tool", {"execute": [{"url": "https://api.example.com/"}]})
    repo.hire("ada")
    repo.commit()
    done = call_cli(repo, "desk", "--listen", "127.0.0.1:0")
    assert (done.code, "pages.trusted_header" in done.err) == (1, True)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium")
def test_form_works_in_a_browser_without_script(desk: str, forge: Stand) -> None:
    with sync_playwright() as playwright:
        flags = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        headers = {"X-Forwarded-Email": "ada@example.com"}
        page = browser.new_context(java_script_enabled=False, extra_http_headers=headers).new_page()
        page.set_default_timeout(60_000)
        page.goto(desk)
        page.get_by_label("Team").select_option("3")
        page.get_by_label("Why").fill("INC-12")
        page.get_by_role("button", name="Ask for tool").click()
        expect(page.get_by_role("link", name="pull request")).to_have_attribute("href", forge.pulls[0]["html_url"])
        browser.close()
