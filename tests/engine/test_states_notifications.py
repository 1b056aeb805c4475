"""docs/design/states.md: notifications, and the generated values that they hand on.

See docs/design/rules.md, "Generated values".
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, closing

import pytest

from reconciler.engine.apply.claims import Claims
from reconciler.engine.context import Revision
from reconciler.engine.run.reconciler import Reconciler
from reconciler.engine.run.runner import LockedState
from reconciler.engine.state import locking
from reconciler.ledger.part_writers import WritableAttempts
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import EventType, Status
from reconciler.notify.delivery import Notifier
from tests.engine.harness import Outbox, dying, row

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}
WELCOME = {"type": "email", "to": "{{email}}", "subject": "Team {{TEAM}}", "message": "Welcome, {{first_name}}"}
TEXT = {"type": "text", "to": "+31{{PHONE}}", "message": "Plan into your mail"}


@pytest.fixture
def telling(machine, accounts, repo):
    """The machine's tool, which sends an e-mail and a text."""
    repo.manifest("tool", accounts.manifest(team=True) | {"post_execute_notification": [WELCOME, TEXT]})
    repo.hire("ada", TOOL, extra={"PHONE": "201234567"})
    repo.commit()
    return machine


BOTH = [("ada@example.com", "Team 7", "Welcome, Ada"), ("+31201234567", "", "Plan into your mail")]


def test_they_go_out_once_after_a_success(telling):
    assert row(telling.reconcile(), "ada", "tool").status is Status.PRESENT
    assert telling.outbox.sent == BOTH
    telling.reconcile()
    assert telling.outbox.sent == BOTH
    told = [line.detail for line in telling.history("ada") if line.event is EventType.NOTIFIED]
    assert told == ["email to ada@example.com", "text to +31201234567"]
    assert not [name for name in telling.sealed() if name.startswith(("run/", "notice/"))]


def test_none_goes_out_for_an_account_that_was_there(telling, accounts):
    accounts.add("ada@example.com")
    telling.reconcile()
    assert telling.outbox.sent == []


def test_none_goes_out_before_the_last_request_succeeded(telling, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    telling.reconcile()
    assert telling.outbox.sent == []
    telling.clock.turn(hours=1)
    telling.reconcile()
    assert telling.outbox.sent == BOTH


def test_failed_notification_is_recorded_and_reruns_nothing(telling, accounts):
    telling.outbox.broken = True
    found = row(telling.reconcile(), "ada", "tool")
    assert (found.status, found.last_error) == (Status.PRESENT, None)
    failed = [line.detail for line in telling.history("ada") if line.event is EventType.NOTIFICATION_FAILED]
    assert failed == [
        "email to ada@example.com: the mail server refused it",
        "text to +31201234567: the mail server refused it",
    ]
    telling.outbox.broken = False
    telling.clock.turn(hours=2)
    telling.reconcile()
    assert telling.outbox.sent == []
    assert len(accounts.calls("POST", "/users")) == 1


def test_unrenderable_notification_fails_nothing_else(machine, accounts, repo):
    lost = WELCOME | {"message": "Your number is {{responses.0.number}}"}
    repo.manifest("tool", accounts.manifest(team=True) | {"post_execute_notification": [lost, WELCOME]})
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.attempts) == (Status.PRESENT, 1)
    assert machine.outbox.sent == BOTH[:1]
    (failed,) = [line.detail for line in machine.history("ada") if line.event is EventType.NOTIFICATION_FAILED]
    assert "responses.0.number" in failed
    machine.clock.turn(hours=2)
    machine.reconcile()
    assert len(accounts.calls("POST")) == 2


def test_each_full_run_notifies_again(telling, accounts):
    telling.reconcile()
    accounts.people.clear()
    telling.reconcile()
    assert telling.outbox.sent == BOTH * 2


def test_a_variable_that_only_a_notification_uses_blocks_before_anything_is_sent(telling, accounts, repo):
    repo.hire("ada", TOOL)
    repo.commit()
    blocked = row(telling.reconcile(), "ada", "tool")
    assert blocked.status is Status.BLOCKED
    assert "{{PHONE}}" in blocked.reason
    assert accounts.calls() == []


# The program ends in the middle


def test_a_crash_before_they_are_sent_loses_none(telling, accounts):
    with dying(WritableAttempts, "settle"):
        telling.reconcile()
    assert telling.outbox.sent == []
    assert row(telling.reconcile(), "ada", "tool").status is Status.PRESENT
    assert telling.outbox.sent == BOTH
    assert len(accounts.calls("POST", "/users")) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before it left", "after it left"])
def test_notification_in_doubt_is_recorded_not_resent(telling, after):
    with dying(Outbox, "email", after=after):
        telling.reconcile()
    sent = list(telling.outbox.sent)
    assert sent == (BOTH[:1] if after else [])
    telling.reconcile()
    assert telling.outbox.sent == [*sent, BOTH[1]], "the other was never begun"
    (doubt,) = [line.detail for line in telling.history("ada") if line.event is EventType.NOTIFICATION_FAILED]
    assert "email to ada@example.com: in doubt" in doubt
    assert not [name for name in telling.sealed() if name.startswith("notice/")]


class Slow(Outbox):
    """Takes its time over an e-mail."""

    def __init__(self):
        super().__init__()
        self.sending, self.go_on = asyncio.Event(), asyncio.Event()

    async def email(self, to, subject, text):
        self.sending.set()
        await self.go_on.wait()
        await super().email(to, subject, text)


def two_passes(machine, second, between=lambda: None):
    """One process makes a pass over ada and, while her e-mail is sent, a second one over this hire: its report."""

    async def both():
        context, claims, outbox = machine._context(), Claims(), Slow()
        notifier = Notifier(lambda _: outbox)

        async def one_pass(held, hire):
            newest, claim_set = Revision.at(context, context.checkout.head()), claims.begin()
            reconciler = Reconciler(revision=newest, state=held, notifier=notifier, claims=claim_set)
            with closing(claim_set):
                return await reconciler.apply(await reconciler.plan(PassRequest(Selection(frozenset({hire}))), {}))

        with locking(Revision.at(context, context.checkout.head()), "test") as held:
            first = asyncio.create_task(one_pass(held, "ada"))
            await outbox.sending.wait()
            between()
            report = await one_pass(held, second)
            outbox.go_on.set()
            await first
        await context.aclose()
        return report, outbox.sent

    return asyncio.run(both())


def test_notification_of_a_concurrent_pass_is_not_in_doubt(telling, accounts, repo):
    """Passes of one daemon run side by side over the same ledger."""
    repo.hire("bob", TOOL, extra={"PHONE": "1"})
    repo.commit()
    accounts.add("bob@example.com")  # so that his pass has nothing of its own to tell
    _, sent = two_passes(telling, "bob")
    assert EventType.NOTIFICATION_FAILED not in telling.events()
    assert [to for to, _, _ in sent if "@" in to].count("ada@example.com") == 1


def test_access_goes_while_a_mail_server_hangs(telling, accounts, repo):
    manifest = accounts.manifest(team=True, revoke=True)
    repo.manifest("tool", manifest | {"post_execute_notification": [WELCOME, TEXT]})
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()

    def removed():
        repo.hire("ada", extra={"PHONE": "201234567"})
        repo.commit()

    report, sent = two_passes(telling, "ada", removed)
    assert row(report, "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}
    assert sent == BOTH
    assert telling.events().count(EventType.NOTIFIED) == 2
    assert not [name for name in telling.sealed() if name.startswith("notice/")]


# Generated values


@pytest.fixture
def generating(machine, accounts, repo):
    """The tool wants a password for a new account, and a mail hands it on."""
    manifest = accounts.manifest(team=True)
    manifest["initial_data_form"] = [{"id": "PASSWORD", "name": "generate"}]
    manifest["execute"][0]["data"]["password"] = "{{PASSWORD}}"
    manifest["execute"][1]["data"]["secret"] = "{{PASSWORD}}"
    manifest["post_execute_notification"] = WELCOME | {"message": "Your password: {{PASSWORD}}"}
    repo.manifest("tool", manifest)
    repo.commit()
    return machine


def passwords(accounts):
    return [call.json()["password"] for call in accounts.calls("POST", "/users")]


def everything(repo):
    return b"".join(file.read_bytes() for file in repo.state.parent.rglob("*") if file.is_file())


def test_generated_value_is_sent_notified_and_erased(generating, accounts, repo):
    found = row(generating.reconcile(), "ada", "tool")
    assert found.status is Status.PRESENT
    (password,) = passwords(accounts)
    assert len(password) >= 16
    assert accounts.calls("POST", "/teams")[0].json()["secret"] == password
    assert generating.outbox.sent == [("ada@example.com", "Team 7", f"Your password: {password}")]
    assert password.encode() not in everything(repo)
    assert password not in json.dumps(found.as_json())
    assert not [name for name in generating.sealed() if name.startswith(("run/", "notice/"))]


def test_generated_value_is_sealed_for_continuation_and_notification(generating, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    generating.reconcile()
    (password,) = passwords(accounts)
    assert password.encode() not in everything(repo)
    assert "run/ada/tool" in generating.sealed()
    generating.clock.turn(hours=1)
    generating.reconcile()
    assert passwords(accounts) == [password]
    assert [call.json()["secret"] for call in accounts.calls("POST", "/teams")] == [password, password]
    assert password in generating.outbox.sent[0][2]
    assert "run/ada/tool" not in generating.sealed()


def test_generated_value_is_kept_after_a_lost_answer(generating, accounts):
    accounts.drop_after_commit(method="POST", prefix="/users")
    generating.reconcile()
    generating.clock.turn(hours=1)
    generating.reconcile()
    (password,) = passwords(accounts)
    assert generating.outbox.sent == [("ada@example.com", "Team 7", f"Your password: {password}")]


def test_generated_value_is_fresh_in_each_full_run(generating, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    generating.reconcile()
    generating.clock.turn(hours=1)
    generating.reconcile()
    accounts.people.clear()
    generating.reconcile()
    assert len(set(passwords(accounts))) == 3


def test_generated_value_survives_a_crash_before_notification(generating, accounts, repo):
    with dying(WritableAttempts, "settle"):
        generating.reconcile()
    (password,) = passwords(accounts)
    assert password.encode() not in everything(repo)
    generating.reconcile()
    assert generating.outbox.sent == [("ada@example.com", "Team 7", f"Your password: {password}")]
    assert "notice/ada/tool" not in generating.sealed()


def test_generated_value_is_in_no_saved_url_or_error(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["initial_data_form"] = [{"id": "PASSWORD", "name": "generate"}]
    manifest["execute"] = [{"url": f"{accounts.url}/set/{{{{PASSWORD}}}}", "method": "PUT"}]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    failed = row(machine.reconcile(), "ada", "tool")
    password = accounts.calls("PUT")[0].path.rpartition("/")[2]
    assert failed.status is Status.RETRYING
    with machine.ledger() as ledger:
        ((_, (sent,)),) = ledger.attempts.of(machine.record("ada", "tool").key)
    assert sent.url == f"{accounts.url}/set/***"
    assert password.encode() not in everything(repo)


def test_a_form_field_of_type_generate_is_one_too(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["form"] = [{"id": "PIN", "name": "Pin", "type": "generate"}]
    manifest["execute"][0]["data"]["password"] = "{{PIN}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(passwords(accounts)[0]) >= 16


@pytest.mark.parametrize("how", ["dropped", "accepted", "adopted"])
def test_generated_value_is_erased_once_settled(generating, accounts, repo, how):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    generating.reconcile()
    assert "run/ada/tool" in generating.sealed()
    match how:
        case "dropped":
            repo.hire("ada")
            repo.commit()
        case "accepted":
            generating.enqueue("accept", "ada", "tool")
        case _:
            accounts.add("ada@example.com")
    generating.reconcile()
    assert "run/ada/tool" not in generating.sealed()


def test_alerts_are_sent_with_no_service_leased_any_more(telling, accounts, service, repo, monkeypatch):
    """A chat that hangs would keep all others from the service."""
    leased = []

    class Noted(LockedState):
        @asynccontextmanager
        async def leased(self, *services):
            async with super().leased(*services) as state:
                leased.append(services)
                yield state
                leased.pop()

    told = []
    service.route("POST", "/hook", lambda _: told.append([*leased]))
    monkeypatch.setattr("tests.engine.harness.LockedState", Noted)
    accounts.fail_next(None, 500, method="POST")
    telling.reconcile()
    with telling.ledger() as ledger:
        assert ledger.notes.get("alerts") is None, "nobody is told"
    repo.settings(alerts=[{"webhook": f"{service.url}/hook"}])
    repo.commit()
    telling.clock.turn(hours=1)
    telling.reconcile()
    assert told == [[]]
