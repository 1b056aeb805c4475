"""What `reconcile diff` says that follows: a joiner, a mover, a leaver, an owner, settings and a manifest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.cli.goldens import same
from tests.repo import Repo

SCREEN = 45
"""The lines of a comment that fit on a screen."""

CRM = {
    "form": [
        {
            "id": "ROLE",
            "name": "Role",
            "type": "choice",
            "items": [{"id": "member", "name": "Member"}, {"id": "owner", "name": "Owner", "privileged": True}],
        }
    ],
    "exists": {"url": "https://crm.example.com/users/{{email}}", "expected": "{{email}}"},
    "execute": [{"url": "https://crm.example.com/users", "data": {"role": "{{ROLE}}"}}],
    "revoke": [{"url": "https://crm.example.com/users/{{email}}", "method": "DELETE"}],
}
HOOK = {"execute": [{"url": "https://hook.example.com/"}]}
OWNER = {"integration": "crm", "values": {"ROLE": "owner"}}
MEMBER = {"integration": "crm", "values": {"ROLE": "member"}}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Fourteen people in Sales, who are given `crm` by their department; Design is given `chat` and `draw`."""
    made = Repo(tmp_path / "repo")
    made.settings(prune="revoke")
    made.manifest("crm", CRM)
    for name in ("chat", "draw", "wiki"):
        made.manifest(name, HOOK)
    made.write("config/sequences/sales.yaml", {"assign": {"department": "Sales"}, "access": [MEMBER]})
    made.write("config/sequences/design.yaml", {"assign": {"department": "Design"}, "access": ["chat", "draw"]})
    people(made, "Sales")
    made.hire("dan", department="Design")
    made.hire("sue", department="Sales")
    return made


def people(repo: Repo, department: str, count: int = 14) -> None:
    for number in range(count):
        repo.hire(f"h{number:02}", department=department)


def shown(repo: Repo, call: Call, base: str) -> tuple[dict[str, Any], str]:
    repo.commit("after")
    found: dict[str, Any] = call(repo, "diff", base, "--output", "json").json
    return found, call(repo, "diff", base, "--output", "markdown").out


def test_a_department_that_moves_is_one_cause_and_fits_a_screen(repo: Repo, call: Call) -> None:
    base = repo.commit("before")
    people(repo, "Design")
    found, comment = shown(repo, call, base)
    assert found["causes"] == [
        {
            "kind": "fields",
            "what": "department Sales → Design",
            "file": None,
            "people": 14,
            "added": {"chat": 14, "draw": 14},
            "removed": {"crm": 14},
            "grants": 42,
            "parts": {},
        }
    ]
    assert found["held"] == [{"integration": "crm", "kind": "removed", "count": 14, "of": 15, "limit": 25.0}]
    assert {each["removal"] for each in found["grants"]} == {"revoked", None}
    why = "14 of 15 would be revoked, and `max_change_percent` is 25"
    until = "Nothing happens there until somebody runs `reconcile --yes-really`"
    plain = comment.partition("<details>")[0].splitlines()
    assert plain == [
        "**28 grants added, 14 grants removed, the guard would hold `crm`**",
        "",
        "**Held after the merge**",
        "",
        f"- the guard would hold `crm`: {why}. {until}",
        "",
        "**What changed in the files**",
        "",
        "- `department Sales → Design`: 14 people, 2 entries added, 1 removed each: gain `chat`, `draw`; lose `crm`",
        "",
        "**14 grants removed**",
        "",
        "- 14 people lose `crm`; it is revoked at the service",
        "",
    ]
    assert [line for line in comment.splitlines() if line.startswith("- 14 people get")] == [
        "- 14 people get `chat`",
        "- 14 people get `draw`",
    ]
    assert len(re.sub(r"<details>.*?</details>", "", comment, flags=re.DOTALL).splitlines()) <= SCREEN


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("Sales", "", "3 people, 1 entry removed each: lose `crm`"),
        ("", "Design", "3 people, 2 entries added each: gain `chat`, `draw`"),
    ],
)
def test_a_cause_says_how_much_each_of_its_people_gains_or_loses(
    repo: Repo, call: Call, before: str, after: str, said: str
) -> None:
    people(repo, before, 3)
    base = repo.commit("before")
    people(repo, after, 3)
    assert said in shown(repo, call, base)[1]


def test_many_who_join_fit_a_screen(repo: Repo, call: Call) -> None:
    base = repo.commit("before")
    for number in range(100):
        repo.hire(f"new{number:02}", "wiki", {"integration": "chat", "until": f"2999-01-{1 + number % 28:02}"})
    found, comment = shown(repo, call, base)
    assert len(found["causes"]) == 100
    plain = re.sub(r"<details>.*?</details>", "", comment, flags=re.DOTALL).splitlines()
    assert plain[:9] == [
        "**200 grants added**",
        "",
        "**What changed in the files**",
        "",
        "- 100 people join: their files are new",
        "",
        "**200 grants added**",
        "",
        "- 100 people get `chat`",
    ]
    assert plain[9] == "- 100 people get `wiki`"
    assert len(plain) <= SCREEN


def test_a_joiner_says_when_and_an_owner_stands_first(repo: Repo, call: Call) -> None:
    base = repo.commit("before")
    start = {"start": "2999-01-04", "end": "2999-06-30"}
    draw = {"integration": "draw", "until": "2999-02-01T12:00Z"}
    repo.hire("zoe", {**OWNER, "at": "start-3d"}, "wiki", draw, {"integration": "chat", "for": "8h"}, **start)
    repo.write("config/sequences/sales.yaml", {"assign": {"department": "Sales"}, "access": [OWNER]})
    found, comment = shown(repo, call, base)
    grants = {(each["hire"], each["access"]): each for each in found["grants"]}
    crm, wiki = grants["zoe", "crm"], grants["zoe", "wiki"]
    assert (crm["starts"], crm["ends"], crm["privileged"]) == ("2999-01-01", "2999-07-01", {"ROLE": "owner"})
    assert (wiki["starts"], wiki["ends"], wiki["privileged"]) == ("at once", "2999-07-01", {})
    draw, chat = grants["zoe", "draw"], grants["zoe", "chat"]
    assert (draw["ends"], chat["ends"]) == ("2999-02-01T12:00:00Z", "8h after it begins")
    assert found["causes"][0]["kind"] == "sequence"
    assert (found["causes"][0]["what"], found["causes"][0]["people"]) == ("sales", 15)
    lines = comment.splitlines()
    assert lines[0].startswith("**16 people PRIVILEGED, ")
    assert lines[2] == "**Becomes privileged**"
    assert lines[4] == "- 16 people in `crm`: `ROLE` `owner`"
    dates = "from 2999-01-01 until the end of 2999-06-30, then revoked"
    assert f"- `Zoe Example (zoe)` in `crm`: `ROLE` `owner` {dates}" in lines
    assert f"- `Zoe Example (zoe)` gets `crm` with `ROLE` `owner` {dates}" in lines
    no_revoke = "then it stays, and is only reported: the manifest has no `revoke`"
    assert (
        "- `Zoe Example (zoe)` gets `draw` at once, before the first day (2999-01-04) until 2999-02-01T12:00:00Z, "
        f"{no_revoke}" in lines
    )


@pytest.mark.parametrize("field", [{"type": "input"}, {"type": "choice", "url": "https://api.example.com/roles"}])
@pytest.mark.parametrize("role", ["OWNER", " owner", "owner\u200b", "\uff4fwner", {"name": "Owner"}])
def test_who_becomes_privileged_is_found_in_any_spelling(
    repo: Repo, call: Call, field: dict[str, Any], role: Any
) -> None:
    if role == {"name": "Owner"} and field["type"] == "input":
        role = "Owner"
    repo.manifest("crm", {**CRM, "form": [{"id": "ROLE", "name": "Role", "privileged": ["owner"], **field}]})
    base = repo.commit("before")
    repo.hire("zoe", {"integration": "crm", "values": {"ROLE": role}})
    found, comment = shown(repo, call, base)
    assert found["grants"][0]["privileged"] == {"ROLE": role}
    assert "PRIVILEGED" in comment.splitlines()[0]


@pytest.mark.parametrize(
    ("entry", "ends"),
    [
        ({"for": "8h"}, "8h after it begins"),
        ({"for": "8h", "at": "2999-06-30"}, "2999-07-01"),
        ({"for": "8h", "at": "2999-06-29"}, "8h after it begins"),
        ({"for": "8h", "until": "2999-06-01"}, "8h after it begins"),
        ({"for": "9d", "at": "2999-05-30", "until": "2999-06-01"}, "2999-06-01"),
    ],
)
def test_what_is_first_of_a_time_and_an_end_is_shown(repo: Repo, call: Call, entry: dict[str, Any], ends: str) -> None:
    repo.settings(prune="report")
    base = repo.commit("before")
    repo.hire("zoe", {**MEMBER, **entry}, end="2999-06-30")
    head = repo.commit("joins")
    repo.hire("zoe", end="2999-06-30")
    repo.commit("loses it")
    for revisions in ((base, head), (head, "main")):
        done = call(repo, "diff", *revisions, "--output", "json")
        assert [each["ends"] for each in done.json["grants"]] == [ends]


ROSTER = {"name": "keys", "hire": "zoe", "must_have": ["crm"]}
LEFT = "`Zoe Example (zoe)` is no longer to have `crm` with `ROLE` `member`; it stays, and is only reported: "
KEPT = LEFT.replace("`member`", "`member`, `keep` `true`")
LOST = "`Zoe Example (zoe)` loses `crm` with `ROLE` `member`; it is revoked at the service"


@pytest.mark.parametrize(
    ("settings", "entry", "stays", "told"),
    [
        ({"prune": "revoke"}, {}, None, LOST),
        ({"prune": "report"}, {}, "prune", f"{LEFT}`prune` is `report`"),
        ({"prune": {"default": "revoke", "crm": "report"}}, {}, "prune", f"{LEFT}`prune` is `report`"),
        ({"prune": "revoke"}, {"keep": True}, "keep", f"{KEPT}the entry has `keep`"),
        ({"prune": "report"}, {"until": "2999-01-01"}, None, f"{LOST} when its time is over: the end of 2998-12-31"),
        ({"prune": "report", "expire": "prune"}, {"until": "2999-01-01"}, "prune", f"{LEFT}`prune` is `report`"),
        ({"prune": "report"}, {"for": "8h"}, None, f"{LOST} when its time is over: 8h after it begins"),
    ],
)
def test_somebody_loses_only_what_is_revoked(
    repo: Repo, call: Call, settings: dict[str, Any], entry: dict[str, Any], stays: str | None, told: str
) -> None:
    repo.settings(**settings)
    repo.hire("zoe", {**MEMBER, **entry}, "wiki")
    base = repo.commit("before")
    repo.remove("hires/zoe.yaml")
    found, comment = shown(repo, call, base)
    assert {each["access"]: (each["removal"], each["stays"]) for each in found["grants"]} == {
        "crm": ("revoked" if stays is None else "reported", stays),
        "wiki": ("reported", "manifest"),
    }
    assert f"- {told}\n" in comment
    assert (
        "- `Zoe Example (zoe)` is no longer to have `wiki`; it stays, and is only reported: the manifest has no "
        "`revoke`\n" in comment
    )
    assert "- `hires/zoe.yaml` is gone: this person leaves\n" in comment
    assert [(each["kind"], each["what"]) for each in found["causes"]] == [("hire", "zoe")]


@pytest.mark.parametrize(
    ("policy", "entry", "stays", "told"),
    [
        ([ROSTER], "wiki", "policy", "by the policy the person must have it"),
        (None, "nothing", "errors", "nothing of a person whose files, or the policy, have errors is revoked"),
    ],
)
def test_what_is_kept_for_a_rule_or_an_error_is_not_lost(
    repo: Repo, call: Call, policy: Any, entry: str, stays: str, told: str
) -> None:
    if policy is not None:
        repo.write("config/policy.yaml", policy)
    repo.hire("zoe", MEMBER)
    base = repo.commit("before")
    repo.hire("zoe", entry)
    found, comment = shown(repo, call, base)
    assert {each["access"]: each["stays"] for each in found["grants"]}["crm"] == stays
    assert f"- {LEFT}{told}\n" in comment


@pytest.mark.parametrize("how", ["deleted", "broken", "under another name"])
def test_what_a_hire_had_beside_an_assigned_sequence_is_not_lost_while_that_cannot_be_read(
    repo: Repo, call: Call, how: str
) -> None:
    repo.write("config/sequences/sales.yaml", {"assign": {"department": "Sales"}, "include": ["selling"]})
    repo.write("config/sequences/selling.yaml", {"access": [MEMBER]})
    url = "https://shop.example.com/users/{{email}}"
    exists, revoke = {"url": url, "expected": "{{email}}"}, [{"url": url, "method": "DELETE"}]
    repo.manifest("shop", {"exists": exists, "revoke": revoke})
    repo.hire("sue", "shop", department="Sales")
    base = repo.commit()
    repo.hire("sue", department="Sales")
    repo.remove("config/sequences/sales.yaml")
    if how == "broken":
        repo.write("config/sequences/sales.yaml", "assign: [")
    if how == "under another name":
        repo.write("config/sequences/sold.yaml", {"assign": {"department": "Sales"}, "include": ["selling"]})
    found, _ = shown(repo, call, base)
    assert [(each["hire"], each["access"]) for each in found["grants"]] == [("sue", "shop")]
    stays = ("revoked", None) if how == "under another name" else ("reported", "errors")
    assert (found["grants"][0]["removal"], found["grants"][0]["stays"]) == stays


def test_an_account_that_another_entry_is_for_is_not_lost(repo: Repo, call: Call) -> None:
    """An entry gets another name, and one is given by the hire's file instead of a sequence."""
    repo.manifest("git", LOGIN)
    login = {"integration": "git", "values": {"LOGIN": "ada"}}
    repo.hire("ada", login, department="Sales")
    base = repo.commit("before")
    repo.hire("ada", {**login, "name": "code"}, {**MEMBER, "name": "sales"})
    found, comment = shown(repo, call, base)
    assert {each["access"]: (each["change"], each["removal"], each["stays"]) for each in found["grants"]} == {
        "code": ("added", None, None),
        "sales": ("added", None, None),
        "crm": ("removed", "reported", "same_account"),
        "git": ("removed", "reported", "same_account"),
    }
    assert "it stays, and is only reported: another entry is for the same account\n" in comment
    assert "somebody has to take it away" not in comment


def test_without_a_check_prune_revokes_nothing(repo: Repo, call: Call) -> None:
    repo.manifest("crm", {**CRM, "exists": None})
    base = repo.commit("before")
    repo.remove("hires/sue.yaml")
    found, comment = shown(repo, call, base)
    assert [(each["removal"], each["stays"]) for each in found["grants"]] == [("reported", "check")]
    assert "the manifest has no `exists`, without which nothing is revoked\n" in comment


LOGIN = {
    "form": [{"id": "LOGIN", "name": "Login", "type": "input"}],
    "exists": {"url": "https://git.example.com/users/{{LOGIN}}", "expected": "{{LOGIN}}"},
    "execute": [{"url": "https://git.example.com/users"}],
    "revoke": [{"url": "https://git.example.com/users/{{LOGIN}}", "method": "DELETE"}],
}


@pytest.mark.parametrize(("over", "warned"), [({"until": "2020-01-01"}, True), ({"end": "2020-01-01"}, False)])
def test_end_that_is_moved_once_it_was_over_gives_nothing(
    repo: Repo, call: Call, over: dict[str, str], *, warned: bool
) -> None:
    repo.manifest("git", LOGIN)
    entry = {"integration": "git", "values": {"LOGIN": "zoe"}}
    ends = {key: value for key, value in over.items() if key == "until"}
    repo.hire("zoe", {**entry, **ends}, **{key: value for key, value in over.items() if key == "end"})
    base = repo.commit("before")
    repo.hire("zoe", {**entry, **dict.fromkeys(ends, "2099-01-01")})
    found, comment = shown(repo, call, base)
    assert [each["change"] for each in found["grants"]] == ["added"]
    told = [each["message"] for each in found["problems"]["added"] if "was over in the base" in each["message"]]
    assert (len(told), "take the entry out, commit that, and add it again" in comment) == (int(warned), warned)


@pytest.mark.parametrize("identity", [True, False])
def test_choices_in_another_order_are_the_same_account(repo: Repo, call: Call, identity: bool) -> None:
    items = [{"id": 1, "name": "One"}, {"id": 2, "name": "Two"}]
    form = [{"id": "LOGIN", "name": "Teams", "type": "multiple_choice", "items": items, "identity": identity}]
    repo.manifest("git", {**LOGIN, "form": form})
    repo.hire("zoe", {"integration": "git", "values": {"LOGIN": [1, 2]}})
    base = repo.commit("before")
    repo.hire("zoe", {"integration": "git", "values": {"LOGIN": [2, 1]}})
    found, _ = shown(repo, call, base)
    assert [(each["applied"], each["former"]) for each in found["grants"]] == [(None, None)]


@pytest.mark.parametrize(
    ("prune", "former", "told"),
    [
        ("revoke", "revoked", "is revoked at the service"),
        ("report", "reported", "stays, and is only reported: `prune` is `report`"),
    ],
)
@pytest.mark.parametrize("most", [5, None])
def test_another_login_is_another_account(
    repo: Repo, call: Call, prune: str, former: str, told: str, *, most: int | None
) -> None:
    repo.settings(prune=prune, max_new=most)
    repo.manifest("git", LOGIN)

    def logins(text: str) -> None:
        for number in range(8):
            login = {"integration": "git", "values": {"LOGIN": f"{text}{number}"}}
            repo.hire(f"h{number:02}", login, department="Sales")

    logins("old")
    base = repo.commit("before")
    logins("new")
    found, comment = shown(repo, call, base)
    assert {(each["applied"], each["former"]) for each in found["grants"]} == {("another_account", former)}
    assert (
        "- `H00 Example (h00)` keeps `git`: `LOGIN` `old0` → `new0` (another account is made; the former one "
        f"{told})\n" in comment
    )
    assert [(each["kind"], each["count"]) for each in found["held"]] == [
        *([("removed", 8)] if prune == "revoke" else []),
        *([("new", 8)] if most else []),
    ]


def test_an_update_of_many_would_be_held(repo: Repo, call: Call) -> None:
    repo.settings(max_new=10)
    repo.manifest("crm", {**CRM, "update": "execute"})
    base = repo.commit("before")
    repo.write("config/sequences/sales.yaml", {"assign": {"department": "Sales"}, "access": [OWNER]})
    found, comment = shown(repo, call, base)
    assert found["held"] == [{"integration": "crm", "kind": "new", "count": 15, "of": 15, "limit": 10}]
    assert "- 15 people keep `crm`: `ROLE` `member` → `owner` (updated at the service)\n" in comment


def test_conditions_included_sequences_and_renamed_files_are_causes(repo: Repo, call: Call) -> None:
    repo.hire("ann", "wiki", email="ann@old.example.com", last_name="Moved")
    base = repo.commit("before")
    repo.write(
        "config/sequences/design.yaml", {"assign": {"department": ["Design", "Sales"]}, "access": ["chat", "draw"]}
    )
    repo.write("config/sequences/base.yaml", {"access": ["wiki"]})
    repo.write(
        "config/sequences/sales.yaml", {"assign": {"department": "Sales"}, "include": ["base"], "access": [MEMBER]}
    )
    repo.remove("hires/ann.yaml")
    repo.hire("ann2", "wiki", email="ann@new.example.com", first_name="Ann", last_name="Moved")
    found, comment = shown(repo, call, base)
    two = "two people for a pass: the address changes too"
    renamed = f"- file of `ann → ann2`: {two}, gain `wiki` (1 of them); are no longer to"
    assert renamed in comment
    assert [
        (each["kind"], each["what"], each["people"], each["added"], each["removed"]) for each in found["causes"]
    ] == [
        ("condition", "design", 15, {"chat": 15, "draw": 15}, {}),
        ("sequence", "base", 15, {"wiki": 15}, {}),
        ("hire", "ann → ann2", 2, {"wiki": 1}, {"wiki": 1}),
    ]


def test_a_request_is_a_cause_of_its_own(repo: Repo, call: Call) -> None:
    path = "config/requests/queue.yaml"
    asked: dict[str, Any] = {"hire": "dan", "access": {**MEMBER, "for": "8h"}, "reason": "INC-12"}
    repo.write("config/requestable.yaml", [{"integration": "crm"}])
    base = repo.commit("before")
    repo.write(path, asked)
    new, comment = shown(repo, call, base)
    repo.write(path, {**asked, "access": {**MEMBER, "for": "4h"}})
    changed, _ = shown(repo, call, repo.git("rev-parse", "HEAD"))
    repo.remove(path)
    gone, _ = shown(repo, call, repo.git("rev-parse", "HEAD"))
    keys = ("kind", "what", "file", "added", "removed")
    assert [[each[key] for key in keys] for found in (new, changed, gone) for each in found["causes"]] == [
        ["request", "queue", path, {"queue": 1}, {}],
        ["request", "queue", path, {}, {}],
        ["request", "queue", path, {}, {"queue": 1}],
    ]
    assert "request queue" not in comment  # a line of its own says it, where it is one person's


def test_an_entry_that_ends_later_comes_from_its_hires_file(repo: Repo, call: Call) -> None:
    repo.hire("eve", {**MEMBER, "until": "2098-01-01"})
    base = repo.commit("before")
    repo.hire("eve", {**MEMBER, "until": "2099-01-01"})
    found, _ = shown(repo, call, base)
    assert [(each["kind"], each["what"]) for each in found["causes"]] == [("hire", "eve")]


def test_settings_and_a_manifest_say_how_many_grants_they_touch(repo: Repo, call: Call) -> None:
    base = repo.commit("before")
    repo.settings(prune="report", listen="127.0.0.1:9")
    repo.manifest("crm", {**CRM, "revoke": []})
    found, comment = shown(repo, call, base)
    assert [(each["kind"], each["what"], each["people"], each["grants"]) for each in found["causes"]] == [
        ("manifest", "crm: revoke", 15, 15),
        ("settings", "prune: revoke → report", 16, 17),
        ("settings", f"listen: {repo.listen} → 127.0.0.1:9", 0, 0),
    ]
    assert "- manifest `crm: revoke`: concerns 15 grants of 15 people" in comment
    assert "  - `revoke`: `DELETE https://crm.example.com/users/{{email}}` → nothing" in comment
    assert f"- setting `listen: {repo.listen} → 127.0.0.1:9`: host:port of the status pages" in comment


def test_how_long_an_invitation_stays_open_is_shown_as_it_is_written(repo: Repo, call: Call) -> None:
    pending = {"url": "https://crm.example.com/invitations", "data_from": "", "match": "email"}
    exists = {"url": "https://crm.example.com/users/{{email}}", "expected": "{{email}}", "pending": pending}
    base = repo.commit("before")
    for changed, parts in (
        ({"expires": "7d", "resend": 2}, {"invitation": [None, {"expires": "7d", "resend": 2}]}),
        ({"expires": "36h", "resend": 2}, {"invitation.expires": ["7d", "36h"]}),
    ):
        repo.manifest("crm", {**CRM, "exists": exists, "invitation": changed})
        found, _ = shown(repo, call, base)
        (cause,) = [each for each in found["causes"] if each["kind"] == "manifest"]
        assert parts.items() <= cause["parts"].items()
        base = repo.commit("changed")


def test_more_new_accounts_than_allowed_would_be_held(repo: Repo, call: Call) -> None:
    repo.settings(max_new=10)
    base = repo.commit("before")
    repo.write("config/sequences/all.yaml", {"assign": {"department": "Sales"}, "access": ["wiki"]})
    found, _ = shown(repo, call, base)
    assert found["held"] == [{"integration": "wiki", "kind": "new", "count": 15, "of": 0, "limit": 10}]


def joiner(repo: Repo) -> None:
    repo.hire("zoe", MEMBER, department="Design", start="2999-01-01", end="2999-07-01", last_name="Zed")


def mover(repo: Repo) -> None:
    repo.hire("h00", department="Design")


def leaver(repo: Repo) -> None:
    repo.remove("hires/h00.yaml")


def owner(repo: Repo) -> None:
    repo.hire("h00", OWNER, department="Sales")


def settings(repo: Repo) -> None:
    repo.settings(prune="report", max_new=50)


def manifest(repo: Repo) -> None:
    repo.manifest(
        "crm", {**CRM, "execute": [{"url": "https://crm.example.com/v2/users", "data": {"role": "{{ROLE}}"}}]}
    )


@pytest.mark.parametrize("change", [joiner, mover, leaver, owner, settings, manifest], ids=lambda each: each.__name__)
def test_the_comment_of_each_kind_of_pull_request(repo: Repo, call: Call, change: Callable[[Repo], None]) -> None:
    """What a reviewer reads; the golden files are for people, too."""
    base = repo.commit("before")
    change(repo)
    _, markdown = shown(repo, call, base)
    assert len(markdown.splitlines()) <= SCREEN
    same(f"comments/{change.__name__}.md", markdown)


def test_what_was_held_and_is_given_now_is_a_change_and_may_become_privileged(repo: Repo, call: Call) -> None:
    """By a rule that goes, a wider offer, or a conflict that ends: without a change of the entry, or of its hire."""
    repo.write("config/policy.yaml", [{"name": "bounded", "when": {"position": "Temp"}, "require": "until"}])
    repo.write("config/requestable.yaml", [])
    asked = {"hire": "dan", "access": {**OWNER, "for": "8h"}, "reason": "INC-12"}
    repo.write("config/requests/q.yaml", asked)
    repo.write("config/sequences/one.yaml", {"access": [OWNER]})
    repo.write("config/sequences/two.yaml", {"access": [MEMBER]})
    repo.hire("pat", sequences=["one", "two"])
    repo.hire("tom", OWNER, position="Temp")
    repo.hire("win", "wiki", OWNER)
    base = repo.commit("before")
    repo.write("config/policy.yaml", [])
    repo.write("config/requestable.yaml", [{"integration": "crm"}])
    repo.write("config/sequences/two.yaml", {"access": []})
    found, comment = shown(repo, call, base)
    given = {change["hire"]: (change["access"], change["change"], change["privileged"]) for change in found["grants"]}
    owner = {"ROLE": "owner"}
    assert given == {"dan": ("q", "changed", owner), "pat": ("crm", "changed", owner), "tom": ("crm", "changed", owner)}
    assert [change["fields"]["held"][1] for change in found["grants"]] == [None, None, None]
    assert "no longer held: `policy bounded: it has no until`" in comment
    assert shown(repo, call, repo.commit("again"))[0]["grants"] == []
