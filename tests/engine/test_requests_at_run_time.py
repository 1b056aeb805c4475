"""docs/design/rules.md, "Variables" and "Execute": what gets its value only while requests run, and where it is used
later."""

from __future__ import annotations

from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default

import pytest

from reconciler.ledger.part_writers import WritableAttempts
from reconciler.model.grant import Phase
from reconciler.model.status import Action, Status
from tests.engine.harness import dying, row
from tests.repo import call_cli
from tests.servers import Reply

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


def parts(received):
    """A multipart body's parts: name → (file name, content)."""
    head = f"Content-Type: {received.headers['Content-Type']}\r\n\r\n".encode()
    message = BytesParser(EmailMessage, policy=default).parsebytes(head + received.body)
    return {
        part["content-disposition"].params["name"]: (part.get_filename(), part.get_payload(decode=True))
        for part in message.iter_parts()
    }


def leave(accounts, member):
    """The only account there is, whatever its number, is gone."""
    accounts.people.clear()
    return {"gone": member}


# responses and store_data


def test_responses_count_within_one_list_of_requests(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    accounts.route("GET", "/ids/{email}", lambda _received, email: {"data": [{"id": 42, "who": email}]})
    accounts.route("DELETE", "/ids/{member}", lambda _received, member: leave(accounts, member))
    manifest["execute"][1]["data"] = {"email": "{{email}}", "id": "{{responses.0.id}}", "as": "no {{ responses.0.id }}"}
    manifest["revoke"] = [
        {"url": f"{accounts.url}/ids/{{{{email}}}}", "method": "GET"},
        {"url": f"{accounts.url}/ids/{{{{responses.0.data.0.id}}}}", "method": "DELETE"},
    ]
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    planned = row(machine.plan(), "ada", "tool")
    assert planned.requests[1]["url"] == f"{accounts.url}/teams/7/members"
    machine.reconcile()
    assert accounts.calls("POST", "/teams")[0].json() == {"email": "ada@example.com", "id": "1", "as": "no 1"}
    repo.hire("ada")
    repo.commit()
    assert row(machine.plan(), "ada", "tool").requests[1]["url"] == f"{accounts.url}/ids/{{{{responses.0.data.0.id}}}}"
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/ids/42"]


def test_a_response_without_it_fails_the_attempt_before_its_request_leaves(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][1]["data"] = {"id": "{{responses.0.number}}"}
    repo.manifest("tool", manifest)
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.status is Status.RETRYING
    assert "request 2 of 2 (POST): variable {{responses.0.number}}" in failed.reason
    assert accounts.calls("POST", "/teams") == []


def storing(accounts):
    manifest = accounts.manifest()
    manifest["execute"][0]["store_data"] = {"MEMBER": "id"}
    manifest["execute"].append({"url": f"{accounts.url}/teams/{{{{MEMBER}}}}/members", "data": {"email": "{{email}}"}})
    manifest["revoke"] = [{"url": f"{accounts.url}/members/{{{{MEMBER}}}}", "method": "DELETE"}]
    accounts.route("DELETE", "/members/{member}", lambda _received, member: leave(accounts, member))
    return manifest


def test_stored_value_is_used_by_later_requests_and_revocation(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    assert accounts.teams == {"1": ["ada@example.com"]}
    assert "stored/ada" in machine.sealed()
    accounts.people["ada@example.com"]["id"] = "another"
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/1"]
    assert machine.sealed() == []


def test_what_a_login_answers_is_a_secret_once_it_is_sent_on(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    login = {"token": "not-random", "session": {"id": "plain-id"}, "number": "number-7", "who": "ada@example.com"}
    accounts.route("POST", "/login", lambda _received: login)
    echo = lambda received: Reply(403, {**dict(received.headers), "sent": received.body.decode()})  # noqa: E731
    accounts.route("POST", "/echo", echo)
    sent = {"Authorization": "Bearer {{SESSION}}", "X-Also": "{{responses.0.session.id}} {{responses.0.who}}"}
    manifest["execute"] = [
        {"url": f"{accounts.url}/login", "store_data": {"SESSION": "session.id", "TOKEN": "token", "NUMBER": "number"}},
        {"url": f"{accounts.url}/echo", "headers": sent, "data": {"t": "{{TOKEN}}", "n": "{{NUMBER}}"}},
    ]
    repo.manifest("tool", manifest)
    repo.commit()
    shown = row(machine.reconcile(), "ada", "tool")
    assert "answered 403" in str(shown.last_error)
    assert "number-7" in str(shown.last_error)
    assert "ada@example.com" in str(shown.last_error)
    for secret in ("not-random", "plain-id"):
        assert secret not in str(shown)
        assert secret not in str(machine.history("ada"))
        assert machine.redactor.redact(secret) == secret, "each attempt has another: what is over is not looked for"


@pytest.mark.parametrize("value", ["{{responses.0.id}}", "{{MEMBER}}"])
def test_a_continuation_that_needs_an_answer_that_never_came_says_so(machine, accounts, repo, value):
    manifest = storing(accounts)
    manifest["execute"][1]["data"] = {"id": value}
    manifest["execute"][1]["url"] = f"{accounts.url}/teams/7/members"
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    accounts.drop_after_commit(method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.status is Status.FAILED
    told = "the answer to request 1 never came; `reconcile accept ada tool` or `reconcile run ada tool`"
    assert failed.last_error is not None
    assert failed.last_error.endswith(told)
    assert accounts.calls("POST", "/teams") == []


def test_stored_values_belong_to_their_entry(machine, accounts, others, repo):
    """Two services may each save a MEMBER: neither is ever asked about the other's."""
    repo.manifest("tool", storing(accounts))
    repo.manifest("more", storing(others))
    others.add("somebody@example.com")
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool", "more")
    repo.commit()
    machine.reconcile()
    assert (accounts.people["ada@example.com"]["id"], others.people["ada@example.com"]["id"]) == ("1", "2")
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/1"]
    assert [call.path for call in others.calls("DELETE")] == ["/members/2"]


def badge(accounts, **keys):
    """A second manifest at the same service, for which the first has to have stored a MEMBER."""
    badges: list[str] = []

    def give(received):
        badges.append(received.json()["email"])
        return {"ok": True}

    def take(_received, member):
        badges.clear()
        return {"gone": member}

    accounts.route("GET", "/badges/{email}", lambda _received, email: {"badge": email} if email in badges else 404)
    accounts.route("POST", "/badges", give)
    accounts.route("DELETE", "/badges/{member}", take)
    check = {"url": f"{accounts.url}/badges/{{{{email}}}}", "expected": "{{email}}"}
    return {
        "service": "tool",
        "exists": {**check, "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/badges", "data": {"email": "{{email}}", "member": "{{MEMBER}}"}}],
        "revoke": [{"url": f"{accounts.url}/badges/{{{{MEMBER}}}}", "method": "DELETE"}],
        **keys,
    }


NEEDS_TOOL = {"integration": "badge", "needs": ["tool"]}


def test_needed_entrys_stored_value_is_known_in_the_same_pass(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", NEEDS_TOOL, "tool")
    repo.commit()
    report = machine.reconcile()
    assert (report.executed, report.failures) == (2, 0)
    assert accounts.calls("POST", "/badges")[0].json() == {"email": "ada@example.com", "member": "1"}
    repo.hire("ada", "tool")
    repo.commit()
    assert row(machine.reconcile(integrations=["badge"]), "ada", "badge").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/badges/1"]


def test_an_account_that_was_found_gone_lends_nothing_any_more(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(accounts))
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    accounts.people.clear()
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    accounts.add("somebody@example.com", "ada@example.com")
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    assert row(machine.reconcile(), "ada", "badge").status is Status.BLOCKED
    assert accounts.calls("POST", "/badges") == []


def test_a_needed_entry_that_is_updated_lends_nothing_that_only_its_making_stores(machine, accounts, repo):
    update = [{"url": f"{accounts.url}/users/{{{{email}}}}", "method": "PATCH", "data": {"role": "owner"}}]
    tool = {**storing(accounts), "update": update}
    tool["exists"]["where"] = {"role": "owner"}
    repo.manifest("tool", tool)
    repo.manifest("badge", badge(accounts))
    accounts.add("ada@example.com")
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    assert row(machine.plan(), "ada", "badge").status is Status.BLOCKED
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert (row(report, "ada", "badge").status, report.failures) == (Status.BLOCKED, 0)


def test_a_needed_entry_whose_answer_was_lost_lends_nothing_at_its_retry(machine, accounts, repo):
    manifest = storing(accounts)
    repo.manifest("tool", {**manifest, "execute": manifest["execute"][:1]})
    repo.manifest("badge", badge(accounts))
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    accounts.drop_after_commit(method="POST")
    machine.reconcile()
    machine.clock.turn(hours=2)
    assert row(machine.plan(), "ada", "badge").status is Status.BLOCKED
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert (row(report, "ada", "badge").status, report.failures) == (Status.BLOCKED, 0)


def test_a_needed_entry_that_runs_again_lends_what_it_stored_last(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(accounts))
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    accounts.people.clear()
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    assert machine.reconcile().executed == 2, "healed, and the badge after it"
    assert accounts.calls("POST", "/badges")[0].json()["member"] == "2"


def test_the_account_of_a_former_address_is_taken_away_with_what_was_stored_of_it(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    machine.reconcile()
    repo.hire("ada", "tool", NEEDS_TOOL, email="lovelace@example.com")
    repo.commit()
    assert row(machine.reconcile(), "ada", "badge").status is Status.BLOCKED
    machine.reconcile(by_hand={("ada", "tool"): "run", ("ada", "badge"): "run"})
    report = machine.reconcile()
    assert {access: row(report, "ada", access).status for access in ("tool", "badge")} == {
        "tool": Status.PRESENT,
        "badge": Status.PRESENT,
    }
    assert [call.path for call in accounts.calls("DELETE")] == ["/badges/1", "/members/1"]


@pytest.mark.parametrize("in_git", [True, False], ids=["set apart", "no longer in git"])
def test_what_is_left_at_a_former_address_is_not_asked_with_what_is_stored_of_a_new_account(
    machine, accounts, repo, in_git
):
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    machine.reconcile()
    accounts.people.clear()
    repo.hire("ada", "tool", NEEDS_TOOL, email="lovelace@example.com")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.people["lovelace@example.com"]["id"] == "2"
    if in_git:
        machine.reconcile(by_hand={("ada", "badge"): "run"})
    else:
        repo.hire("ada", "tool", email="lovelace@example.com")
        repo.commit()
    former = row(machine.reconcile(), "ada", "badge~ada@example.com" if in_git else "badge")
    assert former.status is Status.ORPHANED
    assert former.reason == "no longer in git; variable {{MEMBER}} is not known: remove the account there"
    repo.remove("hires/ada.yaml")
    repo.commit()
    machine.reconcile()
    machine.reconcile()
    deleted = [call.path for call in accounts.calls("DELETE")]
    assert deleted == ["/badges/2", "/members/2"] if in_git else deleted == ["/members/2"]


def test_a_check_that_asks_with_what_is_about_to_be_stored_waits_for_it(machine, accounts, repo):
    manifest = badge(accounts)
    accounts.route("GET", "/badges/of/{member}", lambda _received, member: {"member": member})
    manifest["exists"] |= {"url": f"{accounts.url}/badges/of/{{{{MEMBER}}}}", "expected": '"member": "{{MEMBER}}"'}
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", manifest)
    repo.hire("ada", "tool", NEEDS_TOOL)
    repo.commit()
    waiting = row(machine.reconcile(), "ada", "badge")
    assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
    assert waiting.reason == "its check asks with {{MEMBER}}, which tool is about to store"
    assert row(machine.reconcile(), "ada", "badge").status is Status.PRESENT


@pytest.mark.parametrize("needs", [[], ["tool"]], ids=["the same service, not needed", "another service"])
def test_stored_value_is_unknown_to_other_entries(machine, accounts, others, repo, needs):
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(others, service="elsewhere") if needs else badge(accounts))
    repo.hire("ada", "tool", {"integration": "badge", "needs": needs})
    repo.commit()
    machine.reconcile()
    blocked = row(machine.reconcile(), "ada", "badge")
    assert (blocked.status, blocked.reason) == (Status.BLOCKED, "variable {{MEMBER}} is not known")
    assert accounts.calls("POST", "/badges") == others.calls("POST") == []


def test_git_values_precede_stored_values(machine, accounts, repo):
    """The stored name is the form's in the second manifest, and the hire's own `extra` in the first."""
    accounts.add("somebody@example.com")
    repo.manifest("tool", storing(accounts))
    repo.manifest("badge", badge(accounts, form=[{"id": "MEMBER", "type": "input"}]))
    entry = {**NEEDS_TOOL, "values": {"MEMBER": "from the form"}}
    repo.hire("ada", "tool", entry, extra={"MEMBER": "from extra"})
    repo.commit()
    machine.reconcile()
    assert accounts.calls("POST", "/badges")[0].json()["member"] == "from the form"
    assert [call.path for call in accounts.calls("POST", "/teams")] == ["/teams/from extra/members"]


def test_a_row_that_another_service_takes_up_brings_nothing_stored(machine, accounts, others, repo):
    repo.manifest("tool", storing(accounts))
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    repo.remove("manifests/tool.yaml")
    others.add("ada@example.com")
    repo.manifest("new", others.manifest() | {"revoke": badge(others)["revoke"]})
    others.route("DELETE", "/badges/{member}", lambda _received, member: {"gone": member})
    repo.hire("ada", {"integration": "new", "name": "tool"})
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    machine.reconcile()
    assert [name for name in machine.sealed() if name.startswith("stored/")] == []
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    assert others.calls("DELETE") == []


def test_a_response_without_what_is_to_be_stored_fails_the_attempt(machine, accounts, repo):
    manifest = storing(accounts)
    manifest["execute"][0]["store_data"] = {"MEMBER": "person.id"}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    what = "request 1 of 2 (POST): store_data: the response has nothing at person.id: answered 201: {"
    assert failed.reason.startswith(what)
    assert failed.reason == failed.last_error
    assert accounts.created == {"ada@example.com": 1}


def lost_again(machine, accounts, repo, fault):
    """Ada's account is gone and made again, which fails; her former one was number 1."""
    repo.manifest("tool", storing(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    del accounts.people["ada@example.com"]
    fault()
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING


def test_an_attempt_begins_without_what_was_stored_of_the_account_before(machine, accounts, repo):
    lost_again(machine, accounts, repo, lambda: accounts.drop_after_commit(method="POST", prefix="/users"))
    machine.clock.turn(hours=1)
    planned = row(machine.plan(), "ada", "tool")
    assert [call["url"] for call in planned.requests] == [f"{accounts.url}/teams/{{{{MEMBER}}}}/members"]
    failed = row(machine.reconcile(), "ada", "tool")
    assert failed.status is Status.FAILED
    assert "the answer to request 1 never came" in failed.reason
    assert accounts.teams == {"1": ["ada@example.com"]}, "the former account's number is not sent again"
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    assert accounts.calls("DELETE") == [], "nor is the account that has it now taken away"


def test_a_crash_while_the_answer_is_awaited_forgets_what_was_stored_before(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    del accounts.people["ada@example.com"]
    with dying(WritableAttempts, "answered"):
        machine.reconcile()
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("refused", [409, 500])
def test_what_was_stored_stays_where_no_other_account_was_made(machine, accounts, repo, refused):
    lost_again(machine, accounts, repo, lambda: accounts.fail_next(1, refused, method="POST", prefix="/users"))
    accounts.add("ada@example.com")
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/1"]


def test_a_renewed_account_has_what_its_own_attempt_stored(machine, accounts, repo):
    manifest = storing(accounts)
    manifest["execute"][1]["store_data"] = {"PLACE": "team"}
    manifest["revoke"].append({"url": f"{accounts.url}/members/{{{{PLACE}}}}", "method": "DELETE"})
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    del accounts.people["ada@example.com"]
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/2", "/members/2"]


def test_an_update_uses_what_was_stored_when_the_account_was_made(machine, accounts, repo):
    manifest = storing(accounts)
    manifest["form"] = [{"id": "ROLE", "name": "Role", "type": "input"}]
    manifest["update"] = [
        {"url": f"{accounts.url}/members/{{{{MEMBER}}}}", "data": {"role": "{{ROLE}}"}, "store_data": {"CHANGE": "id"}},
        {"url": f"{accounts.url}/changes/{{{{CHANGE}}}}"},
    ]
    changes = iter(("c1", "c2", "c3"))
    accounts.route("POST", "/members/{member}", lambda _received, member: {"id": next(changes), "of": member})
    accounts.route("POST", "/changes/{change}", lambda _received, change: {"done": change})
    repo.manifest("tool", manifest)
    for role in ("member", "admin"):
        repo.hire("ada", {"integration": "tool", "values": {"ROLE": role}})
        repo.commit()
        machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": "owner"}})
    repo.commit()
    accounts.drop_after_commit(method="POST", prefix="/members")
    machine.reconcile()
    machine.clock.turn(hours=1)
    machine.reconcile()
    paths = [call.path for call in accounts.calls("POST") if call.path.startswith(("/members", "/changes"))]
    assert paths == ["/members/1", "/changes/c1", "/members/1", "/members/1", "/changes/c3"]


def checking(accounts):
    """The check finds out the member's number; a request and the revocation use it."""
    manifest = accounts.manifest()
    manifest["exists"]["store_data"] = {"NUMBER": "id"}
    manifest["revoke"] = [{"url": f"{accounts.url}/members/{{{{NUMBER}}}}", "method": "DELETE"}]
    accounts.route("DELETE", "/members/{member}", lambda _received, member: leave(accounts, member))
    return manifest


def test_value_stored_by_check_is_used_in_revocation(machine, accounts, repo):
    repo.manifest("tool", checking(accounts))
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    accounts.people["ada@example.com"]["id"] = "77"
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/77"]


@pytest.mark.parametrize("locked", [False, True])
def test_value_stored_by_check_is_known_to_a_revocation_that_goes_on(machine, accounts, repo, locked):
    """The check finds the account no more by then."""
    manifest = checking(accounts)
    accounts.route("DELETE", "/seats/{seat}", lambda _received, **_: 204)
    manifest["revoke"].append({"url": f"{accounts.url}/seats/{{{{NUMBER}}}}", "method": "DELETE"})
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    if locked:
        machine.lock("ada")
    else:
        repo.hire("ada")
        repo.commit()
    accounts.fail_next(1, 500, method="DELETE", prefix="/seats")
    machine.reconcile()
    machine.clock.turn(hours=1)
    machine.reconcile()
    assert [call.path for call in accounts.calls("DELETE")] == ["/members/1", "/seats/1", "/seats/1"]
    assert machine.record("ada", "tool").phase is Phase.REVOKED
    assert not machine.sealed()


def test_value_stored_by_check_is_known_to_continuation_after_listing(machine, accounts, repo):
    """A listing saves nothing; the check that does is asked where it matters."""
    manifest = accounts.manifest(listing=True)
    manifest["exists"]["store_data"] = {"NUMBER": "id"}
    manifest["execute"].append({"url": f"{accounts.url}/teams/{{{{NUMBER}}}}/members", "data": {"email": "{{email}}"}})
    repo.manifest("tool", manifest)
    for number in range(12):
        repo.hire(f"h{number:02}", "tool")
        accounts.add(f"h{number:02}@example.com")
    repo.hire("ada", "tool")
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    assert "{{NUMBER}}" in failed.reason, "nobody was there whose number the check could tell"
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.teams == {accounts.people["ada@example.com"]["id"]: ["ada@example.com"]}


def test_value_stored_by_check_is_known_to_update_after_listing(machine, accounts, repo):
    manifest = accounts.manifest(listing=True)
    manifest["exists"]["store_data"] = {"NUMBER": "id"}
    change = {"url": f"{accounts.url}/members/{{{{NUMBER}}}}", "method": "PATCH", "data": {"name": "{{last_name}}"}}
    repo.manifest("tool", {**manifest, "update": [change]})
    accounts.route("PATCH", "/members/{member}", lambda _received, member: {"changed": member})
    for number in range(12):
        repo.hire(f"h{number:02}", "tool")
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    repo.hire("ada", "tool", last_name="Married")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [call.path for call in accounts.calls("PATCH")] == [f"/members/{accounts.people['ada@example.com']['id']}"]


# Files


def kept(machine):
    """What the state holds of them."""
    with machine.ledger() as ledger:
        return [ledger.sealed.get(name) for name in ledger.sealed.names("files/")]


def test_an_answer_is_saved_as_a_file_and_sent_on(machine, accounts, repo):
    accounts.route("GET", "/contract", lambda _received: "To whom it may concern")
    accounts.route("POST", "/upload", {"ok": True})
    manifest = accounts.manifest()
    manifest["execute"] += [
        {"url": f"{accounts.url}/contract", "method": "GET", "save_as_file": "contract.txt"},
        {"url": f"{accounts.url}/upload", "data": {"for": "{{email}}"}, "files": {"document": "contract.txt"}},
    ]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert parts(accounts.calls("POST", "/upload")[0]) == {
        "for": (None, b"ada@example.com"),
        "document": ("contract.txt", b"To whom it may concern"),
    }


def test_a_file_is_kept_for_the_continuation(machine, accounts, repo):
    accounts.route("GET", "/photo", lambda _received: b"\x89PNG\x00\xff")
    accounts.route("POST", "/upload", {"ok": True})
    manifest = accounts.manifest()
    manifest["execute"] += [
        {"url": f"{accounts.url}/photo", "method": "GET", "save_as_file": "photo.png"},
        {"url": f"{accounts.url}/upload", "files": {"picture": "photo.png"}},
    ]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    accounts.fail_next(1, 500, prefix="/upload")
    machine.reconcile()
    (photo,) = kept(machine)
    assert b"PNG" not in photo
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("GET", "/photo")) == 1
    assert kept(machine) == []
    assert parts(accounts.calls("POST", "/upload")[1]) == {"picture": ("photo.png", b"\x89PNG\x00\xff")}


@pytest.mark.parametrize(("mebibytes", "status"), [(20, Status.PRESENT), (26, Status.RETRYING)])
def test_a_file_may_be_larger_than_any_other_answer(machine, accounts, repo, mebibytes, status):
    accounts.route("GET", "/film", lambda _received: b"\0" * (mebibytes << 20))
    accounts.route("POST", "/upload", {"ok": True})
    manifest = accounts.manifest()
    manifest["execute"] += [
        {"url": f"{accounts.url}/film", "method": "GET", "save_as_file": "film"},
        {"url": f"{accounts.url}/upload", "files": {"film": "film"}},
    ]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert found.status is status, found.reason
    assert ("more than 25 MiB" in found.reason) is (status is Status.RETRYING)
    assert len(accounts.calls("POST", "/upload")) == (status is Status.PRESENT)


def test_a_file_that_a_person_left_behind_is_erased_when_the_state_is_held_again(machine, accounts, repo):
    accounts.route("GET", "/photo", lambda _received: b"\x89PNG")
    manifest = accounts.manifest()
    manifest["execute"] += [
        {"url": f"{accounts.url}/photo", "method": "GET", "save_as_file": "photo.png"},
        {"url": f"{accounts.url}/upload", "files": {"picture": "photo.png"}},
    ]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    machine.enqueue("accept", "ada", "tool")
    machine.reconcile()
    machine.reconcile()
    assert kept(machine) == []


def test_file_that_was_never_saved_fails_before_its_request_leaves(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["execute"].append({"url": f"{accounts.url}/upload", "files": {"picture": "photo.png"}})
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    assert "photo.png" in row(machine.reconcile(), "ada", "tool").reason
    assert accounts.calls("POST", "/upload") == []


# What else a request can ask for


def test_extra_user_info_has_to_be_given(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["extra_user_info"] = [{"id": "PERSONAL", "name": "Personal address", "description": ""}]
    manifest["execute"][0]["data"]["personal"] = "{{PERSONAL}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    blocked = row(machine.reconcile(), "ada", "tool")
    assert blocked.status is Status.BLOCKED
    assert "the hire gives no extra.PERSONAL, which manifests/tool.yaml asks for" in blocked.reason
    assert accounts.calls() == []
    repo.hire("ada", "tool", extra={"PERSONAL": "ada@home.example"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("POST", "/users")[0].json()["personal"] == "ada@home.example"


def test_access_overview_shows_last_check_results(machine, accounts, others, repo):
    manifest = others.manifest()
    manifest["execute"][0]["data"]["overview"] = "{{access_overview}}"
    repo.manifest("more", manifest)
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    accounts.add("ada@example.com")
    repo.hire("ada", TOOL, "hook", {"integration": "more", "needs": ["tool"]})
    repo.commit()
    machine.reconcile(integrations=["tool"])
    assert row(machine.reconcile(integrations=["more"]), "ada", "more").status is Status.PRESENT
    assert others.calls("POST", "/users")[0].json()["overview"] == "more (no access), tool (has access)"


def test_a_value_is_data_and_never_template(machine, accounts, repo):
    repo.hire("ada", TOOL, last_name='{{TEAM}}", "admin": "yes')
    repo.commit()
    machine.reconcile()
    assert accounts.calls("POST", "/users")[0].json() == {
        "email": "ada@example.com",
        "name": 'Ada {{TEAM}}", "admin": "yes',
    }


def test_initial_data_that_nothing_asks_for_replaces_nothing_that_git_gives(machine, accounts, repo):
    """Whoever reads a commit cannot see what stands in an encrypted file."""
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["initial_data_form"] = [{"id": "TOKEN", "name": "Token"}]
    manifest["execute"][0]["data"] |= {"token": "{{TOKEN}}", "plan": "{{PLAN}}", "login": "{{LOGIN}}"}
    repo.manifest("tool", manifest)
    other = {"email": "eve@example.com", "first_name": "Eve", "TEAM": "9", "LOGIN": "eve"}
    repo.initial_data("tool", {"TOKEN": "the-tools-own", "PLAN": "enterprise", **other})
    repo.hire("ada", TOOL, extra={"LOGIN": "ada"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    made = {"name": "Ada Example", "token": "the-tools-own", "plan": "enterprise", "login": "ada"}
    assert accounts.people == {"ada@example.com": {"email": "ada@example.com", "id": "1", **made}}
    assert accounts.teams == {"7": ["ada@example.com"]}
    shown = call_cli(repo, "explain", "ada", "tool", "--output", "json").json["values"]
    assert {each["name"]: each["origin"] for each in shown} == {
        **dict.fromkeys(("PLAN", "TOKEN"), "config/initial_data/tool"),
        **dict.fromkeys(("email", "first_name", "last_name"), "hires/ada.yaml"),
        "LOGIN": "hires/ada.yaml (extra)",
        "TEAM": "hires/ada.yaml:7",
    }


def test_a_variable_that_is_unknown_or_empty_blocks_before_any_request(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["execute"][1]["data"]["where"] = "{{OFFICE}}"
    repo.manifest("tool", manifest)
    repo.commit()
    blocked = row(machine.reconcile(), "ada", "tool")
    assert (blocked.status, blocked.reason) == (Status.BLOCKED, "variable {{OFFICE}} is not known")
    manifest["execute"][1]["data"]["where"] = "{{department}}"
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").reason == "variable {{department}} has no value"
    manifest["execute"][1]["data"]["where"] = "{{oauth.access_token}}"  # and nothing connects the service
    repo.manifest("tool", manifest)
    repo.commit()
    unconnected = row(machine.reconcile(), "ada", "tool")
    assert (unconnected.status, unconnected.reason) == (
        Status.BLOCKED,
        "variable {{oauth.access_token}} has no value",
    )
    assert accounts.calls() == []


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"headers": {"X-Team": "{{TEAM}}"}}, "header X-Team: its value has a line break"),
        ({"data": {"a": {"b": "{{TEAM}}"}}, "headers": {"Content-Type": "multipart/form-data"}}, "is flat: a holds"),
    ],
    ids=["header", "form"],
)
def test_a_later_request_that_could_not_be_sent_blocks_before_any_request(machine, accounts, repo, request_, why):
    manifest = accounts.manifest(team=True)
    manifest["execute"].append({"url": f"{accounts.url}/teams/7", **request_})
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7\n8"}})
    repo.commit()
    for found in (row(machine.plan(), "ada", "tool"), row(machine.reconcile(), "ada", "tool")):
        assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
        assert why in found.reason
    assert accounts.calls() == []


def test_a_host_that_is_not_allowed_blocks_before_any_request(machine, accounts, others, repo):
    repo.settings(gnupg_home=repo.gnupg.path, allowed_hosts=[others.host])
    repo.commit()
    blocked = row(machine.reconcile(), "ada", "tool")
    assert blocked.status is Status.BLOCKED
    assert accounts.host in blocked.reason
    assert "manifests/tool.yaml" in blocked.reason
    assert accounts.calls() == []


def test_a_host_out_of_initial_data_has_to_be_listed(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["initial_data_form"] = [{"id": "HOST", "name": "Host"}]
    manifest["exists"]["url"] = "http://{{HOST}}/users/{{email}}"
    manifest["execute"][0]["url"] = "http://{{HOST}}/users"
    repo.manifest("tool", manifest)
    repo.initial_data("tool", {"HOST": accounts.host})
    repo.hire("ada", "tool")
    repo.commit()
    blocked = row(machine.reconcile(), "ada", "tool")
    assert (blocked.status, accounts.host in blocked.reason) == (Status.BLOCKED, True)
    repo.settings(gnupg_home=repo.gnupg.path, allowed_hosts=[accounts.host])
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_stored_values_survive_a_crash_between_two_requests(machine, accounts, repo):
    repo.manifest("tool", storing(accounts))
    repo.hire("ada", "tool")
    repo.commit()
    with dying(WritableAttempts, "sending", nth=2):
        machine.reconcile()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.teams == {"1": ["ada@example.com"]}
