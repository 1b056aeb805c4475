"""`reconcile initial-data`: secrets in, encrypted, and never out again."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Call
from tests.repo import GnupgHome, Repo, start_cli
from tests.servers import PATIENCE

ASANA = {
    "execute": [{"url": "https://app.asana.com/{{ORG}}", "headers": {"Authorization": "Bearer {{TOKEN}}"}}],
    "initial_data_form": [
        {"id": "TOKEN", "name": "Token", "description": "From the settings page"},
        {"id": "ORG", "secret": False},
        {"id": "PASSWORD", "name": "generate"},
    ],
}
TOKEN = "invented-token"
FILE = "config/initial_data/asana.yaml.gpg"


@pytest.fixture
def asana(repo: Repo) -> Repo:
    repo.manifest("asana", ASANA)
    repo.commit()
    return repo


def opened(repo: Repo, file: str = FILE) -> dict[str, Any]:
    assert repo.gnupg is not None
    command = ["gpg", "--homedir", repo.gnupg.path, "--batch", "--quiet", "--decrypt", str(repo.root / file)]
    found: dict[str, Any] = yaml.safe_load(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def given(**values: str) -> str:
    return yaml.safe_dump(values)


# --- set -------------------------------------------------------------------------------------------------------------


def test_from_standard_input(asana: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    done = call(
        asana, "initial-data", "set", "asana", "--recipient", gnupg_home.fingerprint, given=given(TOKEN=TOKEN, ORG="12")
    )
    assert (done.code, done.out) == (0, f"{FILE}\n")
    assert done.err == (
        f'encrypted to {gnupg_home.fingerprint}\nnext: git add {FILE} && git commit -m "Initial data of asana"\n'
    )
    assert opened(asana) == {"TOKEN": TOKEN, "ORG": "12"}
    assert (asana.root / FILE).stat().st_mode & 0o777 == 0o600
    assert call(asana, "initial-data", "check", "asana").code == 0


def test_two_secrets_of_hooks_while_one_is_changed(asana: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    events = {"token": {"header": "X-Token", "value": "{{HOOK_SECRET}}"}, "account": "email"}
    asana.manifest("asana", {**ASANA, "events": events})
    text = yaml.safe_dump({"TOKEN": TOKEN, "ORG": "12", "HOOK_SECRET": ["new", "old"]})
    arguments = ("initial-data", "set", "asana", "--recipient", gnupg_home.fingerprint)
    assert call(asana, *arguments, given=text).code == 0
    assert opened(asana)["HOOK_SECRET"] == "new\nold"
    refused = call(asana, *arguments, given=yaml.safe_dump({"TOKEN": ["new", "old"]}))
    assert "TOKEN has to be one text or number" in refused.err
    assert call(asana, *arguments, given=given(TOKEN=TOKEN, ORG="12")).code == 0
    assert call(asana, "initial-data", "check", "asana").code == 0, "who has no hook needs no secret for it"


def test_the_keys_of_the_folder_are_used_again(asana: Repo, call: Call) -> None:
    asana.initial_data("slack", {"TOKEN": "x"})
    done = call(asana, "initial-data", "set", "asana", "--output", "json", given=given(TOKEN=TOKEN))
    assert done.code == 0
    assert {**done.json, "recipients": len(done.json["recipients"])} == {
        "service": "asana",
        "file": FILE,
        "recipients": 1,
        "set": ["TOKEN"],
        "missing": ["ORG"],
    }
    assert f"encrypted to Test Team <it@example.com> (key {done.json['recipients'][0]})\n" in done.err
    assert "still missing: ORG" in done.err
    assert opened(asana) == {"TOKEN": TOKEN}


def test_empty_answers_and_unknown_ids_keep_their_values(asana: Repo, call: Call) -> None:
    asana.initial_data("asana", {"TOKEN": "old-token", "ORG": "12", "OLDER": "kept"})
    assert call(asana, "initial-data", "set", "asana", given="TOKEN: new-token\nORG:\n").code == 0
    assert opened(asana) == {"TOKEN": "new-token", "ORG": "12", "OLDER": "kept"}


def test_a_value_of_several_lines(asana: Repo, call: Call) -> None:
    asana.initial_data("asana", {"ORG": "12"})
    assert call(asana, "initial-data", "set", "asana", given="TOKEN: |\n  first\n  second\n").code == 0
    assert opened(asana)["TOKEN"] == "first\nsecond\n"


def test_values_that_cannot_be_read_are_not_lost_unnoticed(asana: Repo, call: Call) -> None:
    asana.write(FILE, b"no message at all")
    before = (asana.root / FILE).read_bytes()
    home = asana.gnupg
    assert home is not None
    half = call(asana, "initial-data", "set", "asana", "--recipient", home.uid, given=given(TOKEN=TOKEN))
    assert half.code == 1
    assert half.err.endswith("error: nothing was written: ORG would be lost\n")
    assert (asana.root / FILE).read_bytes() == before
    whole = call(asana, "initial-data", "set", "asana", "--recipient", home.uid, given=given(TOKEN=TOKEN, ORG="1"))
    assert whole.code == 0
    assert opened(asana) == {"TOKEN": TOKEN, "ORG": "1"}


def test_an_integration_means_its_service(repo: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    repo.manifest("slack", {**ASANA, "service": "chat"})
    repo.manifest("slack-channel", {**ASANA, "service": "chat", "initial_data_form": [{"id": "BOT"}]})
    arguments = ("initial-data", "set", "slack-channel", "--recipient", gnupg_home.uid)
    assert call(repo, *arguments, given=given(TOKEN="a-token", ORG="1", BOT="b")).code == 0
    assert opened(repo, "config/initial_data/chat.yaml.gpg") == {"TOKEN": "a-token", "ORG": "1", "BOT": "b"}
    assert call(repo, "initial-data", "check", "chat").code == 0


def test_the_programs_own(asana: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    arguments = ("initial-data", "set", "reconciler", "--recipient", gnupg_home.uid)
    assert call(asana, *arguments, given=given(PAGES_TOKEN="let-me-in")).code == 0
    assert opened(asana, "config/initial_data/reconciler.yaml.gpg") == {"PAGES_TOKEN": "let-me-in"}


@pytest.mark.parametrize(
    ("arguments", "text", "code", "said"),
    [
        (["asana"], given(TOKEN=TOKEN), 64, "give --recipient"),
        (["asana", "--recipient", "nobody@example.com"], given(TOKEN=TOKEN), 1, "gpg has no public key nobody@"),
        (["asanna", "--recipient", "it@example.com"], given(TOKEN=TOKEN), 64, "asanna; did you mean asana?"),
        (["plain", "--recipient", "it@example.com"], given(TOKEN=TOKEN), 64, "plain asks for no initial data"),
        (["asana", "--recipient", "it@example.com"], given(TOKN=TOKEN), 64, "TOKEN, ORG; did you mean TOKEN?"),
        (["asana", "--recipient", "it@example.com"], TOKEN, 64, "has to be a map such as `TOKEN: value`"),
        (["asana", "--recipient", "it@example.com"], f"TOKEN: [{TOKEN}", 64, "not YAML that can be read"),
        (["asana", "--recipient", "it@example.com"], f"TOKEN: [{TOKEN}]", 64, "TOKEN has to be one text"),
        (["asana", "--recipient", "it@example.com"], "TOKEN:", 64, "no value was given"),
        (["asana", "--recipient", "it@example.com"], "", 64, "has to be a map"),
    ],
    ids=["no key", "unknown key", "name", "no form", "field", "no map", "no YAML", "list", "empty value", "nothing"],
)
def test_refused_input_writes_nothing_and_repeats_no_value(
    asana: Repo, call: Call, arguments: list[str], text: str, code: int, said: str
) -> None:
    asana.manifest("plain", {"execute": []})
    done = call(asana, "initial-data", "set", *arguments, given=text)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert TOKEN not in done.err
    assert not (asana.root / "config/initial_data").exists()


def at_a_terminal(repo: Repo, arguments: list[str], answers: dict[str, str]) -> tuple[int, str]:
    """Run the program at a terminal of its own, answering each question once it stands there; all that was shown."""
    terminal, end = pty.openpty()
    process = start_cli(repo, *arguments, streams=(end, end, end), terminal=True)
    os.close(end)
    shown, waiting, until = "", dict(answers), time.monotonic() + PATIENCE
    while time.monotonic() < until and select.select([terminal], [], [], PATIENCE)[0]:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:  # the program is gone, and its end of the terminal with it
            break
        asked = next((question for question in waiting if shown.endswith(question)), None)
        if asked is not None:
            os.write(terminal, f"{waiting.pop(asked)}\n".encode())
    os.close(terminal)
    return process.wait(), shown.replace("\r\n", "\n")


def test_at_a_terminal_secrets_are_not_shown(asana: Repo, gnupg_home: GnupgHome) -> None:
    code, shown = at_a_terminal(
        asana,
        ["initial-data", "set", "asana", "--recipient", gnupg_home.fingerprint],
        {"TOKEN (Token; From the settings page): ": TOKEN, "ORG: ": "1200"},
    )
    assert code == 0, shown
    assert TOKEN not in shown
    assert "ORG: 1200" in shown, "what is no secret is seen while it is typed"
    assert "PASSWORD" not in shown, "a generated value is asked of nobody"
    assert opened(asana) == {"TOKEN": TOKEN, "ORG": "1200"}


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_reports_everything(asana: Repo, call: Call) -> None:
    asana.manifest("slack", {**ASANA, "initial_data_form": [{"id": "TOKEN"}]})
    asana.manifest("wiki", {**ASANA, "initial_data_form": [{"id": "TOKEN"}]})
    asana.manifest("plain", {"execute": []})
    asana.initial_data("asana", {"TOKEN": TOKEN, "OGR": "12"})
    asana.initial_data("slack", {"TOKEN": TOKEN})
    asana.initial_data("gone", {"TOKEN": TOKEN})
    done = call(asana, "initial-data", "check")
    assert done.code == 1
    assert done.out == (
        "2 of 4 complete\n"
        f"asana: missing: ORG (in {FILE})\n"
        "asana: unknown: OGR, which nothing asks for; did you mean ORG?\n"
        "slack: complete, in config/initial_data/slack.yaml.gpg\n"
        "wiki: missing: TOKEN (there is no file)\n"
        "gone: unknown: TOKEN, which nothing asks for\n"
    )
    assert "not committed, and so not used yet: config/initial_data/asana.yaml.gpg" in done.err
    assert "next: `reconcile initial-data set asana`" in done.err
    assert TOKEN not in done.out + done.err


def test_check_names_the_key(asana: Repo, call: Call) -> None:
    stranger = GnupgHome()
    try:
        asana.write(FILE, stranger.encrypt(b"TOKEN: x\n"))
    finally:
        stranger.close()
    done = call(asana, "initial-data", "check", "asana", "--output", "json")
    assert done.code == 1
    (found,) = done.json
    assert (found["service"], found["missing"], found["unknown"]) == ("asana", [], [])
    assert "there is no secret key for it: it is encrypted to " in found["error"]


def test_check_names_expired_key(asana: Repo, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    home = GnupgHome()
    try:
        past = ("--faked-system-time", "20200101T000000")
        home._gpg(*past, "--quick-generate-key", "old@example.com", "future-default", "default", "1d")
        later = ("--faked-system-time", "20200101T010000")  # a key is made within a second only on a quiet machine
        message = home._gpg(*later, "--encrypt", "--recipient", "old@example.com", given=b"TOKEN: a-token\nORG: '1'\n")
        asana.write(FILE, message)
        monkeypatch.setattr(asana, "gnupg", home)
        done = call(asana, "initial-data", "check", "asana")
        assert (done.code, done.out) == (0, f"1 of 1 complete\nasana: complete, in {FILE}\n")
        assert "has expired: it still opens files" in done.err
    finally:
        home.close()


def test_check_covers_the_programs_own_secrets(asana: Repo, call: Call) -> None:
    asana.initial_data("asana", {"TOKEN": TOKEN, "ORG": "1"})
    assert call(asana, "initial-data", "check").code == 0
    asana.settings(smtp={"host": "mail.example.com", "username": "it"})
    done = call(asana, "initial-data", "check", "--output", "json")
    assert (done.code, done.json[-1]["service"], done.json[-1]["missing"]) == (1, "reconciler", ["SMTP_PASSWORD"])


def test_check_of_files_in_the_clear(asana: Repo, call: Call) -> None:
    asana.write("config/initial_data/asana.yaml", {"TOKEN": TOKEN, "ORG": "1"})
    done = call(asana, "initial-data", "check")
    assert done.code == 1
    assert "not encrypted, and so known to everyone" in done.out
    assert TOKEN not in done.out + done.err
