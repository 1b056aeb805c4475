"""What people are told of unasked: on a change and on a recovery, once, however long it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.engine.context import Context, Revision
from reconciler.ledger.entries import Event
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.part_writers import WritableNotes
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from reconciler.model.report import Row
from reconciler.model.secret import Redactor
from reconciler.model.settings import Alert
from reconciler.model.status import Action, EventType, ReasonCode, Status
from reconciler.model.value import replace
from reconciler.notify.alerts import alert_due, send_alert
from reconciler.notify.rules import AlertState, Message, NewsKind, alerts_of
from tests.engine.harness import Hands
from tests.repo import Repo, free_port
from tests.servers import Reply, Service

START = datetime(2026, 12, 1, 9, tzinfo=UTC)
DOWN = "GET api.example.com: answered 503"


def row(hire: str, status: Status, reason: str = "", *, integration: str = "asana") -> Row:
    return Row(
        hire=hire,
        email=f"{hire}@example.com",
        access=integration,
        integration=integration,
        status=status,
        action=Action.NONE,
        reason=reason,
        attempts=0,
        retry_at=None,
        checked_at=START,
        last_error=None,
        source=f"hires/{hire}.yaml:5",
    )


def rows(count: int, status: Status, reason: str = "", *, first: int = 0, integration: str = "asana") -> list[Row]:
    return [row(f"hire{number}", status, reason, integration=integration) for number in range(first, first + count)]


class Office:
    """Passes one after the other, ten minutes apart unless said otherwise; what was told is kept."""

    def __init__(self) -> None:
        self.state = AlertState()
        self.now = START
        self.told: list[Message] = []

    def finds(self, found: Iterable[Row], *events: Event, after: timedelta = timedelta(minutes=10)) -> list[NewsKind]:
        """One pass; gives the kinds of news that it made."""
        message, state = alerts_of(self.state, found, events, self.now)
        self.state = AlertState.read(state.written())
        assert self.state == state
        self.now += after
        if message is None:
            return []
        self.told.append(message)
        return [item.kind for item in message.news]


@pytest.fixture
def office() -> Office:
    return Office()


def lost(hire: str, integration: str = "asana") -> Event:
    return Event(START, Key(hire, integration), integration, EventType.LOST, "drift: the account is gone")


class TestOutage:
    def test_an_hour_over_500_hires_is_two_messages(self, office: Office) -> None:
        assert office.finds(rows(500, Status.PRESENT)) == []
        found = [office.finds(rows(500, Status.UNKNOWN, DOWN)) for _ in range(6)]
        found += [office.finds(rows(500, Status.PRESENT)) for _ in range(6)]
        assert [kinds for kinds in found if kinds] == [[NewsKind.OUTAGE], [NewsKind.RECOVERED]]
        first, second = office.told
        assert first.subject == "Access: asana checks fail"
        assert first.text == f"asana: checks fail: {DOWN} (500 of 500 checks)"
        assert second.text == "asana: checks are answered again: they had failed since 2026-12-01T09:10:00Z"
        assert second.events[0]["since"] == "2026-12-01T09:10:00Z"

    def test_outage_over_slices_of_an_interval(self, office: Office) -> None:
        def interval(status: Status) -> list[NewsKind]:
            slices = [rows(9, status, DOWN, first=9 * number) for number in range(60)]
            return [kind for part in slices for kind in office.finds(part, after=timedelta(seconds=10))]

        found = interval(Status.PRESENT)
        for _ in range(6):
            found += interval(Status.UNKNOWN)
        found += interval(Status.PRESENT)
        assert found == [NewsKind.OUTAGE, NewsKind.RECOVERED]

    def test_one_grant_that_fails_three_times_in_a_row(self, office: Office) -> None:
        found = [office.finds([row("ada", Status.UNKNOWN, DOWN)]) for _ in range(5)]
        assert found == [[], [], [NewsKind.OUTAGE], [], []]
        assert office.finds([row("ada", Status.PRESENT)]) == [NewsKind.RECOVERED]
        assert [message.events[0]["since"] for message in office.told] == ["2026-12-01T09:00:00Z"] * 2, "the first"

    def test_an_answer_in_between_starts_the_count_again(self, office: Office) -> None:
        for _ in range(5):
            assert office.finds([row("ada", Status.UNKNOWN, DOWN)]) == []
            assert office.finds([row("ada", Status.UNKNOWN, DOWN)]) == []
            assert office.finds([row("ada", Status.MISSING)]) == []

    @pytest.mark.parametrize(
        ("unknown", "answered", "told"),
        [(2, 0, False), (3, 0, True), (2, 1, True), (2, 2, False), (1, 2, False), (26, 25, True), (25, 25, False)],
    )
    def test_more_than_half_of_three_or_more(self, office: Office, unknown: int, answered: int, told: bool) -> None:
        found = rows(unknown, Status.UNKNOWN, DOWN) + rows(answered, Status.PRESENT, first=unknown)
        assert office.finds(found) == ([NewsKind.OUTAGE] if told else [])

    def test_a_few_answers_are_no_recovery(self, office: Office) -> None:
        office.finds(rows(100, Status.UNKNOWN, DOWN))
        for _ in range(3):
            assert office.finds(rows(60, Status.PRESENT) + rows(40, Status.UNKNOWN, DOWN, first=60)) == []
        assert office.finds([row("hire0", Status.PRESENT)]) == [], "one of a hundred says little"
        assert office.finds(rows(100, Status.PRESENT)) == [NewsKind.RECOVERED]

    def test_each_service_for_itself_in_one_message(self, office: Office) -> None:
        down = rows(3, Status.UNKNOWN, DOWN) + rows(3, Status.UNKNOWN, "POST other: no connection", integration="slack")
        assert office.finds([*down, *rows(3, Status.PRESENT, integration="github")]) == [
            NewsKind.OUTAGE,
            NewsKind.OUTAGE,
        ]
        assert office.told[0].subject == "Access: asana checks fail, and 1 more"
        assert office.finds(rows(3, Status.PRESENT, integration="slack")) == [NewsKind.RECOVERED]

    def test_unchecked_grant_changes_no_alert(self, office: Office) -> None:
        office.finds(rows(3, Status.UNKNOWN, DOWN))
        for status in (Status.RETRYING, Status.SCHEDULED, Status.SUSPENDED, Status.DONE, Status.ORPHANED):
            assert office.finds(rows(3, status)) == []

    def test_flapping_service_is_alerted_rarely(self, office: Office) -> None:
        minutes = timedelta(minutes=1)
        for _ in range(120):
            office.finds(rows(5, Status.UNKNOWN, DOWN), after=minutes)
            office.finds(rows(5, Status.PRESENT), after=minutes)
        assert len(office.told) < 240 / 10 * 7
        office.told.clear()
        office.finds(rows(5, Status.PRESENT), after=timedelta(hours=1))
        office.finds(rows(5, Status.PRESENT))
        assert office.finds(rows(5, Status.UNKNOWN, DOWN)) == [NewsKind.OUTAGE]


class TestGrants:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(Status.FAILED, NewsKind.FAILED), (Status.BLOCKED, NewsKind.BLOCKED)],
        ids=["failed", "blocked"],
    )
    def test_alert_is_sent_at_the_start_and_when_it_returns(
        self, office: Office, status: Status, kind: NewsKind
    ) -> None:
        bad, good = row("ada", status, "answered 500"), row("ada", Status.PRESENT)
        found = [office.finds([item]) for item in (good, bad, bad, bad, good, bad)]
        assert found == [[], [kind], [], [], [], [kind]]
        assert office.told[0].text.endswith(": answered 500\n  ada/asana")

    def test_a_suspension_in_between_is_no_change(self, office: Office) -> None:
        failed, held = row("ada", Status.FAILED, "no"), row("ada", Status.SUSPENDED)
        assert [office.finds([item]) for item in (failed, held, failed)] == [[NewsKind.FAILED], [], []]

    def test_problems_older_than_the_alerts_are_sent_once(self, office: Office) -> None:
        found = rows(700, Status.BLOCKED, "initial data TOKEN is missing") + rows(2, Status.FAILED, "no", first=700)
        assert office.finds(found) == [NewsKind.FAILED, NewsKind.BLOCKED]
        (message,) = office.told
        assert [(event["kind"], event["count"], len(event["grants"])) for event in message.events] == [
            ("failed", 2, 2),
            ("blocked", 700, 20),
        ]
        assert "hire19/asana and 680 more" in message.text
        assert office.finds(found) == []

    def test_several_reasons(self, office: Office) -> None:
        office.finds([row("ada", Status.FAILED, "answered 500"), row("bob", Status.FAILED, "answered 404")])
        assert "answered 500 (and 1 other reasons)" in office.told[0].text

    def test_growing_mass_is_alerted_three_times_and_then_summed_up(self, office: Office) -> None:
        second = timedelta(seconds=1)
        for number in range(60):
            office.finds(rows(1, Status.FAILED, "answered 500", first=number), after=second)
        assert [message.news[0].count for message in office.told] == [1, 1, 1]
        office.now += timedelta(minutes=9)
        assert office.finds([], after=second) == [NewsKind.FAILED]
        assert office.told[-1].news[0].count == 57
        office.now += timedelta(hours=1)
        assert office.finds([]) == []

    @pytest.mark.parametrize("status", [Status.FAILED, Status.BLOCKED, Status.DIFFERS])
    def test_what_waits_is_not_told_once_it_is_solved(self, office: Office, status: Status) -> None:
        second = timedelta(seconds=1)
        for number in range(5):
            office.finds(rows(1, status, "answered 500", first=number), after=second)
        office.finds(rows(1, Status.PRESENT, first=3), after=timedelta(minutes=10))
        office.finds([])
        assert office.told[-1].news[0].grants == ("hire4/asana",)
        assert office.told[-1].news[0].count == 1
        for number in range(5, 9):
            office.finds(rows(1, status, "answered 500", first=number), after=second)
        office.finds(rows(1, Status.PRESENT, first=8), after=timedelta(minutes=10))
        assert office.finds([]) == []

    def test_a_clock_that_is_set_back_holds_nothing_back(self, office: Office) -> None:
        office.now += timedelta(days=1)
        for number in range(3):
            office.finds([row(f"early{number}", Status.FAILED, "answered 500")], after=timedelta(seconds=1))
        office.now -= timedelta(days=1)
        assert office.finds([row("ada", Status.FAILED, "answered 500")]) == [NewsKind.FAILED]

    def test_sent_alerts_are_remembered_without_names(self, office: Office) -> None:
        office.finds([row("ada", Status.FAILED, "ada@example.com"), *rows(3, Status.UNKNOWN, DOWN)], lost("ada"))
        assert b"ada" not in office.state.written()
        assert b"hire" not in office.state.written()


class TestHistory:
    def test_difference_left_to_a_person_is_alerted_once(self, office: Office) -> None:
        left = [row("ada", Status.DIFFERS, "role: member, git wants owner; change it there")]
        assert office.finds(left) == [NewsKind.DIFFERS]
        assert office.finds(left) == []
        assert office.finds([row("ada", Status.UNKNOWN)]) == []
        assert office.finds(left) == []
        assert office.finds([row("ada", Status.PRESENT)]) == []
        assert office.finds(left) == [NewsKind.DIFFERS]

    def test_account_that_differed_and_cannot_be_taken_away_is_alerted_as_that(self, office: Office) -> None:
        differs, left = row("ada", Status.DIFFERS, "role: member"), row("ada", Status.ORPHANED, "no longer in git")
        unable = replace(left, code=ReasonCode.UNABLE)
        told = [bool(office.finds([each])) for each in (differs, unable, left, unable, differs, left, differs)]
        assert told == [True, True, False, False, True, False, True]

    def test_update_is_not_alerted_and_drift_is(self, office: Office) -> None:
        todo = replace(row("ada", Status.DIFFERS, "role: owner"), action=Action.UPDATE, code=ReasonCode.DRIFT)
        drift = replace(lost("ada"), event=EventType.DIFFERED, detail=todo.reason, code=todo.code)
        commit = replace(drift, detail="drift: role: member, git wants owner", code=None)
        assert office.finds([todo], commit) == []
        assert office.finds([todo], drift) == [NewsKind.DRIFT]
        left = replace(todo, action=Action.NONE)
        assert office.finds([left], drift) == [NewsKind.DRIFT]
        assert office.finds([left]) == []

    def test_drift_is_alerted_each_time(self, office: Office) -> None:
        assert office.finds([row("ada", Status.MISSING)], lost("ada")) == [NewsKind.DRIFT]
        assert office.finds([row("ada", Status.MISSING)]) == []
        assert office.finds([row("ada", Status.MISSING)], lost("ada"), lost("bob")) == [NewsKind.DRIFT]
        assert office.told[1].events[0]["grants"] == ("ada/asana", "bob/asana")

    def test_the_guard(self, office: Office) -> None:
        line = Event(START, Key("", ""), "asana", EventType.HELD, "held by the guard: 50 of 100 would be revoked")
        assert office.finds([], line) == [NewsKind.HELD]
        assert office.told[0].text == "asana: held by the guard: 50 of 100 would be revoked"

    @pytest.mark.parametrize(
        ("event", "code", "told"),
        [
            (EventType.NOTIFICATION_FAILED, ReasonCode.IN_DOUBT, [NewsKind.IN_DOUBT]),
            (EventType.NOTIFICATION_FAILED, None, []),
            (EventType.NOTIFIED, None, []),
            (EventType.ATTEMPT_FAILED, None, []),
            (EventType.EXECUTED, None, []),
        ],
        ids=["in doubt", "failed", "sent", "first failure", "success"],
    )
    def test_events_and_their_alerts(
        self, office: Office, event: EventType, code: ReasonCode | None, told: list[NewsKind]
    ) -> None:
        line = Event(START, Key("ada", "asana"), "asana", event, "answered 550: in doubt", code=code)
        assert office.finds([], line) == told


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("abcde"), st.sampled_from(list(Status))), max_size=5, unique_by=lambda x: x[0]
        ),
        max_size=30,
    )
)
def test_outages_and_recoveries_alternate_and_are_alerted_once(passes: list[list[tuple[str, Status]]]) -> None:
    office = Office()
    kinds: list[NewsKind] = []
    for found in passes:
        kinds += office.finds([row(hire, status) for hire, status in found], after=timedelta(hours=1))
        before = office.state
        assert (
            alerts_of(
                before,
                [row(hire, status) for hire, status in found if status in (Status.FAILED, Status.BLOCKED)],
                [],
                office.now,
            )[0]
            is None
        )
    turns = [kind for kind in kinds if kind in (NewsKind.OUTAGE, NewsKind.RECOVERED)]
    assert turns == [(NewsKind.OUTAGE, NewsKind.RECOVERED)[number % 2] for number in range(len(turns))]


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"[]", b"\xff", b'{"watches": 1}'], ids=repr)
def test_a_note_that_is_none(raw: bytes | None) -> None:
    assert AlertState.read(raw) == AlertState()


class Site:
    """A repository with receivers, and passes that only alert."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.redactor = Redactor(["s3cret-value"])
        self.clock = Hands(START)

    def tells(self, found: list[Row], *events: Event) -> None:
        async def go() -> None:
            context = Context(self.repo.root, self.clock, self.redactor)
            revision = Revision.at(context, context.checkout.head())
            ledger = StateLocation(revision.settings.state, context.root).writer()
            try:
                message = await alert_due(context, OpenLedger(ledger), found, list(events))
                if message is not None:
                    await send_alert(revision, message)
            finally:
                ledger.close()
                await context.aclose()

        self.repo.commit()
        asyncio.run(go())


class TestSending:
    @pytest.fixture
    def site(self, repo: Repo) -> Site:
        return Site(repo)

    def test_a_services_text_mentions_nobody_in_a_chat(self, site: Site, service: Service) -> None:
        service.route("POST", "/hook", {"ok": True})
        site.repo.settings(alerts=[{"webhook": f"{service.url}/hook"}])
        said = "answered 500: <!channel> @here <https://evil.example|mend it>"
        site.tells([row("ada", Status.FAILED, said)])
        (sent,) = service.requests
        told = sent.json()
        assert "&lt;!channel&gt; @\u200bhere &lt;https:\u200b//evil\u200b.example|mend it&gt;" in told["text"]
        assert told["events"][0]["reason"] == said

    def test_a_webhook_gets_text_and_events(self, site: Site, service: Service) -> None:
        service.route("POST", "/hook", {"ok": True})
        site.repo.settings(alerts=[{"webhook": f"{service.url}/hook?key=1"}])
        site.tells([row("ada", Status.FAILED, "answered 500 with s3cret-value")])
        site.tells([row("ada", Status.FAILED, "answered 500 with s3cret-value")])
        (sent,) = service.requests
        assert sent.target == "/hook?key=1"
        assert sent.headers["Content-Type"] == "application/json"
        assert sent.json() == {
            "text": "asana: failed, and nothing more runs on its own: answered 500 with ***\n  ada/asana",
            "events": [
                {
                    "kind": "failed",
                    "integration": "asana",
                    "count": 1,
                    "reason": "answered 500 with ***",
                    "grants": ["ada/asana"],
                    "since": None,
                }
            ],
        }

    @pytest.mark.parametrize("kept", ["the path", "all of it"])
    def test_a_webhooks_url_holds_secrets_of_the_programs_own(
        self, site: Site, service: Service, capsys: pytest.CaptureFixture[str], kept: str
    ) -> None:
        service.route("POST", "/hook/T0/s3cret-path", lambda _: 500)
        whole = kept == "all of it"
        value = f"{service.url}/hook/T0/s3cret-path" if whole else "T0/s3cret-path"
        assert site.repo.gnupg is not None
        site.repo.write("config/initial_data/reconciler.yaml.gpg", site.repo.gnupg.encrypt(f"HOOK: {value}\n".encode()))
        site.repo.settings(
            gnupg_home=site.repo.gnupg.path,
            alerts=[{"webhook": "{{HOOK}}" if whole else f"{service.url}/hook/{{{{ HOOK }}}}"}],
        )
        site.tells([row("ada", Status.FAILED, "no")])
        (sent,) = service.requests
        assert sent.target == "/hook/T0/s3cret-path"
        told = capsys.readouterr().out
        assert "alert.not_sent" in told
        assert "s3cret-path" not in told

    def test_webhook_without_its_secret_names_the_command(
        self, site: Site, service: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        site.repo.settings(alerts=[{"webhook": f"{service.url}/{{{{HOOK}}}}"}])
        site.tells([row("ada", Status.FAILED, "no")])
        assert service.requests == []
        assert "HOOK is missing: `reconcile initial-data set reconciler` asks for it" in capsys.readouterr().out

    @pytest.mark.parametrize("written", ["https://example.com/{{A.B}}", "https://example.com/{{ A|upper }}", "{{}}"])
    def test_only_names_stand_in_a_webhook(self, written: str) -> None:
        with pytest.raises(ValueError, match="webhook: "):
            Alert.model_validate({"webhook": written})

    @pytest.mark.parametrize("status", [404, 500, 302])
    def test_failed_receiver_is_logged_and_others_still_get_theirs(
        self, site: Site, service: Service, capsys: pytest.CaptureFixture[str], status: int
    ) -> None:
        service.route("POST", "/good", {})
        service.route("POST", "/bad", lambda _: status)
        hooks = [f"{service.url}/bad", f"http://127.0.0.1:{free_port()}/secret-path", f"{service.url}/good"]
        site.repo.settings(
            alerts=[{"webhook": hook} for hook in hooks] + [{"email": "it@example.com"}],
            smtp={"host": "127.0.0.1", "port": free_port(), "sender": "it@example.com"},
        )
        site.tells([row("ada", Status.FAILED, "no")])
        assert len(service.calls("POST", "/good")) == 1
        told = capsys.readouterr().out
        assert told.count("alert.not_sent") == 3
        assert "secret-path" not in told

    def test_a_webhook_off_this_machine_needs_https(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        site.repo.settings(alerts=[{"webhook": "http://hooks.example.com/T0/B0"}, {"webhook": "not a url"}])
        site.tells([row("ada", Status.FAILED, "no")])
        told = capsys.readouterr().out
        assert "only https is allowed" in told
        assert "the webhook is no http or https address" in told

    def test_a_webhooks_path_is_not_repeated_from_a_redirect(
        self, site: Site, service: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        there = "http://other.example.com/hook/T0/s3cret-path"
        page = f'<p>The document has moved <a href="{there}">here</a>.</p>'
        service.route("POST", "/hook/T0/s3cret-path", Reply(301, page, {"Location": there}))
        site.repo.settings(alerts=[{"webhook": f"{service.url}/hook/T0/s3cret-path"}])
        site.tells([row("ada", Status.FAILED, "no")])
        told = capsys.readouterr().out
        assert "answered 301, a redirect to other.example.com" in told
        assert "s3cret-path" not in told

    def test_sent_alerts_survive_a_restart(self, site: Site, service: Service) -> None:
        service.route("POST", "/hook", {})
        site.repo.settings(alerts=[{"webhook": f"{service.url}/hook"}])
        for _ in range(4):
            site.tells(rows(5, Status.UNKNOWN, DOWN))
        site.tells(rows(5, Status.PRESENT))
        kinds = [event["kind"] for sent in service.requests for event in sent.json()["events"]]
        assert kinds == ["outage", "recovered"]

    def test_a_full_disk_is_logged(
        self, site: Site, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def full(*_: Any) -> None:
            raise LedgerError("the ledger: disk full: make room on the disk")

        site.repo.settings(alerts=[{"webhook": f"{service.url}/hook"}])
        monkeypatch.setattr(WritableNotes, "put", full)
        site.tells([row("ada", Status.FAILED, "no")])
        assert service.requests == []
        assert "disk full" in capsys.readouterr().out
