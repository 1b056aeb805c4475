"""docs/design/rules.md, "Locking somebody out", and docs/design/states.md: an account is locked whatever git says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.ledger.part_writers import WritableAttempts
from reconciler.model.clock import stamp
from reconciler.model.grant import Key
from reconciler.model.lock import Lock, LockState
from reconciler.model.status import Action, EventType, Status
from reconciler.review.past import replayed
from tests.engine.harness import dying, row
from tests.repo import use_key
from tests.servers import Reply

SAID = "locked by tester@here since 2026-12-01T09:00:00Z: left in anger"


@pytest.fixture
def lockable(machine, accounts, repo):
    """Ada has `tool`, whose accounts can be switched off."""
    repo.manifest("tool", accounts.lockable())
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    return machine


def active(accounts, email="ada@example.com"):
    return accounts.people[email].get("active", True)


def delete_in_vain(machine, accounts, repo, **lock):
    """Lock Ada out by deleting the account, which the service refuses once."""
    repo.manifest("tool", accounts.manifest(revoke=True) | {"revoke_deletes": True})
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    machine.lock("ada", delete=True, **lock)
    machine.reconcile()


def test_account_is_switched_off_and_on_again(lockable, accounts):
    lockable.lock("ada")
    found = row(lockable.reconcile(), "ada", "tool")
    assert (found.status, found.action, found.reason) == (Status.SUSPENDED, Action.NONE, f"{SAID}; switched off")
    assert not active(accounts)
    report = lockable.reconcile()
    assert (row(report, "ada", "tool").reason, report.wrong) == (f"{SAID}; switched off", False)
    assert len(accounts.calls("PATCH")) == 1
    lockable.enqueue("unlock", "ada")
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT
    assert active(accounts)
    assert [each for each in lockable.events("ada") if "lock" in each] == [
        EventType.LOCKED,
        EventType.LOCKED,
        EventType.UNLOCKED,
    ]
    assert lockable.record("ada", "tool").healed_at is None  # never drift


@pytest.mark.parametrize("down", [False, True], ids=["answers", "is down at first"])
def test_account_that_is_gone_when_the_lock_ends_is_made_anew(lockable, accounts, repo, down):
    """It is no drift: `drift: report` would leave the person without access."""
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    lockable.lock("ada")
    lockable.reconcile()
    accounts.people.clear()
    lockable.enqueue("unlock", "ada")
    accounts.fail_next(int(down), 500, method="GET")
    if down:
        assert row(lockable.reconcile(), "ada", "tool").status is Status.UNKNOWN
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 2}
    assert EventType.LOST not in lockable.events("ada")
    assert EventType.REVOKED in lockable.events("ada")


@pytest.mark.parametrize("gone", [False, True], ids=["switched off", "deleted"])
def test_account_that_a_person_locked_is_followed_again_as_one_that_the_program_locked(lockable, accounts, repo, gone):
    manifest = accounts.lockable()
    del manifest["lock"]
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    lockable.lock("ada")
    assert "lock it there" in row(lockable.reconcile(), "ada", "tool").reason
    accounts.people["ada@example.com"]["active"] = False
    if gone:
        accounts.people.clear()
    lockable.enqueue("unlock", "ada")
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT
    assert active(accounts)


def test_account_that_somebody_switched_on_again_is_locked_again_and_both_are_told(lockable, accounts):
    lockable.lock("ada")
    lockable.reconcile()
    accounts.people["ada@example.com"]["active"] = True
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.DONE
    assert not active(accounts)
    told = [line.detail for line in lockable.history("ada") if line.event is EventType.LOCKED]
    assert told[1:] == ["switched off", "switched off"]


@pytest.mark.parametrize("before", [False, True], ids=["never-had", "revoked"])
def test_account_that_was_off_already_stays_off_until_its_day(lockable, accounts, repo, before):
    """Git is followed again: what was as it was before the lock is no reason to give anything early."""
    if before:
        manifest = accounts.lockable()
        manifest["revoke"] = manifest["lock"]
        repo.manifest("tool", manifest)
        repo.settings(prune="revoke", gnupg_home=repo.gnupg.path)
    else:
        accounts.add("bob@example.com")
        accounts.people["bob@example.com"]["active"] = False
    hire = "ada" if before else "bob"
    repo.hire(hire)
    repo.commit()
    lockable.reconcile()
    assert not active(accounts, f"{hire}@example.com")
    repo.hire(hire, {"integration": "tool", "at": "2026-12-24", "for": "8h"})
    repo.commit()
    sent = len(accounts.calls("PATCH"))
    lockable.lock(hire)
    for _ in range(2):
        found = row(lockable.reconcile(), hire, "tool")
        assert (found.status, found.locked) == (Status.SUSPENDED, LockState.DONE)
    lockable.enqueue("unlock", hire)
    assert row(lockable.reconcile(), hire, "tool").status is Status.SCHEDULED
    assert len(accounts.calls("PATCH")) == sent
    lockable.clock.turn(days=24)
    assert row(lockable.reconcile(), hire, "tool").status is Status.PRESENT
    assert active(accounts, f"{hire}@example.com")


def test_guard_neither_counts_nor_holds_what_the_end_of_a_lock_gives_back(lockable, accounts, repo):
    """A person named them; with `max_new: 1` two were held, and the next who is new."""
    repo.settings(gnupg_home=repo.gnupg.path, max_new=1)
    repo.hire("bob", "tool")
    repo.commit()
    lockable.reconcile()
    for hire in ("ada", "bob"):
        lockable.lock(hire)
    lockable.reconcile()
    accounts.people.pop("bob@example.com")
    lockable.clock.turn(hours=1)
    for hire in ("ada", "bob"):
        lockable.enqueue("unlock", hire)
    report = lockable.reconcile()
    assert {row(report, hire, "tool").status for hire in ("ada", "bob")} == {Status.PRESENT}
    repo.hire("eve", "tool")
    repo.commit()
    assert row(lockable.reconcile(hires=["eve"]), "eve", "tool").status is Status.PRESENT


def test_history_knows_that_what_left_git_under_a_lock_is_locked_no_longer(lockable, accounts, repo):
    """`status --at` said `suspended` for ever of an account that anybody could use."""
    repo.manifest("tool", accounts.manifest(revoke=True) | {"revoke_deletes": True})
    repo.commit()
    lockable.lock("ada")
    lockable.reconcile()
    repo.hire("ada")
    repo.commit()
    lockable.reconcile()
    left = lockable.history("ada")[-1].at
    lockable.clock.turn(hours=1)
    lockable.enqueue("unlock", "ada")
    for _ in range(2):
        assert row(lockable.reconcile(), "ada", "tool").status is Status.ORPHANED
    lines = lockable.history()
    for upto, status in ((left, Status.SUSPENDED), (lockable.clock.now(), Status.ORPHANED)):
        known, _ = replayed(line for line in lines if line.at <= upto)
        assert known[Key("ada", "tool")].status is status
    assert len([line for line in lines if line.event is EventType.UNLOCKED and line.key.access]) == 1


ONE, THREE, OPEN = "2026-12-01T10:00:00+00:00", "2026-12-01T12:00:00+00:00", None


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "ends"), [(OPEN, ONE, None), (ONE, OPEN, None), (THREE, ONE, 3), (ONE, THREE, 3)]
)
def test_second_lock_ends_none_before_its_time(lockable, accounts, first, second, ends, together):
    lockable.lock("ada", until=first)
    if not together:
        lockable.reconcile()
    lockable.lock("ada", reason="on leave", until=second)
    assert "on leave; switched off" in row(lockable.reconcile(), "ada", "tool").reason
    lockable.clock.turn(hours=2)
    assert row(lockable.reconcile(), "ada", "tool").status is Status.SUSPENDED
    lockable.clock.turn(hours=2)
    lockable.reconcile()
    assert active(accounts) is (ends == 3)
    lockable.enqueue("unlock", "ada")
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT


def test_second_lock_goes_on_to_delete(lockable, accounts, repo):
    delete_in_vain(lockable, accounts, repo)
    lockable.lock("ada")
    lockable.clock.turn(hours=1)
    assert "gone" in row(lockable.reconcile(), "ada", "tool").reason
    assert accounts.people == {}


def test_second_lock_deletes_nothing_for_one_whose_time_is_over(lockable, accounts, repo):
    """No pass came to it since it ended."""
    delete_in_vain(lockable, accounts, repo, until=ONE)
    lockable.clock.turn(hours=2)
    lockable.lock("ada")
    assert "lock it there" in row(lockable.reconcile(), "ada", "tool").reason
    assert "ada@example.com" in accounts.people


def test_lock_ends_by_itself(lockable, accounts):
    lockable.lock("ada", until="2026-12-01T10:00:00+00:00")
    lockable.reconcile()
    lockable.clock.turn(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT
    assert active(accounts)
    (line,) = [line for line in lockable.history("ada") if line.event is EventType.UNLOCKED]
    assert line.detail == "its time is over"


@pytest.mark.parametrize("delete", [False, True])
def test_revoke_takes_the_place_of_lock_where_it_may(lockable, accounts, repo, delete):
    manifest = accounts.lockable()
    del manifest["lock"]
    repo.manifest("tool", manifest)
    repo.commit()
    lockable.lock("ada", delete=delete)
    report = lockable.reconcile()
    found = row(report, "ada", "tool")
    if not delete:
        assert found.reason.startswith(f"{SAID}; lock it there: the manifest has no lock, and its revoke deletes")
        assert report.wrong
        assert accounts.people
        return
    assert (found.status, accounts.people, report.wrong) == (Status.SUSPENDED, {}, False)
    lockable.enqueue("unlock", "ada")
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT
    assert EventType.LOST not in lockable.events("ada")  # a new grant
    with lockable.ledger() as ledger:
        assert ledger.history.verify_agreement()[1] is None


def test_lock_says_where_a_person_has_to_do_it(lockable, accounts, repo):
    manifest = accounts.lockable()
    del manifest["lock"], manifest["revoke"], manifest["revoke_deletes"]
    repo.manifest("tool", manifest)
    repo.commit()
    lockable.lock("ada")
    report = lockable.reconcile()
    assert row(report, "ada", "tool").locked is LockState.MANUAL
    assert report.wrong


def test_failed_lock_is_retried_like_a_revocation(lockable, accounts):
    accounts.fail_next(2, 500, method="PATCH")
    lockable.lock("ada")
    report = lockable.reconcile()
    found = row(report, "ada", "tool")
    assert (found.status, found.locked, report.wrong) == (Status.SUSPENDED, LockState.PENDING, True)
    assert found.retry_at == lockable.clock.now() + timedelta(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").action is Action.WAIT
    lockable.clock.turn(hours=1)
    with lockable.ledger() as ledger:
        assert ledger.grants.due(lockable.clock.now())
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.FAILED
    lockable.enqueue("retry", "ada")
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.DONE
    assert not active(accounts)


def test_revocation_after_a_lock_that_failed_counts_its_attempts_anew(lockable, accounts, repo):
    accounts.fail_next(2, 500, method="PATCH")
    lockable.lock("ada")
    lockable.reconcile()
    lockable.clock.turn(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.FAILED
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.remove("hires/ada.yaml")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    lockable.enqueue("unlock", "ada")
    assert row(lockable.reconcile(), "ada", "tool").status is Status.RETRYING
    lockable.clock.turn(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").status is Status.REVOKED


def test_what_a_lock_lacks_is_said_until_a_person_has_locked_the_account(lockable, accounts, repo):
    """It was never looked for, so that the lock was not done for ever."""
    manifest = accounts.lockable()
    manifest["lock"][0]["data"]["seat"] = "{{SEAT}}"
    repo.manifest("tool", manifest)
    repo.remove("hires/ada.yaml")
    repo.commit()
    lockable.lock("ada")
    report = lockable.reconcile()
    assert (row(report, "ada", "tool").locked, report.wrong) == (LockState.PENDING, True)
    assert "{{SEAT}}" in row(report, "ada", "tool").reason
    accounts.people["ada@example.com"]["active"] = False
    report = lockable.reconcile()
    assert (row(report, "ada", "tool").locked, report.wrong) == (LockState.DONE, False)
    assert accounts.calls("PATCH") == []


def test_lock_that_is_half_done_goes_on_though_the_account_is_switched_off(lockable, accounts, repo):
    """Sessions outlive an account that is switched off."""
    accounts.route("DELETE", "/sessions/{id}", lambda _received, **_: 204)
    manifest = accounts.lockable()
    manifest["lock"].append({"url": f"{accounts.url}/sessions/{{{{responses.0.id}}}}", "method": "DELETE"})
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    lockable.lock("ada")
    for _ in range(2):
        report = lockable.reconcile()
        assert (row(report, "ada", "tool").locked, report.wrong) == (LockState.PENDING, True)
        assert not active(accounts)
    lockable.clock.turn(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.DONE
    assert [call.path for call in accounts.calls("DELETE")] == ["/sessions/1", "/sessions/1"]
    assert len(accounts.calls("PATCH")) == 1


def test_lock_whose_answer_was_lost_goes_on_after_it(lockable, accounts, repo):
    accounts.route("DELETE", "/sessions/{email}", lambda _received, **_: 204)
    manifest = accounts.lockable()
    manifest["lock"].append({"url": f"{accounts.url}/sessions/{{{{email}}}}", "method": "DELETE"})
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.drop_after_commit(method="PATCH")
    lockable.lock("ada")
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.PENDING
    lockable.clock.turn(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.DONE
    assert (len(accounts.calls("PATCH")), len(accounts.calls("DELETE"))) == (1, 1)


@pytest.mark.parametrize("lock", [False, True])
def test_revocation_that_is_half_done_goes_on_under_a_lock(lockable, accounts, repo, lock):
    """The account is gone, what its second request takes away is not."""
    accounts.route("DELETE", "/seats/{email}", lambda _received, **_: 204)
    manifest = accounts.lockable()
    manifest["revoke"].append({"url": f"{accounts.url}/seats/{{{{email}}}}", "method": "DELETE"})
    if not lock:
        del manifest["lock"]
    repo.manifest("tool", manifest)
    repo.settings(prune="revoke", gnupg_home=repo.gnupg.path)
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE", prefix="/seats")
    lockable.reconcile()
    lockable.lock("ada")
    report = lockable.reconcile()
    assert (row(report, "ada", "tool").locked, report.wrong) == (LockState.PENDING, True)
    lockable.clock.turn(hours=1)
    assert row(lockable.reconcile(), "ada", "tool").locked is LockState.DONE
    sent = [call.path for call in accounts.calls("DELETE")]
    assert sent == ["/users/ada@example.com", "/seats/ada@example.com", "/seats/ada@example.com"]
    assert row(lockable.reconcile(), "ada", "tool").status is Status.REVOKED
    with lockable.ledger() as ledger:
        assert ledger.history.verify_agreement()[1] is None


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("prune", ["revoke", "report"])
def test_lock_that_deleted_half_is_gone_on_with_where_git_no_longer_wants_it(lockable, accounts, repo, prune, changed):
    """The account is gone when the lock ends; what the later requests of `revoke` take away was never taken.

    Where a commit has changed the first one, it is sent again, and the service does not know the account any more.
    """
    manifest = accounts.manifest(revoke=True) | {"revoke_deletes": True}
    manifest["revoke"].append({"url": f"{accounts.url}/archive"})
    accounts.route("POST", "/archive", {"ok": True})
    repo.settings(gnupg_home=repo.gnupg.path, prune=prune)
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 500, prefix="/archive")
    lockable.lock("ada", delete=True)
    lockable.reconcile()
    assert accounts.people == {}
    repo.hire("ada")
    if changed:
        manifest["revoke"][0]["headers"] = {"X-Reason": "left"}
        repo.manifest("tool", manifest)
    repo.commit()
    lockable.enqueue("unlock", "ada")
    assert row(lockable.reconcile(), "ada", "tool").status is (Status.REVOKED if changed else Status.RETRYING)
    lockable.clock.turn(hours=1)
    for _ in range(2):
        assert row(lockable.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [len(accounts.calls(*call)) for call in (("DELETE",), ("POST", "/archive"))] == [1 + changed, 2]


def test_lock_that_deleted_nothing_is_no_revocation_where_git_no_longer_wants_it(lockable, accounts, repo):
    delete_in_vain(lockable, accounts, repo)
    repo.hire("ada")
    repo.commit()
    lockable.enqueue("unlock", "ada")
    for _ in range(2):
        assert row(lockable.reconcile(), "ada", "tool").status is Status.ORPHANED
        lockable.clock.turn(hours=1)
    assert "ada@example.com" in accounts.people


def test_half_made_webhook_that_a_lock_switched_off_is_not_forgotten(machine, accounts, repo):
    """Once it left git, under the lock or after it."""
    hook = [{"url": f"{accounts.url}/hook/{name}"} for name in ("begin", "rest", "off")]
    repo.manifest("hook", {"execute": hook[:2], "lock": hook[2:], "revoke": [{"url": f"{accounts.url}/hook/end"}]})
    for name in ("begin", "rest", "off", "end"):
        accounts.route("POST", f"/hook/{name}", {"ok": True})
    accounts.fail_next(1, 500, prefix="/hook/rest")
    repo.hire("ada", "hook")
    repo.commit()
    assert row(machine.reconcile(), "ada", "hook").status is Status.RETRYING
    machine.lock("ada")
    assert row(machine.reconcile(), "ada", "hook").reason == f"{SAID}; switched off"
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "hook").status is Status.SUSPENDED
    machine.enqueue("unlock", "ada")
    for _ in range(2):
        assert row(machine.reconcile(), "ada", "hook").status is Status.ORPHANED
    machine.enqueue("revoke", "ada", "hook")
    assert row(machine.reconcile(), "ada", "hook").status is Status.REVOKED
    assert len(accounts.calls("POST", "/hook/end")) == 1


def test_lock_without_effect_has_failed(lockable, accounts):
    accounts.route("PATCH", "/users/{email}", lambda _received, **_found: {"ok": True})
    lockable.lock("ada")
    found = row(lockable.reconcile(), "ada", "tool")
    assert (found.locked, "still finds the account" in found.reason) == (LockState.PENDING, True)


@pytest.mark.parametrize("how", ["wanted", "removed", "broken"])
def test_account_that_was_made_though_the_service_said_that_it_failed_is_locked(machine, accounts, repo, how):
    repo.manifest("tool", accounts.lockable())
    repo.hire("ada", "tool")
    repo.commit()

    def act(connection, received):
        accounts.handle(received)
        connection.answer(Reply(502, b"bad gateway"))

    accounts.on(act, times=1, method="POST", prefix="/users")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    if how == "removed":
        repo.hire("ada")
    elif how == "broken":
        repo.write("hires/ada.yaml", "email: ada@example.com\nlast_name: [\n")
    repo.commit()
    machine.lock("ada")
    assert row(machine.reconcile(), "ada", "tool").locked is LockState.DONE
    assert not active(accounts)


@pytest.mark.parametrize("how", ["removed", "kept", "broken", "renamed", "readdressed", "back"])
def test_lock_holds_whatever_becomes_of_the_file(lockable, accounts, repo, how):
    if how == "kept":
        repo.hire("ada", {"integration": "tool", "keep": True})
        repo.commit()
        lockable.reconcile()
    lockable.lock("ada")
    if how != "broken":
        lockable.reconcile()
        accounts.people["ada@example.com"].pop("active", None)  # somebody switched it on again
    where, access = "ada", "tool"
    match how:
        case "removed" | "back" | "kept":
            repo.remove("hires/ada.yaml")
        case "broken":
            repo.write("hires/ada.yaml", "email: [")
        case "renamed":
            repo.remove("hires/ada.yaml")
            repo.hire("countess", "tool", email="ada@example.com")
            where = "countess"
        case "readdressed":
            repo.hire("ada", "tool", email="countess@example.com")
    repo.commit()
    found = row(lockable.reconcile(), where, access)
    assert (found.status, found.reason) == (Status.SUSPENDED, f"{SAID}; switched off")
    assert not active(accounts)
    if how == "back":
        repo.hire("lovelace", "tool", email="Ada@Example.com")
        repo.commit()
        assert row(lockable.reconcile(), "lovelace", "tool").status is Status.SUSPENDED
    if how == "renamed":  # and renamed again, at another address
        repo.hire("countess", "tool", email="king@example.com")
        repo.commit()
        lockable.reconcile()
        repo.remove("hires/countess.yaml")
        repo.hire("king", "tool", email="king@example.com")
        repo.commit()
        assert {each.status for each in lockable.reconcile().rows} == {Status.SUSPENDED}
    assert not accounts.people.keys() - {"ada@example.com"}


@pytest.mark.parametrize("broken", ["the file", "a sequence", "a sequence that is gone"])
def test_lock_that_deleted_the_account_outranks_a_broken_file(machine, accounts, repo, broken):
    """Once its file is removed, git no longer wants it: it is revoked."""
    repo.manifest("tool", accounts.manifest(revoke=True))
    team = {"access": ["tool"]}
    repo.write("config/sequences/team.yaml", team)
    repo.hire("ada", sequences=["team"])
    repo.commit()
    machine.reconcile()
    machine.lock("ada")
    machine.reconcile()
    if broken == "the file":
        repo.write("hires/ada.yaml", "email: [")
    elif broken == "a sequence":
        repo.write("config/sequences/team.yaml", "access: [")
    else:
        repo.remove("config/sequences/team.yaml")
    repo.commit()
    for _ in range(2):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, found.reason) == (Status.SUSPENDED, f"{SAID}; there is no account")
    machine.enqueue("unlock", "ada")
    assert row(machine.reconcile(), "ada", "tool").status is Status.INVALID
    repo.hire("ada", sequences=["team"])
    repo.write("config/sequences/team.yaml", team)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    machine.lock("ada")
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert (len(accounts.calls("POST")), accounts.people) == (2, {})


def test_lock_of_who_was_renamed_is_no_lock_of_who_has_the_former_id(lockable, accounts, repo):
    lockable.lock("ada")
    lockable.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("countess", "tool", email="ada@example.com")
    repo.commit()
    lockable.reconcile()
    repo.hire("ada", "tool", email="ada.king@example.com")
    repo.commit()
    assert row(lockable.reconcile(), "ada", "tool").status is Status.PRESENT
    lockable.lock("ada", until="2026-12-01T10:00:00+00:00")
    assert {each.status for each in lockable.reconcile().rows} == {Status.SUSPENDED}
    lockable.enqueue("unlock", "ada")
    report = lockable.reconcile()
    assert [row(report, who, "tool").status for who in ("ada", "countess")] == [Status.PRESENT, Status.SUSPENDED]
    lockable.clock.turn(hours=1)
    lockable.reconcile()
    assert (active(accounts), active(accounts, "ada.king@example.com")) == (False, True)
    with lockable.ledger() as ledger:
        assert ledger.history.verify_agreement()[1] is None
    lockable.enqueue("unlock", "countess")
    assert {each.status for each in lockable.reconcile().rows} == {Status.PRESENT}


@pytest.mark.parametrize("suspended", [False, True])
def test_account_under_another_address_is_locked_too(lockable, accounts, repo, suspended):
    """A lock had switched off the one of the former address, which is no reason to leave the other."""
    lockable.lock("ada")
    lockable.reconcile()
    accounts.add("ada@other.example.com")
    repo.hire("ada", "tool", email="ada@other.example.com")
    held = {"suspend": [{"integration": "tool", "reason": "moving"}]} if suspended else {}
    repo.settings(gnupg_home=repo.gnupg.path, **held)
    repo.commit()
    report = lockable.reconcile()
    both = [row(report, "ada", access).locked for access in ("tool", "tool~ada@example.com")]
    assert both == [LockState.DONE, LockState.DONE]
    assert not any(active(accounts, email) for email in accounts.people)


def test_lock_is_not_done_while_one_of_two_addresses_cannot_be_asked(lockable, accounts, repo):
    lockable.reconcile()
    accounts.add("ada@other.example.com")
    repo.hire("ada", "tool", email="ada@other.example.com")
    repo.commit()
    accounts.fail_next(None, 500, method="GET", prefix="/users/ada@other.example.com")
    lockable.lock("ada")
    waits = row(lockable.reconcile(), "ada", "tool")
    assert (active(accounts), waits.locked) == (False, LockState.PENDING)
    assert "500" in waits.reason
    accounts.clear()
    lockable.clock.turn(hours=1)
    report = lockable.reconcile()
    assert {each.locked for each in report.rows} == {LockState.DONE}
    assert not any(active(accounts, email) for email in accounts.people)


def test_account_that_has_two_addresses_stays_one_under_a_lock(lockable, accounts, repo):
    """Services that rename an account may find it by its former address, too."""
    lockable.lock("ada")
    lockable.reconcile()
    account = accounts.people["ada@example.com"]
    accounts.people["ada@other.example.com"] = account | {"email": "ada@other.example.com ada@example.com"}
    repo.hire("ada", "tool", email="ada@other.example.com")
    repo.commit()
    for _ in range(2):
        report = lockable.reconcile()
        assert [(found.access, found.locked) for found in report.rows] == [("tool", LockState.DONE)]


def test_account_of_another_integration_that_has_the_name_of_a_locked_one_is_told(lockable, accounts, others, repo):
    lockable.lock("ada")
    lockable.reconcile()
    others.add("ada@example.com")
    repo.manifest("more", others.lockable())
    repo.hire("ada", {"integration": "more", "name": "tool"})
    repo.commit()
    report = lockable.reconcile()
    found = row(report, "ada", "tool")
    assert (found.locked, report.wrong) == (LockState.MANUAL, True)
    assert found.reason == f"{SAID}; lock it there: an account at more: the ledger has this name for the one at tool"
    others.people.clear()
    found = row(lockable.reconcile(), "ada", "tool")
    assert (found.locked, found.reason) == (LockState.DONE, f"{SAID}; switched off")


def test_nothing_is_made_for_who_is_locked(lockable, accounts, repo):
    repo.hire("bob", "tool")
    repo.commit()
    lockable.lock("bob")
    report = lockable.reconcile()
    assert (row(report, "bob", "tool").reason, report.wrong) == (
        f"{SAID}; there is no account",
        False,
    )
    assert "bob@example.com" not in accounts.people
    lockable.enqueue("unlock", "bob")
    assert row(lockable.reconcile(), "bob", "tool").status is Status.PRESENT


def test_a_half_made_account_is_locked_at_once_with_the_one_that_it_needs(lockable, accounts, others, repo):
    """To wait for another entry is for who is to be given access."""
    manifest = others.lockable()
    manifest["execute"] = [*manifest["execute"], {"url": f"{others.url}/nowhere"}]
    repo.manifest("more", manifest)
    repo.hire("ada", "tool", {"integration": "more", "needs": ["tool"]})
    repo.commit()
    assert row(lockable.reconcile(), "ada", "more").status is Status.RETRYING
    lockable.lock("ada")
    report = lockable.reconcile()
    assert [row(report, "ada", access).locked for access in ("tool", "more")] == [LockState.DONE, LockState.DONE]
    assert not active(accounts)
    assert not active(others)


def test_open_invitation_is_taken_back(machine, accounts, repo):
    open_: list[str] = []

    def invite(received):
        open_.append(received.json()["email"])
        return {"ok": True}

    def take_back(_received, **_found):
        open_.clear()
        return {"ok": True}

    accounts.route("POST", "/invitations", invite)
    accounts.route("GET", "/invitations", lambda _received: {"open": [{"email": email, "id": 1} for email in open_]})
    accounts.route("DELETE", "/invitations/{id}", take_back)
    manifest = accounts.lockable()
    manifest["execute"] = [{"url": f"{accounts.url}/invitations", "data": {"email": "{{email}}"}}]
    manifest["exists"]["pending"] = {
        "url": f"{accounts.url}/invitations",
        "data_from": "open",
        "match": "email",
        "store_data": {"INVITE": "id"},
    }
    manifest["withdraw"] = [{"url": f"{accounts.url}/invitations/{{{{INVITE}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    machine.lock("ada")
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.locked, open_) == (LockState.DONE, [])
    machine.enqueue("unlock", "ada")
    machine.reconcile()
    assert open_ == ["ada@example.com"]


@pytest.mark.parametrize("dies", [False, True])
def test_what_has_no_check_is_taken_away_once_by_a_lock_and_given_again_afterwards(machine, accounts, repo, dies):
    manifest = accounts.manifest(revoke=True)
    del manifest["exists"]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    machine.lock("ada")
    if dies:
        with dying(WritableAttempts, "settle"):
            machine.reconcile()
    for _ in range(3):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, found.locked) == (Status.SUSPENDED, LockState.DONE)
        machine.clock.turn(hours=1)
    assert len(accounts.calls("DELETE")) == 1
    machine.enqueue("unlock", "ada")
    assert row(machine.reconcile(), "ada", "tool").status is Status.DONE
    assert list(accounts.people) == ["ada@example.com"]


def test_attempt_that_has_not_begun_does_not_begin(lockable, accounts, repo):
    """A lock that is written while a pass checks stands before the pass's first request."""
    repo.hire("bob", "tool")
    repo.commit()
    lock = Lock("bob", lockable.clock.now(), "tester@here", "left", hires=frozenset({"bob"}))

    def check(received, email):
        with lockable.ledger() as ledger:
            use_key(ledger, repo)
            ledger.locks.put([lock])
        return 404, {"error": "no such person"}

    accounts.route("GET", "/users/{email}", check)
    lockable.reconcile(hires=["bob"])
    assert "bob@example.com" not in accounts.people
    assert row(lockable.reconcile(hires=["bob"]), "bob", "tool").status is Status.SUSPENDED


def test_for_of_what_a_lock_took_away_counts_from_when_it_is_given_again(machine, repo):
    machine.reconcile()
    machine.lock("ada")
    assert row(machine.reconcile(), "ada", "tool").reason.endswith("; gone")
    machine.clock.turn(days=10)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}, "for": "8h"})
    repo.commit()
    machine.enqueue("unlock", "ada")
    given = row(machine.reconcile(), "ada", "tool")
    assert (given.status, stamp(given.until)) == (Status.PRESENT, "2026-12-11T17:00:00Z")


def test_time_that_is_over_under_a_lock_takes_nothing_back_on(machine, accounts, repo):
    """What is switched off counts as gone: it is not switched on again for a moment by an unlock."""
    repo.manifest("tool", accounts.lockable())
    repo.hire("ada", {"integration": "tool", "for": "1h"})
    repo.commit()
    machine.reconcile()
    machine.lock("ada")
    machine.reconcile()
    machine.clock.turn(hours=2)
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.locked) == (Status.SUSPENDED, LockState.DONE)
    machine.enqueue("unlock", "ada")
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.json() for call in accounts.calls("PATCH")] == [{"active": False}]
    assert machine.events("ada").count(EventType.EXPIRED) == 1


@pytest.mark.parametrize(("hours", "status"), [(1, Status.PRESENT), (3, Status.REVOKED)])
def test_time_of_what_a_lock_took_away_runs_on(machine, accounts, repo, hours, status):
    """Nobody asked for it anew."""
    manifest = accounts.lockable()
    del manifest["lock"], manifest["revoke_deletes"]
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "for": "2h"})
    repo.commit()
    machine.reconcile()
    machine.lock("ada")
    for _ in range(2):
        machine.reconcile()
        assert not accounts.people
        machine.clock.turn(hours=hours / 2)
    machine.enqueue("unlock", "ada")
    for _ in range(2):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, stamp(found.until)) == (status, "2026-12-01T11:00:00Z")
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    with machine.ledger() as ledger:
        assert ledger.history.verify_agreement()[1] is None


@pytest.mark.parametrize(
    ("held", "more"),
    [({}, []), ({"keep": True}, []), ({}, [{"integration": "tool", "name": "same"}])],
    ids=["over", "kept", "same-account"],
)
def test_lock_that_a_person_has_to_do_does_not_hold_up_what_is_over(machine, accounts, repo, held, more):
    """Its revoke deletes, which a lock alone may not; that its time is over may, unless another entry is for it."""
    manifest = accounts.lockable()
    del manifest["lock"]
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "for": "1h", **held}, *more)
    repo.commit()
    machine.reconcile()
    machine.lock("ada")
    assert row(machine.reconcile(), "ada", "tool").locked is LockState.MANUAL
    machine.clock.turn(hours=1)
    found = row(machine.reconcile(), "ada", "tool")
    stays = bool(held or more)
    done = LockState.MANUAL if stays else LockState.DONE
    assert (found.locked, len(accounts.calls("DELETE"))) == (done, 0 if stays else 1)
    if not stays:
        machine.enqueue("unlock", "ada")
        assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
        assert accounts.created["ada@example.com"] == 1


def test_lock_takes_away_nothing_that_a_commit_keeps_once_it_is_over(machine, accounts, repo):
    manifest = accounts.lockable()
    del manifest["lock"]
    repo.manifest("tool", manifest)
    for keep in (False, True):
        repo.hire("ada", {"integration": "tool", "for": "1h", "keep": keep})
        repo.commit()
        if not keep:
            machine.reconcile()
            machine.lock("ada")
            machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").locked is LockState.MANUAL
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("more", [[], [{"integration": "tool", "name": "same"}]], ids=["alone", "same-account"])
def test_time_that_is_over_ends_by_revoke_where_the_lock_failed(machine, accounts, repo, more):
    """But not where another entry is for the account, which comes back with the end of the lock."""
    repo.manifest("tool", accounts.lockable())
    repo.hire("ada", {"integration": "tool", "for": "8h"}, *more)
    repo.commit()
    machine.reconcile()
    accounts.fail_next(None if more else 2, 500, method="PATCH")
    machine.lock("ada")
    for _ in range(2):
        machine.reconcile()
        machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").locked is LockState.FAILED
    machine.clock.turn(hours=6)
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.locked, len(accounts.people)) == ((LockState.FAILED, 1) if more else (LockState.DONE, 0))


def test_unanswered_check_is_not_yet_locked(lockable, accounts):
    accounts.fail_next(None, 500, method="GET")
    lockable.lock("ada")
    report = lockable.reconcile()
    assert (row(report, "ada", "tool").locked, report.wrong) == (LockState.PENDING, True)
    with lockable.ledger() as ledger:
        assert [*map(str, ledger.grants.not_locked_yet())] == ["ada/tool"]
