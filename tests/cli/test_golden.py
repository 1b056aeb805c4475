"""What a terminal, a narrow one, a pipe and a spreadsheet get: golden files for help, errors and tables."""

from __future__ import annotations

import csv
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import pytest

from reconciler import cli
from reconciler.cli import reconcile
from reconciler.cli.options import Filter, SharedOptions
from reconciler.cli.output.report import show_report
from reconciler.model.errors import Problem
from reconciler.model.report import Report, Row
from reconciler.model.status import Action, Status
from reconciler.model.text import printable
from tests.cli.conftest import Call
from tests.cli.goldens import same, steady
from tests.repo import PROGRAM, Repo, start_cli
from tests.servers import AccountService


def commands() -> Iterator[tuple[str, ...]]:
    """Every command's words, `reconcile` itself first."""

    def below(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from below(inner, (*words, name))

    yield from below(reconcile, ())


COMMANDS = list(commands())


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words) or "reconcile")
def test_help(repo: Repo, call: Call, words: tuple[str, ...]) -> None:
    done = call(repo, *words, "--help", env={"COLUMNS": "80"})
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    same(f"help/{'-'.join(words) or 'reconcile'}.txt", done.out)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words) or "reconcile")
def test_help_in_a_narrow_terminal(repo: Repo, call: Call, words: tuple[str, ...]) -> None:
    """Nothing is wider than the terminal but a word, or the line of usage's one bracket, that cannot be broken."""
    out = call(repo, *words, "--help", env={"COLUMNS": "60"}).out
    assert [line for line in out.splitlines() if len(line) > 60 and len(line.split()[-1]) < 40] == []


@pytest.mark.parametrize("words", COMMANDS[1:], ids="-".join)
def test_help_of_a_command_fits_a_screen_and_cuts_nothing(repo: Repo, call: Call, words: tuple[str, ...]) -> None:
    """The shared options are one line at the end; `reconcile --help` explains them."""
    lines = call(repo, *words, "--help", env={"COLUMNS": "80"}).out.splitlines()
    assert len(lines) <= 24
    assert [line for line in lines[1:] if line.endswith(("...", "-"))] == []
    own = [line.split()[0].rstrip(",") for line in lines if line.startswith("  -")]
    assert own[-1] == "-h"
    assert own[-2:-1] in (["--repo"], []), "only a group of commands has none"


def test_help_of_the_program_names_every_command_once_and_loads_none(repo: Repo) -> None:
    """What it says of them stands in one table, so that help and completion wait for no import."""
    slow = {"pydantic", "sqlalchemy", "pygit2", "reconciler.cli.commands.status"}
    program = f"import sys; from reconciler.cli import run; run(['--help']); print({slow} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *lines, loaded = done.stdout.splitlines()
    told = [line.split()[0] for line in lines[lines.index("Start:") :] if line.startswith("  ")]
    assert told[: len(cli.COMMANDS)] == list(cli.COMMANDS)
    assert loaded == "set()"
    assert max(len(what) for section in cli.SECTIONS.values() for _, what in section.values()) <= 60


WRONG = {
    "no-such-command": ["stauts"],
    "no-such-option": ["--dry-rum"],
    "no-such-output": ["status", "--output", "xml"],
    "option-of-a-pass": ["--dry-run", "status"],
    "rev-without-dry-run": ["--rev", "HEAD"],
    "rev-and-worktree": ["--dry-run", "--rev", "HEAD", "--worktree"],
    "yes-really-in-a-dry-run": ["--dry-run", "--yes-really"],
    "no-such-hire": ["--dry-run", "--hire", "nobody"],
    "no-such-integration": ["--dry-run", "--integration", "nowhere"],
    "argument-missing": ["explain", "ada"],
    "no-grant": ["accept", "nobody", "saas"],
    "since": ["history", "--since", "yesterday"],
    "no-such-schema": ["schema", "hires"],
    "folder-not-empty": ["init", "."],
    "csv-of-a-diff": ["diff", "HEAD", "--output", "csv"],
    "no-such-service": ["initial-data", "check", "nowhere"],
}

FAILING = {
    "no-such-revision": ["diff", "nowhere"],
    "no-repository": ["--repo", "nowhere", "validate"],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage(repo: Repo, call: Call, name: str) -> None:
    repo.commit()
    done = call(repo, *WRONG[name], env={"COLUMNS": "80"})
    assert (done.code, done.out) == (64, "")
    same(f"errors/{name}.txt", steady(done.err, repo))


@pytest.mark.parametrize("name", FAILING)
def test_errors(repo: Repo, call: Call, name: str) -> None:
    repo.commit()
    done = call(repo, *FAILING[name], env={"COLUMNS": "80"})
    assert (done.code, done.out) == (1, "")
    same(f"errors/{name}.txt", steady(done.err, repo))


@pytest.fixture
def team(repo: Repo, accounts: AccountService) -> Repo:
    """Somebody who has it, somebody who lacks it, somebody later, and a file with an error."""
    repo.manifest("saas", accounts.manifest(team=True))
    repo.hire("ada", {"integration": "saas", "values": {"TEAM": "1"}})
    repo.hire(
        "bob",
        {"integration": "saas", "values": {"TEAM": "1"}},
        {"integration": "saas", "name": "saas-ops", "values": {"TEAM": "2"}, "needs": ["saas"]},
    )
    repo.hire("cyd", {"integration": "saas", "values": {"TEAM": "1"}, "at": "2999-01-01"})
    repo.write("hires/dan.yaml", "email: dan\nfirst_name: Dan\nlast_name: Example\n")
    repo.commit()
    return repo


@pytest.mark.parametrize("output", ["table", "markdown", "csv"])
@pytest.mark.parametrize("by", ["person", "integration"])
def test_a_dry_run_and_the_ledger(team: Repo, call: Call, output: str, by: str) -> None:
    before = call(team, "--dry-run", "--by", by, "--output", output)
    same(f"tables/dry-run-by-{by}.{output}", steady(before.out, team))
    assert call(team).code == 1, "a file has an error"
    after = call(team, "status", "--by", by, "--output", output)
    same(f"tables/status-by-{by}.{output}", steady(after.out, team))


SINCE = datetime(2026, 11, 3, 9, tzinfo=UTC)


def row(hire: str, status: Status = Status.PRESENT, **more: Any) -> Row:
    given: dict[str, Any] = {"email": f"{hire}@example.com", "access": "saas", "integration": "saas", "reason": ""}
    given |= {"action": Action.NONE, "attempts": 0, "retry_at": None, "checked_at": None, "last_error": None}
    return Row(hire=hire, status=status, **{**given, "source": f"hires/{hire}.yaml:5", "since": SINCE, **more})


@pytest.mark.parametrize("by", ["person", "integration"])
def test_rows_that_need_nothing_are_only_counted(repo: Repo, capsys: pytest.CaptureFixture[str], by: str) -> None:
    report = Report(None, dry_run=True)
    report.rows = [row(f"h{number:02}", access=access) for number in range(20) for access in ("saas", "saas-ops")]
    report.rows += [row("h07", integration="chat", access="chat", status=Status.MISSING, action=Action.EXECUTE)]
    report.rows += [row("h08", integration="mail", access="mail")]
    show_report(report, SharedOptions(path=repo.root), only=Filter(by=by))
    same(f"tables/folded-by-{by}.table", capsys.readouterr().out)


def test_csv_runs_nothing_in_a_spreadsheet(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1"]
    report = Report(None, dry_run=True)
    report.rows = [row("ada", reason=text) for text in bad] + [row("ada", access="=cmd|' /C calc'!A0")]
    show_report(report, SharedOptions(path=repo.root, output="csv"))
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    assert [line["reason"] for line in read[:-1]] == [f"'{printable(text)}" for text in bad]
    assert read[-1]["access"] == "'=cmd|' /C calc'!A0"


@pytest.mark.parametrize("output", ["table", "markdown"])
def test_text_from_files_moves_no_cursor_and_ends_no_row(
    repo: Repo, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    report = Report(None, dry_run=True)
    report.rows = [row("ada", reason="\x1b[2Jgone\n| a row | of its own |", access="\x1b[31msaas")]
    show_report(report, SharedOptions(path=repo.root, output=output))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert not any(line.startswith("| a row") for line in out.splitlines())


def in_a_terminal(repo: Repo, *arguments: str, **env: str) -> str:
    """What the program writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = repo.environment(env)
    if not env.get("NO_COLOR"):
        del environment["NO_COLOR"]
    process = start_cli(repo, *arguments, env=environment, streams=(None, theirs, theirs))
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break  # Linux ends a terminal whose last writer has gone with EIO
        if not part:
            break
        text += part
    os.close(ours)
    process.wait()
    return text.decode()


def test_colours_are_for_terminals_that_want_them(team: Repo, call: Call) -> None:
    logged = in_a_terminal(team, "--yes", NO_COLOR="1")
    assert ("attempt." in logged, "\x1b[" in logged) == (True, False)
    assert "\x1b[" in in_a_terminal(team, "status")
    assert "\x1b[" not in in_a_terminal(team, "status", NO_COLOR="1")
    assert "\x1b[" not in call(team, "status").out


def test_a_reader_that_leaves_is_no_fault(team: Repo, call: Call) -> None:
    call(team)
    for number in range(300):  # more than a pipe holds
        team.hire(f"p{number:03}", {"integration": "saas", "values": {"TEAM": "none"}})
    team.commit()
    for arguments in (
        "status",
        "--dry-run",
        "history",
        "validate",
        "status --output json",
        "schema manifest",
        "--help",
    ):
        done = subprocess.run(
            ["bash", "-c", f"{PROGRAM} {arguments} | head -n 1"],
            cwd=team.root,
            env=team.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert len(done.stdout.splitlines()) == 1, arguments
        assert "Traceback" not in done.stderr, arguments
        assert "Broken pipe" not in done.stderr, arguments
        assert "BrokenPipe" not in done.stderr, arguments


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (Report(None, dry_run=False), "no grants"),
        (Report("a" * 40, dry_run=True), "dry run at aaaaaaaaaaaa: no grants; nothing to do"),
        (Report("a" * 40, dry_run=False, rows=[row("ada")]), "1 grant at aaaaaaaaaaaa: 1 present"),
        (
            Report(
                "a" * 40,
                dry_run=False,
                rows=[row("ada"), row("bob", Status.RETRYING, action=Action.WAIT)],
                problems=[Problem("hires/dan.yaml", 1, "email: not an address")],
                failures=1,
            ),
            "2 grants at aaaaaaaaaaaa: 1 present, 1 retrying; 1 attempt failed in this pass; 1 problem in files",
        ),
    ],
    ids=["nothing", "nothing planned", "one", "a pass"],
)
@pytest.mark.parametrize("output", ["table", "markdown"])
def test_the_first_line_is_the_whole_story(
    repo: Repo, capsys: pytest.CaptureFixture[str], report: Report, line: str, output: str
) -> None:
    show_report(report, SharedOptions(path=repo.root, output=output))
    assert capsys.readouterr().out.splitlines()[0].strip("*") == line
