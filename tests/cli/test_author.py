"""Writing a manifest for a service with a way of its own, with nothing to read but what `try` and `test` say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Call
from tests.cli.goldens import same, steady
from tests.odd_service import OddService
from tests.repo import Repo
from tests.servers import Reply

KEY = "invented-key-of-the-odd-service"


@pytest.fixture
def odd() -> Iterator[OddService]:
    with OddService(KEY) as running:
        running.add("ada@example.com", "bob@example.com", "cyd@example.com", "dan@example.com", "eve@example.com")
        yield running


def right(odd: OddService) -> dict[str, Any]:
    """The manifest as it should be in the end."""
    api = f"{odd.url}/api/people"
    done = {"response_notation": "ok", "value": "true"}
    return {
        "exists": {
            "url": f"{api}.find?mail={{{{email}}}}",
            "expected": "{{email}}",
            "record": "result.person",
            "match": "contact.mail",
            "where": {"rank.name": "{{RANK}}"},
            "inactive": {"off": True},
            "absent": {"fault.code": "no_such_person"},
            "store_data": {"PID": "record.pid"},
            "list": {
                "url": f"{api}.all",
                "data_from": "result.people",
                "match": "contact.mail",
                "next_page_token_from": "meta.cursor_next",
                "next_page": f"{api}.all?cursor={{{{NEXT_PAGE_TOKEN}}}}",
            },
        },
        "execute": [{"url": f"{api}.add", "data": {"mail": "{{email}}", "rank": "{{RANK}}"}, "continue_if": done}],
        "update": [{"url": f"{api}.rank", "data": {"pid": "{{PID}}", "rank": "{{RANK}}"}, "continue_if": done}],
        "revoke": [{"url": f"{api}.drop", "data": {"pid": "{{PID}}"}, "continue_if": done}],
        "headers": {"Content-Type": "application/json", "X-Api-Key": "{{KEY}}"},
        "initial_data_form": [{"id": "KEY", "name": "Key"}],
        "form": [{"id": "RANK", "name": "Rank", "type": "input"}],
    }


@pytest.fixture
def crew(repo: Repo, odd: OddService) -> Repo:
    repo.initial_data("crew", {"KEY": KEY})
    repo.manifest("crew", right(odd))
    repo.hire("ada", {"integration": "crew", "values": {"RANK": "crew"}})
    repo.commit()
    return repo


def changed(repo: Repo, odd: OddService, **keys: Any) -> None:
    """Write the manifest with these keys of `exists`, as somebody has them who guesses."""
    manifest = right(odd)
    manifest["exists"] |= keys
    repo.manifest("crew", manifest)


def listing(odd: OddService, **keys: Any) -> dict[str, Any]:
    return {**right(odd)["exists"]["list"], **keys}


WRONG: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "stored value": (
        {"store_data": {"PID": "record.id"}},
        (
            "store_data PID from record.id: nothing: no",
            (
                "the record has no id; the record has: pid, contact, rank, off; did you mean pid?; "
                "without {{PID}} update and revoke cannot be sent"
            ),
        ),
    ),
    "stored value beside the record": (
        {"store_data": {"PID": "result.pid"}},
        (
            "store_data PID from result.pid: nothing: no",
            (
                "the answer has no result.pid; result of the answer has: person; did you mean result.person.pid?; "
                "without {{PID}} update and revoke cannot be sent"
            ),
        ),
    ),
    "stored value of the record": (
        {"store_data": {"PID": "pid"}},
        (
            "store_data PID from pid: nothing: no",
            "the record has it: write record.pid; without {{PID}} update and revoke cannot be sent",
        ),
    ),
    "match": (
        {"match": "mail"},
        (
            "match mail: nothing: no",
            "the record has no mail; the record has: pid, contact, rank, off; ada@example.com stands at contact.mail",
        ),
    ),
    "record": (
        {"record": "person"},
        ("record person: nothing there: no", "the answer has no person; the answer has: ok, result; did you mean X?"),
    ),
    "where": (
        {"where": {"role": "crew"}},
        ('where role wants "crew": nothing: no', "the record has no role; the record has: pid, contact, rank, off"),
    ),
    "inactive": (
        {"inactive": {"active": False}},
        ("inactive active is false: nothing: no", "the record has no active; the record has: pid, contact, rank, off"),
    ),
}


@pytest.mark.parametrize(("keys", "said"), WRONG.values(), ids=WRONG)
def test_path_at_which_nothing_stands_is_said_with_what_is_there(
    crew: Repo, call: Call, odd: OddService, keys: dict[str, Any], said: tuple[str, str]
) -> None:
    changed(crew, odd, **keys)
    lines = [line.strip() for line in call(crew, "try", "crew", "--hire", "ada").out.splitlines()]
    rule, follows = said
    assert rule in lines
    assert lines[lines.index(rule) + 1] == follows.replace("; did you mean X?", "")


WRONG_LISTS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "no list": (
        {"data_from": "people"},
        ("list.data_from people: nothing there: no", "a list stands at result.people"),
    ),
    "match": (
        {"match": "email"},
        ("list.match email: nothing: no", "no item has email; items have: pid, contact, rank, off"),
    ),
    "within an item": (
        {"match": "contact.email"},
        (
            "list.match contact.email: nothing: no",
            "no item has contact.email; contact of items has: mail; did you mean contact.mail?",
        ),
    ),
    "next page": (
        {"next_page_token_from": "next"},
        (
            "list.next_page_token_from next: nothing",
            (
                "the answer has no next; the answer has: ok, result, meta; this may lead on: meta.cursor_next: "
                "so this is the last page"
            ),
        ),
    ),
    "field": (
        {"fields": {"email": "contact.mail", "first_name": "name.first"}},
        ("list.fields.first_name name.first: nothing", "no item has name.first; items have: pid, contact, rank, off"),
    ),
}


@pytest.mark.parametrize(("keys", "said"), WRONG_LISTS.values(), ids=WRONG_LISTS)
def test_path_of_a_listing_at_which_no_item_has_anything(
    crew: Repo, call: Call, odd: OddService, keys: dict[str, Any], said: tuple[str, str]
) -> None:
    changed(crew, odd, list=listing(odd, **keys))
    lines = [line.strip() for line in call(crew, "try", "crew", "--list").out.splitlines()]
    rule, follows = said
    assert rule in lines
    assert lines[lines.index(rule) + 1].startswith(follows)


def test_what_cannot_be_sent_is_said_where_it_would_be(crew: Repo, call: Call, odd: OddService) -> None:
    changed(crew, odd, store_data={"PID": "record.id"})
    out = call(crew, "try", "crew").out
    drop = f'  POST {odd.url}/api/people.drop {{"pid": "{{{{PID}}}}"}}\n'
    assert f"{drop}    not as it stands: the check was to store PID, and found nothing (see store_data above)\n" in out


@pytest.mark.parametrize("hires", [True, False], ids=["somebody has it", "nobody has it"])
def test_listing_needs_nobodys_values(crew: Repo, call: Call, odd: OddService, *, hires: bool) -> None:
    crew.hire("ada", *(["crew"] if hires else []))
    done = call(crew, "try", "crew", "--list")
    assert (done.code, [each.path for each in odd.requests]) == (0, ["/api/people.all"])
    assert "the listing's first page has 3 items, of which 3 count; there are more pages" in done.out
    assert "verdict" not in done.out


def test_manifest_without_a_listing_says_so(crew: Repo, call: Call, odd: OddService) -> None:
    manifest = right(odd)
    del manifest["exists"]["list"]
    crew.manifest("crew", manifest)
    done = call(crew, "try", "crew", "--list")
    assert done.code == 0
    assert "manifests/crew.yaml has no exists.list: there is no listing to be read" in done.out


def test_before_the_first_commit_only_named_hosts_are_asked(repo: Repo, call: Call, odd: OddService) -> None:
    repo.initial_data("crew", {"KEY": KEY})
    repo.manifest("crew", right(odd))
    repo.hire("ada", {"integration": "crew", "values": {"RANK": "crew"}})
    refused = call(repo, "try", "crew")
    assert (refused.code, odd.requests) == (1, [])
    host = odd.url.removeprefix("http://")
    assert f"requests may go to no host; to let this try send to the manifest's own: --host {host}\n" in refused.err
    done = call(repo, "try", "crew", "--host", host)
    assert (done.code, "verdict: present" in done.out) == (0, True)


ANSWERS = {
    "401": (401, "rules: not looked at: the answer was 401", "the service does not accept the token"),
    "403": (
        403,
        "rules: not looked at: the answer was 403",
        "the service does not know the token, or does not let it do this",
    ),
    "404": (404, "rules: not looked at: the answer was 404", "look at the URL first"),
    "500": (500, "rules: not looked at: the answer was 500", "the service, or something in front of it, failed"),
}


@pytest.mark.parametrize(("status", "rule", "follows"), ANSWERS.values(), ids=ANSWERS)
def test_answer_that_says_nothing_of_the_person_is_not_looked_at(
    crew: Repo, call: Call, odd: OddService, status: int, rule: str, follows: str
) -> None:
    odd.fail_next(5, status, method="GET", prefix="/api/people.find")
    done = call(crew, "try", "crew")
    lines = [line.strip() for line in done.out.splitlines()]
    assert done.code == 1
    assert lines[lines.index(rule) + 1].startswith(follows)
    assert not any(line.startswith(("expected", "match", "store_data")) for line in lines)


def test_404_names_the_url_before_the_person(crew: Repo, call: Call, odd: OddService) -> None:
    odd.fail_next(5, 404, method="GET")
    (verdict,) = [line for line in call(crew, "try", "crew").out.splitlines() if line.startswith("verdict")]
    assert verdict.index("whether `url` is right") < verdict.index("means that nobody is there")


def test_whole_try_of_a_manifest_with_three_errors(crew: Repo, call: Call, odd: OddService) -> None:
    keys = {"store_data": {"PID": "record.id"}, "where": {"rank": "{{RANK}}"}}
    changed(crew, odd, list=listing(odd, match="mail"), **keys)
    same("author/try.txt", steady(call(crew, "try", "crew", "--list").out, crew))
    assert yaml.safe_load((crew.root / "manifests/crew.yaml").read_text())["exists"]["store_data"]


def test_saved_cases_cover_creation_listing_and_removal(crew: Repo, call: Call, odd: OddService) -> None:
    file = crew.root / "manifests/crew.test.yaml"
    for who in ("ada@example.com", "nobody@example.com"):
        saved = call(crew, "try", "crew", "--email", who, "--value", "RANK=crew", "--list", "--save", str(file))
        assert saved.code == 0, saved.err
    cases = {each["name"]: each for each in yaml.safe_load(file.read_text())}
    sends = {name: [each["url"].rpartition(".")[2] for each in case.get("sends", [])] for name, case in cases.items()}
    assert sends == {
        "present: as it was": [],
        "present: by the listing": [],
        "orphaned: who left": ["drop"],
        "missing: as it was": ["add"],
        "missing: by the listing": ["add"],
    }
    assert cases["orphaned: who left"]["sends"][0]["data"] == {"pid": "made-up-PID"}
    assert cases["missing: as it was"]["sends"][0]["data"] == {"mail": "ada@example.com", "rank": "crew"}
    assert cases["present: by the listing"]["list"] is True
    assert call(crew, "test", "crew").out == "5 cases of 1 manifest passed\n"
    assert file.read_text().splitlines()[-3:] == [
        "# not covered: update: save a try with a value that the account does not have (--value KEY=VALUE)",
        "# not covered: a refused token: save a try with one that is wrong; it has to be `unknown`",
        "# not covered: how the service answers what `sends` lists: a try sends nothing that changes anything",
    ]
    assert {each.method for each in odd.requests} == {"GET"}


def test_saved_case_of_a_check_without_a_record_has_all_that_its_rules_read(
    crew: Repo, call: Call, odd: OddService
) -> None:
    deep = {"where": {"result.person.rank.name": "{{RANK}}"}, "store_data": {"PID": "result.person.pid"}}
    manifest = right(odd)
    manifest["exists"] = {key: manifest["exists"][key] for key in ("url", "expected", "absent")} | deep
    crew.manifest("crew", manifest)
    file = crew.root / "manifests/crew.test.yaml"
    assert call(crew, "try", "crew", "--save", str(file)).code == 0
    present, left = yaml.safe_load(file.read_text())
    assert (present["expect"], left["sends"][0]["data"]) == ("present", {"pid": "made-up-PID"})
    assert call(crew, "test", "crew").code == 0


def test_saved_case_fails_once_the_manifest_sends_something_else(crew: Repo, call: Call, odd: OddService) -> None:
    file = crew.root / "manifests/crew.test.yaml"
    assert call(crew, "try", "crew", "--save", str(file)).code == 0
    manifest = right(odd)
    manifest["revoke"][0]["data"] = {"pid": "{{email}}"}
    crew.manifest("crew", manifest)
    done = call(crew, "test", "crew")
    assert (done.code, "FAILED crew" in done.out) == (1, True)


def test_nothing_is_saved_of_nobody(crew: Repo, call: Call) -> None:
    crew.hire("ada")
    file = crew.root / "manifests/crew.test.yaml"
    done = call(crew, "try", "crew", "--list", "--save", str(file))
    assert "nothing was saved, as nobody was checked" in done.err
    assert not file.exists()


def test_hire_that_left_git_is_said_to_have_left(crew: Repo, call: Call) -> None:
    assert call(crew).code == 0
    (crew.root / "hires/ada.yaml").unlink()
    removed = crew.commit()
    assert call(crew).code == 0
    done = call(crew, "try", "crew", "--hire", "ada")
    assert done.code == 64
    assert f"ada is not in git any more, since {removed[:12]}" in done.err


def test_hire_with_an_error_in_the_file_is_said_once_to_have_one(crew: Repo, call: Call) -> None:
    crew.write("hires/ada.yaml", "emial: ada@example.com\n")
    done = call(crew, "try", "crew", "--hire", "ada")
    assert done.code == 1
    assert done.err.startswith("error: the file of ada has an error: hires/ada.yaml:1: ")


def test_manifest_with_an_error_says_error_once(crew: Repo, call: Call) -> None:
    crew.write("manifests/crew.yaml", "exists: {url: https://api.example.com, expcted: x}\n")
    crew.commit()
    for command in (("try", "crew"), ("options", "crew", "RANK"), ("test", "crew")):
        done = call(crew, *command)
        assert ": error: " not in done.err, done.err


def test_settings_with_an_error_say_error_once(crew: Repo, call: Call) -> None:
    crew.write("config/reconciler.yaml", "intervall: 1h\n")
    crew.commit()
    done = call(crew, "try", "crew")
    assert done.code == 1
    assert done.err.startswith("error: config/reconciler.yaml:1: intervall: unknown key")


def test_variable_that_nothing_gives_is_said_with_where_to_add_it(crew: Repo, call: Call, odd: OddService) -> None:
    manifest = right(odd)
    del manifest["initial_data_form"]
    crew.manifest("crew", manifest)
    done = call(crew, "try", "crew")
    assert (done.code, odd.requests) == (1, [])
    assert "manifests/crew.yaml:" in done.err
    assert "add it to form, or a secret to initial_data_form" in done.err


def test_answer_that_may_be_a_refusal_asks_for_absent(crew: Repo, call: Call, odd: OddService) -> None:
    odd.token = "another"
    manifest = right(odd)
    manifest["exists"] = {key: manifest["exists"][key] for key in ("url", "expected")}
    crew.manifest("crew", manifest)
    out = call(crew, "try", "crew").out
    assert "without `absent` an answer that refuses the token counts as no account, too: write how one looks" in out
    assert 'such as `absent: {fault.code: "bad_key"}` if that is what this one says' in out


def test_refusal_that_would_count_as_done_is_said(crew: Repo, call: Call, odd: OddService) -> None:
    said = "the service says no with a status of success, and a refusal of these would count as done:"
    arguments = ("try", "crew", "--email", "nobody@example.com", "--value", "RANK=crew")
    assert said not in call(crew, *arguments).out
    manifest = right(odd)
    del manifest["revoke"][0]["continue_if"]
    crew.manifest("crew", manifest)
    assert f"{said}\n  revoke: add `continue_if: " in call(crew, *arguments).out


def test_listing_whose_items_are_the_record_names_the_record(crew: Repo, call: Call, odd: OddService) -> None:
    manifest = right(odd)
    manifest["exists"] |= {"where": {"result.person.rank.name": "crew"}, "store_data": {"PID": "result.person.pid"}}
    manifest["exists"] |= {"inactive": {"result.person.off": True}}
    del manifest["exists"]["record"], manifest["exists"]["match"]
    del manifest["exists"]["list"]["next_page"], manifest["exists"]["list"]["next_page_token_from"]
    crew.manifest("crew", manifest)
    out = call(crew, "try", "crew", "--list").out
    assert "items have rank.name: write `record: result.person`" in out
    assert "this may lead on: `next_page_token_from: meta.cursor_next` with `next_page`, the URL with" in out


WAYS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "a link": ({}, {"Link": '<https://api.example.com/p?2>; rel="next"'}, "`next_page_from: header:Link`"),
    "a URL": ({"paging": {"next": "/p?page=2"}}, {}, "`next_page_from: paging.next`"),
    "a flag": ({"has_more": True}, {}, "`next_page_from: {more: has_more, parameter: NAME, from: PATH}`"),
    "a total": ({"paging": {"total": "9"}}, {}, "`count_up: {parameter: NAME, total_from: paging.total}`, as it"),
}


@pytest.mark.parametrize(("more", "headers", "says"), WAYS.values(), ids=WAYS)
def test_way_to_the_next_page_is_proposed(
    crew: Repo, call: Call, odd: OddService, more: dict[str, Any], headers: dict[str, str], says: str
) -> None:
    odd.route("GET", "/plain", Reply(200, {"people": [{"mail": "ada@example.com"}], **more}, headers))
    changed(crew, odd, list={"url": f"{odd.url}/plain", "data_from": "people", "match": "mail"})
    assert f"this may lead on: {says}" in call(crew, "try", "crew", "--list").out
