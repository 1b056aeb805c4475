"""docs/design/rules.md, "Exists": checks, listings, choices that the service offers, services that share their
secrets."""

from __future__ import annotations

import pytest

from reconciler.cli.output.report import summary
from reconciler.engine.observe.listings import Listings
from reconciler.model.grant import Key
from reconciler.model.status import Action, Status
from reconciler.model.verdict import Cause
from tests.engine.harness import Machine, row
from tests.repo import Repo, free_port
from tests.servers import AccountService

# Checks

LENIENT = {"fail_when_4xx_response_code": False}
ANSWERS = {
    "the text is there": (200, {"email": "ada@example.com"}, {}, Status.PRESENT),
    "in other case": (200, {"email": "ADA@Example.com"}, {}, Status.PRESENT),
    "within a longer address": (200, {"email": "nada@example.com"}, {}, Status.MISSING),
    "a 404 is failed by default": (404, "", {}, Status.UNKNOWN),
    "a 404 whatever its text repeats": (404, "no ada@example.com", LENIENT, Status.MISSING),
    "a 404 that is listed": (404, "no ada@example.com", {"status_code": [404]}, Status.PRESENT),
    "a 410": (410, "", LENIENT, Status.MISSING),
    "another 4xx is failed by default": (400, "ada@example.com", {}, Status.UNKNOWN),
    "another 4xx that does not fail": (400, "none", LENIENT, Status.MISSING),
    "a wrong token is no absent person": (401, "", LENIENT, Status.UNKNOWN),
    "forbidden": (403, "", LENIENT, Status.UNKNOWN),
    "too many requests": (429, "", LENIENT, Status.UNKNOWN),
    "a 5xx": (503, "ada@example.com", {}, Status.UNKNOWN),
    "a redirect elsewhere": (302, "ada@example.com", {}, Status.UNKNOWN),
    "a status that is not the listed one": (202, "index is being built", {"status_code": [200]}, Status.UNKNOWN),
    "not even where a 4xx does not fail": (202, "building", {"status_code": [200]} | LENIENT, Status.UNKNOWN),
    "a 404 that does not fail, and is not listed": (404, "", {"status_code": [200]} | LENIENT, Status.MISSING),
    "a listed 401": (401, "ada@example.com", {"status_code": [200, 401]}, Status.PRESENT),
}


@pytest.mark.parametrize(("status", "body", "keys", "found"), ANSWERS.values(), ids=ANSWERS)
def test_answers_and_their_verdicts(machine, accounts, repo, status, body, keys, found):
    manifest = accounts.manifest(team=True)
    del manifest["exists"]["fail_when_4xx_response_code"]
    manifest["exists"] |= keys
    repo.manifest("tool", manifest)
    repo.commit()
    headers = {"Location": "http://127.0.0.1:9/"} if status == 302 else {}
    accounts.fail_next(1, status, method="GET", body=body, headers=headers)
    planned = row(machine.plan(), "ada", "tool")
    assert planned.status is found
    assert planned.action is (Action.EXECUTE if found is Status.MISSING else Action.NONE)
    assert accounts.calls("POST") == []


def test_a_check_with_a_status_and_no_text(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["exists"] = {"url": f"{accounts.url}/users/{{{{email}}}}", "status_code": [200]} | LENIENT
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(machine.plan(), "ada", "tool").status is Status.MISSING
    accounts.add("ada@example.com")
    assert row(machine.plan(), "ada", "tool").status is Status.PRESENT


def test_a_dry_run_sends_checks_and_changes_nothing(machine, accounts, repo):
    repo.state.unlink()
    planned = row(machine.plan(), "ada", "tool")
    assert [request["method"] for request in planned.requests] == ["POST", "POST"]
    assert accounts.lines() == ["GET /users/ada@example.com"]
    assert not repo.state.exists()


# Listings


@pytest.fixture
def listed(repo, accounts) -> Machine:
    """Thirty hires; the tool has a listing of a hundred a page, and twenty-eight of them in it among others."""
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("tool", accounts.manifest(listing=True))
    accounts.add(*(f"someone{number}@example.com" for number in range(180)))
    for number in range(30):
        repo.hire(f"h{number:02}", "tool")
        if number < 28:
            accounts.add(f"H{number:02}@Example.com")
    repo.commit()
    return Machine(repo)


def counts(accounts):
    lists = [call for call in accounts.calls("GET") if call.path == "/users"]
    return len(lists), len(accounts.calls("GET")) - len(lists)


def test_over_ten_grants_are_answered_by_the_listing_and_the_absent_get_a_check_each(listed, accounts):
    for dry in (True, False):
        accounts.requests.clear()
        report = listed.plan() if dry else listed.reconcile()
        assert counts(accounts) == (3, 2 if dry else 4), "what was executed is checked once more"
        assert sum(item.status is Status.PRESENT for item in report.rows) == (28 if dry else 30)
    assert len(accounts.calls("POST")) == 2


ODD = {
    "a parent folder": ("..", "would make a part of the URL's path '..'"),
    "a line break": ("a\nb", "line break or another control character"),
    "nothing": ("", "is empty, and would leave a part of the URL's path out"),
    "too long": ("a" * 17_000, "no server takes more than"),
}


@pytest.mark.parametrize(("value", "why"), ODD.values(), ids=ODD)
def test_whom_a_listing_shows_is_blocked_where_the_check_could_not_be_sent(listed, accounts, repo, value, why):
    """Of all others the check is not even rendered, whether they come before or after."""
    manifest = accounts.manifest(listing=True, team=True)
    manifest["execute"].pop()  # only the check uses the team
    manifest["exists"] |= {"url": f"{accounts.url}/of/{{{{TEAM}}}}/{{{{email}}}}", "headers": {"X-Of": "{{TEAM}}"}}
    repo.manifest("tool", manifest)
    for number in range(15):
        team = value if number in (0, 7) else f"team{number}"
        repo.hire(f"h{number:02}", {"integration": "tool", "values": {"TEAM": team}})
    repo.commit()
    report = listed.plan(hires=[f"h{number:02}" for number in range(15)])
    blocked = [each for each in report.rows if each.status is Status.BLOCKED]
    assert [each.hire for each in blocked] == ["h00", "h07"]
    assert all(why in each.reason for each in blocked)
    assert sum(each.status is Status.PRESENT for each in report.rows) == 13
    assert counts(accounts)[1] == 0


def test_ten_grants_are_asked_for_one_by_one(listed, accounts):
    listed.plan(hires=[f"h{number:02}" for number in range(10)])
    assert counts(accounts) == (0, 10)
    accounts.requests.clear()
    listed.plan(hires=[f"h{number:02}" for number in range(11)])
    assert counts(accounts) == (3, 0)


def test_an_intervals_listing_does_not_show_what_was_lost_since_it_was_read(listed, accounts):
    listings = Listings(listed.clock.now())
    listings.expect({"tool": 30})
    assert {item.status for item in listed.reconcile(listings=listings).rows} == {Status.PRESENT}
    del accounts.people["h03@example.com"]
    accounts.fail_next(1, 500, method="POST")
    listed.clock.turn(minutes=1)
    assert row(listed.reconcile(hires=["h03"]), "h03", "tool").status is Status.RETRYING
    accounts.requests.clear()
    assert row(listed.reconcile(listings=listings), "h03", "tool").status is Status.RETRYING
    assert counts(accounts) == (0, 3), "so do those who were made since"


@pytest.mark.parametrize("page", [1, 2])
def test_a_page_that_fails_gives_way_to_single_checks(listed, accounts, page):
    def broken(received):
        if int(received.query.get("page", ["1"])[0]) == page:
            return 500
        return accounts._list(received)

    accounts.route("GET", "/users", broken)
    report = listed.plan()
    assert counts(accounts) == (page, 30)
    assert sum(item.status is Status.PRESENT for item in report.rows) == 28


def test_absence_in_the_listing_is_never_enough(listed, accounts):
    """The listing is behind; the check knows better."""
    accounts.route("GET", "/users", lambda _received: {"users": [], "next_page": None})
    report = listed.plan()
    assert counts(accounts) == (1, 30)
    assert sum(item.status is Status.PRESENT for item in report.rows) == 28


def test_a_listing_that_leads_elsewhere_is_not_followed(listed, accounts, others):
    accounts.route(
        "GET", "/users", lambda _received: {"users": [], "next_page": {"uri": f"{others.url}/users?limit=100"}}
    )
    listed.plan()
    assert counts(accounts) == (1, 30)
    assert others.calls() == []


def test_pages_by_token(listed, accounts, repo):
    manifest = accounts.manifest(listing=True)
    del manifest["exists"]["list"]["next_page_from"]
    manifest["exists"]["list"] |= {
        "next_page_token_from": "token",
        "next_page": f"{accounts.url}/users?limit=100&page={{{{NEXT_PAGE_TOKEN}}}}",
    }

    def page(received):
        number = int(received.query.get("page", ["1"])[0])
        return {**accounts._list(received), "token": number + 1 if number < 3 else None}

    accounts.route("GET", "/users", page)
    repo.manifest("tool", manifest)
    repo.commit()
    listed.plan()
    assert counts(accounts) == (3, 2)


# A listing's items, where the check compares


@pytest.fixture
def compared(listed: Machine, accounts, repo) -> Machine:
    """Everybody is to be a member, and the listing says what each one is. Only a single check stores something."""
    manifest = accounts.manifest(listing=True)
    manifest["exists"] |= {"where": {"role": "member"}, "inactive": {"active": False}, "match": "email"}
    manifest["exists"]["store_data"] = {"MEMBER": "id"}
    for person in accounts.people.values():
        person.update(role="member", active=True)
    accounts.add("h28@example.com", "h29@example.com")
    accounts.people["h28@example.com"].update(role="member", active=True)
    accounts.people["h29@example.com"].update(role="member", active=True)
    repo.manifest("tool", manifest)
    repo.commit()
    return listed


def test_listing_replaces_checks_of_matching_accounts(compared, accounts):
    report = compared.plan()
    assert counts(accounts) == (3, 0)
    assert {item.status for item in report.rows} == {Status.PRESENT}


@pytest.mark.parametrize("change", [{"active": False}, {"role": "owner"}], ids=["switched off", "another role"])
def test_account_that_differs_in_listing_is_not_present(compared, accounts, change):
    accounts.people["h03@example.com"].update(change)
    report = compared.plan()
    assert counts(accounts) == (3, 1)
    assert row(report, "h03", "tool").status is Status.DIFFERS
    assert sum(item.status is Status.PRESENT for item in report.rows) == 29


def test_check_overrides_an_outdated_listing(compared, accounts):
    behind = [{**person, "role": "owner"} for person in accounts.people.values()]
    accounts.route("GET", "/users", lambda _received: {"users": behind, "next_page": None})
    report = compared.plan()
    assert counts(accounts) == (1, 30)
    assert {item.status for item in report.rows} == {Status.PRESENT}


@pytest.mark.parametrize("path", ["role", "active"])
def test_incomplete_listing_item_proves_presence_only(compared, accounts, path):
    less = [{key: person[key] for key in person if key != path} for person in accounts.people.values()]
    accounts.route("GET", "/users", lambda _received: {"users": less, "next_page": None})
    accounts.people["h03@example.com"]["active"] = False
    report = compared.plan()
    assert counts(accounts) == (1, 30)
    assert row(report, "h03", "tool").reason.startswith("switched off")


def test_listing_item_with_a_null_is_as_wanted_where_null_is_compared(compared, accounts, repo):
    manifest = accounts.manifest(listing=True)
    manifest["exists"] |= {"inactive": {"left": {"not": None}}, "where": {"role": {"not": "guest"}}}
    repo.manifest("tool", manifest)
    repo.commit()
    for person in accounts.people.values():
        person["left"] = None
    accounts.people["h03@example.com"]["left"] = "2026-01-01"
    accounts.people["h04@example.com"]["role"] = "guest"
    del accounts.people["h05@example.com"]["left"]  # which the listing may only leave out
    report = compared.plan()
    assert counts(accounts) == (3, 3)
    assert sum(item.status is Status.PRESENT for item in report.rows) == 28


def test_check_decides_on_duplicate_listing_items(compared, accounts):
    twice = [*accounts.people.values(), {**accounts.people["h03@example.com"], "active": False}]
    accounts.route("GET", "/users", lambda _received: {"users": twice, "next_page": None})
    compared.plan()
    assert counts(accounts) == (1, 1)


# Choices that the service offers


@pytest.fixture
def choosing(machine: Machine, accounts: AccountService, repo: Repo) -> Machine:
    """The team is a choice, fetched from the service."""
    accounts.teams |= {"7": [], "8": []}
    repo.manifest("tool", with_choice(accounts))
    repo.commit()
    return machine


def with_choice(accounts, **keys):
    manifest = accounts.manifest(team=True, revoke=True)
    choice = {"id": "TEAM", "type": "choice", "url": f"{accounts.url}/teams", "method": "GET", "data_from": "data"}
    manifest["form"] = [choice | keys]
    return manifest


def test_a_choice_by_name_is_its_value(choosing, accounts, repo):
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 8"}}})
    repo.commit()
    planned = row(choosing.plan(), "ada", "tool")
    assert planned.requests[1]["url"] == f"{accounts.url}/teams/8/members"
    assert row(choosing.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.teams["8"] == ["ada@example.com"]
    assert not row(choosing.reconcile(), "ada", "tool").changed
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    assert not row(choosing.reconcile(), "ada", "tool").changed, "the same team, by its value"


def test_a_name_that_is_not_offered_is_invalid_before_anything_is_executed(choosing, accounts, repo):
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 9"}}})
    repo.commit()
    for report in (choosing.plan(), choosing.reconcile(), choosing.reconcile()):
        found = row(report, "ada", "tool")
        assert (found.status, found.action) == (Status.INVALID, Action.NONE)
        assert "no option is named 'Team 9'" in found.reason
    assert accounts.calls("POST") == []
    accounts.teams["9"] = []
    assert row(choosing.reconcile(), "ada", "tool").status is Status.PRESENT


def test_two_options_of_one_name_are_none(choosing, accounts, repo):
    accounts.route("GET", "/teams", {"data": [{"id": "1", "name": "Same"}, {"id": "2", "name": "Same"}]})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Same"}}})
    repo.commit()
    assert "several options are named 'Same'" in row(choosing.plan(), "ada", "tool").reason


def test_options_are_asked_for_once_a_pass_and_only_for_names(choosing, accounts, repo):
    for name in ("bob", "cleo"):
        repo.hire(name, {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    choosing.reconcile()
    assert len(accounts.calls("GET", "/teams")) == 1


def test_a_value_that_stands_in_the_file_is_sent_without_a_look_up(choosing, accounts, repo):
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(1, 500, method="GET", prefix="/teams")
    assert row(choosing.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("GET", "/teams") == []
    assert accounts.teams["7"] == ["ada@example.com"]


def test_look_up_that_needs_a_hire_is_named_where_it_blocks(choosing, accounts, repo):
    manifest = with_choice(accounts)
    manifest["headers"]["X-For"] = "{{email}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    blocked = row(choosing.plan(), "ada", "tool")
    told = "the options of TEAM: variable {{email}} has no value"
    assert (blocked.status, blocked.reason) == (Status.BLOCKED, told)


def test_options_that_cannot_be_fetched_execute_nothing(choosing, accounts, repo):
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    accounts.fail_next(1, 500, method="GET", prefix="/teams")
    unknown = row(choosing.reconcile(), "ada", "tool")
    assert (unknown.status, unknown.action) == (Status.UNKNOWN, Action.NONE)
    assert "the options of TEAM" in unknown.reason
    assert accounts.calls("POST") == []
    assert row(choosing.reconcile(), "ada", "tool").status is Status.PRESENT


def test_several_choices_are_a_list(choosing, accounts, repo):
    manifest = with_choice(accounts, type="multiple_choice")
    manifest["execute"] = [{"url": f"{accounts.url}/users", "data": {"email": "{{email}}", "teams": "{{TEAM}}"}}]
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": [{"name": "Team 7"}, "8"]}})
    repo.commit()
    assert row(choosing.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("POST", "/users")[0].json()["teams"] == ["7", "8"]


def test_a_choice_by_name_waits_for_initial_data_like_everything_else(choosing, accounts, repo):
    manifest = with_choice(accounts)
    manifest["initial_data_form"] = [{"id": "TOKEN", "name": "Token"}]
    manifest["headers"]["Authorization"] = "Bearer {{TOKEN}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    blocked = row(choosing.plan(), "ada", "tool")
    assert (blocked.status, "TOKEN" in blocked.reason) == (Status.BLOCKED, True)
    assert accounts.calls() == []


def test_same_account_chosen_by_name_is_recognized(choosing, accounts, repo):
    """An orphan's team stands in its check's URL; the twin gives the same team by its name."""
    manifest = with_choice(accounts)
    manifest["exists"]["url"] = f"{accounts.url}/users/{{{{email}}}}?team={{{{TEAM}}}}"
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    choosing.reconcile()
    repo.hire("ada", {"integration": "tool", "name": "again", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    report = choosing.reconcile()
    assert "the same account as ada/again" in row(report, "ada", "tool").reason
    accounts.fail_next(1, 500, method="GET", prefix="/teams")
    assert row(choosing.reconcile(), "ada", "tool").status is Status.ORPHANED, "who knows whose it is"
    assert accounts.calls("DELETE") == []


def test_same_account_that_another_hire_chose_by_name_is_recognized(choosing, accounts, repo):
    manifest = with_choice(accounts)
    box = f"{accounts.url}/users/{{{{TEAM}}}}@example.com"
    manifest["exists"] |= {"url": box, "expected": "{{TEAM}}@example.com"}
    manifest["revoke"] = [{"url": box, "method": "DELETE"}]
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    accounts.add("7@example.com")
    choosing.reconcile()
    repo.hire("ada")
    repo.commit()
    left = row(choosing.reconcile(), "ada", "tool")
    assert (left.status, left.reason) == (
        Status.ORPHANED,
        "no longer in git; it is the same account as bob/tool, which is wanted",
    )
    assert accounts.calls("DELETE") == []


def test_fixed_items_fit_or_make_the_entry_invalid(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    items = [{"id": "7", "name": "Design"}, {"id": "8", "name": "Research"}]
    manifest["form"] = [{"id": "TEAM", "type": "choice", "items": items}]
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Design"}}})
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "Design"}})
    repo.commit()
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert row(report, "bob", "tool").status is Status.INVALID
    assert "'Design' is not among the items: 7 (Design), 8 (Research)" in row(report, "bob", "tool").reason


# Services


def test_manifests_of_a_service_share_its_initial_data_and_its_hosts(repo, accounts):
    repo.settings(gnupg_home=repo.gnupg.path)
    accounts.token = "shared-token-0"
    first = accounts.manifest() | {"service": "suite"}
    second = {
        "service": "suite",
        "headers": first["headers"],
        "exists": {"url": f"{accounts.url}/teams/{{{{email}}}}", "expected": "{{email}}"},
        "execute": [{"url": f"{accounts.url}/teams/{{{{email}}}}/members", "data": {"email": "{{email}}"}}],
    }
    accounts.route("GET", "/teams/{email}", lambda _received, email: {"in": accounts.teams.get(email, [])})
    repo.manifest("suite-account", first)
    repo.manifest("suite-team", second)
    repo.initial_data("suite", {"TOKEN": "shared-token-0"})
    repo.hire("ada", "suite-account", {"integration": "suite-team", "needs": ["suite-account"]})
    repo.commit()
    report = Machine(repo).reconcile()
    assert [item.status for item in report.rows] == [Status.PRESENT, Status.PRESENT]
    assert {call.headers["Authorization"] for call in accounts.calls()} == {"Bearer shared-token-0"}


def test_one_services_missing_secret_blocks_that_service_only(machine, accounts, others, repo):
    others.token = "a-token-000"
    repo.manifest("more", others.manifest())
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, "more")
    repo.commit()
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    blocked = row(report, "ada", "more")
    assert blocked.status is Status.BLOCKED
    assert "initial data TOKEN is missing" in blocked.reason
    assert "reconcile initial-data set more" in blocked.reason
    assert others.calls() == []


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ({"execute": [{"url": "{url}/users", "data": {"plan": "{{PLAN}}"}}]}, True),
        ({"execute": [{"url": "{url}/users/{{PLAN}}?plan={{PLAN}}"}]}, True),
        ({"headers": {"X-Plan": "{{PLAN}}"}}, False),
    ],
    ids=["in data only", "in a URL", "in a header"],
)
def test_a_value_that_is_no_secret_is_one_where_a_header_has_it(machine, accounts, repo, place, shown):
    manifest = accounts.manifest() | {"initial_data_form": [{"id": "PLAN", "secret": False}]} | place
    for request in manifest["execute"]:
        request["url"] = request["url"].replace("{url}", accounts.url)
    repo.manifest("tool", manifest)
    repo.initial_data("tool", {"PLAN": "enterprise"})
    repo.hire("ada", "tool")
    repo.commit()
    accounts.fail_next(1, 500, method="GET", body="the enterprise plan has no such user")
    said = row(machine.plan(), "ada", "tool").reason
    assert said.endswith(f"answered 500: the {'enterprise' if shown else '***'} plan has no such user")
    (asked,) = row(machine.plan(), "ada", "tool").requests
    assert "***" not in asked["url"]


@pytest.mark.parametrize(
    ("status", "cause"),
    [(429, Cause.BUSY), (500, Cause.BUSY), (None, Cause.BUSY), (401, Cause.INITIAL_DATA), (403, None)],
)
def test_who_has_to_do_something_about_a_failed_check(machine, accounts, repo, status, cause):
    """Nobody where a service is down or asks for a pause: it is asked again. It is a failed check all the same."""
    manifest = (repo.root / "manifests/tool.yaml").read_text()
    if status is None:
        repo.write("manifests/tool.yaml", manifest.replace(str(accounts.port), str(free_port())))
        repo.commit()
    else:
        accounts.fail_next(None, status, method="GET")
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.UNKNOWN
    found = machine.record("ada", "tool")
    assert found is not None
    assert found.cause is cause
    assert report.tally.faults
    needed = [text for text in summary(report) if text.startswith("needs a person")]
    assert needed == ([] if cause is Cause.BUSY else ["needs a person: 1 unknown"])
    with machine.ledger() as ledger:
        assert [count for count, _ in ledger.pages.waiting(1)] == ([] if cause is Cause.BUSY else [1])
    accounts.clear()
    repo.write("manifests/tool.yaml", manifest)
    repo.commit()
    machine.reconcile()
    mended = machine.record("ada", "tool")
    assert mended is not None
    assert mended.cause is None


def test_service_message_is_in_reason_and_history(machine, accounts, repo):
    repo.manifest("tool", accounts.manifest())
    repo.initial_data("tool", {"TOKEN": "s3cret-of-the-tool"})
    repo.manifest("tool", accounts.manifest() | {"initial_data_form": [{"id": "TOKEN"}]})
    repo.hire("ada", "tool")
    repo.commit()
    said = "No seats left\n for \x1b[1ms3cret-of-the-tool\u202e" + "!" * 600
    accounts.fail_next(1, 422, method="POST", body=said)
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.last_error is not None
    assert "answered 422: No seats left for [1m***!!!" in failed.last_error
    assert failed.last_error.endswith("!…")
    assert len(failed.last_error) < 600
    assert failed.last_error in [line.detail for line in machine.history()][-1]
    with machine.ledger() as ledger:
        (attempt,) = ledger.attempts.of(Key("ada", "tool"))
        _, (sent,) = attempt
    assert sent.error is not None
    assert sent.error.startswith("answered 422: No seats left for [1m***")


def test_failed_check_reports_when_account_was_last_seen(machine, accounts):
    accounts.add("ada@example.com")
    machine.reconcile()
    machine.clock.turn(minutes=10)
    accounts.fail_next(2, 503, method="GET", body="maintenance")
    for _ in range(2):
        unknown = row(machine.reconcile(), "ada", "tool")
        assert unknown.reason == "answered 503: maintenance; last seen present on 2026-12-01T09:00:00Z"
        machine.clock.turn(minutes=10)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.fail_next(1, 503, method="GET")
    assert row(machine.plan(), "ada", "tool").reason == "answered 503; last seen present on 2026-12-01T09:30:00Z"
