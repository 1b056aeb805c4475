"""The pages in a real browser: accessible at both widths, light and dark, with script and without.

Debian's Chromium, driven by playwright. Where there is none, these tests skip and say so.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.base import AXE_SCRIPT as AXE
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.repo import Daemon, GnupgHome, Repo, call_cli
from tests.servers import PATIENCE
from tests.web.world import QUOTED, SCRIPT, TOKEN, World

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",  # it runs as root in CI
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES = {
    "overview": "/",
    "people": "/people",
    "person": "/people/grace",
    "privileged": "/privileged",
    "hostile": f"/people/{quote(QUOTED, safe='')}",
    "service": "/services/tool",
    "down": "/services/chat",
    "history": "/history",
    "reviews": "/reviews",
    "refused": "/people?status=nonsense",
}
WIDE, NARROW = (1280, 900), (390, 844)

ALIKE = "tbody tr:nth-child(n + 12):not(:last-child)"
"""The fifty rows of a long table that are made like those before them, where axe would spend most of its time."""

MILLISECONDS = 1000 * PATIENCE
expect.set_options(timeout=MILLISECONDS)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium")

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Opens a page in a window of its own. What the console says of the policy, or of script that broke, fails."""
    contexts, said = [], []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            said.append(message.text)

    def open_(url: str, size: tuple[int, int] = WIDE, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.on("console", listen)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"a dialog opened: {dialog.message}"))
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def violations(page: Page) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    run = "alike => axe.run({exclude: [alike]}, {resultTypes: ['violations']}).then(found => found.violations)"
    found = page.evaluate(run, ALIKE)
    return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]


def overflow(page: Page) -> int:
    """By how much the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def see_accessible(page: Page) -> None:
    """See that a page is accessible and fits, wide and narrow, light and dark."""
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        assert overflow(page) <= 0, f"at {width} pixels"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], f"at {width} pixels, {scheme}"


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible_at_both_widths_light_and_dark(world: World, opened: Opened, name: str) -> None:
    see_accessible(opened(world.daemon.url + PAGES[name]))


def test_evidence_of_a_review_is_accessible(world: World, opened: Opened, tmp_path: Path) -> None:
    file = tmp_path / "review.html"
    file.write_text(call_cli(world.repo, "review", "check", "2026-Q4", "--output", "html").out)
    page = opened(file.as_uri())
    expect(page.get_by_role("table").first).to_be_visible()
    see_accessible(page)


@pytest.mark.parametrize("name", ["person", "history"])
def test_pages_are_accessible_without_their_script(world: World, opened: Opened, name: str) -> None:
    """The script is kept from loading, for where all script is off axe has none either."""
    page = opened("about:blank")
    page.route("**/filter.js*", lambda route: route.abort())
    page.goto(world.daemon.url + PAGES[name])
    assert page.locator("label.live").count() == 0
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        assert overflow(page) <= 0, f"at {width} pixels"
        assert violations(page) == [], f"at {width} pixels"


def test_a_page_is_whole_without_script(world: World, opened: Opened) -> None:
    page = opened(f"{world.daemon.url}/people?status=scheduled", java_script_enabled=False)
    expect(page.get_by_role("row")).to_have_count(51)
    expect(page.get_by_role("searchbox")).to_have_count(0)
    page.get_by_role("link", name="Next").first.click()
    expect(page.get_by_role("link", name="P59 Example", exact=True)).to_be_visible()
    page.goto(f"{world.daemon.url}/people/grace")
    expect(page.get_by_text("answered 422").last).to_be_visible()
    page.get_by_role("group").first.locator("summary").click()
    expect(page.get_by_role("table")).to_have_count(0)


def test_rows_are_filtered_as_one_types(world: World, opened: Opened) -> None:
    page = opened(f"{world.daemon.url}/people")
    page.get_by_role("searchbox").fill("LOVE")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("status")).to_have_text("1 of 50")


def test_a_person_finds_what_failed_and_the_command_by_keyboard_alone(world: World, opened: Opened) -> None:
    page = opened(world.daemon.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    grace = page.locator("a[href='/people/grace']")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.pathname") == "/people/grace":
            break
    expect(grace.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/people/grace$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text(SCRIPT)
    expect(page.get_by_text("reconcile retry grace tool")).to_be_visible()
    expect(page.get_by_role("link", name="People", exact=True).first).to_have_attribute("aria-current", "true")


def test_narrow_tables_become_labelled_cards(world: World, opened: Opened) -> None:
    page = opened(f"{world.daemon.url}/services/tool", NARROW)
    cell = page.locator("td[data-label=Status]").first
    assert page.evaluate("cell => getComputedStyle(cell, '::before').content", cell.element_handle()) == '"Status"'
    assert overflow(page) <= 0


def test_sign_in_and_out(tmp_path_factory: pytest.TempPathFactory, gnupg_home: GnupgHome, opened: Opened) -> None:
    repo = Repo(tmp_path_factory.mktemp("locked") / "repo", gnupg_home)
    repo.settings(interval="1d")
    repo.initial_data("reconciler", {"PAGES_TOKEN": TOKEN})
    repo.write("hires/.gitkeep", "")
    repo.write("manifests/.gitkeep", "")
    repo.commit()
    with Daemon(repo) as daemon:
        assert daemon.get("/metrics")[0] == 401
        page = opened(f"{daemon.url}/history?since=7d", NARROW)
        assert violations(page) == []
        page.get_by_label("Token").fill("a guess")
        page.keyboard.press("Enter")
        expect(page.get_by_text("That is not the token.")).to_be_visible()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{daemon.url}/history?since=7d")
        expect(page.get_by_role("heading", level=1)).to_have_text("History")
        assert violations(page) == []
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in cookie["value"]
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        assert TOKEN not in daemon.log
