"""The documentation as a site: whole in itself; of use from a folder, on a phone, by keyboard, without JavaScript."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from os.path import normpath
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.servers import PATIENCE

ROOT = Path(__file__).parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; its pages come from the folder."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: the pages were not tried in a browser")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new page; any error in it, or anything that it asks another host for, fails the test."""
    context = browser.new_context(**getattr(request, "param", {"viewport": DESK}))
    opened = context.new_page()
    opened.set_default_timeout(1000 * PATIENCE)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    opened.on("request", lambda asked: None if asked.url.startswith("file://") else wrong.append(asked.url))
    yield opened
    context.close()
    assert wrong == []


def pages(site: Path) -> dict[str, str]:
    """Every page by its path."""
    return {str(file.relative_to(site)): file.read_text() for file in sorted(site.rglob("*.html"))}


def test_every_page_is_there_and_read_as_markdown(site: Path) -> None:
    built = pages(site)
    assert {
        str(page.relative_to(ROOT / "docs").with_suffix(".html")) for page in (ROOT / "docs").rglob("*.md")
    } <= built.keys()
    unread = re.compile(r"```|<p>\||<p><code>[^<]*\n|\\\|")
    assert {name: shown for name, text in built.items() if (shown := unread.findall(text))} == {}


def test_nothing_asks_another_host(site: Path) -> None:
    outside = re.compile(
        r"""<(?:script|link|img|iframe|form|source)[^>]*(?:src|href|action)=["']?(?:https?:)?//[^"'\s>]+"""
        r"""|url\(["']?(?:https?:)?//[^)]+|@import[^;]+|fetch\(|XMLHttpRequest|\bimport\("""
    )
    files = [*site.rglob("*.html"), *site.rglob("*.css"), site / "assets" / "site.js"]
    assert {file.name: hit for file in files if (hit := outside.findall(file.read_text()))} == {}


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    built = pages(site)
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in built.items()}
    lost = []
    for name, text in built.items():
        for target in re.findall(r'\bhref="([^"]*)"', text):
            if re.match(r"https?:", target):
                continue
            path, anchor = urldefrag(unquote(target))
            there = normpath(Path(name).parent / path) if path else name
            if not (site / there).is_file() or (anchor and anchor not in anchors[there]):
                lost.append((name, target))
    assert lost == []


def test_every_page_can_be_reached_from_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text()
    linked = set(re.findall(r'<a href="([^"#]+\.html)"', start))
    assert pages(site).keys() - linked == set()


def test_search_works_from_a_folder(site: Path, page: Page) -> None:
    page.goto((site / "how-to" / "mend.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("max_change_percent")
    page.wait_for_selector(".results li")
    assert "section" in page.inner_text(".results .status")
    first = page.locator(".results a").first
    assert "max_change_percent" in page.inner_text(".results li >> nth=0")
    page.keyboard.press("ArrowDown")
    assert first.evaluate("link => link === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"\.html#"))


def test_a_phrase_comes_before_its_words(site: Path, page: Page) -> None:
    page.goto((site / "index.html").as_uri())
    page.fill("#search", "is past, and hr has the person")
    page.wait_for_selector(".results li")
    assert page.inner_text(".results a >> nth=0").endswith("When it is refused")
    page.fill("#search", "no-such-word-anywhere")
    page.wait_for_selector(".results .status:text('Nothing found')")
    page.keyboard.press("Escape")
    assert page.locator(".results").is_hidden()


def test_somebody_leaves_is_found_under_offboarding(site: Path, page: Page) -> None:
    page.goto((site / "index.html").as_uri())
    page.fill("#search", "somebody leaves")
    page.wait_for_selector(".results li")
    assert page.inner_text(".results a >> nth=0") == "Prune and offboard: Somebody leaves"


def test_code_is_copied_as_it_stands(site: Path, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto((site / "how-to" / "upgrade.html").as_uri())
    block = page.locator(".code").first
    block.hover()
    block.locator("button").click()
    page.wait_for_selector("button:text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == block.locator("pre").inner_text()


@pytest.mark.parametrize("page", [{"viewport": PHONE}], indirect=True, ids=["390"])
def test_every_page_fits_a_phone(site: Path, page: Page) -> None:
    wide = []
    for name in pages(site):
        page.goto((site / name).as_uri())
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(name)
    assert wide == []
    page.goto((site / "settings.html").as_uri())
    said = page.locator("td[data-column=holds]").first
    assert said.evaluate("cell => cell.getBoundingClientRect().right <= innerWidth")
    page.get_by_text("All pages").click()
    page.get_by_role("link", name="Tutorial", exact=True).click()
    page.wait_for_url(re.compile(r"tutorial\.html$"))


@pytest.mark.parametrize("page", [{"viewport": DESK, "java_script_enabled": False}], indirect=True, ids=["no-script"])
def test_search_without_javascript_shows_a_hint(site: Path, page: Page) -> None:
    page.goto((site / "index.html").as_uri())
    assert "Search needs JavaScript" in page.inner_text("header")
    assert page.locator("#search").count() == page.locator("button").count() == 0
    assert page.get_by_role("link", name="Back up and restore", exact=True).is_visible()


@pytest.mark.parametrize(
    "page",
    [{"viewport": DESK, "color_scheme": "light"}, {"viewport": PHONE, "color_scheme": "dark"}],
    indirect=True,
    ids=["light", "dark"],
)
def test_a_page_is_for_everybody(site: Path, page: Page) -> None:
    page.goto((site / "how-to" / "offboard.html").as_uri())  # code in two languages, and a table
    page.fill("#search", "token")
    page.wait_for_selector(".results li")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": rules, "preload": False})
    told = [
        (each["id"], node["html"], node["failureSummary"])
        for each in found.response["violations"]
        for node in each["nodes"]
    ]
    assert told == []


def test_print_shows_only_the_content(site: Path, page: Page) -> None:
    page.goto((site / "settings.html").as_uri())
    page.emulate_media(media="print")
    assert page.locator("main").is_visible()
    for left_out in ("header", "nav.site", "nav.page", "footer"):
        assert page.locator(left_out).is_hidden()
