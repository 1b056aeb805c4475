"""A hire, an access entry or an integration that is misspelt on the command line: the one that was meant is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo, call_cli


@pytest.fixture(scope="module")
def team(tmp_path_factory: Any) -> Repo:
    """Grants that the ledger knows, and two people."""
    repo = Repo(tmp_path_factory.mktemp("meant") / "repo")
    repo.settings()
    repo.manifest("slack", {"execute": [{"url": "http://127.0.0.1:9/"}]})
    repo.hire("ada", {"integration": "slack", "at": "2999-01-01"})
    repo.hire("grace")
    repo.commit()
    assert call_cli(repo).code == 0
    return repo


@pytest.mark.parametrize(
    ("arguments", "code", "meant"),
    [
        ("--dry-run --hire adda", 64, "ada"),
        ("--dry-run --integration slak", 64, "slack"),
        ("status --hire adda", 0, "ada"),
        ("history --integration slak", 0, "slack"),
        ("explain adda slack", 64, "ada"),
        ("explain ada slak", 64, "slack"),
        ("accept ada slak", 64, "slack"),
        ("run grce slack", 64, "grace"),
        ("run ada slak", 64, "slack"),
        ("revoke adda", 64, "ada"),
        ("retry --integration slak", 1, "slack"),
        ("forget adda", 64, "ada"),
        ("unmanaged --integration slak", 64, "slack"),
        ("adopt slak --all", 64, "slack"),
        ("oauth connect slak", 64, "slack"),
        ("initial-data check slak", 64, "slack"),
        ("add githbu", 64, "github"),
    ],
)
def test_the_name_that_was_meant(team: Repo, call: Call, arguments: str, code: int, meant: str) -> None:
    done = call(team, *arguments.split())
    assert (done.code, f"did you mean {meant}?" in done.err) == (code, True), done.err
    assert "Traceback" not in done.err
