"""`reconcile explain`: one screen that answers why, without a request and without a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Any

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.model.grant import Key, Record
from reconciler.model.status import ReasonCode, Status
from reconciler.model.value import replace
from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService

TOKEN = "invented-token"


@pytest.fixture
def accounts() -> Iterator[AccountService]:
    with AccountService(token=TOKEN) as running:
        yield running


@pytest.fixture
def saas(repo: Repo, accounts: AccountService) -> Repo:
    repo.manifest("saas", accounts.manifest(team=True, revoke=True))
    repo.hire("ada", {"integration": "saas", "values": {"TEAM": "1"}})
    repo.hire("grace")
    repo.initial_data("saas", {"TOKEN": TOKEN})
    repo.commit()
    return repo


def steady(text: str, repo: Repo) -> str:
    """Without what differs from run to run: times, ports and commit ids."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"127\.0\.0\.1:\d+ *", "HOST", text)
    return text.replace(repo.git("rev-parse", "HEAD")[:12], "COMMIT")


HALF_DONE = """\
ada/saas: retrying: request 2 of 2 (POST): answered 500
  ada@example.com  hires/ada.yaml:5  checked TIME  last pass at COMMIT
  granted in COMMIT by Ida Admin <ida@example.com>

values
  email       "ada@example.com"  hires/ada.yaml
  first_name  "Ada"              hires/ada.yaml
  last_name   "Example"          hires/ada.yaml
  TEAM        "1"                hires/ada.yaml:5
  TOKEN       ***                config/initial_data/saas

attempt 1 (execute) at TIME: failed: request 2 of 2 (POST): answered 500
  1/2  POST http://HOST/users            201  done     TIME
  2/2  POST http://HOST/teams/1/members  500  refused  TIME  answered 500

next
  runs again at TIME, in 60 min
  `reconcile retry ada saas` starts it afresh at the next pass, with two attempts
"""


def test_a_half_done_attempt_on_one_screen(saas: Repo, accounts: AccountService, call: Call) -> None:
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    assert call(saas).code == 1
    asked = len(accounts.requests)
    done = call(saas, "explain", "ada", "saas")
    assert (done.code, done.err) == (0, "")
    assert steady(done.out, saas) == HALF_DONE
    assert len(accounts.requests) == asked, "explain sends nothing"


def test_json_has_all_of_it(saas: Repo, accounts: AccountService, call: Call) -> None:
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    call(saas)
    told = call(saas, "explain", "ada", "saas", "--output", "json").json
    assert (told["status"], told["attempts"], told["sequence"]) == ("retrying", 1, None)
    assert {"name": "TOKEN", "value": "***", "origin": "config/initial_data/saas", "secret": True} in told["values"]
    (attempt,) = told["last_attempts"]
    assert [(each["status_code"], each["outcome"]) for each in attempt["requests"]] == [(201, "done"), (500, "refused")]
    assert attempt["error"] == told["last_error"] == "request 2 of 2 (POST): answered 500"


def test_markdown_cannot_be_broken_out_of(saas: Repo, call: Call) -> None:
    done = call(saas, "explain", "ada", "saas", "--output", "markdown")
    first, _, *rest = done.out.splitlines()
    assert first.startswith("**`ada/saas: new: ")
    assert all(not line or line.startswith("    ") for line in rest)


def test_differences_are_shown_with_what_happens_next(repo: Repo, call: Call) -> None:
    with AccountService() as service:
        manifest = service.manifest()
        manifest["form"] = [{"id": "ROLE", "type": "input"}]
        manifest["exists"]["where"] = {"role": "{{ROLE}}"}
        repo.manifest("saas", manifest)
        repo.hire("ada", {"integration": "saas", "values": {"ROLE": "maintainer"}})
        repo.commit()
        service.add("ada@example.com")
        service.people["ada@example.com"]["role"] = "member"
        done = call(repo)
        assert done.code == 1
        assert "needs a person: 1 not as git wants it" in done.out
        told = call(repo, "explain", "ada", "saas").out
        assert "  role  member → maintainer  not applied\n" in told
        assert "`reconcile accept ada saas` takes it as it is" in told
        service.people["ada@example.com"]["active"] = False
        manifest["exists"]["inactive"] = {"active": False}
        repo.manifest("saas", manifest)
        repo.commit()
        call(repo)
        refused = call(repo, "accept", "ada", "saas")
        assert refused.code == 1
        assert "ada/saas is switched off" in refused.err


def test_before_any_pass(saas: Repo, call: Call) -> None:
    out = call(saas, "explain", "ada", "saas").out
    assert out.startswith("ada/saas: new: not looked at yet: the next pass does\n")
    assert not saas.state.exists(), "explain makes no state"


def test_after_a_retry_was_asked_for(saas: Repo, accounts: AccountService, call: Call) -> None:
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    call(saas)
    call(saas, "retry", "ada", "saas")
    assert call(saas, "explain", "ada", "saas").out.endswith("next\n  asked for: it starts afresh at the next pass\n")


@pytest.mark.parametrize("env", [{"GNUPGHOME": "/nowhere"}, {"PATH": "/nowhere"}], ids=["no-home", "no-gpg"])
def test_without_gpg(saas: Repo, call: Call, env: dict[str, str]) -> None:
    done = call(saas, "explain", "ada", "saas", env=env)
    assert done.code == 0
    assert re.search(r"^  TOKEN +encrypted in config/initial_data/saas ", done.out, re.MULTILINE)


def test_a_field_that_is_no_secret_is_shown(saas: Repo, accounts: AccountService, call: Call) -> None:
    manifest = accounts.manifest()
    manifest["initial_data_form"].append({"id": "ORG", "secret": False})
    manifest["execute"][0]["data"]["org"] = "{{ORG}}"
    saas.manifest("saas", manifest)
    saas.hire("ada", "saas")
    saas.initial_data("saas", {"TOKEN": TOKEN, "ORG": "1200"})
    saas.commit()
    out = call(saas, "explain", "ada", "saas").out
    assert re.search(r'^  ORG +"1200" ', out, re.MULTILINE)
    assert TOKEN not in out


@pytest.mark.parametrize(
    ("entry", "settings", "first", "following"),
    [
        (
            {"integration": "saas", "values": {"TEAM": "1"}, "at": date(2090, 1, 1)},
            {},
            "ada/saas: scheduled: begins on 2090-01-01",
            "begins on 2090-01-01",
        ),
        (
            {"integration": "saas"},
            {},
            "ada/saas: blocked: variable {{TEAM}} is a form field, and the entry has no values.TEAM",
            "goes on by itself, with the next pass once that is mended",
        ),
        (
            {"integration": "saas", "values": {"TAEM": "1"}},
            {},
            "ada/saas: invalid: values.TAEM: the manifest's form has no such field: did you mean TEAM?",
            "goes on once hires/ada.yaml:5 is mended and committed",
        ),
        (
            {"integration": "saas", "values": {"TEAM": "1"}},
            {"suspend": [{"integration": "saas", "until": "2090-01-01", "reason": "they move"}]},
            "ada/saas: suspended: suspended until 2090-01-01: they move",
            "goes on when the suspension ends",
        ),
    ],
    ids=["scheduled", "blocked", "invalid", "suspended"],
)
def test_statuses_that_the_files_alone_decide(
    saas: Repo, call: Call, entry: dict, settings: dict, first: str, following: str
) -> None:
    saas.settings(**settings)
    saas.hire("ada", entry)
    saas.commit()
    lines = call(saas, "explain", "ada", "saas").out.splitlines()
    assert lines[0] == first
    assert lines[lines.index("next") + 1] == f"  {following}"


@pytest.mark.parametrize(
    ("code", "following"),
    [
        (ReasonCode.COUNTING, "goes on once the guard has counted it all, or is held"),
        (ReasonCode.TRIPPED, "`reconcile --yes-really` lets it through, once"),
    ],
)
def test_what_the_guard_has_not_counted_yet_is_not_to_be_let_through(
    saas: Repo, call: Call, code: ReasonCode, following: str
) -> None:
    key = Key("ada", "saas")
    held = Record(key, "ada@example.com", "saas", "saas", "hires/ada.yaml:5", status=Status.SUSPENDED, guarded=True)
    held = replace(held, reason="held by the guard", code=code)
    with closing(StateLocation(saas.state_url, saas.root).writer()) as ledger:
        ledger.save([held])
    lines = call(saas, "explain", *key).out.splitlines()
    assert lines[0] == "ada/saas: suspended: held by the guard"
    assert lines[lines.index("next") + 1 :] == [f"  {following}"]


def test_initial_data_that_is_not_there(saas: Repo, call: Call) -> None:
    saas.remove("config/initial_data/saas.yaml.gpg")
    saas.commit()
    out = call(saas, "explain", "ada", "saas").out
    assert out.startswith("ada/saas: blocked: ")
    assert re.search(
        r"^  TOKEN +NO VALUE +is missing: `reconcile initial-data set saas` asks for it", out, re.MULTILINE
    )


def test_a_manager_whose_file_is_not_there(saas: Repo, call: Call) -> None:
    saas.manifest("saas", {"execute": [{"url": "https://a.example.com/", "data": {"boss": "{{manager}}"}}]})
    saas.hire("ada", "saas", manager={"hire": "nobody"})
    saas.commit()
    first = call(saas, "explain", "ada", "saas").out.splitlines()[0]
    assert first == (
        "ada/saas: blocked: variable {{manager}} has no value: manager is {hire: nobody}, and there is no "
        "hires/nobody.yaml"
    )


def test_an_orphan_is_explained_from_the_ledger(saas: Repo, call: Call) -> None:
    call(saas)
    saas.remove("hires/ada.yaml")
    saas.commit()
    call(saas)
    out = call(saas, "explain", "ada", "saas").out
    assert out.startswith("ada/saas: orphaned: no longer in git; prune: report\n")
    assert re.search(r'^  TEAM +"1" +the ledger$', out, re.MULTILINE)
    assert out.endswith("`reconcile revoke ada saas` takes it away\n")


def test_an_orphan_whose_end_lies_ahead_is_revoked_then(saas: Repo, call: Call) -> None:
    saas.hire("ada", {"integration": "saas", "values": {"TEAM": "1"}, "until": "2099-01-01"})
    saas.commit()
    call(saas)
    saas.remove("hires/ada.yaml")
    saas.commit()
    call(saas)
    out = call(saas, "explain", "ada", "saas").out
    assert "\n  revoked when its time is over, at 2099-01-01T00:00:00Z\n" in out
    assert "nothing on its own" not in out


def test_an_orphan_that_no_request_takes_away(repo: Repo, accounts: AccountService, call: Call) -> None:
    repo.manifest("saas", accounts.manifest())
    repo.hire("ada", "saas")
    repo.hire("grace")
    repo.initial_data("saas", {"TOKEN": TOKEN})
    repo.commit()
    call(repo)
    repo.remove("hires/ada.yaml")
    repo.commit()
    call(repo)
    out = call(repo, "explain", "ada", "saas").out
    assert out.endswith(
        "\n  nothing on its own: the manifest has no revoke\n"
        "  remove the account at the service: it is revoked once a pass no longer finds it\n"
    )


def test_an_orphan_whose_removal_lacks_a_value(saas: Repo, accounts: AccountService, call: Call) -> None:
    assert saas.gnupg is not None
    saas.settings(gnupg_home=saas.gnupg.path, prune="revoke")
    saas.commit()
    call(saas, "--yes")
    saas.remove("hires/ada.yaml")
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"][0]["url"] += "?seat={{SEAT}}"
    saas.manifest("saas", manifest)
    saas.commit()
    assert call(saas, "--yes").code == 1
    assert call(saas, "status").code == 1
    out = call(saas, "explain", "ada", "saas").out
    assert out.startswith("ada/saas: orphaned: no longer in git; variable {{SEAT}} is not known: remove the account")
    assert out.endswith(
        "\n  nothing on its own: what would take it away cannot be sent\n"
        "  remove the account at the service: it is revoked once a pass no longer finds it\n"
    )


def test_a_broken_file_holds_its_grants(saas: Repo, call: Call) -> None:
    call(saas)
    saas.write("hires/ada.yaml", "email: [\n")
    saas.commit()
    out = call(saas, "explain", "ada", "saas").out
    assert out.startswith("ada/saas: invalid: hires/ada.yaml:")
    assert "goes on once the file is mended" in out


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (("adda", "saas"), 64, "there is no hire adda; did you mean ada?"),
        (("ada", "sas"), 64, "ada has no access entry sas: it has saas; did you mean saas?"),
        (("grace", "saas"), 64, "grace has no access entry saas: it has no access entries"),
    ],
    ids=["hire", "access", "none"],
)
def test_names_that_are_nowhere(saas: Repo, call: Call, names: tuple[str, str], code: int, said: str) -> None:
    done = call(saas, "explain", *names)
    assert (done.code, done.out, done.err) == (code, "", f"error: {said}\n")


def test_value_that_a_needed_entry_stores_is_known(repo: Repo, call: Call) -> None:
    with AccountService() as open_to_all:
        base, team = open_to_all.manifest(), {**open_to_all.manifest(), "service": "tool"}
        base["execute"][0]["store_data"] = {"UID": "id"}
        team["execute"] = [
            {"url": f"{open_to_all.url}/teams/7/members", "data": {"email": "{{email}}", "id": "{{UID}}"}}
        ]
        repo.settings()
        repo.manifest("tool", base)
        repo.manifest("team", team)
        repo.hire("ada", "tool", {"integration": "team", "needs": ["tool"]})
        repo.commit()
        call(repo, "--yes")
    told = call(repo, "explain", "ada", "team", "--output", "json").json
    assert told["status"] == call(repo, "status", "--output", "json").grant("ada", "team")["status"] == "present"
    assert {each["name"]: each["value"] for each in told["values"]}["UID"] == "known when it runs"
    repo.hire("ada", {"integration": "tool", "until": "2026-01-01"}, {"integration": "team", "needs": ["tool"]})
    repo.commit()
    assert "UID" not in call(repo, "explain", "ada", "team", "--output", "json").json["reason"]


def test_a_long_form_still_fits(saas: Repo, call: Call) -> None:
    ids = [f"F{index}" for index in range(40)]
    saas.manifest(
        "saas",
        {
            "form": [{"id": name, "type": "input"} for name in ids],
            "execute": [{"url": "https://a.example.com/", "data": {name: f"{{{{{name}}}}}" for name in ids}}],
        },
    )
    saas.hire("ada", {"integration": "saas", "values": dict.fromkeys(ids, "x" * 500)})
    saas.commit()
    lines = call(saas, "explain", "ada", "saas").out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120
    assert "  and 28 more: --output json has them all" in lines


@pytest.mark.parametrize(("given", "shown"), [(30, "30"), ("30", '"30"'), (True, "true"), ("true", '"true"')])
def test_number_is_distinguished_from_text(repo: Repo, call: Call, given: Any, shown: str) -> None:
    manifest = {
        "form": [{"id": "SEATS", "type": "input"}],
        "execute": [{"url": "https://saas.example.com/", "data": {"seats": "{{SEATS}}"}}],
    }
    repo.manifest("saas", manifest)
    repo.hire("ada", {"integration": "saas", "values": {"SEATS": given}})
    repo.commit()
    assert f"  SEATS  {shown}  hires/ada.yaml:5\n" in call(repo, "explain", "ada", "saas").out
    (value,) = call(repo, "explain", "ada", "saas", "--output", "json").json["values"]
    assert (value["value"], type(value["value"])) == (given, type(given))
