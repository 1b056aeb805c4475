"""`reconcile review`: started from a service, decided in commits by several people, and checked."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.engine.context import SystemClock
from reconciler.model.clock import stamp
from reconciler.repository.reviews import review_in
from tests.cli.conftest import Call
from tests.engine.harness import Hands, Machine
from tests.repo import Repo
from tests.servers import AccountService, Reply, Service

ADA, BOB, IDA = (f"{name} Example <{name.lower()}@example.com>" for name in ("Ada", "Bob", "Ida"))
PATH = "config/reviews/2026-Q4/saas.yaml"


class Company:
    """A repository whose commits have several authors, with a service on loopback and a review of it."""

    def __init__(self, repo: Repo, saas: AccountService, call: Call) -> None:
        self.repo, self.saas, self._call = repo, saas, call
        repo.settings(prune="revoke")
        repo.manifest("saas", saas.manifest(listing=True, revoke=True))
        repo.write("hires/.keep", "")

    def call(self, *arguments: str, **more: Any) -> Any:
        return self._call(self.repo, *arguments, **more)

    def commit(self, author: str, message: str = "change", committer: str | None = None) -> str:
        """Commit everything, by somebody who also wrote it unless there is another `committer`."""
        name, _, address = (committer or author).rstrip(">").partition(" <")
        by = ("-c", f"user.name={name}", "-c", f"user.email={address or 'nobody@example.com'}")
        self.repo.git("add", "--all")
        self.repo.git(*by, "commit", "--quiet", "--allow-empty", "--author", author, "--message", message)
        return self.repo.git("rev-parse", "HEAD")

    def started(self, *hires: str, strangers: tuple[str, ...] = ()) -> str:
        """People that Ida gave access to, in the ledger, and a review of them, committed; the commit of the review."""
        for hire in hires:
            self.repo.hire(hire, "saas")
        self.commit(IDA)
        assert self.call("--yes").code == 0
        self.saas.add(*strangers)
        done = self.call("review", "start", "2026-Q4")
        assert done.code == 0, done.err
        return self.commit(IDA, "Start the review")

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.repo.root / PATH).read_text())
        return found

    def write(self, data: dict[str, Any]) -> None:
        self.repo.write(PATH, data)

    def decide(self, author: str, committer: str | None = None, **decisions: str | None) -> str:
        data = self.data
        for line in data["lines"]:
            name = line["who"].partition("@")[0]
            if name in decisions:
                line["decision"] = decisions[name]
        self.write(data)
        return self.commit(author, committer=committer)

    def check(self, code: int) -> dict[str, Any]:
        done = self.call("review", "check", "2026-Q4", "--output", "json")
        assert done.code == code, done.out
        (found,) = done.json["reviews"]
        told: dict[str, Any] = found
        return told

    def evidence(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.call("review", "check", "2026-Q4", "--output", "csv").out)))

    def reviewers(self) -> dict[str, tuple[str, str]]:
        return {row["who"]: (row["reviewer"], row["decided_in"]) for row in self.evidence() if row["who"]}


@pytest.fixture
def saas() -> Iterator[AccountService]:
    with AccountService() as service:
        yield service


@pytest.fixture
def company(repo: Repo, saas: AccountService, call: Call) -> Company:
    return Company(repo, saas, call)


def messages(found: dict[str, Any]) -> list[str]:
    return [problem["message"] for problem in found["problems"]]


def test_review_is_not_started_while_it_is_not_known_what_is_ignored(company: Company) -> None:
    company.repo.write("config/ignore.yaml", "- {integration: saas}\n")
    company.repo.commit()
    refused = company.call("review", "start", "2026-Q4")
    assert (refused.code, (company.repo.root / PATH).exists()) == (1, False)
    assert "config/ignore.yaml" in refused.err


def test_started_review_lists_all_access(company: Company) -> None:
    company.saas.add("ci@example.com")
    ignored = {"integration": "saas", "account": "ci@*", "reason": "CI"}
    company.repo.write("config/ignore.yaml", [ignored])
    company.repo.hire("ada", "saas")
    company.repo.hire("bob", "saas")
    given = company.commit(IDA, "Give\n\nApproved-by: Grace <grace@example.com>")
    assert company.call("--yes").code == 0
    company.repo.hire("cem", "saas")
    head = company.commit(BOB)
    company.saas.add("zoe@example.com")
    before = len(company.saas.requests)

    done = company.call("review", "start", "2026-Q4", "--output", "json")

    assert done.code == 0, done.err
    assert [(each.method, each.path) for each in company.saas.requests[before:]] == [("GET", "/users")]
    assert company.repo.git("status", "--porcelain") == "?? config/reviews/"
    data = company.data
    digest = data.pop("digest")
    lines = data.pop("lines")
    chain = company.call("history", "--verify", "--output", "json").json
    since = {each["hire"]: each["since"] for each in company.call("status", "--output", "json").json["grants"]}
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data.pop("read_at"))
    assert data == {
        "revision": head,
        "listed": 4,
        "matched": 2,
        "ignored": 1,
        "complete": True,
        "history": chain["digest"],
    }
    empty: dict[str, Any] = {"values": {}, "decision": None, "reason": None}
    by_ida = {"granted_in": given, "author": IDA, "approved_by": ["Grace <grace@example.com>"]}
    assert lines == [
        {"who": "ada", "access": "saas", "since": since["ada"], **by_ida, **empty},
        {"who": "bob", "access": "saas", "since": since["bob"], **by_ida, **empty},
        {"who": "cem", "access": "saas", "since": None, "granted_in": head, "author": BOB, "approved_by": [], **empty},
        {"who": "zoe@example.com", "access": None, "since": None}
        | {"granted_in": None, "author": None, "approved_by": [], **empty},
    ]
    assert done.json["reviews"][0] == {
        "integration": "saas",
        "file": PATH,
        "due": None,
        "lines": 4,
        "undecided": 4,
        "open": 0,
        "problems": [],
        "listed": 4,
        "matched": 2,
        "ignored": 1,
        "complete": True,
    }
    assert company.call("review", "check", "2026-Q4").code == 1, "it is not committed"
    assert company.call("validate").code == 0


def test_orphan_has_the_line_of_its_grant_and_no_other(company: Company) -> None:
    company.repo.settings()
    company.repo.hire("ada", "saas")
    company.commit(IDA)
    company.call("--yes")
    company.repo.remove("hires/ada.yaml")
    company.commit(IDA)
    assert company.call("review", "start", "2026-Q4").code == 0
    assert [(line["who"], line["access"]) for line in company.data["lines"]] == [("ada", "saas")]


@pytest.mark.parametrize("over", [{"for": "1h"}, {"until": "HOUR"}])
def test_what_is_over_since_today_has_no_line(company: Company, over: dict[str, str]) -> None:
    repo, now = company.repo, datetime.now(UTC)
    ago = str(stamp(now - timedelta(seconds=2)))
    repo.hire("ada", {"integration": "saas", **{key: value.replace("HOUR", ago) for key, value in over.items()}})
    repo.hire("bob", "saas")
    repo.commit()
    Machine(repo, Hands(now - timedelta(hours=2))).reconcile()
    assert company.call("--yes").code == 0
    assert list(company.saas.people) == ["bob@example.com"]
    assert company.call("review", "start", "2026-Q4").code == 0
    assert [line["who"] for line in company.data["lines"]] == ["bob"]
    company.commit(IDA)
    checked = company.call("review", "check", "2026-Q4", "--output", "json")
    assert (checked.code, [messages(each) for each in checked.json["reviews"]]) == (2, [[]])


def test_account_that_is_called_otherwise_keeps_its_address(company: Company) -> None:
    manifest = company.saas.manifest(listing=True)
    manifest["exists"]["list"] |= {"account": "id", "fields": {"email": "email"}}
    company.repo.manifest("saas", manifest)
    company.saas.add("zoe@example.com")
    company.commit(IDA)
    assert company.call("review", "start", "2026-Q4").code == 0
    (line,) = company.data["lines"]
    assert (line["access"], line["values"]) == (None, {"email": "zoe@example.com"})
    assert line["who"] != "zoe@example.com"
    company.commit(IDA)
    data = company.data
    data["lines"][0]["decision"] = "keep"
    company.write(data)
    company.commit("Zoe <ZOE@example.com>")
    assert "own access" in messages(company.check(1))[0]


def test_service_without_a_listing_is_asked_person_by_person(company: Company) -> None:
    company.repo.manifest("saas", company.saas.manifest())
    company.repo.manifest("hook", {"execute": [{"url": f"{company.saas.url}/users"}]})
    company.saas.add("ada@example.com")
    for hire in ("ada", "bob"):
        company.repo.hire(hire, "saas")
    company.commit(IDA)
    done = company.call("review", "start", "2026-Q4", "--output", "json")
    assert done.code == 0, done.err
    assert {key: company.data[key] for key in ("listed", "matched", "complete")} == {
        "listed": None,
        "matched": 1,
        "complete": False,
    }
    assert {each["integration"]: each["lines"] for each in done.json["reviews"]} == {"saas": 2, "hook": 0}
    assert all(each.method == "GET" for each in company.saas.requests)
    company.commit(IDA)
    company.decide(BOB, ada="keep")
    found = company.call("review", "check", "2026-Q4", "--output", "json")
    assert found.code == 2, "that there is no listing is told, and no fault of the review"
    assert "there is no listing" in found.json["reviews"][1]["problems"][0]["message"]


@pytest.mark.parametrize("listing", [True, False], ids=["listing", "checks"])
def test_service_that_could_not_be_asked_whole_is_never_whole(company: Company, listing: bool) -> None:
    company.repo.manifest("saas", company.saas.manifest(listing=listing))
    company.repo.hire("cem", "saas")
    company.commit(IDA)
    company.saas.on(lambda connection, _: connection.answer(Reply(500, "no")), times=None, method="GET")
    done = company.call("review", "start", "2026-Q4")
    assert done.code == 1
    assert f"{PATH} is not whole" in done.err
    assert company.data["complete"] is False
    company.saas.clear()
    company.commit(IDA)
    company.decide(BOB, cem="keep")
    assert messages(company.check(1)) == ["the listing was not read whole: start it anew"]


def test_integration_without_a_manifest_is_reviewed(company: Company) -> None:
    company.repo.manifest("chat", company.saas.manifest())
    for hire in ("ada", "bob"):
        company.repo.hire(hire, "chat")
    company.commit(IDA)
    assert company.call("--yes").code == 0
    company.repo.remove("manifests/chat.yaml")
    company.repo.hire("ada")
    company.commit(IDA)
    assert company.call("--yes").code == 1
    assert company.call("review", "start", "2026-Q4").code == 0
    company.commit(IDA)
    chat = yaml.safe_load((company.repo.root / PATH).with_name("chat.yaml").read_text())
    assert [(line["who"], line["access"]) for line in chat["lines"]] == [("ada", "chat"), ("bob", "chat")]
    assert (chat["listed"], chat["matched"], chat["complete"]) == (None, 0, False)
    found = company.call("review", "check", "2026-Q4", "--output", "json")
    told = {each["integration"]: messages(each) for each in found.json["reviews"]}
    assert (found.code, ["there is no listing" in each for each in told["chat"]]) == (2, [True])


def test_role_that_somebody_still_has_is_what_is_decided_over(company: Company) -> None:
    field, body = {"id": "ROLE", "name": "Role", "type": "input"}, {"email": "{{email}}", "role": "{{ROLE}}"}
    manifest = company.saas.manifest(listing=True)
    execute = [{"url": f"{company.saas.url}/users", "data": body}]
    company.repo.manifest("saas", manifest | {"form": [field], "execute": execute})
    for role in ("admin", "member"):
        company.repo.hire("ada", {"integration": "saas", "values": {"ROLE": role}})
        company.commit(IDA)
        company.call("--yes")
    assert company.call("status", "--output", "json").grant("ada", "saas")["status"] == "differs"
    assert company.call("review", "start", "2026-Q4").code == 0
    assert [line["values"] for line in company.data["lines"]] == [{"ROLE": "admin"}]


def test_account_whose_entry_names_another_integration_has_a_line_still(company: Company) -> None:
    repo = company.repo
    repo.manifest("other", {**company.saas.manifest(listing=True), "service": "saas"})
    repo.hire("ada", "saas")
    company.commit(IDA)
    company.call("--yes")
    repo.hire("ada", {"integration": "other", "name": "saas"})
    company.commit(IDA)
    (change,) = company.call("diff", "HEAD~1", "HEAD", "--output", "json").json["grants"]
    told = company.call("diff", "HEAD~1", "HEAD", "--output", "markdown").out
    assert (change["applied"], "blocked: the former account has this name" in told) == ("name_taken", True)
    assert company.call("--yes", "--output", "json").json["grants"][0]["status"] == "blocked"
    assert company.call("review", "start", "2026-Q4").code == 0
    other = yaml.safe_load((repo.root / "config/reviews/2026-Q4/other.yaml").read_text())
    said = [(line["who"], line["access"], line["since"] is not None) for line in company.data["lines"] + other["lines"]]
    assert said == [("ada", "saas", True), ("ada", "saas", False)]
    company.commit(IDA)
    found = company.call("review", "check", "2026-Q4", "--output", "json").json["reviews"]
    assert [each["problems"] for each in found] == [[], []]


def test_second_start_is_refused(company: Company) -> None:
    for name in ("wiki", "chat"):
        company.repo.manifest(name, {"exists": {"url": f"{company.saas.url}/x", "expected": "x"}})
    company.commit(IDA)
    assert company.call("review", "start", "2026-Q4", "--integration", "saas").code == 0
    again = company.call("review", "start", "2026-Q4")
    assert (again.code, "--integration" in again.err) == (1, True)
    assert PATH in again.err
    assert company.call("review", "start", "2026-Q4", "--integration", "saas").code == 1
    assert company.call("review", "start", "2026-Q4", "--integration", "wiki").code == 0
    assert company.call("review", "start", "2026-Q4", "--integration", "chta").code == 64
    company.commit(IDA)
    (company.repo.root / PATH).unlink()
    assert company.call("review", "start", "2026-Q4", "--integration", "saas").code == 1
    company.commit(IDA)
    taken = company.call("review", "start", "2026-Q4", "--integration", "saas")
    assert (taken.code, "was taken away since" in taken.err) == (1, True)
    for period in ("../x", "a/b", ".hidden", "", "-x y"):
        assert company.call("review", "start", "--", period).code == 64


def test_reviewer_is_who_set_the_decision_wherever_the_line_went(company: Company) -> None:
    company.started("ada", "bob", "cem")
    company.decide("Tim Typo <tim@example.com>")  # only as another writer would write it
    by_bob = company.decide(BOB, ada="keep", cem="remove")
    company.repo.git("checkout", "--quiet", "-b", "theirs", "HEAD^")
    by_eve = company.decide("Eve <eve@example.com>", bob="keep")
    company.repo.git("checkout", "--quiet", "main")
    company.repo.git("merge", "--quiet", "--no-ff", "--message", "Merge", "theirs")
    data = company.data
    data["lines"].reverse()
    data["lines"][0]["reason"] = "as the manager says"
    text = json.dumps(data, indent=1)
    (company.repo.root / PATH).write_text(text)
    company.commit("Tim Typo <tim@example.com>", "Format")
    assert company.reviewers() == {
        "ada": (BOB, by_bob),
        "bob": ("Eve <eve@example.com>", by_eve),
        "cem": (BOB, by_bob),
    }
    company.decide(ADA, cem=None)
    last = company.decide(ADA, cem="remove")
    assert company.reviewers()["cem"] == (ADA, last)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "theirs"])
def test_merge_that_takes_a_decision_back_decided_it(company: Company, ours: bool) -> None:
    company.started("ada", "bob")
    old = company.decide(BOB, ada="keep", bob="keep")
    company.decide(BOB, ada=None)
    if ours:
        company.repo.git("branch", "--quiet", "later")
        company.repo.git("checkout", "--quiet", "-B", "main", old)
        company.repo.git("commit", "--quiet", "--allow-empty", "--message", "Old")
        company.repo.git("merge", "--quiet", "--no-commit", "-s", "ours", "later")
    else:
        company.repo.git("checkout", "--quiet", "-b", "old", old)
        company.repo.git("commit", "--quiet", "--allow-empty", "--message", "Old")
        company.repo.git("checkout", "--quiet", "main")
        company.repo.git("merge", "--quiet", "--no-commit", "--no-ff", "old")
        company.repo.git("checkout", old, "--", PATH)
    merge = company.commit(ADA, "Merge")
    assert company.repo.git("rev-list", "--parents", "-1", "HEAD").count(" ") == 2
    assert company.reviewers() == {"ada": (ADA, merge), "bob": (BOB, old)}


def test_undecided_lines_are_2_and_a_whole_review_is_0(company: Company) -> None:
    company.started("ada", "bob", strangers=("zoe@example.com",))
    assert company.check(2) | {"problems": []} == company.check(2)
    company.decide(BOB, ada="keep", zoe="keep")
    found = company.check(2)
    assert (found["lines"], found["undecided"], found["open"]) == (3, 1, 0)
    shown = company.call("review", "check", "2026-Q4")
    assert shown.out.startswith("review 2026-Q4: 1 of 3 lines undecided, no file in doubt\n")
    assert re.search(rf"{PATH}:\d+: bob/saas: undecided", shown.out)
    company.decide(ADA, bob="keep")
    assert company.check(0)["problems"] == []
    data = company.data
    data["lines"][0]["decision"] = None
    company.write(data)
    edited = company.call("review", "check", "2026-Q4")
    assert (edited.code, f"not committed, and so not counted: {PATH}" in edited.err) == (0, True)


def edit(data: dict[str, Any], what: str) -> None:
    ada = data["lines"][0]
    match what:
        case "taken out":
            data["lines"].remove(ada)
        case "put in":
            data["lines"].append({**ada, "who": "eve"})
        case "edited":
            ada["values"] = {"ROLE": "admin"}
        case "complete":
            data["complete"] = "true"
        case "digest":
            data["digest"] = "0" * 64
        case "twice":
            data["lines"].append(ada)


EDITS = {
    "taken out": "the line of ada/saas was taken out",
    "put in": "the line of eve/saas was put in",
    "edited": "the line of ada/saas was edited",
    "complete": "complete is not what it was",
    "digest": "digest is not what it was",
    "twice": "the line of ada/saas was put in",
}


def test_edited_population_is_found_whether_its_digest_is_rewritten_or_not(company: Company) -> None:
    company.started("ada", "bob")
    company.decide(ADA, bob="keep")
    whole = company.decide(BOB, ada="keep")
    company.check(0)
    for what, told in EDITS.items():
        data = company.data
        edit(data, what)
        company.write(data)
        company.commit(BOB, "Tidy up")
        found = company.check(1)
        assert any(message.startswith(told) for message in messages(found)), what
        assert all(problem["file"] == PATH for problem in found["problems"])
        data["digest"] = review_in((company.repo.root / PATH).read_bytes(), PATH).digest
        company.write(data)
        company.commit(BOB, "Tidy up")
        assert messages(company.check(0 if what == "digest" else 1)) == [] or what != "digest", what
        company.repo.git("reset", "--quiet", "--hard", whole)


@pytest.mark.parametrize("instead", ["0", "'false'", "[]"])
def test_incomplete_listing_cannot_be_edited_into_a_complete_one(company: Company, instead: str) -> None:
    company.repo.hire("ada", "saas")
    company.commit(IDA)
    assert company.call("--yes").code == 0
    company.saas.fail_next(None, 503)
    assert company.call("review", "start", "2026-Q4").code == 1
    company.commit(IDA)
    company.decide(BOB, ada="keep")
    assert messages(company.check(1)) == ["the listing was not read whole: start it anew"]
    file = company.repo.root / PATH
    file.write_text(file.read_text().replace("complete: false", f"complete: {instead}"))
    company.commit(BOB)
    assert any("complete is not what it was" in each for each in messages(company.check(1)))


def test_population_edited_before_its_first_commit_is_found(company: Company) -> None:
    company.repo.hire("ada", "saas")
    company.repo.hire("bob", "saas")
    company.commit(IDA)
    company.call("review", "start", "2026-Q4")
    data = company.data
    del data["lines"][0]
    company.write(data)
    company.commit(IDA)
    left_out, edited = sorted(messages(company.check(1)))
    assert "edited before it was committed" in edited
    assert "ada/saas is left out" in left_out


def test_omitted_line_is_found_despite_a_new_digest(company: Company) -> None:
    company.repo.hire("ada", "saas")
    company.repo.hire("bob", "saas")
    company.commit(IDA)
    company.call("review", "start", "2026-Q4")
    data = company.data
    data["lines"][1]["decision"] = "keep"
    del data["lines"][0]
    company.write(data)
    data["digest"] = review_in((company.repo.root / PATH).read_bytes(), PATH).digest
    company.write(data)
    company.commit(ADA)
    (message,) = messages(company.check(1))
    assert "ada/saas is left out" in message


def test_file_that_is_gone_or_was_started_twice_is_found(company: Company) -> None:
    start = company.started("ada")
    company.repo.remove(PATH)
    company.commit(BOB)
    (gone,) = company.check(1)["problems"]
    assert (gone["file"], start[:12] in gone["message"]) == (PATH, True)
    assert IDA in gone["message"]
    row = company.evidence()[0]
    assert (row["who"], row["integration"], "it is gone" in row["problem"]) == ("", "saas", True)
    company.repo.git("checkout", "--quiet", start, "--", PATH)
    company.decide(BOB, ada="keep")
    company.check(0)
    company.repo.git("branch", "--quiet", "other")
    company.repo.git("checkout", "--quiet", "-B", "main", f"{start}^")
    company.repo.hire("eve", "saas")
    company.commit(BOB)
    assert company.call("review", "start", "2026-Q4").code == 0
    company.commit(BOB)
    company.repo.git("merge", "--quiet", "-s", "ours", "--message", "Merge", "other")
    assert any("started more than once" in message for message in messages(company.check(1)))


def test_reviewer_may_not_decide_own_access_or_own_grants(company: Company) -> None:
    company.started("ada", "bob", strangers=("zoe@example.com",))
    company.decide("Somebody <ADA@example.com>", ada="keep")
    company.decide(IDA, bob="keep")
    company.decide("Zoe <zoe@example.com>", zoe="keep")
    found = company.check(1)
    ada, bob, zoe = found["problems"]
    assert "own access" in ada["message"]
    assert "granted by" in bob["message"]
    assert "own access" in zoe["message"]
    text = (company.repo.root / PATH).read_text().splitlines()
    assert text[ada["line"] - 1].strip() == "decision: keep"
    rows = {row["who"]: row["problem"] for row in company.evidence()}
    assert "own access" in rows["ada"]


@pytest.mark.parametrize(
    ("author", "committer", "says"),
    [
        (BOB, ADA, "own access"),
        ("Ada <ada+work@example.com>", None, "own access"),
        ("Ada <\u0430da@example.com>", None, "own access"),
        (BOB, IDA, "granted by the person"),
        ("Ida <ida+x@EXAMPLE.com>", None, "granted by the person"),
        (BOB, "Forge <noreply@example.com>", None),
    ],
    ids=["committer", "tag", "confusable", "granter commits", "granter's tag", "a forge commits"],
)
def test_reviewer_is_one_person_whatever_they_write(
    company: Company, author: str, committer: str | None, says: str | None
) -> None:
    company.started("ada")
    company.decide(author, committer, ada="keep")
    found = messages(company.check(0 if says is None else 1))
    whom = committer if committer in (ADA, IDA) else author
    assert [(says in each, whom in each) for each in found if says] == ([(True, True)] if says else [])


def test_granter_who_only_committed_may_not_decide(company: Company) -> None:
    company.repo.hire("ada", "saas")
    company.commit(IDA, committer=BOB)
    company.started("ada")
    company.decide(BOB, ada="keep")
    assert "granted by the person" in messages(company.check(1))[0]


def test_own_access_is_found_in_any_case_and_a_decision_needs_an_address(
    company: Company,
) -> None:
    company.repo.hire("strauss", "saas", email="strauß@example.com")
    company.started("ada")
    company.decide("Strauß <STRAUSS@EXAMPLE.COM>", strauss="keep")
    company.decide("Ada <>", ada="keep")
    ada, strauss = messages(company.check(1))
    assert "names no address" in ada
    assert "own access" in strauss


def test_address_that_a_hire_had_counts_after_the_file_is_gone(company: Company) -> None:
    company.started("ada")
    company.repo.remove("hires/ada.yaml")
    company.commit(IDA)
    company.decide(ADA, ada="keep")
    assert "own access" in messages(company.check(1))[0]


def test_removal_is_open_until_revoked_in_the_ledger(company: Company) -> None:
    company.started("ada", "bob")
    company.decide(BOB, ada="remove")
    company.decide(ADA, bob="keep")
    assert company.check(1)["open"] == 1
    assert "ada/saas: still there: the ledger has it as present" in company.call("review", "check", "2026-Q4").out
    company.repo.hire("ada")
    company.commit(BOB, "As reviewed")
    assert company.check(1)["open"] == 1, "git says so, and nobody has done it"
    assert company.call("--yes").code == 0
    assert "ada@example.com" not in company.saas.people
    assert company.check(0)["open"] == 0
    company.repo.remove("hires/ada.yaml")
    company.commit(BOB)
    company.call("--yes")
    assert company.call("forget", "ada").code == 0
    assert company.check(0)["open"] == 0, "whoever is forgotten had nothing left"


def test_lock_is_no_removal_while_git_has_the_entry(company: Company) -> None:
    """The account is gone, and comes back once the lock ends."""
    company.started("ada", "bob")
    assert company.call("lock", "ada", "--reason", "left in anger").code == 0
    company.decide(BOB, ada="remove")
    company.decide(ADA, bob="keep")
    assert company.check(1)["open"] == 1
    company.repo.hire("ada")
    company.commit(BOB, "As reviewed")
    assert company.call("--yes").code == 0
    assert company.check(0)["open"] == 0


def test_unknown_account_is_open_until_a_later_listing_does_not_show_it(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.started(*(f"p{number}" for number in range(11)), strangers=("zoe@example.com",))
    data = company.data
    for line in data["lines"]:
        line["decision"] = "remove" if line["access"] is None else "keep"
    company.write(data)
    company.commit(BOB)
    assert company.check(1)["open"] == 1
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + timedelta(hours=1))
    assert company.call("--yes").code == 0
    assert company.check(1)["open"] == 1
    del company.saas.people["zoe@example.com"]
    assert company.check(1)["open"] == 1
    assert company.call("--yes").code == 0
    assert company.check(0)["open"] == 0


def test_invalid_decision_is_reported_with_its_line(company: Company) -> None:
    company.started("ada")
    file = company.repo.root / PATH
    empty = file.read_text()
    for content, told in {
        "decision: kep": "'kep' is not known; allowed: keep, remove; did you mean keep?",
        "decision: {a: 1}": "lines.0.decision",
    }.items():
        file.write_text(empty.replace("decision:\n", f"{content}\n"))
        company.commit(BOB)
        (problem,) = company.check(1)["problems"]
        assert told in problem["message"]
        assert file.read_text().splitlines()[problem["line"] - 1].strip() == content
        assert company.check(1)["undecided"] == 1
        validated = company.call("validate")
        assert (validated.code, f"{PATH}:{problem['line']}" in validated.out) == (1, True)
    assert company.call("--yes").code == 0, "what reviewers write stops no pass"


def test_file_that_is_no_yaml_or_of_no_integration_is_reported(company: Company) -> None:
    company.started("ada")
    company.repo.write(PATH, "lines: [\n")
    company.repo.write("config/reviews/2026-Q4/sass.yaml", {"lines": []})
    company.repo.write("config/reviews/2026-Q4/x.yml", {"lines": []})
    company.commit(BOB)
    done = company.call("review", "check", "2026-Q4", "--output", "json")
    assert done.code == 1
    broken, nobody = ([(each["line"], each["message"]) for each in one["problems"]] for one in done.json["reviews"])
    assert "not YAML" in broken[0][1]
    assert (1, "there is no integration sass; did you mean saas?") in nobody
    validated = company.call("validate").out
    assert "config/reviews/2026-Q4/x.yml: warning: not read: a review is config/reviews/" in validated


def test_unknown_period_is_reported(company: Company) -> None:
    company.started("ada")
    wrong = company.call("review", "check", "2026-Q3")
    assert (wrong.code, "did you mean 2026-Q4?" in wrong.err) == (1, True)
    assert company.call("review", "check", "../2026-Q4").code == 64


def test_a_revision_without_hires_is_refused_whatever_period_is_asked_for(company: Company) -> None:
    company.started("ada")
    shutil.rmtree(company.repo.root / "hires")
    company.commit(BOB)
    for period in ("2026-Q4", "2026-Q3"):
        refused = company.call("review", "check", period)
        assert (refused.code, "hires/.gitkeep" in refused.err) == (1, True), refused.err


def test_shallow_clone_names_no_reviewer(company: Company, tmp_path: Path, call: Call) -> None:
    company.started("ada")
    company.decide(BOB, ada="keep")
    company.repo.git("clone", "--quiet", "--depth", "1", f"file://{company.repo.root}", str(tmp_path / "shallow"))
    clone = Repo.__new__(Repo)
    clone.root, clone.gnupg = tmp_path / "shallow", company.repo.gnupg
    done = call(clone, "review", "check", "2026-Q4", "--output", "json")
    assert done.code == 1
    assert "git fetch --unshallow" in done.json["reviews"][0]["problems"][0]["message"]


class Page(HTMLParser):
    """What a page is made of, and what a reader reads of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


EVIL = '<script>alert(1)</script>##[error]"\u202e'


def test_evidence_is_one_page_that_names_who_decided(company: Company) -> None:
    company.started("ada", "bob")
    data = company.data
    data["lines"][1] |= {"decision": "keep", "reason": EVIL}
    company.write(data)
    commit = company.commit("Eve & Sons <eve@example.com>")
    done = company.call("--output", "html", "review", "check", "2026-Q4")
    assert done.code == 2
    page = Page(done.out)
    tags = [tag for tag, _ in page.tags]
    assert (tags.count("script"), tags.count("link"), tags.count("img"), tags.count("h1")) == (0, 0, 0, 1)
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert not any(name in ("src", "style", "onclick") for _, attrs in page.tags for name in attrs)
    assert [attrs["href"] for _, attrs in page.tags if "href" in attrs] == ["#checkpoint"]
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert "<script>alert(1)</script>##[error]" in page.said
    assert "##[" not in done.out
    assert "\u202e" not in done.out
    assert "Eve & Sons <eve@example.com>" in page.said
    assert commit[:12] in page.said
    assert data["digest"] in page.said
    assert data["history"] in page.said


def test_evidence_names_the_checkpoint_it_was_made_at(company: Company, tmp_path: Path) -> None:
    company.started("ada")
    unsigned = Page(company.call("review", "check", "2026-Q4", "--output", "html").out).said
    assert "It is not signed: there is no CHECKPOINT_KEY" in " ".join(unsigned.split())
    assert company.repo.gnupg is not None
    whom = ["--recipient", company.repo.gnupg.fingerprint]
    assert company.call("history", "checkpoint", "--new-key", *whom).code == 0
    company.repo.settings(checkpoints={"branch": "proof", "remote": "https://us:secret@git.example.com/proof.git"})
    company.commit(BOB)
    html = company.call("review", "check", "2026-Q4", "--output", "html").out
    links = [attrs["href"] for _, attrs in Page(html).tags if "href" in attrs]
    assert links == ["#checkpoint", "https://***@git.example.com/proof.git"]
    note = tmp_path / "evidence.note"
    note.write_text(unescape(html.partition("<pre>\n")[2].partition("</pre>")[0]))
    assert note.read_text() == company.call("history", "checkpoint").out
    assert company.call("history", "--verify", "--checkpoint", str(note)).code == 0
    (row,) = company.evidence()
    assert row["checkpoint"] == " ".join(note.read_text().splitlines()[1:3])


def test_evidence_names_people_and_who_signed(company: Company) -> None:
    company.started("ada", strangers=("zoe@example.com",))
    data = company.data
    data["lines"][0]["decision"] = "keep"
    company.write(data)
    assert company.repo.gnupg is not None
    signed = ["-c", f"user.signingkey={company.repo.gnupg.fingerprint}", "-c", "gpg.format=openpgp"]
    company.repo.git("add", "--all")
    company.repo.git(*signed, "commit", "--quiet", "--gpg-sign", "--author", BOB, "--message", "Decide")
    ada, zoe = company.evidence()
    assert (ada["name"], ada["reviewer"], ada["signer"]) == ("Ada Example", BOB, company.repo.gnupg.uid)
    assert (zoe["name"], zoe["reviewer"], zoe["signer"]) == ("", "", "")
    assert (ada["committer"], zoe["committer"]) == ("Ida Admin <ida@example.com>", "")
    assert f"{BOB}, committed by Ida Admin <ida@example.com>, " in unescape(
        company.call("review", "check", "2026-Q4", "--output", "html").out
    )


def test_decision_of_a_commit_that_is_not_accepted_counts_for_nothing(company: Company) -> None:
    start = company.started("ada")
    company.repo.settings(git={"verify_signatures": True, "trusted_from": start})
    assert company.repo.gnupg is not None
    signing = ["-c", f"user.signingkey={company.repo.gnupg.fingerprint}", "-c", "gpg.format=openpgp"]
    company.repo.git("add", "--all")
    company.repo.git(*signing, "commit", "--quiet", "--gpg-sign", "--message", "Verify")
    assert company.call("--yes").code == 0
    company.decide(BOB, ada="keep")
    done = company.call("review", "check", "2026-Q4")
    assert (done.code, "1 of 1 line undecided" in done.out) == (2, True)
    assert "what is not accepted is not counted" in done.err


def test_evidence_shows_edited_values(company: Company) -> None:
    company.started("ada")
    data = company.data
    data["lines"].append({"who": 5, "values": {"ROLE": "admin", "ON": date(2026, 1, 1)}, "since": {"a": [None]}})
    company.write(data)
    company.commit(BOB)
    told = '{"ON":"2026-01-01","ROLE":"admin"}'
    assert [row["values"] for row in company.evidence()][:2] == ["", told]
    assert "ROLE: admin, ON: 2026-01-01" in unescape(company.call("review", "check", "2026-Q4", "--output", "html").out)


def test_csv_is_safe_to_open(company: Company) -> None:
    company.started("ada")
    data = company.data
    data["lines"][0] |= {"decision": "keep", "reason": "=HYPERLINK(1)"}
    company.write(data)
    company.commit(BOB)
    (row,) = company.evidence()
    assert (row["reason"], row["reviewer"], row["digest"]) == ("'=HYPERLINK(1)", BOB, data["digest"])


def test_html_is_for_evidence_alone(company: Company) -> None:
    company.commit(IDA)
    for words in (
        "status --output html",
        "--output html status",
        "--output html --dry-run",
        "review start 2027-Q1 --output html",
        "--output csv review start 2027-Q1",
    ):
        done = company.call(*words.split())
        assert (done.code, done.out) == (64, ""), words


def test_secrets_of_a_service_are_in_no_file(repo: Repo, call: Call) -> None:
    token = "tok-3141592653589793"
    with AccountService(token=token) as service:
        company = Company(repo, service, call)
        manifest = service.manifest(listing=True)
        repo.manifest("saas", manifest)
        repo.initial_data("saas", {"TOKEN": token})
        service.add(f"{token}@example.com")
        company.commit(IDA)
        done = call(repo, "review", "start", "2026-Q4")
    assert done.code == 0, done.err
    assert token not in (repo.root / PATH).read_text()
    assert [line["who"] for line in company.data["lines"]] == ["***@example.com"]


def test_values_from_git_are_not_masked_when_equal_to_a_secret(repo: Repo, call: Call) -> None:
    """An organization's name is initial data as well, and masked an author would be nobody."""
    token = "tok-3141592653589793"
    with AccountService(token=token) as service:
        company = Company(repo, service, call)
        repo.manifest("saas", service.manifest(listing=True))
        repo.initial_data("saas", {"TOKEN": token, "ORG": "example.com"})
        repo.hire("ada", "saas")
        company.commit(IDA)
        assert company.call("--yes").code == 0
        assert company.call("review", "start", "2026-Q4").code == 0
    assert [(line["who"], line["author"]) for line in company.data["lines"]] == [("ada", IDA)]
    company.commit(IDA)
    company.decide(IDA, ada="keep")
    assert "was granted by" in messages(company.check(1))[0]


@pytest.fixture
def managed(company: Company) -> Company:
    """Grace is Ada's and Bob's manager, by a file and by an address; nobody is hers."""
    company.repo.hire("grace", "saas")
    company.repo.hire("ada", "saas", manager={"hire": "grace"})
    company.repo.hire("bob", "saas", manager="Grace Hopper", manager_email="Grace@example.com")
    company.commit(IDA)
    assert company.call("--yes").code == 0
    company.saas.add("zoe@example.com")
    return company


def test_review_by_manager_has_a_folder_for_each(managed: Company) -> None:
    done = managed.call("review", "start", "2026-Q4", "--by", "manager", "--due", "2999-12-15", "--output", "json")
    assert done.code == 0, done.err
    folder = managed.repo.root / "config/reviews/2026-Q4"
    whole = {path.parent.name: yaml.safe_load(path.read_text()) for path in folder.glob("*/saas.yaml")}
    who = {manager: [line["who"] for line in data["lines"]] for manager, data in whole.items()}
    assert who == {"grace": ["ada", "bob"], "nobody": ["grace", "zoe@example.com"]}
    assert {(data["due"], data["listed"], data["matched"]) for data in whole.values()} == {("2999-12-15", 4, 3)}
    managed.commit(IDA, "Start the review")
    assert managed.call("validate").code == 0
    assert managed.call("review", "start", "2026-Q4").code == 1, "it was started"
    assert managed.call("review", "start", "2026-Q4", "--by", "manager", "--integration", "saas").code == 1
    check = managed.call("review", "check", "2026-Q4", "--output", "json")
    assert check.code == 2, check.out
    shown = [(each["manager"], each["due"], each["lines"], each["problems"]) for each in check.json["reviews"]]
    assert shown == [("grace", "2999-12-15", 2, []), ("nobody", "2999-12-15", 2, [])]
    table = managed.call("review", "check", "2026-Q4").out
    assert "config/reviews/2026-Q4/grace/saas.yaml: 0 kept, 0 to be removed, 2 undecided, due 2999-12-15\n" in table


def test_managers_file_that_is_gone_or_lacks_a_line_is_found(managed: Company) -> None:
    assert managed.call("review", "start", "2026-Q4", "--by", "manager").code == 0
    path = "config/reviews/2026-Q4/grace/saas.yaml"
    text = (managed.repo.root / path).read_text()
    data = yaml.safe_load(text)
    data["lines"] = [line for line in data["lines"] if line["who"] != "bob"]
    managed.repo.write(path, data)
    fit = review_in((managed.repo.root / path).read_bytes(), path)
    managed.repo.write(path, {**data, "digest": fit.digest})
    managed.commit(BOB, "Start the review, without mine")
    done = managed.call("review", "check", "2026-Q4", "--output", "json")
    said = [message for each in done.json["reviews"] for message in messages(each)]
    assert done.code == 1
    assert [message for message in said if "bob/saas is left out" in message], said
    managed.repo.remove(path)
    managed.commit(BOB, "Away with it")
    done = managed.call("review", "check", "2026-Q4", "--output", "json")
    assert done.code == 1
    assert any("it is gone" in message for each in done.json["reviews"] for message in messages(each))


def test_overdue_review_is_shown_and_alerted_once(managed: Company, service: Service) -> None:
    service.route("POST", "/hook", {})
    managed.repo.settings(prune="revoke", alerts=[{"webhook": f"{service.url}/hook"}])
    managed.commit(IDA)
    started = managed.call("review", "start", "2026-Q4", "--due", "2020-01-31")
    assert (started.code, "--due 2020-01-31: that day is over" in started.err) == (0, True)
    managed.commit(IDA, "Start the review")
    assert "4 undecided, due 2020-01-31, which is over" in managed.call("review", "check", "2026-Q4").out
    for _ in range(2):
        assert managed.call("--yes").code == 0
    told = [text for each in service.requests if "review is overdue" in (text := str(each.json()["text"]))]
    assert len(told) == 1
    assert "config/reviews/2026-Q4/saas.yaml: 4 undecided, due 2020-01-31" in told[0]


@pytest.mark.parametrize(("timezone", "over"), [("Pacific/Kiritimati", True), ("UTC", False)])
def test_due_day_is_one_of_the_time_zone(
    managed: Company, monkeypatch: pytest.MonkeyPatch, timezone: str, *, over: bool
) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime(2026, 12, 1, 12, tzinfo=UTC))
    managed.repo.settings(prune="revoke", timezone=timezone)
    managed.commit(IDA)
    started = managed.call("review", "start", "2026-Q4", "--due", "2026-12-01")
    managed.commit(IDA, "Start the review")
    checked = managed.call("review", "check", "2026-Q4").out
    assert ("that day is over" in started.err, "due 2026-12-01, which is over" in checked) == (over, over)


def test_due_day_that_is_none_is_wrong_usage(company: Company) -> None:
    company.commit(IDA)
    assert company.call("review", "start", "2026-Q4", "--due", "soon").code == 64


def test_page_begins_with_totals_dates_and_reviewers(company: Company) -> None:
    company.started("ada", "bob")
    company.decide("Grace Chief <grace@example.com>", ada="keep", bob="remove")
    page = unescape(company.call("review", "check", "2026-Q4", "--output", "html").out)
    head = page.partition("<main>")[0]
    assert "<dt>Lines</dt><dd>2 lines: 1 kept, 1 to be removed, 0 undecided; 1 removal still there</dd>" in head
    assert "<dt>Reviewers</dt><dd>Grace Chief <grace@example.com>, 2 lines</dd>" in head
    assert re.search(r"<dt>Decided</dt><dd>\d{4}-\d\d-\d\d</dd>", head)
