"""docs/design/states.md: managers and buddies by file, renamed files, and files that cannot be read."""

from __future__ import annotations

import pytest

from reconciler.ledger.entries import Event
from reconciler.ledger.part_writers import WritableAttempts
from reconciler.ledger.vault import Vault
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import RepositoryError, SettingsError
from reconciler.model.grant import Key
from reconciler.model.status import Action, EventType, Status
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer
from tests.engine.harness import dying, row
from tests.ledger.states import NOW

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


# Manager and buddy


@pytest.fixture
def managed(machine, accounts, others, repo):
    """`tool` tells who the manager is; `plain` does not."""
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["execute"][0]["data"] |= {"manager": "{{manager}}", "mail": "{{manager_email}}"}
    repo.manifest("tool", manifest)
    repo.manifest("plain", others.manifest())
    repo.hire("ada", TOOL, "plain", manager={"hire": "grace"}, buddy={"hire": "alan"})
    repo.hire("grace", first_name="Grace", last_name="Hopper")
    repo.commit()
    return machine


def test_a_manager_by_file_gives_name_and_address(managed, accounts):
    report = managed.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    sent = accounts.calls("POST", "/users")[0].json()
    assert (sent["manager"], sent["mail"]) == ("Grace Hopper", "grace@example.com")
    assert row(report, "ada", "plain").status is Status.PRESENT, "nobody asks for the buddy, who is not there"


ABSENT = {
    "missing": (None, "there is no hires/grace.yaml"),
    "broken": ("email: nothing", "hires/grace.yaml"),
}


@pytest.mark.parametrize(("content", "said"), ABSENT.values(), ids=ABSENT)
def test_a_manager_whose_file_is_not_there_blocks_only_where_it_is_used(managed, accounts, repo, content, said):
    repo.remove("hires/grace.yaml") if content is None else repo.write("hires/grace.yaml", content)
    repo.commit()
    report = managed.reconcile()
    blocked = row(report, "ada", "tool")
    assert (blocked.status, blocked.action) == (Status.BLOCKED, Action.NONE)
    assert blocked.reason.startswith("variable {{manager}} has no value: manager is {hire: grace}, and ")
    assert said in blocked.reason
    assert row(report, "ada", "plain").status is Status.PRESENT
    assert accounts.calls() == []


def test_an_address_of_its_own_stands_beside_the_managers_file(managed, accounts, repo):
    repo.hire("ada", TOOL, manager={"hire": "grace"}, manager_email="assistant@example.com")
    repo.commit()
    managed.reconcile()
    assert accounts.calls("POST", "/users")[0].json()["mail"] == "assistant@example.com"


def test_a_manager_who_changes_is_a_changed_value(managed, repo):
    managed.reconcile()
    repo.hire("grace", first_name="Grace", last_name="Murray")
    repo.commit()
    found = row(managed.reconcile(), "ada", "tool")
    assert (found.status, found.changed) == (Status.DIFFERS, True)
    assert "manager Grace Hopper → Grace Murray" in found.reason


# A file that was renamed


def test_rows_follow_the_address_to_a_renamed_file(machine, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}], "revoke": [{"url": f"{accounts.url}/un"}]})
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", TOOL, "hook")
    repo.commit()
    machine.reconcile()
    before = len(accounts.calls())
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", TOOL, "hook", email="ada@example.com", first_name="Ada")
    repo.commit()
    for report in (machine.plan(), machine.reconcile(), machine.reconcile()):
        found = {(item.hire, item.access): (item.status, item.action) for item in report.rows}
        assert found == {
            ("lovelace", "tool"): (Status.PRESENT, Action.NONE),
            ("lovelace", "hook"): (Status.DONE, Action.NONE),
        }
    assert {call.method for call in accounts.calls()[before:]} == {"GET"}
    assert machine.events("ada") == []
    assert EventType.EXECUTED in machine.events("lovelace")


@pytest.mark.parametrize("first", ["renamed", "readdressed"])
def test_hire_renamed_and_readdressed_is_one_also_where_a_pass_met_only_some_rows(machine, accounts, repo, first):
    """The rows that the pass did not plan are no sign that somebody else has the id, or that their hire left."""
    repo.manifest("tool", accounts.manifest())
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}}"}}]})
    repo.hire("ada", "tool", "hook")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    if first == "renamed":
        repo.hire("countess", "tool", "hook", email="ada@example.com")
    else:
        repo.hire("ada", "tool", "hook", email="countess@example.com")
    repo.commit()
    machine.reconcile(integrations=["tool"])
    if first == "readdressed":
        repo.remove("hires/ada.yaml")
    repo.hire("countess", "tool", "hook", email="countess@example.com")
    repo.commit()
    report = machine.reconcile()
    assert {(each.hire, each.access): each.status for each in report.rows} == {
        ("countess", "tool"): Status.BLOCKED,
        ("countess", "hook"): Status.DIFFERS,
    }
    assert len(accounts.calls("POST")) == 2


def test_who_comes_in_the_commit_in_which_somebody_of_the_same_name_leaves_is_somebody_else(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", "tool", first_name="Ada", last_name="Byron")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("ada2", "tool", first_name="Ada", last_name="Byron")
    repo.commit()
    machine.reconcile()
    assert accounts.people.keys() == {"ada2@example.com"}


@pytest.mark.parametrize("given_by", ["hire", "sequence"])
def test_rows_follow_a_renamed_file_while_the_account_is_under_the_address_before(machine, accounts, repo, given_by):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.write("config/sequences/base.yaml", {"access": [TOOL]})
    given = {"sequences": ["base"]} if given_by == "sequence" else {}
    own = [] if given else [TOOL]
    repo.hire("ada", *own, **given)
    repo.commit()
    machine.reconcile()
    repo.hire("ada", *own, email="lovelace@example.com", **given)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.BLOCKED
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", *own, **given)
    repo.commit()
    for report in (machine.plan(at_a_time=2), machine.reconcile(), machine.reconcile()):
        (found,) = report.rows
        assert (found.hire, found.access, found.status) == ("lovelace", "tool", Status.BLOCKED)
        assert "the account is under ada@example.com" in found.reason
    assert accounts.calls("DELETE") == []
    assert accounts.created == {"ada@example.com": 1}


def test_a_pass_over_the_new_name_alone_finds_its_rows(machine, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    repo.hire("ada", "hook")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", "hook", email="Ada@Example.com")
    repo.commit()
    report = machine.reconcile(hires=["lovelace"])
    assert row(report, "lovelace", "hook").status is Status.DONE
    assert len(accounts.calls("POST", "/hook")) == 1


@pytest.mark.parametrize("crashed", [False, True], ids=["retrying", "cut off"])
def test_a_renamed_file_with_an_unsettled_run_continues_it(machine, accounts, repo, crashed):
    manifest = accounts.manifest(team=True)
    manifest["execute"][1]["data"]["member"] = "{{responses.0.id}}"
    repo.manifest("tool", manifest)
    repo.commit()
    if crashed:
        with dying(WritableAttempts, "sending", nth=2):
            machine.reconcile()
    else:
        accounts.fail_next(1, 500, method="POST", prefix="/teams")
        machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", TOOL, email="ada@example.com", first_name="Ada")
    repo.commit()
    assert "1 of 2 requests done" in row(machine.plan(), "lovelace", "tool").reason
    assert "1 of 2 requests done" in row(machine.reconcile(), "lovelace", "tool").reason
    assert [name for name in machine.sealed() if name.startswith("run/")] == ["run/lovelace/tool"]
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "lovelace", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.calls("POST", "/teams")[-1].json()["member"] == "1"


def test_stored_values_follow_a_renamed_hire(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["execute"][0]["store_data"] = {"MEMBER": "id"}
    accounts.route("DELETE", "/members/{member}", lambda _received, member: accounts.people.clear() or {"gone": member})
    manifest["revoke"] = [{"url": f"{accounts.url}/members/{{{{MEMBER}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", "tool", email="ada@example.com")
    repo.commit()
    machine.reconcile()
    assert [name for name in machine.sealed() if name.startswith("stored/")] == ["stored/lovelace"]
    repo.hire("lovelace", email="ada@example.com")
    repo.commit()
    assert row(machine.reconcile(), "lovelace", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/1"]
    assert [name for name in machine.sealed() if name.startswith("stored/")] == []


def test_stored_values_of_two_services_follow_at_the_same_time(machine, monkeypatch):
    """Two members' passes over one hire: the second has read what was stored before the first writes."""
    stored = {"tool": {"MEMBER": "1"}, "other": {"MEMBER": "2"}}
    moves = [{Key("ada", access): Key("lovelace", access)} for access in stored]
    told = [[Event(NOW, new, "", EventType.RENAMED) for new in each.values()] for each in moves]
    rename = LedgerWriter.rename
    with machine.ledger() as ledger:
        vault = Vault(Sealer(bytes(32), (), Gnupg(None)))
        ledger.sealed.put("stored/ada", vault.sealed("stored/ada", stored))

        def beside(self, moved, events, kept, needs):
            monkeypatch.setattr(LedgerWriter, "rename", rename)
            vault.move(ledger, moves[1], told[1])
            rename(self, moved, events, kept, needs)

        monkeypatch.setattr(LedgerWriter, "rename", beside)
        vault.move(ledger, moves[0], told[0])
        assert (vault.read(ledger, "stored/ada"), vault.read(ledger, "stored/lovelace")) == (None, stored)


def test_reused_hire_id_takes_no_rows(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", TOOL, email="newcomer@example.com")
    repo.hire("lovelace", TOOL, email="ada@example.com", first_name="Ada")
    repo.commit()
    report = machine.reconcile()
    assert {(item.hire, item.email): item.status for item in report.rows} == {
        ("ada", "newcomer@example.com"): Status.PRESENT,
        ("lovelace", "ada@example.com"): Status.PRESENT,
    }
    assert accounts.created == {"ada@example.com": 1, "newcomer@example.com": 1}
    assert EventType.BLOCKED not in machine.events()


def test_two_people_can_swap_their_names(machine, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}}"}}]})
    repo.hire("ada", "hook", email="a@example.com", first_name="A")
    repo.hire("bob", "hook", email="b@example.com", first_name="B")
    repo.commit()
    machine.reconcile()
    repo.hire("ada", "hook", email="b@example.com", first_name="B")
    repo.hire("bob", "hook", email="a@example.com", first_name="A")
    repo.commit()
    report = machine.reconcile()
    assert {item.status for item in report.rows} == {Status.DONE}
    assert not any(item.changed for item in report.rows)
    assert len(accounts.calls("POST", "/hook")) == 2


# Files that break


def test_grants_of_a_hire_whose_file_became_a_symbolic_link_are_kept(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("bob", TOOL)
    repo.commit()
    machine.reconcile()
    file = repo.root / "hires/ada.yaml"
    file.rename(repo.root / "ada.yaml")
    file.symlink_to("../ada.yaml")
    repo.commit()
    for _ in range(2):
        report = machine.reconcile()
        assert row(report, "ada", "tool").status is Status.INVALID
        assert "hires/ada.yaml: is a symbolic link" in row(report, "ada", "tool").reason
        assert row(report, "bob", "tool").status is Status.PRESENT
        assert report.wrong
    assert accounts.calls("DELETE") == []


def test_grants_of_a_broken_hire_are_kept_until_it_is_corrected(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("bob", TOOL)
    repo.hire("cleo", TOOL)
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile(hires=["cleo"])
    machine.reconcile(hires=["ada"])
    repo.write("hires/ada.yaml", "email: ada@example.com\nfirst_name: Ada\nlast_nam: Example\n")
    repo.write("hires/cleo.yaml", "email: [")
    repo.commit()
    machine.clock.turn(hours=2)
    accounts.people.clear()
    before = len(accounts.calls())
    for report in (machine.plan(), machine.reconcile(), machine.reconcile()):
        held = row(report, "ada", "tool")
        assert (held.status, held.action) == (Status.INVALID, Action.NONE)
        assert held.reason == "hires/ada.yaml:1: last_name: required, and not there"
        assert row(report, "cleo", "tool").status is Status.INVALID
        assert report.wrong
        assert any(item.line == 3 and "did you mean last_name?" in item.message for item in report.problems)
    assert all("bob" in call.path or "bob" in call.body.decode() for call in accounts.calls()[before:])
    assert row(report, "bob", "tool").status is Status.PRESENT
    accounts.add("ada@example.com", "cleo@example.com")
    repo.hire("ada", TOOL)
    repo.hire("cleo", TOOL)
    repo.commit()
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert (row(report, "cleo", "tool").status, row(report, "cleo", "tool").attempts) == (Status.PRESENT, 2)
    assert accounts.calls("DELETE") == []


def test_what_failed_waits_for_its_retry_also_where_the_file_was_broken_meanwhile(machine, accounts, repo):
    accounts.fail_next(1, 400, method="POST")
    machine.reconcile()
    repo.write("hires/ada.yaml", "email: [")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.INVALID
    repo.hire("ada", TOOL)
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.attempts) == (Status.RETRYING, 1)
    assert len(accounts.calls("POST")) == 1


def test_grants_of_a_broken_sequence_are_kept(machine, accounts, others, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("plain", others.manifest(revoke=True))
    repo.write("config/sequences/team.yaml", {"assign": {"department": ["R&D"]}, "access": [TOOL]})
    repo.hire("ada", "plain", department="R&D")
    repo.commit()
    machine.reconcile()
    repo.write("config/sequences/team.yaml", "assign: {departmnt: R&D}\naccess: []")
    repo.commit()
    before = len(accounts.calls())
    for report in (machine.plan(), machine.reconcile()):
        held = row(report, "ada", "tool")
        assert (held.status, held.action) == (Status.INVALID, Action.NONE)
        assert "config/sequences/team.yaml cannot be read" in held.reason
        assert row(report, "ada", "plain").status is Status.PRESENT
    assert len(accounts.calls()) == before
    repo.write("config/sequences/team.yaml", {"assign": {"department": ["R&D"]}, "access": []})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED, "taken out, not broken"


def test_a_sequence_that_is_named_and_not_there_holds_its_own(machine, repo):
    repo.write("config/sequences/team.yaml", {"access": [TOOL]})
    repo.hire("ada", sequences=["team"])
    repo.commit()
    machine.reconcile()
    repo.hire("ada", sequences=["taem"])
    repo.commit()
    report = machine.reconcile()
    assert any("there is no config/sequences/taem.yaml: did you mean team?" in item.message for item in report.problems)
    repo.remove("config/sequences/team.yaml")
    repo.hire("ada", sequences=["team"])
    repo.commit()
    held = row(machine.reconcile(), "ada", "tool")
    assert (held.status, held.action) == (Status.INVALID, Action.NONE)


def test_grants_of_a_missing_sequence_are_kept_while_a_hire_names_it(machine, repo):
    repo.write("config/sequences/team.yaml", {"access": [TOOL]})
    repo.hire("ada", sequences=["team"])
    repo.commit()
    machine.reconcile()
    repo.remove("config/sequences/team.yaml")
    repo.hire("ada")
    repo.hire("bob", sequences=["team"])
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.INVALID
    repo.remove("hires/bob.yaml")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.ORPHANED


def test_a_broken_manifest_blocks_its_grants_and_nothing_else(machine, accounts, others, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("plain", others.manifest())
    repo.hire("ada", TOOL, "plain")
    repo.commit()
    machine.reconcile()
    repo.manifest("tool", accounts.manifest(team=True) | {"exsts": {}})
    repo.commit()
    before = len(accounts.calls())
    report = machine.reconcile()
    blocked = row(report, "ada", "tool")
    assert (blocked.status, blocked.action) == (Status.BLOCKED, Action.NONE)
    assert "did you mean exists?" in blocked.reason
    assert row(report, "ada", "plain").status is Status.PRESENT
    assert len(accounts.calls()) == before
    repo.manifest("tool", accounts.manifest(team=True))
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.events("ada")[-2:] == [EventType.BLOCKED, EventType.UNBLOCKED]


def test_problems_with_and_without_a_line_sort_together(machine, accounts, repo):
    """A problem without a line stands beside one with a line."""
    repo.write("manifests/sub/tool.yaml", {"exsts": {}})
    repo.commit()
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.BLOCKED
    lines = [problem.line for problem in report.problems if problem.file == "manifests/sub/tool.yaml"]
    assert None in lines
    assert any(line is not None for line in lines)


def test_broken_settings_refuse_the_pass(machine, accounts, repo):
    repo.write("config/reconciler.yaml", "drift: mend")
    repo.commit()
    with pytest.raises(SettingsError, match=r"config/reconciler\.yaml"):
        machine.reconcile()
    with pytest.raises(SettingsError):
        machine.plan()
    assert accounts.calls() == []


@pytest.mark.parametrize("folder", ["hires", "manifests"])
def test_a_revision_without_a_folder_refuses_the_pass(machine, accounts, repo, folder):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    machine.reconcile()
    before = len(accounts.calls())
    repo.git("rm", "-r", "--quiet", folder)
    repo.commit()
    with pytest.raises(RepositoryError, match=f"no {folder}/ folder"):
        machine.reconcile()
    assert len(accounts.calls()) == before
    assert machine.record("ada", "tool").status is Status.PRESENT


def test_settings_are_taken_over_at_the_next_pass(machine, accounts, repo):
    machine.reconcile()
    accounts.people.clear()
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").action is Action.NONE
    repo.settings(gnupg_home=repo.gnupg.path, drift="heal")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_two_hires_of_one_address_are_invalid(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", TOOL, position="Engineer")
    repo.hire("twin", TOOL, email="ADA@example.com")
    repo.commit()
    accounts.people.clear()
    before = len(accounts.calls())
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.INVALID
    assert accounts.calls()[before:] == []
    assert {problem.file for problem in report.problems} == {"hires/ada.yaml", "hires/twin.yaml"}


def test_uncommitted_edits_are_not_acted_on(machine, accounts, repo):
    machine.reconcile()
    repo.hire("bob", TOOL)
    repo.remove("hires/ada.yaml")
    assert [(item.hire, item.status) for item in machine.reconcile().rows] == [("ada", Status.PRESENT)]
