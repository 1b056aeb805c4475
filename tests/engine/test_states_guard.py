"""docs/design/rules.md, "The guard": what looks like a mistake is held, whatever pass meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.engine.decide.revision_count import NOTE, RevisionCount
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Machine, row


@pytest.fixture
def twenty(repo, accounts) -> Machine:
    """Twenty hires with an account each, found and confirmed: to make them would take four times as long."""
    return found(repo, accounts)


@pytest.fixture
def few(repo, accounts) -> Machine:
    """The twenty, with settings that let a pass make five accounts."""
    return found(repo, accounts, max_new=5)


@pytest.fixture
def provisioned(repo, accounts) -> Machine:
    """Twenty hires with an account each, made by an attempt each."""
    return confirmed(repo, accounts)


def found(repo, accounts, **settings) -> Machine:
    accounts.add(*(f"h{number:02}@example.com" for number in range(20)))
    return confirmed(repo, accounts, **settings)


def confirmed(repo, accounts, until=None, **settings) -> Machine:
    repo.settings(gnupg_home=repo.gnupg.path, **settings)
    repo.manifest("tool", accounts.manifest(revoke=True))
    end(repo, range(20), until)
    machine = Machine(repo)
    machine.reconcile()
    return machine


def end(repo, numbers, until):
    """Commit when what these have ends."""
    for number in numbers:
        repo.hire(f"h{number:02}", {"integration": "tool", **({} if until is None else {"until": until})})
    repo.commit()


def lose(accounts, *numbers):
    for number in numbers:
        accounts.people.pop(f"h{number:02}@example.com", None)


def held(report):
    return {item.hire for item in report.rows if item.guarded}


COUNTS = {
    "five of twenty are never too many": (5, 25, False),
    "six are over a quarter": (6, 25, True),
    "six are not over a third": (6, 33, False),
    "all are": (20, 99, True),
    "six where none may": (6, 0, True),
    "all where all may": (20, 100, False),
}


@pytest.mark.parametrize(("gone", "percent", "holds"), COUNTS.values(), ids=COUNTS)
def test_guard_thresholds(twenty, accounts, repo, gone, percent, holds):
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=percent)
    repo.commit()
    lose(accounts, *range(gone))
    for report in (twenty.plan(), twenty.reconcile()):
        assert len(held(report)) == (gone if holds else 0)
        assert report.wrong is holds
    assert len(accounts.calls("POST")) == (0 if holds else gone)


def test_passes_side_by_side_count_together(twenty, repo):
    """Each alone takes few; neither has begun when the other is judged."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    stems = [f"h{number:02}" for number in range(8)]
    for stem in stems:
        repo.remove(f"hires/{stem}.yaml")
    repo.commit()
    first, second = twenty.plan_side_by_side(stems[:4], stems[4:])
    assert first.judgement.tripped == {}
    assert "40.00 % is over 25 % (8/20)" in second.judgement.tripped["tool"]


def test_orphans_and_drift_count_together(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    for number in range(3):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    lose(accounts, 10, 11, 12)
    report = twenty.reconcile()
    assert held(report) == {"h00", "h01", "h02", "h10", "h11", "h12"}
    assert "30.00 % is over 25 % (6/20)" in row(report, "h00", "tool").reason
    assert accounts.calls("DELETE") == []


def test_first_provisioning_does_not_count_as_healing(twenty, accounts, repo):
    for number in range(20, 60):
        repo.hire(f"h{number:02}", "tool")
    repo.commit()
    report = twenty.reconcile()
    assert {item.status for item in report.rows} == {Status.PRESENT}


def test_emptied_folder_revokes_nothing(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    for number in range(20):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    report = twenty.reconcile()
    assert {item.status for item in report.rows} == {Status.SUSPENDED}
    assert len(accounts.people) == 20
    (line,) = [line for line in twenty.history() if line.event is EventType.HELD]
    assert "100.00 % is over 25 % (20/20)" in line.detail
    twenty.reconcile()
    assert twenty.events().count(EventType.HELD) == 1


def test_the_integration_is_held_in_every_later_pass_until_the_count_falls(twenty, accounts, repo):
    repo.manifest("other", accounts.manifest())
    lose(accounts, *range(6))
    twenty.reconcile()
    repo.hire("new", "tool")
    repo.commit()
    only = twenty.reconcile(hires=["new"])
    assert row(only, "new", "tool").status is Status.SUSPENDED, "nothing of it is executed"
    assert held(twenty.reconcile(hires=["h00"])) == {"h00"}
    assert held(twenty.plan(hires=["h01"])) == {"h01"}
    assert row(twenty.reconcile(hires=["h19"]), "h19", "tool").status is Status.PRESENT
    assert EventType.RELEASED not in twenty.events()
    accounts.add("h00@example.com")
    report = twenty.reconcile()
    assert row(report, "h01", "tool").status is Status.PRESENT, "five are not too many"
    assert row(report, "new", "tool").status is Status.PRESENT
    assert twenty.events().count(EventType.RELEASED) == 1


def test_guard_counts_changes_since_last_resync(twenty, accounts):
    """A resync that is cut into slices adds up."""
    twenty.clock.turn(seconds=1)
    lose(accounts, *range(8))
    for number in range(5):
        assert row(twenty.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool").status is Status.PRESENT
    stopped = row(twenty.reconcile(hires=["h05"]), "h05", "tool")
    assert (stopped.status, stopped.guarded) == (Status.SUSPENDED, True)
    assert "30.00 % is over 25 % (6/20)" in stopped.reason


# max_new


def titled(accounts):
    """A manifest whose accounts have the title of their hires' position."""
    manifest = accounts.manifest(revoke=True)
    manifest["exists"]["where"] = title = {"title": "{{position}}"}
    manifest["update"] = [{"url": manifest["exists"]["url"], "method": "PATCH", "data": title}]
    return manifest


@pytest.mark.parametrize("how", ["its time is over", "it leaves git"])
def test_account_that_is_found_while_its_update_is_held_goes_when_it_should(few, accounts, repo, how):
    repo.settings(gnupg_home=repo.gnupg.path, max_new=5, prune="revoke")
    repo.manifest("other", titled(accounts))
    stems = [f"n{number}" for number in range(6)]
    accounts.add(*(f"{stem}@example.com" for stem in stems))
    for stem in stems:
        repo.hire(stem, {"integration": "other", "until": "2026-12-01T10:00Z"}, position="Lead")
    repo.commit()
    assert held(few.reconcile()) == {*stems}
    assert few.events("n0") == [EventType.ADOPTED]
    if how == "it leaves git":
        repo.remove("hires/n0.yaml")
        repo.commit()
    else:
        few.clock.turn(hours=1)
    assert row(few.reconcile(), "n0", "other").status is Status.REVOKED
    assert "n0@example.com" not in accounts.people


def join(repo, *numbers):
    for number in numbers:
        repo.hire(f"n{number}", "tool")
    repo.commit()


def test_guard_allows_max_new_accounts(few, accounts, repo):
    join(repo, *range(5))
    report = few.reconcile()
    assert held(report) == set()
    assert len(accounts.people) == 25


def test_more_new_accounts_than_allowed_trip_the_guard(few, accounts, repo):
    join(repo, *range(6))
    for report in (few.plan(), few.reconcile(), few.reconcile()):
        stopped = row(report, "n0", "tool")
        assert (stopped.status, stopped.action, stopped.guarded) == (Status.SUSPENDED, Action.NONE, True)
        assert "6 accounts would be made or updated, max_new is 5" in stopped.reason
        assert held(report) == {f"n{number}" for number in range(6)}
        assert report.wrong
        assert row(report, "h00", "tool").status is Status.PRESENT
    assert len(accounts.people) == 20
    (line,) = [line for line in few.history() if line.event is EventType.HELD]
    assert "max_new is 5" in line.detail


@pytest.mark.parametrize("left", [0, 4])
def test_new_accounts_that_git_no_longer_wants_count_no_longer(few, accounts, repo, left):
    join(repo, *range(8))
    few.reconcile()
    for number in range(left, 8):
        repo.remove(f"hires/n{number}.yaml")
    repo.commit()
    hires = [f"n{number}" for number in range(8)]
    assert held(few.plan(hires=hires)) == set()
    assert {item.status for item in few.reconcile(hires=hires).rows} == ({Status.PRESENT} if left else set())
    assert len(accounts.calls("POST")) == left
    assert (few.events().count(EventType.HELD), few.events().count(EventType.RELEASED)) == (1, 1)


def test_new_account_that_git_no_longer_wants_leaves_the_others_held(few, accounts, repo):
    """The pass is over that grant alone, and has nothing else to count."""
    join(repo, *range(8))
    few.reconcile()
    repo.remove("hires/n7.yaml")
    repo.commit()
    few.reconcile(hires=["n7"])
    assert few.record("n7", "tool") is None
    assert (few.events().count(EventType.HELD), few.events().count(EventType.RELEASED)) == (1, 0)


def test_new_accounts_are_let_through_once(few, accounts, repo):
    join(repo, *range(6))
    few.reconcile()
    few.release()
    assert {item.status for item in few.reconcile().rows} == {Status.PRESENT}
    assert few.events().count(EventType.RELEASED) == 1
    join(repo, *range(6, 12))
    assert len(held(few.reconcile())) == 6


def test_the_slices_of_a_resync_add_up_to_max_new(few, accounts, repo):
    join(repo, *range(8))
    made = [row(few.reconcile(hires=[f"n{number}"]), f"n{number}", "tool").status for number in range(8)]
    assert made == [Status.PRESENT] * 5 + [Status.SUSPENDED] * 3
    assert len(accounts.people) == 25
    assert {item.status for item in few.reconcile().rows} == {Status.PRESENT}, "a full resync counts anew"


def test_retries_and_accounts_that_are_found_are_no_new_ones(few, accounts, repo):
    accounts.fail_next(5, 500, method="POST")
    join(repo, *range(5))
    few.reconcile()
    accounts.add(*(f"n{number}@example.com" for number in range(5, 20)))
    join(repo, *range(5, 20))
    few.clock.turn(hours=1)
    report = few.reconcile()
    assert {item.status for item in report.rows} == {Status.PRESENT}


def test_account_that_was_made_counts_on_where_its_hire_is_renamed(few, accounts, repo):
    """The pass that renames it finds it present, and has nothing else of it to count."""
    join(repo, *range(5))
    few.reconcile(hires=[f"n{number}" for number in range(5)])
    rename(repo, "n0", "other", first_name="N0")
    join(repo, 5)
    for report in (few.plan(hires=["other", "n5"]), few.reconcile(hires=["other", "n5"])):
        assert row(report, "other", "tool").status is Status.PRESENT
        assert held(report) == {"n5"}
        assert "6 accounts would be made or updated, max_new is 5" in row(report, "n5", "tool").reason
    assert "n5@example.com" not in accounts.people


def test_none_sets_no_limit_and_zero_allows_no_new_account(few, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, max_new=0)
    join(repo, 0)
    assert held(few.reconcile()) == {"n0"}
    repo.settings(gnupg_home=repo.gnupg.path, max_new=None)
    repo.commit()
    assert held(few.reconcile()) == set()
    join(repo, *range(1, 120))
    assert held(few.reconcile()) == set()
    assert len(accounts.people) == 140


@pytest.mark.parametrize("days", [-1, 1])
def test_clock_jump_does_not_change_guard_counts(twenty, accounts, days):
    lose(accounts, *range(8))
    twenty.clock.turn(days=days)
    for number in range(5):
        assert row(twenty.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool").status is Status.PRESENT
        twenty.clock.turn(days=days)
    assert "30.00 % is over 25 % (6/20)" in row(twenty.reconcile(hires=["h05"]), "h05", "tool").reason


def rename(repo, old, new, **fields):
    repo.remove(f"hires/{old}.yaml")
    repo.hire(new, "tool", email=f"{old}@example.com", **fields)
    repo.commit()


def test_guarded_grant_of_a_renamed_hire_counts_once(twenty, accounts, repo):
    lose(accounts, *range(6))
    assert len(held(twenty.reconcile())) == 6
    accounts.add("h05@example.com")
    rename(repo, "h00", "other")
    assert row(twenty.reconcile(), "other", "tool").status is Status.PRESENT, "five are not too many"


def test_healed_grant_of_a_renamed_hire_counts_once(twenty, accounts, repo):
    lose(accounts, *range(5))
    twenty.reconcile(hires=[f"h{number:02}" for number in range(5)])
    twenty.clock.turn(hours=25)
    lose(accounts, 0)
    rename(repo, "h00", "other")
    assert row(twenty.reconcile(hires=["other"]), "other", "tool").status is Status.PRESENT, "the same five"


def test_healed_grant_counts_on_where_its_hire_is_renamed(twenty, accounts, repo):
    lose(accounts, *range(5))
    twenty.reconcile(hires=[f"h{number:02}" for number in range(5)])
    lose(accounts, 5)
    rename(repo, "h00", "other", first_name="H00")
    report = twenty.reconcile(hires=["other", "h05"])
    assert row(report, "other", "tool").status is Status.PRESENT
    assert "30.00 % is over 25 % (6/20)" in row(report, "h05", "tool").reason
    assert "h05@example.com" not in accounts.people


def test_grant_that_was_healed_and_is_held_counts_once(twenty, accounts):
    lose(accounts, *range(5))
    twenty.reconcile(hires=[f"h{number:02}" for number in range(5)])
    twenty.clock.turn(hours=25)
    lose(accounts, 0, 5, 6)
    assert held(twenty.reconcile(hires=["h00", "h05"])) == {"h00", "h05"}
    assert "35.00 % is over 25 % (7/20)" in row(twenty.reconcile(hires=["h06"]), "h06", "tool").reason


def test_guard_counts_survive_forget(provisioned, accounts):
    """The ledger numbers its attempts anew from the last that it still has."""
    provisioned.reconcile()
    with provisioned.ledger() as ledger:
        for number in range(10, 20):
            ledger.forget(f"h{number:02}", provisioned.clock.now(), by="ida@here")
    lose(accounts, *range(10))
    for number in range(5):
        assert row(provisioned.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool").status is Status.PRESENT
    assert "60.00 % is over 25 % (6/10)" in row(provisioned.reconcile(hires=["h05"]), "h05", "tool").reason


def test_the_retries_of_healings_that_failed_are_healings_too(twenty, accounts):
    accounts.fail_next(8, 500, method="POST")
    for number in range(8):
        lose(accounts, number)
        twenty.reconcile()
    assert len(accounts.calls("POST")) == 8
    twenty.clock.turn(hours=1)
    report = twenty.reconcile()
    assert held(report) == {f"h{number:02}" for number in range(8)}
    assert "40.00 % is over 25 % (8/20)" in row(report, "h00", "tool").reason
    assert len(accounts.calls("POST")) == 8


def test_the_integration_is_held_where_all_that_is_held_was_tried_before(twenty, accounts, repo):
    allow(twenty, repo, 30)
    leavers = [f"h{number:02}" for number in range(6)]
    for stem in leavers:
        repo.remove(f"hires/{stem}.yaml")
    repo.commit()
    accounts.fail_next(6, 500, method="DELETE")
    assert {item.status for item in twenty.reconcile(hires=leavers).rows} == {Status.RETRYING}
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_change_percent=25)
    repo.hire("new", "tool")
    repo.commit()
    twenty.clock.turn(hours=1)
    assert held(twenty.reconcile(hires=leavers)) == {*leavers}
    assert row(twenty.reconcile(hires=["new"]), "new", "tool").status is Status.SUSPENDED
    assert (twenty.events().count(EventType.HELD), twenty.events().count(EventType.RELEASED)) == (1, 0)


def test_guard_counts_revoked_as_confirmed_at_resync(twenty, accounts, repo):
    allow(twenty, repo, 30)
    leave(repo, *range(6))
    twenty.clock.turn(seconds=1)
    for number in range(6):
        report = twenty.reconcile(hires=[f"h{number:02}"])
        assert row(report, f"h{number:02}", "tool").status is Status.REVOKED, "six of twenty are 30 %"
    leave(repo, 6)
    assert "35.00 % is over 30 % (7/20)" in row(twenty.reconcile(hires=["h06"]), "h06", "tool").reason


def allow(machine, repo, percent):
    """Let revisions take away so much from now on."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_change_percent=percent)
    repo.commit()
    machine.reconcile()


def test_a_release_lets_it_through_once(twenty, accounts):
    lose(accounts, *range(8))
    twenty.reconcile()
    twenty.release()
    report = twenty.reconcile()
    assert {item.status for item in report.rows} == {Status.PRESENT}
    assert twenty.events().count(EventType.RELEASED) == 1
    lose(accounts, 10)
    twenty.reconcile(hires=["h10"])
    assert "h10@example.com" in accounts.people, "what was let through no longer counts"
    lose(accounts, *range(10, 17))
    assert len(held(twenty.reconcile())) == 6, "h10 was healed today, and is left to a person"


def test_a_release_of_something_else_lets_nothing_count_anew(twenty, accounts, others, repo):
    allow(twenty, repo, 25)
    repo.manifest("more", others.manifest())
    leave(repo, *range(5))
    twenty.reconcile(hires=[f"h{number:02}" for number in range(5)])
    twenty.reconcile(integrations=["more"], released=True)
    twenty.reconcile(hires=["h19"], released=True)
    leave(repo, 5)
    assert "30.00 % is over 25 % (6/20)" in row(twenty.reconcile(hires=["h05"]), "h05", "tool").reason
    twenty.reconcile(integrations=["tool"], released=True)
    leave(repo, *range(6, 9))
    assert held(twenty.reconcile()) == set(), "what was let through no longer counts"
    assert len(accounts.calls("DELETE")) == 9


@pytest.mark.parametrize("then", ["gone", "Owner", None])
def test_a_release_lets_nothing_else_through_that_a_later_commit_does_to_the_same_accounts(few, accounts, repo, then):
    repo.manifest("tool", titled(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, max_new=None)

    def commit(position):
        for number in range(10):
            accounts.people[f"h{number:02}@example.com"].setdefault("title", position)
            repo.hire(f"h{number:02}", "tool", position=position)
        repo.commit()

    commit("Engineer")
    few.reconcile()
    repo.settings(gnupg_home=repo.gnupg.path, max_new=5, prune="revoke")
    commit("Lead")
    assert len(held(few.reconcile())) == 10
    few.release()
    if then is None:
        leave(repo, 19)
    elif then == "gone":
        leave(repo, *range(10))
    else:
        commit(then)
    assert len(held(few.reconcile())) == (0 if then is None else 10)
    assert len(accounts.calls("PATCH")) == (10 if then is None else 0)
    assert len(accounts.calls("DELETE")) == (1 if then is None else 0)
    few.release()
    assert held(few.reconcile()) == set()


def test_a_release_lets_no_former_account_go_in_whose_place_a_later_commit_gives_another(few, accounts, repo):
    one = f"{accounts.url}/users/{{{{LOGIN}}}}"
    manifest = accounts.manifest() | {
        "exists": {"url": one, "expected": "{{LOGIN}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/users", "data": {"email": "{{LOGIN}}"}}],
        "revoke": [{"url": one, "method": "DELETE"}],
    }
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, max_new=5, prune="revoke")

    def commit(login, *numbers):
        for number in numbers:
            repo.hire(f"h{number:02}", "tool", extra={"LOGIN": login.format(number)})
        repo.commit()

    commit("h{:02}@example.com", *range(20))
    few.reconcile()
    commit("new-{}", *range(8))
    assert len(held(few.reconcile())) == 8
    few.release()
    commit("newer-{}", *range(8))
    assert len(held(few.reconcile())) == 8
    assert (accounts.calls("POST"), accounts.calls("DELETE")) == ([], [])
    few.release()
    assert held(few.reconcile()) == set()
    assert (len(accounts.calls("POST")), len(accounts.calls("DELETE"))) == (8, 8)


def test_history_says_that_it_is_released_once_nothing_is_held_any_more(twenty, accounts):
    """A daemon lets many through in parts, and passes between these still find the others held."""
    lose(accounts, *range(10))
    twenty.reconcile()
    twenty.reconcile(hires=["h00", "h01"], released=True)
    twenty.reconcile(hires=["h11"])
    assert (twenty.events().count(EventType.HELD), twenty.events().count(EventType.RELEASED)) == (1, 0)
    twenty.reconcile(hires=[f"h{number:02}" for number in range(2, 10)], released=True)
    ends = {line.event: line for line in twenty.history() if line.event in (EventType.HELD, EventType.RELEASED)}
    assert twenty.events().count(EventType.HELD) == 1
    assert ends[EventType.HELD].author is not None
    by_whom = ends[EventType.RELEASED]
    assert (by_whom.detail, by_whom.author) == ("by ida@here", None), "of whoever asked for it, and of no commit"
    assert len(accounts.calls("POST")) == 10


def test_history_says_that_it_is_released_where_the_settings_allow_more(twenty, accounts, repo):
    """Whichever pass finds that out: those that are held still go with the next pass over them."""
    lose(accounts, *range(8))
    twenty.reconcile()
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=100)
    repo.commit()
    twenty.reconcile(hires=["h00"])
    assert (twenty.events().count(EventType.HELD), twenty.events().count(EventType.RELEASED)) == (1, 1)


def test_dependent_of_a_guarded_grant_waits(twenty, accounts, others, repo):
    repo.manifest("more", others.manifest())
    repo.hire("new", "tool", {"integration": "more", "needs": ["tool"]})
    repo.commit()
    lose(accounts, *range(6))
    for report in (twenty.plan(), twenty.reconcile()):
        waiting = row(report, "new", "more")
        assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
        assert "needs tool, which is suspended: held by the guard" in waiting.reason
    assert others.calls("POST") == []


def test_other_integrations_go_on(twenty, accounts, others, repo):
    repo.manifest("more", others.manifest())
    repo.hire("h19", "tool", "more")
    repo.commit()
    lose(accounts, *range(6))
    assert row(twenty.reconcile(), "h19", "more").status is Status.PRESENT


def test_manual_revocation_does_not_trip_guard(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    for number in range(8):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    assert len(held(twenty.reconcile())) == 8
    report = twenty.reconcile(hires=["h00"], by_hand={("h00", "tool"): "revoke"})
    assert row(report, "h00", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1
    assert EventType.RELEASED not in twenty.events()


def test_what_a_person_revoked_does_not_count_with_what_leaves_after_it(twenty, accounts, repo):
    allow(twenty, repo, 25)
    leave(repo, *range(8))
    twenty.reconcile()
    for number in range(8):
        stem = f"h{number:02}"
        twenty.reconcile(hires=[stem], by_hand={(stem, "tool"): "revoke"})
    leave(repo, 8)
    assert row(twenty.reconcile(hires=["h08"]), "h08", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 9


def test_retry_of_what_a_person_revoked_is_not_held(twenty, accounts, repo):
    allow(twenty, repo, 25)
    leave(repo, *range(8))
    twenty.reconcile()
    accounts.fail_next(1, 500, method="DELETE")
    asked = twenty.reconcile(hires=["h00"], by_hand={("h00", "tool"): "revoke"})
    assert row(asked, "h00", "tool").status is Status.RETRYING
    twenty.clock.turn(hours=1)
    assert held(twenty.reconcile()) == {f"h{number:02}" for number in range(1, 8)}
    assert row(twenty.reconcile(), "h00", "tool").status is Status.REVOKED


def test_run_of_a_guarded_grant_is_refused(twenty, accounts):
    lose(accounts, *range(6))
    twenty.reconcile()
    refused = row(twenty.reconcile(hires=["h00"], by_hand={("h00", "tool"): "run"}), "h00", "tool")
    assert refused.status is Status.SUSPENDED
    assert accounts.calls("POST") == []


def test_a_check_that_fails_is_no_loss(twenty, accounts):
    accounts.fail_next(None, 500, method="GET")
    report = twenty.reconcile()
    assert {item.status for item in report.rows} == {Status.UNKNOWN}
    assert held(report) == set()


def test_drift_that_is_only_reported_is_not_counted(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    lose(accounts, *range(12))
    report = twenty.reconcile()
    assert held(report) == set()
    assert sum(item.status is Status.MISSING for item in report.rows) == 12


def test_manual_grant_overrides_guard_for_itself_only(twenty, accounts):
    """`reconcile run` of one grant is a pass of its own."""
    lose(accounts, *range(6))
    twenty.reconcile()
    twenty.enqueue("run", "h19", "tool")
    assert row(twenty.reconcile(grants=[("h19", "tool")], released=True), "h19", "tool").status is Status.SUSPENDED
    assert held(twenty.reconcile()) == {f"h{number:02}" for number in range(6)}
    assert EventType.RELEASED not in twenty.events()


# Checks that fail


def test_leavers_count_though_their_checks_fail(twenty, accounts, repo):
    """A service that answers for a few at a time lets no mass removal through in small parts."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    for number in range(15):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    accounts.fail_next(None, 500, method="GET")
    report = twenty.reconcile()
    assert {row(report, f"h{number:02}", "tool").status for number in range(15)} == {Status.ORPHANED}
    accounts.clear()
    for number in range(15):  # as the slices of a resync come upon them
        twenty.reconcile(hires=[f"h{number:02}"])
    assert accounts.calls("DELETE") == []
    report = twenty.reconcile()
    assert "75.00 % is over 25 % (15/20)" in row(report, "h00", "tool").reason
    assert len(accounts.people) == 20


def test_a_few_leavers_are_revoked_once_their_checks_succeed(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    for number in range(5):
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()
    accounts.fail_next(2, 500, method="GET")
    twenty.reconcile()
    twenty.reconcile()
    assert len(accounts.calls("DELETE")) == 5


def test_new_accounts_count_though_their_checks_fail(few, accounts, repo):
    join(repo, *range(8))
    accounts.fail_next(4, 500, method="GET", prefix="/users/n")
    report = few.reconcile()
    new = [row(report, f"n{number}", "tool") for number in range(8)]
    assert sorted(item.status for item in new) == [Status.SUSPENDED] * 4 + [Status.UNKNOWN] * 4
    assert accounts.calls("POST") == []
    accounts.add(*(f"n{number}@example.com" for number in range(4)))
    few.reconcile()
    assert len(accounts.calls("POST")) == 4, "four of them were there"


def test_what_was_taken_away_counts_until_another_resync_has_ended(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    leave(repo, *range(3))
    twenty.reconcile(hires=[f"h{number:02}" for number in range(3)])
    with twenty.ledger() as ledger:
        ledger.guard.begin_resync()
    leave(repo, *range(3, 6))
    report = twenty.reconcile(hires=[f"h{number:02}" for number in range(3, 6)])
    assert "30.00 % is over 25 % (6/20)" in row(report, "h03", "tool").reason
    with twenty.ledger() as ledger:
        ledger.guard.begin_resync()
    report = twenty.reconcile(hires=[f"h{number:02}" for number in range(3, 6)])
    assert row(report, "h03", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 6


def leave(repo, *numbers):
    for number in numbers:
        repo.remove(f"hires/h{number:02}.yaml")
    repo.commit()


# Revisions


def test_what_a_revision_takes_away_is_counted_before_any_of_it_goes(twenty, accounts, repo):
    """Whatever part of it a pass is about, and whatever the service answers."""
    allow(twenty, repo, 25)
    leave(repo, *range(6))
    accounts.fail_next(1, 500, method="GET")
    for number in range(6):
        stopped = row(twenty.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool")
        assert stopped.status is (Status.SUSPENDED if number else Status.ORPHANED)
        assert "30.00 % is over 25 % (6/20)" in stopped.reason or not number
    assert accounts.calls("DELETE") == []


def test_dry_run_over_a_part_holds_what_the_pass_will_hold(twenty, accounts, repo):
    """It is made before any pass has met the commit."""
    allow(twenty, repo, 25)
    leave(repo, *range(6))
    for report in (twenty.plan(hires=["h00"]), twenty.reconcile(hires=["h00"])):
        stopped = row(report, "h00", "tool")
        assert (stopped.status, stopped.action, stopped.guarded) == (Status.SUSPENDED, Action.NONE, True)
        assert "30.00 % is over 25 % (6/20)" in stopped.reason


def test_revisions_that_follow_each_other_add_up(twenty, accounts, repo):
    """Also where a pass over everything came between, and until another one has ended."""
    allow(twenty, repo, 25)
    leave(repo, *range(4))
    twenty.reconcile()
    leave(repo, *range(4, 8))
    report = twenty.reconcile()
    assert held(report) == {f"h{number:02}" for number in range(4, 8)}
    assert "40.00 % is over 25 % (8/20)" in row(report, "h04", "tool").reason
    assert held(twenty.reconcile()) == set(), "another one has ended"
    assert len(accounts.calls("DELETE")) == 8


def test_what_is_held_stays_so_where_accounts_are_found_beside_it(twenty, accounts, repo):
    """Six of twenty are too many; they are not let through because six of twenty-five would not be."""
    allow(twenty, repo, 25)
    for number in range(20, 25):
        repo.hire(f"h{number:02}", "tool")
        accounts.add(f"h{number:02}@example.com")
    leave(repo, *range(6))
    for _ in range(3):
        assert "30.00 % is over 25 % (6/20)" in row(twenty.reconcile(), "h00", "tool").reason
    assert accounts.calls("DELETE") == []
    leave(repo, 24)
    repo.hire("h05", "tool")
    repo.commit()
    assert "30.00 % is over 25 % (6/20)" in row(twenty.reconcile(), "h00", "tool").reason, "another one leaves instead"
    repo.hire("h04", "tool")
    repo.commit()
    assert held(twenty.reconcile()) == set(), "five are not too many"


def test_former_accounts_are_compared_with_the_accounts_before_the_revision(twenty, accounts, repo):
    """Each of six has an account under the new address, too: both are confirmed from now on."""
    allow(twenty, repo, 25)
    for number in range(6):
        repo.hire(f"h{number:02}", "tool", email=f"x{number:02}@example.com")
        accounts.add(f"x{number:02}@example.com")
    repo.commit()
    for number in range(5):
        twenty.reconcile(hires=[f"h{number:02}"])
    last = row(twenty.reconcile(hires=["h05"]), "h05", "tool~h05@example.com")
    assert (last.status, last.guarded) == (Status.SUSPENDED, True)
    assert "30.00 % is over 25 % (6/20)" in last.reason
    assert len(accounts.calls("DELETE")) == 5


def test_renamed_files_and_entries_take_nothing_away(twenty, accounts, repo):
    allow(twenty, repo, 0)
    for number in range(10):
        rename(repo, f"h{number:02}", f"x{number:02}")
    for number in range(10, 20):
        repo.hire(f"h{number:02}", {"integration": "tool", "name": "again"})
    repo.commit()
    for some in ([f"x{number:02}" for number in range(10)], [f"h{number:02}" for number in range(10, 20)]):
        assert held(twenty.reconcile(hires=some)) == set()
    assert len(accounts.people) == 20


def test_renamed_files_take_nothing_away_whose_accounts_are_under_a_former_address(twenty, accounts, repo):
    allow(twenty, repo, 25)
    for number in range(6):
        repo.hire(f"h{number:02}", "tool", email=f"x{number:02}@example.com")
    repo.commit()
    twenty.reconcile()
    for number in range(6):
        repo.remove(f"hires/h{number:02}.yaml")
        repo.hire(f"x{number:02}", "tool", email=f"x{number:02}@example.com")
    leave(repo, 10)
    assert row(twenty.reconcile(hires=["h10"]), "h10", "tool").status is Status.REVOKED
    assert accounts.calls("POST") == []
    assert len(accounts.calls("DELETE")) == 1


@pytest.mark.parametrize("counted", [True, False])
def test_who_is_renamed_and_loses_the_entry_at_once_counts(twenty, accounts, repo, counted):
    """The ledger has nothing under the new name; nor a count, where its state is an earlier release's."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_new=None)
    repo.commit()
    twenty.reconcile()
    for number in range(6):
        repo.remove(f"hires/h{number:02}.yaml")
        repo.hire(f"x{number:02}", email=f"h{number:02}@example.com")
    repo.hire("new", "tool")
    repo.commit()
    with twenty.ledger() as ledger:
        ledger.notes.put(NOTE, lambda known: known if counted else None)
    assert held(twenty.reconcile(hires=["x00"])) == {"x00"}
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("then", [99, 100])
def test_limits_that_a_revision_raises_itself_do_not_count_for_it(twenty, accounts, repo, then):
    """A commit after it that changes them says that it is meant."""
    allow(twenty, repo, 25)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_change_percent=100)
    leave(repo, *range(10))
    assert len(held(twenty.reconcile())) == 10
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_change_percent=then)
    repo.hire("h19", "tool", position="Engineer")
    repo.commit()
    report = twenty.reconcile()
    assert len(held(report)) == (10 if then == 100 else 0)
    assert len(accounts.calls("DELETE")) == (0 if then == 100 else 10)


def test_a_raised_limit_counts_where_who_waited_for_it_was_renamed_meanwhile(few, repo, accounts):
    join(repo, *range(6))
    assert len(held(few.reconcile())) == 6
    repo.settings(gnupg_home=repo.gnupg.path, max_new=10)
    rename(repo, "n0", "new0")
    repo.commit()
    assert held(few.reconcile()) == set()
    assert len(accounts.people) == 26


def test_settings_that_take_away_are_counted_as_a_whole(twenty, accounts, repo):
    """A commit that is about everybody is counted without a plan for those of whom nothing can leave."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="report")
    leave(repo, *range(6))
    assert {item.status for item in twenty.reconcile().rows} == {Status.PRESENT, Status.ORPHANED}
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    assert held(twenty.reconcile(hires=["h00"])) == {"h00"}
    assert accounts.calls("DELETE") == []


def test_a_for_that_is_made_shorter_counts_over_all_parts(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    twenty.reconcile()
    twenty.clock.turn(hours=10)
    for number in range(6):
        repo.hire(f"h{number:02}", {"integration": "tool", "for": "8h"})
    repo.commit()
    for number in range(6):
        stopped = row(twenty.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool")
        assert (stopped.status, stopped.guarded) == (Status.SUSPENDED, True)
    assert accounts.calls("DELETE") == []


def test_a_time_that_a_revision_set_counts_over_all_parts_once_it_is_over(twenty, accounts, repo):
    for number in range(6):
        repo.hire(f"h{number:02}", {"integration": "tool", "until": "2026-12-01T10:00Z"})
    repo.commit()
    assert not held(twenty.reconcile())
    twenty.clock.turn(hours=1)
    for number in range(6):
        stopped = row(twenty.reconcile(grants=[(f"h{number:02}", "tool")]), f"h{number:02}", "tool")
        assert (stopped.status, stopped.guarded) == (Status.SUSPENDED, True)
    assert accounts.calls("DELETE") == []
    assert not held(twenty.reconcile(released=True))
    assert len(accounts.calls("DELETE")) == 6


@pytest.mark.parametrize("first", [None, "2026-12-01T10:00Z"], ids=["moved", "moved back"])
def test_a_time_counts_over_all_parts_where_no_pass_came_by_since_it_was_moved(accounts, repo, first):
    """The pass that takes the revision over is about somebody else."""
    machine = confirmed(repo, accounts, until=first)
    allow(machine, repo, 25)
    if first is not None:
        end(repo, range(6), "2026-12-01T18:00Z")
        machine.reconcile()
        end(repo, range(6, 20), "2026-12-31")
    end(repo, range(6), "2026-12-01T10:00Z")
    machine.reconcile(hires=["h19"])
    machine.clock.turn(hours=2)
    for number in range(6):
        stopped = row(machine.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool")
        assert "30.00 % is over 25 % (6/20)" in stopped.reason
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("waits", ["for its day", "suspended", "for initial data", "for a program"])
def test_new_entries_that_waited_count_over_all_parts(few, accounts, repo, waits, known):
    """Also where no pass came by since they were added."""
    people, manifest = [f"n{number}" for number in range(8)], accounts.manifest()
    suspended = [{"integration": "other", "until": "2026-12-02"}] if waits == "suspended" else []
    repo.settings(gnupg_home=repo.gnupg.path, max_new=5, suspend=suspended)
    if waits == "for initial data":
        manifest["initial_data_form"] = [{"id": "TOKEN", "name": "Token"}]
    if waits == "for a program":
        manifest["execute"].append({"url": "exec:tool/make"})
    repo.manifest("other", manifest)
    for stem in people:
        repo.hire(stem, {"integration": "other", **({"at": "2026-12-02"} if waits == "for its day" else {})})
    repo.commit()
    few.reconcile(hires=None if known else ["h19"])
    if waits == "for initial data":
        repo.initial_data("other", {"TOKEN": "of eighteen letters"})
        repo.commit()
    few.programs = {"tool": Path("/bin/true")}
    few.clock.turn(days=1)
    for stem in people:
        few.reconcile(hires=[stem], partial=True)
    assert accounts.calls("POST") == []
    assert "8 accounts would be made or updated, max_new is 5" in row(few.reconcile(), "n0", "other").reason
    few.release()
    few.reconcile()
    assert len(accounts.calls("POST")) == 8


@pytest.mark.parametrize("how", ["its time is over", "a person revokes it", "a lock"])
def test_what_ends_by_itself_or_by_hand_leaves_the_others_held_that_left_with_it(accounts, repo, how):
    machine = confirmed(repo, accounts, until="2026-12-01T10:00Z")
    end(repo, range(8, 20), "2026-12-31")
    allow(machine, repo, 25)
    leave(repo, *range(12))
    assert len(held(machine.reconcile())) == 12
    if how == "its time is over":
        machine.clock.turn(hours=1)
    for number in range(8) if how == "a lock" else ():
        machine.lock(f"h{number:02}", addresses=[f"h{number:02}@example.com"], delete=True)
    machine.reconcile()
    for number in range(8) if how == "a person revokes it" else ():
        machine.reconcile(hires=[f"h{number:02}"], by_hand={(f"h{number:02}", "tool"): "revoke"})
    others = {f"h{number:02}" for number in range(8, 12)}
    for number in range(8, 12):
        stopped = row(machine.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool")
        assert (stopped.guarded, "60.00 % is over 25 % (12/20)" in stopped.reason) == (True, True)
    repo.hire("new", "tool")
    repo.commit()
    for _ in range(3):
        assert others <= held(machine.reconcile())
    assert len(accounts.calls("DELETE")) == 8
    machine.release()
    assert held(machine.reconcile()) == set()
    assert len(accounts.calls("DELETE")) == 12


@pytest.mark.parametrize("first", [None, "2026-12-01T18:00Z", "2026-12-01T11:00Z"])
def test_times_that_are_held_can_be_taken_back(accounts, repo, first):
    """Everybody has the first end again, also where that is over by then."""
    machine = confirmed(repo, accounts, until=first)
    end(repo, range(8), "2026-12-01T10:00Z")
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert len(held(machine.reconcile())) == 8
    machine.clock.turn(hours=1)
    end(repo, range(8), first)
    over = first == "2026-12-01T11:00Z"
    assert {item.status for item in machine.reconcile().rows} == {Status.REVOKED if over else Status.PRESENT}
    machine.clock.turn(hours=7)
    assert held(machine.reconcile()) == set()
    assert len(accounts.calls("DELETE")) == (20 if first else 0)


def test_times_that_are_moved_and_moved_back_are_over_by_themselves(accounts, repo):
    machine = confirmed(repo, accounts, until="2026-12-01T10:00Z")
    for until in ("2026-12-01T18:00Z", "2026-12-01T10:00Z"):
        end(repo, range(20), until)
        machine.reconcile()
    machine.clock.turn(hours=1)
    assert {item.status for item in machine.reconcile().rows} == {Status.REVOKED}


@pytest.mark.parametrize("prune", ["report", "revoke"])
def test_a_time_made_shorter_to_the_first_one_that_is_over_is_a_removal(accounts, repo, prune):
    machine = confirmed(repo, accounts, until="2026-12-01T10:00Z")
    repo.settings(gnupg_home=repo.gnupg.path, prune=prune)
    end(repo, range(20), "2026-12-01T18:00Z")
    machine.reconcile()
    machine.clock.turn(hours=2)
    end(repo, range(20), "2026-12-01T10:00Z")
    report = machine.reconcile()
    assert {item.status for item in report.rows} == {Status.ORPHANED if prune == "report" else Status.SUSPENDED}
    assert len(held(report)) == (0 if prune == "report" else 20)
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("ends", ["a time that was moved", "a later commit"])
def test_what_is_taken_away_counts_over_all_parts_where_updates_were_held_before(few, accounts, repo, ends):
    repo.settings(gnupg_home=repo.gnupg.path, max_new=5, prune="revoke")
    repo.manifest("tool", titled(accounts))
    for number in range(6):
        repo.hire(f"h{number:02}", {"integration": "tool", "until": "2026-12-01T10:00Z"}, position="Lead")
    repo.commit()
    assert "max_new is 5" in row(few.reconcile(), "h00", "tool").reason
    if ends == "a later commit":
        leave(repo, *range(6))
    else:
        few.clock.turn(hours=1)
    for number in range(6):
        few.reconcile(grants=[(f"h{number:02}", "tool")])
    assert accounts.calls("DELETE") == []
    assert "30.00 % is over 25 % (6/20)" in row(few.reconcile(), "h00", "tool").reason


def test_of_those_whose_time_is_over_only_accounts_that_are_there_count(twenty, accounts, repo):
    for number in range(6):
        repo.hire(f"h{number:02}", {"integration": "tool", "until": "2026-12-01T10:00Z"})
    repo.commit()
    twenty.reconcile()
    lose(accounts, 0, 1)
    twenty.clock.turn(hours=1)
    assert not held(twenty.reconcile())
    assert len(accounts.calls("DELETE")) == 4


def test_accounts_that_a_for_took_away_count_with_those_of_later_commits(twenty, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    twenty.reconcile()
    twenty.clock.turn(hours=10)
    for number in range(6):
        repo.hire(f"h{number:02}", {"integration": "tool", "for": "8h"})
        repo.commit()
        left = row(twenty.reconcile(hires=[f"h{number:02}"]), f"h{number:02}", "tool")
        assert (left.status, left.guarded) == ((Status.REVOKED, False) if number < 5 else (Status.SUSPENDED, True))
    assert len(accounts.calls("DELETE")) == 5


def test_override_for_one_hire_holds_nobody_who_left_long_ago(twenty, accounts, repo):
    """What left bit by bit, each time within the limit, is no mistake when it is added up."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_change_percent=40)
    repo.commit()
    twenty.reconcile()
    for gone in (range(8), range(8, 12), range(12, 15)):
        for number in gone:
            repo.remove(f"hires/h{number:02}.yaml")
        repo.commit()
        twenty.reconcile()
        twenty.reconcile()
    assert len(accounts.people) == 5
    assert EventType.HELD not in twenty.events()
    twenty.reconcile(hires=["h19"], released=True)
    assert EventType.HELD not in twenty.events()


def test_what_leaves_counts_as_a_whole_though_it_is_blocked(twenty, accounts, repo):
    """What was missing is there again without a commit, such as a key of the machine."""
    allow(twenty, repo, 25)
    program = {"url": "exec:tool/revoke", "method": "DELETE"}
    repo.manifest("tool", {**accounts.manifest(), "revoke": [program, *accounts.manifest(revoke=True)["revoke"]]})
    leave(repo, *range(8))
    assert "exec:tool" in row(twenty.reconcile(), "h00", "tool").reason
    twenty.programs = {"tool": Path("/bin/true")}
    for number in range(8):
        assert held(twenty.reconcile(hires=[f"h{number:02}"])) == {f"h{number:02}"}
    assert accounts.calls("DELETE") == []


def other_account(accounts):
    """A manifest whose accounts are others than those of `tool`."""
    other = accounts.manifest(revoke=True)
    url = f"{accounts.url}/users/other-{{{{email}}}}"
    other["exists"] |= {"url": url, "expected": "other-{{email}}"}
    other["revoke"] = [{"url": url, "method": "DELETE"}]
    return other


@pytest.mark.parametrize("held_by", ["a manifest that is not there", "a manifest of the same account", "a broken file"])
def test_what_another_file_held_counts_as_a_whole_once_it_lets_go(twenty, accounts, repo, held_by):
    """The commit that takes the entries away is one before, and what was held has had passes since."""
    allow(twenty, repo, 25)
    if held_by == "a manifest of the same account":
        repo.manifest("more", accounts.manifest(revoke=True))
    for number in range(8):
        if held_by == "a broken file":
            (repo.root / f"hires/h{number:02}.yaml").rename(repo.root / f"hires/x{number:02}.yaml")
            with (repo.root / f"hires/x{number:02}.yaml").open("a") as file:
                file.write("- [")
        else:
            repo.hire(f"h{number:02}", "more")
            accounts.add(f"other-h{number:02}@example.com")
    repo.commit()
    for _ in range(3):
        assert held(twenty.reconcile()) == set()
    if held_by == "a broken file":
        for number in range(8):
            repo.remove(f"hires/x{number:02}.yaml")
    else:
        repo.manifest("more", other_account(accounts))
    repo.commit()
    for number in range(8):
        stem = f"h{number:02}"
        assert "40.00 % is over 25 % (8/20)" in row(twenty.reconcile(hires=[stem]), stem, "tool").reason
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("about", [{"integration": "tool"}, {"hire": "h00"}])
def test_what_leaves_counts_as_a_whole_after_a_suspension_that_ends_by_itself(twenty, accounts, repo, about):
    """Also where it was held before somebody suspended the integration, to look what is wrong."""
    allow(twenty, repo, 25)
    leave(repo, *range(6))
    assert len(held(twenty.reconcile())) == 6
    suspended = [{**about, "until": "2026-12-03", "reason": "what is this?"}]
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", suspend=suspended)
    repo.commit()
    twenty.reconcile()
    twenty.clock.turn(days=3)
    for number in range(6):
        assert held(twenty.reconcile(hires=[f"h{number:02}"])) == {f"h{number:02}"}
    assert accounts.calls("DELETE") == []


def test_limits_that_a_revision_raises_do_not_count_for_what_its_manifest_loses(twenty, accounts, repo):
    lost = accounts.manifest(revoke=True)
    lost["exists"]["url"] = f"{accounts.url}/nowhere/{{{{email}}}}"
    repo.manifest("tool", lost)
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=100)
    repo.commit()
    assert len(held(twenty.reconcile())) == 20
    repo.hire("h19", "tool", position="Engineer")
    repo.commit()
    assert len(held(twenty.reconcile())) == 20, "a commit that has nothing to do with it"
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=99)
    repo.commit()
    assert len(held(twenty.reconcile())) == 20
    assert accounts.calls("POST") == []
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=100)
    repo.commit()
    assert held(twenty.reconcile()) == set(), "now it says that it is meant"


def test_limits_that_are_raised_over_a_worktree_let_through_what_waits(twenty, accounts, repo):
    """Git does not say there which files differ."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", source="worktree")
    repo.commit()
    twenty.reconcile()
    for number in range(8):
        repo.remove(f"hires/h{number:02}.yaml")
    assert len(held(twenty.reconcile())) == 8
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", source="worktree", max_change_percent=50)
    repo.git("add", "config")
    repo.git("commit", "-qm", "Let more go")
    assert held(twenty.reconcile()) == set()
    assert len(accounts.calls("DELETE")) == 8


def test_raised_limits_count_once_what_came_with_them_is_done(twenty, accounts, repo):
    allow(twenty, repo, 30)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke", max_change_percent=60)
    leave(repo, *range(6))
    for _ in range(3):
        assert held(twenty.reconcile()) == set()
    leave(repo, *range(6, 14))
    assert held(twenty.reconcile()) == set(), "eight of fourteen are 57.14 %"
    assert len(accounts.calls("DELETE")) == 14


def test_small_commit_that_rewrites_history_is_counted_by_itself(twenty, repo):
    """A clone that is made now never has the commit that was counted before, and could not tell which is newer."""
    repo.hire("ada", "tool")
    repo.git("add", "-A")
    repo.git("commit", "--amend", "-qm", "Begin anew")
    twenty.reconcile()
    with twenty.ledger() as ledger:
        counted = RevisionCount.read(ledger)
    assert counted is not None
    assert counted.revision == repo.git("rev-parse", "HEAD")
