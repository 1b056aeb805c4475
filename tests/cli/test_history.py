"""`reconcile history`: what happened, in every output, and from when on."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.cli.commands.history import _row, _table
from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reader import Grants
from reconciler.model.clock import moment
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import EventType
from reconciler.model.value import replace
from reconciler.repository.git.checkout import Checkout
from tests.cli.conftest import Call
from tests.ledger.states import ADA
from tests.repo import Repo

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"


@pytest.fixture
def told(repo: Repo) -> Repo:
    """A repository whose ledger has four lines, one of them with a detail that a spreadsheet would run."""
    repo.commit()
    ledger = StateLocation(f"sqlite:///{repo.state}", repo.root).writer()

    def line(days: int, hire: str, access: str, integration: str, event: EventType, detail: str = "") -> Event:
        author = "Ida Admin <ida@example.com>"
        return Event(NOW - timedelta(days=days), Key(hire, access), integration, event, detail, COMMIT, author)

    chat = replace(ADA, key=Key("bob", "chat"), integration="slack", phase=Phase.CONFIRMED, confirmed_at=NOW)
    ledger.save(
        [chat],
        [
            line(9, "ada", "asana", "asana", EventType.ATTEMPT_STARTED, "attempt 1"),
            line(9, "ada", "asana", "asana", EventType.ATTEMPT_FAILED, '=HYPERLINK("http://x")'),
            line(3, "bob", "chat", "slack", EventType.ADOPTED),
            Event(NOW, Key("", ""), "asana", EventType.HELD, "held by the guard: 6 of 8", None, None),
        ],
    )
    ledger.close()
    return repo


class Alive(dict[str, Any]):
    """A row that counts how many are kept."""

    now = most = 0

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        Alive.now += 1
        Alive.most = max(Alive.most, Alive.now)

    def __del__(self) -> None:
        Alive.now -= 1


@pytest.mark.parametrize("output", ["json", "csv"])
def test_lines_are_not_kept_until_all_are_read(
    told: Repo, call: Call, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    with closing(StateLocation(f"sqlite:///{told.state}", told.root).writer()) as ledger:
        ledger.save((), [Event(NOW, Key(f"h{number}", "a"), "a", EventType.ADOPTED, "") for number in range(100)])
    monkeypatch.setattr("reconciler.cli.output.text.BATCH_ITEMS", 10)
    monkeypatch.setattr("reconciler.cli.commands.history._row", lambda line: Alive(_row(line)))
    Alive.now = Alive.most = 0
    assert len(call(told, "history", "--output", output).out.split("adopted")) == 102
    assert 0 < Alive.most <= 20


def test_no_record_is_read_for_a_suggestion(told: Repo, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(Key("ada", "asana"), "ada@example.com", "asana", "asana", "hires/ada.yaml:5")
    with closing(StateLocation(f"sqlite:///{told.state}", told.root).writer()) as ledger:
        ledger.save([record])
    monkeypatch.delattr(Grants, "records")
    assert "did you mean asana?" in call(told, "history", "--integration", "asan").err


def test_table(told: Repo, call: Call) -> None:
    assert call(told, "history").out == (
        "4 events from 2026-11-22T09:00:00Z to 2026-12-01T09:00:00Z: 1 attempt_started, 1 attempt_failed, 1 adopted, "
        "1 held\n"
        "2026-11-22T09:00:00Z  ada/asana  attempt_started  attempt 1, at 9fceb02d0ae5 by Ida Admin <ida@example.com>\n"
        '2026-11-22T09:00:00Z  ada/asana  attempt_failed   =HYPERLINK("http://x"), at 9fceb02d0ae5 by Ida Admin '
        "<ida@example.com>\n"
        "2026-11-28T09:00:00Z  bob/chat   adopted          at 9fceb02d0ae5 by Ida Admin <ida@example.com>\n"
        "2026-12-01T09:00:00Z  asana      held             held by the guard: 6 of 8\n"
    )


def test_long_detail_makes_no_other_line_longer(told: Repo, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with closing(StateLocation(f"sqlite:///{told.state}", told.root).writer()) as ledger:
        said = Event(NOW, Key("bob", "chat"), "slack", EventType.ATTEMPT_FAILED, "the service said: " + "no " * 90)
        ledger.save((), [said])
    piped = call(told, "history").out.splitlines()
    assert len(piped[-2]) < 80 < len(piped[-1])
    rows = call(told, "history", "--output", "json").json
    assert rows[-1]["detail"] == said.detail, "JSON has it whole"
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr("sys.stdout", Terminal())
    lines = _table(rows, Checkout.open(told.root))
    assert max(map(len, lines)) <= 90
    assert lines[-1].startswith(" " * 50), "beside the event"


def test_json_is_the_list_of_the_contract(told: Repo, call: Call) -> None:
    rows = call(told, "history", "--output", "json").json
    assert len(rows) == 4
    assert rows[2] == {
        "at": "2026-11-28T09:00:00Z",
        "hire": "bob",
        "access": "chat",
        "integration": "slack",
        "event": "adopted",
        "revision": COMMIT,
        "author": "Ida Admin <ida@example.com>",
        "signer": None,
        "by": None,
        "detail": "",
        "granted_in": None,
        "approved_by": [],
        "values": None,
        "digest": rows[2]["digest"],
    }
    assert len({row["digest"] for row in rows}) == 4


def test_csv_runs_nothing(told: Repo, call: Call) -> None:
    rows = list(csv.DictReader(io.StringIO(call(told, "history", "--output", "csv").out)))
    assert [row["event"] for row in rows] == ["attempt_started", "attempt_failed", "adopted", "held"]
    assert rows[1]["detail"] == '\'=HYPERLINK("http://x")'
    assert rows[3]["revision"] == ""


def test_markdown(told: Repo, call: Call) -> None:
    lines = call(told, "history", "--output", "markdown", "--integration", "asana").out.splitlines()
    assert lines[0].startswith("**3 events from ")
    by = "at `9fceb02d0ae5` by `Ida Admin <ida@example.com>`"
    assert lines[2:] == [
        f"- 2026-11-22T09:00:00Z `ada` `asana`: attempt_started, `attempt 1`, {by}",
        f'- 2026-11-22T09:00:00Z `ada` `asana`: attempt_failed, `=HYPERLINK("http://x")`, {by}',
        "- 2026-12-01T09:00:00Z `asana`: held, `held by the guard: 6 of 8`",
    ]


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (["--hire", "ada"], ["attempt_started", "attempt_failed"]),
        (["--hire", "ada", "--hire", "bob"], ["attempt_started", "attempt_failed", "adopted"]),
        (["--integration", "slack"], ["adopted"]),
        (["--since", "2026-11-28"], ["adopted", "held"]),
        (["--since", "2026-11-28T09:00:01Z"], ["held"]),
        (["--since", "2026-11-28T10:00:01+01:00"], ["held"]),
        (["--until", "2026-11-28"], ["attempt_started", "attempt_failed", "adopted"]),
        (["--until", "2026-11-27"], ["attempt_started", "attempt_failed"]),
        (["--until", "2026-11-28T09:00:00Z"], ["attempt_started", "attempt_failed", "adopted"]),
        (["--since", "2026-11-28", "--until", "2026-11-28"], ["adopted"]),
        (["--event", "adopted", "--event", "held"], ["adopted", "held"]),
    ],
    ids=["hire", "two", "integration", "day", "time", "zone", "until", "before", "second", "one-day", "events"],
)
def test_only_some(told: Repo, call: Call, arguments: list[str], events: list[str]) -> None:
    assert [row["event"] for row in call(told, "history", "--output", "json", *arguments).json] == events


def test_a_name_that_the_ledger_does_not_know(told: Repo, call: Call) -> None:
    done = call(told, "history", "--hire", "adda")
    assert (done.code, done.out) == (0, "nothing happened\n")
    assert done.err == "the ledger tells nothing of adda\n"


def test_without_a_state_none_is_made(repo: Repo, call: Call) -> None:
    repo.commit()
    assert call(repo, "history", "--output", "json").json == []
    assert not repo.state.parent.exists()


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("12h", NOW - timedelta(hours=12)),
        ("2026-11-30", datetime(2026, 11, 29, 23, tzinfo=UTC)),
        ("2026-11-30T08:00:00Z", datetime(2026, 11, 30, 8, tzinfo=UTC)),
        ("2026-11-30T08:00:00", datetime(2026, 11, 30, 8, tzinfo=UTC)),
    ],
)
def test_since(text: str, begin: datetime) -> None:
    assert moment(text, NOW, "Europe/Amsterdam") == begin


@pytest.mark.parametrize("text", ["yesterday", "7w", "2026-13-01", "", "999999d"])
def test_since_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a date"):
        moment(text, NOW, "UTC")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "soon"], "--since soon: write a date"),
        (["--until", "soon"], "--until soon: write a date"),
        (["--until", "9999-12-31T23:59:59Z"], "--until 9999-12-31T23:59:59Z: write a date"),
        (["--since", "2026-11-28", "--until", "2026-11-27"], "--until 2026-11-27 lies before --since 2026-11-28"),
        (["--event", "revokd"], "did you mean revoked"),
        (["--verify", "--hire", "ada"], "--verify looks at the whole history"),
        (["--verify", "--output", "csv"], "--verify has one answer"),
    ],
)
def test_filter_that_is_nonsense_is_wrong_usage(told: Repo, call: Call, arguments: list[str], says: str) -> None:
    done = call(told, "history", *arguments)
    assert (done.code, done.out) == (64, "")
    assert says in done.err


def test_whole_history_is_verified(told: Repo, call: Call) -> None:
    done = call(told, "history", "--verify")
    newest = call(told, "history", "--output", "json").json[-1]["digest"]
    whole = "the history is whole: 4 lines, none changed or taken out since it was written"
    assert (done.code, done.out) == (0, f"{whole}; digest {newest}\n")
    assert call(told, "history", "--verify", "--output", "json").json == {
        "whole": True,
        "lines": 4,
        "erased": 0,
        "digest": newest,
        "broken": None,
    }


def test_first_broken_line_is_named(told: Repo, call: Call) -> None:
    with closing(sqlite3.connect(told.state)) as state:
        state.execute("UPDATE events SET author = 'Somebody Else <else@example.com>' WHERE id > 2")
        state.commit()
    done = call(told, "history", "--verify")
    assert done.code == 1
    assert done.out.startswith("the history is broken at line 3 (2026-11-28T09:00:00Z bob/chat adopted): ")


def test_history_without_a_state_is_whole(repo: Repo, call: Call) -> None:
    repo.commit()
    assert call(repo, "history", "--verify").code == 0
