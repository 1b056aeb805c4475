"""A slip of the pen takes nothing away: as long as a hire's files have an error, nothing of the hire is revoked."""

from __future__ import annotations

import json
import os

import pytest

from reconciler.model.status import Action, Status
from tests.engine.harness import row
from tests.repo import call_cli

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}
SECOND = {"integration": "other", "name": "second"}


@pytest.fixture
def pruning(machine, accounts, others, repo):
    """Ada has `tool` of her own and `second`, of another service, from a sequence; settings revoke what has to go."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("other", others.manifest(revoke=True))
    repo.write("config/sequences/engineering.yaml", {"access": [SECOND]})
    repo.hire("ada", TOOL, sequences=["engineering"])
    repo.commit()
    report = machine.reconcile()
    assert {item.status for item in report.rows} == {Status.PRESENT}
    return machine


def nothing_was_revoked(accounts, others):
    return accounts.calls("DELETE") == [] and others.calls("DELETE") == []


def test_a_typo_in_a_sequences_name_holds_what_the_sequence_had_given(pruning, accounts, others, repo):
    repo.hire("ada", TOOL, sequences=["enginering"])
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile(hires=["ada"], integrations=["other"])):
        left = row(report, "ada", "second")
        assert (left.status, left.action) == (Status.INVALID, Action.NONE)
        assert "there is no config/sequences/enginering.yaml: did you mean engineering?" in left.reason
        assert any("did you mean engineering?" in problem.message for problem in report.problems)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.PRESENT, "the hire's own entries go on"
    assert nothing_was_revoked(accounts, others)
    repo.hire("ada", TOOL, sequences=["engineering"])
    repo.commit()
    assert row(pruning.reconcile(), "ada", "second").status is Status.PRESENT


@pytest.mark.parametrize("change", ["deleted", "broken"])
def test_a_sequence_that_is_not_there_takes_nothing_else_away_either(pruning, accounts, others, repo, change):
    if change == "deleted":
        repo.remove("config/sequences/engineering.yaml")
    else:
        repo.write("config/sequences/engineering.yaml", "access: [")
    repo.hire("ada", sequences=["engineering"])
    repo.commit()
    report = pruning.reconcile()
    left = row(report, "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "nothing of ada is revoked until this is mended" in left.reason
    assert "engineering" in left.reason
    assert row(report, "ada", "second").status is Status.INVALID
    assert nothing_was_revoked(accounts, others)


@pytest.mark.parametrize("change", ["broken", "named by another"])
def test_a_sequence_that_is_assigned_and_cannot_be_read_takes_nothing_else_away(
    pruning, accounts, others, repo, change
):
    """Also in a pass over the orphan's service alone: what the sequence gave is another service's."""
    repo.write("config/sequences/engineering.yaml", {"assign": {"department": "R&D"}, "access": [SECOND]})
    repo.hire("ada", TOOL, department="R&D")
    repo.hire("bob", TOOL)
    repo.commit()
    pruning.reconcile()
    if change == "broken":
        repo.write("config/sequences/engineering.yaml", {"assign": {"department": "R&D"}, "acess": [SECOND]})
    else:
        repo.remove("config/sequences/engineering.yaml")
        repo.hire("cleo", sequences=["engineering"])
    repo.hire("ada", department="R&D")
    repo.hire("bob")
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(hires=["ada"], integrations=["tool"]), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "nothing of ada is revoked until this is mended: " in left.reason
    assert [call.path for call in accounts.calls("DELETE")] == ["/users/bob@example.com"], "who never had it"
    assert others.calls("DELETE") == []


def test_an_assigned_sequence_that_is_deleted_takes_nothing_away(pruning, accounts, others, repo):
    """What it gave is held where it is, and the hire's own entries go on; with none it takes away what it gave."""
    assign = {"assign": {"department": "R&D"}}
    repo.write("config/sequences/engineering.yaml", {**assign, "access": [SECOND]})
    repo.hire("ada", {**TOOL, "name": "mine"}, TOOL, department="R&D")
    repo.commit()
    pruning.reconcile()
    repo.remove("config/sequences/engineering.yaml")
    repo.hire("ada", {**TOOL, "name": "mine"}, department="R&D")
    repo.commit()
    told = call_cli(repo, "diff", "HEAD~1", "--output", "json").json
    assert [(each["access"], each["change"]) for each in told["grants"]] == [("tool", "removed")]
    (problem,) = told["problems"]["added"]
    assert (problem["file"], problem["severity"]) == ("config/sequences/engineering.yaml", "warning")
    assert "was assigned, and is gone" in problem["message"]
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile(), pruning.reconcile(integrations=["tool"])):
        for item in report.rows:
            expected = {"mine": Status.PRESENT, "tool": Status.ORPHANED, "second": Status.INVALID}
            assert item.status is expected[item.access]
            assert item.status is not Status.INVALID or "which was assigned: bring it back" in item.reason
    assert nothing_was_revoked(accounts, others)
    repo.write("config/sequences/engineering.yaml", {**assign, "access": []})
    repo.commit()
    assert row(pruning.reconcile(), "ada", "second").status is Status.REVOKED
    repo.remove("config/sequences/engineering.yaml")
    repo.commit()
    assert row(pruning.reconcile(), "ada", "second").status is Status.REVOKED


TEAM = {"include": ["base"]}
ROLES = {
    "named": ({**TEAM}, {"sequences": ["role"]}),
    "assigned": ({**TEAM, "assign": {"department": "R&D"}}, {"department": "R&D"}),
}
SLIPS = {
    "that a hire has is broken": {"role": {"incldue": ["team"]}},
    "that a hire has is gone": {"role": None},
    "between is broken": {"team": {"incldue": ["base"]}},
    "between is gone": {"team": None},
    "goes in a circle": {"team": {"include": ["base", "role"]}},
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
@pytest.mark.parametrize(("role", "has"), ROLES.values(), ids=ROLES)
def test_what_a_sequence_gave_by_including_others_is_held_while_one_of_them_cannot_be_read(
    pruning, others, repo, role, has, slip
):
    """Also where it has no entry of its own: what an included one gave stands in a file that can be read."""
    sequences = {"base": {"access": [SECOND]}, "team": TEAM, "role": {**role, "include": ["team"]}}
    for name, content in sequences.items():
        repo.write(f"config/sequences/{name}.yaml", content)
    repo.hire("ada", TOOL, **has)
    repo.commit()
    pruning.reconcile()
    for name, content in slip.items():
        if content is None:
            repo.remove(f"config/sequences/{name}.yaml")
        else:
            repo.write(f"config/sequences/{name}.yaml", content)
    repo.commit()
    told = call_cli(repo, "diff", "HEAD~1", "--output", "json").json
    assert (told["grants"], bool(told["problems"]["added"])) == ([], True)
    for report in (pruning.plan(), pruning.reconcile(integrations=["other"]), pruning.reconcile()):
        left = row(report, "ada", "second")
        assert (left.status, left.action) == (Status.INVALID, Action.NONE)
    assert others.calls("DELETE") == []
    for name, content in sequences.items():
        repo.write(f"config/sequences/{name}.yaml", content)
    repo.write("config/sequences/role.yaml", {**role, "include": []})
    repo.commit()
    assert row(pruning.reconcile(), "ada", "second").status is Status.REVOKED


def test_what_moves_to_a_sequence_of_an_included_one_stays_where_that_is_broken(pruning, accounts, repo):
    for name, content in {"base": {"access": []}, "team": TEAM, "role": {"include": ["team"]}}.items():
        repo.write(f"config/sequences/{name}.yaml", content)
    repo.hire("ada", TOOL, sequences=["role"])
    repo.commit()
    pruning.reconcile()
    repo.write("config/sequences/base.yaml", {"acess": [TOOL]})
    repo.hire("ada", sequences=["role"])
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "nothing of ada is revoked until this is mended: config/sequences/base.yaml" in left.reason
    assert accounts.calls("DELETE") == []


def test_missing_sequence_is_a_problem_for_all_its_hires(pruning, accounts, others, repo):
    repo.write("config/sequences/engineering.yaml", {"assign": {"department": "R&D"}, "access": [SECOND]})
    repo.hire("ada", TOOL, department="R&D")
    repo.hire("bob", sequences=["engineering"])
    repo.commit()
    pruning.reconcile()
    repo.remove("config/sequences/engineering.yaml")
    repo.commit()
    assert row(pruning.reconcile(), "ada", "second").status is Status.INVALID
    assert nothing_was_revoked(accounts, others)


def test_access_of_a_sequence_that_is_no_longer_named_is_revoked(pruning, accounts, others, repo):
    repo.remove("config/sequences/engineering.yaml")
    repo.hire("ada", TOOL)
    repo.commit()
    assert row(pruning.reconcile(), "ada", "second").status is Status.REVOKED


BROKEN_ENTRIES = {
    "an integration that is not there": [{"integration": "toool", "values": {"TEAM": "7"}}],
    "a value that no form has": [{"integration": "other", "values": {"TAEM": "7"}}],
    "a need that is not there": [{"integration": "other", "needs": ["tol"]}],
    "a need of itself": [{"integration": "other", "needs": ["other"]}],
    "a day that does not come": [{"integration": "other", "at": "start"}],
}


@pytest.mark.parametrize("access", BROKEN_ENTRIES.values(), ids=BROKEN_ENTRIES)
def test_an_entry_that_does_not_fit_takes_nothing_away(pruning, accounts, others, repo, access):
    """Its name was the integration's, so that the account stands in the ledger under a name that git has no longer."""
    repo.hire("ada", *access, sequences=["engineering"])
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile(hires=["ada"], integrations=["tool"])):
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert left.reason.startswith(
            "no longer in git; nothing of ada is revoked until this is mended: hires/ada.yaml:"
        )
    assert nothing_was_revoked(accounts, others)
    repo.hire("ada", sequences=["engineering"])
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED, "mended, and really gone"


def test_an_entry_under_its_own_name_with_a_mistyped_integration_is_held(pruning, accounts, others, repo):
    repo.hire("ada", TOOL, {"integration": "othr", "name": "second"})
    repo.commit()
    left = row(pruning.reconcile(), "ada", "second")
    assert (left.status, left.action) == (Status.INVALID, Action.NONE)
    assert "did you mean other?" in left.reason
    assert nothing_was_revoked(accounts, others)


def test_an_entry_that_does_not_fit_is_shown_with_the_values_that_the_account_has(pruning, accounts, repo):
    """Who reviews access has to see which role it is."""
    field = {"id": "TEAM", "name": "Team", "type": "choice", "items": [{"id": "7", "name": "Red"}]}
    repo.manifest("tool", accounts.manifest(team=True, revoke=True) | {"form": [field]})
    repo.hire("ada", {**TOOL, "values": {"TEAM": "9"}}, sequences=["engineering"])
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.values) == (Status.INVALID, {"TEAM": "7"})


def test_two_sequences_in_conflict_take_nothing_away(pruning, accounts, others, repo):
    for name, team in (("one", "7"), ("two", "8")):
        given = {"integration": "tool", "name": "t", "values": {"TEAM": team}}
        repo.write(f"config/sequences/{name}.yaml", {"access": [given]})
    repo.hire("ada", sequences=["one", "two"])
    repo.commit()
    report = pruning.reconcile()
    assert row(report, "ada", "t").status is Status.INVALID
    assert row(report, "ada", "tool").action is Action.NONE
    assert row(report, "ada", "second").action is Action.NONE
    assert nothing_was_revoked(accounts, others)


def test_a_choice_that_the_service_does_not_offer_takes_nothing_away(pruning, accounts, others, repo):
    """Also in a pass over the orphan's service alone, which is not about the entry that does not fit."""
    accounts.route("GET", "/teams", [{"id": "7", "name": "Red"}])
    manifest = others.manifest(revoke=True)
    field = {"id": "TEAM", "name": "Team", "type": "choice", "url": f"{accounts.url}/teams", "method": "GET"}
    repo.manifest("picky", {**manifest, "form": [field]})
    repo.hire("ada", {"integration": "picky", "values": {"TEAM": {"name": "Rde"}}}, sequences=["engineering"])
    repo.commit()
    for report in (pruning.plan(hires=["ada"], integrations=["tool"]), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "no option is named 'Rde'" in left.reason
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("error", ["last_nam: Lovelace", "<<<<<<< HEAD"])
def test_a_renamed_file_with_an_error_is_still_the_hires(pruning, accounts, others, repo, error):
    repo.remove("hires/ada.yaml")
    repo.write("hires/lovelace.yaml", f"email: ada@example.com\nfirst_name: Ada\n{error}\n")
    repo.commit()
    report = pruning.reconcile()
    assert {item.status for item in report.rows} == {Status.INVALID}
    assert nothing_was_revoked(accounts, others)


def test_a_renamed_file_with_an_error_is_still_the_hires_where_another_hire_has_its_old_name(
    pruning, accounts, others, repo
):
    repo.write("hires/lovelace.yaml", "email: ada@example.com\nfirst_name: Ada\nlast_nam: Lovelace\n")
    repo.hire("ada", email="grace@example.com")
    repo.commit()
    report = pruning.reconcile()
    assert {item.status for item in report.rows} == {Status.INVALID}
    assert nothing_was_revoked(accounts, others)


def test_orphan_with_slip_can_be_revoked_by_hand(pruning, accounts, others, repo):
    repo.hire("ada", "toool", sequences=["engineering"])
    repo.commit()
    pruning.reconcile()
    report = pruning.reconcile(grants=[("ada", "tool")], by_hand={("ada", "tool"): "revoke"})
    assert row(report, "ada", "tool").status is Status.REVOKED
    assert others.calls("DELETE") == []


def test_a_slip_in_the_policy_takes_nothing_away_from_who_stays(pruning, accounts, others, repo):
    repo.hire("bob", TOOL)
    repo.write("config/policy.yaml", [{"name": "break-glass", "hire": "ada", "must_have": ["tool"]}])
    repo.commit()
    pruning.reconcile()
    repo.write("config/policy.yaml", [{"name": "break-glass", "hire": "ada", "must_hav": ["tool"]}])
    repo.hire("ada", sequences=["engineering"])
    repo.remove("hires/bob.yaml")
    repo.commit()
    report = pruning.reconcile()
    left = row(report, "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "nothing of ada is revoked until this is mended: config/policy.yaml:3" in left.reason
    assert row(report, "bob", "tool").status is Status.REVOKED
    repo.write("config/policy.yaml", [])
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_slip_of_one_hire_does_not_affect_others(pruning, accounts, others, repo):
    repo.hire("bob", TOOL)
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/bob.yaml")
    repo.hire("ada", "toool", sequences=["engineering"])
    repo.commit()
    assert row(pruning.reconcile(), "bob", "tool").status is Status.REVOKED


def test_a_failed_revocation_waits_while_a_file_has_an_error(pruning, accounts, others, repo):
    repo.hire("ada", sequences=["engineering"])
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    repo.hire("ada", "toool", sequences=["engineering"])
    repo.commit()
    pruning.clock.turn(hours=2)
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.RETRYING, Action.WAIT)
    assert "until this is mended" in left.reason
    assert len(accounts.calls("DELETE")) == 1
    repo.hire("ada", sequences=["engineering"])
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


# What is kept meanwhile counts for the policy


def test_a_slip_in_a_sequence_is_no_way_around_what_excludes_it(pruning, accounts, others, repo):
    repo.write("config/policy.yaml", "- {name: two-keys, never_both: [second, third]}\n")
    repo.write("config/sequences/engineering.yaml", "access: [")
    third = {"integration": "other", "name": "third"}
    repo.hire("ada", TOOL, third, sequences=["engineering"])
    repo.hire("bob", third)
    repo.commit()
    del others.people["ada@example.com"]
    report = pruning.reconcile()
    refused = row(report, "ada", "third")
    assert (refused.status, refused.reason) == (Status.BLOCKED, "policy two-keys: never both third and second")
    assert row(report, "bob", "third").status is Status.PRESENT


def test_whose_file_is_broken_counts_among_those_who_may_hold_something(pruning, accounts, repo):
    repo.write("config/policy.yaml", "- {name: few, integration: tool, values: {TEAM: 7}, at_most: 1}\n")
    repo.write("hires/ada.yaml", "email: [")
    repo.hire("bob", TOOL)
    repo.hire("cyd", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    report = pruning.reconcile()
    refused = row(report, "bob", "tool")
    assert (refused.status, refused.reason) == (Status.BLOCKED, "policy few: tool with TEAM 7 is given to 2, at most 1")
    assert row(report, "cyd", "tool").status is Status.PRESENT
    repo.remove("hires/ada.yaml")
    repo.commit()
    pruning.reconcile()
    assert row(pruning.reconcile(), "bob", "tool").status is Status.PRESENT


@pytest.mark.parametrize(
    "address",
    ["ada.example.com", "ada@example.com.", "[", "lovelace@@example.com"],
    ids=["no @", "a dot", "YAML", "two @"],
)
def test_a_file_renamed_with_a_slip_in_its_address_takes_nothing_away(pruning, accounts, others, repo, address):
    """git sees it as renamed: it is that broken file, and what it had is held where it is."""
    text = (repo.root / "hires/ada.yaml").read_text()
    repo.remove("hires/ada.yaml")
    repo.write("hires/team/lovelace.yaml", text.replace("ada@example.com", address))
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile(), pruning.reconcile(hires=["ada"])):
        assert {(item.hire, item.status, item.action) for item in report.rows} == {("ada", Status.INVALID, Action.NONE)}
        assert all("hires/team/lovelace.yaml" in item.reason for item in report.rows)
    assert nothing_was_revoked(accounts, others)
    assert '"grants": []' in call_cli(repo, "diff", "HEAD~1", "--output", "json").out
    repo.write("hires/team/lovelace.yaml", text)
    repo.commit()
    report = pruning.reconcile()
    assert {(item.hire, item.status) for item in report.rows} == {("lovelace", Status.PRESENT)}
    assert nothing_was_revoked(accounts, others)


@pytest.mark.parametrize("broken", [True, False])
def test_a_file_that_is_rewritten_and_then_renamed_is_still_the_hires(pruning, accounts, others, repo, broken):
    """While it has an error: git sees it as the file of the commit before, not as that of the last good one."""
    rewritten = {"email": "countess@example.com", "first_name": "Augusta", "last_name": "King", "access": [TOOL]}
    repo.write("hires/ada.yaml", json.dumps({**rewritten, "department": 7 if broken else "Poetry"}))
    repo.hire("zoe", email="countess@example.com")
    repo.commit()
    pruning.reconcile()
    (repo.root / "hires/ada.yaml").rename(repo.root / "hires/lovelace.yaml")
    repo.commit()
    for _ in range(2):
        assert {item.status for item in pruning.reconcile().rows} == {Status.INVALID}
    assert nothing_was_revoked(accounts, others)


def test_a_file_renamed_to_what_is_not_utf8_takes_nothing_away(pruning, accounts, others, repo):
    folder = os.fsencode(repo.root / "hires")
    os.rename(folder + b"/ada.yaml", folder + b"/l\xf6velace.yaml")  # noqa: PTH104  a path of bytes
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile(), pruning.reconcile(hires=["ada"])):
        assert {(item.hire, item.status, item.action) for item in report.rows} == {("ada", Status.INVALID, Action.NONE)}
        assert all("hires/l\\xf6velace.yaml: not read" in item.reason for item in report.rows)
    assert nothing_was_revoked(accounts, others)
    assert '"grants": []' in call_cli(repo, "diff", "HEAD~1", "--output", "json").out
