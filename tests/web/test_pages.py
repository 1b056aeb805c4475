"""The pages of a daemon at work: what each shows, how names are escaped, and what nonsense is answered with."""

from __future__ import annotations

import html
import json
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.model.form import FormField
from reconciler.model.value import replace
from reconciler.web.daemon_view import GitView
from reconciler.web.views import roles_of
from tests.ledger.states import ADA
from tests.repo import Daemon, Repo, call_cli
from tests.servers import PATIENCE, AccountService, ask, eventually
from tests.web.world import LONG, QUOTED, SAID, SCRIPT, World

PAGES = (
    "/",
    "/people",
    "/people/ada",
    "/people/grace",
    "/services/tool",
    "/services/chat",
    "/privileged",
    "/history",
    "/reviews",
)


def page(world: World, path: str, status: int = 200) -> str:
    found, text = world.daemon.get(path)
    assert found == status, text
    return text


def words(world: World, path: str, status: int = 200) -> str:
    """What a person reads on a page."""
    main = page(world, path, status).partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main.partition(">")[2])).split())


def test_overview_sums_up_and_lists_what_needs_a_person(world: World) -> None:
    text = words(world, "/")
    assert "Access is as agreed in 1 of 71 cases, 62 on the way; 8 things need a person." in text
    for wanted in (
        "2 errors in files hires/alan.yaml:",
        "reconcile validate",
        "tool: 1 case where access failed, and nothing more runs on its own",
        "reconcile retry grace tool",
        "chat does not answer since",
        "answered 503: down for maintenance",
        "reconcile --dry-run --integration=chat",
        "wiki: 1 case where access cannot be given as agreed",
        "reconcile initial-data set wiki",
        "tool: 1 case where access is still there, and no longer wanted",
        "reconcile revoke left tool",
        "accounts that git does not know",
        "reconcile unmanaged --integration=tool",
        "reconcile adopt --all tool",
    ):
        assert wanted in text
    assert world.repo.git("rev-parse", "HEAD") in page(world, "/")
    assert re.search(r"Ends this week .* Ada Lovelace ada tool [-\d]+ \d\d:\d\d ● present Services", text)


def test_people_are_listed_page_by_page_and_filtered(world: World) -> None:
    first, second = page(world, "/people"), page(world, "/people?page=2")
    assert "66 people, page 1 of 2" in first
    assert 'href="/people/ada"' in first
    assert 'href="/people/ada"' not in second
    assert 'href="/people/p59"' in second
    assert "1 person" in words(world, "/people?status=failed")
    assert "Ada Lovelace ada ada@example.com" in words(world, "/people?hire=ADA%40example")
    assert "1 person" in words(world, f"/people?hire={quote(QUOTED)}")
    assert "2 people" in words(world, "/people?integration=wiki")
    assert "Nobody." in words(world, "/people?hire=nobody-of-this-id")


def test_person_page_shows_givers_and_service_messages(world: World) -> None:
    text = words(world, "/people/grace")
    assert "Ida Admin <ida@example.com>" in text
    assert "2 attempts" in text
    assert f"failed: request 1 of 1 (POST): answered 422: {SAID}" in text
    assert "POST http://127.0.0.1" in text
    begun = world.repo.git("rev-list", "--max-parents=0", "HEAD")
    assert begun in page(world, "/people/grace")
    assert "scheduled" in words(world, "/people/later")
    assert "begins on 2099-01-01" in words(world, "/people/later")


def test_leavers_page_says_when_and_by_which_commit_access_went(world: World) -> None:
    (commit,) = world.repo.git("log", "--format=%H", "--diff-filter=D", "--", "hires/left.yaml").split()
    at = world.repo.git("show", "--no-patch", "--format=%cd", "--date=format:%Y-%m-%d %H:%M", commit)
    text = words(world, "/people/left")
    assert f"Had to go {at}" in text
    assert "Gone not yet" in text
    assert "by Ida Admin <ida@example.com>" in text.partition("Went with")[2]
    assert commit in page(world, "/people/left")


def test_a_services_page_has_its_grants_accounts_and_outages(world: World) -> None:
    text = words(world, "/services/tool")
    for wanted in (
        "accounts listed, ",
        "stranger@example.com",
        "gone@example.com",
        "page 1 of 2",
        "Access is as agreed in 1 of 64 cases.",
    ):
        assert wanted in text
    assert re.search(
        r"Role Status .* Ada Lovelace ada tool ◆ owner privileged ● present",
        words(world, "/services/tool?hire=ada"),
    )
    assert "left tool member ◆ orphaned" in words(world, "/services/tool?status=orphaned")
    assert "p05" not in words(world, "/services/tool?status=orphaned")
    down = words(world, "/services/chat")
    assert "not answering" in down
    assert "now answered 503: down for maintenance" in down


def test_privileged_access_is_listed_over_all_services(world: World) -> None:
    text = words(world, "/privileged")
    assert re.search(r"1 role .* Person Integration Role .* Ada Lovelace ada tool ◆ owner ● present Ida Admin", text)
    assert "nobody is named" in text
    assert "grace" not in text
    assert "Nobody whom this filter means." in words(world, "/privileged?hire=grace")
    assert "did you mean tool?" in words(world, "/privileged?integration=tol", 400)
    assert 'href="/privileged"' in page(world, "/")


def test_role_that_somebody_gave_at_the_service_is_listed_and_reviewed(repo: Repo) -> None:
    with AccountService() as tool:
        manifest = tool.manifest(listing=True)
        manifest["form"] = [{"id": "ROLE", "name": "Role", "type": "input", "privileged": ["owner"]}]
        manifest["execute"][0]["data"]["role"] = "{{ROLE}}"
        manifest["exists"]["where"] = {"role": "{{ROLE}}"}
        repo.settings(interval="1d")
        repo.manifest("tool", manifest)
        for hire, wanted, has in (("ada", "member", "owner"), ("bob", "owner", "member")):
            repo.hire(hire, {"integration": "tool", "values": {"ROLE": wanted}})
            repo.commit()
            call_cli(repo, "--yes")
            tool.people[f"{hire}@example.com"]["role"] = has
        call_cli(repo, "--yes")
        assert call_cli(repo, "review", "start", "2026-Q4").code == 0
        text = (repo.root / "config/reviews/2026-Q4/tool.yaml").read_text()
        assert re.findall("who: (.*)|values: (.*)", text) == [
            ("ada", ""),
            ("", "{ROLE: owner}"),
            ("bob", ""),
            ("", "{ROLE: member}"),
        ]
        with Daemon(repo) as daemon:
            shown = eventually(lambda: re.findall("people/(ada|bob)", daemon.get("/privileged")[1]))
    assert set(shown) == {"ada"}


def test_role_of_access_that_git_no_longer_has_is_that_of_the_ledger() -> None:
    role = FormField(id="ROLE", type="input", privileged=["owner"])
    for value, more in (("owner", True), ("member", False)):
        assert roles_of(replace(ADA, snapshot={"ROLE": value}), [role], GitView()) == [(value, more)]


def test_the_history_has_its_digest_and_the_filters_of_the_command(world: World) -> None:
    with StateLocation(f"sqlite:///{world.repo.state}", world.repo.root).reader() as ledger:
        digest = ledger.history.verify().digest
    assert digest in page(world, "/history")
    assert digest in page(world, "/")
    failed = words(world, "/history?event=attempt_failed&hire=grace&integration=tool&since=1h")
    assert "2 lines" in failed
    assert SAID in failed
    assert "Nothing that this filter means." in words(world, "/history?until=2020-01-01")
    assert "Ada Lovelace ada / tool ● adopted" in words(world, "/history?event=adopted&hire=ada")
    assert "3 lines" in words(world, "/history?event=orphaned&event=adopted")


def test_reviews_page_shows_progress(world: World) -> None:
    text = words(world, "/reviews")
    assert re.search(r"2026-Q4 .* tool ◐ under way 2 of \d+ lines 1 of 1", text)
    assert "reconcile review check 2026-Q4" in text
    assert "The access review 2026-Q4 is not done" in words(world, "/")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/people?status=presnet", "did you mean present?"),
        ("/people?integration=tol", "did you mean tool?"),
        ("/people?colour=red", "no such filter here"),
        ("/people?page=0", "a number from 1 on"),
        ("/people?page=-1", "a number from 1 on"),
        ("/people?page=x", "a number from 1 on"),
        ("/people?page=٣", "a number from 1 on"),
        ("/people?page=1&page=2", "it stands there twice"),
        ("/people?hire=" + "x" * 300, "at most 255 characters"),
        ("/people?hire=\0", "no name has a null character"),
        ("/people?" + "&".join(f"status={n}" for n in range(60)), "at most 50 filters"),
        ("/history?event=explode", "there is no explode"),
        ("/history?since=yesterday", "write a date"),
        ("/history?since=2026-02-30", "write a date"),
        ("/history?since=2026-12-01&until=2026-11-01", "until lies before since"),
        ("/history?status=failed", "no such filter here"),
        ("/services/tool?event=lost", "no such filter here"),
        ("/services/tool?status=" + SCRIPT, "there is no <script>"),
        ("/?x=1", "no such filter here"),
        ("/people/ada?hire=x", "no such filter here"),
    ],
)
def test_a_filter_that_is_nonsense_is_refused_with_what_is_allowed(world: World, path: str, said: str) -> None:
    where, _, query = path.partition("?")
    text = page(world, f"{where}?{quote(query, safe='=&')}", 400)
    assert said in html.unescape(text)
    assert SCRIPT not in text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/people/nobody", "Nobody has the id nobody"),
        ("/people/broken", "Nobody has the id broken"),
        ("/people/" + quote(SCRIPT, safe=""), "There is no page of this address."),
        ("/people/" + quote("<script>", safe=""), "Nobody has the id <script>"),
        ("/nowhere/at/all", "There is no page of this address."),
        ("/services/nowhere", "There is no integration nowhere"),
        ("/people?page=4", "There is no page 4: the list ends with page 2."),
        ("/history?page=1000000", "There is no page 1,000,000"),
    ],
)
def test_missing_page_is_404(world: World, path: str, said: str) -> None:
    assert said in words(world, path, 404)


def test_an_empty_filter_is_none_for_a_form_sends_all_its_fields(world: World) -> None:
    assert "66 people" in words(world, "/people?hire=&integration=&status=&page=1")


def test_names_are_escaped_wherever_they_stand(world: World) -> None:
    paths = [*PAGES, f"/people/{quote(QUOTED, safe='')}", "/people/alan", f"/people?{urlencode({'hire': QUOTED})}"]
    for path in paths:
        text = page(world, path)
        assert SCRIPT not in text
        assert QUOTED not in text
        assert "<img" not in text
        assert "\u202e" not in text
    assert LONG in words(world, "/people/alan")
    assert SCRIPT in words(world, "/people/grace")
    assert "o'brien@example.com" in words(world, paths[-3])


def test_statuses_of_a_person_are_told_to_programs(world: World) -> None:
    asked = Request(f"{world.daemon.url}/people/grace", headers={"Accept": "application/json"})
    with closing(urlopen(asked, timeout=PATIENCE)) as answer:
        told = json.loads(answer.read())["grants"]
    assert told
    assert all(each.keys() == {"access", "status"} for each in told)


def test_pages_are_read_only(world: World) -> None:
    for path in PAGES:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(world.daemon.url, method, path)[0] == 405
        with closing(urlopen(Request(world.daemon.url + path, method="HEAD"), timeout=PATIENCE)) as answer:
            assert (answer.status, answer.read()) == (200, b"")
    assert "<h1>Overview" in page(world, "/sign-in")


def test_a_page_writes_nothing(world: World) -> None:
    files = [world.repo.state, Path(f"{world.repo.state}-wal")]

    def unchanged() -> bool:
        """Whether a round over all pages left everything as it was; the daemon itself may still end a pass."""
        before = [file.read_bytes() for file in files]
        heard = len(world.tool.requests), len(world.chat.requests)
        for path in (*PAGES, "/people/nobody", "/people?status=x"):
            world.daemon.get(path)
        after = len(world.tool.requests), len(world.chat.requests)
        return [file.read_bytes() for file in files] == before and after == heard

    assert eventually(unchanged)


def test_a_page_loads_nothing_from_another_host_and_runs_nothing_that_stands_in_it(world: World) -> None:
    for path in PAGES:
        text = page(world, path)
        assert re.findall(r"(?:src|href|action)=\"(?!/|#|\?)([^\"]*)", text) == []
        assert re.findall(r"<[^>]*\s(?:on\w+|style)=", text) == []
        assert re.findall(r"<script(?! src=)", text) == []
        assert "<style" not in text


def test_only_the_files_of_the_pages_are_served(world: World) -> None:
    assert world.daemon.get("/static/style.css")[0] == 200
    for name in ("nothing.css", "..%2fapp.py", "%2e%2e/app.py", "style.css/..", ""):
        assert world.daemon.get(f"/static/{name}")[0] == 404
