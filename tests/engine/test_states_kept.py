"""What is not revoked although git wants it no longer: `keep`, `prune` by integration, a group's other members."""

from __future__ import annotations

import pytest
import yaml

from reconciler.model.status import Action, Status
from reconciler.model.value import replace
from tests.engine.harness import row
from tests.repo import call_cli

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


@pytest.fixture
def pruning(machine, repo):
    """The machine, whose settings revoke what is no longer wanted."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    return machine


@pytest.mark.parametrize("of", ["hire", "sequence"])
def test_a_kept_entry_is_reported_and_never_revoked_on_its_own(pruning, accounts, repo, of):
    kept = TOOL | {"keep": True}
    if of == "sequence":
        repo.write("config/sequences/team.yaml", {"access": [kept]})
        repo.hire("ada", sequences=["team"])
    else:
        repo.hire("ada", kept)
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.action, left.reason) == (Status.ORPHANED, Action.NONE, "no longer in git; kept")
        assert not report.wrong
    assert accounts.calls("DELETE") == []
    by_hand = pruning.reconcile(grants=[("ada", "tool")], by_hand={("ada", "tool"): "revoke"})
    assert row(by_hand, "ada", "tool").status is Status.REVOKED


@pytest.mark.parametrize("ends", [{}, {"for": "8h"}])
def test_another_entry_for_the_same_account_takes_none_away_that_is_kept(pruning, accounts, repo, ends):
    repo.hire("ada", TOOL | {"keep": True}, TOOL | ends | {"name": "too"})
    repo.commit()
    pruning.reconcile()
    pruning.clock.turn(hours=9)
    repo.hire("ada")
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile()):
        left = row(report, "ada", "too")
        assert (left.status, left.action, left.reason.partition("; ")[2]) == (
            Status.ORPHANED,
            Action.NONE,
            "it is the same account as ada/tool, which is kept",
        )
    assert accounts.calls("DELETE") == []
    by_hand = pruning.reconcile(grants=[("ada", "too")], by_hand={("ada", "too"): "revoke"})
    assert row(by_hand, "ada", "too").status is Status.REVOKED


@pytest.mark.parametrize("only", [{"integrations": {"also"}}, {"grants": [("ada", "also")]}], ids=["service", "entry"])
def test_an_account_that_is_kept_stays_in_a_pass_over_another_entry_alone(pruning, accounts, repo, only):
    for name in ("tool", "also"):
        repo.manifest(name, accounts.manifest(revoke=True) | {"service": "house"})
    repo.hire("ada", "also", {"integration": "tool", "keep": True})
    repo.commit()
    pruning.reconcile()
    repo.hire("ada")
    repo.commit()
    assert row(pruning.reconcile(**only), "ada", "also").status is Status.ORPHANED
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("service", ["house", "another"])
def test_an_account_at_an_address_of_before_stays_in_a_pass_over_another_service(pruning, accounts, repo, service):
    """The entry that is wanted has it by the ledger only: nobody renamed it at the service yet."""
    for name, of in (("tool", "house"), ("also", service)):
        repo.manifest(name, accounts.manifest(revoke=True) | {"service": of})
    for entries in (("tool",), ("tool", "also")):
        repo.hire("ada", *entries)
        repo.commit()
        pruning.reconcile()
    repo.hire("ada", "tool", email="ada.king@example.com")
    repo.commit()
    left = row(pruning.reconcile(hires={"ada"}, integrations={"also"}), "ada", "also")
    assert (left.status, accounts.calls("DELETE")) == (Status.ORPHANED, [])
    assert "it is the same account as ada/tool" in left.reason


def test_a_kept_entry_that_was_run_by_hand_is_not_revoked_though_the_run_failed(pruning, accounts, repo):
    repo.hire("ada", TOOL | {"keep": True})
    repo.commit()
    pruning.reconcile()
    accounts.fail_next(1, 500, method="POST")
    pruning.reconcile(by_hand={("ada", "tool"): "run"})
    repo.remove("hires/ada.yaml")
    repo.commit()
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action, left.reason) == (Status.ORPHANED, Action.NONE, "no longer in git; kept")
    assert accounts.calls("DELETE") == []


def test_revocation_by_hand_of_a_kept_entry_is_retried(pruning, accounts, repo):
    repo.hire("ada", TOOL | {"keep": True})
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    asked = pruning.reconcile(grants=[("ada", "tool")], by_hand={("ada", "tool"): "revoke"})
    assert row(asked, "ada", "tool").status is Status.RETRYING
    pruning.clock.turn(hours=1)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_grant_that_is_no_longer_kept_is_revoked(pruning, accounts, repo):
    """The last known entry counts."""
    repo.hire("ada", TOOL | {"keep": True})
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", TOOL)
    repo.commit()
    pruning.reconcile()
    repo.hire("ada")
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


@pytest.mark.parametrize("of", ["hire", "sequence"])
@pytest.mark.parametrize("over", [{"end": "2026-11-30"}, {"until": "2026-11-30"}])
def test_entry_that_one_commit_ends_and_keeps_is_kept(pruning, accounts, repo, of, over):
    def give(**more):
        entry = TOOL | more
        hire = {"end": entry.pop("end")} if "end" in entry else {}
        repo.write("config/sequences/team.yaml", {"access": [entry]})
        repo.hire("ada", *([entry] if of == "hire" else []), **hire, sequences=["team"] if of == "sequence" else [])
        return repo.commit()

    base = give()
    pruning.reconcile()
    give(keep=True, **over)
    (change,) = call_cli(repo, "diff", base, "--output", "json").json["grants"]
    assert (change["change"], change["removal"]) == ("removed", "reported")
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.action, left.reason.partition("; ")[2]) == (Status.ORPHANED, Action.NONE, "kept")
    assert accounts.calls("DELETE") == []


def test_diff_says_what_becomes_of_who_is_renamed_and_of_a_former_account(pruning, repo):
    """An entry's `keep` is that of the account that it is about now."""
    manifest = yaml.safe_load((repo.root / "manifests/tool.yaml").read_text())
    manifest["form"][0]["identity"] = True
    for asked in (manifest["exists"], *manifest["revoke"]):
        asked["url"] += "?team={{TEAM}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", TOOL)
    base = repo.commit()
    pruning.reconcile()
    repo.hire("ada", {**TOOL, "values": {"TEAM": "8"}, "keep": True})
    repo.commit()
    (change,) = call_cli(repo, "diff", base, "--output", "json").json["grants"]
    assert change["former"] == "revoked"
    assert row(pruning.plan(), "ada", "tool~7").action is Action.REVOKE
    repo.remove("hires/ada.yaml")
    repo.hire("ada-l", TOOL | {"keep": True}, email="ada@example.com", end="2026-11-30")
    repo.commit()
    (change,) = call_cli(repo, "diff", base, "--output", "json").json["grants"]
    assert (change["change"], change["removal"]) == ("removed", "reported")
    assert row(pruning.plan(), "ada-l", "tool").reason.endswith("; kept")


def test_another_entry_that_ends_with_it_does_not_take_away_what_is_kept(pruning, accounts, repo):
    repo.hire("ada", TOOL | {"name": "also"}, TOOL)
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", TOOL | {"name": "also"}, TOOL | {"keep": True}, end="2026-11-30")
    repo.commit()
    assert row(pruning.reconcile(), "ada", "also").reason.endswith("it is the same account as ada/tool, which is kept")
    assert accounts.calls("DELETE") == []


def test_entry_that_was_kept_when_it_was_over_goes_once_it_is_not_kept(machine, accounts, repo):
    """Whatever `prune` says: its time lay ahead when it was first acted on."""

    def status(*, keep, hours=0):
        repo.hire("ada", TOOL | {"until": "2026-12-02", "keep": keep})
        repo.commit()
        machine.clock.turn(hours=hours)
        return row(machine.reconcile(), "ada", "tool").status

    assert status(keep=True) is Status.PRESENT
    assert status(keep=True, hours=24) is Status.ORPHANED
    assert status(keep=False) is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


def test_entry_of_another_integration_says_nothing_of_what_is_kept(pruning, accounts, repo):
    repo.manifest("other", accounts.manifest())
    repo.hire("ada", TOOL | {"keep": True})
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", {"integration": "other", "name": "tool", "until": "2026-11-30"})
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.ORPHANED
    assert accounts.calls("DELETE") == []


PRUNE = {
    "the default reports": ({"default": "report", "other": "revoke"}, False, True),
    "the default revokes": ({"default": "revoke", "other": "report"}, True, False),
    "without a default, report": ({"other": "revoke"}, False, True),
    "one word for all": ("revoke", True, True),
}


@pytest.mark.parametrize(("prune", "tool", "other"), PRUNE.values(), ids=PRUNE)
def test_prune_by_integration(machine, accounts, others, repo, prune, tool, other):
    repo.settings(gnupg_home=repo.gnupg.path, prune=prune)
    repo.manifest("other", others.manifest(revoke=True))
    repo.hire("ada", TOOL, "other")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    report = machine.reconcile()
    for name, gone in (("tool", tool), ("other", other)):
        left = row(report, "ada", name)
        assert left.status is (Status.REVOKED if gone else Status.ORPHANED)
        assert left.reason == ("revoked" if gone else "no longer in git; prune: report")
    assert (len(accounts.calls("DELETE")), len(others.calls("DELETE"))) == (tool, other)


@pytest.fixture
def group(pruning, accounts, repo):
    """A group's page names its members; it is asked alike for everybody."""
    members = {"ada@example.com", "bob@example.com", "cleo@example.com"}

    def remove(received):
        members.discard(received.json()["member"])
        return 204

    accounts.route("GET", "/groups/7", lambda _received: [{"email": member} for member in sorted(members)])
    accounts.route("POST", "/groups/7/remove", remove)
    group = f"{accounts.url}/groups/{{{{GROUP}}}}"
    manifest = {
        "form": [{"id": "GROUP", "name": "Group", "type": "input"}],
        "exists": {"url": group, "expected": "{{email}}"},
        "revoke": [{"url": f"{group}/remove", "data": {"member": "{{email}}"}}],
    }
    repo.manifest("group", manifest)
    for name in ("ada", "bob", "cleo"):
        repo.hire(name, {"integration": "group", "values": {"GROUP": "7"}})
    repo.commit()
    pruning.reconcile()
    return pruning, members


def test_member_is_revoked_while_others_stay_in_the_group(group, repo):
    machine, members = group
    repo.remove("hires/bob.yaml")
    repo.commit()
    assert row(machine.reconcile(), "bob", "group").status is Status.REVOKED
    assert members == {"ada@example.com", "cleo@example.com"}


def test_the_same_person_twice_in_a_group_is_one_account(group, repo):
    machine, members = group
    repo.hire("bob", {"integration": "group", "name": "again", "values": {"GROUP": "7"}}, email="BOB@example.com")
    repo.commit()
    left = row(machine.reconcile(), "bob", "group")
    assert "the same account as bob/again" in left.reason
    assert "bob@example.com" in members


def test_revoked_grant_is_never_suspended(pruning, accounts, repo):
    pruning.reconcile()
    repo.hire("ada")
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED
    held = [{"hire": "ada", "until": "2026-12-02"}]
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", suspend=held)
    repo.commit()
    for _ in range(2):
        gone = row(pruning.reconcile(), "ada", "tool")
        assert (gone.status, gone.reason) == (Status.REVOKED, "revoked")
        pruning.clock.turn(hours=24)


def test_suspended_revoked_row_becomes_revoked_again(pruning, accounts, repo):
    pruning.reconcile()
    repo.hire("ada")
    repo.commit()
    pruning.reconcile()
    with pruning.ledger() as ledger:
        ledger.save([noted_as_suspended(pruning.record("ada", "tool"))])
    gone = row(pruning.reconcile(), "ada", "tool")
    assert (gone.status, gone.reason) == (Status.REVOKED, "revoked")


def noted_as_suspended(record):
    return replace(record, status=Status.SUSPENDED, reason="suspended until 2026-12-02")
