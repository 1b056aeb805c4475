"""Text leaves fit for its medium: a terminal, JSON, CSV, Markdown, a CI log."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import usable_streams
from reconciler.cli.options import SharedOptions
from reconciler.cli.output import logs
from reconciler.cli.output.logs import note
from reconciler.cli.output.report import show_report
from reconciler.cli.output.text import (
    annotation,
    as_csv,
    as_json,
    cell,
    code,
    echo,
    emit_json,
    emit_json_items,
    emit_json_list,
    fit,
)
from reconciler.model.errors import Problem, ReconcilerError
from reconciler.model.report import Report
from reconciler.model.revision_status import Untrusted
from tests.cli.conftest import Call
from tests.repo import Repo


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("latin-1", b"\xeb \\u2192"),
        ("ascii", "ë →".encode()),  # which click takes for an environment that was not set up
        ("utf-8", "ë →".encode()),
    ],
)
def test_a_character_that_the_encoding_lacks_is_escaped(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    usable_streams()
    echo("ë →")
    sys.stdout.flush()
    assert content.getvalue() == written + b"\n"
    content.truncate(0)
    emit_json({"ë": "→ 😀"})
    emit_json_items([{"ë": "→ 😀"}])
    sys.stdout.flush()
    first, second = content.getvalue().lstrip(b"\0").split(b"\n[")
    assert json.loads(first.decode("utf-8")) == {"ë": "→ 😀"}, "JSON is UTF-8"
    assert json.loads(b"[" + second) == [{"ë": "→ 😀"}]


def test_closed_streams_are_none_that_a_command_fails_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    usable_streams()
    with sys.stdin, sys.stdout, sys.stderr:
        assert not sys.stdin.isatty()
        echo("ë →")
        note("ë →")


WILD = {
    "escape": "\x1b[2J",
    "C1": "\x9b31m",
    "bidi": "\u202eevil",
    "isolate": "\u2066x\u2069",
    "line separator": "a\u2028b",
    "bell": "\x07",
    "half a character": "\ud800",
}


@pytest.mark.parametrize("text", WILD.values(), ids=WILD)
def test_a_terminal_gets_nothing_to_act_on(text: str) -> None:
    assert fit(f"a {text}\nb").replace("\n", "").isprintable()
    assert as_json({text: [text]}, indent=2).replace("\n", "").isprintable()
    assert json.loads(as_json({text: [text]})) == {text: [text]}
    assert as_csv(["a"], [[text]]).replace("\r\n", "").isprintable()
    assert annotation(Problem("f", 1, text)).isprintable()


def test_json_leaves_letters_alone() -> None:
    assert as_json({"name": "Zoë 李 🙂"}) == '{"name": "Zoë 李 🙂"}'


@pytest.mark.parametrize("text", ["=1", " =1", "+1", "-1", "\t=1"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert as_csv(["a"], [[text]]).splitlines()[1].lstrip('"').startswith("'")


def test_markdown_mentions_no_user_and_closes_no_block() -> None:
    assert code("@team <b> [x](y)") == "`@team <b> [x](y)`"
    assert code("``` @team") == "```` ``` @team````".replace("@team````", "@team ````")
    assert cell("a | b\n| c") == "`a \\| b \\| c`"
    assert cell("") == ""


@pytest.mark.parametrize("line", ["::error::x", "  ::set-output name=a::b", "x ##[error]y"])
def test_a_line_is_no_command_to_githubs_runners(line: str) -> None:
    rows = as_csv(["a", "b"], [[line, line], [f"a\r{line}", f"a\n{line}"], [f"\t{line}", f"\x0b{line}"]])
    document = as_json({line: [line]}, indent=2)
    assert len(rows.split("\n")) == 5
    for written in (*fit(line).split("\n"), *rows.splitlines(), *document.split("\n")):
        assert not written.lstrip().startswith("::")
        assert "##[" not in written
    assert json.loads(document) == {line: [line]}


@pytest.fixture
def wild(repo: Repo) -> Repo:
    """A branch whose setting has a key that would clear the screen."""
    repo.manifest("saas", {"execute": [{"url": "https://saas.example.com/"}]})
    repo.hire("ada", "saas")
    repo.write("config/reconciler.yaml", '"in\\e[2Jterval\\u202e": 1m\n')
    repo.commit()
    return repo


@pytest.mark.parametrize("words", [["validate"], ["--dry-run"], ["status"], ["explain", "ada", "saas"]])
@pytest.mark.parametrize("form", ["console", "json"])
def test_a_settings_key_moves_no_cursor(wild: Repo, call: Call, words: list[str], form: str) -> None:
    for github in ("", "true"):
        done = call(wild, *words, "--log-format", form, env={"GITHUB_ACTIONS": github})
        assert done.code == 1
        assert "terval" in done.out + done.err
        assert (done.out + done.err).replace("\n", "").isprintable()


@pytest.fixture
def json_log() -> Iterator[None]:
    logs.begin(["--log-format", "json"])
    yield
    logs.begin([])


@pytest.mark.usefixtures("json_log")
def test_a_fault_of_the_program_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        int("x" * 9)
    except ValueError as error:
        logs.unexpected(ValueError, error, error.__traceback__)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"]) == ("program.fault", "critical")
    assert "test_text.py" in told["exception"]
    assert "xxxxxxxxx" not in told["exception"]


@pytest.mark.usefixtures("json_log")
def test_library_logs_are_json_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("somebody").warning("two\nlines \x1b[2J")
    thread = threading.Thread(target=lambda: 1 // 0)
    thread.start()
    thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["library.note", "program.fault"]
    assert all(line.isprintable() for line in lines)


def test_author_of_a_refused_commit_is_not_mentioned(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    author = "@everyone <b>![x](http://x.example.com)"
    found = Report("a" * 40, dry_run=True, refused=Untrusted("b" * 40, "c" * 40, author, "is not signed"))
    show_report(found, SharedOptions(path=repo.root, output="markdown"))
    line = capsys.readouterr().out.splitlines()[0]
    before, inside, _ = line.split("`")
    assert author in inside
    assert "@" not in before


LINES = {
    "usage": ["stauts"],
    "no such option": ["--dry-rum"],
    "error": ["--repo", "nowhere", "status"],
    "ignored edits": ["--dry-run"],
    "no grant": ["status", "--hire", "nobody"],
    "settings": ["--dry-run", "--worktree"],
}


@pytest.mark.parametrize("words", LINES.values(), ids=LINES)
@pytest.mark.parametrize("how", ["option", "joined", "environment"])
def test_every_line_of_the_log_is_json(repo: Repo, call: Call, words: list[str], how: str) -> None:
    repo.manifest("saas", {"execute": [{"url": "https://saas.example.com/"}]})
    repo.hire("ada", {"integration": "saas", "at": "2999-01-01"})
    repo.commit()
    repo.write("config/reconciler.yaml", "intervall: 1m\n")
    option = {"option": ["--log-format", "json"], "joined": ["--log-format=json"], "environment": []}[how]
    done = call(repo, *option, *words, env={"RECONCILE_LOG_FORMAT": "json"} if how == "environment" else None)
    assert done.err
    for line in done.err.splitlines():
        assert json.loads(line).keys() >= {"event", "level", "timestamp"}


def test_a_list_is_written_as_it_comes_and_as_the_whole_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    items: list[dict[str, Any]] = [
        {
            "hire": f"h{number}",
            "values": {"TEAM": [1, {"a": None}, []], "flat": (1, 'x, "y": ')},
            "differs": {"role": ["a", {}], True: {None: 1.5}},
            "none": [],
            "text": 'é"\n\x1b\x7f',
            "half": "" if number % 7 else "\ud800",
            "no": number > 600,
        }
        for number in range(1203)
    ]
    for some in (items, items[:1], []):
        document = {"revision": "abc", "nested": {"grants": []}, "grants": some, "problems": [{"file": "a"}]}
        emit_json(document)
        whole = capsys.readouterr().out
        emit_json_list(partial(dict, document, grants=[]), "grants", iter(some))
        assert capsys.readouterr().out == whole
        emit_json(some)
        whole = capsys.readouterr().out
        emit_json_items(iter(some))
        assert capsys.readouterr().out == whole


def test_listing_without_temporary_file_gives_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    items = ({"name": os.urandom(2500).hex()} for _ in range(1000))  # which no compression makes small
    with pytest.raises(ReconcilerError, match="set TMPDIR to a folder to write to"):
        emit_json_list(partial(dict, grants=[]), "grants", items)
