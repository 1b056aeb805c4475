"""A person whose file is set aside is in no row, so that the files' problems are told beside the rows."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import structlog
from structlog.testing import capture_logs

from reconciler import cli
from reconciler.cli.commands.daemon import EDITS_SECONDS, _FileProblems, _log_ignored_edits
from reconciler.cli.options import SharedOptions
from reconciler.cli.output.report import show_report
from reconciler.model.clock import Stopped
from reconciler.model.errors import Problem
from reconciler.model.report import Report
from reconciler.model.settings import Settings
from reconciler.repository.git.checkout import Checkout
from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService

BROKEN = Problem("hires/eve.yaml", 1, "last_name: required, and not there")


def told(*passes: tuple[str, list[Problem]]) -> list[int]:
    """How many problems the daemon's log tells of after each pass, passes that it says nothing about left out."""
    memory = _FileProblems()
    with capture_logs() as lines:
        for revision, problems in passes:
            memory.log_new(structlog.get_logger(), Report(revision, dry_run=False, problems=problems))
    return [line["count"] for line in lines if line["event"] == "daemon.file_problems"]


def test_problem_is_logged_once() -> None:
    assert told(("a", [BROKEN]), ("a", []), ("a", [BROKEN]), ("b", [BROKEN])) == [1]


def test_returning_problem_is_logged_again() -> None:
    assert told(("a", [BROKEN]), ("b", []), ("c", [BROKEN])) == [1, 1]


def test_edits_that_passes_ignore_are_logged_once_an_interval(repo: Repo) -> None:
    repo.hire("ada")
    repo.commit()
    repo.hire("bob")
    between: list[Callable[[], object]] = [lambda: None, lambda: None, lambda: repo.hire("eve"), repo.commit]

    class Waiting:
        slept: ClassVar[list[float]] = []

        def now(self) -> datetime:
            raise NotImplementedError

        async def sleep(self, seconds: float) -> None:
            if len(self.slept) == len(between):
                raise Stopped
            between[len(self.slept)]()
            self.slept.append(seconds)

    with capture_logs() as lines:
        context, active = SimpleNamespace(checkout=Checkout.open(repo.root)), SimpleNamespace(settings=Settings())
        runtime = SimpleNamespace(context=context, clock=Waiting(), active=active)
        asyncio.run(_log_ignored_edits(cast("Any", runtime), []))
    assert [line["paths"] for line in lines] == [["hires/bob.yaml"], ["hires/bob.yaml", "hires/eve.yaml"]]
    assert Waiting.slept == [EDITS_SECONDS, 600, 600, 600]


def test_csv_keeps_problems_out_of_the_columns(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    show_report(Report("a" * 40, dry_run=True, problems=[BROKEN]), SharedOptions(path=repo.root, output="csv"))
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (1, f"{BROKEN}\n")


def test_status_without_grants(repo: Repo, call: Call) -> None:
    repo.commit()
    done = call(repo, "status", "--hire", "eve")
    assert done.code == 0
    assert done.err == "the ledger has no grant of eve; `reconcile validate` reads the files\n"


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.ENOENT, None)])
def test_a_full_disk_is_no_fault_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, code: int | None
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cli.reconcile, "main", fail)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    if code is None:
        with pytest.raises(OSError, match=os.strerror(number)):
            cli.run(["status"])
        return
    assert cli.run(["status"]) == code
    assert "No space left on device" in capfd.readouterr().err


def test_status_shows_the_ledger_where_the_settings_cannot_be_read(repo: Repo, call: Call) -> None:
    """What they refuse is said beside it; the last accepted revision says where the state is."""
    repo.manifest("tool", {"execute": [{"url": "https://tool.example.com/users"}]})
    repo.hire("ada", {"integration": "tool", "at": "2199-01-01"})
    accepted = repo.commit()
    assert call(repo).code == 0
    repo.write("config/reconciler.yaml", "prune: [\n")
    broken = repo.commit()
    done = call(repo, "status", "--output", "json")
    assert (done.code, done.grant("ada", "tool")["status"], done.json["revision"]) == (1, "scheduled", accepted)
    assert (done.json["refused"]["head"], "config/reconciler.yaml:2" in done.json["refused"]["why"]) == (broken, True)
    refused = call(repo, "--dry-run")
    assert (refused.code, refused.out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["history", "--since", "1d"], "executed"),
        (["history", "--verify"], "whole"),
        (["explain", "ada", "tool"], "present"),
        (["status", "--at", "AFTERWARDS"], "present"),
        (["state", "backup", "copy.db"], "copied to copy.db"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_what_is_known_is_shown_where_the_settings_cannot_be_read(
    repo: Repo, accounts: AccountService, call: Call, arguments: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo.root)
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    assert call(repo).code == 0
    afterwards = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    repo.write("config/reconciler.yaml", "prune: [\n")
    repo.commit()
    done = call(repo, *(afterwards if each == "AFTERWARDS" else each for each in arguments))
    assert (done.code, shown in done.out) == (0, True), done.out + done.err
