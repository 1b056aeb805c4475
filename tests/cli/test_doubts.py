"""What is probably a mistake and breaks nothing: `validate` warns of it, and names what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo

PERSON = "email: {0}@example.com\nfirst_name: A\nlast_name: B\n"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.manifest("slack", {"execute": [{"url": "https://slack.com/"}]})
    made.write("hires/grace.yaml", PERSON.format("grace"))
    return made


def warnings(repo: Repo, call: Call) -> list[tuple[str, int | None, str]]:
    done = call(repo, "validate", "--output", "json")
    assert [each for each in done.json["problems"] if each["severity"] == "error"] == []
    assert done.code == 0
    return [(each["file"], each["line"], each["message"]) for each in done.json["problems"]]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("hires/bob.txt", "not read: a name in hires/ ends in .yaml, .yml; rename it; did you mean bob.yaml?"),
        ("hires/bob.yaml.bak", "did you mean bob.yaml?"),
        ("hires/team/bob", "did you mean bob.yaml?"),
        ("manifests/slack.yaml~", "did you mean slack.yaml?"),
        ("config/sequences/base.yaml.orig", "did you mean base.yaml?"),
        ("config/polcy.yaml", "did you mean policy.yaml?"),
        ("config/sequence/base.yaml", "did you mean sequences/?"),
        ("config/reviews/notes.txt", "not read: a review is"),
        ("config/initial_data/slack.txt", "did you mean slack.yaml.gpg?"),
        ("config/initial_data/chat/slack.yaml.gpg", "did you mean slack.yaml.gpg?"),
    ],
)
def test_a_file_that_is_not_read(repo: Repo, call: Call, path: str, says: str) -> None:
    repo.write(path, "whatever")
    ((file, _, message),) = warnings(repo, call)
    assert (file, says in message) == (path, True), message


@pytest.mark.parametrize(
    "path",
    ["hires/README.md", "manifests/README", "config/.keep", "hires/.old/x", "config/initial_data/.old/x", "notes.txt"],
)
def test_a_file_that_may_be_there(repo: Repo, call: Call, path: str) -> None:
    repo.write(path, "whatever")
    assert warnings(repo, call) == []


def test_days_that_are_over_and_people_who_are_not_there(repo: Repo, call: Call) -> None:
    repo.write(
        "hires/ada.yaml",
        PERSON.format("ada") + "manager: {hire: gracy}\nbuddy: {hire: grace}\naccess:\n"
        "  - {integration: slack, until: 2020-01-01}\n"
        "  - {integration: slack, name: later, until: 2099-01-01}\n",
    )
    for name in ("bob", "cyd"):
        access = "access: [{integration: slack, until: 2019-01-01}]\n"
        repo.write(f"hires/{name}.yaml", f"{PERSON.format(name)}end: 2020-06-30\n{access}")
    repo.write("hires/dan.yaml", PERSON.format("dan") + "start: 2099-02-01\nend: 2099-01-01\n")
    given = [{"integration": "slack", "until": day} for day in ("2020-01-01T18:00", "2099-01-01", "end")]
    repo.write("config/sequences/all.yaml", {"access": [{**each, "name": each["until"][:4]} for each in given]})
    assert warnings(repo, call) == [
        ("config/sequences/all.yaml", 3, "access 2020: until 2020-01-01T18:00 is over: take the entry out, or move it"),
        ("hires", None, "the `end` of 2 hires is over: once nothing is left of what they had, their files can go"),
        ("hires/ada.yaml", 4, "manager: there is no hires/gracy.yaml: did you mean grace?"),
        ("hires/ada.yaml", 7, "access slack: until 2020-01-01 is over: take the entry out, or move it"),
        ("hires/dan.yaml", 5, "end 2099-01-01 is before start 2099-02-01"),
    ]


def test_an_integration_or_a_field_that_a_rule_names_is_not_there(repo: Repo, call: Call) -> None:
    form = [{"id": "ROLE", "name": "Role", "type": "input"}]
    repo.manifest("github", {"form": form, "execute": [{"url": "https://github.com/{{ROLE}}"}]})
    repo.write("config/requestable.yaml", "- integration: slcak\n- {integration: github, values: {ROEL: [member]}}\n")
    repo.write(
        "config/policy.yaml",
        "- {name: a, integration: githb, at_most: 1}\n"
        "- {name: b, integration: github, values: {role: admin}, at_most: 1}\n",
    )
    assert warnings(repo, call) == [
        ("config/policy.yaml", 1, "policy a: there is no integration githb; did you mean github?"),
        ("config/policy.yaml", 2, "policy b: the form of github has no role; did you mean ROLE?"),
        ("config/requestable.yaml", 1, "slcak: there is no integration slcak; did you mean slack?"),
        ("config/requestable.yaml", 2, "github: the form of github has no ROEL; did you mean ROLE?"),
    ]


@pytest.mark.parametrize(
    "key", ["access", "sequences", "position", "start", "manager", "extra", "buddy_email", "source"]
)
def test_a_key_with_nothing_under_it_is_not_there(repo: Repo, call: Call, key: str) -> None:
    repo.write("hires/ada.yaml", f"{PERSON.format('ada')}{key}:\n  # to come\n")
    assert warnings(repo, call) == []
    repo.commit()
    assert call(repo, "--dry-run").code == 0


def test_a_key_with_nothing_under_it_within_an_entry(repo: Repo, call: Call) -> None:
    entry = "access:\n- {integration: slack, values: , at: , keep: , needs: , name: }\n"
    repo.write("hires/ada.yaml", PERSON.format("ada") + entry)
    repo.write("config/reconciler.yaml", "limits:\n  timeout:\nsuspend:\nmax_new:\n")
    repo.write("config/sequences/base.yaml", "assign:\n" + entry)
    assert [message for *_, message in warnings(repo, call) if "base" not in message] == []


def test_a_key_with_nothing_under_it_in_a_manifest(repo: Repo, call: Call) -> None:
    request = "{url: https://example.com/, method: , headers: , store_data: , files: , cast_data_to_json: , polling: }"
    parts = "form:\nexists:\nrevoke:\nheaders:\noauth:\ninitial_data_form:\npost_execute_notification:\n"
    repo.write("manifests/slack.yaml", f"{parts}execute: [{request}]\n")
    repo.hire("ada", "slack")
    assert warnings(repo, call) == []


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("hires/ada.yaml", "end:\n", 4),
        ("hires/ada.yaml", "without:\n", 4),
        ("hires/ada.yaml", "access: [{integration: slack, until: }]\n", 4),
        ("config/policy.yaml", "- {name: a, when: , require: until}\n", 1),
        ("config/policy.yaml", "- {name: a, integration: slack, values: , at_most: 1}\n", 1),
        ("config/policy.yaml", "- {name: a, integration: slack, values: {ROLE: }, at_most: 1}\n", 1),
        ("config/policy.yaml", "- {name: a, integration: slack, at_least: 1, at_most: }\n", 1),
        ("config/requestable.yaml", "- integration: slack\n  values: {ROLE: }\n", 2),
        ("config/ignore.yaml", "- {integration: slack, account: a, reason: CI, until: }\n", 1),
        ("config/reconciler.yaml", "suspend: [{integration: slack, until: , reason: moving}]\n", 1),
    ],
)
def test_what_restricts_must_not_be_left_unfinished(repo: Repo, call: Call, file: str, text: str, line: int) -> None:
    repo.write(file, (PERSON.format("ada") if file.startswith("hires") else "") + text)
    done = call(repo, "validate", "--output", "json")
    ((where, at, message),) = [(each["file"], each["line"], each["message"]) for each in done.json["problems"]]
    assert (done.code, where, at) == (1, file, line)
    assert message.endswith("is empty: give it a value, or take the key out")
