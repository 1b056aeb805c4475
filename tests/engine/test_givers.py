"""Who gave it, found out for the hires of a pass; for others it stays to be found out, however much is committed."""

from __future__ import annotations

import pytest

from reconciler.model.grant import Key
from tests.engine.harness import Machine
from tests.repo import Repo
from tests.servers import AccountService

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


def given(machine: Machine) -> dict[str, str]:
    """The commit that gave each hire the tool, as far as the ledger has it."""
    with machine.ledger() as ledger:
        return {key.hire: each.granted_in for key, each in ledger.given.of().items() if key.access == "tool"}


def untraced(machine: Machine) -> set[str]:
    with machine.ledger() as ledger:
        return set(ledger.given.untraced())


def changed_unseen(machine: Machine, repo: Repo) -> str:
    """The commit that changes what bob has; the pass over it is one over ada alone."""
    repo.hire("bob", TOOL)
    repo.commit()
    machine.reconcile()
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "8"}})
    changed = repo.commit()
    machine.reconcile(hires=["ada"])
    return changed


def test_a_pass_finds_out_who_gave_its_hires_what_they_have(machine: Machine, repo: Repo) -> None:
    adas = repo.git("rev-parse", "HEAD")
    repo.hire("bob", TOOL)
    bobs = repo.commit()
    machine.reconcile(hires=["ada"])
    assert given(machine) == {"ada": adas}
    assert {line.granted_in for line in machine.history()} == {adas}
    machine.reconcile()
    assert given(machine) == {"ada": adas, "bob": bobs}
    assert {line.granted_in for line in machine.history("bob")} == {bobs}
    assert untraced(machine) == set()


def test_commits_before_the_pass_over_a_hire_count(machine: Machine, repo: Repo) -> None:
    repo.hire("bob", TOOL, TOOL | {"name": "again"})
    bobs = repo.commit()
    machine.reconcile()
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "8"}}, TOOL | {"name": "again"})
    changed = repo.commit()
    machine.reconcile(hires=["ada"])
    assert (given(machine)["bob"], untraced(machine)) == (bobs, {"bob"})
    repo.hire("ada", TOOL, phone="12")
    repo.commit()
    machine.reconcile(hires=["ada"])
    machine.reconcile(hires=["bob"])
    assert (given(machine)["bob"], untraced(machine)) == (changed, set())
    with machine.ledger() as ledger:
        assert ledger.given.of(["bob"])[Key("bob", "again")].granted_in == bobs


def test_a_file_that_cannot_be_read_meanwhile_is_read_once_it_can(machine: Machine, repo: Repo) -> None:
    changed = changed_unseen(machine, repo)
    right = (repo.root / "hires" / "bob.yaml").read_text()
    repo.write("hires/bob.yaml", "access: [")
    repo.commit()
    machine.reconcile()
    assert untraced(machine) == {"bob"}
    repo.write("hires/bob.yaml", f"# mended\n{right}")
    repo.commit()
    machine.reconcile()
    assert (given(machine)["bob"], untraced(machine)) == (changed, set())


def test_a_file_that_another_one_kept_from_counting_is_read_once_it_counts(machine: Machine, repo: Repo) -> None:
    repo.hire("bob", TOOL, email="ada@example.com")
    bobs = repo.commit()
    machine.reconcile()
    repo.hire("ada", TOOL, email="lovelace@example.com")
    repo.commit()
    machine.reconcile()
    assert given(machine)["bob"] == bobs


def test_a_hire_that_was_renamed_meanwhile_is_traced_from_the_first_commit(machine: Machine, repo: Repo) -> None:
    changed = changed_unseen(machine, repo)
    (repo.root / "hires" / "bob.yaml").rename(repo.root / "hires" / "bobby.yaml")
    repo.commit()
    machine.reconcile(hires=["bobby"])
    assert given(machine)["bobby"] == changed
    machine.reconcile()
    assert (given(machine).get("bob"), untraced(machine)) == (None, set())


@pytest.mark.parametrize(("most", "traced"), [(1, 21), (40, 30)])
def test_a_pass_over_many_hires_finds_it_out_of_the_next_ones_too(
    machine: Machine, repo: Repo, monkeypatch: pytest.MonkeyPatch, most: int, traced: int
) -> None:
    """All commits are walked for each batch of grants."""
    monkeypatch.setattr("reconciler.repository.attribution.given.MANY_GRANTS", most)
    hires = [f"h{number:02}" for number in range(30)]
    for hire in hires:
        repo.hire(hire, TOOL)
    repo.commit()
    machine.reconcile(hires=hires[:21])
    assert len(given(machine)) == traced


def test_an_entry_keeps_its_giver_when_a_former_account_is_set_apart(
    machine: Machine, repo: Repo, accounts: AccountService
) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    gave = repo.commit()
    machine.reconcile()
    repo.hire("ada", "tool", email="lovelace@example.com")
    repo.commit()
    machine.reconcile()  # the account is to be renamed there
    accounts.add("lovelace@example.com")
    machine.reconcile()
    with machine.ledger() as ledger:
        found = {key.access: each.granted_in for key, each in ledger.given.of(["ada"]).items()}
    assert found == {"tool": gave, "tool~ada@example.com": gave}
    assert untraced(machine) == set()
