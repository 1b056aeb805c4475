"""A long report: the summary first, then what is to be done or needs a person; the rest as a count."""

from __future__ import annotations

import csv
import io
import os
import pty
import struct
import termios
import tracemalloc
from fcntl import ioctl
from pathlib import Path

import pytest

from reconciler.cli.options import Filter, SharedOptions
from reconciler.cli.output.report import COLUMNS, show_report
from reconciler.model.hire import Hire
from reconciler.model.report import Report
from reconciler.model.status import Action, Status
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.git.trees import Tree
from reconciler.repository.hire_index import HireSummary
from reconciler.repository.parsing import parse_hire
from tests.cli.conftest import Call
from tests.cli.test_golden import row
from tests.repo import Repo, start_cli
from tests.servers import AccountService


def report(*, dry_run: bool = True) -> Report:
    found = Report("a" * 40, dry_run=dry_run)
    found.rows = [row(f"h{number:04}") for number in range(2000)]
    found.rows += [
        row("late", Status.SCHEDULED, action=Action.WAIT),
        row("new", Status.MISSING, action=Action.EXECUTE, reason="exists check: not found"),
        row("gone", Status.MISSING, reason="drift: the account was there and is gone"),
        row("left", Status.ORPHANED, reason="no longer in git"),
        row("bad", Status.FAILED, integration="chat", access="chat", reason="answered 500"),
        row("stuck", Status.SUSPENDED, integration="chat", access="chat", guarded=True, reason="held by the guard"),
    ]
    return found


def test_markdown_by_integration_has_one_table_each(
    repo: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.cli.output.text.BATCH_ITEMS", 2)
    found = Report("a" * 40, dry_run=True)
    found.rows = [
        row(f"h{number}", integration=name, access=name) for number in range(3) for name in ("wiki", "b", "chat")
    ]
    show_report(found, SharedOptions(path=repo.root, output="markdown"), only=Filter(by="integration"))
    parts = capsys.readouterr().out.split("### ")[1:]
    assert [[line.split(" | ")[0].strip("`|\\ ") for line in part.split("\n") if line] for part in parts] == [
        [name, "hire", "---", "h0", "h1", "h2"] for name in ("b", "chat", "wiki")
    ]
    show_report(found, SharedOptions(path=repo.root, output="markdown"))
    assert capsys.readouterr().out.count("### `h") == 3


def test_two_thousand_people_are_summed_up_with_pending_rows(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    show_report(report(), SharedOptions(path=repo.root))
    assert capsys.readouterr().out.splitlines() == [
        "dry run at aaaaaaaaaaaa: 2000 present, 2 missing, 1 failed, 1 scheduled, 1 orphaned, 1 suspended; 1 to do",
        "needs a person: 1 gone at the service (left as it is), 1 orphaned (no longer wanted, still there), 1 failed",
        "held by the guard: 1 of chat",
        "chat: 1 failed, 1 suspended",
        "saas: 2000 present, 2 missing, 1 scheduled, 1 orphaned",
        "",
        "bad <bad@example.com>",
        "  chat  failed  answered 500",
        "",
        "gone <gone@example.com>",
        "  saas  missing  drift: the account was there and is gone",
        "",
        "left <left@example.com>",
        "  saas  orphaned  no longer in git",
        "",
        "new <new@example.com>",
        "  saas  missing → execute  exists check: not found",
        "",
        "stuck <stuck@example.com>",
        "  chat  suspended  held by the guard",
        "",
        "nothing to do or to decide about 2001 grants: 2000 present, 1 scheduled",
    ]


def test_many_things_to_do_have_a_line_each(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    found = Report("a" * 40, dry_run=True)
    found.rows = [row(f"h{number:02}", Status.MISSING, action=Action.EXECUTE) for number in range(20)]
    show_report(found, SharedOptions(path=repo.root))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[2] == "h00/saas  missing → execute"


def test_markdown_lists_what_needs_a_person(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    show_report(report(), SharedOptions(path=repo.root, output="markdown"))
    assert capsys.readouterr().out.splitlines()[1:7] == [
        "",
        "- needs a person: 1 gone at the service (left as it is), 1 orphaned (no longer wanted, still there), 1 failed",
        "- held by the guard: 1 of `chat`",
        "- `chat`: 1 failed, 1 suspended",
        "- `saas`: 2000 present, 2 missing, 1 scheduled, 1 orphaned",
        "",
    ]


@pytest.mark.parametrize("output", ["table", "json", "markdown", "csv"])
@pytest.mark.parametrize(
    ("only", "shown"),
    [
        (Filter(statuses=("failed", "orphaned")), {"left", "bad"}),
        (Filter(only_changes=True), {"new"}),
        (Filter(statuses=("failed",), only_changes=True), set()),
    ],
    ids=["statuses", "changes", "both"],
)
def test_filters_choose_the_rows(
    repo: Repo, capsys: pytest.CaptureFixture[str], output: str, only: Filter, shown: set[str]
) -> None:
    show_report(report(), SharedOptions(path=repo.root, output=output), only=only)
    out = capsys.readouterr().out
    assert {
        name for name in ("late", "new", "gone", "left", "bad", "stuck", "h0001") if f"{name}@example.com" in out
    } == shown
    if output != "csv":
        assert "2000" in out, "the counts are of all"


def test_a_status_that_there_is_not_is_wrong_usage(repo: Repo, call: Call) -> None:
    repo.hire("ada")
    done = call(repo, "status", "--status", "gone")
    assert done.code == 64
    assert "'gone' is not one of 'present'" in done.err


def test_the_columns_of_csv(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    found = Report("a" * 40, dry_run=True, rows=[row("ada", name="Ada L", values={"TEAM": "1"}, revision="b" * 40)])
    show_report(found, SharedOptions(path=repo.root, output="csv"))
    (line,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(line) == COLUMNS == (
        "hire", "name", "email", "access", "integration", "values", "status", "action", "since",
        "granted_in", "author", "approved_by", "checked_at", "reason", "source", "due_at", "done_at", "end",
    )  # fmt: skip
    assert (line["name"], line["values"], line["source"]) == ("Ada L", '{"TEAM": "1"}', "hires/ada.yaml:5")
    assert (line["granted_in"], line["author"], line["approved_by"]) == ("", "", "")


def test_the_ledger_is_shown_with_values_and_names(repo: Repo, accounts: AccountService, call: Call) -> None:
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["data"] = {"email": "{{email}}"}
    repo.manifest("saas", manifest)
    repo.hire("ada", {"integration": "saas", "values": {"TEAM": "1"}}, extra={"LOGIN": "al"})
    repo.commit()
    accounts.add("ada@example.com")
    assert call(repo).code == 0
    assert call(repo, "status", "--output", "json").grant("ada", "saas")["values"] == {"TEAM": "1"}
    (line,) = csv.DictReader(io.StringIO(call(repo, "status", "--output", "csv").out))
    assert (line["name"], line["values"]) == ("Ada Example", '{"TEAM": "1"}')
    repo.hire("ada")
    repo.commit()
    (line,) = csv.DictReader(io.StringIO(call(repo, "--dry-run", "--output", "csv").out))
    assert (line["name"], line["status"], line["values"]) == ("Ada Example", "orphaned", '{"TEAM": "1"}')


def test_hire_is_read_once_for_the_names_of_all_its_rows(
    repo: Repo, accounts: AccountService, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("saas", "wiki", "chat", "mail")
    for name in names:
        repo.manifest(name, accounts.manifest())
    repo.hire("ada", *names)
    repo.hire("bob")
    repo.commit()
    for name in names:
        repo.retrying(name, ["ada"])
    parsed: list[str] = []

    def counted(tree: Tree, summary: HireSummary) -> Loaded[Hire]:
        parsed.append(summary.stem)
        return parse_hire(tree, summary)

    monkeypatch.setattr("reconciler.repository.hires.MAX_PACKED", 0)
    monkeypatch.setattr("reconciler.repository.hires.LAST", 1)
    monkeypatch.setattr("reconciler.repository.hires.parse_hire", counted)
    rows = list(csv.DictReader(io.StringIO(call(repo, "status", "--output", "csv").out)))
    assert [line["name"] for line in rows] == ["Ada Example"] * len(names)
    assert parsed == ["ada"], "once for all rows, though bob was read since"


def at_a_terminal(repo: Repo, *arguments: str, columns: int = 60, lines: int = 24, **env: str) -> str:
    """What a program writes to a terminal of this size, its standard input too."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in repo.environment(env).items() if name not in ("COLUMNS", "LINES")}
    process = start_cli(repo, *arguments, env=environment, streams=(theirs, theirs, 2))
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        text += part
    os.close(ours)
    process.wait()
    return text.decode().replace("\r\n", "\n")


@pytest.fixture
def wordy(repo: Repo) -> Repo:
    repo.manifest("saas", {"execute": [{"url": "https://saas.example.com/"}]})
    for number in range(40):
        repo.hire(f"p{number:02}", {"integration": "saas", "needs": [f"a-name-that-this-hire-does-not-have-{number}"]})
    repo.commit()
    return repo


def test_a_terminal_breaks_lines_between_words(wordy: Repo, call: Call) -> None:
    piped = call(wordy, "--dry-run").out
    shown = at_a_terminal(wordy, "--dry-run", PAGER="cat", TERM="dumb")
    assert shown.split() == piped.split(), "every word is whole"
    assert max(map(len, piped.splitlines())) > 100
    assert [line for line in shown.splitlines() if len(line) > 60 and len(line.split()) > 1] == []


def test_long_output_goes_through_the_pager(wordy: Repo, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED; cat\n")
    pager.chmod(0o755)
    for words in (["--dry-run"], ["history"]):
        long = at_a_terminal(wordy, *words, PAGER=str(pager), TERM="xterm")
        assert ("PAGED" in long) == (words == ["--dry-run"]), long
    assert "PAGED" not in at_a_terminal(wordy, "--dry-run", lines=500, PAGER=str(pager), TERM="xterm")


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize(
    ("output", "by"),
    [
        ("json", "person"),
        ("csv", "person"),
        ("table", "person"),
        ("markdown", "person"),
        ("markdown", "integration"),
    ],
)
def test_rows_that_are_shown_as_they_come_are_not_kept(
    repo: Repo, capfd: object, monkeypatch: pytest.MonkeyPatch, output: str, by: str
) -> None:
    """What is told of all of them beside the rows is counted as they go by."""
    monkeypatch.setattr("reconciler.review.spool.MAX_BYTES", 1 << 16)
    monkeypatch.setattr("reconciler.cli.output.text.BATCH_ITEMS", 100)

    def peak(count: int) -> int:
        told = Report("a" * 40, dry_run=False)
        tracemalloc.start()
        rows = (row(f"h{number}") for number in range(count))
        show_report(told, SharedOptions(path=repo.root, output=output), rows=rows, only=Filter(by=by))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert told.summary == {"present": count}
        return used

    assert peak(2000) < 1.5 * peak(500)
